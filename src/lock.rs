//! Locks of memory that are held for no `await` and no I/O that could wait.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is kept under these locks is changed in steps that can't fail half-way, so one who panicked
/// under it left it whole.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
