//! Work that goes on though nobody asks how far it is.

use crate::error::{Error, Result};

/// Runs on a task of its own, from now on. A subscriber whose socket takes nothing is not polled, for long; it must
/// hold no connection to the database meanwhile, nor what others wait for.
pub fn spawn_detached<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> impl Future<Output = Result<T>> + Send + 'static {
    let task = tokio::spawn(work);
    async { task.await.map_err(Error::internal)? }
}
