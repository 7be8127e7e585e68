//! What an operator sees of a node, in the OpenMetrics text format (openmetrics.io), at `/metrics` on an
//! address of its own: `PARLOR_METRICS_ADDR`.
//!
//! One process is one node, so the figures are the process's.

use std::sync::LazyLock;
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// One label and its value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    pub kind: &'static str,
}

/// The root field of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FieldLabel {
    pub field: String,
}

pub struct Metrics {
    registry: Registry,
    /// By `websocket` and `sse`.
    pub connections: Family<KindLabel, Gauge>,
    pub subscriptions: Family<FieldLabel, Gauge>,
    /// Messages told to subscribers.
    pub events_delivered: Counter,
    /// Those of them that were written where they were made, without waking the socket's own task.
    pub fast_path_deliveries: Counter,
    /// Runs of an event: `shared`, `tainted` (thrown away: it depends on who asks) and `alone`.
    pub subscription_executions: Family<KindLabel, Counter>,
    /// Reads of the log by a feed that was behind.
    pub feed_catch_ups: Counter,
    /// Mailboxes that were full: their feeds go on from the database.
    pub queue_overflows: Counter,
    /// Gaps in what the node heard that were filled from the database for all who listen.
    pub gap_repairs: Counter,
    /// Sockets closed as they took nothing.
    pub slow_sockets_closed: Counter,
    /// Calls that ended, by `completed`, `missed`, `declined`, `cancelled` and `failed`.
    pub calls_ended: Family<KindLabel, Counter>,
    /// Signals that devices in calls sent each other.
    pub call_signals: Counter,
    /// Sends committed in one transaction.
    pub send_batch_size: Histogram,
    /// Operations by `query`, `mutation` and `subscription` (its beginning).
    pub graphql_operation_duration: Family<KindLabel, Histogram, fn() -> Histogram>,
    /// Statements, by `load`, `get_result` and `execute`.
    pub db_statement_duration: Family<KindLabel, Histogram, fn() -> Histogram>,
    pub redis_connected: Gauge,
    /// Words by `sent`, `heard` and `missed`.
    pub cluster_messages: Family<KindLabel, Counter>,
}

/// From 50 µs to 6.5 s, each twice the one before.
fn duration_histogram() -> Histogram {
    Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(0.000_05, 2.0, 18))
}

impl Metrics {
    fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("parlor"),
            connections: Family::default(),
            subscriptions: Family::default(),
            events_delivered: Counter::default(),
            fast_path_deliveries: Counter::default(),
            subscription_executions: Family::default(),
            feed_catch_ups: Counter::default(),
            queue_overflows: Counter::default(),
            gap_repairs: Counter::default(),
            slow_sockets_closed: Counter::default(),
            calls_ended: Family::default(),
            call_signals: Counter::default(),
            send_batch_size: Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(1.0, 2.0, 9)),
            graphql_operation_duration: Family::new_with_constructor(duration_histogram as fn() -> Histogram),
            db_statement_duration: Family::new_with_constructor(duration_histogram as fn() -> Histogram),
            redis_connected: Gauge::default(),
            cluster_messages: Family::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("connections", "Open connections that outlive a request", metrics.connections.clone());
        registry.register("subscriptions", "Subscriptions under way, by field", metrics.subscriptions.clone());
        registry.register("deliveries", "Messages told to subscribers", metrics.events_delivered.clone());
        registry.register(
            "direct_deliveries",
            "Those of the deliveries that woke no task: the subscriber was level and the message the same for many",
            metrics.fast_path_deliveries.clone(),
        );
        registry.register(
            "executions",
            "Runs of events: shared by all who asked the same, tainted (thrown away), alone",
            metrics.subscription_executions.clone(),
        );
        registry.register(
            "catch_ups",
            "Reads of a chat's log by a feed that was behind",
            metrics.feed_catch_ups.clone(),
        );
        registry.register(
            "overflows",
            "Full mailboxes, whose feeds go on from the database",
            metrics.queue_overflows.clone(),
        );
        registry.register("gaps", "Gaps filled from the database for all who listen", metrics.gap_repairs.clone());
        registry.register(
            "stalled_sockets",
            "Sockets closed as they took nothing",
            metrics.slow_sockets_closed.clone(),
        );
        registry.register("calls_ended", "Calls that ended, by how", metrics.calls_ended.clone());
        registry.register("call_signals", "Signals between devices in calls", metrics.call_signals.clone());
        registry.register("commit_group_size", "Sends committed in one transaction", metrics.send_batch_size.clone());
        registry.register("request_seconds", "Time of operations, by kind", metrics.graphql_operation_duration.clone());
        registry.register("sql_seconds", "Time of statements", metrics.db_statement_duration.clone());
        registry.register("redis_connected", "1 while the other nodes can be told", metrics.redis_connected.clone());
        registry.register("redis_words", "What nodes tell each other", metrics.cluster_messages.clone());
        metrics
    }

    /// All figures as they are now.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Counts one more as long as it is held.
#[derive(Debug)]
pub struct GaugeGuard(Gauge);

impl GaugeGuard {
    pub fn increment(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Notes how long something took when it is dropped.
#[derive(Debug)]
pub struct TimerGuard {
    started_at: Instant,
    histogram: Histogram,
}

impl TimerGuard {
    pub fn start(histograms: &Family<KindLabel, Histogram, fn() -> Histogram>, kind: &'static str) -> Self {
        Self { started_at: Instant::now(), histogram: histograms.get_or_create(&KindLabel { kind }).clone() }
    }
}

impl Drop for TimerGuard {
    fn drop(&mut self) {
        self.histogram.observe(self.started_at.elapsed().as_secs_f64());
    }
}
