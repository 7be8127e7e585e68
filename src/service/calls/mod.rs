//! Calls: starting, joining and ending them, and what came of it.

pub mod ice_servers;
pub mod scheduler;
pub mod signaling;

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use crate::access::{ChatAccess, ReadScope};
use crate::config::CallsConfig;
use crate::domain::calls::{
    Call, CallEndReason, CallFilter, CallKind, CallRefusal, CallStatistics, CallTimeouts, Media, Participant,
    ParticipantStatus, Quality, TimeRange,
};
use crate::domain::chat_events::CallHint;
use crate::domain::chats::{ChatAction, ChatKind};
use crate::domain::ids::{CallId, ChatId, MemberId, ParticipantId, UserId};
use crate::domain::members::{Member, Role};
use crate::domain::messages::SystemMessageKind;
use crate::domain::pagination::{Page, PageArgs, PageEnd};
use crate::domain::rights::require_permission;
use crate::domain::text;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::metrics::{KindLabel, METRICS};
use crate::service::chat_transaction::{ChatTransaction, CommitOutcome};
use crate::service::context::AppContext;
use crate::storage::connection::Conn;
use crate::storage::{call_signaling, calls, chats, members};

/// The rules of this server.
pub fn call_timeouts(config: &CallsConfig) -> CallTimeouts {
    let delta = |duration| TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX);
    CallTimeouts {
        ring_timeout: delta(config.ring_timeout),
        alone_timeout: delta(config.alone_timeout),
        disconnect_timeout: delta(config.disconnect_timeout),
        max_participants: config.max_participants,
    }
}

/// By which device somebody comes in, and what it sends.
pub struct CallDevice {
    id: String,
    media: Media,
}

impl CallDevice {
    pub fn new(id: &str, media: Media) -> Result<Self> {
        Ok(Self { id: text::validate_line("deviceId", id, Call::MAX_DEVICE_CHARS)?, media })
    }

    /// The viewer comes into a call by it.
    fn join(self, call: &mut Call, app: &AppContext, viewer: &Viewer, now: DateTime<Utc>) -> Result<(), CallRefusal> {
        call.join(viewer.id(), self.id, self.media, &call_timeouts(&app.config.calls), now)
    }
}

/// Starts a call; where one is on in the chat, the viewer joins that: two who call each other at once meet.
pub async fn start(
    app: &AppContext,
    viewer: &Viewer,
    chat: ChatId,
    kind: CallKind,
    device: CallDevice,
) -> Result<Arc<Call>> {
    app.rate_limits.check_call(viewer)?;
    let mut conn = app.database.write().await?;
    let (told, call) = conn
        .transaction(async move |conn| {
            let writing = ChatTransaction::lock(conn, app, viewer, chat).await?;
            writing.rights(viewer).can(ChatAction::StartCall)?;
            let Some(live) = calls::active(conn, &[chat]).await?.pop() else {
                return create(conn, app, viewer, writing, kind, device).await;
            };
            let mut calling = CallTransaction::load_advanced(conn, app, writing, live.id).await?;
            if !calling.call.has_ended() {
                device.join(&mut calling.call, app, viewer, calling.chat_transaction.now)?;
                return calling.commit_changes(conn, app).await;
            }
            // Its time had come, and nobody had looked yet.
            let CallTransaction { chat_transaction: mut writing, previous: former, call } = calling;
            record_call_change(conn, app, &mut writing, &former, call).await?;
            create(conn, app, viewer, writing, kind, device).await
        })
        .await?;
    app.publish_outcome(told);
    Ok(call)
}

async fn create(
    conn: &mut Conn,
    app: &AppContext,
    viewer: &Viewer,
    mut writing: ChatTransaction,
    kind: CallKind,
    device: CallDevice,
) -> Result<(CommitOutcome, Arc<Call>)> {
    let rules = call_timeouts(&app.config.calls);
    let chat = writing.chat();
    let rings = usize::try_from(chat.member_count).is_ok_and(|count| count <= app.config.calls.max_ring_members);
    let others = if rings { members::active_members(conn, chat.id).await? } else { Vec::new() };
    let others = others.into_iter().map(|member| member.user).filter(|user| user != viewer.id());
    let (id, organization) = (CallId::new(chat.id), chat.organization.clone());
    let CallDevice { id: device, media } = device;
    let by = viewer.id().clone();
    let call = Call::start(id, organization, kind, by, device, media, others, &rules, writing.now);
    calls::insert(conn, &call, call.due_at(&rules)).await?;
    writing.call_system_message(SystemMessageKind::CallStarted, &call);
    writing.record_chat_change();
    writing.record_call(call_hint(&call));
    Ok((writing.commit_changes(conn).await?, Arc::new(call)))
}

/// Comes into a call.
pub async fn join(app: &AppContext, viewer: &Viewer, id: CallId, device: CallDevice) -> Result<Arc<Call>> {
    app.rate_limits.check_call(viewer)?;
    update_call(app, viewer, id, |call, writing| Ok(device.join(call, app, viewer, writing.now)?)).await
}

/// The call is not to ring for the viewer any more.
pub async fn decline(app: &AppContext, viewer: &Viewer, id: CallId) -> Result<Arc<Call>> {
    app.rate_limits.check_call_signal(viewer)?;
    update_call(app, viewer, id, |call, writing| Ok(call.decline(viewer.id(), writing.now)?)).await
}

/// Goes out of a call.
pub async fn leave(app: &AppContext, viewer: &Viewer, id: &ParticipantId) -> Result<Arc<Call>> {
    require_own(viewer, id)?;
    app.rate_limits.check_call_signal(viewer)?;
    update_call(app, viewer, id.call, |call, writing| Ok(call.leave(viewer.id(), writing.now)?)).await
}

/// What the viewer sends of themselves.
pub async fn set_media(app: &AppContext, viewer: &Viewer, id: &ParticipantId, media: Media) -> Result<Arc<Call>> {
    require_own(viewer, id)?;
    app.rate_limits.check_call_signal(viewer)?;
    update_call(app, viewer, id.call, |call, writing| Ok(call.set_media(viewer.id(), media, writing.now)?)).await
}

/// What the viewer's device found out about its connections.
pub async fn report_quality(
    app: &AppContext,
    viewer: &Viewer,
    id: &ParticipantId,
    quality: Quality,
) -> Result<Arc<Call>> {
    require_own(viewer, id)?;
    let within = |field: &'static str, value: f64, most: f64| match (0.0..=most).contains(&value) {
        true => Ok(()),
        false => Err(Error::bad_input(field, format!("must be from 0 to {most}"))),
    };
    within("roundTripMs", quality.round_trip_ms, 60_000.0)?;
    within("packetLossPercent", quality.packet_loss_percent, 100.0)?;
    within("bitrateKbps", quality.bitrate_kbps, 10_000_000.0)?;
    app.rate_limits.check_call_signal(viewer)?;
    update_call(app, viewer, id.call, |call, writing| Ok(call.report_quality(viewer.id(), &quality, writing.now)?))
        .await
}

/// Ends a call for all: in a direct chat either of the two, elsewhere who started it and moderators.
pub async fn end(app: &AppContext, viewer: &Viewer, id: CallId) -> Result<Arc<Call>> {
    app.rate_limits.check_call_signal(viewer)?;
    let end = |call: &mut Call, writing: &ChatTransaction| {
        if writing.chat().kind != ChatKind::Direct && call.started_by != *viewer.id() {
            writing.rights(viewer).require_role(Role::Moderator)?;
        }
        call.end(viewer.id(), writing.now);
        Ok(())
    };
    update_call(app, viewer, id, end).await
}

/// A participant is told of and changed by who it is alone.
pub(super) fn require_own(viewer: &Viewer, id: &ParticipantId) -> Result<()> {
    if id.user == *viewer.id() { Ok(()) } else { Err(Error::NotFound("participant")) }
}

/// Changes a call of a chat that the viewer is in, after what was to happen in it by now.
async fn update_call(
    app: &AppContext,
    viewer: &Viewer,
    id: CallId,
    change: impl FnOnce(&mut Call, &ChatTransaction) -> Result<()> + Send,
) -> Result<Arc<Call>> {
    let mut conn = app.database.write().await?;
    let (told, call) = conn
        .transaction(async move |conn| {
            let mut calling = CallTransaction::lock(conn, app, viewer, id).await?;
            change(&mut calling.call, &calling.chat_transaction)?;
            calling.commit_changes(conn, app).await
        })
        .await?;
    app.publish_outcome(told);
    Ok(call)
}

/// Lets pass what was to happen in a call by a moment of its own accord: that at which all who are here have
/// been noted.
pub async fn process_due(app: &AppContext, id: CallId, now: DateTime<Utc>) -> Result<()> {
    let mut conn = app.database.write().await?;
    let told = conn
        .transaction(async move |conn| {
            // A chat that is no more took its calls along.
            let Some(chat) = chats::lock(conn, &[id.chat]).await?.pop() else { return Ok(None) };
            let writing = ChatTransaction::new(ChatAccess { chat, membership: None }, app.clock.now());
            let rules = call_timeouts(&app.config.calls);
            let mut calling = CallTransaction::load(conn, writing, id).await?;
            calling.call.advance_all(&rules, now);
            if calling.call == calling.previous {
                // Nothing else writes down when it is next to be looked at, by the rules of now.
                calls::set_due_at(conn, id, calling.call.due_at(&rules)).await?;
            }
            Ok(Some(calling.commit_changes(conn, app).await?.0))
        })
        .await?;
    told.map(|told| app.publish_outcome(told));
    Ok(())
}

/// A call and its chat under their locks, the chat's first.
struct CallTransaction {
    chat_transaction: ChatTransaction,
    previous: Call,
    call: Call,
}

impl CallTransaction {
    /// A call of a chat that the viewer is in; of others they know nothing.
    async fn lock(conn: &mut Conn, app: &AppContext, viewer: &Viewer, id: CallId) -> Result<Self> {
        let (writing, _) = ChatTransaction::lock_for_member(conn, app, viewer, id.chat, "call").await?;
        Self::load_advanced(conn, app, writing, id).await
    }

    async fn load_advanced(conn: &mut Conn, app: &AppContext, writing: ChatTransaction, id: CallId) -> Result<Self> {
        let mut calling = Self::load(conn, writing, id).await?;
        calling.call.advance(&call_timeouts(&app.config.calls), calling.chat_transaction.now);
        Ok(calling)
    }

    async fn load(conn: &mut Conn, writing: ChatTransaction, id: CallId) -> Result<Self> {
        let former = calls::lock(conn, id).await?.ok_or(Error::NotFound("call"))?;
        Ok(Self { chat_transaction: writing, call: former.clone(), previous: former })
    }

    /// Writes what became of the call.
    async fn commit_changes(self, conn: &mut Conn, app: &AppContext) -> Result<(CommitOutcome, Arc<Call>)> {
        let Self { chat_transaction: mut writing, previous: former, call } = self;
        let call = record_call_change(conn, app, &mut writing, &former, call).await?;
        Ok((writing.commit_changes(conn).await?, Arc::new(call)))
    }
}

/// Writes a call that may have changed, with what its chat and its people are to be told of it.
async fn record_call_change(
    conn: &mut Conn,
    app: &AppContext,
    writing: &mut ChatTransaction,
    former: &Call,
    mut call: Call,
) -> Result<Call> {
    if call == *former {
        return Ok(call);
    }
    if call.state_changed_at != former.state_changed_at {
        // Not when its time had come: who asks what changed since asks for what they could not know.
        call.state_changed_at = writing.now;
    }
    calls::update(conn, former, &call, call.due_at(&call_timeouts(&app.config.calls))).await?;
    let mut told_at = None;
    if let Some((_, reason)) = call.end.filter(|_| !former.has_ended()) {
        let kind = match reason {
            CallEndReason::Completed | CallEndReason::Declined => SystemMessageKind::CallEnded,
            CallEndReason::Missed | CallEndReason::Cancelled | CallEndReason::Failed => SystemMessageKind::CallMissed,
        };
        told_at = Some(writing.call_system_message(kind, &call));
        writing.record_chat_change();
        call_signaling::prune(conn, call.id, call.version).await?;
        METRICS.calls_ended.get_or_create(&KindLabel { kind: reason.into() }).inc();
    }
    let missed: Vec<MemberId> = newly_missed_users(former, &call).collect();
    if !missed.is_empty() {
        for member in members::by_ids(conn, &missed).await?.iter().filter(|member| Member::is_active(member)) {
            writing.notify_missed_call(member, &call, told_at);
        }
    }
    // What only who follows the call is to know concerns no lists of calls.
    let told = call_hint(&call);
    let people = if changes_call_list(former, &call) { told.user_ids } else { Vec::new() };
    writing.record_call(CallHint { user_ids: people, ..told });
    Ok(call)
}

/// One who is taken out of the chat is out of its call, in the same transaction.
pub async fn remove_participant(
    conn: &mut Conn,
    app: &AppContext,
    writing: &mut ChatTransaction,
    user: &UserId,
) -> Result<()> {
    let Some(live) = calls::active(conn, &[writing.chat().id]).await?.pop() else { return Ok(()) };
    if live.participant(user).is_none() {
        return Ok(());
    }
    let Some(former) = calls::lock(conn, live.id).await? else { return Ok(()) };
    let mut call = former.clone();
    call.remove(user, writing.now);
    record_call_change(conn, app, writing, &former, call).await.map(drop)
}

fn call_hint(call: &Call) -> CallHint {
    let people = call.participants.iter().map(|participant| participant.user.clone()).collect();
    CallHint { call: call.id, version: call.version, user_ids: people, signal_recipient: None }
}

/// Whether it is another step of the call, or somebody is elsewhere in it.
fn changes_call_list(former: &Call, call: &Call) -> bool {
    let places = |call: &Call| {
        let place = |participant: &Participant| (participant.status, participant.joined_version);
        call.participants.iter().map(place).collect::<Vec<_>>()
    };
    former.status() != call.status() || places(former) != places(call)
}

/// For whom it rang until it was over.
fn newly_missed_users(former: &Call, call: &Call) -> impl Iterator<Item = MemberId> {
    let is_missed = |participant: &Participant| participant.status == ParticipantStatus::Missed;
    let was_missed = move |user: &UserId| former.participant(user).is_some_and(is_missed);
    let missed = call.participants.iter().filter(move |participant| is_missed(participant));
    missed
        .filter(move |participant| !was_missed(&participant.user))
        .map(|participant| MemberId { chat: call.id.chat, user: participant.user.clone() })
}

/// The calls among these that the reader may know of: of chats that they are in.
pub async fn by_ids(app: &AppContext, reader: ReadScope<'_>, ids: &[CallId]) -> Result<HashMap<CallId, Arc<Call>>> {
    let mut conn = app.database.read().await?;
    let open = ChatAccess::retain_readable(&mut conn, reader, ids, |id| id.chat).await?;
    let found = calls::by_ids(&mut conn, &open).await?;
    Ok(found.into_iter().map(|call| (call.id, Arc::new(call))).collect())
}

/// The calls that are on in these chats, of those that the reader is in.
pub async fn active(app: &AppContext, reader: ReadScope<'_>, chats: &[ChatId]) -> Result<HashMap<ChatId, Arc<Call>>> {
    let mut conn = app.database.read().await?;
    let open = ChatAccess::retain_readable(&mut conn, reader, chats, |chat| *chat).await?;
    let found = calls::active(&mut conn, &open).await?;
    Ok(found.into_iter().map(|call| (call.id.chat, Arc::new(call))).collect())
}

/// The calls in which the viewer had a part, the newest first.
pub async fn page(app: &AppContext, viewer: &Viewer, filter: &CallFilter, args: &PageArgs) -> Result<Page<Call>> {
    require_permission(&viewer.permissions, Permission::ChatView)?;
    let window = args.window::<uuid::Uuid>(PageEnd::First)?;
    let mut conn = app.database.read().await?;
    let fetched = calls::page(&mut conn, viewer.organization(), viewer.id(), filter, &window).await?;
    Ok(window.to_page(fetched))
}

/// Spans that one look at an organisation's calls may have.
const MAX_STATISTICS_RANGES: usize = 400;

/// What the organisation's calls came to from a moment on and before another, by spans of so long.
pub async fn statistics(
    app: &AppContext,
    viewer: &Viewer,
    (since, until): TimeRange,
    each: TimeDelta,
) -> Result<Vec<(TimeRange, CallStatistics)>> {
    require_permission(&viewer.permissions, Permission::OrganizationAdmin)?;
    if until <= since {
        return Err(Error::bad_input("until", "must be after since"));
    }
    let mut spans: Vec<TimeRange> = Vec::new();
    let mut from = since;
    while from < until {
        if spans.len() == MAX_STATISTICS_RANGES {
            return Err(Error::bad_input(
                "until",
                format!("must be at most {MAX_STATISTICS_RANGES} periods after since"),
            ));
        }
        let end = from.checked_add_signed(each).map_or(until, |end| end.min(until));
        spans.push((from, end));
        from = end;
    }
    let mut conn = app.database.read().await?;
    let totals = calls::statistics(&mut conn, viewer.organization(), &spans).await?;
    Ok(spans.into_iter().zip(totals).collect())
}
