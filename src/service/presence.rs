//! How one is there, as set by hand.

use crate::access::Access;
use crate::domain::ids::ChatId;
use crate::domain::presence::PresenceStatus;
use crate::domain::rights::require;
use crate::domain::users::{Permission, User, Viewer};
use crate::error::{Error, Result};
use crate::realtime::presence::tracker::PresenceNow;
use crate::service::context::App;
use crate::storage::users;

/// Sets how the viewer is there, and in which of their chats.
pub async fn set(
    app: &App,
    viewer: &Viewer,
    status: PresenceStatus,
    current_chat: Option<ChatId>,
) -> Result<PresenceNow> {
    require(&viewer.permissions, Permission::ChatView)?;
    let mut conn = app.store.read().await?;
    if let Some(id) = current_chat {
        Access::of_member(&mut conn, viewer, id, app.clock.now()).await?;
    }
    app.limits.signal(viewer)?;
    let own = users::by_ids(&mut conn, viewer.organization(), std::slice::from_ref(viewer.id())).await?.pop();
    app.presence.set(viewer.organization(), viewer.id(), status, current_chat);
    Ok(app.presence.of(&own.ok_or(Error::NotFound("user"))?))
}

/// The presence of a person whose row was read.
pub fn of(app: &App, user: &User) -> PresenceNow {
    app.presence.of(user)
}
