//! Presence: the status that users set by hand.

use crate::access::ChatAccess;
use crate::domain::ids::ChatId;
use crate::domain::presence::PresenceStatus;
use crate::domain::rights::require_permission;
use crate::domain::users::{Permission, User, Viewer};
use crate::error::{Error, Result};
use crate::realtime::presence::snapshot::PresenceSnapshot;
use crate::service::context::AppContext;
use crate::storage::users;

/// Sets the viewer's status and the chat that they have open, and returns their presence.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the chat does not exist for the viewer, [`Error::Forbidden`] if they are not a member
/// of it, and [`Error::RateLimited`] if they send too many signals.
pub async fn set(
    app: &AppContext,
    viewer: &Viewer,
    status: PresenceStatus,
    current_chat: Option<ChatId>,
) -> Result<PresenceSnapshot> {
    require_permission(&viewer.permissions, Permission::ChatView)?;
    let mut conn = app.database.read().await?;
    if let Some(id) = current_chat {
        ChatAccess::require_member(&mut conn, viewer, id).await?;
    }
    app.rate_limits.check_signal(viewer)?;
    let user = users::by_ids(&mut conn, viewer.organization(), std::slice::from_ref(viewer.id())).await?.pop();
    app.presence.set_manual_status(viewer.organization(), viewer.id(), status, current_chat);
    Ok(app.presence.snapshot_of(&user.ok_or(Error::NotFound("user"))?))
}

/// Returns the presence of a user.
pub fn snapshot_of(app: &AppContext, user: &User) -> PresenceSnapshot {
    app.presence.snapshot_of(user)
}
