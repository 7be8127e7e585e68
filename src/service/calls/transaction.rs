//! A transaction on one call: its changes, and their effects on the chat, the members and the subscribers.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::access::ChatAccess;
use crate::domain::calls::{Call, CallEndReason, CallKind, Media, Participant, ParticipantStatus};
use crate::domain::chat_events::CallHint;
use crate::domain::ids::{CallId, MemberId, ParticipantId, UserId};
use crate::domain::members::Member;
use crate::domain::messages::SystemMessageKind;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::metrics::{KindLabel, METRICS};
use crate::service::chat_transaction::ChatTransaction;
use crate::service::commit_outcome::CommitOutcome;
use crate::service::context::AppContext;
use crate::storage::connection::Conn;
use crate::storage::{call_schedule, call_signaling, calls, chats, members};

/// A call and its chat under their locks. The chat is locked first.
pub struct CallTransaction {
    pub chat_transaction: ChatTransaction,
    pub call: Call,
    previous: Call,
}

impl CallTransaction {
    /// Locks a call of a chat that the viewer is a member of, after everything that was due in it.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Forbidden`] if the viewer's token lacks the permission `chat.view`, and [`Error::NotFound`] if
    /// the viewer is not a member of the chat or the call does not exist.
    pub async fn lock(conn: &mut Conn, app: &AppContext, viewer: &Viewer, id: CallId) -> Result<Self> {
        let (chat_transaction, _) = ChatTransaction::lock_for_member(conn, viewer, id.chat, "call", &app.clock).await?;
        Self::load_advanced(conn, app, chat_transaction, id).await
    }

    /// Locks a call whose chat is locked, after everything that was due in it.
    ///
    /// # Errors
    ///
    /// Returns [`Error::NotFound`] if the call does not exist.
    pub async fn load_advanced(
        conn: &mut Conn,
        app: &AppContext,
        chat_transaction: ChatTransaction,
        id: CallId,
    ) -> Result<Self> {
        let mut transaction = Self::load(conn, chat_transaction, id).await?;
        transaction.call.advance(&app.settings.calls.timeouts(), transaction.chat_transaction.now);
        Ok(transaction)
    }

    async fn load(conn: &mut Conn, chat_transaction: ChatTransaction, id: CallId) -> Result<Self> {
        let previous = calls::lock(conn, id).await?.ok_or(Error::NotFound("call"))?;
        Ok(Self { chat_transaction, call: previous.clone(), previous })
    }

    /// Writes the changes of the call and of its chat; the caller commits and publishes.
    ///
    /// # Errors
    ///
    /// Fails only if the database does.
    pub async fn commit_changes(self, conn: &mut Conn, app: &AppContext) -> Result<(CommitOutcome, Arc<Call>)> {
        let Self { mut chat_transaction, previous, call } = self;
        let call = record_call_change(conn, app, &mut chat_transaction, &previous, call).await?;
        Ok((chat_transaction.commit_changes(conn).await?, Arc::new(call)))
    }

    /// Writes the changes of the call and returns the transaction on its chat, to go on with.
    ///
    /// # Errors
    ///
    /// Fails only if the database does.
    pub async fn record_changes(self, conn: &mut Conn, app: &AppContext) -> Result<ChatTransaction> {
        let Self { mut chat_transaction, previous, call } = self;
        record_call_change(conn, app, &mut chat_transaction, &previous, call).await?;
        Ok(chat_transaction)
    }
}

/// Creates a call in a chat that has no active one, and commits it.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn create(
    conn: &mut Conn,
    app: &AppContext,
    viewer: &Viewer,
    mut chat_transaction: ChatTransaction,
    kind: CallKind,
    device: String,
    media: Media,
) -> Result<(CommitOutcome, Arc<Call>)> {
    let timeouts = app.settings.calls.timeouts();
    let chat = chat_transaction.chat();
    let rings = usize::try_from(chat.member_count).is_ok_and(|count| count <= app.settings.calls.max_ring_members);
    let callees = if rings { members::active_members(conn, chat.id).await? } else { Vec::new() };
    let callees = callees.into_iter().map(|member| member.user).filter(|user| user != viewer.id());
    let (id, organization, caller) = (CallId::new(chat.id), chat.organization.clone(), viewer.id().clone());
    let now = chat_transaction.now;
    let call = Call::start(id, organization, kind, caller, device, media, callees, &timeouts, now);
    calls::insert(conn, &call, call.due_at(&timeouts)).await?;
    chat_transaction.call_system_message(SystemMessageKind::CallStarted, &call);
    chat_transaction.record_chat_change();
    chat_transaction.record_call((&call).into());
    Ok((chat_transaction.commit_changes(conn).await?, Arc::new(call)))
}

/// Applies everything that was due in a call at a time.
///
/// All participants who were present at the time `now` must have renewed leases, or they leave the call.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the call does not exist.
pub async fn process_due(app: &AppContext, id: CallId, now: DateTime<Utc>) -> Result<()> {
    let mut conn = app.database.write().await?;
    let outcome = conn
        .transaction(async move |conn| {
            // A deleted chat has no calls.
            let Some(chat) = chats::lock_one(conn, id.chat).await? else { return Ok(None) };
            let chat_transaction = ChatTransaction::new(ChatAccess { chat, membership: None }, app.clock.now());
            let timeouts = app.settings.calls.timeouts();
            let mut transaction = CallTransaction::load(conn, chat_transaction, id).await?;
            transaction.call.advance_all(&timeouts, now);
            if transaction.call == transaction.previous {
                // The stored time is too early, for example because a timeout became longer at a restart. An
                // unchanged call is not written otherwise, so it would be due again at once.
                call_schedule::set_due_at(conn, id, transaction.call.due_at(&timeouts)).await?;
            }
            let (outcome, _) = transaction.commit_changes(conn, app).await?;
            Ok(Some(outcome))
        })
        .await?;
    if let Some(outcome) = outcome {
        app.publish_outcome(outcome);
    }
    Ok(())
}

/// Lets a user whose tokens were revoked leave a call.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn leave_after_revocation(app: &AppContext, id: CallId, user: &UserId) -> Result<()> {
    let mut conn = app.database.write().await?;
    let outcome = conn
        .transaction(async move |conn| {
            let Some(chat) = chats::lock_one(conn, id.chat).await? else { return Ok(None) };
            let mut chat_transaction = ChatTransaction::new(ChatAccess { chat, membership: None }, app.clock.now());
            remove_participant(conn, app, &mut chat_transaction, user).await?;
            chat_transaction.commit_changes(conn).await.map(Some)
        })
        .await?;
    if let Some(outcome) = outcome {
        app.publish_outcome(outcome);
    }
    Ok(())
}

/// Removes a user who is removed from the chat from its active call too, in the same transaction.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn remove_participant(
    conn: &mut Conn,
    app: &AppContext,
    chat_transaction: &mut ChatTransaction,
    user: &UserId,
) -> Result<()> {
    update_active(conn, app, chat_transaction, user, |call, now| call.remove(user, now)).await
}

/// Lets a member who is silenced in the chat only listen to its active call, in the same transaction.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn stop_media(
    conn: &mut Conn,
    app: &AppContext,
    chat_transaction: &mut ChatTransaction,
    user: &UserId,
) -> Result<()> {
    update_active(conn, app, chat_transaction, user, |call, now| {
        // A user who is not in the call sends no media.
        call.set_media(user, Media::default(), now).unwrap_or_default();
    })
    .await
}

/// Changes the active call of a chat if a user is or was a participant of it.
async fn update_active(
    conn: &mut Conn,
    app: &AppContext,
    chat_transaction: &mut ChatTransaction,
    user: &UserId,
    change: impl FnOnce(&mut Call, DateTime<Utc>) + Send,
) -> Result<()> {
    let Some(active) = calls::active(conn, &[chat_transaction.chat().id]).await?.pop() else { return Ok(()) };
    if active.participant(user).is_none() {
        return Ok(());
    }
    let Some(previous) = calls::lock(conn, active.id).await? else { return Ok(()) };
    let mut call = previous.clone();
    change(&mut call, chat_transaction.now);
    record_call_change(conn, app, chat_transaction, &previous, call).await.map(drop)
}

/// Checks that a participant is the viewer's own: nobody else changes it or reads its signals.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the participant is another user's.
pub fn require_own(viewer: &Viewer, id: &ParticipantId) -> Result<()> {
    if id.user == *viewer.id() { Ok(()) } else { Err(Error::NotFound("participant")) }
}

/// Writes a call if it changed, and records the effects on its chat, its members and its subscribers.
async fn record_call_change(
    conn: &mut Conn,
    app: &AppContext,
    chat_transaction: &mut ChatTransaction,
    previous: &Call,
    mut call: Call,
) -> Result<Call> {
    if call == *previous {
        return Ok(call);
    }
    if call.state_changed_at != previous.state_changed_at {
        // The time of this commit, not the time at which the change was due: a feed that resumes asks for the changes
        // since the last one that it received, and this change did not exist yet at its due time.
        call.state_changed_at = chat_transaction.now;
    }
    calls::update(conn, previous, &call, call.due_at(&app.settings.calls.timeouts())).await?;
    let mut system_message_seq = None;
    if let Some((_, reason)) = call.end.filter(|_| !previous.has_ended()) {
        let kind = match reason {
            CallEndReason::Completed | CallEndReason::Declined | CallEndReason::Busy | CallEndReason::ChatGone => {
                SystemMessageKind::CallEnded
            }
            CallEndReason::Missed | CallEndReason::Cancelled | CallEndReason::Failed => SystemMessageKind::CallMissed,
        };
        system_message_seq = Some(chat_transaction.call_system_message(kind, &call));
        chat_transaction.record_chat_change();
        call_signaling::prune(conn, call.id, call.version).await?;
        METRICS.calls_ended.get_or_create(&KindLabel { kind: reason.into() }).inc();
    }
    let missed: Vec<MemberId> = newly_missed_users(previous, &call).collect();
    if !missed.is_empty() {
        for member in members::by_ids(conn, &missed).await?.iter().filter(|member| Member::is_active(member)) {
            chat_transaction.notify_missed_call(member, &call, system_message_seq);
        }
    }
    let hint = CallHint::from(&call);
    // A change that no list of calls shows is published to the subscribers of the call only.
    let user_ids = if changes_call_list(previous, &call) { hint.user_ids } else { Vec::new() };
    chat_transaction.record_call(CallHint { user_ids, ..hint });
    Ok(call)
}

/// Returns whether the status of the call or of a participant changed, or a participant joined again.
fn changes_call_list(previous: &Call, call: &Call) -> bool {
    let shown = |participant: &Participant| (participant.status, participant.joined_version);
    let shown = |call: &Call| call.participants.iter().map(shown).collect::<Vec<_>>();
    previous.status() != call.status() || shown(previous) != shown(call)
}

/// Returns the users who have missed the call by the change.
fn newly_missed_users(previous: &Call, call: &Call) -> impl Iterator<Item = MemberId> {
    let is_missed = |participant: &Participant| participant.status == ParticipantStatus::Missed;
    let was_missed = move |user: &UserId| previous.participant(user).is_some_and(is_missed);
    let missed = call.participants.iter().filter(move |participant| is_missed(participant));
    missed
        .filter(move |participant| !was_missed(&participant.user))
        .map(|participant| MemberId { chat: call.id.chat, user: participant.user.clone() })
}
