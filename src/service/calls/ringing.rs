//! The users for whom a call rings aloud.

use crate::domain::calls::{Call, ParticipantStatus};
use crate::domain::ids::MemberId;
use crate::domain::members::{Member, NotificationLevel};
use crate::domain::presence::PresenceStatus;
use crate::domain::users::Viewer;
use crate::error::Result;
use crate::service::context::AppContext;
use crate::storage::{calls, members, users};

/// Returns whether the devices of the viewer are to ring for a call now.
///
/// They are silent while the viewer is busy, while they are in another call, and in chats whose notifications the
/// viewer has turned off. The call can be answered all the same.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn rings_for(app: &AppContext, viewer: &Viewer, call: &Call) -> Result<bool> {
    let is_ringing = |status| status == ParticipantStatus::Ringing;
    if call.has_ended() || !call.participant(viewer.id()).is_some_and(|own| is_ringing(own.status)) {
        return Ok(false);
    }
    let (organization, user) = (viewer.organization(), viewer.id());
    let mut conn = app.database.read().await?;
    let member_id = MemberId { chat: call.id.chat, user: user.clone() };
    let wants_calls =
        |member: &Member| member.is_active() && member.preferences.notification_level != NotificationLevel::None;
    if !members::by_ids(&mut conn, &[member_id]).await?.first().is_some_and(wants_calls) {
        return Ok(false);
    }
    if calls::joined_by(&mut conn, organization, user).await?.iter().any(|joined| *joined != call.id) {
        return Ok(false);
    }
    let own = users::by_ids(&mut conn, organization, std::slice::from_ref(user)).await?.pop();
    Ok(own.is_none_or(|own| app.presence.snapshot_of(&own).status != PresenceStatus::Busy))
}
