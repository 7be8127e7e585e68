//! Opens feeds for viewers who may read them.
//!
//! Each function subscribes before it reads, so that no event between the read and the subscription is lost.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::access::ChatAccess;
use crate::domain::cursors::CallCursor;
use crate::domain::ids::{CallId, ChatId, ParticipantId, UserId};
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
/// With `participant`, which must be the viewer's own, the feed delivers the signals to that participant too.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the viewer may not read the call or `participant` is not theirs, and
/// [`Error::RateLimited`] if the viewer opens feeds too often.
pub async fn call(
    app: &AppContext,
    viewer: Arc<Viewer>,
    id: CallId,
    participant: Option<ParticipantId>,
    after: Option<String>,
) -> Result<CallFeed> {
    if participant.as_ref().is_some_and(|own| own.call != id || own.user != *viewer.id()) {
        return Err(Error::NotFound("participant"));
    }
    app.rate_limits.check_call_signal(&viewer)?;
    let mut subscriber = subscribe_viewer(app, &viewer);
    subscriber.subscribe_chat_deletion(id.chat);
    subscriber.subscribe_call(id);
    let user = participant.as_ref().map(|own| own.user.clone());
    let mut conn = app.database.write().await?;
    let readable = ChatAccess::retain_readable(&mut conn, (&*viewer).into(), &[id], |id| id.chat).await?;
    let call = calls::by_ids(&mut conn, &readable).await?.pop().ok_or(Error::NotFound("call"))?;
    let own_participant = match &user {
        Some(user) => {
            let known = call.participant(user).ok_or(Error::NotFound("participant"))?;
            Some(OwnParticipant { user: user.clone(), joined_version: known.joined_version })
        }
        None => None,
    };
    // Only after the checks: a registered participant counts as present in the call.
    let presence_guard = app.call_presence.register(id, user.clone());
    let present: Vec<ParticipantId> = participant.into_iter().collect();
    let lease_expires_at = app.clock.now() + app.settings.calls.timeouts().disconnect_timeout;
    calls::renew_leases(&mut conn, &present, true, lease_expires_at).await?;
    let start = match after {
        None => CallFeedStart::Beginning,
        Some(after) => match CallCursor::decode(&after, app.epoch, id, user.as_ref()) {
            Some(cursor) if cursor.version <= call.version => CallFeedStart::After(cursor),
            _ => CallFeedStart::InvalidCursor,
        },
    };
    Ok(CallFeed::new(feed_deps(app, viewer), subscriber, presence_guard, id, own_participant, start))
}

/// Opens the feed of the users who are typing in a chat in which the viewer is a member.
///
/// # Errors
///
/// Returns the errors of [`ChatAccess::require_member`].
pub async fn typing(app: &AppContext, viewer: Arc<Viewer>, chat: ChatId) -> Result<TypingFeed> {
    let mut subscriber = subscribe_viewer(app, &viewer);
    subscriber.subscribe_chat_deletion(chat);
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
