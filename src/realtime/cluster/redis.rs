//! The way between nodes: Redis pub/sub.
//!
//! What goes over it is a hint and may be lost: the database has the truth, and a node that missed
//! something compares. So nothing waits for Redis. What is to be told is queued, sent in batches over one
//! connection (RESP3, so that what others tell comes over the same), and where the queue is full or the
//! connection breaks, all are told to compare as soon as it is there again.
//!
//! Chats are spread over a fixed number of channels, the same on all nodes. With a cluster these are
//! sharded channels (`SPUBLISH`, Redis 7), so that each goes through one shard only.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use prometheus_client::metrics::counter::Counter;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind, Value};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::crypto_provider;
use crate::metrics::{KindLabel, METRICS};
use crate::realtime::cluster::handler::ClusterMessageHandler;
use crate::realtime::cluster::publisher::ClusterMessage;

/// Channels over which chats and people are spread.
const CHANNEL_COUNT: u64 = 16;
/// Words that are sent at once.
const MAX_BATCH_MESSAGES: usize = 256;
/// Words that wait for Redis; beyond, the others are told to compare instead.
const OUTBOX_CAPACITY: usize = 16_384;
/// How often a node says that it is there.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);
/// A node that says nothing for this long has gone.
const NODE_TIMEOUT: Duration = Duration::from_secs(15);
/// One that said nothing for this long may be taken for gone by others.
const REJOIN_AFTER: Duration = Duration::from_secs(10);
/// Longest wait for Redis to take a connection, or to answer.
const IO_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a node that goes waits until the others were told.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);
/// Between attempts to connect.
const RECONNECT_DELAY: Duration = Duration::from_millis(500);

/// Where Redis is and how it is used.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// One address, or some of a cluster's.
    pub addresses: Vec<String>,
    /// It is a cluster, with sharded channels.
    pub is_cluster: bool,
    /// What the names of channels begin with.
    pub channel_prefix: String,
}

/// What one node tells the others at once.
#[derive(Serialize, Deserialize)]
struct ClusterEnvelope {
    node: String,
    #[serde(rename = "words")]
    messages: Vec<ClusterMessage>,
}

/// Where this node's words wait to be sent.
#[derive(Debug, Clone)]
pub struct ClusterOutbox {
    sender: mpsc::Sender<ClusterMessage>,
    /// Something was not sent.
    has_dropped_messages: Arc<AtomicBool>,
    connected: Arc<AtomicBool>,
    shutdown_announced: Arc<Notify>,
}

impl ClusterOutbox {
    /// Tells the others that this node goes, after all that it told before; waits for a moment only.
    pub async fn announce_shutdown(&self) {
        self.send(ClusterMessage::NodeLeaving);
        if self.is_connected() && timeout(SHUTDOWN_GRACE, self.shutdown_announced.notified()).await.is_err() {
            tracing::debug!("the other nodes were not told that this one goes");
        }
    }

    /// Puts a word into the queue, or notes that the others missed one.
    pub fn send(&self, word: ClusterMessage) {
        if self.sender.try_send(word).is_err() {
            message_counter("missed").inc();
            self.has_dropped_messages.store(true, Ordering::Relaxed);
        }
    }

    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }
}

/// Words on their way to Redis, and what comes from there.
pub struct RedisTransport {
    settings: RedisSettings,
    node: String,
    receiver: mpsc::Receiver<ClusterMessage>,
    has_dropped_messages: Arc<AtomicBool>,
    connected: Arc<AtomicBool>,
    shutdown_announced: Arc<Notify>,
}

enum RedisConn {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

type TransportError = Box<dyn std::error::Error + Send + Sync>;

impl RedisTransport {
    pub fn new(settings: RedisSettings, node: String) -> (ClusterOutbox, Self) {
        let (sender, queue) = mpsc::channel(OUTBOX_CAPACITY);
        let (missed, connected) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let left = Arc::<Notify>::default();
        let outgoing = ClusterOutbox {
            sender: sender,
            has_dropped_messages: missed.clone(),
            connected: connected.clone(),
            shutdown_announced: left.clone(),
        };
        (
            outgoing,
            Self { settings, node, receiver: queue, has_dropped_messages: missed, connected, shutdown_announced: left },
        )
    }

    /// Carries words as long as there is anybody to say some.
    pub async fn run(mut self, peers: ClusterMessageHandler) {
        let mut told = false;
        while !self.receiver.is_closed() {
            let failed = self.run_connection(&peers).await;
            self.connected.store(false, Ordering::Relaxed);
            METRICS.redis_connected.set(0);
            match failed {
                Ok(()) => return,
                // Once for each time that it goes.
                Err(error) if !told => tracing::warn!(%error, "Redis can't be reached; other nodes hear later"),
                Err(error) => tracing::debug!(%error, "Redis still can't be reached"),
            }
            told = true;
            self.has_dropped_messages.store(true, Ordering::Relaxed);
            self.backoff().await;
        }
    }

    /// Waits before the next attempt. What is to be told meanwhile would be late: the others compare.
    async fn backoff(&mut self) {
        let mut pause = std::pin::pin!(sleep(RECONNECT_DELAY));
        loop {
            tokio::select! {
                () = &mut pause => break,
                word = self.receiver.recv() => if word.is_none() { break },
            }
        }
    }

    /// One connection's life; ends well where there is nobody left to speak for.
    async fn run_connection(&mut self, peers: &ClusterMessageHandler) -> Result<(), TransportError> {
        let (sender, mut pushed) = mpsc::unbounded_channel();
        let connection = RedisConn::open(&self.settings, sender).await?;
        connection.subscribe(&self.settings.channel_prefix).await?;
        tracing::info!("connected to Redis");
        let since = Instant::now();
        let mut others: HashMap<String, Instant> = HashMap::new();
        let mut batch = vec![ClusterMessage::NodeJoined];
        if self.has_dropped_messages.swap(false, Ordering::Relaxed) {
            batch.push(ClusterMessage::ResyncRequired);
        }
        self.connected.store(true, Ordering::Relaxed);
        METRICS.redis_connected.set(1);
        // Subscribed, then compared: what was told before is found, what is told from now on is heard.
        peers.on_connected();
        let mut beaten = Instant::now();
        let mut beat = interval(HEARTBEAT_INTERVAL);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sending =
            std::pin::pin!(connection.send(&self.settings.channel_prefix, self.encode_batches(&mut batch)?));
        let (mut idle, mut leaving) = (false, false);
        loop {
            tokio::select! {
                biased;
                push = pushed.recv() => match push {
                    Some(PushInfo { kind: PushKind::Disconnection, .. }) | None => return Err("the connection broke".into()),
                    Some(push) => self.handle_push(&push, peers, &mut others),
                },
                sent = &mut sending, if !idle => {
                    sent?;
                    idle = true;
                    if leaving {
                        self.shutdown_announced.notify_one();
                    }
                }
                _ = beat.tick() => {
                    batch.push(ClusterMessage::Heartbeat);
                    if beaten.elapsed() > REJOIN_AFTER {
                        // This node was stopped: the others may have taken it for gone.
                        batch.push(ClusterMessage::NodeJoined);
                        peers.on_connected();
                    }
                    beaten = Instant::now();
                    if self.has_dropped_messages.swap(false, Ordering::Relaxed) {
                        batch.push(ClusterMessage::ResyncRequired);
                    }
                    others.retain(|node, heard| {
                        let there = heard.elapsed() < NODE_TIMEOUT;
                        if !there {
                            peers.on_node_lost(node);
                        }
                        there
                    });
                    if since.elapsed() > NODE_TIMEOUT {
                        peers.retain_nodes(&others.keys().map(String::as_str).collect());
                    }
                }
                received = self.receiver.recv_many(&mut batch, MAX_BATCH_MESSAGES), if idle && batch.is_empty() => {
                    if received == 0 {
                        return Ok(());
                    }
                }
            }
            if idle && !batch.is_empty() {
                leaving |= batch.iter().any(|word| matches!(word, ClusterMessage::NodeLeaving));
                sending.set(connection.send(&self.settings.channel_prefix, self.encode_batches(&mut batch)?));
                idle = false;
            }
        }
    }

    /// What is to be sent, by channel; words of one chat or person stay in their order.
    fn encode_batches(&self, batch: &mut Vec<ClusterMessage>) -> Result<Vec<(u64, Vec<u8>)>, serde_json::Error> {
        let mut channels: HashMap<u64, Vec<ClusterMessage>> = HashMap::new();
        message_counter("sent").inc_by(batch.len() as u64);
        for word in batch.drain(..) {
            channels.entry(channel_for(&word)).or_default().push(word);
        }
        let letter = |(channel, words)| {
            let letter = ClusterEnvelope { node: self.node.clone(), messages: words };
            Ok((channel, serde_json::to_vec(&letter)?))
        };
        channels.into_iter().map(letter).collect()
    }

    fn handle_push(&self, push: &PushInfo, peers: &ClusterMessageHandler, others: &mut HashMap<String, Instant>) {
        let (PushKind::Message | PushKind::SMessage, Some(Value::BulkString(bytes))) = (&push.kind, push.data.get(1))
        else {
            return;
        };
        match serde_json::from_slice::<ClusterEnvelope>(bytes) {
            Ok(letter) if letter.node == self.node => {}
            Ok(letter) => {
                let farewell = letter.messages.iter().any(|word| matches!(word, ClusterMessage::NodeLeaving));
                match farewell {
                    true => drop(others.remove(&letter.node)),
                    false => drop(others.insert(letter.node.clone(), Instant::now())),
                }
                message_counter("heard").inc_by(letter.messages.len() as u64);
                letter.messages.into_iter().for_each(|word| peers.handle(&letter.node, word));
            }
            // A node of another version, perhaps: what it told is in the database.
            Err(error) => {
                tracing::debug!(%error, "what another node told can't be read");
                peers.schedule_resync();
            }
        }
    }
}

impl RedisConn {
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

    async fn send(&self, prefix: &str, letters: Vec<(u64, Vec<u8>)>) -> Result<(), TransportError> {
        let sending = letters.into_iter().map(async |(channel, letter)| {
            let channel = channel_name(prefix, channel);
            match self {
                Self::Single(connection) => {
                    let mut publish = redis::cmd("PUBLISH");
                    publish.arg(channel).arg(letter).exec_async(&mut connection.clone()).await
                }
                Self::Cluster(connection) => {
                    let mut publish = redis::cmd("SPUBLISH");
                    publish.arg(channel).arg(letter).exec_async(&mut connection.clone()).await
                }
            }
        });
        try_join_all(sending).await?;
        Ok(())
    }
}

fn message_counter(kind: &'static str) -> Counter {
    METRICS.cluster_messages.get_or_create(&KindLabel { kind }).clone()
}

fn channel_name(prefix: &str, channel: u64) -> String {
    format!("{prefix}:{channel}")
}

/// The channel of a word; what all are told beside chats and people goes over the first.
fn channel_for(word: &ClusterMessage) -> u64 {
    let hash = |subject: &dyn Fn(&mut DefaultHasher)| {
        let mut hasher = DefaultHasher::new();
        subject(&mut hasher);
        hasher.finish() % CHANNEL_COUNT
    };
    match word {
        ClusterMessage::Chat(event) => hash(&|hasher| event.chat.hash(hasher)),
        ClusterMessage::Typing(word) => hash(&|hasher| word.chat.hash(hasher)),
        ClusterMessage::Presence(word) => hash(&|hasher| word.user.hash(hasher)),
        ClusterMessage::RateLimitUsage(_)
        | ClusterMessage::TokensRevoked { .. }
        | ClusterMessage::NodeJoined
        | ClusterMessage::Heartbeat
        | ClusterMessage::NodeLeaving
        | ClusterMessage::ResyncRequired => 0,
    }
}
