//! The transport between nodes: Redis pub/sub.
//!
//! Messages are hints and may be lost, because the database has the truth and a node that missed messages compares
//! with it. So nothing waits for Redis: messages are queued in an outbox and published in batches over one connection
//! (RESP3, so that received messages use the same connection). When the outbox is full or the connection breaks, the
//! transport asks all nodes to resync as soon as the connection is back.
//!
//! Chats and users are distributed over a fixed number of channels, the same on all nodes, and a node subscribes to
//! those for which it has listeners. In a Redis Cluster these are sharded channels (`SPUBLISH`, Redis 7), so that each
//! message passes through one shard only.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, ready, try_join_all};
use futures_util::{StreamExt, TryStreamExt, stream};
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind, RedisResult, Value,
};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::crypto_provider;
use crate::domain::clock::Clock;
use crate::domain::text::redact_url;
use crate::realtime::cluster::channels::{Channel, Channels};
use crate::realtime::cluster::exchange::{Exchange, HEARTBEAT_INTERVAL};
use crate::realtime::cluster::handler::ClusterMessageHandler;
use crate::realtime::cluster::interest::ChannelInterest;
use crate::realtime::cluster::outbox::{ClusterOutbox, OutboxReceiver};
use crate::realtime::cluster::shared_state::SharedState;

/// The maximum number of messages that are published at once.
const MAX_BATCH_MESSAGES: usize = 256;
/// The number of channels that one command subscribes to.
const SUBSCRIBE_BATCH: usize = 1_000;
/// The number of commands that subscribe to sharded channels at the same time. Each names one channel, because the
/// channels of one command would have to be on one shard.
const CONCURRENT_SUBSCRIBES: usize = 64;
/// The maximum time that Redis may take to accept a connection or to answer.
const IO_TIMEOUT: Duration = Duration::from_secs(4);
/// The pause between two attempts to connect.
const RECONNECT_DELAY: Duration = Duration::from_millis(500);

/// The address of Redis and the way in which the server uses it.
#[derive(Clone)]
pub struct RedisSettings {
    /// The URL of a Redis server, or the URLs of some nodes of a Redis Cluster.
    pub addresses: Vec<String>,
    /// True for a Redis Cluster, which is used through sharded channels.
    pub is_cluster: bool,
    /// The beginning of the channel names; Parlor servers that share one Redis need different prefixes.
    pub channel_prefix: String,
    /// The number of channels of chats, and of those of users: a power of two, the same on all nodes.
    pub channel_count: u32,
}

/// Hides the credentials that an address may contain.
impl Debug for RedisSettings {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let addresses: Vec<String> = self.addresses.iter().map(|address| redact_url(address)).collect();
        f.debug_struct("RedisSettings")
            .field("addresses", &addresses)
            .field("is_cluster", &self.is_cluster)
            .field("channel_prefix", &self.channel_prefix)
            .field("channel_count", &self.channel_count)
            .finish()
    }
}

/// The task that publishes the messages of this node and handles those of others.
pub struct RedisTransport {
    settings: RedisSettings,
    outbox: OutboxReceiver,
    interest: Arc<ChannelInterest>,
}

/// A connection to a Redis server or to a Redis Cluster.
enum RedisConn {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

type TransportError = Box<dyn std::error::Error + Send + Sync>;

impl RedisTransport {
    /// Creates the transport, and the outbox whose messages it publishes.
    pub fn new(settings: RedisSettings) -> (ClusterOutbox, Self) {
        let (outbox, receiver) = ClusterOutbox::new();
        let channels = Channels::new(settings.channel_prefix.clone(), settings.channel_count);
        (outbox, Self { settings, outbox: receiver, interest: Arc::new(ChannelInterest::new(channels)) })
    }

    /// Returns the interest by which listeners determine the channels to which the transport subscribes.
    pub fn interest(&self) -> Arc<ChannelInterest> {
        self.interest.clone()
    }

    /// Connects to Redis and exchanges messages, again after each failure.
    ///
    /// The start of the application runs it on a task of its own. The task runs until the process ends, because
    /// `handler` holds an outbox too. After a panic, the node goes on without the others: it misses their events
    /// until [`gap_repair`](crate::realtime::cluster::gap_repair) compares with the database.
    pub async fn run(mut self, clock: Clock, shared_state: Arc<SharedState>, handler: ClusterMessageHandler) {
        let mut exchange = Exchange::new(self.interest.clone(), clock, shared_state, handler);
        let mut is_outage_logged = false;
        while !self.outbox.is_closed() {
            let result = self.run_connection(&mut exchange).await;
            is_outage_logged &= !self.outbox.is_connected();
            self.outbox.set_connected(false);
            self.interest.on_disconnected();
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
    async fn run_connection(&mut self, exchange: &mut Exchange) -> Result<(), TransportError> {
        let (push_sender, mut pushes) = mpsc::unbounded_channel();
        let connection = RedisConn::open(&self.settings, push_sender).await?;
        let channels: Vec<Channel> = [Channel::Common].into_iter().chain(self.interest.on_connected()).collect();
        exchange.retain_channels(&channels);
        exchange.on_subscribing(&channels);
        connection.change_subscriptions(Vec::new(), self.names(&channels)).await?;
        exchange.on_subscribed(&channels);
        tracing::info!("connected to Redis");
        self.outbox.set_connected(true);
        exchange.on_connected(&self.outbox);
        let mut heartbeat = interval(HEARTBEAT_INTERVAL);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut publishing = std::pin::pin!(connection.publish(exchange.encode_batch()?));
        let mut is_idle = false;
        // The channels that are being subscribed to; one change of subscriptions follows the other.
        let mut subscribing: Option<Vec<Channel>> = None;
        let mut changing = std::pin::pin!(Either::Left(ready(Ok(()))));
        loop {
            // Each of these futures is cancel-safe. `publishing` and `changing` are kept from round to round.
            tokio::select! {
                biased;
                push = pushes.recv() => on_push(exchange, push, &self.outbox)?,
                changed = &mut changing, if subscribing.is_some() => {
                    changed?;
                    exchange.on_subscribed(&subscribing.take().unwrap_or_default());
                }
                published = &mut publishing, if !is_idle => {
                    published?;
                    is_idle = true;
                    exchange.on_published(&self.outbox);
                }
                _ = heartbeat.tick() => {
                    exchange.on_heartbeat(&self.outbox);
                    self.interest.request_change_if_idle();
                }
                () = self.interest.wait_for_requests(), if subscribing.is_none() => {
                    let (removed, added) = (self.interest.take_idle(), self.interest.take_requested());
                    exchange.on_unsubscribing(&removed);
                    exchange.on_subscribing(&added);
                    let change = connection.change_subscriptions(self.names(&removed), self.names(&added));
                    changing.set(Either::Right(change));
                    subscribing = Some(added);
                }
                received = self.outbox.recv_many(&mut exchange.batch, MAX_BATCH_MESSAGES),
                    if is_idle && exchange.batch.is_empty() =>
                {
                    if received == 0 {
                        return Ok(());
                    }
                }
            }
            if is_idle && !exchange.batch.is_empty() {
                publishing.set(connection.publish(exchange.encode_batch()?));
                is_idle = false;
            }
        }
    }
}

impl RedisTransport {
    fn names(&self, channels: &[Channel]) -> Vec<String> {
        channels.iter().map(|channel| self.interest.channels().name(*channel)).collect()
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

    /// Ends subscriptions, then begins others, and returns when Redis has confirmed all of them.
    async fn change_subscriptions(&self, removed: Vec<String>, added: Vec<String>) -> Result<(), TransportError> {
        match self {
            Self::Single(connection) => {
                for channels in removed.chunks(SUBSCRIBE_BATCH) {
                    connection.clone().unsubscribe(channels).await?;
                }
                for channels in added.chunks(SUBSCRIBE_BATCH) {
                    connection.clone().subscribe(channels).await?;
                }
            }
            Self::Cluster(connection) => {
                let unsubscribe = async |channel: String| connection.clone().sunsubscribe(channel).await;
                let subscribe = async |channel: String| connection.clone().ssubscribe(channel).await;
                run_all(removed.into_iter().map(unsubscribe)).await?;
                run_all(added.into_iter().map(subscribe)).await?;
            }
        }
        Ok(())
    }

    /// Publishes one payload on each channel, on all channels at once.
    async fn publish(&self, payloads: Vec<(String, Vec<u8>)>) -> Result<(), TransportError> {
        match self {
            Self::Single(connection) => {
                let mut pipeline = redis::pipe();
                for (channel, payload) in payloads {
                    pipeline.cmd("PUBLISH").arg(channel).arg(payload).ignore();
                }
                pipeline.exec_async(&mut connection.clone()).await?;
            }
            Self::Cluster(connection) => {
                let publish_all = payloads.into_iter().map(async |(channel, payload)| {
                    let mut publish = redis::cmd("SPUBLISH");
                    publish.arg(channel).arg(payload).exec_async(&mut connection.clone()).await
                });
                try_join_all(publish_all).await?;
            }
        }
        Ok(())
    }
}

/// Runs commands, a bounded number of them at the same time.
async fn run_all(commands: impl Iterator<Item: Future<Output = RedisResult<()>>>) -> RedisResult<()> {
    stream::iter(commands).buffer_unordered(CONCURRENT_SUBSCRIBES).try_collect().await
}

/// Handles what Redis pushes: a message of a channel, or the end of the connection.
fn on_push(exchange: &mut Exchange, push: Option<PushInfo>, outbox: &OutboxReceiver) -> Result<(), TransportError> {
    match push {
        None | Some(PushInfo { kind: PushKind::Disconnection, .. }) => Err("the connection broke".into()),
        Some(PushInfo { kind: PushKind::Message | PushKind::SMessage, data }) => {
            if let [Value::BulkString(channel), Value::BulkString(payload), ..] = data.as_slice() {
                exchange.on_payload(channel, payload, outbox);
            }
            Ok(())
        }
        Some(_) => Ok(()),
    }
}
