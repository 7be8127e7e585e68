//! Threads on which SQLite's statements may block, because they compute and wait for the disk.
//!
//! By default each statement moves to such a thread and back. Work that consists of many statements is moved there
//! as a whole by [`spawn_on_blocking_thread`], and its statements then run in place.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use diesel_async::sync_connection_wrapper::SpawnBlocking;
use futures_util::future::{BoxFuture, FutureExt, ready};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};

thread_local! {
    /// Whether statements may block the current thread.
    static MAY_BLOCK: Cell<bool> = const { Cell::new(false) };
}

/// Runs a statement in place if the current thread may block, and otherwise on a thread that may.
pub struct TokioBlocking;

impl SpawnBlocking for TokioBlocking {
    fn spawn_blocking<'a, R>(
        &mut self,
        statement: impl FnOnce() -> R + Send + 'static,
    ) -> BoxFuture<'a, Result<R, Box<dyn std::error::Error + Send + Sync>>>
    where
        R: Send + 'static,
    {
        if MAY_BLOCK.get() {
            // A panic ends the statement and not its connection, as it would on a thread of the statement's own.
            let result = catch_unwind(AssertUnwindSafe(statement));
            return ready(result.map_err(|_| "a statement panicked".into())).boxed();
        }
        // A boxed statement lets tokio's task be compiled once, and not once per type of statement.
        let (sender, receiver) = oneshot::channel();
        let task = spawn_blocking(Box::new(move || drop(sender.send(statement()))) as Box<dyn FnOnce() + Send>);
        Box::pin(async move {
            // The channel closes without a result only if the statement panicked.
            match receiver.await {
                Ok(result) => Ok(result),
                Err(closed) => Err(task.await.err().map_or_else(|| closed.into(), Into::into)),
            }
        })
    }

    fn get_runtime() -> Self {
        Self
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
