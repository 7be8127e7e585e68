//! A pool of subscribers to one or more chats, and a log of the messages that they receive.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::socket::{Socket, subscribe};
use crate::tools::latency::Latencies;
use crate::tools::{Result, TIMEOUT, within};

/// The subscription of a typical chat window.
pub const FEED: &str = "subscription Feed($chatId: ID!) { chatFeed(chatId: $chatId) { __typename \
    ... on MessageUpserted { cursor change message { id seq text createdAt \
    sender { id name avatarUrl } reactions { emoji count } } } } }";

/// The prefix of a message's number in its text.
const MARK: &str = "bench-";
/// The fixed number of digits, so that all frames have the same length.
const DIGITS: usize = 8;
/// The number of messages that one pool can track.
const CAPACITY: usize = 1 << 20;
/// The number of sockets that are opened at the same time.
const CONCURRENCY: usize = 50;

/// Returns the part of a message's bytes that differs from those of other messages.
pub fn mark(number: usize) -> String {
    format!("{MARK}{number:0DIGITS$}")
}

/// Returns the number of the message in a frame.
fn number(frame: &str) -> Option<usize> {
    let digits = frame.find(MARK)? + MARK.len();
    frame.get(digits..digits + DIGITS)?.parse().ok()
}

/// The server, the token and the chat of a subscriber.
#[derive(Clone)]
pub struct SubscriberSpec {
    pub address: SocketAddr,
    pub token: String,
    pub chat: String,
}

/// Returns a spec for each token, all for the same chat.
pub fn subscriber_specs(address: SocketAddr, tokens: &[String], chat: &str) -> Vec<SubscriberSpec> {
    tokens.iter().map(|token| SubscriberSpec { address, token: token.clone(), chat: chat.into() }).collect()
}

/// Subscribers whose sockets are closed when the pool is dropped.
pub struct SubscriberPool {
    specs: Vec<SubscriberSpec>,
    feed: String,
    log: Arc<DeliveryLog>,
    readers: Vec<JoinHandle<()>>,
    next: usize,
}

/// The log that all readers share.
struct DeliveryLog {
    start: Instant,
    /// The number of subscribers that receive a message.
    recipients: usize,
    messages: Vec<Progress>,
    /// The latencies of each reader in microseconds. Each lock is contended only between measurements.
    latencies: Vec<Mutex<Vec<u32>>>,
    /// A permit for each message that all recipients have received.
    complete: Semaphore,
    /// A frame with the mark of message 0.
    sample: OnceLock<String>,
    /// The first error of a reader.
    failure: OnceLock<String>,
}

#[derive(Default)]
struct Progress {
    /// The time of sending, in microseconds since the log's start.
    sent: AtomicU64,
    /// The number of subscribers that have received the message.
    received: AtomicUsize,
}

impl SubscriberPool {
    /// Creates a pool with one subscriber per token, and connects it.
    pub async fn connected(address: SocketAddr, tokens: &[String], chat: &str) -> Result<Self> {
        let mut pool = Self::new(subscriber_specs(address, tokens, chat), FEED, tokens.len());
        pool.connect().await?;
        Ok(pool)
    }

    /// Creates a pool that is not connected yet, in which `recipients` subscribers receive each message.
    pub fn new(specs: Vec<SubscriberSpec>, feed: &str, recipients: usize) -> Self {
        let log = Arc::new(DeliveryLog {
            start: Instant::now(),
            recipients,
            messages: (0..CAPACITY).map(|_| Progress::default()).collect(),
            latencies: specs.iter().map(|_| Mutex::default()).collect(),
            complete: Semaphore::new(0),
            sample: OnceLock::new(),
            failure: OnceLock::new(),
        });
        Self { specs, feed: feed.into(), log, readers: Vec::new(), next: 0 }
    }

    /// Opens a socket for each subscriber and subscribes it.
    pub async fn connect(&mut self) -> Result<()> {
        let sockets = stream::iter(&self.specs).map(|spec| subscribed_socket(spec, &self.feed));
        let sockets: Vec<Socket> = sockets.buffered(CONCURRENCY).try_collect().await?;
        let readers = sockets.into_iter().enumerate();
        let readers = readers.map(|(index, socket)| tokio::spawn(read(socket, self.log.clone(), index)));
        self.readers = readers.collect();
        Ok(())
    }

    /// Closes all sockets. Message numbers continue when the pool connects again.
    pub fn disconnect(&mut self) {
        self.readers.drain(..).for_each(|reader| reader.abort());
    }

    /// Returns the number of subscribers that receive a message.
    pub fn recipients(&self) -> usize {
        self.log.recipients
    }

    /// Returns the number of chats, of which each has the same number of subscribers.
    pub fn chats(&self) -> usize {
        self.specs.len() / self.log.recipients
    }

    /// Returns the number of the next message, and records the current time as its time of sending.
    pub fn start_message(&mut self) -> Result<usize> {
        let number = self.next;
        let progress = self.log.messages.get(number).ok_or_else(|| format!("a pool can track {CAPACITY} messages"))?;
        progress.sent.store(self.log.micros(), Ordering::Relaxed);
        self.next += 1;
        Ok(number)
    }

    /// Waits until one more message has reached all recipients.
    pub async fn wait_for_one(&self) -> Result<()> {
        let delivery = async {
            self.log.complete.acquire().await?.forget();
            Ok(())
        };
        let delivery = within(TIMEOUT, "the delivery of a message to all recipients", delivery).await;
        self.check()?;
        delivery
    }

    /// Returns true if this number of messages reaches all recipients within the limit.
    ///
    /// Messages that reach them later are not counted by the next wait.
    pub async fn complete_within(&self, limit: Duration, messages: usize) -> Result<bool> {
        let all = async {
            for _ in 0..messages {
                self.log.complete.acquire().await?.forget();
            }
            Ok(())
        };
        let complete: Result<Result<()>, _> = tokio::time::timeout(limit, all).await;
        self.log.complete.forget_permits(usize::MAX);
        self.check()?;
        Ok(complete.is_ok_and(|complete| complete.is_ok()))
    }

    /// Returns the first error of a subscriber.
    pub fn check(&self) -> Result<()> {
        match self.log.failure.get() {
            Some(failure) => Err(failure.clone().into()),
            None => Ok(()),
        }
    }

    /// Removes and returns the latencies of all deliveries since the last call.
    pub fn take_latencies(&self) -> Latencies {
        self.take_latencies_of(0..self.specs.len())
    }

    /// Removes and returns the latencies of some subscribers.
    pub fn take_latencies_of(&self, subscribers: Range<usize>) -> Latencies {
        let mut latencies = Latencies::default();
        for reader in &self.log.latencies[subscribers] {
            let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            reader.drain(..).for_each(|micros| latencies.record_micros(micros.into()));
        }
        latencies
    }

    /// Returns a frame that a subscriber received, with the mark replaced by that of message 0.
    pub fn sample(&self) -> Option<&String> {
        self.log.sample.get()
    }
}

impl Drop for SubscriberPool {
    fn drop(&mut self) {
        self.disconnect();
    }
}

impl DeliveryLog {
    fn micros(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn record(&self, reader: usize, number: usize) {
        let Some(progress) = self.messages.get(number) else { return };
        let latency = self.micros().saturating_sub(progress.sent.load(Ordering::Relaxed));
        let mut latencies = self.latencies[reader].lock().unwrap_or_else(PoisonError::into_inner);
        latencies.push(u32::try_from(latency).unwrap_or(u32::MAX));
        if progress.received.fetch_add(1, Ordering::AcqRel) + 1 == self.recipients {
            self.complete.add_permits(1);
        }
    }
}

async fn subscribed_socket(spec: &SubscriberSpec, feed: &str) -> Result<Socket> {
    let mut socket = Socket::open(spec.address, &spec.token).await?;
    socket.send(subscribe("feed", feed, json!({ "chatId": spec.chat }))).await?;
    Ok(socket)
}

/// Reads one subscriber's socket until it ends.
async fn read(mut socket: Socket, log: Arc<DeliveryLog>, reader: usize) {
    loop {
        match socket.next().await {
            Ok(frame) => match number(&frame) {
                Some(number) => {
                    log.sample.get_or_init(|| frame.replace(&mark(number), &mark(0)));
                    log.record(reader, number);
                }
                None if frame.contains(r#""errors""#) || frame.contains(r#""error""#) => {
                    log.failure.get_or_init(|| format!("a subscriber received {frame}"));
                }
                // `FeedCaughtUp`, or an event about a member.
                None => {}
            },
            Err(error) => {
                log.failure.get_or_init(|| format!("a subscriber's socket ended: {error}"));
                return;
            }
        }
    }
}
