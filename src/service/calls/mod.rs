//! Calls: starting, joining and ending them, and what came of it.

pub mod ice_servers;
pub mod scheduler;
pub mod signaling;

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use crate::access::{Access, Reader};
use crate::config::CallsConfig;
use crate::domain::calls::{
    Call, CallEndReason, CallFilter, CallKind, CallRefusal, CallRules, CallTotals, Media, Participant,
    ParticipantStatus, Quality, Span,
};
use crate::domain::chat_events::Called;
use crate::domain::chats::{ChatAction, ChatKind};
use crate::domain::ids::{CallId, ChatId, MemberId, ParticipantId, UserId};
use crate::domain::members::{Member, Role};
use crate::domain::messages::NoticeKind;
use crate::domain::pagination::{End, Page, PageArgs};
use crate::domain::rights::require;
use crate::domain::text;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::metrics::{Kind, METRICS};
use crate::service::chat_transaction::{Told, Writing};
use crate::service::context::App;
use crate::storage::connection::Conn;
use crate::storage::{call_signaling, calls, chats, members};

/// The rules of this server.
pub fn rules(config: &CallsConfig) -> CallRules {
    let delta = |duration| TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX);
    CallRules {
        ring: delta(config.ring),
        alone: delta(config.alone),
        lost: delta(config.lost),
        most: config.participants,
    }
}

/// By which device somebody comes in, and what it sends.
pub struct Device {
    id: String,
    media: Media,
}

impl Device {
    pub fn new(id: &str, media: Media) -> Result<Self> {
        Ok(Self { id: text::line("deviceId", id, Call::MAX_DEVICE)?, media })
    }

    /// The viewer comes into a call by it.
    fn join(self, call: &mut Call, app: &App, viewer: &Viewer, now: DateTime<Utc>) -> Result<(), CallRefusal> {
        call.join(viewer.id(), self.id, self.media, &rules(&app.config.calls), now)
    }
}

/// Starts a call; where one is on in the chat, the viewer joins that: two who call each other at once meet.
pub async fn start(app: &App, viewer: &Viewer, chat: ChatId, kind: CallKind, device: Device) -> Result<Arc<Call>> {
    app.limits.call(viewer)?;
    let mut conn = app.store.write().await?;
    let (told, call) = conn
        .transaction(async move |conn| {
            let writing = Writing::lock(conn, app, viewer, chat).await?;
            writing.rights(viewer).can(ChatAction::StartCall)?;
            let Some(live) = calls::live(conn, &[chat]).await?.pop() else {
                return begin(conn, app, viewer, writing, kind, device).await;
            };
            let mut calling = Calling::of(conn, app, writing, live.id).await?;
            if !calling.call.has_ended() {
                device.join(&mut calling.call, app, viewer, calling.writing.now)?;
                return calling.finish(conn, app).await;
            }
            // Its time had come, and nobody had looked yet.
            let Calling { mut writing, former, call } = calling;
            write(conn, app, &mut writing, &former, call).await?;
            begin(conn, app, viewer, writing, kind, device).await
        })
        .await?;
    app.tell(told);
    Ok(call)
}

async fn begin(
    conn: &mut Conn,
    app: &App,
    viewer: &Viewer,
    mut writing: Writing,
    kind: CallKind,
    device: Device,
) -> Result<(Told, Arc<Call>)> {
    let rules = rules(&app.config.calls);
    let chat = writing.chat();
    let rings = usize::try_from(chat.member_count).is_ok_and(|count| count <= app.config.calls.ring_members);
    let others = if rings { members::active(conn, chat.id).await? } else { Vec::new() };
    let others = others.into_iter().map(|member| member.user).filter(|user| user != viewer.id());
    let (id, organization) = (CallId::new(chat.id), chat.organization.clone());
    let Device { id: device, media } = device;
    let by = viewer.id().clone();
    let call = Call::start(id, organization, kind, by, device, media, others, &rules, writing.now);
    calls::insert(conn, &call, call.due_at(&rules)).await?;
    writing.notice_of_call(NoticeKind::CallStarted, &call);
    writing.chat_changed();
    writing.called(called(&call));
    Ok((writing.finish(conn).await?, Arc::new(call)))
}

/// Comes into a call.
pub async fn join(app: &App, viewer: &Viewer, id: CallId, device: Device) -> Result<Arc<Call>> {
    app.limits.call(viewer)?;
    change(app, viewer, id, |call, writing| Ok(device.join(call, app, viewer, writing.now)?)).await
}

/// The call is not to ring for the viewer any more.
pub async fn decline(app: &App, viewer: &Viewer, id: CallId) -> Result<Arc<Call>> {
    app.limits.call_signal(viewer)?;
    change(app, viewer, id, |call, writing| Ok(call.decline(viewer.id(), writing.now)?)).await
}

/// Goes out of a call.
pub async fn leave(app: &App, viewer: &Viewer, id: &ParticipantId) -> Result<Arc<Call>> {
    is_own(viewer, id)?;
    app.limits.call_signal(viewer)?;
    change(app, viewer, id.call, |call, writing| Ok(call.leave(viewer.id(), writing.now)?)).await
}

/// What the viewer sends of themselves.
pub async fn set_media(app: &App, viewer: &Viewer, id: &ParticipantId, media: Media) -> Result<Arc<Call>> {
    is_own(viewer, id)?;
    app.limits.call_signal(viewer)?;
    change(app, viewer, id.call, |call, writing| Ok(call.set_media(viewer.id(), media, writing.now)?)).await
}

/// What the viewer's device found out about its connections.
pub async fn report(app: &App, viewer: &Viewer, id: &ParticipantId, quality: Quality) -> Result<Arc<Call>> {
    is_own(viewer, id)?;
    let within = |field: &'static str, value: f64, most: f64| match (0.0..=most).contains(&value) {
        true => Ok(()),
        false => Err(Error::bad_input(field, format!("must be from 0 to {most}"))),
    };
    within("roundTripMs", quality.round_trip_ms, 60_000.0)?;
    within("packetLossPercent", quality.packet_loss_percent, 100.0)?;
    within("bitrateKbps", quality.bitrate_kbps, 10_000_000.0)?;
    app.limits.call_signal(viewer)?;
    change(app, viewer, id.call, |call, writing| Ok(call.report(viewer.id(), &quality, writing.now)?)).await
}

/// Ends a call for all: in a direct chat either of the two, elsewhere who started it and moderators.
pub async fn end(app: &App, viewer: &Viewer, id: CallId) -> Result<Arc<Call>> {
    app.limits.call_signal(viewer)?;
    let end = |call: &mut Call, writing: &Writing| {
        if writing.chat().kind != ChatKind::Direct && call.started_by != *viewer.id() {
            writing.rights(viewer).at_least(Role::Moderator)?;
        }
        call.end(viewer.id(), writing.now);
        Ok(())
    };
    change(app, viewer, id, end).await
}

/// A participant is told of and changed by who it is alone.
pub(super) fn is_own(viewer: &Viewer, id: &ParticipantId) -> Result<()> {
    if id.user == *viewer.id() { Ok(()) } else { Err(Error::NotFound("participant")) }
}

/// Changes a call of a chat that the viewer is in, after what was to happen in it by now.
async fn change(
    app: &App,
    viewer: &Viewer,
    id: CallId,
    change: impl FnOnce(&mut Call, &Writing) -> Result<()> + Send,
) -> Result<Arc<Call>> {
    let mut conn = app.store.write().await?;
    let (told, call) = conn
        .transaction(async move |conn| {
            let mut calling = Calling::lock(conn, app, viewer, id).await?;
            change(&mut calling.call, &calling.writing)?;
            calling.finish(conn, app).await
        })
        .await?;
    app.tell(told);
    Ok(call)
}

/// Lets pass what was to happen in a call by a moment of its own accord: that at which all who are here have
/// been noted.
pub async fn look(app: &App, id: CallId, now: DateTime<Utc>) -> Result<()> {
    let mut conn = app.store.write().await?;
    let told = conn
        .transaction(async move |conn| {
            // A chat that is no more took its calls along.
            let Some(chat) = chats::lock(conn, &[id.chat]).await?.pop() else { return Ok(None) };
            let writing = Writing::new(Access { chat, row: None }, app.clock.now());
            let rules = rules(&app.config.calls);
            let mut calling = Calling::load(conn, writing, id).await?;
            calling.call.pass_all(&rules, now);
            if calling.call == calling.former {
                // Nothing else writes down when it is next to be looked at, by the rules of now.
                calls::set_due(conn, id, calling.call.due_at(&rules)).await?;
            }
            Ok(Some(calling.finish(conn, app).await?.0))
        })
        .await?;
    told.map(|told| app.tell(told));
    Ok(())
}

/// A call and its chat under their locks, the chat's first.
struct Calling {
    writing: Writing,
    former: Call,
    call: Call,
}

impl Calling {
    /// A call of a chat that the viewer is in; of others they know nothing.
    async fn lock(conn: &mut Conn, app: &App, viewer: &Viewer, id: CallId) -> Result<Self> {
        let (writing, _) = Writing::lock_to_read(conn, app, viewer, id.chat, "call").await?;
        Self::of(conn, app, writing, id).await
    }

    async fn of(conn: &mut Conn, app: &App, writing: Writing, id: CallId) -> Result<Self> {
        let mut calling = Self::load(conn, writing, id).await?;
        calling.call.pass(&rules(&app.config.calls), calling.writing.now);
        Ok(calling)
    }

    async fn load(conn: &mut Conn, writing: Writing, id: CallId) -> Result<Self> {
        let former = calls::lock(conn, id).await?.ok_or(Error::NotFound("call"))?;
        Ok(Self { writing, call: former.clone(), former })
    }

    /// Writes what became of the call.
    async fn finish(self, conn: &mut Conn, app: &App) -> Result<(Told, Arc<Call>)> {
        let Self { mut writing, former, call } = self;
        let call = write(conn, app, &mut writing, &former, call).await?;
        Ok((writing.finish(conn).await?, Arc::new(call)))
    }
}

/// Writes a call that may have changed, with what its chat and its people are to be told of it.
async fn write(conn: &mut Conn, app: &App, writing: &mut Writing, former: &Call, mut call: Call) -> Result<Call> {
    if call == *former {
        return Ok(call);
    }
    if call.changed_at != former.changed_at {
        // Not when its time had come: who asks what changed since asks for what they could not know.
        call.changed_at = writing.now;
    }
    calls::update(conn, former, &call, call.due_at(&rules(&app.config.calls))).await?;
    let mut told_at = None;
    if let Some((_, reason)) = call.end.filter(|_| !former.has_ended()) {
        let kind = match reason {
            CallEndReason::Completed | CallEndReason::Declined => NoticeKind::CallEnded,
            CallEndReason::Missed | CallEndReason::Cancelled | CallEndReason::Failed => NoticeKind::CallMissed,
        };
        told_at = Some(writing.notice_of_call(kind, &call));
        writing.chat_changed();
        call_signaling::forget(conn, call.id, call.version).await?;
        METRICS.calls.get_or_create(&Kind { kind: reason.into() }).inc();
    }
    let missed: Vec<MemberId> = newly_missed(former, &call).collect();
    if !missed.is_empty() {
        for member in members::by_ids(conn, &missed).await?.iter().filter(|member| Member::is_active(member)) {
            writing.notify_missed(member, &call, told_at);
        }
    }
    // What only who follows the call is to know concerns no lists of calls.
    let told = called(&call);
    let people = if has_moved_on(former, &call) { told.people } else { Vec::new() };
    writing.called(Called { people, ..told });
    Ok(call)
}

/// One who is taken out of the chat is out of its call, in the same transaction.
pub async fn remove(conn: &mut Conn, app: &App, writing: &mut Writing, user: &UserId) -> Result<()> {
    let Some(live) = calls::live(conn, &[writing.chat().id]).await?.pop() else { return Ok(()) };
    if live.participant(user).is_none() {
        return Ok(());
    }
    let Some(former) = calls::lock(conn, live.id).await? else { return Ok(()) };
    let mut call = former.clone();
    call.remove(user, writing.now);
    write(conn, app, writing, &former, call).await.map(drop)
}

fn called(call: &Call) -> Called {
    let people = call.participants.iter().map(|participant| participant.user.clone()).collect();
    Called { call: call.id, version: call.version, people, to: None }
}

/// Whether it is another step of the call, or somebody is elsewhere in it.
fn has_moved_on(former: &Call, call: &Call) -> bool {
    let places = |call: &Call| {
        let place = |participant: &Participant| (participant.status, participant.joined_version);
        call.participants.iter().map(place).collect::<Vec<_>>()
    };
    former.status() != call.status() || places(former) != places(call)
}

/// For whom it rang until it was over.
fn newly_missed(former: &Call, call: &Call) -> impl Iterator<Item = MemberId> {
    let is_missed = |participant: &Participant| participant.status == ParticipantStatus::Missed;
    let was_missed = move |user: &UserId| former.participant(user).is_some_and(is_missed);
    let missed = call.participants.iter().filter(move |participant| is_missed(participant));
    missed
        .filter(move |participant| !was_missed(&participant.user))
        .map(|participant| MemberId { chat: call.id.chat, user: participant.user.clone() })
}

/// The calls among these that the reader may know of: of chats that they are in.
pub async fn by_ids(app: &App, reader: Reader<'_>, ids: &[CallId]) -> Result<HashMap<CallId, Arc<Call>>> {
    let mut conn = app.store.read().await?;
    let open = Access::open(&mut conn, reader, ids, |id| id.chat).await?;
    let found = calls::by_ids(&mut conn, &open).await?;
    Ok(found.into_iter().map(|call| (call.id, Arc::new(call))).collect())
}

/// The calls that are on in these chats, of those that the reader is in.
pub async fn live(app: &App, reader: Reader<'_>, chats: &[ChatId]) -> Result<HashMap<ChatId, Arc<Call>>> {
    let mut conn = app.store.read().await?;
    let open = Access::open(&mut conn, reader, chats, |chat| *chat).await?;
    let found = calls::live(&mut conn, &open).await?;
    Ok(found.into_iter().map(|call| (call.id.chat, Arc::new(call))).collect())
}

/// The calls in which the viewer had a part, the newest first.
pub async fn page(app: &App, viewer: &Viewer, filter: &CallFilter, args: &PageArgs) -> Result<Page<Call>> {
    require(&viewer.permissions, Permission::ChatView)?;
    let window = args.window::<uuid::Uuid>(End::First)?;
    let mut conn = app.store.read().await?;
    let fetched = calls::page(&mut conn, viewer.organization(), viewer.id(), filter, &window).await?;
    Ok(window.page(fetched))
}

/// Spans that one look at an organisation's calls may have.
const MOST_SPANS: usize = 400;

/// What the organisation's calls came to from a moment on and before another, by spans of so long.
pub async fn totals(
    app: &App,
    viewer: &Viewer,
    (since, until): Span,
    each: TimeDelta,
) -> Result<Vec<(Span, CallTotals)>> {
    require(&viewer.permissions, Permission::OrganizationAdmin)?;
    if until <= since {
        return Err(Error::bad_input("until", "must be after since"));
    }
    let mut spans: Vec<Span> = Vec::new();
    let mut from = since;
    while from < until {
        if spans.len() == MOST_SPANS {
            return Err(Error::bad_input("until", format!("must be at most {MOST_SPANS} periods after since")));
        }
        let end = from.checked_add_signed(each).map_or(until, |end| end.min(until));
        spans.push((from, end));
        from = end;
    }
    let mut conn = app.store.read().await?;
    let totals = calls::totals(&mut conn, viewer.organization(), &spans).await?;
    Ok(spans.into_iter().zip(totals).collect())
}
