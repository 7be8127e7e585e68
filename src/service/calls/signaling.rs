//! Signals between the devices of a call: session descriptions and ICE candidates.

use crate::access::ChatAccess;
use crate::domain::call_signaling::{Signal, SignalKind, validate_payload};
use crate::domain::chat_events::{CallHint, ChatEvent, ChatEventKind};
use crate::domain::ids::ParticipantId;
use crate::domain::rights::require_permission;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::metrics::METRICS;
use crate::service::calls::transaction::require_own;
use crate::service::context::AppContext;
use crate::storage::{call_signaling, calls};

/// The number of versions of a call whose signals are kept.
///
/// A device that lacks older signals negotiates its connections again.
const SIGNALS_RETAINED: i64 = 2_000;
/// The number of versions after which older signals are deleted.
const PRUNE_EVERY: i64 = 500;

/// Sends a signal to another participant, and returns true if their device has its call feed open.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the participants are not the viewer's own and another one of the same call,
/// [`Error::BadUserInput`] if the payload is not valid, [`Error::Conflict`] if one of them is not in the call, and
/// [`Error::RateLimited`] after too many signals.
pub async fn send(
    app: &AppContext,
    viewer: &Viewer,
    from: &ParticipantId,
    to: &ParticipantId,
    kind: SignalKind,
    payload: serde_json::Value,
) -> Result<bool> {
    require_permission(&viewer.permissions, Permission::ChatView)?;
    require_own(viewer, from)?;
    if from.call != to.call {
        return Err(Error::NotFound("participant"));
    }
    if from.user == to.user {
        return Err(Error::bad_input("toParticipantId", "must be another participant"));
    }
    validate_payload(kind, &payload)?;
    app.rate_limits.check_call_signal(viewer)?;
    let id = from.call;
    let mut conn = app.database.write().await?;
    let (version, delivered) = conn
        .transaction(async move |conn| {
            // The chat is not locked, so that messages do not wait for signals.
            let readable = ChatAccess::retain_readable(conn, viewer.into(), &[id], |id| id.chat).await?;
            let call = if readable.is_empty() { None } else { calls::lock(conn, id).await? };
            let call = call.ok_or(Error::NotFound("call"))?;
            call.require_joined(&from.user)?;
            call.participant(&to.user).ok_or(Error::NotFound("participant"))?;
            let delivered = call.require_joined(&to.user)?.has_open_feed;
            let version = call.version + 1;
            let signal = Signal { version, from: from.user.clone(), to: to.user.clone(), kind, payload };
            call_signaling::insert(conn, id, &signal).await?;
            if version - call.signals_pruned_to >= SIGNALS_RETAINED + PRUNE_EVERY {
                call_signaling::prune(conn, id, version - SIGNALS_RETAINED).await?;
            }
            Ok((version, delivered))
        })
        .await?;
    METRICS.call_signals.inc();
    let hint = CallHint { call: id, version, user_ids: Vec::new(), signal_recipient: Some(to.user.clone()) };
    let (organization, now) = (viewer.organization().clone(), app.clock.now());
    app.publisher.publish(ChatEvent::new(organization, id.chat, now, ChatEventKind::CallChanged(hint)));
    Ok(delivered)
}
