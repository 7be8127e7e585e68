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
use crate::metrics::{Kind, METRICS};
use crate::realtime::cluster::handler::Peers;
use crate::realtime::cluster::publisher::Word;

/// Channels over which chats and people are spread.
const CHANNELS: u64 = 16;
/// Words that are sent at once.
const BATCH: usize = 256;
/// Words that wait for Redis; beyond, the others are told to compare instead.
const QUEUE: usize = 16_384;
/// How often a node says that it is there.
const BEAT: Duration = Duration::from_secs(3);
/// A node that says nothing for this long has gone.
const SILENCE: Duration = Duration::from_secs(15);
/// One that said nothing for this long may be taken for gone by others.
const FORGOTTEN: Duration = Duration::from_secs(10);
/// Longest wait for Redis to take a connection, or to answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long a node that goes waits until the others were told.
const FAREWELL: Duration = Duration::from_secs(1);
/// Between attempts to connect.
const PAUSE: Duration = Duration::from_millis(500);

/// Where Redis is and how it is used.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// One address, or some of a cluster's.
    pub addresses: Vec<String>,
    /// It is a cluster, with sharded channels.
    pub cluster: bool,
    /// What the names of channels begin with.
    pub prefix: String,
}

/// What one node tells the others at once.
#[derive(Serialize, Deserialize)]
struct Letter {
    node: String,
    words: Vec<Word>,
}

/// Where this node's words wait to be sent.
#[derive(Debug, Clone)]
pub struct Outgoing {
    queue: mpsc::Sender<Word>,
    /// Something was not sent.
    missed: Arc<AtomicBool>,
    connected: Arc<AtomicBool>,
    left: Arc<Notify>,
}

impl Outgoing {
    /// Tells the others that this node goes, after all that it told before; waits for a moment only.
    pub async fn leave(&self) {
        self.say(Word::Bye);
        if self.is_connected() && timeout(FAREWELL, self.left.notified()).await.is_err() {
            tracing::debug!("the other nodes were not told that this one goes");
        }
    }

    /// Puts a word into the queue, or notes that the others missed one.
    pub fn say(&self, word: Word) {
        if self.queue.try_send(word).is_err() {
            words("missed").inc();
            self.missed.store(true, Ordering::Relaxed);
        }
    }

    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }
}

/// Words on their way to Redis, and what comes from there.
pub struct Redis {
    settings: RedisSettings,
    node: String,
    queue: mpsc::Receiver<Word>,
    missed: Arc<AtomicBool>,
    connected: Arc<AtomicBool>,
    left: Arc<Notify>,
}

enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Redis {
    pub fn new(settings: RedisSettings, node: String) -> (Outgoing, Self) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let (missed, connected) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let left = Arc::<Notify>::default();
        let outgoing =
            Outgoing { queue: sender, missed: missed.clone(), connected: connected.clone(), left: left.clone() };
        (outgoing, Self { settings, node, queue, missed, connected, left })
    }

    /// Carries words as long as there is anybody to say some.
    pub async fn run(mut self, peers: Peers) {
        let mut told = false;
        while !self.queue.is_closed() {
            let failed = self.converse(&peers).await;
            self.connected.store(false, Ordering::Relaxed);
            METRICS.redis_connected.set(0);
            match failed {
                Ok(()) => return,
                // Once for each time that it goes.
                Err(error) if !told => tracing::warn!(%error, "Redis can't be reached; other nodes hear later"),
                Err(error) => tracing::debug!(%error, "Redis still can't be reached"),
            }
            told = true;
            self.missed.store(true, Ordering::Relaxed);
            self.wait().await;
        }
    }

    /// Waits before the next attempt. What is to be told meanwhile would be late: the others compare.
    async fn wait(&mut self) {
        let mut pause = std::pin::pin!(sleep(PAUSE));
        loop {
            tokio::select! {
                () = &mut pause => break,
                word = self.queue.recv() => if word.is_none() { break },
            }
        }
    }

    /// One connection's life; ends well where there is nobody left to speak for.
    async fn converse(&mut self, peers: &Peers) -> Result<(), Failure> {
        let (sender, mut pushed) = mpsc::unbounded_channel();
        let connection = Connection::open(&self.settings, sender).await?;
        connection.subscribe(&self.settings.prefix).await?;
        tracing::info!("connected to Redis");
        let since = Instant::now();
        let mut others: HashMap<String, Instant> = HashMap::new();
        let mut batch = vec![Word::Hello];
        if self.missed.swap(false, Ordering::Relaxed) {
            batch.push(Word::Compare);
        }
        self.connected.store(true, Ordering::Relaxed);
        METRICS.redis_connected.set(1);
        // Subscribed, then compared: what was told before is found, what is told from now on is heard.
        peers.joined();
        let mut beaten = Instant::now();
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sending = std::pin::pin!(connection.send(&self.settings.prefix, self.letters(&mut batch)?));
        let (mut idle, mut leaving) = (false, false);
        loop {
            tokio::select! {
                biased;
                push = pushed.recv() => match push {
                    Some(PushInfo { kind: PushKind::Disconnection, .. }) | None => return Err("the connection broke".into()),
                    Some(push) => self.hear(&push, peers, &mut others),
                },
                sent = &mut sending, if !idle => {
                    sent?;
                    idle = true;
                    if leaving {
                        self.left.notify_one();
                    }
                }
                _ = beat.tick() => {
                    batch.push(Word::Beat);
                    if beaten.elapsed() > FORGOTTEN {
                        // This node was stopped: the others may have taken it for gone.
                        batch.push(Word::Hello);
                        peers.joined();
                    }
                    beaten = Instant::now();
                    if self.missed.swap(false, Ordering::Relaxed) {
                        batch.push(Word::Compare);
                    }
                    others.retain(|node, heard| {
                        let there = heard.elapsed() < SILENCE;
                        if !there {
                            peers.gone(node);
                        }
                        there
                    });
                    if since.elapsed() > SILENCE {
                        peers.only(&others.keys().map(String::as_str).collect());
                    }
                }
                received = self.queue.recv_many(&mut batch, BATCH), if idle && batch.is_empty() => {
                    if received == 0 {
                        return Ok(());
                    }
                }
            }
            if idle && !batch.is_empty() {
                leaving |= batch.iter().any(|word| matches!(word, Word::Bye));
                sending.set(connection.send(&self.settings.prefix, self.letters(&mut batch)?));
                idle = false;
            }
        }
    }

    /// What is to be sent, by channel; words of one chat or person stay in their order.
    fn letters(&self, batch: &mut Vec<Word>) -> Result<Vec<(u64, Vec<u8>)>, serde_json::Error> {
        let mut channels: HashMap<u64, Vec<Word>> = HashMap::new();
        words("sent").inc_by(batch.len() as u64);
        for word in batch.drain(..) {
            channels.entry(channel_of(&word)).or_default().push(word);
        }
        let letter = |(channel, words)| {
            let letter = Letter { node: self.node.clone(), words };
            Ok((channel, serde_json::to_vec(&letter)?))
        };
        channels.into_iter().map(letter).collect()
    }

    fn hear(&self, push: &PushInfo, peers: &Peers, others: &mut HashMap<String, Instant>) {
        let (PushKind::Message | PushKind::SMessage, Some(Value::BulkString(bytes))) = (&push.kind, push.data.get(1))
        else {
            return;
        };
        match serde_json::from_slice::<Letter>(bytes) {
            Ok(letter) if letter.node == self.node => {}
            Ok(letter) => {
                let farewell = letter.words.iter().any(|word| matches!(word, Word::Bye));
                match farewell {
                    true => drop(others.remove(&letter.node)),
                    false => drop(others.insert(letter.node.clone(), Instant::now())),
                }
                words("heard").inc_by(letter.words.len() as u64);
                letter.words.into_iter().for_each(|word| peers.hear(&letter.node, word));
            }
            // A node of another version, perhaps: what it told is in the database.
            Err(error) => {
                tracing::debug!(%error, "what another node told can't be read");
                peers.compare();
            }
        }
    }
}

impl Connection {
    async fn open(settings: &RedisSettings, pushes: mpsc::UnboundedSender<PushInfo>) -> Result<Self, Failure> {
        crypto_provider::provide();
        if settings.cluster {
            let client = ClusterClient::builder(settings.addresses.clone())
                .use_protocol(ProtocolVersion::RESP3)
                .push_sender(pushes)
                .connection_timeout(PATIENCE)
                .response_timeout(PATIENCE)
                .build()?;
            return Ok(Self::Cluster(client.get_async_connection().await?));
        }
        let address = settings.addresses.first().ok_or("REDIS_URL is empty")?;
        let info = address.as_str().into_connection_info()?;
        let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let config = AsyncConnectionConfig::new()
            .set_push_sender(pushes)
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let client = Client::open(info.set_redis_settings(redis))?;
        Ok(Self::Single(client.get_multiplexed_async_connection_with_config(&config).await?))
    }

    async fn subscribe(&self, prefix: &str) -> Result<(), Failure> {
        for channel in 0..CHANNELS {
            let channel = name(prefix, channel);
            match self {
                Self::Single(connection) => connection.clone().subscribe(channel).await?,
                Self::Cluster(connection) => connection.clone().ssubscribe(channel).await?,
            }
        }
        Ok(())
    }

    async fn send(&self, prefix: &str, letters: Vec<(u64, Vec<u8>)>) -> Result<(), Failure> {
        let sending = letters.into_iter().map(async |(channel, letter)| {
            let channel = name(prefix, channel);
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

fn words(kind: &'static str) -> Counter {
    METRICS.redis_words.get_or_create(&Kind { kind }).clone()
}

fn name(prefix: &str, channel: u64) -> String {
    format!("{prefix}:{channel}")
}

/// The channel of a word; what all are told beside chats and people goes over the first.
fn channel_of(word: &Word) -> u64 {
    let hash = |subject: &dyn Fn(&mut DefaultHasher)| {
        let mut hasher = DefaultHasher::new();
        subject(&mut hasher);
        hasher.finish() % CHANNELS
    };
    match word {
        Word::Chat(event) => hash(&|hasher| event.chat.hash(hasher)),
        Word::Typing(word) => hash(&|hasher| word.chat.hash(hasher)),
        Word::Presence(word) => hash(&|hasher| word.user.hash(hasher)),
        Word::Spent(_) | Word::Revoked { .. } | Word::Hello | Word::Beat | Word::Bye | Word::Compare => 0,
    }
}
