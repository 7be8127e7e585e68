//! What devices in a call tell each other.

use crate::access::ChatAccess;
use crate::domain::call_signaling::{Signal, SignalKind, validate_payload};
use crate::domain::chat_events::{CallHint, ChatEvent, ChatEventKind};
use crate::domain::ids::ParticipantId;
use crate::domain::rights::require_permission;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::metrics::METRICS;
use crate::service::calls::require_own;
use crate::service::context::AppContext;
use crate::storage::{call_signaling, calls};

/// Steps and signals of a call of which the signals are kept; a side that lacks older ones begins anew.
const SIGNALS_RETAINED: i64 = 2_000;
/// Those of before are forgotten when there are so many of them.
const PRUNE_EVERY: i64 = 500;

/// Sends a signal from the viewer's device to another participant; true where that is listening now.
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
        return Err(Error::bad_input("toParticipantId", "is yourself"));
    }
    validate_payload(kind, &payload)?;
    app.rate_limits.check_call_signal(viewer)?;
    let id = from.call;
    let mut conn = app.database.write().await?;
    let (version, delivered) = conn
        .transaction(async move |conn| {
            // The chat is not locked: what is said there need not wait for it.
            let open = ChatAccess::retain_readable(conn, viewer.into(), &[id], |id| id.chat).await?;
            let call = if open.is_empty() { None } else { calls::lock(conn, id).await? };
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
    let called = CallHint { call: id, version, user_ids: Vec::new(), signal_recipient: Some(to.user.clone()) };
    let (organization, at) = (viewer.organization().clone(), app.clock.now());
    app.publisher.publish(ChatEvent::new(organization, id.chat, at, ChatEventKind::CallChanged(called)));
    Ok(delivered)
}
