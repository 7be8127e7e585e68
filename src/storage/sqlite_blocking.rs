//! Threads on which SQLite's statements may block, because they compute and wait for the disk.
//!
//! By default each statement moves to such a thread and back. Work that consists of many statements is moved there
//! as a whole by [`spawn_on_blocking_thread`], and its statements then run in place.
//!
//! A statement may have a time limit ([`with_time_limit`]), at which SQLite ends it.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use diesel::SqliteConnection;
use diesel_async::sync_connection_wrapper::{SpawnBlocking, SyncConnectionWrapper};
use futures_util::future::{BoxFuture, FutureExt, ready};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};

thread_local! {
    /// True while statements may block the current thread.
    static MAY_BLOCK: Cell<bool> = const { Cell::new(false) };
}

tokio::task_local! {
    /// The time limit of the statements of the current task.
    static TIME_LIMIT: Duration;
}

/// Runs work in which each statement of SQLite fails when it has run for the time limit.
///
/// The database has to be opened after [`sqlite_deadline::install`].
pub async fn with_time_limit<T>(limit: Duration, work: impl Future<Output = T>) -> T {
    TIME_LIMIT.scope(limit, work).await
}

/// Names the type that runs the statements of a connection.
trait HasSpawner {
    type Spawner: SpawnBlocking;
}

impl<C, S: SpawnBlocking> HasSpawner for SyncConnectionWrapper<C, S> {
    type Spawner = S;
}

/// diesel-async's own spawner, which has no public name: it moves each statement to another thread.
///
/// When the future of a statement is dropped, it waits until the statement has ended. The connection is then no longer
/// in use by another thread and can go back to its pool.
type PerStatement = <SyncConnectionWrapper<SqliteConnection> as HasSpawner>::Spawner;

/// Runs a statement in place if the current thread may block, and otherwise on a thread that may.
pub struct TokioBlocking(PerStatement);

impl SpawnBlocking for TokioBlocking {
    fn spawn_blocking<'a, R>(
        &mut self,
        statement: impl FnOnce() -> R + Send + 'static,
    ) -> BoxFuture<'a, Result<R, Box<dyn std::error::Error + Send + Sync>>>
    where
        R: Send + 'static,
    {
        // A boxed statement lets tokio's task be compiled once per type of result, and not once per type of statement.
        let statement: Box<dyn FnOnce() -> R + Send> = match TIME_LIMIT.try_with(|limit| *limit) {
            Ok(limit) => Box::new(move || sqlite_deadline::run_until(Instant::now() + limit, statement)),
            Err(_) => Box::new(statement),
        };
        if MAY_BLOCK.get() {
            // A panic ends the statement and not its connection, as it would on a thread of the statement's own.
            let result = catch_unwind(AssertUnwindSafe(statement));
            return ready(result.map_err(|_| "a statement panicked".into())).boxed();
        }
        self.0.spawn_blocking(statement)
    }

    fn get_runtime() -> Self {
        Self(PerStatement::get_runtime())
    }
}

/// Runs a future on a thread that may block; SQLite's statements run in place there.
///
/// The future runs to its end even if the returned handle is dropped, and a panic becomes the handle's error.
///
/// # Panics
///
/// Panics outside a tokio runtime.
pub fn spawn_on_blocking_thread<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let runtime = Handle::current();
    let work = work.boxed();
    spawn_blocking(move || {
        MAY_BLOCK.set(true);
        let _guard = MayBlockGuard;
        runtime.block_on(work)
    })
}

/// Clears [`MAY_BLOCK`] when the work ends, because the thread goes back to tokio's pool.
struct MayBlockGuard;

impl Drop for MayBlockGuard {
    fn drop(&mut self) {
        MAY_BLOCK.set(false);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::with_time_limit;
    use crate::storage::connection::RunQueryDsl;
    use crate::storage::engine::Engine;
    use crate::storage::pool::Database;
    use crate::storage::settings::DatabaseSettings;

    #[tokio::test(flavor = "multi_thread")]
    async fn dropped_statement_leaves_its_connection_usable() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::Sqlite(folder.path().join("parlor.db"));
        let database = Database::open(&DatabaseSettings::for_test(engine), "test").unwrap();
        // More often than there are connections, so that a lost connection would be missed.
        for _ in 0..20 {
            let mut conn = database.write().await.unwrap();
            let slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) \
                        SELECT count(*) FROM n";
            let statement = diesel::sql_query(slow).execute(&mut conn);
            assert!(
                tokio::time::timeout(Duration::from_millis(1), statement).await.is_err(),
                "the statement was quick"
            );
        }
        database.write().await.unwrap().check_alive().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn statement_ends_at_its_time_limit_and_its_connection_stays_usable() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::Sqlite(folder.path().join("parlor.db"));
        let database = Database::open(&DatabaseSettings::for_test(engine), "test").unwrap();
        let mut conn = database.read().await.unwrap();
        let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
        let limit = Duration::from_millis(50);
        let started_at = Instant::now();
        let result = with_time_limit(limit, diesel::sql_query(endless).execute(&mut conn)).await;
        assert!(started_at.elapsed() >= limit);
        let error = result.unwrap_err();
        assert_eq!(error.code(), "UNAVAILABLE", "{error}");
        conn.check_alive().await.unwrap();
    }
}
