//! One connection over two engines.
//!
//! A diesel query is a value that can write itself for either backend, so each query is written
//! once, is checked by the compiler against both, and the engine is chosen only here, where it runs.

use std::future::Future;
use std::ops::{Deref, DerefMut};

use deadpool::managed::{Manager, Object};
use diesel::SqliteConnection;
use diesel::result::QueryResult;
use diesel_async::methods::{ExecuteDsl, LoadQuery};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, PoolableConnection};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection, TransactionManager};

use crate::error::{Error, Result};
use crate::metrics::{METRICS, TimerGuard};
use crate::storage::sqlite_blocking::TokioBlocking;

pub type PostgresConn = AsyncPgConnection;
pub type SqliteConn = SyncConnectionWrapper<SqliteConnection, TokioBlocking>;

/// A connection lent by a pool of either engine.
pub enum Conn {
    Postgres(Box<PooledConnection<AsyncDieselConnectionManager<PostgresConn>>>),
    Sqlite(Box<PooledConnection<AsyncDieselConnectionManager<SqliteConn>>>),
}

macro_rules! on_engine {
    ($conn:expr, $inner:ident => $body:expr) => {
        match $conn {
            Conn::Postgres(lent) => {
                let $inner = &mut ***lent;
                $body
            }
            Conn::Sqlite(lent) => {
                let $inner = &mut ***lent;
                $body
            }
        }
    };
}

/// The log's name for statements, each of which is one line of it: `PARLOR_LOG=parlor::sql=trace`.
const SQL_LOG_TARGET: &str = "parlor::sql";

/// How diesel's queries are run on a [`Conn`]: imported in place of diesel-async's trait, with the
/// same names.
pub trait RunQueryDsl: Sized + Send {
    fn load<'q, U>(self, conn: &mut Conn) -> impl Future<Output = QueryResult<Vec<U>>> + Send
    where
        U: Send,
        Self: LoadQuery<'q, PostgresConn, U> + LoadQuery<'q, SqliteConn, U> + 'q,
    {
        async move {
            tracing::trace!(target: SQL_LOG_TARGET, "load");
            let _timed = TimerGuard::start(&METRICS.db_statement_duration, "load");
            on_engine!(conn, inner => diesel_async::RunQueryDsl::load(self, inner).await)
        }
    }

    fn get_result<'q, U>(self, conn: &mut Conn) -> impl Future<Output = QueryResult<U>> + Send
    where
        U: Send,
        Self: LoadQuery<'q, PostgresConn, U> + LoadQuery<'q, SqliteConn, U> + 'q,
    {
        async move {
            tracing::trace!(target: SQL_LOG_TARGET, "get_result");
            let _timed = TimerGuard::start(&METRICS.db_statement_duration, "get_result");
            on_engine!(conn, inner => diesel_async::RunQueryDsl::get_result(self, inner).await)
        }
    }

    fn execute<'q>(self, conn: &mut Conn) -> impl Future<Output = QueryResult<usize>> + Send
    where
        Self: ExecuteDsl<PostgresConn> + ExecuteDsl<SqliteConn> + 'q,
    {
        async move {
            tracing::trace!(target: SQL_LOG_TARGET, "execute");
            let _timed = TimerGuard::start(&METRICS.db_statement_duration, "execute");
            on_engine!(conn, inner => diesel_async::RunQueryDsl::execute(self, inner).await)
        }
    }
}

impl<T: Send> RunQueryDsl for T {}

/// A commit that broke off: whether it was made, nobody knows, so the work must not be done again.
#[derive(Debug, thiserror::Error)]
#[error("a commit broke off: {0}")]
pub struct CommitOutcomeUnknown(diesel::result::Error);

/// An async closure over a connection whose future can cross threads, which `AsyncFnOnce` alone
/// can't say yet.
pub trait TransactionFn<'c, R>: FnOnce(&'c mut Conn) -> Self::Future + Send {
    type Future: Future<Output = R> + Send;
}

impl<'c, R, F, Fut> TransactionFn<'c, R> for F
where
    F: FnOnce(&'c mut Conn) -> Fut + Send,
    Fut: Future<Output = R> + Send,
{
    type Future = Fut;
}

type PgTransactionManager = <PostgresConn as AsyncConnection>::TransactionManager;
type SqliteTransactionManager = <SqliteConn as AsyncConnection>::TransactionManager;
type SyncSqliteTransactionManager = <SqliteConnection as diesel::Connection>::TransactionManager;

impl Conn {
    /// Runs `work` in a transaction that may write.
    ///
    /// SQLite takes its one write lock at once: a transaction that begins by reading could not wait
    /// for it later (`SQLITE_BUSY` ignores the busy time-out there). Not to be nested.
    pub async fn transaction<R, F>(&mut self, work: F) -> Result<R>
    where
        F: AsyncFnOnce(&mut Conn) -> Result<R> + for<'c> TransactionFn<'c, Result<R>>,
    {
        self.run_transaction("BEGIN", "BEGIN IMMEDIATE", work).await
    }

    /// Runs `work` on one unchanging view of the database.
    pub async fn snapshot<R, F>(&mut self, work: F) -> Result<R>
    where
        F: AsyncFnOnce(&mut Conn) -> Result<R> + for<'c> TransactionFn<'c, Result<R>>,
    {
        self.run_transaction("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "BEGIN DEFERRED", work).await
    }

    async fn run_transaction<R, F>(&mut self, postgres: &str, sqlite: &'static str, work: F) -> Result<R>
    where
        F: AsyncFnOnce(&mut Conn) -> Result<R> + for<'c> TransactionFn<'c, Result<R>>,
    {
        match self {
            Self::Postgres(lent) => PgTransactionManager::begin_transaction_sql(&mut ***lent, postgres).await?,
            Self::Sqlite(lent) => {
                lent.spawn_blocking(move |conn| SyncSqliteTransactionManager::begin_transaction_sql(conn, sqlite))
                    .await?;
            }
        }
        let result = work(&mut *self).await;
        match &result {
            // Whether a commit that broke off was made, nobody knows: it isn't UNAVAILABLE.
            Ok(_) => self.commit().await.map_err(|error| Error::internal(CommitOutcomeUnknown(error)))?,
            // A connection whose rollback fails is closed by `Lent`: the cause is what matters.
            Err(_) => drop(self.rollback().await),
        }
        result
    }

    async fn commit(&mut self) -> QueryResult<()> {
        match self {
            Self::Postgres(lent) => PgTransactionManager::commit_transaction(&mut ***lent).await,
            Self::Sqlite(lent) => SqliteTransactionManager::commit_transaction(&mut ***lent).await,
        }
    }

    async fn rollback(&mut self) -> QueryResult<()> {
        match self {
            Self::Postgres(lent) => PgTransactionManager::rollback_transaction(&mut ***lent).await,
            Self::Sqlite(lent) => SqliteTransactionManager::rollback_transaction(&mut ***lent).await,
        }
    }

    /// Whether the database answers.
    pub async fn check_alive(&mut self) -> QueryResult<()> {
        on_engine!(self, inner => inner.batch_execute("SELECT 1").await)
    }
}

/// A connection that goes back to its pool only if no transaction is open on it.
///
/// A request that is dropped within a transaction would leave its row locks to whoever gets the
/// connection next; closing it rolls back at once.
pub struct PooledConnection<M>(Option<Object<M>>)
where
    M: Manager,
    M::Type: PoolableConnection;

impl<M> PooledConnection<M>
where
    M: Manager,
    M::Type: PoolableConnection,
{
    pub fn new(object: Object<M>) -> Self {
        Self(Some(object))
    }
}

impl<M> Deref for PooledConnection<M>
where
    M: Manager,
    M::Type: PoolableConnection,
{
    type Target = M::Type;

    fn deref(&self) -> &M::Type {
        self.0.as_ref().expect("held until dropped")
    }
}

impl<M> DerefMut for PooledConnection<M>
where
    M: Manager,
    M::Type: PoolableConnection,
{
    fn deref_mut(&mut self) -> &mut M::Type {
        self.0.as_mut().expect("held until dropped")
    }
}

impl<M> Drop for PooledConnection<M>
where
    M: Manager,
    M::Type: PoolableConnection,
{
    fn drop(&mut self) {
        if self.is_broken() {
            drop(self.0.take().map(Object::take));
        }
    }
}
