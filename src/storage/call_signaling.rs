//! Signals between the devices in a call, which are stored until the call has ended.

use diesel::dsl::max;
use diesel::prelude::*;
use serde_json::Value;

use crate::domain::call_signaling::{Signal, SignalKind};
use crate::domain::ids::{CallId, UserId};
use crate::error::Result;
use crate::storage::column_types::{TextValue, UuidValue};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::{call_participants, call_signals, calls};
use crate::storage::sql::columns::columns;

/// The columns of a signal.
#[derive(Queryable, Selectable)]
#[diesel(table_name = call_signals, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct SignalRow {
    version: i64,
    from_id: TextValue<UserId>,
    to_id: TextValue<UserId>,
    kind: TextValue<SignalKind>,
    payload: Value,
}

impl From<SignalRow> for Signal {
    fn from(row: SignalRow) -> Self {
        Self { version: row.version, from: row.from_id.0, to: row.to_id.0, kind: row.kind.0, payload: row.payload }
    }
}

/// Inserts a signal and writes its version as the call's.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn insert(conn: &mut Conn, call: CallId, signal: &Signal) -> Result<()> {
    diesel::insert_into(call_signals::table)
        .values((
            call_signals::call_id.eq(UuidValue(call.call)),
            call_signals::version.eq(signal.version),
            call_signals::from_id.eq(signal.from.as_str()),
            call_signals::to_id.eq(signal.to.as_str()),
            call_signals::kind.eq(<&str>::from(signal.kind)),
            call_signals::payload.eq(&signal.payload),
        ))
        .execute(conn)
        .await?;
    diesel::update(calls::table.filter(calls::id.eq(UuidValue(call.call))))
        .set(calls::version.eq(signal.version))
        .execute(conn)
        .await?;
    Ok(())
}

/// Returns up to `limit` signals to a user after a version, in their order.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn after_version(
    conn: &mut Conn,
    call: CallId,
    to: &UserId,
    version: i64,
    limit: i64,
) -> Result<Vec<Signal>> {
    let rows: Vec<SignalRow> = call_signals::table
        .filter(call_signals::call_id.eq(UuidValue(call.call)))
        .filter(call_signals::to_id.eq(to.as_str()))
        .filter(call_signals::version.gt(version))
        .order(call_signals::version)
        .limit(limit)
        .select(columns::<SignalRow>())
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(Signal::from).collect())
}

/// Deletes the signals of a call up to a version.
///
/// It records the version with the recipients of these signals, so that their feeds notice the gap.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn prune(conn: &mut Conn, call: CallId, up_to: i64) -> Result<()> {
    let of_call = call_signals::call_id.eq(UuidValue(call.call)).and(call_signals::version.le(up_to));
    let recipients: Vec<(String, Option<i64>)> = call_signals::table
        .filter(of_call)
        .group_by(call_signals::to_id)
        .select((call_signals::to_id, max(call_signals::version)))
        .load(conn)
        .await?;
    for (user, version) in recipients {
        diesel::update(call_participants::table.find((UuidValue(call.call), user)))
            .set(call_participants::forgotten.eq(version.unwrap_or_default()))
            .execute(conn)
            .await?;
    }
    diesel::delete(call_signals::table.filter(of_call)).execute(conn).await?;
    diesel::update(calls::table.filter(calls::id.eq(UuidValue(call.call))))
        .set(calls::forgotten.eq(up_to))
        .execute(conn)
        .await?;
    Ok(())
}
