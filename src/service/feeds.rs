//! Opening feeds for those who may read them.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::access::ChatAccess;
use crate::domain::cursors::CallCursor;
use crate::domain::ids::{CallId, ChatId, ParticipantId, UserId};
use crate::domain::presence::MAX_FOLLOWED_USERS;
use crate::domain::rights::require_permission;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::realtime::feeds::call;
use crate::realtime::feeds::call::{CallFeed, OwnParticipant};
use crate::realtime::feeds::chat::{ChatFeed, ChatFeedStart};
use crate::realtime::feeds::inbox::InboxFeed;
use crate::realtime::feeds::new_messages::NewMessageFeed;
use crate::realtime::feeds::presence::PresenceFeed;
use crate::realtime::feeds::typing::TypingFeed;
use crate::realtime::sessions::Session;
use crate::service::calls::call_timeouts;
use crate::service::context::AppContext;
use crate::storage::{calls, users};

/// The feed of a chat that the viewer is in. It listens from here on, before it reads.
pub async fn chat(app: &AppContext, viewer: Arc<Viewer>, chat: ChatId, start: ChatFeedStart) -> Result<ChatFeed> {
    let mut listener = app.hub.subscriber(viewer.id());
    listener.subscribe_chat(chat);
    let mut conn = app.database.read().await?;
    ChatAccess::require_member(&mut conn, &viewer, chat, app.clock.now()).await?;
    Ok(ChatFeed::new(app.database.clone(), app.catch_up_limits.clone(), viewer, listener, chat, start))
}

/// New messages of all chats that the viewer is in.
pub fn new_messages(app: &AppContext, viewer: Arc<Viewer>) -> Result<NewMessageFeed> {
    require_permission(&viewer.permissions, Permission::ChatView)?;
    let mut listener = app.hub.subscriber(viewer.id());
    listener.subscribe_user(viewer.organization(), viewer.id());
    Ok(NewMessageFeed::new(app.database.clone(), app.catch_up_limits.clone(), viewer, listener))
}

/// All that concerns the viewer across chats; on a connection, what concerns that too.
pub fn inbox_feed(
    app: &AppContext,
    viewer: Arc<Viewer>,
    session: Option<Arc<Session>>,
    after: Option<String>,
) -> Result<InboxFeed> {
    require_permission(&viewer.permissions, Permission::ChatView)?;
    let mut listener = app.hub.subscriber(viewer.id());
    listener.subscribe_user(viewer.organization(), viewer.id());
    Ok(InboxFeed::new(app.database.clone(), app.catch_up_limits.clone(), viewer, session, listener, after))
}

/// One call of a chat that the viewer is in: as their own participant sees it, or as any member does.
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
    let mut listener = app.hub.subscriber(viewer.id());
    listener.subscribe_user(viewer.organization(), viewer.id());
    listener.subscribe_chat_deletion(id.chat);
    listener.subscribe_call(id);
    let user = participant.as_ref().map(|own| own.user.clone());
    let mut conn = app.database.write().await?;
    let open = ChatAccess::retain_readable(&mut conn, (&*viewer).into(), &[id], |id| id.chat).await?;
    let call = calls::by_ids(&mut conn, &open).await?.pop().ok_or(Error::NotFound("call"))?;
    let own = match &user {
        Some(user) => {
            let known = call.participant(user).ok_or(Error::NotFound("participant"))?;
            Some(OwnParticipant { user: user.clone(), joined_version: known.joined_version })
        }
        None => None,
    };
    // Who may not is here for nobody.
    let attending = app.call_presence.register(id, user.clone());
    let here: Vec<ParticipantId> = participant.into_iter().collect();
    calls::renew_leases(&mut conn, &here, true, app.clock.now() + call_timeouts(&app.config.calls).disconnect_timeout)
        .await?;
    let start = match after {
        None => call::CallFeedStart::Beginning,
        Some(after) => match CallCursor::decode(&after, id, user.as_ref()) {
            Some(cursor) if cursor.version <= call.version => call::CallFeedStart::After(cursor),
            _ => call::CallFeedStart::InvalidCursor,
        },
    };
    let (store, catch_ups) = (app.database.clone(), app.catch_up_limits.clone());
    Ok(CallFeed::new(store, catch_ups, viewer, listener, attending, id, own, start))
}

/// Who is typing in a chat that the viewer is in.
pub async fn typing(app: &AppContext, viewer: Arc<Viewer>, chat: ChatId) -> Result<TypingFeed> {
    let mut listener = app.hub.subscriber(viewer.id());
    listener.subscribe_user(viewer.organization(), viewer.id());
    listener.subscribe_chat_deletion(chat);
    let mut conn = app.database.read().await?;
    ChatAccess::require_member(&mut conn, &viewer, chat, app.clock.now()).await?;
    Ok(app.typing.subscribe(app.database.clone(), viewer, listener, chat))
}

/// The presence of these people; those whom the organisation has not seen are left out.
pub async fn presence(app: &AppContext, viewer: &Viewer, people: &BTreeSet<UserId>) -> Result<PresenceFeed> {
    require_permission(&viewer.permissions, Permission::ChatView)?;
    if people.is_empty() || people.len() > MAX_FOLLOWED_USERS {
        return Err(Error::bad_input("userIds", format!("must be 1 to {MAX_FOLLOWED_USERS} people")));
    }
    let people: Vec<UserId> = people.iter().cloned().collect();
    let mut conn = app.database.read().await?;
    let found = users::by_ids(&mut conn, viewer.organization(), &people).await?;
    Ok(app.presence.subscribe(&found))
}
