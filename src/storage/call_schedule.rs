//! The deadlines of calls, and the leases of their participants.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use diesel::dsl::min;
use diesel::prelude::*;

use crate::domain::calls::ParticipantStatus;
use crate::domain::ids::{CallId, ConnectionId, UserId};
use crate::error::Result;
use crate::storage::calls::call_id;
use crate::storage::column_types::{TextValue, TimestampValue, UuidValue};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::{call_participants, calls};
use crate::storage::sql::pairs::pairs_in;
use crate::storage::sql::statement_cache::MAX_ROWS;

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

/// Renews the leases of connections in a call, and returns those without a recorded open feed.
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
        let keys = || chunk.iter().map(|id| (UuidValue(id.participant.call.call), id.participant.user.as_str()));
        let of_chunk = || pairs_in((call_participants::call_id, call_participants::user_id), keys());
        let rows: Vec<(UuidValue, TextValue<UserId>, i32, bool)> = call_participants::table
            .filter(of_chunk())
            .filter(call_participants::status.eq(joined))
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
        // The feed of a former join does not keep the present one in the call.
        let current = chunk.iter().zip(keys()).filter_map(|(id, key)| {
            present.get(&key).filter(|(join, _)| *join == id.join).map(|(_, listening)| (id, key, *listening))
        });
        let (listening, silent): (Vec<_>, Vec<_>) = current.partition(|(_, _, listening)| *listening);
        without_feed.extend(silent.into_iter().map(|(id, ..)| id.clone()));
        let keys = listening.into_iter().map(|(_, key, _)| key);
        diesel::update(call_participants::table)
            .filter(pairs_in((call_participants::call_id, call_participants::user_id), keys))
            .filter(call_participants::status.eq(joined))
            .filter(call_participants::listening)
            .set(call_participants::expires_at.eq(Some(TimestampValue(until))))
            .execute(conn)
            .await?;
    }
    Ok(without_feed)
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
