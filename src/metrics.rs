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
pub struct Kind {
    pub kind: &'static str,
}

/// The root field of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Field {
    pub field: String,
}

pub struct Metrics {
    registry: Registry,
    /// By `websocket` and `sse`.
    pub connections: Family<Kind, Gauge>,
    pub subscriptions: Family<Field, Gauge>,
    /// Messages told to subscribers.
    pub deliveries: Counter,
    /// Those of them that were written where they were made, without waking the socket's own task.
    pub direct_deliveries: Counter,
    /// Runs of an event: `shared`, `tainted` (thrown away: it depends on who asks) and `alone`.
    pub executions: Family<Kind, Counter>,
    /// Reads of the log by a feed that was behind.
    pub catch_ups: Counter,
    /// Mailboxes that were full: their feeds go on from the database.
    pub overflows: Counter,
    /// Gaps in what the node heard that were filled from the database for all who listen.
    pub gaps: Counter,
    /// Sockets closed as they took nothing.
    pub stalled: Counter,
    /// Calls that ended, by `completed`, `missed`, `declined`, `cancelled` and `failed`.
    pub calls: Family<Kind, Counter>,
    /// Signals that devices in calls sent each other.
    pub call_signals: Counter,
    /// Sends committed in one transaction.
    pub group: Histogram,
    /// Operations by `query`, `mutation` and `subscription` (its beginning).
    pub requests: Family<Kind, Histogram, fn() -> Histogram>,
    /// Statements, by `load`, `get_result` and `execute`.
    pub statements: Family<Kind, Histogram, fn() -> Histogram>,
    pub redis_connected: Gauge,
    /// Words by `sent`, `heard` and `missed`.
    pub redis_words: Family<Kind, Counter>,
}

/// From 50 µs to 6.5 s, each twice the one before.
fn seconds() -> Histogram {
    Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(0.000_05, 2.0, 18))
}

impl Metrics {
    fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("parlor"),
            connections: Family::default(),
            subscriptions: Family::default(),
            deliveries: Counter::default(),
            direct_deliveries: Counter::default(),
            executions: Family::default(),
            catch_ups: Counter::default(),
            overflows: Counter::default(),
            gaps: Counter::default(),
            stalled: Counter::default(),
            calls: Family::default(),
            call_signals: Counter::default(),
            group: Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(1.0, 2.0, 9)),
            requests: Family::new_with_constructor(seconds as fn() -> Histogram),
            statements: Family::new_with_constructor(seconds as fn() -> Histogram),
            redis_connected: Gauge::default(),
            redis_words: Family::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("connections", "Open connections that outlive a request", metrics.connections.clone());
        registry.register("subscriptions", "Subscriptions under way, by field", metrics.subscriptions.clone());
        registry.register("deliveries", "Messages told to subscribers", metrics.deliveries.clone());
        registry.register(
            "direct_deliveries",
            "Those of the deliveries that woke no task: the subscriber was level and the message the same for many",
            metrics.direct_deliveries.clone(),
        );
        registry.register(
            "executions",
            "Runs of events: shared by all who asked the same, tainted (thrown away), alone",
            metrics.executions.clone(),
        );
        registry.register("catch_ups", "Reads of a chat's log by a feed that was behind", metrics.catch_ups.clone());
        registry.register(
            "overflows",
            "Full mailboxes, whose feeds go on from the database",
            metrics.overflows.clone(),
        );
        registry.register("gaps", "Gaps filled from the database for all who listen", metrics.gaps.clone());
        registry.register("stalled_sockets", "Sockets closed as they took nothing", metrics.stalled.clone());
        registry.register("calls_ended", "Calls that ended, by how", metrics.calls.clone());
        registry.register("call_signals", "Signals between devices in calls", metrics.call_signals.clone());
        registry.register("commit_group_size", "Sends committed in one transaction", metrics.group.clone());
        registry.register("request_seconds", "Time of operations, by kind", metrics.requests.clone());
        registry.register("sql_seconds", "Time of statements", metrics.statements.clone());
        registry.register("redis_connected", "1 while the other nodes can be told", metrics.redis_connected.clone());
        registry.register("redis_words", "What nodes tell each other", metrics.redis_words.clone());
        metrics
    }

    /// All figures as they are now.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Counts one more as long as it is held.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Counted {
    pub fn in_gauge(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Notes how long something took when it is dropped.
#[derive(Debug)]
pub struct Timed {
    since: Instant,
    histogram: Histogram,
}

impl Timed {
    pub fn of(histograms: &Family<Kind, Histogram, fn() -> Histogram>, kind: &'static str) -> Self {
        Self { since: Instant::now(), histogram: histograms.get_or_create(&Kind { kind }).clone() }
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        self.histogram.observe(self.since.elapsed().as_secs_f64());
    }
}
