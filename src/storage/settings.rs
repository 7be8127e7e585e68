//! The settings of the database. `config` reads them from the environment.

use std::time::Duration;

use strum::EnumString;

use crate::storage::engine::Engine;
use crate::storage::postgres_endpoint::PgEndpoint;
use crate::storage::read_queue::ReadLimits;

/// The number of connections that read a SQLite file.
///
/// Few are enough: reading pages from memory takes a fraction of a millisecond.
pub const SQLITE_READERS: usize = 6;

/// The connections to PostgreSQL of each send lane: for its batches, and for the chats that it holds.
const CONNECTIONS_PER_SEND_LANE: usize = 2;
/// The part of the connections to PostgreSQL that all send lanes together use at most, as a divisor.
const MAX_SEND_SHARE: usize = 2;

/// The way in which a server that starts treats migrations that its database lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum MigrationMode {
    /// Run them.
    Auto,
    /// Refuse to start. `parlor migrate` runs them.
    Check,
    /// Leave them out. Only a newer schema that this version may not use is refused.
    Off,
}

/// The database and the limits of its connections.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// The engine, with the file or the server that contains the database.
    pub engine: Engine,
    /// The replica of PostgreSQL that serves some reads.
    pub replica: Option<Box<PgEndpoint>>,
    /// The way in which a server that starts treats migrations that the database lacks.
    pub migration_mode: MigrationMode,
    /// The maximum number of connections to PostgreSQL.
    pub max_connections: usize,
    /// The maximum number of lanes that commit sends at the same time on PostgreSQL.
    pub max_send_lanes: usize,
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
            replica: None,
            migration_mode: MigrationMode::Auto,
            max_connections: 2,
            max_send_lanes: 1,
            wait_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(5),
            reads_per_organization: 4,
            reads_per_user: 4,
        }
    }

    /// Returns the number of lanes that commit sends at the same time.
    ///
    /// A SQLite file has one writer. On PostgreSQL there are as many as configured, or fewer if the connections do not
    /// suffice for so many.
    pub fn send_lanes(&self) -> usize {
        let enough_connections = self.max_connections / (MAX_SEND_SHARE * CONNECTIONS_PER_SEND_LANE);
        match self.engine {
            Engine::Postgres(_) => self.max_send_lanes.min(enough_connections).max(1),
            Engine::Sqlite(_) => 1,
        }
    }

    /// Returns the number of connections to PostgreSQL that are kept for sends.
    ///
    /// It is zero if there are so few connections that sends share those of all other requests.
    pub fn send_connections(&self) -> usize {
        let needed = CONNECTIONS_PER_SEND_LANE * self.send_lanes();
        if MAX_SEND_SHARE * needed > self.max_connections { 0 } else { needed }
    }

    /// Returns the numbers of reads on behalf of clients that run at the same time.
    ///
    /// The server's own reads, and on PostgreSQL transactions that write, find other connections in the pool.
    pub fn read_limits(&self) -> ReadLimits {
        let shared = self.max_connections - self.send_connections();
        let total = match self.engine {
            Engine::Postgres(_) => shared - (shared / 4).max(1),
            Engine::Sqlite(_) => SQLITE_READERS - 1,
        };
        ReadLimits::new(total, self.reads_per_organization, self.reads_per_user)
    }

    /// Returns the numbers of reads on behalf of clients that run on the replica at the same time.
    ///
    /// One connection stays free for the check of the replica.
    pub fn replica_read_limits(&self) -> ReadLimits {
        ReadLimits::new(self.max_connections - 1, self.reads_per_organization, self.reads_per_user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn send_lanes_take_at_most_half_of_the_connections() {
        let postgres = Engine::parse("postgres://localhost/parlor").unwrap();
        for (max_connections, max_send_lanes, lanes, send_connections) in [
            (2, 4, 1, 0),
            (3, 1, 1, 0),
            (4, 4, 1, 2),
            (8, 1, 1, 2),
            (8, 2, 2, 4),
            (15, 64, 3, 6),
            (16, 64, 4, 8),
            (1_000, 64, 64, 128),
        ] {
            let settings =
                DatabaseSettings { max_connections, max_send_lanes, ..DatabaseSettings::for_test(postgres.clone()) };
            let found = (settings.send_lanes(), settings.send_connections());
            assert_eq!(found, (lanes, send_connections), "{max_connections} connections, {max_send_lanes} lanes");
            assert!(settings.read_limits().total < max_connections - send_connections, "{settings:?}");
        }
        let sqlite = Engine::parse("sqlite://parlor.db").unwrap();
        assert_eq!(DatabaseSettings { max_send_lanes: 4, ..DatabaseSettings::for_test(sqlite) }.send_lanes(), 1);
    }
}
