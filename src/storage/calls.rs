//! Calls and their participants.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::dsl::{And, Eq, sql};
use diesel::prelude::*;
use diesel::sql_types::Bool;

use crate::domain::calls::{
    Call, CallEndReason, CallFilter, CallKind, DeclineReason, Departure, Media, Participant, ParticipantStatus, Quality,
};
use crate::domain::ids::{CallFeedId, CallId, ChatId, ConnectionId, OrganizationId, ParticipantId, UserId};
use crate::domain::pagination::PageWindow;
use crate::error::Result;
use crate::storage::column_types::{TextValue, TimestampValue, UuidValue, call_key, chat_key};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::{call_participants, calls, members};
use crate::storage::sql::columns::columns;
use crate::storage::sql::conditions::Conditions;
use crate::storage::sql::for_update::for_update;
use crate::storage::sql::insert_many::insert_many;
use crate::storage::sql::keys::{all_buckets, keys_in};
use crate::storage::sql::statement_cache::MAX_ROWS;

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
    host_id: TextValue<UserId>,
}

impl CallRow {
    fn into_call(self, participants: Vec<Participant>) -> Call {
        Call {
            id: call_id(self.chat_id, self.id),
            organization: self.organization_id.0,
            kind: self.kind.0,
            started_by: self.started_by.0,
            host: self.host_id.0,
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

/// Returns the id of a call, whose two parts are columns of their own.
pub fn call_id(chat: UuidValue, call: UuidValue) -> CallId {
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
    joins: i32,
    departure: Option<TextValue<Departure>>,
    feed_id: Option<UuidValue>,
    decline_reason: Option<TextValue<DeclineReason>>,
    barred: bool,
}

impl From<ParticipantRow> for Participant {
    fn from(row: ParticipantRow) -> Self {
        Self {
            user: row.user_id.0,
            device: row.device_id,
            status: row.status.0,
            joined_at: row.joined_at.map(|at| at.0),
            left_at: row.left_at.map(|at| at.0),
            departure: row.departure.map(|departure| departure.0),
            media: Media { audio: row.audio, video: row.video, screen: row.screen },
            version: row.version,
            joined_version: row.joined_version,
            joins: row.joins,
            signals_pruned_to: row.forgotten,
            lease_expires_at: row.expires_at.map(|at| at.0),
            has_open_feed: row.listening,
            feed: row.feed_id.map(|feed| CallFeedId(feed.0)),
            decline_reason: row.decline_reason.map(|reason| reason.0),
            is_barred: row.barred,
            quality: Quality {
                reports: row.reports,
                round_trip_ms: row.round_trip_ms,
                packet_loss_percent: row.packet_loss_percent,
                bitrate_kbps: row.bitrate_kbps,
            },
        }
    }
}

/// Returns the condition that joins participants with their calls.
pub fn is_of_call() -> And<Eq<calls::bucket, call_participants::bucket>, Eq<calls::id, call_participants::call_id>> {
    calls::bucket.eq(call_participants::bucket).and(calls::id.eq(call_participants::call_id))
}

/// Loads the participants of calls and returns the calls with them.
async fn with_participants(conn: &mut Conn, calls: Vec<CallRow>) -> Result<Vec<Call>> {
    if calls.is_empty() {
        return Ok(Vec::new());
    }
    let keys = calls.iter().map(|call| call_key(call_id(call.chat_id, call.id)));
    let rows: Vec<ParticipantRow> = call_participants::table
        .filter(keys_in((call_participants::bucket, call_participants::call_id), keys))
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
                calls::bucket.eq(call.id.bucket().number()),
                calls::id.eq(UuidValue(call.id.call)),
                calls::organization_id.eq(call.organization.as_str()),
                calls::chat_id.eq(UuidValue(call.id.chat.0)),
                calls::kind.eq(<&str>::from(call.kind)),
                calls::started_by.eq(call.started_by.as_str()),
                calls::started_at.eq(TimestampValue(call.started_at)),
                calls::rings_until.eq(TimestampValue(call.rings_until)),
                calls::answered_at.eq(call.answered_at.map(TimestampValue)),
                calls::alone_since.eq(call.sole_participant_since.map(TimestampValue)),
            ),
            (
                calls::due_at.eq(due_at.map(TimestampValue)),
                calls::version.eq(call.version),
                calls::own_version.eq(call.state_version),
                calls::changed_at.eq(TimestampValue(call.state_changed_at)),
                calls::host_id.eq(call.host.as_str()),
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
    joins: i32,
    departure: Option<&'a str>,
    decline_reason: Option<&'a str>,
    barred: bool,
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
            joins: participant.joins,
            departure: participant.departure.map(<&str>::from),
            decline_reason: participant.decline_reason.map(Into::into),
            barred: participant.is_barred,
        }
    }
}

/// The columns that say whether a participant is connected.
///
/// The lease is renewed without the call's lock too.
#[derive(Insertable, AsChangeset, PartialEq)]
#[diesel(table_name = call_participants, treat_none_as_null = true, treat_none_as_default_value = false)]
struct PresenceLease {
    expires_at: Option<TimestampValue>,
    listening: bool,
    feed_id: Option<UuidValue>,
}

impl From<&Participant> for PresenceLease {
    fn from(participant: &Participant) -> Self {
        Self {
            expires_at: participant.lease_expires_at.map(TimestampValue),
            listening: participant.has_open_feed,
            feed_id: participant.feed.map(|feed| UuidValue(feed.0)),
        }
    }
}

/// Inserts the participants from an index on.
async fn insert_participants(conn: &mut Conn, call: &Call, first: usize) -> Result<()> {
    let rows = call.participants.iter().zip(0_i32..).skip(first).map(|(participant, index)| {
        (
            call_participants::bucket.eq(call.id.bucket().number()),
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
    let (bucket, id) = call_key(call.id);
    diesel::update(calls::table.find((bucket, id)))
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
            calls::host_id.eq(call.host.as_str()),
        ))
        .execute(conn)
        .await?;
    let changed = former.participants.iter().zip(&call.participants).filter(|(former, current)| former != current);
    for (former, participant) in changed {
        let target = || call_participants::table.find((bucket, id, participant.user.as_str()));
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
        .filter(calls::bucket.eq(id.bucket().number()))
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
    let keys = ids.iter().map(|id| (id.bucket().number(), UuidValue(id.call), UuidValue(id.chat.0)));
    let rows: Vec<CallRow> = calls::table
        .filter(keys_in((calls::bucket, calls::id, calls::chat_id), keys))
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
        .filter(keys_in((calls::bucket, calls::chat_id), chats.iter().map(|chat| chat_key(*chat))))
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
    let bucket = organization.bucket().number();
    let user_chats = members::table
        .filter(members::bucket.eq(bucket))
        .filter(members::user_id.eq(user.as_str()))
        .filter(members::left_at.is_null())
        .filter(members::organization_id.eq(organization.as_str()))
        .select(members::chat_id);
    let rows: Vec<CallRow> = call_participants::table
        .inner_join(calls::table.on(is_of_call()))
        .filter(call_participants::bucket.eq(bucket))
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
        .inner_join(calls::table.on(is_of_call()))
        .filter(call_participants::bucket.eq(organization.bucket().number()))
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
        .filter(call_participants::bucket.eq(organization.bucket().number()))
        .filter(call_participants::organization_id.eq(organization.as_str()))
        .filter(call_participants::user_id.eq(user.as_str()))
        .filter(call_participants::status.eq(ringing).or(call_participants::status.eq(joined)))
        .limit(1)
        .select(call_participants::call_id)
        .load(conn)
        .await?;
    Ok(!rows.is_empty())
}

/// Returns the connections by which a device of a user is in calls.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn connections_of_device(
    conn: &mut Conn,
    organization: &OrganizationId,
    user: &UserId,
    device: &str,
) -> Result<Vec<ConnectionId>> {
    connections(conn, organization, user, Some(device)).await
}

/// Returns the calls in which a user is.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn joined_by(conn: &mut Conn, organization: &OrganizationId, user: &UserId) -> Result<Vec<CallId>> {
    let connections = connections(conn, organization, user, None).await?;
    Ok(connections.into_iter().map(|connection| connection.participant.call).collect())
}

/// Returns the connections by which a user is in calls, on one device or on all.
async fn connections(
    conn: &mut Conn,
    organization: &OrganizationId,
    user: &UserId,
    device: Option<&str>,
) -> Result<Vec<ConnectionId>> {
    let of_device = Conditions::new().and_option(device.map(|device| call_participants::device_id.eq(device)));
    let rows: Vec<(UuidValue, UuidValue, i32)> = call_participants::table
        .inner_join(calls::table.on(is_of_call()))
        .filter(call_participants::bucket.eq(organization.bucket().number()))
        .filter(call_participants::organization_id.eq(organization.as_str()))
        .filter(call_participants::user_id.eq(user.as_str()))
        // The partial index has this condition as literal text.
        .filter(sql::<Bool>("call_participants.status = 'joined'"))
        .filter(of_device)
        .select((calls::chat_id, calls::id, call_participants::joins))
        .load(conn)
        .await?;
    let connection = |(chat, call, join)| {
        let participant = ParticipantId { call: call_id(chat, call), user: user.clone() };
        ConnectionId { participant, join }
    };
    Ok(rows.into_iter().map(connection).collect())
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
            .filter(keys_in((calls::bucket, calls::id), chunk.iter().map(|id| call_key(*id))))
            .select((calls::chat_id, calls::id, calls::version))
            .load(conn)
            .await?;
        versions.extend(rows.into_iter().map(|(chat, call, version)| (call_id(chat, call), version)));
    }
    Ok(versions)
}

/// Returns the calls that changed since a time with their last changes, the latest first.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn changed_since(conn: &mut Conn, since: DateTime<Utc>, limit: i64) -> Result<Vec<(CallId, DateTime<Utc>)>> {
    let rows: Vec<(UuidValue, UuidValue, TimestampValue)> = calls::table
        // It reads every shard.
        .filter(all_buckets(calls::bucket))
        .filter(calls::changed_at.ge(TimestampValue(since)))
        .order(calls::changed_at.desc())
        .limit(limit)
        .select((calls::chat_id, calls::id, calls::changed_at))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(|(chat, call, at)| (call_id(chat, call), at.0)).collect())
}
