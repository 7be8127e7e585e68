//! People who come and go, and others who are told: what a connection costs, and what telling of it does.

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

const FOLLOWERS: usize = 50;
/// People whom each follows: as many as one subscription takes.
const FOLLOWED: usize = 200;
/// Sockets opened at the same time.
const CONCURRENCY: usize = 50;
/// So that the server has noticed who is gone, and written it.
const SETTLE_TIME: Duration = Duration::from_secs(2);
const PRESENCE: &str = "subscription Presence($userIds: [ID!]!) { presence(userIds: $userIds) { status user { id } } }";

pub async fn run(engine: &Engine, scale: Scale) -> Result<()> {
    engine.with_database(async |database, folder| measure(engine, database, folder, scale).await).await
}

async fn measure(engine: &Engine, database: &Database, folder: &Path, scale: Scale) -> Result<()> {
    let people = scale.users;
    eprintln!("presence: {people} people come and go before {FOLLOWERS}");
    let parlor = Parlor::start_with(database, folder, &[("PARLOR_PRESENCE_GRACE_SECONDS", "0")]).await?;
    let population = TestPopulation::gather(parlor.address, people + FOLLOWERS).await?;
    let (people, followers) = population.tokens.split_at(people);
    // Once uncounted, so that code and pools are in memory.
    come_and_go(&parlor, people, None).await?;
    let (mut alone, mut followed, mut told) = (Vec::new(), Vec::new(), 0);
    for round in 1..=scale.rounds {
        eprintln!("presence: round {round} of {}", scale.rounds);
        alone.push(come_and_go(&parlor, people, None).await?);
        let users = Followers::gather(parlor.address, followers, people.len()).await?;
        let before = users.log.told.load(Ordering::Acquire);
        followed.push(come_and_go(&parlor, people, Some(&users)).await?);
        told += users.log.told.load(Ordering::Acquire) - before;
    }
    let changes = told as f64 / scale.rounds as f64;
    let (alone, followed) = (median(alone), median(followed));
    let connections = people.len() as f64;
    let mut table = Table::new(&[
        "people",
        "changes told",
        "CPU µs/connection, none told",
        "CPU µs/connection",
        "CPU µs/change told",
    ]);
    table.row([
        whole(connections),
        whole(changes),
        number(alone / connections),
        number(followed / connections),
        number((followed - alone) / changes),
    ]);
    parlor.stop().await;
    println!(
        "## Presence of {} people ({})\n\n\
         All connect, {CONCURRENCY} at a time, and disconnect again, once while nobody follows them and once while \
         {FOLLOWERS} others follow {FOLLOWED} of them each; without the grace in which one who has gone still counts \
         as there. A connection is the socket's opening, the token, the close and the note of when they were last \
         there; the difference of the two, over the changes told, is what it costs to tell one. Medians of {} rounds. \
         In the end all followers had seen all whom they follow come, and go.\n\n{table}",
        whole(connections),
        engine.name(),
        scale.rounds,
    );
    Ok(())
}

/// Lets all come and go once. Gives the server's CPU for it, in microseconds.
async fn come_and_go(parlor: &Parlor, people: &[String], followers: Option<&Followers>) -> Result<f64> {
    let cpu = parlor.server.process.cpu_time();
    let sockets = stream::iter(people).map(|token| Socket::open(parlor.address, token));
    let sockets: Vec<Socket> = sockets.buffered(CONCURRENCY).try_collect().await?;
    if let Some(followers) = followers {
        followers.see(FOLLOWERS * FOLLOWED).await?;
    }
    drop(sockets);
    if let Some(followers) = followers {
        followers.see(0).await?;
    }
    sleep(SETTLE_TIME).await;
    Ok(micros(parlor.server.process.cpu_time() - cpu))
}

/// Those who are told. They leave when they are dropped.
struct Followers {
    log: Arc<SharedLog>,
    readers: JoinSet<()>,
}

/// What all of them write on.
#[derive(Default)]
struct SharedLog {
    told: AtomicUsize,
    /// Whom they know to be there, added up.
    present: AtomicUsize,
    failure: OnceLock<String>,
}

impl Followers {
    /// Each follows some of the people, the next the next of them, and knows how all are now.
    async fn gather(address: SocketAddr, tokens: &[String], people: usize) -> Result<Self> {
        let mut followers = Self { log: Arc::default(), readers: JoinSet::new() };
        for (number, token) in tokens.iter().enumerate() {
            let first = number * FOLLOWED;
            let followed: Vec<String> = (first..first + FOLLOWED).map(|other| user(other % people)).collect();
            let mut socket = Socket::open(address, token).await?;
            socket.send(subscribe("presence", PRESENCE, json!({ "userIds": followed }))).await?;
            let log = followers.log.clone();
            followers.readers.spawn(async move {
                if let Err(error) = follow(socket, &log).await {
                    log.failure.get_or_init(|| error.to_string());
                }
            });
        }
        let told = || followers.log.told.load(Ordering::Acquire);
        followers.wait("how all are at first", || told() >= FOLLOWERS * FOLLOWED).await?;
        Ok(followers)
    }

    /// Waits until so many are known to be there.
    async fn see(&self, present: usize) -> Result<()> {
        self.wait("all changes", || self.log.present.load(Ordering::Acquire) == present).await
    }

    async fn wait(&self, what: &str, done: impl Fn() -> bool) -> Result<()> {
        within(TIMEOUT, what, async {
            while !done() {
                if let Some(failure) = self.log.failure.get() {
                    return Err(failure.clone().into());
                }
                sleep(Duration::from_millis(10)).await;
            }
            Ok(())
        })
        .await
        .map_err(|error| {
            let [told, present] = [&self.log.told, &self.log.present].map(|count| count.load(Ordering::Acquire));
            format!("{error}; {told} told, {present} there").into()
        })
    }
}

/// Reads what one follower is told until the socket ends.
async fn follow(mut socket: Socket, log: &SharedLog) -> Result<()> {
    let mut known: HashMap<String, bool> = HashMap::new();
    loop {
        let frame: Value = serde_json::from_str(&socket.next().await?)?;
        let presence = &frame["payload"]["data"]["presence"];
        let person = presence["user"]["id"].as_str().ok_or_else(|| format!("a follower got {frame}"))?;
        let is_there = presence["status"] != "OFFLINE";
        let was_there = known.insert(person.into(), is_there).unwrap_or_default();
        match (was_there, is_there) {
            (false, true) => log.present.fetch_add(1, Ordering::AcqRel),
            (true, false) => log.present.fetch_sub(1, Ordering::AcqRel),
            _ => 0,
        };
        log.told.fetch_add(1, Ordering::AcqRel);
    }
}
