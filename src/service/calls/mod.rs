//! Calls: starting, joining, changing and ending them.
//!
//! [`transaction`] locks a call and writes its changes, [`joining`] starts and joins calls, [`history`] reads them,
//! [`signaling`] carries signals between participants, [`connection`] records whose feed is open, [`scheduler`] ends
//! what is due, [`moderation`] ends calls for all and removes participants, [`ringing`] says for whom a call rings
//! aloud, and [`ice_servers`] issues the addresses of STUN and TURN servers.

pub mod connection;
pub mod history;
pub mod ice_servers;
pub mod joining;
pub mod moderation;
pub mod ringing;
pub mod scheduler;
pub mod signaling;
pub mod transaction;

use std::sync::Arc;

use crate::domain::calls::{Call, CallRefusal, DeclineReason, Media, OwnConnection, Quality};
use crate::domain::chats::ChatKind;
use crate::domain::ids::CallId;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::service::calls::transaction::{CallTransaction, require_own};
use crate::service::chat_transaction::ChatTransaction;
use crate::service::context::AppContext;

/// The highest round trip time that a device may report, in milliseconds.
const MAX_ROUND_TRIP_MS: f64 = 60_000.0;
/// The highest bit rate that a device may report, in kilobits per second.
const MAX_BITRATE_KBPS: f64 = 10_000_000.0;

/// Declines a call, which stops ringing on all devices of the viewer.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the viewer is not a member of the call's chat, and [`Error::CallConflict`] if
/// the state of the call does not allow it.
pub async fn decline(app: &AppContext, viewer: &Viewer, id: CallId, reason: DeclineReason) -> Result<Arc<Call>> {
    app.rate_limits.check_call_signal(viewer)?;
    update_call(app, viewer, id, |call, chat| Ok(call.decline(viewer.id(), reason, chat.now)?)).await
}

/// Leaves a call.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the participant is not the viewer's own or the viewer is not a member of the chat,
/// and [`Error::CallConflict`] if the viewer is not in the call or by another connection.
pub async fn leave(app: &AppContext, viewer: &Viewer, own: &OwnConnection) -> Result<Arc<Call>> {
    update_as_participant(app, viewer, own, |call, chat| Ok(leave_or_hang_up(call, chat, viewer)?)).await
}

/// Lets a user leave a call. In a direct chat this ends it, so that nobody stays in it alone.
///
/// # Errors
///
/// Returns [`CallRefusal::NotJoined`] if the user has not been in the call.
pub fn leave_or_hang_up(call: &mut Call, chat: &ChatTransaction, viewer: &Viewer) -> Result<(), CallRefusal> {
    match chat.chat().kind {
        ChatKind::Direct => call.hang_up(viewer.id(), chat.now),
        _ => call.leave(viewer.id(), chat.now),
    }
}

/// Sets the media that the viewer's device sends.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the participant is not the viewer's own or the viewer is not a member of the chat,
/// [`Error::CallConflict`] if the viewer is not in the call or by another connection, and [`Error::Forbidden`] if the
/// viewer is silenced and would send media.
pub async fn set_media(app: &AppContext, viewer: &Viewer, own: &OwnConnection, media: Media) -> Result<Arc<Call>> {
    let set_media = |call: &mut Call, chat: &ChatTransaction| {
        call.require_joined(viewer.id())?;
        if media != Media::default() {
            chat.rights(viewer).can_send_media()?;
        }
        Ok(call.set_media(viewer.id(), media, chat.now)?)
    };
    update_as_participant(app, viewer, own, set_media).await
}

/// Adds a quality report of the viewer's device.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the participant is not the viewer's own or the viewer is not a member of the chat,
/// [`Error::BadUserInput`] if a value is out of range, and [`Error::CallConflict`] if the viewer is not in the call or
/// by another connection.
pub async fn report_quality(
    app: &AppContext,
    viewer: &Viewer,
    own: &OwnConnection,
    quality: Quality,
) -> Result<Arc<Call>> {
    check_range("roundTripMs", quality.round_trip_ms, MAX_ROUND_TRIP_MS)?;
    check_range("packetLossPercent", quality.packet_loss_percent, 100.0)?;
    check_range("bitrateKbps", quality.bitrate_kbps, MAX_BITRATE_KBPS)?;
    let report = |call: &mut Call, chat: &ChatTransaction| Ok(call.report_quality(viewer.id(), &quality, chat.now)?);
    update_as_participant(app, viewer, own, report).await
}

fn check_range(field: &'static str, value: f64, max: f64) -> Result<()> {
    match (0.0..=max).contains(&value) {
        true => Ok(()),
        false => Err(Error::bad_input(field, format!("must be from 0 to {max}"))),
    }
}

/// Changes a call for the viewer's own participant, by the connection that joined last.
async fn update_as_participant(
    app: &AppContext,
    viewer: &Viewer,
    own: &OwnConnection,
    change: impl FnOnce(&mut Call, &ChatTransaction) -> Result<()> + Send,
) -> Result<Arc<Call>> {
    require_own(viewer, &own.participant)?;
    app.rate_limits.check_call_signal(viewer)?;
    let change = |call: &mut Call, chat: &ChatTransaction| {
        call.require_connection(viewer.id(), own.join)?;
        change(call, chat)
    };
    update_call(app, viewer, own.participant.call, change).await
}

/// Changes a call of a chat that the viewer is a member of, after everything that was due in it.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the viewer cannot see the call, and the error of the change.
pub async fn update_call(
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
