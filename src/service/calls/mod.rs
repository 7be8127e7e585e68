//! Calls: starting, joining, changing and ending them.
//!
//! [`transaction`] locks a call and writes its changes, [`history`] reads calls, [`signaling`] carries signals between
//! participants, [`scheduler`] ends what is due, and [`ice_servers`] issues the addresses of STUN and TURN servers.

pub mod history;
pub mod ice_servers;
pub mod scheduler;
pub mod signaling;
pub mod transaction;

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::domain::calls::{Call, CallKind, CallRefusal, Media, Quality};
use crate::domain::chats::{ChatAction, ChatKind};
use crate::domain::ids::{CallId, ChatId, ParticipantId};
use crate::domain::members::Role;
use crate::domain::text;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::service::calls::transaction::{CallTransaction, create, require_own};
use crate::service::chat_transaction::ChatTransaction;
use crate::service::context::AppContext;
use crate::storage::calls;

/// The highest round trip time that a device may report, in milliseconds.
const MAX_ROUND_TRIP_MS: f64 = 60_000.0;
/// The highest bit rate that a device may report, in kilobits per second.
const MAX_BITRATE_KBPS: f64 = 10_000_000.0;

/// The device by which a user joins a call, with the media that it sends.
pub struct CallDevice {
    id: String,
    media: Media,
}

impl CallDevice {
    /// Returns a device with the id that the client gave it.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadUserInput`] if the id is empty or too long.
    pub fn new(id: &str, media: Media) -> Result<Self> {
        Ok(Self { id: text::validate_line("deviceId", id, Call::MAX_DEVICE_CHARS)?, media })
    }

    fn join(self, call: &mut Call, app: &AppContext, viewer: &Viewer, now: DateTime<Utc>) -> Result<(), CallRefusal> {
        call.join(viewer.id(), self.id, self.media, &app.settings.calls.timeouts(), now)
    }
}

/// Starts a call in a chat, or joins the active call.
///
/// So two users who call each other at the same time are in one call.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the chat does not exist for the viewer, [`Error::Forbidden`] if they may not start
/// calls in it, [`Error::Conflict`] if the active call cannot be joined, and [`Error::RateLimited`] after too many
/// calls.
pub async fn start(
    app: &AppContext,
    viewer: &Viewer,
    chat: ChatId,
    kind: CallKind,
    device: CallDevice,
) -> Result<Arc<Call>> {
    app.rate_limits.check_call(viewer)?;
    let mut conn = app.database.write().await?;
    let (outcome, call) = conn
        .transaction(async move |conn| {
            let chat_transaction = ChatTransaction::lock(conn, viewer, chat, &app.clock).await?;
            chat_transaction.rights(viewer).can(ChatAction::StartCall)?;
            let CallDevice { id, media } = device;
            let Some(active) = calls::active(conn, &[chat]).await?.pop() else {
                return create(conn, app, viewer, chat_transaction, kind, id, media).await;
            };
            let mut transaction = CallTransaction::load_advanced(conn, app, chat_transaction, active.id).await?;
            if !transaction.call.has_ended() {
                let now = transaction.chat_transaction.now;
                CallDevice { id, media }.join(&mut transaction.call, app, viewer, now)?;
                return transaction.commit_changes(conn, app).await;
            }
            // The call was due to end and no scheduler had processed it yet.
            let chat_transaction = transaction.record_changes(conn, app).await?;
            create(conn, app, viewer, chat_transaction, kind, id, media).await
        })
        .await?;
    app.publish_outcome(outcome);
    Ok(call)
}

/// Joins a call by a device.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the viewer is not a member of the call's chat, [`Error::Conflict`] if the call has
/// ended, is full or has the viewer by another device, and [`Error::RateLimited`] after too many calls.
pub async fn join(app: &AppContext, viewer: &Viewer, id: CallId, device: CallDevice) -> Result<Arc<Call>> {
    app.rate_limits.check_call(viewer)?;
    update_call(app, viewer, id, |call, chat| Ok(device.join(call, app, viewer, chat.now)?)).await
}

/// Declines a call, which stops ringing on all devices of the viewer.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the viewer is not a member of the call's chat, and [`Error::Conflict`] if the state
/// of the call does not allow it.
pub async fn decline(app: &AppContext, viewer: &Viewer, id: CallId) -> Result<Arc<Call>> {
    app.rate_limits.check_call_signal(viewer)?;
    update_call(app, viewer, id, |call, chat| Ok(call.decline(viewer.id(), chat.now)?)).await
}

/// Leaves a call.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the participant is not the viewer's own or the viewer is not a member of the chat,
/// and [`Error::Conflict`] if the viewer is not in the call.
pub async fn leave(app: &AppContext, viewer: &Viewer, id: &ParticipantId) -> Result<Arc<Call>> {
    require_own(viewer, id)?;
    app.rate_limits.check_call_signal(viewer)?;
    update_call(app, viewer, id.call, |call, chat| Ok(call.leave(viewer.id(), chat.now)?)).await
}

/// Sets the media that the viewer's device sends.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the participant is not the viewer's own or the viewer is not a member of the chat,
/// and [`Error::Conflict`] if the viewer is not in the call.
pub async fn set_media(app: &AppContext, viewer: &Viewer, id: &ParticipantId, media: Media) -> Result<Arc<Call>> {
    require_own(viewer, id)?;
    app.rate_limits.check_call_signal(viewer)?;
    update_call(app, viewer, id.call, |call, chat| Ok(call.set_media(viewer.id(), media, chat.now)?)).await
}

/// Adds a quality report of the viewer's device.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the participant is not the viewer's own or the viewer is not a member of the chat,
/// [`Error::BadUserInput`] if a value is out of range, and [`Error::Conflict`] if the viewer is not in the call.
pub async fn report_quality(
    app: &AppContext,
    viewer: &Viewer,
    id: &ParticipantId,
    quality: Quality,
) -> Result<Arc<Call>> {
    require_own(viewer, id)?;
    check_range("roundTripMs", quality.round_trip_ms, MAX_ROUND_TRIP_MS)?;
    check_range("packetLossPercent", quality.packet_loss_percent, 100.0)?;
    check_range("bitrateKbps", quality.bitrate_kbps, MAX_BITRATE_KBPS)?;
    app.rate_limits.check_call_signal(viewer)?;
    update_call(app, viewer, id.call, |call, chat| Ok(call.report_quality(viewer.id(), &quality, chat.now)?)).await
}

fn check_range(field: &'static str, value: f64, max: f64) -> Result<()> {
    match (0.0..=max).contains(&value) {
        true => Ok(()),
        false => Err(Error::bad_input(field, format!("must be from 0 to {max}"))),
    }
}

/// Ends a call for all participants.
///
/// In a direct chat both users may end it, in other chats the user who started it and moderators.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the viewer is not a member of the call's chat, and [`Error::Forbidden`] if they may
/// not end the call.
pub async fn end(app: &AppContext, viewer: &Viewer, id: CallId) -> Result<Arc<Call>> {
    app.rate_limits.check_call_signal(viewer)?;
    let end = |call: &mut Call, chat: &ChatTransaction| {
        if chat.chat().kind != ChatKind::Direct && call.started_by != *viewer.id() {
            chat.rights(viewer).require_role(Role::Moderator)?;
        }
        call.end(viewer.id(), chat.now);
        Ok(())
    };
    update_call(app, viewer, id, end).await
}

/// Changes a call of a chat that the viewer is a member of, after everything that was due in it.
async fn update_call(
    app: &AppContext,
    viewer: &Viewer,
    id: CallId,
    change: impl FnOnce(&mut Call, &ChatTransaction) -> Result<()> + Send,
) -> Result<Arc<Call>> {
    let mut conn = app.database.write().await?;
    let (outcome, call) = conn
        .transaction(async move |conn| {
            let mut transaction = CallTransaction::lock(conn, app, viewer, id).await?;
            change(&mut transaction.call, &transaction.chat_transaction)?;
            transaction.commit_changes(conn, app).await
        })
        .await?;
    app.publish_outcome(outcome);
    Ok(call)
}
