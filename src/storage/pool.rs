//! Pools of connections: two pools to PostgreSQL, or one writer and several readers of a SQLite file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use diesel::ConnectionError;
use diesel::result::Error as DatabaseError;
use diesel_async::{AsyncConnection, SimpleAsyncConnection};
use futures_util::FutureExt;

use crate::error::{Error, Result};
use crate::storage::condition_log::ConditionLog;
use crate::storage::connection::Conn;
use crate::storage::connection_pool::{ConnectionPool, PoolTimeouts};
use crate::storage::connector::Connect;
use crate::storage::engine::Engine;
use crate::storage::errors::{ConnectFailure, Failure};
use crate::storage::postgres_endpoint::PgEndpoint;
use crate::storage::postgres_pools::PostgresPools;
use crate::storage::postgres_session::PostgresSession;
use crate::storage::read_permits::acquire_for_current_reader;
use crate::storage::replica::Replica;
use crate::storage::session::{Session, SqliteConn};
use crate::storage::settings::{DatabaseSettings, SQLITE_READERS};
use crate::storage::shared_snapshot::read_current;
use crate::storage::sqlite_blocking::spawn_on_blocking_thread;

/// The pools that connections to the database come from.
#[derive(Clone)]
pub struct Database {
    pools: Pools,
    /// The replica that serves some reads.
    pub(super) replica: Option<Arc<Replica>>,
    /// The conditions that prevent the database from serving statements at the moment.
    pub(super) conditions: Arc<ConditionLog>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("conditions", &self.conditions).finish_non_exhaustive()
    }
}

#[derive(Clone)]
enum Pools {
    Postgres {
        endpoint: Box<PgEndpoint>,
        requests: ConnectionPool<PostgresSession>,
        /// The connections of the send lanes, so that requests that wait for a lock do not take the last one.
        ///
        /// Each lane uses at most its share of them, so that no lane waits for another one.
        sends: ConnectionPool<PostgresSession>,
        send_lanes: usize,
    },
    Sqlite {
        file: PathBuf,
        writer: ConnectionPool<SqliteConn>,
        readers: ConnectionPool<SqliteConn>,
    },
}

/// The settings of each connection to a SQLite file.
///
/// `busy_timeout` comes first, so that the other settings wait for another process too. It is short: while another
/// process writes for long, each request that waits holds the only connection that writes. `synchronous = FULL` makes a
/// commit durable before it is acknowledged, which is cheap because sends are committed in batches. The file is not
/// mapped into memory: with a WAL each reader would have to map it again after each commit of the writer. The page
/// cache of 4,000 KiB is small: the kernel caches the pages as well, and each commit invalidates the readers' caches.
const SQLITE_SETTINGS: &str = "PRAGMA busy_timeout = 1500; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
     PRAGMA foreign_keys = ON; PRAGMA cache_size = -4000; PRAGMA temp_store = MEMORY;";

/// The further settings of a connection that reads.
///
/// Its page cache is smaller: all of them together keep what a burst of reads has filled.
const SQLITE_READER_SETTINGS: &str = "PRAGMA query_only = ON; PRAGMA cache_size = -1000;";

impl Database {
    /// Creates pools, which open connections as they are needed.
    ///
    /// `application_name` is the name under which PostgreSQL lists the connections.
    ///
    /// # Errors
    ///
    /// Returns an error if a pool cannot be built.
    pub fn open(settings: &DatabaseSettings, application_name: &str) -> Result<Self> {
        let conditions = Arc::<ConditionLog>::default();
        let pools = match &settings.engine {
            Engine::Postgres(endpoint) => open_postgres(settings, endpoint, application_name, &conditions)?,
            Engine::Sqlite(file) => {
                sqlite_deadline::install();
                let (wait, statement) = (settings.wait_timeout, settings.statement_timeout);
                let timeouts = PoolTimeouts { wait, connect: wait, statement };
                let pool = |size, extra_settings: &'static str| {
                    let file = file.clone();
                    let connect: Connect<SqliteConn> =
                        Box::new(move || connect_sqlite(file.clone(), extra_settings).boxed());
                    ConnectionPool::new(connect, size, timeouts, conditions.clone())
                };
                let (writer, readers) = (pool(1, "")?, pool(SQLITE_READERS, SQLITE_READER_SETTINGS)?);
                Pools::Sqlite { file: file.clone(), writer, readers }
            }
        };
        let replica = settings.replica.as_ref().map(|endpoint| Replica::open(settings, endpoint, application_name));
        Ok(Self { pools, replica: replica.transpose()?.map(Arc::new), conditions })
    }

    /// Takes a connection that may write from its pool.
    ///
    /// # Errors
    ///
    /// Returns an unavailable error if no connection is free in time or the database cannot be reached.
    pub async fn write(&self) -> Result<Conn> {
        let now = Instant::now();
        match &self.pools {
            Pools::Postgres { requests, .. } => requests.checkout(now, None).await.map(Conn::Postgres),
            Pools::Sqlite { writer, .. } => writer.checkout(now, None).await.map(Conn::Sqlite),
        }
    }

    /// Takes a connection that only reads, after waiting for a permit of the current reader.
    ///
    /// It comes from its pool, or from the snapshot on which the current execution reads.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`write`](Self::write), of [`acquire_for_current_reader`] and of [`read_current`].
    pub async fn read(&self) -> Result<Conn> {
        match read_current(self.read_from_pool()).await {
            Some(result) => result,
            None => self.read_from_pool().await,
        }
    }

    async fn read_from_pool(&self) -> Result<Conn> {
        let waiting_since = Instant::now();
        let permit = acquire_for_current_reader().await?;
        match &self.pools {
            Pools::Postgres { requests, .. } => requests.checkout(waiting_since, permit).await.map(Conn::Postgres),
            Pools::Sqlite { readers, .. } => readers.checkout(waiting_since, permit).await.map(Conn::Sqlite),
        }
    }

    /// Takes a connection for a send lane.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`write`](Self::write).
    pub async fn write_sends(&self) -> Result<Conn> {
        match &self.pools {
            Pools::Postgres { sends, .. } => sends.checkout(Instant::now(), None).await.map(Conn::Postgres),
            Pools::Sqlite { writer, .. } => writer.checkout(Instant::now(), None).await.map(Conn::Sqlite),
        }
    }

    /// Returns the number of lanes that commit sends at the same time.
    pub fn send_lanes(&self) -> usize {
        match &self.pools {
            Pools::Postgres { send_lanes, .. } => *send_lanes,
            Pools::Sqlite { .. } => 1,
        }
    }

    /// Returns true if a transaction may write to several buckets.
    ///
    /// On PostgreSQL buckets may be on different machines. A SQLite file is on one, and the commit that several
    /// buckets share waits for the disk once.
    pub fn commits_buckets_together(&self) -> bool {
        matches!(self.pools, Pools::Sqlite { .. })
    }

    /// Opens a connection outside of the pools and closes it, to learn why none can be opened.
    ///
    /// # Errors
    ///
    /// Returns the reason, which the pools would hide.
    pub async fn try_connect(&self) -> Result<(), ConnectFailure> {
        match &self.pools {
            Pools::Postgres { endpoint, .. } => {
                let connecting = tokio::time::timeout(endpoint.connect_timeout(), endpoint.connect()).await;
                connecting.map_err(|elapsed| ConnectFailure::new(Failure::Unreachable, elapsed))?.map(drop)
            }
            Pools::Sqlite { file, .. } => connect_sqlite(file.clone(), "").await.map(drop),
        }
    }

    /// Returns the address of PostgreSQL, if that is the engine.
    pub(super) fn postgres_endpoint(&self) -> Option<&PgEndpoint> {
        match &self.pools {
            Pools::Postgres { endpoint, .. } => Some(endpoint),
            Pools::Sqlite { .. } => None,
        }
    }

    /// Runs work that consists mostly of statements, on a thread that may block if the engine is SQLite.
    ///
    /// The work runs to its end even if this future is dropped. It must not wait for anything but the database, because
    /// it may occupy a thread meanwhile.
    ///
    /// # Errors
    ///
    /// Returns an internal error if the work panics.
    pub async fn run_on_blocking_thread<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let task = match self.pools {
            Pools::Postgres { .. } => tokio::spawn(work.boxed()),
            Pools::Sqlite { .. } => spawn_on_blocking_thread(work),
        };
        task.await.map_err(Error::internal)
    }

    /// Closes the pools; connections in use are closed when they are returned.
    pub fn close(&self) {
        if let Some(replica) = &self.replica {
            replica.close();
        }
        match &self.pools {
            Pools::Postgres { requests, sends, .. } => {
                requests.close();
                sends.close();
            }
            Pools::Sqlite { writer, readers, .. } => {
                readers.close();
                writer.close();
            }
        }
    }
}

fn open_postgres(
    settings: &DatabaseSettings,
    endpoint: &PgEndpoint,
    application_name: &str,
    conditions: &Arc<ConditionLog>,
) -> Result<Pools> {
    let pools = PostgresPools::new(endpoint, settings, application_name, conditions.clone());
    let send_connections = settings.send_connections();
    let requests = pools.create(settings.max_connections - send_connections)?;
    let sends = if send_connections > 0 { pools.create(send_connections)? } else { requests.clone() };
    Ok(Pools::Postgres { endpoint: Box::new(pools.endpoint), requests, sends, send_lanes: settings.send_lanes() })
}

async fn connect_sqlite(file: PathBuf, extra_settings: &'static str) -> Result<SqliteConn, ConnectFailure> {
    let failure = |error: ConnectionError| {
        let failure = match &error {
            ConnectionError::CouldntSetupConfiguration(error) => Failure::of_sqlite(error),
            _ => Failure::Unreachable,
        };
        ConnectFailure::new(failure, format!("{}: {error}", file.display()))
    };
    let mut conn = SqliteConn::establish(&file.to_string_lossy()).await.map_err(failure)?;
    let settings = conn.batch_execute(&format!("{SQLITE_SETTINGS} {extra_settings}")).await;
    settings.map_err(|error| failure(ConnectionError::CouldntSetupConfiguration(error)))?;
    Ok(conn)
}

impl Session for SqliteConn {
    type Raw = Self;

    fn raw(&mut self) -> &mut Self {
        self
    }

    fn failure_of(&self, error: &DatabaseError) -> Failure {
        Failure::of_sqlite(error)
    }

    /// Does nothing: a statement of SQLite runs in this process and is never without an answer.
    fn cancel_statement(&self) {}
}
