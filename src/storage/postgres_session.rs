//! A session with PostgreSQL: its connection, the code of its last error, and the limits that the server enforces.

use std::time::Duration;

use diesel::result::Error as DatabaseError;

use crate::storage::errors::Failure;
use crate::storage::postgres_transport::PgTransport;
use crate::storage::session::{PostgresConn, Session, TransactionLimits};
use crate::storage::sqlstate::LastSqlState;
use crate::tasks::spawn_detached;

/// The time after which the server ends a transaction without a statement.
///
/// It may be that of a node that is paused. The row locks of such a transaction would stop other nodes.
const IDLE_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest time for which a statement waits for one lock.
const MAX_LOCK_TIMEOUT: Duration = Duration::from_millis(1_500);
/// The time by which the server's limit is shorter than the client's.
///
/// A server that works answers first. Its answer leaves the connection usable, while a statement without an answer
/// costs the connection.
const SERVER_LEAD: Duration = Duration::from_millis(250);
/// The time limit of a request to cancel a statement.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// The limits that PostgreSQL enforces by itself, whatever happens to this process or to the network.
#[derive(Debug, Clone, Copy)]
pub struct ServerLimits {
    statement: Duration,
    lock: Duration,
    idle_in_transaction: Duration,
}

impl ServerLimits {
    /// Returns the limits that belong to a time limit of statements.
    pub fn new(statement_timeout: Duration) -> Self {
        let statement = statement_timeout.saturating_sub(SERVER_LEAD).max(SERVER_LEAD);
        Self { statement, lock: MAX_LOCK_TIMEOUT.min(statement / 2), idle_in_transaction: IDLE_TRANSACTION_TIMEOUT }
    }

    /// Returns the names of the parameters, with their values.
    fn parameters(self) -> [(&'static str, Duration); 3] {
        [
            ("statement_timeout", self.statement),
            ("lock_timeout", self.lock),
            ("idle_in_transaction_session_timeout", self.idle_in_transaction),
        ]
    }

    /// Returns the limits as options of the command line, which a connection sends at its start.
    pub fn startup_options(self) -> String {
        let options = self.parameters().map(|(name, value)| format!("-c {name}={}", value.as_millis()));
        options.join(" ")
    }
}

/// A connection to PostgreSQL with what belongs to it.
pub struct PostgresSession {
    conn: PostgresConn,
    transport: PgTransport,
    last_error: LastSqlState,
    /// The limits that each transaction has to set, because the session could not set them at its start.
    unset_limits: Option<ServerLimits>,
}

impl PostgresSession {
    /// Completes an open connection.
    pub fn new(
        conn: PostgresConn,
        transport: PgTransport,
        last_error: LastSqlState,
        unset_limits: Option<ServerLimits>,
    ) -> Self {
        Self { conn, transport, last_error, unset_limits }
    }

    /// Returns the SQLSTATE of the last error, or an empty text.
    pub fn last_sqlstate(&self) -> String {
        self.last_error.get()
    }

    /// Returns the connection without its session, and the SQLSTATE of the connection's last error.
    pub fn into_parts(self) -> (PostgresConn, LastSqlState) {
        (self.conn, self.last_error)
    }

    /// Returns the statements that follow `BEGIN` in a transaction with these limits.
    ///
    /// `SET LOCAL` ends with the transaction. A pooler in transaction mode would hand the effect of `SET` to others.
    pub fn transaction_settings(&self, limits: TransactionLimits) -> String {
        let defaults = self.unset_limits.map(ServerLimits::parameters);
        let own = [("statement_timeout", limits.statement), ("lock_timeout", limits.lock)];
        let own = own.into_iter().filter_map(|(name, value)| Some((name, value?)));
        // Later settings replace earlier ones.
        let settings = defaults.into_iter().flatten().chain(own);
        settings.map(|(name, value)| format!("; SET LOCAL {name} = {}", value.as_millis().max(1))).collect()
    }
}

impl Session for PostgresSession {
    type Raw = PostgresConn;

    fn raw(&mut self) -> &mut PostgresConn {
        &mut self.conn
    }

    fn failure_of(&self, error: &DatabaseError) -> Failure {
        Failure::of_postgres(error, &self.last_error.get())
    }

    /// Asks the server on a connection of its own.
    ///
    /// A server that waits for a lock does not see that its client has gone, and would keep the session until then.
    fn cancel_statement(&self) {
        let (token, transport) = (self.conn.cancel_token(), self.transport.clone());
        drop(spawn_detached(async move {
            // The request is a courtesy: it gets no answer, and a server that hangs does not read it.
            drop(tokio::time::timeout(CANCEL_TIMEOUT, token.cancel_query(transport)).await);
            Ok(())
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_limits_are_shorter_than_the_time_limit_of_statements() {
        let limits = ServerLimits::new(Duration::from_secs(4));
        let expected = "-c statement_timeout=3750 -c lock_timeout=1500 -c idle_in_transaction_session_timeout=3000";
        assert_eq!(limits.startup_options(), expected);
    }

    #[test]
    fn server_limits_are_positive_for_the_shortest_setting() {
        assert_eq!(ServerLimits::new(Duration::from_millis(1)).statement, SERVER_LEAD);
    }
}
