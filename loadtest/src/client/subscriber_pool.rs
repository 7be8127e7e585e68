//! A crowd of subscribers to one chat or several, and what reaches them.

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

/// What a chat's page in a browser asks for.
pub const FEED: &str = "subscription Feed($chatId: ID!) { chatFeed(chatId: $chatId) { __typename \
    ... on MessageUpserted { cursor change message { id seq text createdAt \
    sender { id name avatarUrl } reactions { emoji count } } } } }";

/// Stands before a message's number in its text, whose digits are always as many.
const MARK: &str = "bench-";
const DIGITS: usize = 8;
/// Messages that one audience can follow.
const CAPACITY: usize = 1 << 20;
/// Sockets opened at the same time.
const CONCURRENCY: usize = 50;

/// What differs from one message's bytes to the next's.
pub fn mark(number: usize) -> String {
    format!("{MARK}{number:0DIGITS$}")
}

fn number(frame: &str) -> Option<usize> {
    let digits = frame.find(MARK)? + MARK.len();
    frame.get(digits..digits + DIGITS)?.parse().ok()
}

/// Where a subscriber sits, and what they listen to.
#[derive(Clone)]
pub struct SubscriberSpec {
    pub address: SocketAddr,
    pub token: String,
    pub chat: String,
}

/// A seat in the same chat for each token.
pub fn subscriber_specs(address: SocketAddr, tokens: &[String], chat: &str) -> Vec<SubscriberSpec> {
    tokens.iter().map(|token| SubscriberSpec { address, token: token.clone(), chat: chat.into() }).collect()
}

pub struct SubscriberPool {
    subscriber_specs: Vec<SubscriberSpec>,
    feed: String,
    log: Arc<DeliveryLog>,
    readers: Vec<JoinHandle<()>>,
    next: usize,
}

/// What all readers write on.
struct DeliveryLog {
    start: Instant,
    /// How many subscribers a message is for.
    reach: usize,
    messages: Vec<Progress>,
    /// Of each reader, in microseconds: theirs alone while messages flow.
    latencies: Vec<Mutex<Vec<u32>>>,
    /// A permit for each message that has reached everybody.
    complete: Semaphore,
    sample: OnceLock<String>,
    failure: OnceLock<String>,
}

#[derive(Default)]
struct Progress {
    /// Microseconds after the start.
    sent: AtomicU64,
    arrived: AtomicUsize,
}

impl SubscriberPool {
    /// Opens a socket for each token and subscribes it to the chat.
    pub async fn assemble(address: SocketAddr, tokens: &[String], chat: &str) -> Result<Self> {
        let mut pool = Self::new(subscriber_specs(address, tokens, chat), FEED, tokens.len());
        pool.gather().await?;
        Ok(pool)
    }

    /// Those who are to come. A message is for `reach` of them.
    pub fn new(subscriber_specs: Vec<SubscriberSpec>, feed: &str, reach: usize) -> Self {
        let log = Arc::new(DeliveryLog {
            start: Instant::now(),
            reach,
            messages: (0..CAPACITY).map(|_| Progress::default()).collect(),
            latencies: subscriber_specs.iter().map(|_| Mutex::default()).collect(),
            complete: Semaphore::new(0),
            sample: OnceLock::new(),
            failure: OnceLock::new(),
        });
        Self { subscriber_specs, feed: feed.into(), log, readers: Vec::new(), next: 0 }
    }

    /// Opens a socket for each seat and subscribes it.
    pub async fn gather(&mut self) -> Result<()> {
        let sockets = stream::iter(&self.subscriber_specs).map(|spec| subscriber(spec, &self.feed));
        let sockets: Vec<Socket> = sockets.buffered(CONCURRENCY).try_collect().await?;
        let readers = sockets.into_iter().enumerate();
        let readers = readers.map(|(index, socket)| tokio::spawn(read(socket, self.log.clone(), index)));
        self.readers = readers.collect();
        Ok(())
    }

    /// Lets all sockets go. Messages are numbered on when they gather again.
    pub fn disband(&mut self) {
        self.readers.drain(..).for_each(|reader| reader.abort());
    }

    /// How many subscribers a message is for.
    pub fn reach(&self) -> usize {
        self.log.reach
    }

    /// How many chats they listen to, where a message is for all of its chat.
    pub fn groups(&self) -> usize {
        self.subscriber_specs.len() / self.log.reach
    }

    /// The number of the next message, counted as sent from now on.
    pub fn announce(&mut self) -> Result<usize> {
        let number = self.next;
        let progress = self.log.messages.get(number).ok_or("more messages than can be followed")?;
        progress.sent.store(self.log.micros(), Ordering::Relaxed);
        self.next += 1;
        Ok(number)
    }

    /// Waits until one more message has reached everybody.
    pub async fn one_complete(&self) -> Result<()> {
        let arrival = async {
            self.log.complete.acquire().await?.forget();
            Ok(())
        };
        let arrival = within(TIMEOUT, "a message on its way to everybody", arrival).await;
        self.check()?;
        arrival
    }

    /// Whether so many reach everybody in time. Those that come late are forgotten.
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

    /// An error if a subscriber got one.
    pub fn check(&self) -> Result<()> {
        match self.log.failure.get() {
            Some(failure) => Err(failure.clone().into()),
            None => Ok(()),
        }
    }

    /// How long deliveries took since the last time that this was asked.
    pub fn latencies(&self) -> Latencies {
        self.latencies_of(0..self.subscriber_specs.len())
    }

    /// The same for some of the seats.
    pub fn latencies_of(&self, subscriber_specs: Range<usize>) -> Latencies {
        let mut latencies = Latencies::default();
        for reader in &self.log.latencies[subscriber_specs] {
            let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            reader.drain(..).for_each(|micros| latencies.record_micros(micros.into()));
        }
        latencies
    }

    /// A whole frame as a subscriber got it, but for the mark, which is that of message 0.
    pub fn sample(&self) -> Option<&String> {
        self.log.sample.get()
    }
}

impl Drop for SubscriberPool {
    fn drop(&mut self) {
        self.disband();
    }
}

impl DeliveryLog {
    fn micros(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn arrived(&self, reader: usize, number: usize) {
        let Some(progress) = self.messages.get(number) else { return };
        let latency = self.micros().saturating_sub(progress.sent.load(Ordering::Relaxed));
        let mut latencies = self.latencies[reader].lock().unwrap_or_else(PoisonError::into_inner);
        latencies.push(u32::try_from(latency).unwrap_or(u32::MAX));
        if progress.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.reach {
            self.complete.add_permits(1);
        }
    }
}

async fn subscriber(spec: &SubscriberSpec, feed: &str) -> Result<Socket> {
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
                    log.arrived(reader, number);
                }
                None if frame.contains(r#""errors""#) || frame.contains(r#""error""#) => {
                    log.failure.get_or_init(|| format!("a subscriber got {frame}"));
                }
                // That it is caught up, or that somebody joined.
                None => {}
            },
            Err(error) => {
                log.failure.get_or_init(|| format!("a subscriber lost its socket: {error}"));
                return;
            }
        }
    }
}
