//! A pool of connections, and the waiting for one of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool::Runtime;
use deadpool::managed::{Pool, PoolError};

use crate::error::{Error, Result};
use crate::storage::checkout::Checkout;
use crate::storage::condition_log::ConditionLog;
use crate::storage::connector::{Connect, Connector};
use crate::storage::errors::Failure;
use crate::storage::lease::Lease;
use crate::storage::read_permits::ReadPermit;
use crate::storage::session::Session;

/// The connections that a pool holds, and how long callers wait for one.
pub struct ConnectionPool<S: Session> {
    pool: Pool<Connector<S>>,
    conditions: Arc<ConditionLog>,
    timeouts: PoolTimeouts,
}

impl<S: Session> Clone for ConnectionPool<S> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), conditions: self.conditions.clone(), timeouts: self.timeouts }
    }
}

/// The time limits of a pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolTimeouts {
    /// The time for which a caller waits for a connection, opening one included.
    pub wait: Duration,
    /// The time in which a connection has to be open.
    pub connect: Duration,
    /// The time limit of each statement.
    pub statement: Duration,
}

impl<S: Session> ConnectionPool<S> {
    /// Creates a pool, which opens up to `size` connections as they are needed.
    ///
    /// # Errors
    ///
    /// Returns an error if the pool cannot be built.
    pub fn new(
        connect: Connect<S>,
        size: usize,
        timeouts: PoolTimeouts,
        conditions: Arc<ConditionLog>,
    ) -> Result<Self> {
        let pool = Pool::builder(Connector { connect })
            .max_size(size)
            .create_timeout(Some(timeouts.connect))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(Error::internal)?;
        Ok(Self { pool, conditions, timeouts })
    }

    /// Takes a connection for a caller that waits since `waiting_since`.
    ///
    /// A caller that reads may have waited for its permit before. A caller that has waited for long while statements
    /// fail is refused, because it would wait again.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unavailable`] if no connection is free in time or none can be opened.
    pub async fn checkout(&self, waiting_since: Instant, permit: Option<ReadPermit>) -> Result<Lease<S>> {
        self.refuse_after_wait(waiting_since)?;
        let got = tokio::time::timeout(self.timeouts.wait, self.pool.get()).await;
        self.refuse_after_wait(waiting_since)?;
        let waited = waiting_since.elapsed();
        let (failure, cause) = match got {
            Ok(Ok(object)) => {
                let conditions = self.conditions.clone();
                let checkout = Checkout::new(object, permit, conditions, self.timeouts.statement, waited);
                return Ok(Lease::Exclusive(Box::new(checkout)));
            }
            Ok(Err(PoolError::Backend(error))) => (error.failure, error.cause),
            Ok(Err(error @ PoolError::Timeout(_))) => (Failure::Unreachable, error.to_string()),
            Ok(Err(error)) => (Failure::NoConnectionFree, error.to_string()),
            Err(elapsed) => (Failure::NoConnectionFree, elapsed.to_string()),
        };
        self.conditions.record_failure(failure, &cause);
        // A connection that cannot be opened is no fault of the request, whatever the reason is.
        Err(match failure {
            Failure::Internal => Error::unavailable(Failure::Unreachable.message()),
            failure => failure.into_error(cause),
        })
    }

    fn refuse_after_wait(&self, waiting_since: Instant) -> Result<()> {
        match self.conditions.reason_to_refuse(waiting_since.elapsed()) {
            Some(failure) => Err(Error::unavailable(failure.message())),
            None => Ok(()),
        }
    }

    /// Closes the pool; connections in use are closed when they are returned.
    pub fn close(&self) {
        self.pool.close();
    }
}
