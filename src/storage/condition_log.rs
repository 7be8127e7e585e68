//! The conditions in which the database does not serve statements, each logged once when it begins and when it ends.

use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::metrics::{KindLabel, METRICS};
use crate::storage::errors::Failure;

/// The time without a failure after which an outage is over.
///
/// During an outage single statements may succeed, and each must not end one condition and begin the next.
const OUTAGE_QUIET_PERIOD: Duration = Duration::from_secs(1);
/// The time without a failure after which contention is over.
const CONTENTION_QUIET_PERIOD: Duration = Duration::from_secs(60);

/// The time after which a caller that waits is refused if the database gives no answer.
const MAX_WAIT_IN_OUTAGE: Duration = Duration::from_secs(1);
/// The time after which a caller that waits is refused if statements fail because of locks.
const MAX_WAIT_IN_CONTENTION: Duration = Duration::from_secs(2);

/// The conditions that last at the moment.
///
/// Every connection of a database reports here. A success costs one atomic read while no condition lasts. The mutex
/// protects the list of conditions; it is held for a few instructions only, and no other lock is taken meanwhile.
#[derive(Debug, Default)]
pub struct ConditionLog {
    conditions: Mutex<Vec<Condition>>,
    /// The length of `conditions`.
    count: AtomicUsize,
    /// True if nothing is logged and counted.
    is_silent: bool,
}

/// A condition that lasts.
#[derive(Debug)]
struct Condition {
    failure: Failure,
    failures: u64,
    last_failed_at: Instant,
}

/// The evidence that a condition is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Success {
    /// The database answered a statement.
    Statement,
    /// The database committed a change.
    Commit,
}

impl ConditionLog {
    /// Creates the conditions of connections whose failures are not logged, such as those of a replica.
    pub fn silent() -> Self {
        Self { is_silent: true, ..Self::default() }
    }

    /// Counts a failure, and logs it if its condition begins.
    pub fn record_failure(&self, failure: Failure, cause: impl Display) {
        if !self.is_silent {
            METRICS.db_failures.get_or_create(&KindLabel { kind: failure.label() }).inc();
        }
        if failure == Failure::Internal {
            // The request that fails logs it.
            return;
        }
        let mut conditions = self.conditions.lock();
        let now = Instant::now();
        if let Some(condition) = conditions.iter_mut().find(|condition| condition.failure == failure) {
            condition.failures += 1;
            condition.last_failed_at = now;
            return;
        }
        conditions.push(Condition { failure, failures: 1, last_failed_at: now });
        self.count.store(conditions.len(), Ordering::Relaxed);
        drop(conditions);
        if self.is_silent {
            return;
        }
        tracing::warn!(%cause, "{}; the log tells when this ends", failure.message());
    }

    /// Ends the conditions that a success contradicts, after their quiet periods.
    pub fn record_success(&self, success: Success) {
        if self.count.load(Ordering::Relaxed) > 0 {
            self.end_conditions(|condition| {
                let is_contradicted = success == Success::Commit || !condition.failure.concerns_changes_only();
                is_contradicted && condition.last_failed_at.elapsed() >= condition.failure.quiet_period()
            });
        }
    }

    /// Ends the conditions under which no change can be committed, because one was committed as a check.
    pub fn record_writable(&self) {
        self.end_conditions(|condition| condition.failure.prevents_changes());
    }

    /// Returns the condition under which no change can be committed, if one lasts.
    pub fn preventing_changes(&self) -> Option<Failure> {
        self.find(|condition| condition.failure.prevents_changes())
    }

    /// Returns the condition because of which a caller that has waited is refused instead of waiting again.
    pub fn reason_to_refuse(&self, waited: Duration) -> Option<Failure> {
        self.find(|condition| match condition.failure {
            Failure::NoAnswer | Failure::Unreachable => waited >= MAX_WAIT_IN_OUTAGE,
            // Usually it concerns a single row, so it has to be fresh.
            Failure::Locked => {
                waited >= MAX_WAIT_IN_CONTENTION && condition.last_failed_at.elapsed() < MAX_WAIT_IN_CONTENTION
            }
            _ => false,
        })
    }

    fn find(&self, matches: impl Fn(&Condition) -> bool) -> Option<Failure> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.conditions.lock().iter().find(|condition| matches(condition)).map(|condition| condition.failure)
    }

    fn end_conditions(&self, is_over: impl Fn(&Condition) -> bool) {
        let mut conditions = self.conditions.lock();
        let ended: Vec<Condition> = conditions.extract_if(.., |condition| is_over(condition)).collect();
        self.count.store(conditions.len(), Ordering::Relaxed);
        drop(conditions);
        for Condition { failure, failures, .. } in ended.into_iter().filter(|_| !self.is_silent) {
            tracing::info!(failures, "it is over that {}", failure.message());
        }
    }
}

impl Failure {
    /// Returns true if reading may succeed while the condition lasts.
    fn concerns_changes_only(self) -> bool {
        self.prevents_changes() || matches!(self, Self::Locked | Self::Conflict)
    }

    /// Returns true if no change at all can be committed while the condition lasts.
    fn prevents_changes(self) -> bool {
        matches!(self, Self::ReadOnly | Self::StorageFull | Self::StorageFailed)
    }

    fn quiet_period(self) -> Duration {
        match self {
            Self::Locked | Self::Conflict => CONTENTION_QUIET_PERIOD,
            _ => OUTAGE_QUIET_PERIOD,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lasting(log: &ConditionLog) -> Vec<Failure> {
        log.conditions.lock().iter().map(|condition| condition.failure).collect()
    }

    /// Lets the quiet periods of all conditions pass.
    fn pass_quiet_periods(log: &ConditionLog) {
        for condition in log.conditions.lock().iter_mut() {
            condition.last_failed_at -= CONTENTION_QUIET_PERIOD;
        }
    }

    #[test]
    fn condition_lasts_until_a_success_after_its_quiet_period() {
        let log = ConditionLog::default();
        log.record_failure(Failure::Unreachable, "cause");
        log.record_failure(Failure::Unreachable, "cause");
        assert_eq!(log.conditions.lock()[0].failures, 2, "one condition counts all its failures");
        log.record_success(Success::Statement);
        assert_eq!(lasting(&log), [Failure::Unreachable], "it may be one success among failures");
        pass_quiet_periods(&log);
        log.record_success(Success::Statement);
        assert_eq!(lasting(&log), []);
    }

    #[test]
    fn condition_of_changes_is_ended_by_a_commit_only() {
        let log = ConditionLog::default();
        log.record_failure(Failure::ReadOnly, "cause");
        log.record_failure(Failure::Locked, "cause");
        pass_quiet_periods(&log);
        log.record_success(Success::Statement);
        assert_eq!(log.preventing_changes(), Some(Failure::ReadOnly));
        log.record_success(Success::Commit);
        assert_eq!(lasting(&log), []);
        assert_eq!(log.preventing_changes(), None);
    }

    #[test]
    fn caller_that_waited_is_refused_while_statements_fail() {
        let log = ConditionLog::default();
        assert_eq!(log.reason_to_refuse(MAX_WAIT_IN_CONTENTION), None);
        log.record_failure(Failure::Locked, "cause");
        assert_eq!(log.reason_to_refuse(MAX_WAIT_IN_OUTAGE), None, "others may be free");
        assert_eq!(log.reason_to_refuse(MAX_WAIT_IN_CONTENTION), Some(Failure::Locked));
        log.record_failure(Failure::NoAnswer, "cause");
        assert_eq!(log.reason_to_refuse(Duration::ZERO), None, "somebody has to find out whether it is over");
        assert_eq!(log.reason_to_refuse(MAX_WAIT_IN_OUTAGE), Some(Failure::NoAnswer));
    }

    #[test]
    fn condition_of_changes_ends_at_once_when_a_check_commits() {
        let log = ConditionLog::default();
        log.record_failure(Failure::StorageFull, "cause");
        log.record_failure(Failure::Locked, "cause");
        log.record_writable();
        assert_eq!(lasting(&log), [Failure::Locked]);
    }
}
