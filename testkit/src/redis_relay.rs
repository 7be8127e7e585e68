//! A relay between servers and Redis that disturbs the messages of channels.
//!
//! Commands and their replies pass through unchanged. Messages that Redis pushes to subscribers are lost, doubled, or
//! held for a random time, so that they overtake each other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::acceptor::Acceptor;

/// The probabilities of disturbances, in percent, and the longest delay of a message.
#[derive(Debug, Clone, Copy)]
pub struct Disturbance {
    pub lost_percent: u64,
    pub doubled_percent: u64,
    pub delayed_percent: u64,
    pub max_delay: Duration,
}

/// A relay that runs until it is dropped.
pub struct RedisRelay {
    acceptor: Acceptor,
    shared: Arc<Shared>,
}

struct Shared {
    target: SocketAddr,
    disturbance: Disturbance,
    is_calm: AtomicBool,
    /// The state of the generator of random numbers (splitmix64).
    random: AtomicU64,
}

impl RedisRelay {
    /// Starts a relay to the Redis at this port, whose disturbances follow from the seed.
    pub async fn start(redis_port: u16, seed: u64, disturbance: Disturbance) -> Self {
        let shared = Arc::new(Shared {
            target: ([127, 0, 0, 1], redis_port).into(),
            disturbance,
            is_calm: AtomicBool::new(false),
            random: AtomicU64::new(seed),
        });
        let acceptor = Acceptor::start(shared.clone(), relay).await;
        Self { acceptor, shared }
    }

    /// Returns the URL at which servers reach Redis through the relay.
    pub fn url(&self) -> String {
        format!("redis://{}", self.acceptor.addr)
    }

    /// Ends the disturbances: later messages pass as they come.
    pub fn calm(&self) {
        self.shared.is_calm.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    /// Returns a random number below `bound`.
    fn random_below(&self, bound: u64) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut value = self.random.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (value ^ (value >> 31)) % bound
    }

    fn happens(&self, percent: u64) -> bool {
        self.random_below(100) < percent
    }

    /// Returns the delays with which a message is passed on; none if it is lost.
    fn delays(&self) -> Vec<Duration> {
        let Disturbance { lost_percent, doubled_percent, delayed_percent, max_delay } = self.disturbance;
        if self.is_calm.load(Ordering::Relaxed) {
            return vec![Duration::ZERO];
        }
        if self.happens(lost_percent) {
            return Vec::new();
        }
        let copies = if self.happens(doubled_percent) { 2 } else { 1 };
        let max_millis = u64::try_from(max_delay.as_millis()).expect("a short delay");
        let delay = |_| if self.happens(delayed_percent) { self.random_below(max_millis + 1) } else { 0 };
        (0..copies).map(delay).map(Duration::from_millis).collect()
    }
}

/// Relays one connection until either side closes it.
async fn relay(client: TcpStream, shared: Arc<Shared>) {
    let Ok(redis) = TcpStream::connect(shared.target).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_redis, mut to_redis) = redis.into_split();
    let (values, mut queued) = mpsc::unbounded_channel::<Vec<u8>>();
    let commands = tokio::spawn(async move {
        drop(tokio::io::copy(&mut from_client, &mut to_redis).await);
    });
    let writing = tokio::spawn(async move {
        while let Some(value) = queued.recv().await {
            if to_client.write_all(&value).await.is_err() {
                return;
            }
        }
    });
    let mut received = Vec::new();
    while matches!(from_redis.read_buf(&mut received).await, Ok(length) if length > 0) {
        while let Some(length) = value_length(&received) {
            let value: Vec<u8> = received.drain(..length).collect();
            pass_on(value, &shared, &values);
        }
    }
    commands.abort();
    writing.abort();
}

fn pass_on(value: Vec<u8>, shared: &Shared, values: &mpsc::UnboundedSender<Vec<u8>>) {
    let delays = if is_message(&value) { shared.delays() } else { vec![Duration::ZERO] };
    for delay in delays {
        let (values, value) = (values.clone(), value.clone());
        if delay.is_zero() {
            // The connection may have ended meanwhile.
            drop(values.send(value));
        } else {
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                drop(values.send(value));
            });
        }
    }
}

/// Returns whether a value is a push of a channel's message.
fn is_message(value: &[u8]) -> bool {
    value.starts_with(b">") && value.windows(9).take(20).any(|part| part.eq_ignore_ascii_case(b"message\r\n"))
}

/// Returns the length of the RESP3 value at the beginning of `bytes`, or `None` if it is not complete.
fn value_length(bytes: &[u8]) -> Option<usize> {
    let (mut position, mut open_values) = (0, 1_usize);
    while open_values > 0 {
        let rest = bytes.get(position..)?;
        let line_length = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let count = || str::from_utf8(&rest[1..line_length]).ok()?.parse::<i64>().ok();
        position += line_length + 2;
        open_values -= 1;
        match (rest[0], count().and_then(|count| usize::try_from(count).ok())) {
            (b'$' | b'!' | b'=', Some(length)) => position += length + 2,
            (b'*' | b'~' | b'>', Some(count)) => open_values += count,
            (b'%', Some(count)) => open_values += 2 * count,
            (b'|', Some(count)) => open_values += 2 * count + 1,
            _ => {}
        }
    }
    (position <= bytes.len()).then_some(position)
}
