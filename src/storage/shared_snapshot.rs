//! One snapshot of the database for all reads of an execution.
//!
//! A feed that starts after a cursor of a response delivers what changed since the response. That holds only if the
//! cursor and all other fields of the response show the same state, and an execution otherwise reads on several
//! connections at different times. Within [`on_one_snapshot`], all reads use one connection in turn, in one transaction
//! that only reads. Nothing that has a connection waits for another one in order to continue, so taking turns cannot
//! deadlock.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::error::{Error, Result};
use crate::storage::connection::Conn;
use crate::storage::lease::{Lease, SharedConnection};

type Slot = Arc<Mutex<SharedConnection>>;

tokio::task_local! {
    /// The connection of the current execution; the lock is held while a read uses it.
    static CURRENT: Slot;
}

/// Runs work whose reads all see the same state of the database.
///
/// Tasks that the work spawns read outside of the snapshot. If the future is dropped, the connection is closed.
pub async fn on_one_snapshot<T>(work: impl Future<Output = T>) -> T {
    let slot = Slot::default();
    let result = CURRENT.scope(slot.clone(), work).await;
    // The connection is in use if the work left a read unfinished; then it is closed with the work.
    if let Ok(mut connection) = slot.try_lock_owned()
        && let Some(conn) = Conn::from_shared(std::mem::take(&mut *connection))
    {
        conn.end_snapshot().await;
    }
    result
}

/// Returns the connection of the current execution, which `open` opens at its first read.
///
/// Returns `None` if the current task does not read on one snapshot.
///
/// # Errors
///
/// Returns the errors of `open` and of beginning the snapshot, and the failure of an earlier read, which ended it.
pub async fn read_current(open: impl Future<Output = Result<Conn>>) -> Option<Result<Conn>> {
    let slot = CURRENT.try_with(Clone::clone).ok()?;
    let connection = slot.lock_owned().await;
    Some(read_shared(connection, open).await)
}

async fn read_shared(
    mut connection: OwnedMutexGuard<SharedConnection>,
    open: impl Future<Output = Result<Conn>>,
) -> Result<Conn> {
    if matches!(*connection, SharedConnection::Unopened) {
        let mut conn = open.await?;
        conn.begin_snapshot().await?;
        *connection = conn.into_shared();
    }
    let conn = match OwnedMutexGuard::try_map(connection, SharedConnection::postgres) {
        Ok(checkout) => Conn::Postgres(Lease::Shared(checkout)),
        Err(connection) => match OwnedMutexGuard::try_map(connection, SharedConnection::sqlite) {
            Ok(checkout) => Conn::Sqlite(Lease::Shared(checkout)),
            Err(_) => return Err(Error::internal("the connection of a snapshot was lost")),
        },
    };
    match conn.last_failure() {
        Some(failure) => Err(failure.into_error("an earlier read of the same snapshot failed")),
        None => Ok(conn),
    }
}
