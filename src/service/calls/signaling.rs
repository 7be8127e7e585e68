//! Signals between the devices of a call: session descriptions and ICE candidates.

use crate::access::ChatAccess;
use crate::domain::call_signaling::{SignalDraft, validate_payload};
use crate::domain::calls::{Call, Participant};
use crate::domain::chat_events::{CallHint, ChatEvent, ChatEventKind};
use crate::domain::rights::require_permission;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::metrics::METRICS;
use crate::service::calls::transaction::require_own;
use crate::service::context::AppContext;
use crate::storage::connection::Conn;
use crate::storage::{call_signaling, calls};

/// The number of versions of a call whose signals are kept.
///
/// A device that lacks older signals negotiates its connections again.
const SIGNALS_RETAINED: i64 = 2_000;
/// The number of versions after which older signals are deleted.
const PRUNE_EVERY: i64 = 500;

/// Sends a signal to the connection of another participant.
///
/// It returns true if the device of that connection has its call feed open.
///
/// Both connections must be the present ones: a signal from or to a former join would reach a device that knows nothing
/// of the negotiation. A repeated nonce sends nothing.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the connections are not the viewer's own and another one of the same call,
/// [`Error::BadUserInput`] or [`Error::PayloadTooLarge`] if the payload is not valid, [`Error::CallConflict`] if one of
/// the connections is not in the call or no longer the present one, [`Error::Conflict`] if the nonce was used for
/// another signal, and [`Error::RateLimited`] after too many or too large signals.
pub async fn send(app: &AppContext, viewer: &Viewer, draft: SignalDraft) -> Result<bool> {
    require_permission(&viewer.permissions, Permission::ChatView)?;
    let (from, to) = (draft.from.participant.clone(), draft.to.participant.clone());
    require_own(viewer, &from)?;
    if from.call != to.call {
        return Err(Error::NotFound("connection"));
    }
    if from.user == to.user {
        return Err(Error::bad_input("toConnectionId", "must be of another participant"));
    }
    let bytes = validate_payload(draft.kind, &draft.payload, app.settings.calls.max_signal_bytes)?;
    app.rate_limits.check_call_signal(viewer)?;
    app.rate_limits.check_call_signal_bytes(viewer, bytes)?;
    let (id, recipient) = (from.call, to.user.clone());
    let mut conn = app.database.write().await?;
    let (version, delivered) = conn
        .transaction(async move |conn| {
            // The chat is not locked, so that messages do not wait for signals.
            let readable = ChatAccess::retain_readable(conn, viewer.into(), &[id], |id| id.chat).await?;
            let call = if readable.is_empty() { None } else { calls::lock(conn, id).await? };
            let call = call.ok_or(Error::NotFound("call"))?;
            let sender = call.require_connected(&draft.from)?;
            call.participant(&to.user).ok_or(Error::NotFound("connection"))?;
            let delivered = call.require_connected(&draft.to)?.has_open_feed;
            if was_sent(conn, &call, sender, &draft).await? {
                return Ok((None, delivered));
            }
            make_room(conn, app, &call, bytes).await?;
            let version = call.version + 1;
            call_signaling::insert(conn, id, version, bytes, &draft).await?;
            Ok((Some(version), delivered))
        })
        .await?;
    let Some(version) = version else { return Ok(delivered) };
    METRICS.call_signals.inc();
    METRICS.call_signal_bytes.inc_by(bytes as u64);
    publish(app, viewer, CallHint { call: id, version, user_ids: Vec::new(), signal_recipient: Some(recipient) });
    Ok(delivered)
}

/// Returns whether the sender's connection has sent the signal already, by its nonce.
async fn was_sent(conn: &mut Conn, call: &Call, sender: &Participant, draft: &SignalDraft) -> Result<bool> {
    let Some(nonce) = &draft.nonce else { return Ok(false) };
    match call_signaling::fingerprint_of(conn, call.id, &sender.user, nonce, sender.joined_version).await? {
        Some(sent) if sent == draft.fingerprint() => Ok(true),
        Some(_) => Err(Error::Conflict("the nonce was used for another signal".into())),
        None => Ok(false),
    }
}

/// Deletes old signals of a call that would have too many of them with the next one, by number or size.
async fn make_room(conn: &mut Conn, app: &AppContext, call: &Call, next_bytes: usize) -> Result<()> {
    let mut prune_to = None;
    if call.version + 1 - call.signals_pruned_to >= SIGNALS_RETAINED + PRUNE_EVERY {
        prune_to = Some(call.version + 1 - SIGNALS_RETAINED);
    }
    let limit = app.settings.calls.max_kept_signal_bytes;
    if call_signaling::kept_bytes(conn, call.id).await? + next_bytes > limit {
        // A quarter is deleted, so that the next signals fit without further deletions.
        let kept = (limit / 4 * 3).saturating_sub(next_bytes);
        prune_to = prune_to.max(call_signaling::newest_version_beyond(conn, call.id, kept).await?);
    }
    match prune_to {
        Some(version) => call_signaling::prune(conn, call.id, version).await,
        None => Ok(()),
    }
}

fn publish(app: &AppContext, viewer: &Viewer, hint: CallHint) {
    let (organization, now) = (viewer.organization().clone(), app.clock.now());
    app.publisher.publish(ChatEvent::new(organization, hint.call.chat, now, ChatEventKind::CallChanged(hint)));
}
