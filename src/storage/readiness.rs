//! Checks whether the database can serve requests: at the start, and for the readiness of a node.

use diesel::dsl::sql;
use diesel::select;
use diesel::sql_types::{Bool, Integer};

use crate::error::{Error, Result};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::errors::Failure;
use crate::storage::pool::Database;

/// The number of bytes that a check of PostgreSQL's disk writes, more than the free room of a page.
const CHECK_BYTES: usize = 100_000;

/// The message about a database in which the server cannot write.
const READ_ONLY: &str = "the database is read-only, and the server has to write: name the primary, or make it writable";

/// Returns the reason why the database cannot serve requests, if there is one.
///
/// A change is tried only while changes fail, so that a check usually costs one statement.
pub async fn unready_reason(database: &Database) -> Option<&'static str> {
    match check(database).await {
        Ok(failure) => failure.map(Failure::message),
        Err(Error::Unavailable { message, .. }) => Some(message),
        Err(error) => {
            tracing::warn!(%error, "the readiness of the database could not be checked");
            Some(Failure::Internal.message())
        }
    }
}

async fn check(database: &Database) -> Result<Option<Failure>> {
    let mut conn = database.read().await?;
    if is_read_only(&mut conn).await? {
        database.conditions.record_failure(Failure::ReadOnly, "it is a standby, or read-only by default");
        return Ok(Some(Failure::ReadOnly));
    }
    drop(conn);
    let Some(failure) = database.conditions.preventing_changes() else { return Ok(None) };
    let mut conn = database.write().await?;
    if let Err(error) = write(&mut conn).await {
        return Ok(Some(conn.last_failure().filter(|it| *it != Failure::Internal).unwrap_or_else(|| {
            tracing::debug!(%error, "a change to check the database failed");
            failure
        })));
    }
    database.conditions.record_writable();
    Ok(None)
}

/// Checks at the start that the database can be reached and accepts changes.
///
/// Another process that holds a lock of a SQLite file is no reason to fail: it does not hold it for long.
///
/// # Errors
///
/// Returns the reason in words.
pub async fn require_writable(database: &Database) -> Result<(), String> {
    // The pools would hide the reason why no connection can be opened.
    match database.try_connect().await {
        Ok(()) => {}
        Err(error) if error.failure == Failure::ReadOnly => return Err(READ_ONLY.into()),
        Err(error) if error.failure == Failure::Locked => return Ok(()),
        Err(error) => return Err(error.to_string()),
    }
    let mut conn = database.write().await.map_err(|error| error.to_string())?;
    let is_read_only = match conn {
        Conn::Postgres(_) => is_read_only(&mut conn).await.map_err(|error| error.to_string())?,
        Conn::Sqlite(_) => write(&mut conn).await.is_err() && conn.last_failure() == Some(Failure::ReadOnly),
    };
    if is_read_only { Err(READ_ONLY.into()) } else { Ok(()) }
}

/// Returns true for a standby, and where transactions are read-only by default.
async fn is_read_only(conn: &mut Conn) -> Result<bool> {
    if matches!(conn, Conn::Sqlite(_)) {
        conn.check_alive().await?;
        return Ok(false);
    }
    let is_read_only = "pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool";
    select(sql::<Bool>(is_read_only)).get_result(conn).await
}

/// Commits a change that changes nothing.
async fn write(conn: &mut Conn) -> Result<()> {
    conn.transaction(async |conn| {
        let statement = match conn {
            // Its rows take room on the disk of the database. It disappears with the transaction.
            Conn::Postgres(_) => format!(
                "CREATE TEMPORARY TABLE parlor_write_check ON COMMIT DROP AS SELECT repeat('x', {CHECK_BYTES}) AS text"
            ),
            // SQLite writes the page of a number that is set, even to the same value.
            Conn::Sqlite(_) => {
                let version = sql::<Integer>("(SELECT user_version FROM pragma_user_version)");
                let version: i32 = select(version).get_result(conn).await?;
                format!("PRAGMA user_version = {version}")
            }
        };
        conn.batch_execute(&statement).await
    })
    .await
}
