//! The cost of a connection, and of the delivery of a presence change to a subscriber.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use testkit::Database;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Scale;
use crate::client::parlor::Parlor;
use crate::client::population::{TestPopulation, user};
use crate::client::publisher::micros;
use crate::client::socket::{Socket, subscribe};
use crate::engines::Engine;
use crate::tools::latency::median;
use crate::tools::report::{Table, number, whole};
use crate::tools::{Result, TIMEOUT, within};

const SUBSCRIBERS: usize = 50;
/// The number of users in each subscription, which is the API's limit.
const USERS_PER_SUBSCRIBER: usize = 200;
/// The number of sockets that are opened at the same time.
const CONCURRENCY: usize = 50;
/// The time in which the server notices closed sockets and stores the last-seen times.
const SETTLE_TIME: Duration = Duration::from_secs(2);
const PRESENCE: &str = "subscription Presence($userIds: [ID!]!) { presence(userIds: $userIds) { status user { id } } }";

pub async fn run(engine: &Engine, scale: Scale) -> Result<()> {
    engine.with_database(async |database, folder| measure(engine, database, folder, scale).await).await
}

async fn measure(engine: &Engine, database: &Database, folder: &Path, scale: Scale) -> Result<()> {
    let users = scale.users;
    eprintln!("presence: {users} users connect and disconnect, {SUBSCRIBERS} subscribers");
    let parlor = Parlor::start_with(database, folder, &[("PARLOR_PRESENCE_GRACE_SECONDS", "0")]).await?;
    let population = TestPopulation::create(parlor.address, users + SUBSCRIBERS).await?;
    let (users, subscribers) = population.tokens.split_at(users);
    // A warm-up, so that code and pools are in memory.
    connect_and_disconnect(&parlor, users, None).await?;
    let (mut unobserved, mut observed, mut received) = (Vec::new(), Vec::new(), 0);
    for round in 1..=scale.rounds {
        eprintln!("presence: round {round} of {}", scale.rounds);
        unobserved.push(connect_and_disconnect(&parlor, users, None).await?);
        let subscribers = PresenceSubscribers::connect(parlor.address, subscribers, users.len()).await?;
        let before = subscribers.log.received.load(Ordering::Acquire);
        observed.push(connect_and_disconnect(&parlor, users, Some(&subscribers)).await?);
        received += subscribers.log.received.load(Ordering::Acquire) - before;
    }
    let changes = received as f64 / scale.rounds as f64;
    let (unobserved, observed) = (median(unobserved), median(observed));
    let connections = users.len() as f64;
    let mut table = Table::new(&[
        "users",
        "changes delivered",
        "CPU µs/connection without subscribers",
        "CPU µs/connection",
        "CPU µs/change delivered",
    ]);
    table.row([
        whole(connections),
        whole(changes),
        number(unobserved / connections),
        number(observed / connections),
        number((observed - unobserved) / changes),
    ]);
    parlor.stop().await;
    println!(
        "## Presence of {} users ({})\n\n\
         All users connect, {CONCURRENCY} at a time, and disconnect: once without subscribers, and once while \
         {SUBSCRIBERS} subscribers observe {USERS_PER_SUBSCRIBER} users each. The grace period is 0 s. A connection \
         includes the handshake, the token, the close and the stored last-seen time. `CPU µs/change delivered` is the \
         difference of the two, divided by the number of changes delivered. Medians of {} rounds. Each subscriber \
         received the connection and the disconnection of each user that it observes.\n\n{table}",
        whole(connections),
        engine.name(),
        scale.rounds,
    );
    Ok(())
}

/// Connects and disconnects all users once, and returns the server's CPU time for this in microseconds.
async fn connect_and_disconnect(
    parlor: &Parlor,
    users: &[String],
    subscribers: Option<&PresenceSubscribers>,
) -> Result<f64> {
    let cpu = parlor.server.process.cpu_time();
    let sockets = stream::iter(users).map(|token| Socket::open(parlor.address, token));
    let sockets: Vec<Socket> = sockets.buffered(CONCURRENCY).try_collect().await?;
    if let Some(subscribers) = subscribers {
        subscribers.wait_for_present(SUBSCRIBERS * USERS_PER_SUBSCRIBER).await?;
    }
    drop(sockets);
    if let Some(subscribers) = subscribers {
        subscribers.wait_for_present(0).await?;
    }
    sleep(SETTLE_TIME).await;
    Ok(micros(parlor.server.process.cpu_time() - cpu))
}

/// Subscribers to the presence of users. Their sockets are closed when this value is dropped.
struct PresenceSubscribers {
    log: Arc<SharedLog>,
    readers: JoinSet<()>,
}

/// The log that all readers share.
#[derive(Default)]
struct SharedLog {
    /// The number of presence events received.
    received: AtomicUsize,
    /// The number of users that are present, summed over all subscribers.
    present: AtomicUsize,
    /// The first error of a reader.
    failure: OnceLock<String>,
}

impl PresenceSubscribers {
    /// Connects one subscriber per token, and waits for the initial presence of all users.
    ///
    /// Each subscriber observes the next slice of the users.
    async fn connect(address: SocketAddr, tokens: &[String], users: usize) -> Result<Self> {
        let mut subscribers = Self { log: Arc::default(), readers: JoinSet::new() };
        for (number, token) in tokens.iter().enumerate() {
            let first = number * USERS_PER_SUBSCRIBER;
            let observed: Vec<String> =
                (first..first + USERS_PER_SUBSCRIBER).map(|number| user(number % users)).collect();
            let mut socket = Socket::open(address, token).await?;
            socket.send(subscribe("presence", PRESENCE, json!({ "userIds": observed }))).await?;
            let log = subscribers.log.clone();
            subscribers.readers.spawn(async move {
                if let Err(error) = read(socket, &log).await {
                    log.failure.get_or_init(|| error.to_string());
                }
            });
        }
        let received = || subscribers.log.received.load(Ordering::Acquire);
        subscribers
            .wait("the initial presence of all users", || received() >= SUBSCRIBERS * USERS_PER_SUBSCRIBER)
            .await?;
        Ok(subscribers)
    }

    /// Waits until this number of users is present, summed over all subscribers.
    async fn wait_for_present(&self, present: usize) -> Result<()> {
        self.wait("the presence of all users", || self.log.present.load(Ordering::Acquire) == present).await
    }

    async fn wait(&self, name: &str, is_done: impl Fn() -> bool) -> Result<()> {
        within(TIMEOUT, name, async {
            while !is_done() {
                if let Some(failure) = self.log.failure.get() {
                    return Err(failure.clone().into());
                }
                sleep(Duration::from_millis(10)).await;
            }
            Ok(())
        })
        .await
        .map_err(|error| {
            let [received, present] =
                [&self.log.received, &self.log.present].map(|count| count.load(Ordering::Acquire));
            format!("{error}; {received} events received, {present} users present").into()
        })
    }
}

/// Reads one subscriber's events until the socket ends.
async fn read(mut socket: Socket, log: &SharedLog) -> Result<()> {
    let mut known: HashMap<String, bool> = HashMap::new();
    loop {
        let frame: Value = serde_json::from_str(&socket.next().await?)?;
        let presence = &frame["payload"]["data"]["presence"];
        let user = presence["user"]["id"].as_str().ok_or_else(|| format!("unexpected frame: {frame}"))?;
        let is_present = presence["status"] != "OFFLINE";
        let was_present = known.insert(user.into(), is_present).unwrap_or_default();
        match (was_present, is_present) {
            (false, true) => log.present.fetch_add(1, Ordering::AcqRel),
            (true, false) => log.present.fetch_sub(1, Ordering::AcqRel),
            _ => 0,
        };
        log.received.fetch_add(1, Ordering::AcqRel);
    }
}
