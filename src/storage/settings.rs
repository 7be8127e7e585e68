//! The settings of the database. `config` reads them from the environment.

use std::time::Duration;

use crate::storage::pool::Engine;

/// The database and the limits of its connections.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// The engine, with the file or the server that contains the database.
    pub engine: Engine,
    /// The maximum number of connections to PostgreSQL.
    pub max_connections: usize,
    /// The time for which a request waits for a connection.
    pub acquire_timeout: Duration,
}
