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
    /// The offset from the system's clock in microseconds, shared by all clones.
    ///
    /// A system clock has none.
    offset_micros: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// Returns the clock of a server: the system's.
    pub fn system() -> Self {
        Self { offset_micros: None }
    }

    /// Returns a clock that runs with the system's and that a test can [`advance`](Self::advance).
    ///
    /// It is not limited to `cfg(test)` because the test kit is another crate.
    pub fn adjustable() -> Self {
        Self { offset_micros: Some(Arc::default()) }
    }

    /// Returns the current time.
    ///
    /// # Panics
    ///
    /// Panics if the time is beyond chrono's range, about the year 262,000.
    #[expect(clippy::disallowed_methods, reason = "this is the clock that all other code uses")]
    pub fn now(&self) -> DateTime<Utc> {
        let offset = self.offset_micros.as_ref().map_or(0, |offset| offset.load(Ordering::Relaxed));
        DateTime::from_timestamp_micros(Utc::now().timestamp_micros() + offset)
            .expect("the time is within chrono's range")
    }

    /// Moves this clock and its clones forward.
    ///
    /// # Panics
    ///
    /// Panics if the clock is not [adjustable](Self::adjustable).
    pub fn advance(&self, duration: Duration) {
        let offset = self.offset_micros.as_ref().expect("only an adjustable clock can be advanced");
        offset.fetch_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }
}
