//! The connections of both engines, as their pools hold them.

use std::time::Duration;

use diesel::SqliteConnection;
use diesel::result::Error as DatabaseError;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::PoolableConnection;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;

use crate::storage::errors::Failure;
use crate::storage::sqlite_blocking::TokioBlocking;

/// A connection to PostgreSQL.
pub type PostgresConn = AsyncPgConnection;
/// A connection to a SQLite file.
pub type SqliteConn = SyncConnectionWrapper<SqliteConnection, TokioBlocking>;

/// A connection of one engine, as its pool holds it.
pub trait Session: Send + 'static {
    /// The type that runs diesel's statements.
    type Raw: PoolableConnection;

    /// Returns the connection that runs statements.
    fn raw(&mut self) -> &mut Self::Raw;

    /// Returns the kind of the failure of the statement that ran last.
    fn failure_of(&self, error: &DatabaseError) -> Failure;

    /// Asks the server to give up the running statement, without waiting for that.
    fn cancel_statement(&self);
}

/// The limits of a transaction, where they differ from those of its connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct TransactionLimits {
    /// The time for which a statement waits for each lock of a row, on PostgreSQL.
    pub lock: Option<Duration>,
    /// The time limit of each statement, on PostgreSQL.
    pub statement: Option<Duration>,
}
