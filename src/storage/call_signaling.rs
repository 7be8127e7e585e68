//! What devices in a call tell each other, for as long as the call lasts.

use diesel::dsl::max;
use diesel::prelude::*;

use crate::domain::call_signaling::Signal;
use crate::domain::ids::{CallId, UserId};
use crate::error::Result;
use crate::storage::column_types::{UuidValue, parse_column};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::{call_participants, call_signals, calls};

/// Keeps a signal, which took the call's next version.
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

/// A person's signals after a version, in their order.
pub async fn after_version(
    conn: &mut Conn,
    call: CallId,
    to: &UserId,
    version: i64,
    limit: i64,
) -> Result<Vec<Signal>> {
    let rows: Vec<(i64, String, String, String, serde_json::Value)> = call_signals::table
        .filter(call_signals::call_id.eq(UuidValue(call.call)))
        .filter(call_signals::to_id.eq(to.as_str()))
        .filter(call_signals::version.gt(version))
        .order(call_signals::version)
        .limit(limit)
        .select((
            call_signals::version,
            call_signals::from_id,
            call_signals::to_id,
            call_signals::kind,
            call_signals::payload,
        ))
        .load(conn)
        .await?;
    let signal = |(version, from, to, kind, payload): (i64, String, String, String, _)| {
        Ok(Signal { version, from: parse_column(&from)?, to: parse_column(&to)?, kind: parse_column(&kind)?, payload })
    };
    rows.into_iter().map(signal).collect()
}

/// Forgets the signals of a call up to a version, and notes whose they were: they know that they lack some.
pub async fn prune(conn: &mut Conn, call: CallId, up_to: i64) -> Result<()> {
    let of_call = call_signals::call_id.eq(UuidValue(call.call)).and(call_signals::version.le(up_to));
    let lost: Vec<(String, Option<i64>)> = call_signals::table
        .filter(of_call)
        .group_by(call_signals::to_id)
        .select((call_signals::to_id, max(call_signals::version)))
        .load(conn)
        .await?;
    for (user, version) in lost {
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
