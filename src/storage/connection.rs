//! One type of connection for both engines.
//!
//! A diesel query is a value that can write itself for either backend. So each query is written once, the compiler
//! checks it against both backends, and the engine is chosen only here, where the query runs.

use std::future::Future;
use std::ops::{Deref, DerefMut};

use deadpool::managed::{Manager, Object};
use diesel::SqliteConnection;
use diesel::query_builder::AsQuery;
use diesel::result::QueryResult;
use diesel_async::methods;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, PoolableConnection};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection, TransactionManager};

use futures_util::future::BoxFuture;

use crate::error::{Error, Result};
use crate::metrics::{METRICS, TimerGuard};
use crate::storage::erased_sql::{EngineSql, ErasedSql};
use crate::storage::sqlite_blocking::TokioBlocking;

/// A connection to PostgreSQL.
pub type PostgresConn = AsyncPgConnection;
/// A connection to a SQLite file.
pub type SqliteConn = SyncConnectionWrapper<SqliteConnection, TokioBlocking>;

/// A connection from the pool of either engine.
pub enum Conn {
    Postgres(Box<PooledConnection<AsyncDieselConnectionManager<PostgresConn>>>),
    Sqlite(Box<PooledConnection<AsyncDieselConnectionManager<SqliteConn>>>),
}

/// Evaluates an expression with the connection of the engine that `$conn` has.
macro_rules! on_engine {
    ($conn:expr, $inner:ident => $body:expr) => {
        match $conn {
            Conn::Postgres(pooled) => {
                let $inner = &mut ***pooled;
                $body
            }
            Conn::Sqlite(pooled) => {
                let $inner = &mut ***pooled;
                $body
            }
        }
    };
}

/// The log target of statements: `PARLOR_LOG=parlor::sql=trace` logs one line per statement.
const SQL_LOG_TARGET: &str = "parlor::sql";

/// A query whose rows can be read as `U` on both engines.
pub trait LoadQuery<'q, U>: Send + 'q {
    /// Runs the query; `method` is the label of the metric and the text of the log line.
    ///
    /// # Errors
    ///
    /// Returns the error of the database, or of a row that cannot be read as `U`.
    fn load_rows<'c>(self, conn: &'c mut Conn, method: &'static str) -> BoxFuture<'c, QueryResult<Vec<U>>>
    where
        'q: 'c;
}

impl<'q, Q, U> LoadQuery<'q, U> for Q
where
    Q: AsQuery + Send + 'q,
    Q::Query: EngineSql + 'q,
    U: Send + 'q,
    ErasedSql<'q, Q::SqlType>: methods::LoadQuery<'q, PostgresConn, U> + methods::LoadQuery<'q, SqliteConn, U> + Send,
{
    fn load_rows<'c>(self, conn: &'c mut Conn, method: &'static str) -> BoxFuture<'c, QueryResult<Vec<U>>>
    where
        'q: 'c,
    {
        load_erased(ErasedSql::<Q::SqlType>::new(self.as_query()), conn, method)
    }
}

fn load_erased<'c, 'q: 'c, ST, U>(
    query: ErasedSql<'q, ST>,
    conn: &'c mut Conn,
    method: &'static str,
) -> BoxFuture<'c, QueryResult<Vec<U>>>
where
    ST: 'q,
    U: Send + 'q,
    ErasedSql<'q, ST>: methods::LoadQuery<'q, PostgresConn, U> + methods::LoadQuery<'q, SqliteConn, U> + Send,
{
    Box::pin(async move {
        tracing::trace!(target: SQL_LOG_TARGET, "{method}");
        let _timer = TimerGuard::start(&METRICS.db_statement_duration, method);
        on_engine!(conn, inner => diesel_async::RunQueryDsl::load(query, inner).await)
    })
}

fn execute_erased<'c, 'q: 'c>(query: ErasedSql<'q, ()>, conn: &'c mut Conn) -> BoxFuture<'c, QueryResult<usize>> {
    Box::pin(async move {
        tracing::trace!(target: SQL_LOG_TARGET, "execute");
        let _timer = TimerGuard::start(&METRICS.db_statement_duration, "execute");
        on_engine!(conn, inner => diesel_async::RunQueryDsl::execute(query, inner).await)
    })
}

/// Runs diesel's queries on a [`Conn`]; imported in place of diesel-async's trait of the same name.
///
/// A statement that was sent still runs if its future is dropped. The connection is then reused only if no transaction
/// is open on it (see [`PooledConnection`]).
pub trait RunQueryDsl: Sized + Send {
    /// Runs a query and returns its rows.
    fn load<'c, 'q: 'c, U>(self, conn: &'c mut Conn) -> BoxFuture<'c, QueryResult<Vec<U>>>
    where
        Self: LoadQuery<'q, U>,
    {
        self.load_rows(conn, "load")
    }

    /// Runs a query and returns its first row, or `NotFound` if it has none.
    fn get_result<'c, 'q: 'c, U>(self, conn: &'c mut Conn) -> BoxFuture<'c, QueryResult<U>>
    where
        Self: LoadQuery<'q, U>,
        U: Send + 'q,
    {
        let rows = self.load_rows(conn, "get_result");
        Box::pin(async move { rows.await?.into_iter().next().ok_or(diesel::result::Error::NotFound) })
    }

    /// Runs a statement and returns the number of rows that it affected.
    fn execute<'c, 'q: 'c>(self, conn: &'c mut Conn) -> BoxFuture<'c, QueryResult<usize>>
    where
        Self: EngineSql + 'q,
    {
        execute_erased(ErasedSql::new(self), conn)
    }
}

impl<T: Send> RunQueryDsl for T {}

/// The error of a failed commit, which the database may have made durable nevertheless.
///
/// A caller must not repeat the work of such a transaction.
#[derive(Debug, thiserror::Error)]
#[error("outcome of a commit is unknown: {0}")]
pub struct CommitOutcomeUnknown(diesel::result::Error);

/// An async closure over a connection whose future is `Send`.
///
/// `AsyncFnOnce` alone cannot express this bound yet.
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
    /// Runs `work` in a transaction that may write, and commits it if `work` succeeds.
    ///
    /// SQLite takes its one write lock at the start: a transaction that begins by reading could not wait for the lock
    /// later, because `SQLITE_BUSY` ignores the busy time-out there. Transactions cannot be nested.
    ///
    /// If the future is dropped, the transaction is rolled back by closing the connection.
    ///
    /// # Errors
    ///
    /// Returns the error of `work`, after a rollback, or the error of beginning the transaction. A failed commit is an
    /// internal error whose cause is [`CommitOutcomeUnknown`].
    pub async fn transaction<R, F>(&mut self, work: F) -> Result<R>
    where
        F: AsyncFnOnce(&mut Conn) -> Result<R> + for<'c> TransactionFn<'c, Result<R>>,
    {
        self.run_transaction("BEGIN", "BEGIN IMMEDIATE", work).await
    }

    /// Runs `work`, which only reads, on one snapshot of the database.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`transaction`](Self::transaction).
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
            Self::Postgres(pooled) => PgTransactionManager::begin_transaction_sql(&mut ***pooled, postgres).await?,
            Self::Sqlite(pooled) => {
                pooled
                    .spawn_blocking(move |conn| SyncSqliteTransactionManager::begin_transaction_sql(conn, sqlite))
                    .await?;
            }
        }
        let result = work(&mut *self).await;
        match &result {
            // This is not UNAVAILABLE, which invites a client to retry.
            Ok(_) => self.commit().await.map_err(|error| Error::internal(CommitOutcomeUnknown(error)))?,
            // A connection whose rollback fails is closed by `PooledConnection`. The first error is the useful one.
            Err(_) => drop(self.rollback().await),
        }
        result
    }

    async fn commit(&mut self) -> QueryResult<()> {
        match self {
            Self::Postgres(pooled) => PgTransactionManager::commit_transaction(&mut ***pooled).await,
            Self::Sqlite(pooled) => SqliteTransactionManager::commit_transaction(&mut ***pooled).await,
        }
    }

    async fn rollback(&mut self) -> QueryResult<()> {
        match self {
            Self::Postgres(pooled) => PgTransactionManager::rollback_transaction(&mut ***pooled).await,
            Self::Sqlite(pooled) => SqliteTransactionManager::rollback_transaction(&mut ***pooled).await,
        }
    }

    /// Runs a statement without effect, to check that the database answers.
    ///
    /// # Errors
    ///
    /// Returns an error if the database does not answer.
    pub async fn check_alive(&mut self) -> QueryResult<()> {
        on_engine!(self, inner => inner.batch_execute("SELECT 1").await)
    }
}

/// A connection that returns to its pool only if no transaction is open on it.
///
/// A request that is dropped inside a transaction would hand its row locks to the next user of the connection. Closing
/// the connection rolls the transaction back instead.
pub struct PooledConnection<M>(Option<Object<M>>)
where
    M: Manager,
    M::Type: PoolableConnection;

impl<M> PooledConnection<M>
where
    M: Manager,
    M::Type: PoolableConnection,
{
    /// Wraps a connection of a pool.
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
        self.0.as_ref().expect("only drop takes the connection")
    }
}

impl<M> DerefMut for PooledConnection<M>
where
    M: Manager,
    M::Type: PoolableConnection,
{
    fn deref_mut(&mut self) -> &mut M::Type {
        self.0.as_mut().expect("only drop takes the connection")
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
