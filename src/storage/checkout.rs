//! A connection while a caller has it: its time limits, and what its last failure means for it.

use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::{Object, Pool};
use diesel::result::Error as DatabaseError;
use diesel_async::pooled_connection::PoolableConnection;
use tokio::time::error::Elapsed;

use crate::error::{Error, Result};
use crate::storage::condition_log::{ConditionLog, Success};
use crate::storage::connector::Connector;
use crate::storage::errors::Failure;
use crate::storage::read_permits::ReadPermit;
use crate::storage::session::Session;

/// The shortest time that the first statement gets, however long the caller waited for the connection.
///
/// It is longer than PostgreSQL waits for a lock, whose answer tells a lock from a server that gives no answer.
const MIN_FIRST_STATEMENT_TIME: Duration = Duration::from_millis(1_750);

/// A connection that goes back to its pool only if it can be used again.
///
/// A request that is dropped inside a transaction would hand its row locks to the next user of the connection, and a
/// connection whose statement got no answer in time would hand over that answer. Such a connection is closed instead,
/// which rolls its transaction back.
pub struct Checkout<S: Session> {
    object: Option<Object<Connector<S>>>,
    conditions: Arc<ConditionLog>,
    /// The time limit of each statement.
    statement_timeout: Duration,
    /// The rest of the limit for the first statement, after the wait for the connection.
    first_timeout: Option<Duration>,
    last_failure: Option<Failure>,
    is_broken: bool,
    /// The permit of a read, which is returned after the connection.
    _permit: Option<ReadPermit>,
}

impl<S: Session> Checkout<S> {
    /// Wraps a connection for which the caller waited for `waited`, and the permit under which it reads.
    pub fn new(
        object: Object<Connector<S>>,
        permit: Option<ReadPermit>,
        conditions: Arc<ConditionLog>,
        statement_timeout: Duration,
        waited: Duration,
    ) -> Self {
        let remaining = statement_timeout.saturating_sub(waited);
        Self {
            object: Some(object),
            conditions,
            statement_timeout,
            first_timeout: Some(remaining.max(MIN_FIRST_STATEMENT_TIME).min(statement_timeout)),
            last_failure: None,
            is_broken: false,
            _permit: permit,
        }
    }

    /// Returns the connection with what belongs to it.
    ///
    /// # Panics
    ///
    /// Never, because only dropping the checkout takes the connection.
    pub fn session(&mut self) -> &mut S {
        self.object.as_mut().expect("only drop takes the connection")
    }

    /// Returns the connection that runs statements.
    pub fn raw(&mut self) -> &mut S::Raw {
        self.session().raw()
    }

    /// Returns the kind of the last failed statement.
    pub fn last_failure(&self) -> Option<Failure> {
        self.last_failure
    }

    /// Returns true if no more statements can run.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Replaces the time limit of the next statements.
    pub fn set_statement_timeout(&mut self, timeout: Duration) {
        self.statement_timeout = timeout;
        self.first_timeout = None;
    }

    /// Returns the time limit of the next statement.
    ///
    /// # Errors
    ///
    /// Returns the error of an earlier statement if it broke the connection.
    pub fn begin_statement(&mut self) -> Result<Duration> {
        if self.is_broken {
            return Err(self.last_failure.unwrap_or(Failure::Unreachable).into_error("the connection is broken"));
        }
        Ok(self.first_timeout.take().unwrap_or(self.statement_timeout))
    }

    /// Converts the result of a statement and draws its consequences.
    ///
    /// # Errors
    ///
    /// Returns the failure of the statement.
    pub fn finish_statement<T>(&mut self, result: Result<Result<T, DatabaseError>, Elapsed>) -> Result<T> {
        let (failure, cause) = match result {
            Ok(Ok(value)) => {
                self.conditions.record_success(Success::Statement);
                return Ok(value);
            }
            Ok(Err(error)) => {
                (self.object.as_ref().map_or(Failure::Internal, |it| it.failure_of(&error)), error.into())
            }
            Err(elapsed) => {
                self.give_up_statement();
                (Failure::NoAnswer, Box::<dyn std::error::Error + Send + Sync>::from(elapsed))
            }
        };
        self.last_failure = Some(failure);
        self.is_broken |= failure.breaks_connection();
        self.conditions.record_failure(failure, &cause);
        Err(failure.into_error(cause))
    }

    /// Records that a transaction that may have changed something was committed.
    pub fn record_commit(&self) {
        self.conditions.record_success(Success::Commit);
    }

    /// Closes the connection instead of returning it to the pool.
    pub fn discard(&mut self) {
        self.is_broken = true;
    }

    /// Abandons a statement without an answer, with the connection and those that wait in the pool.
    ///
    /// The others lead to the same server: each would cost one request the same time to find that out.
    fn give_up_statement(&mut self) {
        self.is_broken = true;
        if let Some(object) = &self.object {
            object.cancel_statement();
            if let Some(pool) = Object::pool(object) {
                close_idle(&pool);
            }
        }
    }
}

fn close_idle<S: Session>(pool: &Pool<Connector<S>>) {
    drop(pool.retain(|_, _| false));
}

impl<S: Session> Drop for Checkout<S> {
    fn drop(&mut self) {
        if self.is_broken || self.raw().is_broken() {
            drop(self.object.take().map(Object::take));
        }
    }
}

/// Converts the error of a commit, whose transaction may have become durable nevertheless.
///
/// The error is not `UNAVAILABLE` unless the transaction was certainly rolled back: that code invites to a retry.
pub fn commit_error(error: Error, failure: Option<Failure>) -> Error {
    match failure {
        Some(failure) if failure.rolls_back_commit() => error,
        _ => Error::internal(CommitOutcomeUnknown(error)),
    }
}

/// The error of a failed commit, which the database may have made durable nevertheless.
///
/// A caller must not repeat the work of such a transaction.
#[derive(Debug, thiserror::Error)]
#[error("outcome of a commit is unknown: {0}")]
pub struct CommitOutcomeUnknown(Error);
