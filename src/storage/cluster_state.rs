//! The state that all nodes of one installation share: the key of their messages, and how far their clocks are.

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use crate::error::Result;
use crate::storage::column_types::TimestampValue;
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::cluster_state;
use crate::storage::sql::database_time::DatabaseTime;

/// The id of the only row.
const ROW_ID: i32 = 1;

/// The row that all nodes share, and the time of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterState {
    /// The key that authenticates messages between nodes.
    pub message_key: Vec<u8>,
    /// A time that the clock of some node has reached.
    pub clock: DateTime<Utc>,
    /// The time of the database's machine; `None` on SQLite, which has no other clock than this process.
    pub database_time: Option<DateTime<Utc>>,
}

/// Returns the shared row, if a node has created it.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn find(conn: &mut Conn) -> Result<Option<ClusterState>> {
    let rows: Vec<(Vec<u8>, TimestampValue, Option<TimestampValue>)> = cluster_state::table
        .filter(cluster_state::id.eq(ROW_ID))
        .select((cluster_state::message_key, cluster_state::clock, DatabaseTime))
        .load(conn)
        .await?;
    Ok(rows.into_iter().next().map(|(message_key, clock, database_time)| ClusterState {
        message_key,
        clock: clock.0,
        database_time: database_time.map(|time| time.0),
    }))
}

/// Creates the shared row, unless another node has done it.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn insert(conn: &mut Conn, message_key: &[u8], clock: DateTime<Utc>) -> Result<()> {
    diesel::insert_into(cluster_state::table)
        .values((
            cluster_state::id.eq(ROW_ID),
            cluster_state::message_key.eq(message_key),
            cluster_state::clock.eq(TimestampValue(clock)),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(())
}

/// Records that the clock of a node has reached a time, if no other node was further.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn advance_clock(conn: &mut Conn, to: DateTime<Utc>) -> Result<()> {
    let behind = cluster_state::table.filter(cluster_state::clock.lt(TimestampValue(to)));
    diesel::update(behind).set(cluster_state::clock.eq(TimestampValue(to))).execute(conn).await?;
    Ok(())
}
