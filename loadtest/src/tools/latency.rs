//! Latencies and their percentiles.

use std::time::Duration;

use hdrhistogram::Histogram;

/// A histogram of durations from 1 µs to 120 s with three significant digits.
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, 120_000_000, 3).expect("valid bounds"))
    }
}

impl Latencies {
    /// Adds a duration.
    pub fn record(&mut self, latency: Duration) {
        self.record_micros(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// Adds a duration in microseconds.
    pub fn record_micros(&mut self, micros: u64) {
        self.0.saturating_record(micros);
    }

    /// Adds all durations of another histogram.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("equal bounds");
    }

    /// Returns the median in milliseconds.
    pub fn p50(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Returns the 99th percentile in milliseconds.
    pub fn p99(&self) -> f64 {
        self.quantile(0.99)
    }

    fn quantile(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1_000.0
    }
}

/// Returns the median of the values.
///
/// # Panics
///
/// Panics if there are no values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let upper = values.len() / 2;
    let lower = (values.len() - 1) / 2;
    (values[lower] + values[upper]) / 2.0
}
