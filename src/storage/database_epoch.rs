//! The epoch of the database, which cursors of feeds contain.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use crate::domain::cursors::DatabaseEpoch;
use crate::error::{Error, Result};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::database_epoch;

/// Returns the epoch.
///
/// # Errors
///
/// Returns an error if the statement fails or the database has no epoch.
pub async fn load(conn: &mut Conn) -> Result<DatabaseEpoch> {
    let epochs: Vec<i64> = database_epoch::table.select(database_epoch::epoch).load(conn).await?;
    epochs.first().copied().map(DatabaseEpoch).ok_or_else(|| Error::internal("the database has no epoch"))
}

/// Begins a new epoch, whose number the database draws.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn renew(conn: &mut Conn) -> Result<()> {
    let random = match conn {
        Conn::Postgres(_) => "floor((random() - 0.5) * power(2, 63))::bigint",
        Conn::Sqlite(_) => "random()",
    };
    diesel::update(database_epoch::table).set(database_epoch::epoch.eq(sql::<BigInt>(random))).execute(conn).await?;
    Ok(())
}
