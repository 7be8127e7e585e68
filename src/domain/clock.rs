//! The only source of time, so that a test can move it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};

/// A clock that reads whole microseconds.
///
/// Both database engines store microseconds, so a row that is read back equals the row that was written.
#[derive(Debug, Clone)]
pub struct Clock {
    /// The changes that a test made, shared by all clones; `None` for a system clock.
    adjustment: Option<Arc<Adjustment>>,
}

#[derive(Debug)]
struct Adjustment {
    /// The offset from the system's clock, or from the time of the pause, in microseconds.
    offset_micros: AtomicI64,
    /// The time at which the clock was paused, in microseconds since 1970; [`RUNNING`] if it runs.
    paused_at_micros: AtomicI64,
}

/// The value of `paused_at_micros` while a clock runs.
const RUNNING: i64 = i64::MIN;

impl Clock {
    /// Returns the clock of a server: the system's.
    pub fn system() -> Self {
        Self { adjustment: None }
    }

    /// Returns a clock of a test, which runs with the system's.
    ///
    /// A test can [`advance`](Self::advance) it and [`pause`](Self::pause) it. The constructor is not limited to `cfg(test)` because the test kit is another crate.
    pub fn adjustable() -> Self {
        let adjustment = Adjustment { offset_micros: AtomicI64::new(0), paused_at_micros: AtomicI64::new(RUNNING) };
        Self { adjustment: Some(Arc::new(adjustment)) }
    }

    /// Returns the current time.
    ///
    /// # Panics
    ///
    /// Panics if the time is beyond chrono's range, about the year 262,000.
    #[expect(clippy::disallowed_methods, reason = "this is the clock that all other code uses")]
    pub fn now(&self) -> DateTime<Utc> {
        let system = Utc::now().timestamp_micros();
        let micros = self.adjustment.as_ref().map_or(system, |adjustment| {
            let base = match adjustment.paused_at_micros.load(Ordering::Relaxed) {
                RUNNING => system,
                paused_at => paused_at,
            };
            base + adjustment.offset_micros.load(Ordering::Relaxed)
        });
        DateTime::from_timestamp_micros(micros).expect("the time is within chrono's range")
    }

    /// Moves this clock and its clones forward.
    ///
    /// # Panics
    ///
    /// Panics if the clock is not [adjustable](Self::adjustable).
    pub fn advance(&self, duration: Duration) {
        let offset = &self.adjustment().offset_micros;
        offset.fetch_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Stops this clock and its clones: from now on only [`advance`](Self::advance) moves them.
    ///
    /// # Panics
    ///
    /// Panics if the clock is not [adjustable](Self::adjustable).
    #[expect(clippy::disallowed_methods, reason = "this is the clock that all other code uses")]
    pub fn pause(&self) {
        self.adjustment().paused_at_micros.store(Utc::now().timestamp_micros(), Ordering::Relaxed);
    }

    fn adjustment(&self) -> &Adjustment {
        self.adjustment.as_ref().expect("only an adjustable clock can be changed")
    }
}
