//! Opens feeds for viewers who may read them.
//!
//! Each function subscribes before it reads, and waits until the events of other nodes arrive, so that no event between
//! the read and the subscription is lost.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::access::ChatAccess;
use crate::domain::calls::{Call, OwnConnection};
use crate::domain::cursors::CallCursor;
use crate::domain::ids::{CallId, ChatId, UserId};
use crate::domain::presence::MAX_FOLLOWED_USERS;
use crate::domain::rights::require_permission;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::realtime::dispatch::subscriber::Subscriber;
use crate::realtime::feeds::call::{CallFeed, CallFeedStart, OwnParticipant};
use crate::realtime::feeds::catch_up::FeedDeps;
use crate::realtime::feeds::chat::ChatFeed;
use crate::realtime::feeds::chat::start::ChatFeedStart;
use crate::realtime::feeds::inbox::InboxFeed;
use crate::realtime::feeds::new_messages::NewMessageFeed;
use crate::realtime::feeds::presence::PresenceFeed;
use crate::realtime::feeds::typing::TypingFeed;
use crate::realtime::sessions::Session;
use crate::service::calls::connection::open_feed;
use crate::service::calls::transaction::require_own;
use crate::service::context::AppContext;
use crate::storage::{calls, users};

/// Opens the feed of a chat in which the viewer is a member.
///
/// # Errors
///
/// Returns the errors of [`ChatAccess::require_member`].
pub async fn chat(app: &AppContext, viewer: Arc<Viewer>, chat: ChatId, start: ChatFeedStart) -> Result<ChatFeed> {
    let mut subscriber = Subscriber::new(app.hub.clone(), viewer.id());
    subscriber.subscribe_chat(chat);
    subscriber.wait_until_active().await;
    let mut conn = app.database.read().await?;
    ChatAccess::require_member(&mut conn, &viewer, chat).await?;
    Ok(ChatFeed::new(feed_deps(app, viewer), subscriber, chat, start))
}

/// Opens the feed of new messages in all chats of the viewer.
///
/// # Errors
///
/// Returns [`Error::Forbidden`] if the viewer may not view chats.
pub fn new_messages(app: &AppContext, viewer: Arc<Viewer>) -> Result<NewMessageFeed> {
    require_permission(&viewer.permissions, Permission::ChatView)?;
    let subscriber = subscribe_viewer(app, &viewer);
    Ok(NewMessageFeed::new(feed_deps(app, viewer), subscriber))
}

/// Opens the feed of everything that concerns the viewer across chats.
///
/// With a session, the feed also reports that its token expires or was replaced by one with other permissions.
///
/// # Errors
///
/// Returns [`Error::Forbidden`] if the viewer may not view chats.
pub fn inbox_feed(
    app: &AppContext,
    viewer: Arc<Viewer>,
    session: Option<Arc<Session>>,
    after: Option<String>,
) -> Result<InboxFeed> {
    require_permission(&viewer.permissions, Permission::ChatView)?;
    let subscriber = subscribe_viewer(app, &viewer);
    Ok(InboxFeed::new(feed_deps(app, viewer), session, subscriber, after))
}

/// Opens the feed of a call in a chat of the viewer.
///
/// With `own`, which must be the viewer's own participant, the feed delivers the signals to its connection too.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the viewer may not read the call or `own` is not theirs, [`Error::CallConflict`] if
/// the participant never joined or not last by that connection, and [`Error::RateLimited`] if the viewer opens feeds
/// too often.
pub async fn call(
    app: &AppContext,
    viewer: Arc<Viewer>,
    session: Option<Arc<Session>>,
    id: CallId,
    own: Option<OwnConnection>,
    after: Option<String>,
) -> Result<CallFeed> {
    if let Some(OwnConnection { participant, .. }) = &own {
        require_own(&viewer, participant)?;
        if participant.call != id {
            return Err(Error::NotFound("participant"));
        }
    }
    app.rate_limits.check_call_signal(&viewer)?;
    if own.is_some() {
        // The feed writes to the row of its participant.
        app.organization_moves.require_writable(viewer.organization())?;
    }
    let mut subscriber = subscribe_viewer(app, &viewer);
    subscriber.subscribe_chat_deletion(id.chat);
    subscriber.subscribe_call(id);
    subscriber.wait_until_active().await;
    let mut conn = app.database.read().await?;
    let readable = ChatAccess::retain_readable(&mut conn, (&*viewer).into(), &[id], |id| id.chat).await?;
    let call = calls::by_ids(&mut conn, &readable).await?.pop().ok_or(Error::NotFound("call"))?;
    let own_participant = own.map(|own| own_participant(&call, &own)).transpose()?;
    let connection = own_participant.as_ref().map(|own| own.connection.clone());
    drop(conn);
    // Only after the checks: a registered connection counts as present in the call.
    let count = session.filter(|_| connection.is_some()).map(|session| session.count_call_feed());
    let presence_guard = app.call_presence.register(id, connection.clone(), count);
    if let Some(connection) = &connection {
        open_feed(app, connection, presence_guard.id()).await?;
    }
    let user = connection.as_ref().map(|connection| &connection.participant.user);
    let start = match after {
        None => CallFeedStart::Beginning,
        Some(after) => match CallCursor::decode(&after, app.epoch, id, user) {
            Some(cursor) if cursor.version <= call.version => CallFeedStart::After(cursor),
            _ => CallFeedStart::InvalidCursor,
        },
    };
    Ok(CallFeed::new(feed_deps(app, viewer), subscriber, presence_guard, id, own_participant, start))
}

/// Returns the connection of a call that a feed of the viewer's own participant follows.
fn own_participant(call: &Call, own: &OwnConnection) -> Result<OwnParticipant> {
    let user = &own.participant.user;
    let participant = call.participant(user).ok_or(Error::NotFound("participant"))?;
    if participant.joins == 0 {
        call.require_joined(user)?;
    }
    call.require_connection(user, own.join)?;
    Ok(OwnParticipant { connection: call.connection_id(participant), joined_version: participant.joined_version })
}

/// Opens the feed of the users who are typing in a chat in which the viewer is a member.
///
/// # Errors
///
/// Returns the errors of [`ChatAccess::require_member`].
pub async fn typing(app: &AppContext, viewer: Arc<Viewer>, chat: ChatId) -> Result<TypingFeed> {
    let mut subscriber = subscribe_viewer(app, &viewer);
    subscriber.subscribe_chat_deletion(chat);
    subscriber.wait_until_active().await;
    let mut conn = app.database.read().await?;
    ChatAccess::require_member(&mut conn, &viewer, chat).await?;
    Ok(TypingFeed::new(feed_deps(app, viewer), subscriber, chat, app.typing.clone()))
}

/// Opens the feed of the presence of users. Users unknown to the organisation are ignored.
///
/// # Errors
///
/// Returns [`Error::Forbidden`] if the viewer may not view chats, and [`Error::BadUserInput`] if there are no users or
/// more than [`MAX_FOLLOWED_USERS`].
pub async fn presence(app: &AppContext, viewer: &Viewer, user_ids: &BTreeSet<UserId>) -> Result<PresenceFeed> {
    require_permission(&viewer.permissions, Permission::ChatView)?;
    if user_ids.is_empty() || user_ids.len() > MAX_FOLLOWED_USERS {
        return Err(Error::bad_input("userIds", format!("must contain 1 to {MAX_FOLLOWED_USERS} users")));
    }
    let user_ids: Vec<UserId> = user_ids.iter().cloned().collect();
    let mut conn = app.database.read().await?;
    let found = users::by_ids(&mut conn, viewer.organization(), &user_ids).await?;
    Ok(PresenceFeed::new(app.presence.clone(), &found))
}

fn feed_deps(app: &AppContext, viewer: Arc<Viewer>) -> FeedDeps {
    FeedDeps { database: app.database.clone(), limits: app.catch_up_limits.clone(), epoch: app.epoch, viewer }
}

/// Creates a subscriber that follows the viewer.
fn subscribe_viewer(app: &AppContext, viewer: &Viewer) -> Subscriber {
    let mut subscriber = Subscriber::new(app.hub.clone(), viewer.id());
    subscriber.subscribe_user(viewer.organization(), viewer.id());
    subscriber
}
