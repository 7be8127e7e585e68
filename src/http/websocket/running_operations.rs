//! The operations of a WebSocket that are running, whether or not the client still waits for them.
//!
//! A mutation whose operation the client completed runs to its end. It counts until then, so that a client cannot start
//! more than the limit by completing what it starts.

use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::metrics::{KindLabel, METRICS};

/// The time after which a client may start a rejected operation again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The number and the size of the running operations of one WebSocket.
#[derive(Debug, Clone)]
pub struct RunningOperations(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max_operations: usize,
    max_bytes: usize,
    /// Held for one access only, and no other lock is taken under it.
    usage: Mutex<Usage>,
    /// Wakes the connection's task when an operation ends.
    end_waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct Usage {
    operations: usize,
    bytes: usize,
}

/// One running operation, which counts until it is dropped.
#[derive(Debug)]
pub struct RunningOperation {
    inner: Arc<Inner>,
    bytes: usize,
}

impl RunningOperations {
    /// Creates the count of a connection without operations.
    pub fn new(max_operations: usize, max_bytes: usize) -> Self {
        let usage = Mutex::default();
        Self(Arc::new(Inner { max_operations, max_bytes, usage, end_waker: AtomicWaker::new() }))
    }

    /// Counts an operation that holds this number of bytes.
    ///
    /// A single operation may be larger than the limit of bytes, as the size of messages is limited too.
    ///
    /// # Errors
    ///
    /// Returns [`Error::RateLimited`] if there are too many operations, or if they hold too many bytes.
    pub fn start(&self, bytes: usize) -> Result<RunningOperation> {
        self.require_free_place()?;
        let mut usage = self.0.usage.lock();
        if usage.operations > 0 && usage.bytes + bytes > self.0.max_bytes {
            let limit = self.0.max_bytes;
            return Err(reject(format!("the operations of a WebSocket can have at most {limit} bytes together")));
        }
        usage.operations += 1;
        usage.bytes += bytes;
        Ok(RunningOperation { inner: self.0.clone(), bytes })
    }

    /// Checks that one more operation may run.
    ///
    /// # Errors
    ///
    /// Returns [`Error::RateLimited`] if there are too many operations.
    pub fn require_free_place(&self) -> Result<()> {
        let limit = self.0.max_operations;
        match self.0.usage.lock().operations < limit {
            true => Ok(()),
            false => Err(reject(format!("a WebSocket can have at most {limit} running operations"))),
        }
    }

    /// Returns whether as many operations as allowed run although the client has completed them.
    ///
    /// `active` is the number of operations that the client has not completed. If this returns `true`, the task of the
    /// context is woken when an operation ends.
    pub fn exceeds_limit_without(&self, active: usize, cx: &Context<'_>) -> bool {
        let is_exceeded = || self.0.usage.lock().operations.saturating_sub(active) >= self.0.max_operations;
        if !is_exceeded() {
            return false;
        }
        self.0.end_waker.register(cx.waker());
        // An operation that ended before the registration wakes nobody.
        is_exceeded()
    }
}

impl Drop for RunningOperation {
    fn drop(&mut self) {
        let mut usage = self.inner.usage.lock();
        usage.operations -= 1;
        usage.bytes -= self.bytes;
        drop(usage);
        self.inner.end_waker.wake();
    }
}

fn reject(message: String) -> Error {
    METRICS.quota_rejections.get_or_create(&KindLabel { kind: "socket_operations" }).inc();
    Error::RateLimited { message, retry_after: RETRY_AFTER }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn running_operations_are_limited_in_number_and_in_bytes() {
        let running = RunningOperations::new(2, 100);
        let large = running.start(1_000).expect("a single operation may be larger");
        assert!(running.start(1).is_err());
        drop(large);
        let first = running.start(60).unwrap();
        assert!(running.start(41).is_err());
        let _second = running.start(40).unwrap();
        assert!(running.start(0).is_err());
        drop(first);
        assert!(running.start(60).is_ok());
    }

    #[test]
    fn completed_operations_pause_the_input_until_they_end() {
        let running = RunningOperations::new(2, 100);
        let cx = Context::from_waker(Waker::noop());
        let (first, _second) = (running.start(1).unwrap(), running.start(1).unwrap());
        assert!(!running.exceeds_limit_without(1, &cx), "the client waits for one of them");
        assert!(running.exceeds_limit_without(0, &cx));
        drop(first);
        assert!(!running.exceeds_limit_without(0, &cx));
    }
}
