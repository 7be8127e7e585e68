//! The check that no connection pooler loses prepared statements.
//!
//! Every statement is prepared before it runs. A pooler in transaction mode may run it on another connection to the
//! server than it was prepared on. `PgBouncer` prepares it there again, from version 1.21 on if
//! `max_prepared_statements` is set. Earlier versions and other settings make some statements fail, depending on the
//! load.

use std::time::Duration;

use diesel_async::{RunQueryDsl, SimpleAsyncConnection};

use crate::storage::pool::Database;
use crate::storage::postgres_endpoint::{LOST_STATEMENTS, PgEndpoint, is_lost_statement};
use crate::storage::postgres_session::PostgresSession;
use crate::storage::session::Session;

/// The number of times that the pooler is made to assign other connections.
const ROUNDS: usize = 3;
/// The time limit of the check. A pooler with a single connection to the server makes it wait.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

diesel::define_sql_function! {
    /// Returns the id of the server's process, so that the statement's text is always the same.
    fn pg_backend_pid() -> diesel::sql_types::Integer;
}

/// Checks that a prepared statement can be run for as long as its connection lasts.
///
/// # Errors
///
/// Returns the reason in words, as a predicate of the database's address. Another failure is no reason: it shows when
/// the connection is used.
pub async fn require_prepared_statements(database: &Database) -> Result<(), String> {
    let Some(endpoint) = database.postgres_endpoint() else { return Ok(()) };
    match tokio::time::timeout(CHECK_TIMEOUT, are_statements_lost(endpoint)).await {
        Ok(true) => Err(LOST_STATEMENTS.to_owned()),
        Ok(false) | Err(_) => Ok(()),
    }
}

/// Returns true if a prepared statement fails while another connection is in a transaction.
///
/// The transaction keeps the server's connection that the statement was prepared on, if the two share it.
async fn are_statements_lost(endpoint: &PgEndpoint) -> bool {
    let (Ok(mut first), Ok(mut second)) = (endpoint.connect().await, endpoint.connect().await) else { return false };
    for _ in 0..ROUNDS {
        if is_lost(&mut first).await {
            return true;
        }
        if second.raw().batch_execute("BEGIN").await.is_err() {
            return false;
        }
        let is_lost = is_lost(&mut second).await || is_lost(&mut first).await;
        drop(second.raw().batch_execute("ROLLBACK").await);
        if is_lost {
            return true;
        }
    }
    false
}

async fn is_lost(session: &mut PostgresSession) -> bool {
    let statement = diesel::select(pg_backend_pid());
    let result: Result<i32, _> = statement.get_result(session.raw()).await;
    result.is_err() && is_lost_statement(&session.last_sqlstate())
}
