//! A crowd of subscribers to one chat, and what reaches them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::socket::{Socket, subscribe};
use crate::tools::latency::Latencies;
use crate::tools::{PATIENCE, Result, within};

/// What a chat's page in a browser asks for.
pub const FEED: &str = "subscription Feed($chatId: ID!) { chatFeed(chatId: $chatId) { __typename \
    ... on MessageUpserted { cursor change message { id seq text createdAt \
    sender { id name avatarUrl } reactions { emoji count } } } } }";

/// Stands before a message's number in its text, whose digits are always as many.
const MARK: &str = "bench-";
const DIGITS: usize = 8;
/// Messages that one audience can follow.
const CAPACITY: usize = 1 << 17;
/// Sockets opened at the same time.
const HASTE: usize = 50;

/// What differs from one message's bytes to the next's.
pub fn mark(number: usize) -> String {
    format!("{MARK}{number:0DIGITS$}")
}

fn number(frame: &str) -> Option<usize> {
    let digits = frame.find(MARK)? + MARK.len();
    frame.get(digits..digits + DIGITS)?.parse().ok()
}

pub struct Audience {
    board: Arc<Board>,
    readers: Vec<JoinHandle<()>>,
    next: usize,
}

/// What all readers write on.
struct Board {
    start: Instant,
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

impl Audience {
    /// Opens a socket for each token and subscribes it to the chat.
    pub async fn assemble(address: SocketAddr, tokens: &[String], chat: &str) -> Result<Self> {
        let board = Arc::new(Board {
            start: Instant::now(),
            messages: (0..CAPACITY).map(|_| Progress::default()).collect(),
            latencies: tokens.iter().map(|_| Mutex::default()).collect(),
            complete: Semaphore::new(0),
            sample: OnceLock::new(),
            failure: OnceLock::new(),
        });
        let sockets = stream::iter(tokens).map(|token| subscriber(address, token, chat));
        let sockets: Vec<Socket> = sockets.buffered(HASTE).try_collect().await?;
        let readers = sockets.into_iter().enumerate();
        let readers = readers.map(|(index, socket)| tokio::spawn(read(socket, board.clone(), index)));
        Ok(Self { board: board.clone(), readers: readers.collect(), next: 0 })
    }

    /// The number of the next message, counted as sent from now on.
    pub fn announce(&mut self) -> Result<usize> {
        let number = self.next;
        let progress = self.board.messages.get(number).ok_or("more messages than can be followed")?;
        progress.sent.store(self.board.micros(), Ordering::Relaxed);
        self.next += 1;
        Ok(number)
    }

    /// Waits until one more message has reached everybody.
    pub async fn one_complete(&self) -> Result<()> {
        let arrival = async {
            self.board.complete.acquire().await?.forget();
            Ok(())
        };
        let arrival = within(PATIENCE, "a message on its way to everybody", arrival).await;
        self.check()?;
        arrival
    }

    /// Whether one reaches everybody in time. Those that come late are forgotten.
    pub async fn completes_within(&self, limit: Duration) -> bool {
        let complete = tokio::time::timeout(limit, self.one_complete()).await;
        self.board.complete.forget_permits(usize::MAX);
        complete.is_ok_and(|complete| complete.is_ok())
    }

    /// An error if a subscriber got one.
    pub fn check(&self) -> Result<()> {
        match self.board.failure.get() {
            Some(failure) => Err(failure.clone().into()),
            None => Ok(()),
        }
    }

    /// How long deliveries took since the last time that this was asked.
    pub fn latencies(&self) -> Latencies {
        let mut latencies = Latencies::default();
        for reader in &self.board.latencies {
            let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            reader.drain(..).for_each(|micros| latencies.record_micros(micros.into()));
        }
        latencies
    }

    /// A whole frame as a subscriber got it, but for the mark, which is that of message 0.
    pub fn sample(&self) -> Option<&String> {
        self.board.sample.get()
    }
}

impl Drop for Audience {
    fn drop(&mut self) {
        self.readers.iter().for_each(JoinHandle::abort);
    }
}

impl Board {
    fn micros(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn arrived(&self, reader: usize, number: usize) {
        let Some(progress) = self.messages.get(number) else { return };
        let latency = self.micros().saturating_sub(progress.sent.load(Ordering::Relaxed));
        let mut latencies = self.latencies[reader].lock().unwrap_or_else(PoisonError::into_inner);
        latencies.push(u32::try_from(latency).unwrap_or(u32::MAX));
        if progress.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.latencies.len() {
            self.complete.add_permits(1);
        }
    }
}

async fn subscriber(address: SocketAddr, token: &str, chat: &str) -> Result<Socket> {
    let mut socket = Socket::open(address, token).await?;
    socket.send(subscribe("feed", FEED, json!({ "chatId": chat }))).await?;
    Ok(socket)
}

/// Reads one subscriber's socket until it ends.
async fn read(mut socket: Socket, board: Arc<Board>, reader: usize) {
    loop {
        match socket.next().await {
            Ok(frame) => match number(&frame) {
                Some(number) => {
                    board.sample.get_or_init(|| frame.replace(&mark(number), &mark(0)));
                    board.arrived(reader, number);
                }
                None if frame.contains(r#""errors""#) || frame.contains(r#""error""#) => {
                    board.failure.get_or_init(|| format!("a subscriber got {frame}"));
                }
                // That it is caught up, or that somebody joined.
                None => {}
            },
            Err(error) => {
                board.failure.get_or_init(|| format!("a subscriber lost its socket: {error}"));
                return;
            }
        }
    }
}
