//! The settings of the database. `config` reads them from the environment.

use std::time::Duration;

use strum::EnumString;

use crate::storage::engine::Engine;
use crate::storage::read_queue::ReadLimits;

/// The number of connections that read a SQLite file.
///
/// Few are enough: reading pages from memory takes a fraction of a millisecond.
pub const SQLITE_READERS: usize = 6;

/// The way in which a server that starts treats migrations that its database lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum MigrationMode {
    /// Run them.
    Auto,
    /// Refuse to start. `parlor migrate` runs them.
    Check,
    /// Do not look whether there are any.
    Off,
}

/// The database and the limits of its connections.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// The engine, with the file or the server that contains the database.
    pub engine: Engine,
    /// The way in which a server that starts treats migrations that the database lacks.
    pub migration_mode: MigrationMode,
    /// The maximum number of connections to PostgreSQL.
    pub max_connections: usize,
    /// The time for which a request waits for a connection.
    pub wait_timeout: Duration,
    /// The time limit of a statement on PostgreSQL, and of a query on SQLite.
    pub statement_timeout: Duration,
    /// The maximum number of reads of one organization that run at the same time.
    pub reads_per_organization: usize,
    /// The maximum number of reads of one user that run at the same time.
    pub reads_per_user: usize,
}

impl DatabaseSettings {
    /// Returns the settings of a unit test.
    #[cfg(test)]
    pub fn for_test(engine: Engine) -> Self {
        Self {
            engine,
            migration_mode: MigrationMode::Auto,
            max_connections: 2,
            wait_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(5),
            reads_per_organization: 4,
            reads_per_user: 4,
        }
    }

    /// Returns the numbers of reads on behalf of clients that run at the same time.
    ///
    /// The server's own reads, and on PostgreSQL transactions that write, find other connections in the pool.
    pub fn read_limits(&self) -> ReadLimits {
        let total = match self.engine {
            Engine::Postgres(_) => self.max_connections - (self.max_connections / 4).max(1),
            Engine::Sqlite(_) => SQLITE_READERS - 1,
        };
        ReadLimits::new(total, self.reads_per_organization, self.reads_per_user)
    }
}
