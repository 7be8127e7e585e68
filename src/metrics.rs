//! The metrics of this node, in the OpenMetrics text format (openmetrics.io).
//!
//! `/metrics` serves them at the address `PARLOR_METRICS_ADDR`. A process is one node, so they are global. The names in
//! the text have the prefix `parlor_`, and the library appends `_total` to counters and the unit to histograms that
//! have one. The updates are atomic and without order, because a reading needs no consistency between metrics.

use std::sync::LazyLock;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// The metrics of this process.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// The label `kind`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    /// One of the values that the metric's help text lists.
    pub kind: &'static str,
}

/// The label `field`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FieldLabel {
    /// The root field of a subscription.
    pub field: String,
}

/// The label `lane`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LaneLabel {
    /// The number of a send lane, from zero.
    pub lane: usize,
}

/// A histogram for each value of the label `kind`.
pub type HistogramFamily = Family<KindLabel, Histogram, fn() -> Histogram>;

/// All metrics. Their help texts state the labels and units.
pub struct Metrics {
    registry: Registry,
    /// The metrics of the process, whose names have no prefix.
    process_registry: Registry,
    /// Open file descriptors of the process.
    process_open_fds: Gauge,
    /// The limit of open file descriptors of the process.
    process_max_fds: Gauge,
    /// Open TCP connections to the API and the metrics.
    pub open_connections: Gauge,
    /// Refused connections, by `total` and `address`.
    pub connections_refused: Family<KindLabel, Counter>,
    /// Connections that were closed while they waited, by `head`, `idle`, `response` and `replaced`.
    pub connections_closed: Family<KindLabel, Counter>,
    /// Failed attempts to accept a connection.
    pub accept_errors: Counter,
    /// Open long-lived connections, by `websocket` and `sse`.
    pub connections: Family<KindLabel, Gauge>,
    /// Active subscriptions, by root field.
    pub subscriptions: Family<FieldLabel, Gauge>,
    /// Messages delivered to subscribers.
    pub events_delivered: Counter,
    /// Delivered messages that were written directly to the socket, without waking its task.
    pub fast_path_deliveries: Counter,
    /// Executions of an event, by `shared`, `discarded` and `individual`.
    pub subscription_executions: Family<KindLabel, Counter>,
    /// Reads of a chat's change log by a feed that was behind.
    pub feed_catch_ups: Counter,
    /// Subscriber queues that overflowed.
    pub queue_overflows: Counter,
    /// Gaps in a chat's versions that were filled from the database.
    pub gap_repairs: Counter,
    /// WebSockets closed because the peer stopped reading.
    pub slow_sockets_closed: Counter,
    /// Requests that were rejected because a quota was used up.
    ///
    /// The kinds are `websockets`, `event_streams`, `subscriptions`,
    /// `operations`, `queued_sends`, `operation_memory` and `socket_operations`.
    pub quota_rejections: Family<KindLabel, Counter>,
    /// Calls that ended, by the reason of their end.
    pub calls_ended: Family<KindLabel, Counter>,
    /// Signals sent between devices in calls.
    pub call_signals: Counter,
    /// Bytes of JSON of these signals.
    pub call_signal_bytes: Counter,
    /// Texts of messages rendered as HTML.
    pub message_renders: Counter,
    /// Sends committed in one transaction.
    pub send_batch_size: Histogram,
    /// Lanes that commit sends in parallel.
    pub send_lanes: Gauge,
    /// Sends that are not answered yet, by lane.
    pub sends_waiting: Family<LaneLabel, Gauge>,
    /// Reads that waited because too many of their user, of their organization or in all were running.
    pub read_waits: Counter,
    /// Duration of operations, by `query`, `mutation` and `subscription`.
    pub graphql_operation_duration: HistogramFamily,
    /// Operations beyond a limit, by `cost`, `response_bytes`, `read_bytes` and `deadline`.
    pub operations_rejected: Family<KindLabel, Counter>,
    /// Duration of database statements, by `load`, `get_result` and `execute`.
    pub db_statement_duration: HistogramFamily,
    /// Statements and connections that failed, by the labels of `storage::errors::Failure`.
    pub db_failures: Family<KindLabel, Counter>,
    /// Reads that could go to the replica, by `served`, `behind` and `failed`.
    pub replica_reads: Family<KindLabel, Counter>,
    /// 1 while reads can go to the replica.
    pub replica_usable: Gauge,
    /// The bytes of the log that the replica has not applied.
    pub replica_lag: Gauge,
    /// Sends that waited because another transaction had locked their chat.
    pub sends_held: Counter,
    /// 1 while this node is connected to Redis.
    pub redis_connected: Gauge,
    /// Messages between nodes, by the kinds that the help text lists.
    pub cluster_messages: Family<KindLabel, Counter>,
    /// Received messages between nodes by the kind of their channel: `nodes`, `chats` and `users`.
    pub cluster_channel_messages: Family<KindLabel, Counter>,
    /// The channels of other nodes' messages to which this node is subscribed, by `chats` and `users`.
    pub cluster_channels: Family<KindLabel, Gauge>,
    /// The seconds by which this machine's clock is ahead of others, by `database` and `nodes`.
    pub clock_difference: Family<KindLabel, Gauge<f64, AtomicU64>>,
    /// The rows that searches find by an earlier form until this node has written them again.
    ///
    /// The kinds are `names`, `titles` and `chats`.
    pub search_backlog: Family<KindLabel, Gauge>,
}

/// Returns a histogram with buckets from 50 µs to 6.6 s.
fn duration_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_05, 2.0, 18))
}

/// Creates counters at zero: one that is missing until its first increment shows no increase.
fn create_counters(family: &Family<KindLabel, Counter>, kinds: &[&'static str]) {
    for &kind in kinds {
        drop(family.get_or_create(&KindLabel { kind }));
    }
}

impl Metrics {
    fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("parlor"),
            process_registry: Registry::default(),
            process_open_fds: Gauge::default(),
            process_max_fds: Gauge::default(),
            open_connections: Gauge::default(),
            connections_refused: Family::default(),
            connections_closed: Family::default(),
            accept_errors: Counter::default(),
            connections: Family::default(),
            subscriptions: Family::default(),
            events_delivered: Counter::default(),
            fast_path_deliveries: Counter::default(),
            subscription_executions: Family::default(),
            feed_catch_ups: Counter::default(),
            queue_overflows: Counter::default(),
            gap_repairs: Counter::default(),
            slow_sockets_closed: Counter::default(),
            quota_rejections: Family::default(),
            calls_ended: Family::default(),
            call_signals: Counter::default(),
            call_signal_bytes: Counter::default(),
            message_renders: Counter::default(),
            send_batch_size: Histogram::new(exponential_buckets(1.0, 2.0, 9)),
            send_lanes: Gauge::default(),
            sends_waiting: Family::default(),
            read_waits: Counter::default(),
            graphql_operation_duration: Family::new_with_constructor(duration_histogram as fn() -> Histogram),
            operations_rejected: Family::default(),
            db_statement_duration: Family::new_with_constructor(duration_histogram as fn() -> Histogram),
            db_failures: Family::default(),
            replica_reads: Family::default(),
            replica_usable: Gauge::default(),
            replica_lag: Gauge::default(),
            sends_held: Counter::default(),
            redis_connected: Gauge::default(),
            cluster_messages: Family::default(),
            cluster_channel_messages: Family::default(),
            cluster_channels: Family::default(),
            clock_difference: Family::default(),
            search_backlog: Family::default(),
        };
        metrics.register_connections();
        let registry = &mut metrics.registry;
        registry.register(
            "connections",
            "Open long-lived connections by kind: websocket, sse",
            metrics.connections.clone(),
        );
        registry.register("subscriptions", "Active subscriptions by root field", metrics.subscriptions.clone());
        registry.register("events_delivered", "Messages delivered to subscribers", metrics.events_delivered.clone());
        registry.register(
            "fast_path_deliveries",
            "Delivered messages that were written directly to the socket, without waking its task",
            metrics.fast_path_deliveries.clone(),
        );
        registry.register(
            "subscription_executions",
            "Executions of an event by kind: shared (one for many subscribers), discarded (a shared one that turned out \
             to depend on the viewer), individual (one for a single subscriber)",
            metrics.subscription_executions.clone(),
        );
        registry.register(
            "feed_catch_ups",
            "Reads of a chat's change log by a feed that was behind",
            metrics.feed_catch_ups.clone(),
        );
        registry.register(
            "queue_overflows",
            "Subscriber queues that overflowed; their feeds resumed from the database",
            metrics.queue_overflows.clone(),
        );
        registry.register(
            "gap_repairs",
            "Gaps in a chat's versions filled from the database for all its subscribers",
            metrics.gap_repairs.clone(),
        );
        registry.register(
            "slow_sockets_closed",
            "WebSockets closed because the peer stopped reading",
            metrics.slow_sockets_closed.clone(),
        );
        registry.register(
            "quota_rejections",
            "Requests rejected because a quota was used up by kind: websockets, event_streams, subscriptions, \
             operations, queued_sends, operation_memory, socket_operations",
            metrics.quota_rejections.clone(),
        );
        registry.register(
            "calls_ended",
            "Calls that ended by kind: completed, missed, declined, busy, cancelled, failed, chat_gone",
            metrics.calls_ended.clone(),
        );
        registry.register("call_signals", "Signals sent between devices in calls", metrics.call_signals.clone());
        registry.register("call_signal_bytes", "Bytes of JSON of these signals", metrics.call_signal_bytes.clone());
        registry.register(
            "message_renders",
            "Texts of messages rendered as HTML; a cached text is not rendered again",
            metrics.message_renders.clone(),
        );
        registry.register("send_batch_size", "Sends committed in one transaction", metrics.send_batch_size.clone());
        registry.register("send_lanes", "Lanes that commit sends in parallel", metrics.send_lanes.clone());
        registry.register("sends_waiting", "Sends that are not answered yet by lane", metrics.sends_waiting.clone());
        registry.register(
            "read_waits",
            "Reads that waited because too many of their user, of their organization or in all were running",
            metrics.read_waits.clone(),
        );
        registry.register_with_unit(
            "graphql_operation_duration",
            "Duration of operations in seconds by kind: query, mutation, subscription (its start)",
            Unit::Seconds,
            metrics.graphql_operation_duration.clone(),
        );
        registry.register(
            "operations_rejected",
            "Operations beyond a limit by kind: cost, response_bytes, read_bytes, deadline",
            metrics.operations_rejected.clone(),
        );
        registry.register_with_unit(
            "db_statement_duration",
            "Duration of database statements in seconds by kind: load, get_result, execute",
            Unit::Seconds,
            metrics.db_statement_duration.clone(),
        );
        registry.register(
            "db_failures",
            "Failed statements and connections of the database by kind: unreachable, no_answer, timed_out, \
             no_connection_free, locked, conflict, read_only, storage_full, storage_failed, exhausted, internal",
            metrics.db_failures.clone(),
        );
        registry.register(
            "replica_reads",
            "Reads that could go to the replica by kind: served, behind (it has not applied what the reader may know), \
             failed; the last two went to the primary",
            metrics.replica_reads.clone(),
        );
        registry.register(
            "replica_usable",
            "1 if reads can go to the replica, otherwise 0",
            metrics.replica_usable.clone(),
        );
        registry.register_with_unit(
            "replica_lag",
            "Bytes of the log that the replica had not applied at the last check",
            Unit::Bytes,
            metrics.replica_lag.clone(),
        );
        registry.register(
            "sends_held",
            "Sends that waited because another transaction had locked their chat",
            metrics.sends_held.clone(),
        );
        registry.register("redis_connected", "1 if connected to Redis, otherwise 0", metrics.redis_connected.clone());
        registry.register(
            "cluster_messages",
            "Messages between nodes by kind: sent, received, unwanted (received by a channel that others need, without a \
             listener here), dropped (the queue was full), rejected (without a valid code), stale (received before, or \
             too old), unreadable (of another release)",
            metrics.cluster_messages.clone(),
        );
        registry.register(
            "cluster_channel_messages",
            "Received messages between nodes by kind of their channel: nodes (all nodes receive them), chats, users",
            metrics.cluster_channel_messages.clone(),
        );
        registry.register(
            "cluster_channels",
            "Channels of other nodes' messages to which this node is subscribed by kind: chats, users",
            metrics.cluster_channels.clone(),
        );
        registry.register_with_unit(
            "clock_difference",
            "Seconds by which this machine's clock is ahead by kind: database (of the database's clock), nodes (of the \
             clock of the node that differs most)",
            Unit::Seconds,
            metrics.clock_difference.clone(),
        );
        registry.register(
            "search_backlog",
            "Rows that searches find by an earlier form until they are written again, by kind: names (of users), \
             titles (of chats), chats (by their messages)",
            metrics.search_backlog.clone(),
        );
        create_counters(&metrics.replica_reads, &["served", "behind", "failed"]);
        create_counters(
            &metrics.cluster_messages,
            &["sent", "received", "unwanted", "dropped", "rejected", "stale", "unreadable"],
        );
        create_counters(&metrics.cluster_channel_messages, &["nodes", "chats", "users"]);
        metrics
    }

    fn register_connections(&mut self) {
        create_counters(&self.connections_refused, &["total", "address"]);
        create_counters(&self.connections_closed, &["head", "idle", "response", "replaced"]);
        self.registry.register(
            "open_connections",
            "Open TCP connections to the API and the metrics",
            self.open_connections.clone(),
        );
        self.registry.register(
            "connections_refused",
            "Refused connections by kind: total (too many in all), address (too many of one address)",
            self.connections_refused.clone(),
        );
        self.registry.register(
            "connections_closed",
            "Connections closed while they waited, by kind: head (the headers of a request did not arrive), idle (no \
             further request arrived), response (the client did not read), replaced (another connection took the \
             place)",
            self.connections_closed.clone(),
        );
        self.registry.register(
            "accept_errors",
            "Failed attempts to accept a connection, usually for lack of file descriptors",
            self.accept_errors.clone(),
        );
        let process = &mut self.process_registry;
        process.register("process_open_fds", "Open file descriptors", self.process_open_fds.clone());
        process.register("process_max_fds", "Maximum open file descriptors", self.process_max_fds.clone());
    }

    /// Records how many file descriptors the process has open, and how many it may have.
    pub fn set_descriptors(&self, open: Option<u64>, max: Option<u64>) {
        let to_gauge = |number: Option<u64>| number.and_then(|number| i64::try_from(number).ok()).unwrap_or_default();
        self.process_open_fds.set(to_gauge(open));
        self.process_max_fds.set(to_gauge(max));
    }

    /// Returns the current values as OpenMetrics text.
    ///
    /// # Errors
    ///
    /// Fails if a metric cannot be written, which is a bug in this module.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode_registry(&mut text, &self.process_registry)?;
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// A guard that adds one to a gauge until it is dropped.
#[derive(Debug)]
pub struct GaugeGuard(Gauge);

impl GaugeGuard {
    /// Adds one to a gauge.
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

/// A guard that records the time from its creation to its drop.
#[derive(Debug)]
pub struct TimerGuard {
    started_at: Instant,
    histogram: Histogram,
}

impl TimerGuard {
    /// Starts to measure a time of one kind.
    pub fn start(histograms: &HistogramFamily, kind: &'static str) -> Self {
        Self { started_at: Instant::now(), histogram: histograms.get_or_create(&KindLabel { kind }).clone() }
    }
}

impl Drop for TimerGuard {
    fn drop(&mut self) {
        self.histogram.observe(self.started_at.elapsed().as_secs_f64());
    }
}
