//! Many durations, and their percentiles.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Durations from a microsecond to two minutes, to three digits.
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, 120_000_000, 3).expect("sound bounds"))
    }
}

impl Latencies {
    pub fn record(&mut self, latency: Duration) {
        self.record_micros(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    pub fn record_micros(&mut self, micros: u64) {
        self.0.saturating_record(micros);
    }

    pub fn add(&mut self, others: &Self) {
        self.0.add(&others.0).expect("equal bounds");
    }

    /// In milliseconds.
    pub fn p50(&self) -> f64 {
        self.quantile(0.5)
    }

    /// In milliseconds.
    pub fn p99(&self) -> f64 {
        self.quantile(0.99)
    }

    fn quantile(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1_000.0
    }
}

/// The middle one of a few figures; the mean of the two middle ones.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let upper = figures.len() / 2;
    let lower = (figures.len() - 1) / 2;
    (figures[lower] + figures[upper]) / 2.0
}
