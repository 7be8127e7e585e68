//! Opening feeds for those who may read them.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::access::Access;
use crate::domain::cursors::CallCursor;
use crate::domain::ids::{CallId, ChatId, ParticipantId, UserId};
use crate::domain::presence::MAX_FOLLOWED;
use crate::domain::rights::require;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::realtime::feeds::call;
use crate::realtime::feeds::call::{CallFeed, Own};
use crate::realtime::feeds::chat::{ChatFeed, Start};
use crate::realtime::feeds::inbox::InboxFeed;
use crate::realtime::feeds::new_messages::Inbox;
use crate::realtime::feeds::presence::PresenceFeed;
use crate::realtime::feeds::typing::TypingFeed;
use crate::realtime::sessions::Session;
use crate::service::calls::rules;
use crate::service::context::App;
use crate::storage::{calls, users};

/// The feed of a chat that the viewer is in. It listens from here on, before it reads.
pub async fn chat(app: &App, viewer: Arc<Viewer>, chat: ChatId, start: Start) -> Result<ChatFeed> {
    let mut listener = app.hub.listen(viewer.id());
    listener.attach(chat);
    let mut conn = app.store.read().await?;
    Access::of_member(&mut conn, &viewer, chat, app.clock.now()).await?;
    Ok(ChatFeed::new(app.store.clone(), app.catch_ups.clone(), viewer, listener, chat, start))
}

/// New messages of all chats that the viewer is in.
pub fn inbox(app: &App, viewer: Arc<Viewer>) -> Result<Inbox> {
    require(&viewer.permissions, Permission::ChatView)?;
    let mut listener = app.hub.listen(viewer.id());
    listener.follow(viewer.organization(), viewer.id());
    Ok(Inbox::new(app.store.clone(), app.catch_ups.clone(), viewer, listener))
}

/// All that concerns the viewer across chats; on a connection, what concerns that too.
pub fn inbox_feed(
    app: &App,
    viewer: Arc<Viewer>,
    session: Option<Arc<Session>>,
    after: Option<String>,
) -> Result<InboxFeed> {
    require(&viewer.permissions, Permission::ChatView)?;
    let mut listener = app.hub.listen(viewer.id());
    listener.follow(viewer.organization(), viewer.id());
    Ok(InboxFeed::new(app.store.clone(), app.catch_ups.clone(), viewer, session, listener, after))
}

/// One call of a chat that the viewer is in: as their own participant sees it, or as any member does.
pub async fn call(
    app: &App,
    viewer: Arc<Viewer>,
    id: CallId,
    participant: Option<ParticipantId>,
    after: Option<String>,
) -> Result<CallFeed> {
    if participant.as_ref().is_some_and(|own| own.call != id || own.user != *viewer.id()) {
        return Err(Error::NotFound("participant"));
    }
    app.limits.call_signal(&viewer)?;
    let mut listener = app.hub.listen(viewer.id());
    listener.follow(viewer.organization(), viewer.id());
    listener.await_end(id.chat);
    listener.follow_call(id);
    let user = participant.as_ref().map(|own| own.user.clone());
    let mut conn = app.store.write().await?;
    let open = Access::open(&mut conn, (&*viewer).into(), &[id], |id| id.chat).await?;
    let call = calls::by_ids(&mut conn, &open).await?.pop().ok_or(Error::NotFound("call"))?;
    let own = match &user {
        Some(user) => {
            let known = call.participant(user).ok_or(Error::NotFound("participant"))?;
            Some(Own { user: user.clone(), joined: known.joined_version })
        }
        None => None,
    };
    // Who may not is here for nobody.
    let attending = app.attendance.enter(id, user.clone());
    let here: Vec<ParticipantId> = participant.into_iter().collect();
    calls::attend(&mut conn, &here, true, app.clock.now() + rules(&app.config.calls).lost).await?;
    let start = match after {
        None => call::Start::Beginning,
        Some(after) => match CallCursor::decode(&after, id, user.as_ref()) {
            Some(cursor) if cursor.version <= call.version => call::Start::After(cursor),
            _ => call::Start::Unreadable,
        },
    };
    let (store, catch_ups) = (app.store.clone(), app.catch_ups.clone());
    Ok(CallFeed::new(store, catch_ups, viewer, listener, attending, id, own, start))
}

/// Who is typing in a chat that the viewer is in.
pub async fn typing(app: &App, viewer: Arc<Viewer>, chat: ChatId) -> Result<TypingFeed> {
    let mut listener = app.hub.listen(viewer.id());
    listener.follow(viewer.organization(), viewer.id());
    listener.await_end(chat);
    let mut conn = app.store.read().await?;
    Access::of_member(&mut conn, &viewer, chat, app.clock.now()).await?;
    Ok(app.typing.listen(app.store.clone(), viewer, listener, chat))
}

/// The presence of these people; those whom the organisation has not seen are left out.
pub async fn presence(app: &App, viewer: &Viewer, people: &BTreeSet<UserId>) -> Result<PresenceFeed> {
    require(&viewer.permissions, Permission::ChatView)?;
    if people.is_empty() || people.len() > MAX_FOLLOWED {
        return Err(Error::bad_input("userIds", format!("must be 1 to {MAX_FOLLOWED} people")));
    }
    let people: Vec<UserId> = people.iter().cloned().collect();
    let mut conn = app.store.read().await?;
    let found = users::by_ids(&mut conn, viewer.organization(), &people).await?;
    Ok(app.presence.listen(&found))
}
