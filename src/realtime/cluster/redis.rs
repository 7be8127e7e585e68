//! The transport between nodes: Redis pub/sub.
//!
//! Messages are hints and may be lost, because the database has the truth and a node that missed messages compares
//! with it. So nothing waits for Redis: messages are queued in an outbox and published in batches over one connection
//! (RESP3, so that received messages use the same connection). When the outbox is full or the connection breaks, the
//! transport asks all nodes to resync as soon as the connection is back.
//!
//! Chats and users are distributed over a fixed number of channels, the same on all nodes. In a Redis Cluster these
//! are sharded channels (`SPUBLISH`, Redis 7), so that each message passes through one shard only.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind, Value};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::crypto_provider;
use crate::metrics::{KindLabel, METRICS};
use crate::realtime::cluster::codec;
use crate::realtime::cluster::codec::{CHANNEL_COUNT, channel_name};
use crate::realtime::cluster::handler::ClusterMessageHandler;
use crate::realtime::cluster::message::ClusterMessage;
use crate::realtime::cluster::outbox::{ClusterOutbox, OutboxReceiver};

/// The maximum number of messages that are published at once.
const MAX_BATCH_MESSAGES: usize = 256;
/// The interval in which a node publishes a heartbeat.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);
/// The time without any message after which a node counts as lost.
const NODE_TIMEOUT: Duration = Duration::from_secs(15);
/// The time without a heartbeat of its own after which a node joins again. It is shorter than [`NODE_TIMEOUT`], because
/// other nodes may have counted this one as lost while its process was stopped.
const REJOIN_AFTER: Duration = Duration::from_secs(10);
/// The maximum time that Redis may take to accept a connection or to answer.
const IO_TIMEOUT: Duration = Duration::from_secs(4);
/// The pause between two attempts to connect.
const RECONNECT_DELAY: Duration = Duration::from_millis(500);

/// The address of Redis and the way in which the server uses it.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// The URL of a Redis server, or the URLs of some nodes of a Redis Cluster.
    pub addresses: Vec<String>,
    /// True for a Redis Cluster, which is used through sharded channels.
    pub is_cluster: bool,
    /// The beginning of the channel names; Parlor servers that share one Redis need different prefixes.
    pub channel_prefix: String,
}

/// The task that publishes the messages of this node and handles those of others.
pub struct RedisTransport {
    settings: RedisSettings,
    node: String,
    outbox: OutboxReceiver,
}

/// A connection to a Redis server or to a Redis Cluster.
enum RedisConn {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

type TransportError = Box<dyn std::error::Error + Send + Sync>;

impl RedisTransport {
    /// Creates the transport of the node called `node`, and the outbox whose messages it publishes.
    pub fn new(settings: RedisSettings, node: String) -> (ClusterOutbox, Self) {
        let (outbox, receiver) = ClusterOutbox::new();
        (outbox, Self { settings, node, outbox: receiver })
    }

    /// Connects to Redis and exchanges messages, again after each failure.
    ///
    /// The start of the application runs it on a task of its own. The task runs until the process ends, because
    /// `handler` holds an outbox too. After a panic, the node goes on without the others: it misses their events
    /// until [`gap_repair`](crate::realtime::cluster::gap_repair) compares with the database.
    pub async fn run(mut self, handler: ClusterMessageHandler) {
        let mut is_outage_logged = false;
        while !self.outbox.is_closed() {
            let result = self.run_connection(&handler).await;
            is_outage_logged &= !self.outbox.is_connected();
            self.outbox.set_connected(false);
            match result {
                Ok(()) => return,
                // One warning for each outage, because an attempt to connect fails every half second.
                Err(error) if !is_outage_logged => {
                    tracing::warn!(%error, "no connection to Redis; other nodes receive events with a delay");
                    is_outage_logged = true;
                }
                Err(error) => tracing::debug!(%error, "still no connection to Redis"),
            }
            self.outbox.mark_dropped();
            self.backoff().await;
        }
    }

    /// Waits before the next attempt, and drops messages meanwhile.
    ///
    /// They would be late, and the other nodes are going to compare with the database.
    async fn backoff(&mut self) {
        let mut delay = std::pin::pin!(sleep(RECONNECT_DELAY));
        loop {
            tokio::select! {
                () = &mut delay => break,
                message = self.outbox.recv() => if message.is_none() { break },
            }
        }
    }

    /// Exchanges messages over one connection, until it fails or all senders have been dropped.
    async fn run_connection(&mut self, handler: &ClusterMessageHandler) -> Result<(), TransportError> {
        let prefix = &self.settings.channel_prefix;
        let (push_sender, mut pushes) = mpsc::unbounded_channel();
        let connection = RedisConn::open(&self.settings, push_sender).await?;
        connection.subscribe(prefix).await?;
        tracing::info!("connected to Redis");
        self.outbox.set_connected(true);
        let mut exchange = Exchange::start(&self.node, handler, &self.outbox);
        let mut heartbeat = interval(HEARTBEAT_INTERVAL);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut publishing = std::pin::pin!(connection.publish(prefix, exchange.encode_batch()?));
        let mut is_idle = false;
        loop {
            // Each of these futures is cancel-safe. `publishing` is kept from round to round.
            tokio::select! {
                biased;
                push = pushes.recv() => exchange.on_push(push)?,
                published = &mut publishing, if !is_idle => {
                    published?;
                    is_idle = true;
                    exchange.on_published(&self.outbox);
                }
                _ = heartbeat.tick() => exchange.on_heartbeat(&self.outbox),
                received = self.outbox.recv_many(&mut exchange.batch, MAX_BATCH_MESSAGES),
                    if is_idle && exchange.batch.is_empty() =>
                {
                    if received == 0 {
                        return Ok(());
                    }
                }
            }
            if is_idle && !exchange.batch.is_empty() {
                publishing.set(connection.publish(prefix, exchange.encode_batch()?));
                is_idle = false;
            }
        }
    }
}

/// The state of one connection: the messages to publish next, and the other nodes.
struct Exchange<'a> {
    node: &'a str,
    handler: &'a ClusterMessageHandler,
    connected_at: Instant,
    /// The other nodes, each with the time of its newest message.
    peers: HashMap<String, Instant>,
    /// The messages to publish when the batch under way has been published.
    batch: Vec<ClusterMessage>,
    last_heartbeat: Instant,
    /// True if the batch under way informs the other nodes of the shutdown.
    is_leaving: bool,
}

impl<'a> Exchange<'a> {
    /// Joins the other nodes. The channels are subscribed already, so the comparison with the database finds what was
    /// published before, and the subscription receives what is published later.
    fn start(node: &'a str, handler: &'a ClusterMessageHandler, outbox: &OutboxReceiver) -> Self {
        let now = Instant::now();
        let mut exchange = Self {
            node,
            handler,
            connected_at: now,
            peers: HashMap::new(),
            batch: vec![ClusterMessage::NodeJoined],
            last_heartbeat: now,
            is_leaving: false,
        };
        exchange.request_resync_after_drops(outbox);
        handler.on_connected();
        exchange
    }

    /// Asks the other nodes to resync if messages to them were lost.
    fn request_resync_after_drops(&mut self, outbox: &OutboxReceiver) {
        if outbox.take_dropped() {
            self.batch.push(ClusterMessage::ResyncRequired);
        }
    }

    /// Empties the batch and returns it encoded, by channel.
    fn encode_batch(&mut self) -> Result<Vec<(u64, Vec<u8>)>, serde_json::Error> {
        count_messages("sent", self.batch.len());
        self.is_leaving |= self.batch.iter().any(|message| matches!(message, ClusterMessage::NodeLeaving));
        codec::encode(self.node, self.batch.drain(..))
    }

    fn on_published(&self, outbox: &OutboxReceiver) {
        if self.is_leaving {
            outbox.confirm_shutdown();
        }
    }

    /// Publishes that this node is alive, and removes nodes that have published nothing for too long.
    fn on_heartbeat(&mut self, outbox: &OutboxReceiver) {
        self.batch.push(ClusterMessage::Heartbeat);
        if self.last_heartbeat.elapsed() > REJOIN_AFTER {
            self.batch.push(ClusterMessage::NodeJoined);
            self.handler.on_connected();
        }
        self.last_heartbeat = Instant::now();
        self.request_resync_after_drops(outbox);
        self.peers.retain(|node, last_message| {
            let is_alive = last_message.elapsed() < NODE_TIMEOUT;
            if !is_alive {
                self.handler.on_node_lost(node);
            }
            is_alive
        });
        // By now each living node has published a heartbeat on this connection. Nodes that went while this one had no
        // connection are not among `peers`.
        if self.connected_at.elapsed() > NODE_TIMEOUT {
            self.handler.retain_nodes(&self.peers.keys().map(String::as_str).collect());
        }
    }

    /// Handles what Redis pushes: a message of a channel, or the end of the connection.
    fn on_push(&mut self, push: Option<PushInfo>) -> Result<(), TransportError> {
        match push {
            None | Some(PushInfo { kind: PushKind::Disconnection, .. }) => Err("the connection broke".into()),
            Some(PushInfo { kind: PushKind::Message | PushKind::SMessage, data }) => {
                if let Some(Value::BulkString(payload)) = data.get(1) {
                    self.on_payload(payload);
                }
                Ok(())
            }
            Some(_) => Ok(()),
        }
    }

    fn on_payload(&mut self, payload: &[u8]) {
        match codec::decode(payload) {
            // Redis delivers a node's own messages too.
            Ok(envelope) if envelope.node == self.node => {}
            Ok(envelope) => {
                let is_leaving = envelope.messages.iter().any(|message| matches!(message, ClusterMessage::NodeLeaving));
                if is_leaving {
                    self.peers.remove(&envelope.node);
                } else {
                    self.peers.insert(envelope.node.clone(), Instant::now());
                }
                count_messages("received", envelope.messages.len());
                for message in envelope.messages {
                    self.handler.handle(&envelope.node, message);
                }
            }
            // The format version keeps other formats apart, so this payload has another origin or is damaged.
            Err(error) => {
                tracing::debug!(%error, "could not decode a message of another node; comparing with the database");
                self.handler.schedule_resync();
            }
        }
    }
}

impl RedisConn {
    /// Connects to Redis; what it pushes goes to `pushes`.
    async fn open(settings: &RedisSettings, pushes: mpsc::UnboundedSender<PushInfo>) -> Result<Self, TransportError> {
        crypto_provider::install_crypto_provider();
        if settings.is_cluster {
            let client = ClusterClient::builder(settings.addresses.clone())
                .use_protocol(ProtocolVersion::RESP3)
                .push_sender(pushes)
                .connection_timeout(IO_TIMEOUT)
                .response_timeout(IO_TIMEOUT)
                .build()?;
            return Ok(Self::Cluster(client.get_async_connection().await?));
        }
        let address = settings.addresses.first().ok_or("REDIS_URL is empty")?;
        let info = address.as_str().into_connection_info()?;
        let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let config = AsyncConnectionConfig::new()
            .set_push_sender(pushes)
            .set_connection_timeout(Some(IO_TIMEOUT))
            .set_response_timeout(Some(IO_TIMEOUT));
        let client = Client::open(info.set_redis_settings(redis))?;
        Ok(Self::Single(client.get_multiplexed_async_connection_with_config(&config).await?))
    }

    /// Subscribes to all channels.
    async fn subscribe(&self, prefix: &str) -> Result<(), TransportError> {
        for channel in 0..CHANNEL_COUNT {
            let channel = channel_name(prefix, channel);
            match self {
                Self::Single(connection) => connection.clone().subscribe(channel).await?,
                Self::Cluster(connection) => connection.clone().ssubscribe(channel).await?,
            }
        }
        Ok(())
    }

    /// Publishes one payload on each channel, on all channels at once.
    async fn publish(&self, prefix: &str, payloads: Vec<(u64, Vec<u8>)>) -> Result<(), TransportError> {
        let publish_all = payloads.into_iter().map(async |(channel, payload)| {
            let channel = channel_name(prefix, channel);
            match self {
                Self::Single(connection) => {
                    let mut publish = redis::cmd("PUBLISH");
                    publish.arg(channel).arg(payload).exec_async(&mut connection.clone()).await
                }
                Self::Cluster(connection) => {
                    let mut publish = redis::cmd("SPUBLISH");
                    publish.arg(channel).arg(payload).exec_async(&mut connection.clone()).await
                }
            }
        });
        try_join_all(publish_all).await?;
        Ok(())
    }
}

fn count_messages(kind: &'static str, count: usize) {
    METRICS.cluster_messages.get_or_create(&KindLabel { kind }).inc_by(count as u64);
}
