//! Connections: one pool to PostgreSQL, or one writer and several readers of a SQLite file.

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

/// Which engine a `DATABASE_URL` names.
#[derive(Debug, Clone)]
pub enum Engine {
    Postgres(Box<PgEndpoint>),
    Sqlite(PathBuf),
}

impl Engine {
    /// Reads `postgres://…`, `postgresql://…` or `sqlite://PATH`. The message says what is wrong.
    pub fn parse(url: &str) -> Result<Self, String> {
        match url.split_once("://") {
            Some(("postgres" | "postgresql", _)) => {
                PgEndpoint::parse(url).map(|target| Self::Postgres(Box::new(target)))
            }
            Some(("sqlite", "")) => Err("names no file after sqlite://".into()),
            // Each connection would have a database of its own.
            Some(("sqlite", path)) if path.starts_with(":memory:") || path.starts_with("file:") => {
                Err("must name a file after sqlite://".into())
            }
            Some(("sqlite", path)) => Ok(Self::Sqlite(path.into())),
            _ => Err("must begin with sqlite:// or postgres://".into()),
        }
    }
}

/// The database, from which connections are borrowed.
#[derive(Clone)]
pub enum Database {
    Postgres(Pool<PostgresConn>),
    Sqlite { writer: Pool<SqliteConn>, readers: Pool<SqliteConn> },
}

/// Readers of a SQLite file; a read on a page in memory takes a fraction of a millisecond.
const SQLITE_READERS: usize = 4;

/// `busy_timeout` first, so that the rest waits for another process too. FULL makes each commit
/// durable before it is acknowledged; group commit makes that cheap. The file is not mapped into memory: with a WAL each
/// reader would map it anew after each commit of the writer. Nor are its pages kept twice: the kernel has them, and what a
/// reader keeps itself is void after such a commit too, so each connection's cache is small (KiB).
const SQLITE_SETTINGS: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
     PRAGMA foreign_keys = ON; PRAGMA cache_size = -4000; PRAGMA temp_store = MEMORY;";

/// The second line of defence against a transaction that nobody ends; the first is [`Lent`].
const POSTGRES_SETTINGS: &str = "SET idle_in_transaction_session_timeout = '30s'";

impl Database {
    /// Opens pools; connections are made as they are needed. `postgres_connections` is the most
    /// that are held to PostgreSQL at once, `wait` how long a request waits for one.
    pub fn open(engine: &Engine, postgres_connections: usize, wait: Duration) -> Result<Self> {
        match engine {
            Engine::Postgres(target) => {
                let target = target.clone();
                let setup: SetupCallback<PostgresConn> = Box::new(move |_| {
                    let target = target.clone();
                    async move {
                        let mut conn = target.connect().await?;
                        conn.batch_execute(POSTGRES_SETTINGS)
                            .await
                            .map_err(ConnectionError::CouldntSetupConfiguration)?;
                        Ok(conn)
                    }
                    .boxed()
                });
                Ok(Self::Postgres(build_pool("", setup, postgres_connections, wait)?))
            }
            Engine::Sqlite(path) => {
                let file = path.to_string_lossy().into_owned();
                Ok(Self::Sqlite {
                    writer: build_pool(&file, Box::new(|file| connect_sqlite(file, "")), 1, wait)?,
                    readers: build_pool(
                        &file,
                        Box::new(|file| connect_sqlite(file, "PRAGMA query_only = ON;")),
                        SQLITE_READERS,
                        wait,
                    )?,
                })
            }
        }
    }

    /// A connection that may write.
    pub async fn write(&self) -> Result<Conn> {
        match self {
            Self::Postgres(pool) => checkout(pool).await.map(Conn::Postgres),
            Self::Sqlite { writer, .. } => checkout(writer).await.map(Conn::Sqlite),
        }
    }

    /// A connection that only reads.
    pub async fn read(&self) -> Result<Conn> {
        match self {
            Self::Postgres(pool) => checkout(pool).await.map(Conn::Postgres),
            Self::Sqlite { readers, .. } => checkout(readers).await.map(Conn::Sqlite),
        }
    }

    /// Closes the pools: connections in use are closed when they come back.
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

fn connect_sqlite<'a>(file: &'a str, more: &'a str) -> BoxFuture<'a, ConnectionResult<SqliteConn>> {
    async move {
        let mut conn = SqliteConn::establish(file).await?;
        conn.batch_execute(&format!("{SQLITE_SETTINGS} {more}"))
            .await
            .map_err(ConnectionError::CouldntSetupConfiguration)?;
        Ok(conn)
    }
    .boxed()
}

fn build_pool<C>(url: &str, setup: SetupCallback<C>, size: usize, wait: Duration) -> Result<Pool<C>>
where
    C: AsyncConnection + 'static,
    AsyncDieselConnectionManager<C>: Manager<Type = C>,
{
    let mut config = ManagerConfig::default();
    config.custom_setup = setup;
    // A test query at each loan would be a round trip; a dead connection shows at its first use.
    config.recycling_method = RecyclingMethod::Fast;
    let manager = AsyncDieselConnectionManager::<C>::new_with_config(url, config);
    let pool = deadpool::managed::Pool::builder(manager)
        .max_size(size)
        .wait_timeout(Some(wait))
        .create_timeout(Some(wait))
        .runtime(Runtime::Tokio1)
        .build();
    pool.map_err(Error::internal)
}

async fn checkout<M>(pool: &deadpool::managed::Pool<M>) -> Result<Box<PooledConnection<M>>>
where
    M: Manager<Error = PoolError>,
    M::Type: PoolableConnection,
{
    let lent = pool.get().await;
    lent.map(|object| Box::new(PooledConnection::new(object))).map_err(|error| {
        tracing::warn!(%error, "no database connection");
        Error::unavailable("the database can't be reached")
    })
}
