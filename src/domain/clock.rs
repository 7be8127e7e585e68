//! The only source of time, so that a test can move it.
//!
//! A clock never goes back. It runs with the monotonic clock of the machine and is corrected by a reference: the
//! database's clock where there is one, so that all nodes have the same time, and the system's clock otherwise. It
//! follows a reference that is ahead at once, and slows down for one that is behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

/// A clock that reads whole microseconds.
///
/// Both database engines store microseconds, so a row that is read back equals the row that was written. All clones
/// share one state.
#[derive(Debug, Clone)]
pub struct Clock(Arc<ClockState>);

/// The state of a clock. Each value is independent of the others, so all accesses are relaxed.
#[derive(Debug)]
struct ClockState {
    origin: Instant,
    /// The time at `origin`, in microseconds since 1970.
    origin_micros: AtomicI64,
    /// The newest time that was returned.
    latest_micros: AtomicI64,
    /// The difference of the system's clock from the true time, which a test sets.
    system_error: TimeDelta,
    /// True if only a test corrects the clock.
    is_adjustable: bool,
    /// The time that a paused clock shows, in microseconds since 1970; [`RUNNING`] if it runs.
    paused_micros: AtomicI64,
}

/// The value of `paused_micros` while a clock runs.
const RUNNING: i64 = i64::MIN;

impl Clock {
    /// Returns the clock of a server, which begins with the system's time.
    pub fn system() -> Self {
        Self::new(TimeDelta::zero(), false)
    }

    /// Returns the clock of a server whose system clock is wrong by `error`, for tests.
    pub fn system_with_error(error: TimeDelta) -> Self {
        Self::new(error, false)
    }

    /// Returns a clock of a test, which runs with the system's and has no reference.
    ///
    /// A test can [`advance`](Self::advance) it and [`pause`](Self::pause) it. The constructor is not limited to
    /// `cfg(test)` because the test kit is another crate.
    pub fn adjustable() -> Self {
        Self::new(TimeDelta::zero(), true)
    }

    fn new(system_error: TimeDelta, is_adjustable: bool) -> Self {
        let state = ClockState {
            origin: Instant::now(),
            origin_micros: AtomicI64::new(0),
            latest_micros: AtomicI64::new(i64::MIN),
            system_error,
            is_adjustable,
            paused_micros: AtomicI64::new(RUNNING),
        };
        let clock = Self(Arc::new(state));
        clock.0.origin_micros.store(clock.system_time().timestamp_micros(), Ordering::Relaxed);
        clock
    }

    /// Returns the current time, which is never before one returned earlier.
    ///
    /// # Panics
    ///
    /// Panics if the time is beyond chrono's range, about the year 262,000.
    pub fn now(&self) -> DateTime<Utc> {
        let micros = match self.0.paused_micros.load(Ordering::Relaxed) {
            RUNNING => self.0.origin_micros.load(Ordering::Relaxed) + micros_of(self.0.origin.elapsed()),
            paused => paused,
        };
        let latest = self.0.latest_micros.fetch_max(micros, Ordering::Relaxed);
        DateTime::from_timestamp_micros(micros.max(latest)).expect("the time is within chrono's range")
    }

    /// Returns the time of the system's clock, which may be wrong and may go back.
    #[expect(clippy::disallowed_methods, reason = "this is the clock that all other code uses")]
    pub fn system_time(&self) -> DateTime<Utc> {
        Utc::now() + self.0.system_error
    }

    /// Returns true if [`Self::synchronize`] has an effect: the clock is not that of a test.
    pub fn is_synchronized(&self) -> bool {
        !self.0.is_adjustable
    }

    /// Sets the clock to a reference, before anything uses its time.
    ///
    /// Unlike [`Self::synchronize`], this may move the clock back: the system's clock may be wrong when a server
    /// starts.
    pub fn start_at(&self, reference: DateTime<Utc>) {
        if self.0.is_adjustable {
            return;
        }
        let origin = reference.timestamp_micros() - micros_of(self.0.origin.elapsed());
        self.0.origin_micros.store(origin, Ordering::Relaxed);
        self.0.latest_micros.store(i64::MIN, Ordering::Relaxed);
    }

    /// Corrects the clock by a reference.
    ///
    /// A clock that is behind continues at the reference. One that is ahead continues with its own time, moved back by
    /// `max_slew` at most; it stands still meanwhile.
    pub fn synchronize(&self, reference: DateTime<Utc>, max_slew: Duration) {
        if self.0.is_adjustable {
            return;
        }
        let correction = reference.timestamp_micros() - self.now().timestamp_micros();
        self.0.origin_micros.fetch_add(correction.max(-micros_of(max_slew)), Ordering::Relaxed);
    }

    /// Moves this clock and its clones forward.
    ///
    /// # Panics
    ///
    /// Panics if the clock is not [adjustable](Self::adjustable).
    pub fn advance(&self, duration: Duration) {
        assert!(self.0.is_adjustable, "only an adjustable clock can be changed");
        let shown = match self.0.paused_micros.load(Ordering::Relaxed) {
            RUNNING => &self.0.origin_micros,
            _ => &self.0.paused_micros,
        };
        shown.fetch_add(micros_of(duration), Ordering::Relaxed);
    }

    /// Stops this clock and its clones: from now on only [`advance`](Self::advance) moves them.
    ///
    /// # Panics
    ///
    /// Panics if the clock is not [adjustable](Self::adjustable).
    pub fn pause(&self) {
        assert!(self.0.is_adjustable, "only an adjustable clock can be changed");
        self.0.paused_micros.store(self.now().timestamp_micros(), Ordering::Relaxed);
    }
}

fn micros_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_SLEW: Duration = Duration::from_millis(50);

    #[test]
    fn clock_follows_a_reference_that_is_ahead() {
        let clock = Clock::system_with_error(TimeDelta::hours(-1));
        let reference = clock.now() + TimeDelta::hours(1);
        clock.synchronize(reference, MAX_SLEW);
        assert!(clock.now() >= reference && clock.now() < reference + TimeDelta::minutes(1));
        assert!(clock.system_time() < reference - TimeDelta::minutes(59), "the system's clock is as it was");
    }

    #[test]
    fn clock_starts_at_a_reference_that_is_behind() {
        let clock = Clock::system_with_error(TimeDelta::hours(1));
        let reference = clock.now() - TimeDelta::hours(1);
        clock.start_at(reference);
        assert!(clock.now() >= reference && clock.now() < reference + TimeDelta::minutes(1));
    }

    #[test]
    fn clock_never_goes_back_when_its_reference_does() {
        let clock = Clock::system();
        let before = clock.now();
        for _ in 0..10 {
            clock.synchronize(before - TimeDelta::hours(1), MAX_SLEW);
            assert!(clock.now() >= before);
        }
        let slewed = clock.0.origin_micros.load(Ordering::Relaxed) + micros_of(clock.0.origin.elapsed());
        let difference = before.timestamp_micros() - slewed;
        assert!(difference <= 10 * micros_of(MAX_SLEW), "the clock slows down by {difference} µs");
    }

    #[test]
    fn paused_clock_moves_by_advance_only() {
        let clock = Clock::adjustable();
        clock.pause();
        let paused_at = clock.now();
        clock.synchronize(paused_at + TimeDelta::hours(1), MAX_SLEW);
        assert_eq!(clock.now(), paused_at);
        clock.advance(Duration::from_secs(3));
        assert_eq!(clock.now(), paused_at + TimeDelta::seconds(3));
    }
}
