//! How one is there, as set by hand.

use crate::access::ChatAccess;
use crate::domain::ids::ChatId;
use crate::domain::presence::PresenceStatus;
use crate::domain::rights::require_permission;
use crate::domain::users::{Permission, User, Viewer};
use crate::error::{Error, Result};
use crate::realtime::presence::tracker::PresenceSnapshot;
use crate::service::context::AppContext;
use crate::storage::users;

/// Sets how the viewer is there, and in which of their chats.
pub async fn set(
    app: &AppContext,
    viewer: &Viewer,
    status: PresenceStatus,
    current_chat: Option<ChatId>,
) -> Result<PresenceSnapshot> {
    require_permission(&viewer.permissions, Permission::ChatView)?;
    let mut conn = app.database.read().await?;
    if let Some(id) = current_chat {
        ChatAccess::require_member(&mut conn, viewer, id, app.clock.now()).await?;
    }
    app.rate_limits.check_signal(viewer)?;
    let own = users::by_ids(&mut conn, viewer.organization(), std::slice::from_ref(viewer.id())).await?.pop();
    app.presence.set_manual_status(viewer.organization(), viewer.id(), status, current_chat);
    Ok(app.presence.snapshot_of(&own.ok_or(Error::NotFound("user"))?))
}

/// The presence of a person whose row was read.
pub fn snapshot_of(app: &AppContext, user: &User) -> PresenceSnapshot {
    app.presence.snapshot_of(user)
}
