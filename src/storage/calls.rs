//! Calls and their participants.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use diesel::dsl::{count, count_star, min, sql};
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Double};

use crate::domain::calls::{
    Call, CallEndReason, CallFilter, CallKind, CallStatistics, Media, Participant, ParticipantStatus, Quality,
    TimeRange,
};
use crate::domain::ids::{CallId, ChatId, OrganizationId, ParticipantId, UserId};
use crate::domain::pagination::PageWindow;
use crate::error::Result;
use crate::storage::column_types::{TextValue, TimestampValue, UuidValue};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::{call_participants, calls, members};
use crate::storage::sql::columns::columns;
use crate::storage::sql::conditions::Conditions;
use crate::storage::sql::for_update::for_update;
use crate::storage::sql::insert_many::insert_many;
use crate::storage::sql::pairs::pairs_in;
use crate::storage::sql::statement_cache::MAX_ROWS;
use crate::storage::sql::union_all::{load_union, union_all};

/// The columns of a call, without its participants.
#[derive(Queryable, Selectable)]
#[diesel(table_name = calls, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct CallRow {
    id: UuidValue,
    chat_id: UuidValue,
    organization_id: TextValue<OrganizationId>,
    kind: TextValue<CallKind>,
    started_by: TextValue<UserId>,
    started_at: TimestampValue,
    rings_until: TimestampValue,
    answered_at: Option<TimestampValue>,
    alone_since: Option<TimestampValue>,
    ended_at: Option<TimestampValue>,
    end_reason: Option<TextValue<CallEndReason>>,
    version: i64,
    own_version: i64,
    changed_at: TimestampValue,
    forgotten: i64,
}

impl CallRow {
    fn into_call(self, participants: Vec<Participant>) -> Call {
        Call {
            id: call_id(self.chat_id, self.id),
            organization: self.organization_id.0,
            kind: self.kind.0,
            started_by: self.started_by.0,
            started_at: self.started_at.0,
            rings_until: self.rings_until.0,
            answered_at: self.answered_at.map(|at| at.0),
            sole_participant_since: self.alone_since.map(|at| at.0),
            end: self.ended_at.zip(self.end_reason).map(|(at, reason)| (at.0, reason.0)),
            version: self.version,
            state_version: self.own_version,
            state_changed_at: self.changed_at.0,
            signals_pruned_to: self.forgotten,
            participants,
        }
    }
}

fn call_id(chat: UuidValue, call: UuidValue) -> CallId {
    CallId { chat: ChatId(chat.0), call: call.0 }
}

/// The columns of a participant.
#[derive(Queryable, Selectable)]
#[diesel(table_name = call_participants, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct ParticipantRow {
    call_id: UuidValue,
    user_id: TextValue<UserId>,
    device_id: String,
    status: TextValue<ParticipantStatus>,
    joined_at: Option<TimestampValue>,
    left_at: Option<TimestampValue>,
    expires_at: Option<TimestampValue>,
    audio: bool,
    video: bool,
    screen: bool,
    listening: bool,
    version: i64,
    joined_version: i64,
    forgotten: i64,
    reports: i32,
    round_trip_ms: f64,
    packet_loss_percent: f64,
    bitrate_kbps: f64,
}

impl From<ParticipantRow> for Participant {
    fn from(row: ParticipantRow) -> Self {
        Self {
            user: row.user_id.0,
            device: row.device_id,
            status: row.status.0,
            joined_at: row.joined_at.map(|at| at.0),
            left_at: row.left_at.map(|at| at.0),
            media: Media { audio: row.audio, video: row.video, screen: row.screen },
            version: row.version,
            joined_version: row.joined_version,
            signals_pruned_to: row.forgotten,
            lease_expires_at: row.expires_at.map(|at| at.0),
            has_open_feed: row.listening,
            quality: Quality {
                reports: row.reports,
                round_trip_ms: row.round_trip_ms,
                packet_loss_percent: row.packet_loss_percent,
                bitrate_kbps: row.bitrate_kbps,
            },
        }
    }
}

/// Loads the participants of calls and returns the calls with them.
async fn with_participants(conn: &mut Conn, calls: Vec<CallRow>) -> Result<Vec<Call>> {
    if calls.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<ParticipantRow> = call_participants::table
        .filter(call_participants::call_id.eq_any(calls.iter().map(|call| call.id)))
        .order((call_participants::call_id, call_participants::place))
        .select(columns::<ParticipantRow>())
        .load(conn)
        .await?;
    let mut participants: HashMap<UuidValue, Vec<Participant>> = HashMap::new();
    for row in rows {
        participants.entry(row.call_id).or_default().push(row.into());
    }
    let calls = calls.into_iter().map(|row| {
        let participants = participants.remove(&row.id).unwrap_or_default();
        row.into_call(participants)
    });
    Ok(calls.collect())
}

/// Inserts a call with its participants.
///
/// # Errors
///
/// Returns an error if a statement fails.
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

/// The columns of a participant that change only under the call's lock.
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

/// The columns that say whether a participant is connected, which change without the call's lock too.
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

/// Inserts the participants from an index on.
async fn insert_participants(conn: &mut Conn, call: &Call, first: usize) -> Result<()> {
    let rows = call.participants.iter().zip(0_i32..).skip(first).map(|(participant, index)| {
        (
            call_participants::call_id.eq(UuidValue(call.id.call)),
            call_participants::user_id.eq(participant.user.as_str()),
            call_participants::organization_id.eq(call.organization.as_str()),
            call_participants::place.eq(index),
            ParticipantState::from(participant),
            PresenceLease::from(participant),
        )
    });
    if first < call.participants.len() {
        insert_many(call_participants::table, rows).execute(conn).await?;
    }
    Ok(())
}

/// Writes the difference between a call and `former`, which is the call as it was read.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn update(conn: &mut Conn, former: &Call, call: &Call, due_at: Option<DateTime<Utc>>) -> Result<()> {
    let talk_millis = call.duration().map_or(0, |duration| duration.num_milliseconds());
    diesel::update(calls::table.filter(calls::id.eq(UuidValue(call.id.call))))
        .set((
            calls::answered_at.eq(call.answered_at.map(TimestampValue)),
            calls::alone_since.eq(call.sole_participant_since.map(TimestampValue)),
            calls::ended_at.eq(call.end.map(|(at, _)| TimestampValue(at))),
            calls::end_reason.eq(call.end.map(|(_, reason)| <&str>::from(reason))),
            calls::talked.eq(talk_millis),
            calls::due_at.eq(due_at.map(TimestampValue)),
            calls::version.eq(call.version),
            calls::own_version.eq(call.state_version),
            calls::changed_at.eq(TimestampValue(call.state_changed_at)),
        ))
        .execute(conn)
        .await?;
    let changed = former.participants.iter().zip(&call.participants).filter(|(former, current)| former != current);
    for (former, participant) in changed {
        let target = || call_participants::table.find((UuidValue(call.id.call), participant.user.as_str()));
        diesel::update(target()).set(ParticipantState::from(participant)).execute(conn).await?;
        let lease = PresenceLease::from(participant);
        if lease != PresenceLease::from(former) {
            diesel::update(target()).set(lease).execute(conn).await?;
        }
    }
    insert_participants(conn, call, former.participants.len()).await
}

/// Returns a call, locked until the transaction ends.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn lock(conn: &mut Conn, id: CallId) -> Result<Option<Call>> {
    let query = calls::table
        .filter(calls::id.eq(UuidValue(id.call)))
        .filter(calls::chat_id.eq(UuidValue(id.chat.0)))
        .select(columns::<CallRow>());
    let rows: Vec<CallRow> = for_update(query).load(conn).await?;
    Ok(with_participants(conn, rows).await?.pop())
}

/// Returns calls by their ids; a call is found only by the id that names its chat.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn by_ids(conn: &mut Conn, ids: &[CallId]) -> Result<Vec<Call>> {
    let rows: Vec<CallRow> = calls::table
        .filter(pairs_in((calls::id, calls::chat_id), ids.iter().map(|id| (UuidValue(id.call), UuidValue(id.chat.0)))))
        .select(columns::<CallRow>())
        .load(conn)
        .await?;
    with_participants(conn, rows).await
}

/// Returns the calls in these chats that have not ended.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn active(conn: &mut Conn, chats: &[ChatId]) -> Result<Vec<Call>> {
    let rows: Vec<CallRow> = calls::table
        .filter(calls::chat_id.eq_any(chats.iter().map(|chat| UuidValue(chat.0))))
        .filter(calls::ended_at.is_null())
        .select(columns::<CallRow>())
        .load(conn)
        .await?;
    with_participants(conn, rows).await
}

/// Returns the calls that a user was part of, newest first, in chats that the user is a member of.
///
/// It returns one call more than the window shows, if there are more.
///
/// # Errors
///
/// Returns an error if a statement fails.
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
    let user_chats = members::table
        .filter(members::user_id.eq(user.as_str()))
        .filter(members::left_at.is_null())
        .filter(members::organization_id.eq(organization.as_str()))
        .select(members::chat_id);
    let rows: Vec<CallRow> = call_participants::table
        .inner_join(calls::table.on(calls::id.eq(call_participants::call_id)))
        .filter(call_participants::organization_id.eq(organization.as_str()))
        .filter(call_participants::user_id.eq(user.as_str()))
        .filter(calls::chat_id.eq_any(user_chats))
        .filter(conditions)
        .order(call_participants::call_id.desc())
        .limit(window.fetch_limit())
        .select(columns::<CallRow>())
        .load(conn)
        .await?;
    with_participants(conn, rows).await
}

/// Returns up to `limit` of a user's calls, newest first, with the time of their last change.
///
/// These are the calls that changed since a time or, without a time, the calls that ring for the user.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn by_participant(
    conn: &mut Conn,
    organization: &OrganizationId,
    user: &UserId,
    since: Option<DateTime<Utc>>,
    limit: i64,
) -> Result<Vec<(CallId, DateTime<Utc>)>> {
    // The partial index has this condition as literal text.
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

/// Returns whether a user is in a call, or a call rings for them.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn is_in_call(conn: &mut Conn, organization: &OrganizationId, user: &UserId) -> Result<bool> {
    let (ringing, joined) = (<&str>::from(ParticipantStatus::Ringing), <&str>::from(ParticipantStatus::Joined));
    let rows: Vec<UuidValue> = call_participants::table
        .filter(call_participants::organization_id.eq(organization.as_str()))
        .filter(call_participants::user_id.eq(user.as_str()))
        .filter(call_participants::status.eq(ringing).or(call_participants::status.eq(joined)))
        .limit(1)
        .select(call_participants::call_id)
        .load(conn)
        .await?;
    Ok(!rows.is_empty())
}

/// Returns up to `limit` calls with a passed deadline, and up to `limit` with an expired lease.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn due_calls(conn: &mut Conn, now: DateTime<Utc>, limit: i64) -> Result<Vec<CallId>> {
    let mut rows: Vec<(UuidValue, UuidValue)> = calls::table
        .filter(calls::due_at.assume_not_null().le(TimestampValue(now)))
        .order(calls::due_at)
        .limit(limit)
        .select((calls::chat_id, calls::id))
        .load(conn)
        .await?;
    let disconnected: Vec<(UuidValue, UuidValue)> = call_participants::table
        .inner_join(calls::table.on(calls::id.eq(call_participants::call_id)))
        .filter(call_participants::expires_at.assume_not_null().le(TimestampValue(now)))
        .order(call_participants::expires_at)
        .limit(limit)
        .select((calls::chat_id, calls::id))
        .load(conn)
        .await?;
    rows.extend(disconnected);
    let ids: BTreeSet<CallId> = rows.into_iter().map(|(chat, call)| call_id(chat, call)).collect();
    Ok(ids.into_iter().collect())
}

/// Returns the earliest deadline or end of a lease of all calls.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn next_due_at(conn: &mut Conn) -> Result<Option<DateTime<Utc>>> {
    // With these conditions the partial indexes serve, which have only the calls that have not ended.
    let deadline: Option<TimestampValue> =
        calls::table.filter(calls::due_at.is_not_null()).select(min(calls::due_at)).get_result(conn).await?;
    let lease_end: Option<TimestampValue> = call_participants::table
        .filter(call_participants::expires_at.is_not_null())
        .select(min(call_participants::expires_at))
        .get_result(conn)
        .await?;
    Ok(deadline.into_iter().chain(lease_end).map(|at| at.0).min())
}

/// Sets the next deadline of a call.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn set_due_at(conn: &mut Conn, id: CallId, due_at: Option<DateTime<Utc>>) -> Result<()> {
    let call = calls::table.filter(calls::id.eq(UuidValue(id.call)));
    diesel::update(call).set(calls::due_at.eq(due_at.map(TimestampValue))).execute(conn).await?;
    Ok(())
}

/// Returns the versions of calls.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn versions(conn: &mut Conn, ids: &[CallId]) -> Result<Vec<(CallId, i64)>> {
    let mut versions = Vec::new();
    for chunk in ids.chunks(MAX_ROWS) {
        let rows: Vec<(UuidValue, UuidValue, i64)> = calls::table
            .filter(calls::id.eq_any(chunk.iter().map(|id| UuidValue(id.call))))
            .select((calls::chat_id, calls::id, calls::version))
            .load(conn)
            .await?;
        versions.extend(rows.into_iter().map(|(chat, call, version)| (call_id(chat, call), version)));
    }
    Ok(versions)
}

/// Renews the leases of joined participants and records whether they have a feed of the call open.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn renew_leases(
    conn: &mut Conn,
    participants: &[ParticipantId],
    listening: bool,
    until: DateTime<Utc>,
) -> Result<()> {
    let joined: &str = ParticipantStatus::Joined.into();
    for chunk in participants.chunks(MAX_ROWS) {
        let keys = chunk.iter().map(|id| (UuidValue(id.call.call), id.user.as_str()));
        diesel::update(call_participants::table)
            .filter(pairs_in((call_participants::call_id, call_participants::user_id), keys))
            .filter(call_participants::status.eq(joined))
            .set(PresenceLease { expires_at: Some(TimestampValue(until)), listening })
            .execute(conn)
            .await?;
    }
    Ok(())
}

/// Extends all leases to at least a time.
///
/// While no server ran, no participant could renew its lease.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn extend_leases(conn: &mut Conn, until: DateTime<Utc>) -> Result<()> {
    diesel::update(call_participants::table)
        .filter(call_participants::expires_at.assume_not_null().lt(TimestampValue(until)))
        .set(call_participants::expires_at.eq(Some(TimestampValue(until))))
        .execute(conn)
        .await?;
    Ok(())
}

/// Returns statistics of the calls of an organisation that started in each of several ranges of time.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn statistics(
    conn: &mut Conn,
    organization: &OrganizationId,
    ranges: &[TimeRange],
) -> Result<Vec<CallStatistics>> {
    let parts = ranges.iter().zip(0_i64..).map(|((from, until), number)| {
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
    let rows_by_range: Vec<Vec<EndReasonRow>> = load_union(conn, ranges.len(), union_all(parts)).await?;
    Ok(rows_by_range.into_iter().map(sum_statistics).collect())
}

/// An end reason, its number of calls, its number of answered calls, and their talk seconds.
type EndReasonRow = (TextValue<CallEndReason>, i64, i64, f64);

fn sum_statistics(rows: Vec<EndReasonRow>) -> CallStatistics {
    let mut totals = CallStatistics::default();
    for (reason, calls, answered, talk_seconds) in rows {
        totals.calls += calls;
        totals.answered += answered;
        totals.talk_seconds += talk_seconds;
        match reason.0 {
            CallEndReason::Missed | CallEndReason::Failed | CallEndReason::Cancelled => totals.missed += calls,
            CallEndReason::Declined => totals.declined += calls,
            CallEndReason::Completed => {}
        }
    }
    totals
}

/// Returns the SQL for a sum of talk times in seconds.
///
/// The cast is needed because the engines give a sum of integers different types.
fn talk_seconds() -> SqlLiteral<Double> {
    sql("CAST(sum(calls.talked) AS DOUBLE PRECISION) / 1000")
}
