//! Calls, and who is in them.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use diesel::dsl::{count, count_star, min, sql};
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Double};

use crate::domain::calls::{
    Call, CallEndReason, CallFilter, CallStatistics, Media, Participant, ParticipantStatus, Quality, TimeRange,
};
use crate::domain::ids::{CallId, ChatId, OrganizationId, ParticipantId, UserId};
use crate::domain::pagination::PageWindow;
use crate::error::Result;
use crate::storage::column_types::{TimestampValue, UuidValue, parse_column};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::{call_participants, calls, members};
use crate::storage::sql::fragments::{Conditions, ForUpdate, MAX_ROWS, insert_rows, load_union, pairs_in, union_all};

type Columns = (
    (calls::id, calls::chat_id, calls::organization_id, calls::kind, calls::started_by, calls::started_at),
    (calls::rings_until, calls::answered_at, calls::alone_since, calls::ended_at, calls::end_reason),
    (calls::version, calls::own_version, calls::changed_at, calls::forgotten),
);
const COLUMNS: Columns = (
    (calls::id, calls::chat_id, calls::organization_id, calls::kind, calls::started_by, calls::started_at),
    (calls::rings_until, calls::answered_at, calls::alone_since, calls::ended_at, calls::end_reason),
    (calls::version, calls::own_version, calls::changed_at, calls::forgotten),
);

type Row = (
    (UuidValue, UuidValue, String, String, String, TimestampValue),
    (TimestampValue, Option<TimestampValue>, Option<TimestampValue>, Option<TimestampValue>, Option<String>),
    (i64, i64, TimestampValue, i64),
);

fn call_id(chat: UuidValue, call: UuidValue) -> CallId {
    CallId { chat: ChatId(chat.0), call: call.0 }
}

fn call((what, life, log): Row) -> Result<Call> {
    let (id, chat, organization, kind, started_by, started_at) = what;
    let (rings_until, answered_at, alone_since, ended_at, end_reason) = life;
    let (version, own_version, changed_at, forgotten) = log;
    let end = ended_at.zip(end_reason).map(|(at, reason)| Ok::<_, crate::error::Error>((at.0, parse_column(&reason)?)));
    Ok(Call {
        id: call_id(chat, id),
        organization: parse_column(&organization)?,
        kind: parse_column(&kind)?,
        started_by: parse_column(&started_by)?,
        started_at: started_at.0,
        rings_until: rings_until.0,
        answered_at: answered_at.map(|at| at.0),
        sole_participant_since: alone_since.map(|at| at.0),
        end: end.transpose()?,
        version,
        state_version: own_version,
        state_changed_at: changed_at.0,
        signals_pruned_to: forgotten,
        participants: Vec::new(),
    })
}

type InColumns = (
    (call_participants::call_id, call_participants::user_id, call_participants::device_id, call_participants::status),
    (call_participants::joined_at, call_participants::left_at, call_participants::expires_at),
    (call_participants::audio, call_participants::video, call_participants::screen, call_participants::listening),
    (call_participants::version, call_participants::joined_version, call_participants::forgotten),
    (
        call_participants::reports,
        call_participants::round_trip_ms,
        call_participants::packet_loss_percent,
        call_participants::bitrate_kbps,
    ),
);
const IN_COLUMNS: InColumns = (
    (call_participants::call_id, call_participants::user_id, call_participants::device_id, call_participants::status),
    (call_participants::joined_at, call_participants::left_at, call_participants::expires_at),
    (call_participants::audio, call_participants::video, call_participants::screen, call_participants::listening),
    (call_participants::version, call_participants::joined_version, call_participants::forgotten),
    (
        call_participants::reports,
        call_participants::round_trip_ms,
        call_participants::packet_loss_percent,
        call_participants::bitrate_kbps,
    ),
);

type InRow = (
    (UuidValue, String, String, String),
    (Option<TimestampValue>, Option<TimestampValue>, Option<TimestampValue>),
    (bool, bool, bool, bool),
    (i64, i64, i64),
    (i32, f64, f64, f64),
);

fn participant(
    (who, when, (audio, video, screen, is_listening), log, quality): InRow,
) -> Result<(UuidValue, Participant)> {
    let ((call, user, device, status), (joined_at, left_at, expires_at)) = (who, when);
    let (reports, round_trip_ms, packet_loss_percent, bitrate_kbps) = quality;
    let participant = Participant {
        user: parse_column(&user)?,
        device,
        status: parse_column(&status)?,
        joined_at: joined_at.map(|at| at.0),
        left_at: left_at.map(|at| at.0),
        media: Media { audio, video, screen },
        version: log.0,
        joined_version: log.1,
        signals_pruned_to: log.2,
        lease_expires_at: expires_at.map(|at| at.0),
        has_open_feed: is_listening,
        quality: Quality { reports, round_trip_ms, packet_loss_percent, bitrate_kbps },
    };
    Ok((call, participant))
}

/// These calls with who is in them.
async fn with_participants(conn: &mut Conn, rows: Vec<Row>) -> Result<Vec<Call>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut calls = rows.into_iter().map(call).collect::<Result<Vec<_>>>()?;
    let rows: Vec<InRow> = call_participants::table
        .filter(call_participants::call_id.eq_any(calls.iter().map(|call| UuidValue(call.id.call))))
        .order((call_participants::call_id, call_participants::place))
        .select(IN_COLUMNS)
        .load(conn)
        .await?;
    let mut found: HashMap<UuidValue, Vec<Participant>> = HashMap::new();
    for row in rows {
        let (call, participant) = participant(row)?;
        found.entry(call).or_default().push(participant);
    }
    for call in &mut calls {
        call.participants = found.remove(&UuidValue(call.id.call)).unwrap_or_default();
    }
    Ok(calls)
}

/// Writes down a call that begins.
pub async fn insert(conn: &mut Conn, call: &Call, due_at: Option<DateTime<Utc>>) -> Result<()> {
    diesel::insert_into(calls::table)
        .values((
            (
                calls::id.eq(UuidValue(call.id.call)),
                calls::organization_id.eq(call.organization.as_str()),
                calls::chat_id.eq(UuidValue(call.id.chat.0)),
                calls::kind.eq(<&str>::from(call.kind)),
                calls::started_by.eq(call.started_by.as_str()),
                calls::started_at.eq(TimestampValue(call.started_at)),
                calls::rings_until.eq(TimestampValue(call.rings_until)),
            ),
            (
                calls::due_at.eq(due_at.map(TimestampValue)),
                calls::version.eq(call.version),
                calls::own_version.eq(call.state_version),
                calls::changed_at.eq(TimestampValue(call.state_changed_at)),
            ),
        ))
        .execute(conn)
        .await?;
    insert_participants(conn, call, 0).await
}

/// What changes of a participant.
#[derive(Insertable, AsChangeset)]
#[diesel(table_name = call_participants, treat_none_as_null = true, treat_none_as_default_value = false)]
struct ParticipantState<'a> {
    device_id: &'a str,
    status: &'a str,
    joined_at: Option<TimestampValue>,
    left_at: Option<TimestampValue>,
    audio: bool,
    video: bool,
    screen: bool,
    version: i64,
    joined_version: i64,
    reports: i32,
    round_trip_ms: f64,
    packet_loss_percent: f64,
    bitrate_kbps: f64,
}

impl<'a> From<&'a Participant> for ParticipantState<'a> {
    fn from(participant: &'a Participant) -> Self {
        let (media, quality) = (participant.media, participant.quality);
        Self {
            device_id: &participant.device,
            status: participant.status.into(),
            joined_at: participant.joined_at.map(TimestampValue),
            left_at: participant.left_at.map(TimestampValue),
            audio: media.audio,
            video: media.video,
            screen: media.screen,
            version: participant.version,
            joined_version: participant.joined_version,
            reports: quality.reports,
            round_trip_ms: quality.round_trip_ms,
            packet_loss_percent: quality.packet_loss_percent,
            bitrate_kbps: quality.bitrate_kbps,
        }
    }
}

/// Whether a participant is there, which is noted without the call's lock too.
#[derive(Insertable, AsChangeset, PartialEq)]
#[diesel(table_name = call_participants, treat_none_as_null = true, treat_none_as_default_value = false)]
struct PresenceLease {
    expires_at: Option<TimestampValue>,
    listening: bool,
}

impl From<&Participant> for PresenceLease {
    fn from(participant: &Participant) -> Self {
        Self { expires_at: participant.lease_expires_at.map(TimestampValue), listening: participant.has_open_feed }
    }
}

/// Writes down those from this place on.
async fn insert_participants(conn: &mut Conn, call: &Call, from: usize) -> Result<()> {
    let rows = call.participants.iter().zip(0_i32..).skip(from).map(|(participant, place)| {
        (
            call_participants::call_id.eq(UuidValue(call.id.call)),
            call_participants::user_id.eq(participant.user.as_str()),
            call_participants::organization_id.eq(call.organization.as_str()),
            call_participants::place.eq(place),
            ParticipantState::from(participant),
            PresenceLease::from(participant),
        )
    });
    if from < call.participants.len() {
        insert_rows(call_participants::table, rows).execute(conn).await?;
    }
    Ok(())
}

/// Writes a call back that was read as `former`.
pub async fn update(conn: &mut Conn, former: &Call, call: &Call, due_at: Option<DateTime<Utc>>) -> Result<()> {
    let talked = call.duration().map_or(0, |talked| talked.num_milliseconds());
    diesel::update(calls::table.filter(calls::id.eq(UuidValue(call.id.call))))
        .set((
            calls::answered_at.eq(call.answered_at.map(TimestampValue)),
            calls::alone_since.eq(call.sole_participant_since.map(TimestampValue)),
            calls::ended_at.eq(call.end.map(|(at, _)| TimestampValue(at))),
            calls::end_reason.eq(call.end.map(|(_, reason)| <&str>::from(reason))),
            calls::talked.eq(talked),
            calls::due_at.eq(due_at.map(TimestampValue)),
            calls::version.eq(call.version),
            calls::own_version.eq(call.state_version),
            calls::changed_at.eq(TimestampValue(call.state_changed_at)),
        ))
        .execute(conn)
        .await?;
    let changed = former.participants.iter().zip(&call.participants).filter(|(former, now)| former != now);
    for (former, participant) in changed {
        let row = || call_participants::table.find((UuidValue(call.id.call), participant.user.as_str()));
        diesel::update(row()).set(ParticipantState::from(participant)).execute(conn).await?;
        let lease = PresenceLease::from(participant);
        if lease != PresenceLease::from(former) {
            diesel::update(row()).set(lease).execute(conn).await?;
        }
    }
    insert_participants(conn, call, former.participants.len()).await
}

/// A call, locked until the transaction ends.
pub async fn lock(conn: &mut Conn, id: CallId) -> Result<Option<Call>> {
    let query = calls::table
        .filter(calls::id.eq(UuidValue(id.call)))
        .filter(calls::chat_id.eq(UuidValue(id.chat.0)))
        .select(COLUMNS);
    let rows: Vec<Row> = ForUpdate(query).load(conn).await?;
    Ok(with_participants(conn, rows).await?.pop())
}

/// What there is of these: a call of another chat than its id says is none.
pub async fn by_ids(conn: &mut Conn, ids: &[CallId]) -> Result<Vec<Call>> {
    let rows: Vec<Row> = calls::table
        .filter(pairs_in((calls::id, calls::chat_id), ids.iter().map(|id| (UuidValue(id.call), UuidValue(id.chat.0)))))
        .select(COLUMNS)
        .load(conn)
        .await?;
    with_participants(conn, rows).await
}

/// The calls that are on in these chats.
pub async fn active(conn: &mut Conn, chats: &[ChatId]) -> Result<Vec<Call>> {
    let rows: Vec<Row> = calls::table
        .filter(calls::chat_id.eq_any(chats.iter().map(|chat| UuidValue(chat.0))))
        .filter(calls::ended_at.is_null())
        .select(COLUMNS)
        .load(conn)
        .await?;
    with_participants(conn, rows).await
}

/// The calls in which a person had a part, of chats that they are in: the newest first, one more than
/// asked for.
pub async fn page(
    conn: &mut Conn,
    organization: &OrganizationId,
    user: &UserId,
    filter: &CallFilter,
    window: &PageWindow<uuid::Uuid>,
) -> Result<Vec<Call>> {
    let missed: &str = ParticipantStatus::Missed.into();
    let kinds = filter.kinds.as_ref().map(|kinds| kinds.iter().map(<&str>::from).collect::<Vec<_>>());
    let conditions = Conditions::new()
        .and_option(filter.chat.map(|chat| calls::chat_id.eq(UuidValue(chat.0))))
        .and_option(kinds.map(|kinds| calls::kind.eq_any(kinds)))
        .and_option(filter.missed_only.then(|| call_participants::status.eq(missed)))
        .and_option(filter.since.map(|since| calls::started_at.ge(TimestampValue(since))))
        .and_option(filter.until.map(|until| calls::started_at.lt(TimestampValue(until))))
        .and_option(window.after.map(|after| call_participants::call_id.lt(UuidValue(after))));
    let is_in = members::table
        .filter(members::user_id.eq(user.as_str()))
        .filter(members::left_at.is_null())
        .filter(members::organization_id.eq(organization.as_str()))
        .select(members::chat_id);
    let rows: Vec<Row> = call_participants::table
        .inner_join(calls::table.on(calls::id.eq(call_participants::call_id)))
        .filter(call_participants::organization_id.eq(organization.as_str()))
        .filter(call_participants::user_id.eq(user.as_str()))
        .filter(calls::chat_id.eq_any(is_in))
        .filter(conditions)
        .order(call_participants::call_id.desc())
        .limit(window.fetch_limit())
        .select(COLUMNS)
        .load(conn)
        .await?;
    with_participants(conn, rows).await
}

/// A person's calls that changed since a moment, or that ring for them, each with when it changed.
pub async fn by_participant(
    conn: &mut Conn,
    organization: &OrganizationId,
    user: &UserId,
    since: Option<DateTime<Utc>>,
    limit: i64,
) -> Result<Vec<(CallId, DateTime<Utc>)>> {
    // As the index has it.
    let rings = || sql::<Bool>("call_participants.status = 'ringing'");
    let conditions = Conditions::new()
        .and_option(since.map(|since| calls::changed_at.ge(TimestampValue(since))))
        .and_option(since.is_none().then(rings));
    let rows: Vec<(UuidValue, UuidValue, TimestampValue)> = call_participants::table
        .inner_join(calls::table.on(calls::id.eq(call_participants::call_id)))
        .filter(call_participants::organization_id.eq(organization.as_str()))
        .filter(call_participants::user_id.eq(user.as_str()))
        .filter(conditions)
        .order(call_participants::call_id.desc())
        .limit(limit)
        .select((calls::chat_id, calls::id, calls::changed_at))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(|(chat, call, at)| (call_id(chat, call), at.0)).collect())
}

/// Calls whose time to be looked at has come, or that somebody in them did not listen to for too long.
pub async fn due_calls(conn: &mut Conn, now: DateTime<Utc>, limit: i64) -> Result<Vec<CallId>> {
    let mut rows: Vec<(UuidValue, UuidValue)> = calls::table
        .filter(calls::due_at.assume_not_null().le(TimestampValue(now)))
        .order(calls::due_at)
        .limit(limit)
        .select((calls::chat_id, calls::id))
        .load(conn)
        .await?;
    let lost: Vec<(UuidValue, UuidValue)> = call_participants::table
        .inner_join(calls::table.on(calls::id.eq(call_participants::call_id)))
        .filter(call_participants::expires_at.assume_not_null().le(TimestampValue(now)))
        .order(call_participants::expires_at)
        .limit(limit)
        .select((calls::chat_id, calls::id))
        .load(conn)
        .await?;
    rows.extend(lost);
    let ids: BTreeSet<CallId> = rows.into_iter().map(|(chat, call)| call_id(chat, call)).collect();
    Ok(ids.into_iter().collect())
}

/// When the first of all calls has to be looked at.
pub async fn next_due_at(conn: &mut Conn) -> Result<Option<DateTime<Utc>>> {
    // The conditions are those of the indexes, which are as small as what goes on.
    let first: Option<TimestampValue> =
        calls::table.filter(calls::due_at.is_not_null()).select(min(calls::due_at)).get_result(conn).await?;
    let lost: Option<TimestampValue> = call_participants::table
        .filter(call_participants::expires_at.is_not_null())
        .select(min(call_participants::expires_at))
        .get_result(conn)
        .await?;
    Ok(first.into_iter().chain(lost).map(|at| at.0).min())
}

/// When a call has to be looked at.
pub async fn set_due_at(conn: &mut Conn, id: CallId, due_at: Option<DateTime<Utc>>) -> Result<()> {
    let call = calls::table.filter(calls::id.eq(UuidValue(id.call)));
    diesel::update(call).set(calls::due_at.eq(due_at.map(TimestampValue))).execute(conn).await?;
    Ok(())
}

/// How far these calls have come.
pub async fn versions(conn: &mut Conn, ids: &[CallId]) -> Result<Vec<(CallId, i64)>> {
    let mut versions = Vec::new();
    for some in ids.chunks(MAX_ROWS) {
        let rows: Vec<(UuidValue, UuidValue, i64)> = calls::table
            .filter(calls::id.eq_any(some.iter().map(|id| UuidValue(id.call))))
            .select((calls::chat_id, calls::id, calls::version))
            .load(conn)
            .await?;
        versions.extend(rows.into_iter().map(|(chat, call, version)| (call_id(chat, call), version)));
    }
    Ok(versions)
}

/// These listen to their calls, or do no more, and are in until a moment if nothing else is heard.
pub async fn renew_leases(conn: &mut Conn, who: &[ParticipantId], listening: bool, until: DateTime<Utc>) -> Result<()> {
    let joined: &str = ParticipantStatus::Joined.into();
    for some in who.chunks(MAX_ROWS) {
        let keys = some.iter().map(|id| (UuidValue(id.call.call), id.user.as_str()));
        diesel::update(call_participants::table)
            .filter(pairs_in((call_participants::call_id, call_participants::user_id), keys))
            .filter(call_participants::status.eq(joined))
            .set(PresenceLease { expires_at: Some(TimestampValue(until)), listening })
            .execute(conn)
            .await?;
    }
    Ok(())
}

/// Nobody is taken for gone before this moment: while no server ran, nobody could be heard.
pub async fn extend_leases(conn: &mut Conn, until: DateTime<Utc>) -> Result<()> {
    diesel::update(call_participants::table)
        .filter(call_participants::expires_at.assume_not_null().lt(TimestampValue(until)))
        .set(call_participants::expires_at.eq(Some(TimestampValue(until))))
        .execute(conn)
        .await?;
    Ok(())
}

/// What the calls of an organisation came to that began in each of these spans.
pub async fn statistics(
    conn: &mut Conn,
    organization: &OrganizationId,
    spans: &[TimeRange],
) -> Result<Vec<CallStatistics>> {
    let parts = spans.iter().zip(0_i64..).map(|((from, until), number)| {
        calls::table
            .filter(calls::organization_id.eq(organization.as_str()))
            .filter(calls::started_at.ge(TimestampValue(*from)))
            .filter(calls::started_at.lt(TimestampValue(*until)))
            .filter(calls::end_reason.is_not_null())
            .group_by(calls::end_reason)
            .select((
                number.into_sql::<BigInt>(),
                (calls::end_reason.assume_not_null(), count_star(), count(calls::answered_at), talk_seconds()),
            ))
    });
    let found: Vec<Vec<(String, i64, i64, f64)>> = load_union(conn, spans.len(), union_all(parts)).await?;
    let total = |rows: Vec<(String, i64, i64, f64)>| {
        let mut totals = CallStatistics::default();
        for (reason, calls, answered, seconds) in rows {
            totals.calls += calls;
            totals.answered += answered;
            totals.talk_seconds += seconds;
            match parse_column(&reason)? {
                CallEndReason::Missed | CallEndReason::Failed | CallEndReason::Cancelled => totals.missed += calls,
                CallEndReason::Declined => totals.declined += calls,
                CallEndReason::Completed => {}
            }
        }
        Ok(totals)
    };
    found.into_iter().map(total).collect()
}

/// A sum of whole numbers is of another type on each engine.
fn talk_seconds() -> SqlLiteral<Double> {
    sql("CAST(sum(calls.talked) AS DOUBLE PRECISION) / 1000")
}
