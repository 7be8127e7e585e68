//! SQLite works, and waits for its disk, on threads that may block.
//!
//! By itself each statement changes threads and back. Work of many statements goes to such a thread as a whole
//! instead: [`Store::in_one_go`].

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use diesel::SqliteConnection;
use diesel_async::sync_connection_wrapper::{SpawnBlocking, SyncConnectionWrapper};
use futures_util::future::{BoxFuture, FutureExt, ready};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use crate::error::{Error, Result};
use crate::storage::pool::Database;

thread_local! {
    static MAY_BLOCK: Cell<bool> = const { Cell::new(false) };
}

/// Where the statements of a connection run.
trait HasSpawner {
    type Spawner: SpawnBlocking;
}

impl<C, S: SpawnBlocking> HasSpawner for SyncConnectionWrapper<C, S> {
    type Spawner = S;
}

/// diesel-async's own way, which has no public name: a change of threads for each statement.
type PerStatement = <SyncConnectionWrapper<SqliteConnection> as HasSpawner>::Spawner;

/// Runs SQLite's statements: where they are made if that thread may block, else on one that may.
pub struct TokioBlocking(PerStatement);

impl SpawnBlocking for TokioBlocking {
    fn spawn_blocking<'a, R>(
        &mut self,
        statement: impl FnOnce() -> R + Send + 'static,
    ) -> BoxFuture<'a, Result<R, Box<dyn std::error::Error + Send + Sync>>>
    where
        R: Send + 'static,
    {
        if MAY_BLOCK.get() {
            // As it would be on a thread of its own, a panic is the statement's end and not its connection's.
            let done = catch_unwind(AssertUnwindSafe(statement));
            return ready(done.map_err(|_| "a statement panicked".into())).boxed();
        }
        self.0.spawn_blocking(statement)
    }

    fn get_runtime() -> Self {
        Self(PerStatement::get_runtime())
    }
}

impl Database {
    /// Does work that is little but statements, and goes on to its end though nobody waits for it. It must not
    /// wait for others: it may hold a thread meanwhile.
    pub async fn run_on_blocking_thread<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let done = match self {
            Self::Postgres(_) => tokio::spawn(work).await,
            Self::Sqlite { .. } => {
                let runtime = Handle::current();
                let on_thread = move || {
                    MAY_BLOCK.set(true);
                    let _after = BlockingGuard;
                    runtime.block_on(work)
                };
                spawn_blocking(on_thread).await
            }
        };
        done.map_err(Error::internal)
    }
}

/// The thread goes back to others, who mean to block for a short time only.
struct BlockingGuard;

impl Drop for BlockingGuard {
    fn drop(&mut self) {
        MAY_BLOCK.set(false);
    }
}
