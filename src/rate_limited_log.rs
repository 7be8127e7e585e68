//! A limit for log lines about a condition that can occur many times per second.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The shortest time between two lines.
const INTERVAL: Duration = Duration::from_secs(1);

/// Allows one line per second, and counts the occurrences that had none.
#[derive(Debug, Default)]
pub struct RateLimitedLog {
    state: Mutex<(Option<Instant>, u64)>,
}

impl RateLimitedLog {
    /// Returns the occurrences since the last line with this one, or `None` if no line is due.
    pub fn occurrences_to_log(&self) -> Option<u64> {
        self.occurrences_to_log_at(Instant::now())
    }

    fn occurrences_to_log_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock();
        let (logged_at, occurrences) = &mut *state;
        *occurrences += 1;
        if logged_at.is_some_and(|at| now.duration_since(at) < INTERVAL) {
            return None;
        }
        *logged_at = Some(now);
        Some(std::mem::take(occurrences))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_has_one_line_per_second_with_the_number_of_occurrences() {
        let (log, now) = (RateLimitedLog::default(), Instant::now());
        assert_eq!(log.occurrences_to_log_at(now), Some(1));
        for _ in 0..5 {
            assert_eq!(log.occurrences_to_log_at(now + INTERVAL / 2), None);
        }
        assert_eq!(log.occurrences_to_log_at(now + INTERVAL), Some(6));
    }
}
