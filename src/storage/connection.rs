//! One type of connection for both engines.
//!
//! A diesel query is a value that can write itself for either backend. So each query is written once, the compiler
//! checks it against both backends, and the engine is chosen only here, where the query runs.

use std::future::Future;
use std::time::Duration;

use diesel::SqliteConnection;
use diesel::query_builder::AsQuery;
use diesel::result::{Error as DatabaseError, QueryResult};
use diesel_async::methods;
use diesel_async::{AsyncConnection, SimpleAsyncConnection, TransactionManager};
use futures_util::future::BoxFuture;
use tokio::time::timeout;

use crate::error::Result;
use crate::metrics::{METRICS, TimerGuard};
use crate::storage::checkout::commit_error;
use crate::storage::erased_sql::{EngineSql, ErasedSql};
use crate::storage::errors::Failure;
use crate::storage::lease::{Lease, SharedConnection};
use crate::storage::postgres_session::PostgresSession;
use crate::storage::session::{PostgresConn, SqliteConn, TransactionLimits};
use crate::storage::sql::debug_sql::{postgres_sql, sqlite_sql};
use crate::storage::sqlite_blocking::with_time_limit;

/// A connection from the pool of either engine.
pub enum Conn {
    Postgres(Lease<PostgresSession>),
    Sqlite(Lease<SqliteConn>),
}

/// Evaluates an expression with the checkout of the engine that `$conn` has.
macro_rules! on_engine {
    ($conn:expr, $checkout:ident => $body:expr) => {
        match $conn {
            Conn::Postgres($checkout) => $body,
            Conn::Sqlite($checkout) => $body,
        }
    };
}

/// Runs a statement on the connection of either engine, within its time limit on PostgreSQL.
///
/// A statement of SQLite runs in this process and cannot be abandoned.
macro_rules! run_statement {
    ($conn:expr, $raw:ident => $statement:expr) => {
        match $conn {
            Conn::Postgres(checkout) => {
                let limit = checkout.begin_statement()?;
                let $raw = checkout.raw();
                let result = timeout(limit, $statement).await;
                checkout.finish_statement(result)
            }
            Conn::Sqlite(checkout) => {
                checkout.begin_statement()?;
                let $raw = checkout.raw();
                let result = $statement.await;
                checkout.finish_statement(Ok(result))
            }
        }
    };
}

/// The time limit of a rollback. After it the connection is closed, which rolls back as well.
const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(1);

/// The log target of statements.
///
/// `PARLOR_LOG=parlor::sql=trace` logs the text of each statement, without its values.
const SQL_LOG_TARGET: &str = "parlor::sql";

/// A query whose rows can be read as `U` on both engines.
pub trait LoadQuery<'q, U>: Send + 'q {
    /// Runs the query; `method` is the label of the metric and the text of the log line.
    ///
    /// # Errors
    ///
    /// Returns the error of the database, or of a row that cannot be read as `U`.
    fn load_rows<'c>(self, conn: &'c mut Conn, method: &'static str) -> BoxFuture<'c, Result<Vec<U>>>
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
    fn load_rows<'c>(self, conn: &'c mut Conn, method: &'static str) -> BoxFuture<'c, Result<Vec<U>>>
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
) -> BoxFuture<'c, Result<Vec<U>>>
where
    ST: 'q,
    U: Send + 'q,
    ErasedSql<'q, ST>: methods::LoadQuery<'q, PostgresConn, U> + methods::LoadQuery<'q, SqliteConn, U> + Send,
{
    Box::pin(async move {
        log_statement(conn, &query, method);
        let _timer = TimerGuard::start(&METRICS.db_statement_duration, method);
        match conn {
            Conn::Postgres(checkout) => {
                let limit = checkout.begin_statement()?;
                let result = timeout(limit, diesel_async::RunQueryDsl::load(query, checkout.raw())).await;
                checkout.finish_statement(result)
            }
            Conn::Sqlite(checkout) => {
                let limit = checkout.begin_statement()?;
                let load: BoxFuture<'_, _> = Box::pin(diesel_async::RunQueryDsl::load(query, checkout.raw()));
                // Statements that return no rows have no limit: to delete a chat with a million messages takes longer.
                let result = with_time_limit(limit, load).await;
                checkout.finish_statement(Ok(result))
            }
        }
    })
}

/// Logs the text of a statement if the log has statements.
fn log_statement<ST>(conn: &Conn, query: &ErasedSql<'_, ST>, method: &str) {
    if tracing::enabled!(target: SQL_LOG_TARGET, tracing::Level::TRACE) {
        let sql = match conn {
            Conn::Postgres(_) => postgres_sql(query),
            Conn::Sqlite(_) => sqlite_sql(query),
        };
        tracing::trace!(target: SQL_LOG_TARGET, sql, "{method}");
    }
}

fn execute_erased<'c, 'q: 'c>(query: ErasedSql<'q, ()>, conn: &'c mut Conn) -> BoxFuture<'c, Result<usize>> {
    Box::pin(async move {
        log_statement(conn, &query, "execute");
        let _timer = TimerGuard::start(&METRICS.db_statement_duration, "execute");
        run_statement!(conn, raw => diesel_async::RunQueryDsl::execute(query, raw))
    })
}

/// Runs diesel's queries on a [`Conn`]; imported in place of diesel-async's trait of the same name.
///
/// Each statement has a time limit on PostgreSQL, and each query on SQLite. A statement that was sent still runs if its
/// future is dropped. The connection is then reused only if no transaction is open on it (see
/// [`Checkout`](crate::storage::checkout::Checkout)).
pub trait RunQueryDsl: Sized + Send {
    /// Runs a query and returns its rows.
    fn load<'c, 'q: 'c, U>(self, conn: &'c mut Conn) -> BoxFuture<'c, Result<Vec<U>>>
    where
        Self: LoadQuery<'q, U>,
    {
        self.load_rows(conn, "load")
    }

    /// Runs a query and returns its first row, or an internal error if it has none.
    fn get_result<'c, 'q: 'c, U>(self, conn: &'c mut Conn) -> BoxFuture<'c, Result<U>>
    where
        Self: LoadQuery<'q, U>,
        U: Send + 'q,
    {
        let rows = self.load_rows(conn, "get_result");
        Box::pin(async move { rows.await?.into_iter().next().ok_or_else(|| DatabaseError::NotFound.into()) })
    }

    /// Runs a statement and returns the number of rows that it affected.
    fn execute<'c, 'q: 'c>(self, conn: &'c mut Conn) -> BoxFuture<'c, Result<usize>>
    where
        Self: EngineSql + 'q,
    {
        execute_erased(ErasedSql::new(self), conn)
    }
}

impl<T: Send> RunQueryDsl for T {}

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

async fn commit_transaction<C: AsyncConnection>(conn: &mut C) -> QueryResult<()> {
    C::TransactionManager::commit_transaction(conn).await
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
    /// Returns the error of `work`, after a rollback, or the error of beginning the transaction. A failed commit whose
    /// outcome is unknown is an internal error whose cause is
    /// [`CommitOutcomeUnknown`](crate::storage::checkout::CommitOutcomeUnknown).
    pub async fn transaction<R, F>(&mut self, work: F) -> Result<R>
    where
        F: AsyncFnOnce(&mut Conn) -> Result<R> + for<'c> TransactionFn<'c, Result<R>>,
    {
        self.transaction_within(TransactionLimits::default(), work).await
    }

    /// Runs `work` in a transaction with limits of its own.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`transaction`](Self::transaction).
    pub async fn transaction_within<R, F>(&mut self, limits: TransactionLimits, work: F) -> Result<R>
    where
        F: AsyncFnOnce(&mut Conn) -> Result<R> + for<'c> TransactionFn<'c, Result<R>>,
    {
        self.begin("BEGIN", "BEGIN IMMEDIATE", limits).await?;
        let value = self.run_or_roll_back(work).await?;
        match self.commit().await {
            Ok(()) => {
                on_engine!(self, checkout => checkout.record_commit());
                Ok(value)
            }
            Err(error) => Err(commit_error(error, self.last_failure())),
        }
    }

    /// Runs `work`, which only reads, on one snapshot of the database.
    ///
    /// A connection that is in the snapshot of an execution stays in it.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`transaction`](Self::transaction).
    pub async fn snapshot<R, F>(&mut self, work: F) -> Result<R>
    where
        F: AsyncFnOnce(&mut Conn) -> Result<R> + for<'c> TransactionFn<'c, Result<R>>,
    {
        if on_engine!(self, checkout => checkout.is_shared()) {
            return work(&mut *self).await;
        }
        self.begin_snapshot().await?;
        let value = self.run_or_roll_back(work).await?;
        self.commit().await?;
        Ok(value)
    }

    /// Begins the snapshot of an execution.
    pub(super) async fn begin_snapshot(&mut self) -> Result<()> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        self.begin(begin, "BEGIN DEFERRED", TransactionLimits::default()).await
    }

    /// Ends the snapshot of an execution, in which nothing was changed.
    pub(super) async fn end_snapshot(mut self) {
        self.rollback().await;
    }

    /// Hands the connection to the reads of an execution, if no other execution has it.
    pub(super) fn into_shared(self) -> SharedConnection {
        match self {
            Self::Postgres(Lease::Exclusive(checkout)) => SharedConnection::Postgres(checkout),
            Self::Sqlite(Lease::Exclusive(checkout)) => SharedConnection::Sqlite(checkout),
            Self::Postgres(Lease::Shared(_)) | Self::Sqlite(Lease::Shared(_)) => SharedConnection::Unopened,
        }
    }

    /// Takes the connection back from the reads of an execution.
    pub(super) fn from_shared(connection: SharedConnection) -> Option<Self> {
        match connection {
            SharedConnection::Unopened => None,
            SharedConnection::Postgres(checkout) => Some(Self::Postgres(Lease::Exclusive(checkout))),
            SharedConnection::Sqlite(checkout) => Some(Self::Sqlite(Lease::Exclusive(checkout))),
        }
    }

    async fn run_or_roll_back<R, F>(&mut self, work: F) -> Result<R>
    where
        F: AsyncFnOnce(&mut Conn) -> Result<R> + for<'c> TransactionFn<'c, Result<R>>,
    {
        let result = work(&mut *self).await;
        if result.is_err() {
            // The first error is the useful one.
            self.rollback().await;
        }
        result
    }

    async fn begin(&mut self, postgres: &str, sqlite: &'static str, limits: TransactionLimits) -> Result<()> {
        match self {
            Self::Postgres(checkout) => {
                if let Some(timeout) = limits.statement {
                    checkout.set_statement_timeout(timeout);
                }
                let begin = format!("{postgres}{}", checkout.session().transaction_settings(limits));
                let limit = checkout.begin_statement()?;
                let begun = PgTransactionManager::begin_transaction_sql(checkout.raw(), &begin);
                let result = timeout(limit, begun).await;
                checkout.finish_statement(result)
            }
            Self::Sqlite(checkout) => {
                checkout.begin_statement()?;
                let begin = move |conn: &mut SqliteConnection| {
                    SyncSqliteTransactionManager::begin_transaction_sql(conn, sqlite)
                };
                let result = checkout.raw().spawn_blocking(begin).await;
                checkout.finish_statement(Ok(result))
            }
        }
    }

    /// Commits the transaction, or closes the connection, which may still be in it.
    async fn commit(&mut self) -> Result<()> {
        let result = run_statement!(self, raw => commit_transaction(raw));
        if result.is_err() {
            on_engine!(self, checkout => checkout.discard());
        }
        result
    }

    /// Rolls the transaction back, unless the connection is to be closed, which does the same.
    async fn rollback(&mut self) {
        let is_rolled_back = match self {
            Self::Postgres(checkout) if !checkout.is_broken() => {
                let rollback = PgTransactionManager::rollback_transaction(checkout.raw());
                timeout(ROLLBACK_TIMEOUT, rollback).await.is_ok_and(|result| result.is_ok())
            }
            Self::Sqlite(checkout) if !checkout.is_broken() => {
                SqliteTransactionManager::rollback_transaction(checkout.raw()).await.is_ok()
            }
            Self::Postgres(_) | Self::Sqlite(_) => false,
        };
        if !is_rolled_back {
            on_engine!(self, checkout => checkout.discard());
        }
    }

    /// Returns the kind of the failure of the last statement that failed on this connection.
    pub fn last_failure(&self) -> Option<Failure> {
        on_engine!(self, checkout => checkout.last_failure())
    }

    /// Returns true if other transactions wait for single rows, and not for all others that write.
    pub fn locks_rows(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// Runs SQL that returns no rows and has no parameters.
    ///
    /// # Errors
    ///
    /// Returns an error if a statement fails.
    pub async fn batch_execute(&mut self, sql: &str) -> Result<()> {
        run_statement!(self, raw => raw.batch_execute(sql))
    }

    /// Runs a statement without effect, to check that the database answers.
    ///
    /// # Errors
    ///
    /// Returns an error if the database does not answer.
    pub async fn check_alive(&mut self) -> Result<()> {
        self.batch_execute("SELECT 1").await
    }
}
