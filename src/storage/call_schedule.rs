//! The deadlines of calls, and the leases of their participants.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use diesel::dsl::min;
use diesel::prelude::*;

use crate::domain::buckets::Bucket;
use crate::domain::calls::ParticipantStatus;
use crate::domain::ids::{CallId, ConnectionId, ParticipantId, UserId};
use crate::error::Result;
use crate::storage::calls::{call_id, is_of_call};
use crate::storage::column_types::{TextValue, TimestampValue, UuidValue, call_key};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::organizations::is_served;
use crate::storage::schema::{call_participants, calls};
use crate::storage::sql::conditions::Conditions;
use crate::storage::sql::keys::{all_buckets, keys_in};
use crate::storage::sql::statement_cache::MAX_ROWS;

/// Returns up to `limit` calls with a passed deadline, and up to `limit` with an expired lease.
///
/// It reads every shard and locks nothing: the caller processes each call in a transaction of its own.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn due_calls(conn: &mut Conn, now: DateTime<Utc>, limit: i64) -> Result<Vec<CallId>> {
    let mut rows: Vec<(UuidValue, UuidValue)> = calls::table
        .filter(all_buckets(calls::bucket))
        .filter(calls::due_at.assume_not_null().le(TimestampValue(now)))
        .filter(is_served("calls"))
        .order(calls::due_at)
        .limit(limit)
        .select((calls::chat_id, calls::id))
        .load(conn)
        .await?;
    let disconnected: Vec<(UuidValue, UuidValue)> = call_participants::table
        .inner_join(calls::table.on(is_of_call()))
        .filter(all_buckets(call_participants::bucket))
        .filter(call_participants::expires_at.assume_not_null().le(TimestampValue(now)))
        .filter(is_served("call_participants"))
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
/// It reads every shard.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn next_due_at(conn: &mut Conn) -> Result<Option<DateTime<Utc>>> {
    // With these conditions the partial indexes serve, which have only the calls that have not ended.
    let deadline: Option<TimestampValue> = calls::table
        .filter(all_buckets(calls::bucket))
        .filter(calls::due_at.is_not_null())
        .filter(is_served("calls"))
        .select(min(calls::due_at))
        .get_result(conn)
        .await?;
    let lease_end: Option<TimestampValue> = call_participants::table
        .filter(all_buckets(call_participants::bucket))
        .filter(call_participants::expires_at.is_not_null())
        .filter(is_served("call_participants"))
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
    diesel::update(calls::table.find(call_key(id)))
        .set(calls::due_at.eq(due_at.map(TimestampValue)))
        .execute(conn)
        .await?;
    Ok(())
}

/// Renews the leases of connections in calls, and returns those without a recorded open feed.
///
/// The caller has no open transaction, so that none has rows of two buckets.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn renew_leases(
    conn: &mut Conn,
    connections: &[ConnectionId],
    until: DateTime<Utc>,
) -> Result<Vec<ConnectionId>> {
    let joined: &str = ParticipantStatus::Joined.into();
    let mut without_feed = Vec::new();
    for chunk in connections.chunks(MAX_ROWS) {
        let rows: Vec<(UuidValue, TextValue<UserId>, i32, bool)> = call_participants::table
            .filter(of_participants(chunk.iter().map(|id| &id.participant)))
            .filter(call_participants::status.eq(joined))
            .filter(is_served("call_participants"))
            .select((
                call_participants::call_id,
                call_participants::user_id,
                call_participants::joins,
                call_participants::listening,
            ))
            .load(conn)
            .await?;
        let present: HashMap<(UuidValue, &str), (i32, bool)> =
            rows.iter().map(|(call, user, join, listening)| ((*call, user.0.as_str()), (*join, *listening))).collect();
        let mut with_feed: BTreeMap<Bucket, Vec<&ParticipantId>> = BTreeMap::new();
        for id in chunk {
            let ParticipantId { call, user } = &id.participant;
            match present.get(&(UuidValue(call.call), user.as_str())) {
                Some((join, true)) if *join == id.join => {
                    with_feed.entry(call.bucket()).or_default().push(&id.participant)
                }
                Some((join, false)) if *join == id.join => without_feed.push(id.clone()),
                // The feed of a former join does not keep the present one in the call.
                _ => {}
            }
        }
        for (bucket, participants) in with_feed {
            diesel::update(call_participants::table)
                .filter(call_participants::bucket.eq(bucket.number()))
                .filter(of_participants(participants))
                .filter(call_participants::status.eq(joined))
                .filter(call_participants::listening)
                .set(call_participants::expires_at.eq(Some(TimestampValue(until))))
                .execute(conn)
                .await?;
        }
    }
    Ok(without_feed)
}

/// Returns the condition that rows are those of participants.
fn of_participants<'a>(participants: impl IntoIterator<Item = &'a ParticipantId>) -> Conditions<'a> {
    let keys = participants.into_iter().map(|ParticipantId { call, user }| {
        let (bucket, id) = call_key(*call);
        (bucket, id, user.as_str())
    });
    let columns = (call_participants::bucket, call_participants::call_id, call_participants::user_id);
    Conditions::new().and(keys_in(columns, keys))
}

/// Extends all leases to at least a time, in one bucket after the other.
///
/// While no server ran, no participant could renew its lease. The caller has no open transaction, so that none has rows
/// of two buckets.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn extend_leases(conn: &mut Conn, until: DateTime<Utc>) -> Result<()> {
    let ends_before = || call_participants::expires_at.assume_not_null().lt(TimestampValue(until));
    // It reads every shard.
    let buckets: Vec<i32> = call_participants::table
        .filter(all_buckets(call_participants::bucket))
        .filter(ends_before())
        .filter(is_served("call_participants"))
        .select(call_participants::bucket)
        .distinct()
        .load(conn)
        .await?;
    for bucket in buckets {
        diesel::update(call_participants::table)
            .filter(call_participants::bucket.eq(bucket))
            .filter(ends_before())
            .filter(is_served("call_participants"))
            .set(call_participants::expires_at.eq(Some(TimestampValue(until))))
            .execute(conn)
            .await?;
    }
    Ok(())
}
