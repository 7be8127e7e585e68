//! The one source of time, so that tests can own it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};

/// Tells the time in whole microseconds, which is what both engines keep: a row read back equals
/// the one written.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// Microseconds by which a test has moved this clock on from the machine's.
    offset_micros: Arc<AtomicI64>,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that all others are to use")]
    pub fn now(&self) -> DateTime<Utc> {
        let micros = Utc::now().timestamp_micros() + self.offset_micros.load(Ordering::Relaxed);
        DateTime::from_timestamp_micros(micros).expect("a time within chrono's range")
    }

    /// Moves every holder of this clock on; for tests.
    pub fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.offset_micros.fetch_add(micros, Ordering::Relaxed);
    }
}
