//! Pools of connections: one pool to PostgreSQL, or one writer and several readers of a SQLite file.

use std::path::PathBuf;
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::Manager;
use diesel::{ConnectionError, ConnectionResult};
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, PoolError, PoolableConnection, RecyclingMethod, SetupCallback,
};
use diesel_async::{AsyncConnection, SimpleAsyncConnection};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::error::{Error, Result};
use crate::storage::connection::{Conn, PooledConnection, PostgresConn, SqliteConn};
use crate::storage::postgres_tls::PgEndpoint;
use crate::storage::sqlite_blocking::spawn_on_blocking_thread;

/// A database engine and the database that a `DATABASE_URL` names.
#[derive(Debug, Clone)]
pub enum Engine {
    Postgres(Box<PgEndpoint>),
    Sqlite(PathBuf),
}

impl Engine {
    /// Parses `postgres://…`, `postgresql://…` or `sqlite://PATH`.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the URL, as a predicate of which the setting is the subject.
    pub fn parse(url: &str) -> Result<Self, String> {
        match url.split_once("://") {
            Some(("postgres" | "postgresql", _)) => {
                PgEndpoint::parse(url).map(|endpoint| Self::Postgres(Box::new(endpoint)))
            }
            Some(("sqlite", "")) => Err("names no file after sqlite://".into()),
            // Each connection would open a separate database.
            Some(("sqlite", path)) if path.starts_with(":memory:") || path.starts_with("file:") => {
                Err("must name a file after sqlite://".into())
            }
            Some(("sqlite", path)) => Ok(Self::Sqlite(path.into())),
            _ => Err("must begin with sqlite:// or postgres://".into()),
        }
    }
}

/// The pools that connections to the database come from.
#[derive(Clone)]
pub enum Database {
    Postgres(Pool<PostgresConn>),
    Sqlite { writer: Pool<SqliteConn>, readers: Pool<SqliteConn> },
}

/// The number of connections that read a SQLite file.
///
/// Few are enough: reading pages from memory takes a fraction of a millisecond.
const SQLITE_READERS: usize = 4;

/// The settings of each connection to a SQLite file.
///
/// `busy_timeout` comes first, so that the other settings wait for another process too. `synchronous = FULL` makes a
/// commit durable before it is acknowledged, which is cheap because sends are committed in batches. The file is not
/// mapped into memory: with a WAL each reader would have to map it again after each commit of the writer. The page
/// cache of 4,000 KiB is small: the kernel caches the pages as well, and each commit invalidates the readers' caches.
const SQLITE_SETTINGS: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
     PRAGMA foreign_keys = ON; PRAGMA cache_size = -4000; PRAGMA temp_store = MEMORY;";

/// The settings of each connection to PostgreSQL.
///
/// The time-out is the second defence against a transaction that nobody ends; [`PooledConnection`] is the first.
const POSTGRES_SETTINGS: &str = "SET idle_in_transaction_session_timeout = '30s'";

impl Database {
    /// Creates pools, which open connections as they are needed.
    ///
    /// `max_postgres_connections` limits the size of PostgreSQL's pool, and `wait_timeout` the time for which a request
    /// waits for a connection.
    ///
    /// # Errors
    ///
    /// Returns an error if a pool cannot be built.
    pub fn open(engine: &Engine, max_postgres_connections: usize, wait_timeout: Duration) -> Result<Self> {
        match engine {
            Engine::Postgres(endpoint) => {
                let endpoint = endpoint.clone();
                let setup: SetupCallback<PostgresConn> = Box::new(move |_| {
                    let endpoint = endpoint.clone();
                    async move {
                        let mut conn = endpoint.connect().await?;
                        conn.batch_execute(POSTGRES_SETTINGS)
                            .await
                            .map_err(ConnectionError::CouldntSetupConfiguration)?;
                        Ok(conn)
                    }
                    .boxed()
                });
                Ok(Self::Postgres(build_pool("", setup, max_postgres_connections, wait_timeout)?))
            }
            Engine::Sqlite(path) => {
                let file = path.to_string_lossy().into_owned();
                Ok(Self::Sqlite {
                    writer: build_pool(&file, Box::new(|file| connect_sqlite(file, "")), 1, wait_timeout)?,
                    readers: build_pool(
                        &file,
                        Box::new(|file| connect_sqlite(file, "PRAGMA query_only = ON;")),
                        SQLITE_READERS,
                        wait_timeout,
                    )?,
                })
            }
        }
    }

    /// Takes a connection that may write from its pool.
    ///
    /// # Errors
    ///
    /// Returns an unavailable error if no connection is free in time or the database cannot be reached.
    pub async fn write(&self) -> Result<Conn> {
        match self {
            Self::Postgres(pool) => checkout(pool).await.map(Conn::Postgres),
            Self::Sqlite { writer, .. } => checkout(writer).await.map(Conn::Sqlite),
        }
    }

    /// Takes a connection that only reads from its pool.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`write`](Self::write).
    pub async fn read(&self) -> Result<Conn> {
        match self {
            Self::Postgres(pool) => checkout(pool).await.map(Conn::Postgres),
            Self::Sqlite { readers, .. } => checkout(readers).await.map(Conn::Sqlite),
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
        let task = match self {
            Self::Postgres(_) => tokio::spawn(work.boxed()),
            Self::Sqlite { .. } => spawn_on_blocking_thread(work),
        };
        task.await.map_err(Error::internal)
    }

    /// Closes the pools; connections in use are closed when they are returned.
    pub fn close(&self) {
        match self {
            Self::Postgres(pool) => pool.close(),
            Self::Sqlite { writer, readers } => {
                readers.close();
                writer.close();
            }
        }
    }
}

fn connect_sqlite<'a>(file: &'a str, extra_settings: &'a str) -> BoxFuture<'a, ConnectionResult<SqliteConn>> {
    async move {
        let mut conn = SqliteConn::establish(file).await?;
        conn.batch_execute(&format!("{SQLITE_SETTINGS} {extra_settings}"))
            .await
            .map_err(ConnectionError::CouldntSetupConfiguration)?;
        Ok(conn)
    }
    .boxed()
}

fn build_pool<C>(url: &str, setup: SetupCallback<C>, size: usize, wait_timeout: Duration) -> Result<Pool<C>>
where
    C: AsyncConnection + 'static,
    AsyncDieselConnectionManager<C>: Manager<Type = C>,
{
    let mut config = ManagerConfig::default();
    config.custom_setup = setup;
    // A test query at each checkout would cost a round trip; a dead connection fails at its first use.
    config.recycling_method = RecyclingMethod::Fast;
    let manager = AsyncDieselConnectionManager::<C>::new_with_config(url, config);
    let pool = deadpool::managed::Pool::builder(manager)
        .max_size(size)
        .wait_timeout(Some(wait_timeout))
        .create_timeout(Some(wait_timeout))
        .runtime(Runtime::Tokio1)
        .build();
    pool.map_err(Error::internal)
}

async fn checkout<M>(pool: &deadpool::managed::Pool<M>) -> Result<Box<PooledConnection<M>>>
where
    M: Manager<Error = PoolError>,
    M::Type: PoolableConnection,
{
    let object = pool.get().await;
    object.map(|object| Box::new(PooledConnection::new(object))).map_err(|error| {
        tracing::warn!(%error, "no database connection available");
        Error::unavailable("the database can't be reached")
    })
}
