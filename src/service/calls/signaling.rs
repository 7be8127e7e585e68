//! What devices in a call tell each other.

use crate::access::Access;
use crate::domain::call_signaling::{Signal, SignalKind, check};
use crate::domain::chat_events::{Called, ChatEvent, Happening};
use crate::domain::ids::ParticipantId;
use crate::domain::rights::require;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::metrics::METRICS;
use crate::service::calls::is_own;
use crate::service::context::App;
use crate::storage::{call_signaling, calls};

/// Steps and signals of a call of which the signals are kept; a side that lacks older ones begins anew.
const KEPT: i64 = 2_000;
/// Those of before are forgotten when there are so many of them.
const FORGET_EVERY: i64 = 500;

/// Sends a signal from the viewer's device to another participant; true where that is listening now.
pub async fn send(
    app: &App,
    viewer: &Viewer,
    from: &ParticipantId,
    to: &ParticipantId,
    kind: SignalKind,
    payload: serde_json::Value,
) -> Result<bool> {
    require(&viewer.permissions, Permission::ChatView)?;
    is_own(viewer, from)?;
    if from.call != to.call {
        return Err(Error::NotFound("participant"));
    }
    if from.user == to.user {
        return Err(Error::bad_input("toParticipantId", "is yourself"));
    }
    check(kind, &payload)?;
    app.limits.call_signal(viewer)?;
    let id = from.call;
    let mut conn = app.store.write().await?;
    let (version, delivered) = conn
        .transaction(async move |conn| {
            // The chat is not locked: what is said there need not wait for it.
            let open = Access::open(conn, viewer.into(), &[id], |id| id.chat).await?;
            let call = if open.is_empty() { None } else { calls::lock(conn, id).await? };
            let call = call.ok_or(Error::NotFound("call"))?;
            call.joined(&from.user)?;
            call.participant(&to.user).ok_or(Error::NotFound("participant"))?;
            let delivered = call.joined(&to.user)?.is_listening;
            let version = call.version + 1;
            let signal = Signal { version, from: from.user.clone(), to: to.user.clone(), kind, payload };
            call_signaling::insert(conn, id, &signal).await?;
            if version - call.forgotten >= KEPT + FORGET_EVERY {
                call_signaling::forget(conn, id, version - KEPT).await?;
            }
            Ok((version, delivered))
        })
        .await?;
    METRICS.call_signals.inc();
    let called = Called { call: id, version, people: Vec::new(), to: Some(to.user.clone()) };
    let (organization, at) = (viewer.organization().clone(), app.clock.now());
    app.bus.publish(ChatEvent::new(organization, id.chat, at, Happening::Called(called)));
    Ok(delivered)
}
