//! Memory over minutes of steady load, while some subscribers disconnect and resume every second.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::Database;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::Scale;
use crate::client::api::Api;
use crate::client::parlor::Parlor;
use crate::client::population::TestPopulation;
use crate::client::publisher::{Publisher, Request};
use crate::client::resuming_subscriber::{FeedEvent, ResumingSubscriber, connect_all};
use crate::client::subscriber_pool::subscriber_specs;
use crate::engines::Engine;
use crate::tools::report::{Table, number, ratio, whole};
use crate::tools::{Result, TIMEOUT, within};

const CHATS: usize = 10;
const MEMBERS: usize = 50;
/// The time between two messages.
const SEND_INTERVAL: Duration = Duration::from_millis(20);
/// The number of messages per second.
const SENDS_PER_SECOND: usize = 50;
/// The number of subscribers that disconnect each second.
const DISCONNECTS_PER_SECOND: usize = 5;
/// The time after which a disconnected subscriber resumes.
const OFFLINE: Duration = Duration::from_millis(500);
/// The number of times that memory is read.
const SAMPLES: u32 = 10;
const MIB: f64 = 1_048_576.0;
const REACT: &str = "mutation React($input: ReactionInput!) { addReaction(input: $input) { message { id } } }";
const READ: &str = "mutation Read($input: MarkReadInput!) { markRead(input: $input) { member { id } } }";

pub async fn run(engine: &Engine, scale: Scale) -> Result<()> {
    engine.with_database(async |database, folder| measure(engine, database, folder, scale).await).await
}

async fn measure(engine: &Engine, database: &Database, folder: &Path, scale: Scale) -> Result<()> {
    eprintln!("soak: {:?} of steady load", scale.soak);
    let parlor = Parlor::start(database, folder).await?;
    let population = TestPopulation::create(parlor.address, CHATS * MEMBERS).await?;
    let mut subscribers = Subscribers::default();
    let mut writers = Vec::new();
    for (number, members) in population.tokens.chunks(MEMBERS).enumerate() {
        let range = number * MEMBERS..number * MEMBERS + members.len();
        let chat = population.group_with(&format!("Chat {number}"), range).await?;
        for subscriber in connect_all(subscriber_specs(parlor.address, members, &chat)).await? {
            subscribers.add(subscriber, number);
        }
        writers.push(Arc::new(Writers::new(&population.api, members, chat)));
    }

    let mut table = Table::new(&["after s", "RSS MiB", "vs first", "anonymous MiB", "vs first"]);
    let mut first = None;
    let (mut ticks, mut sends, mut sent) = (interval(SEND_INTERVAL), JoinSet::new(), 0);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let start = Instant::now();
    for sample in 1..=SAMPLES {
        let until = scale.soak * sample / SAMPLES;
        while start.elapsed() < until {
            ticks.tick().await;
            sends.spawn(send_and_react(writers[sent % CHATS].clone(), sent));
            sent += 1;
            if sent.is_multiple_of(SENDS_PER_SECOND) {
                subscribers.disconnect_some(sent / SENDS_PER_SECOND);
                subscribers.check()?;
            }
            while let Some(send) = sends.try_join_next() {
                send??;
            }
        }
        let [resident, anonymous] =
            [parlor.server.process.resident_memory() as f64, parlor.server.process.anonymous_memory() as f64];
        let [first_resident, first_anonymous] = *first.get_or_insert([resident, anonymous]);
        eprintln!("soak: {} MiB after {until:?}", number(resident / MIB));
        table.row([
            until.as_secs().to_string(),
            number(resident / MIB),
            ratio(resident, first_resident),
            number(anonymous / MIB),
            ratio(anonymous, first_anonymous),
        ]);
    }
    while let Some(send) = sends.join_next().await {
        send??;
    }
    subscribers.wait_for_all(sent).await?;
    let resumes = subscribers.log.resumes.load(Ordering::Acquire);
    drop(subscribers);
    parlor.stop().await;
    println!(
        "## Memory over {:?} of steady load ({})\n\n\
         {} subscribers of {CHATS} chats. {} messages were sent; every second message received a reaction, and every \
         third was marked as read. {DISCONNECTS_PER_SECOND} subscribers disconnected each second and resumed after \
         {OFFLINE:?}, {} times in total. Each subscriber received every message of its chat exactly once. RSS is the \
         resident memory of the server's process; anonymous memory is RSS without mapped files, such as the program \
         and an SQLite database.\n\n{table}",
        scale.soak,
        engine.name(),
        CHATS * MEMBERS,
        whole(sent as f64),
        whole(resumes as f64),
    );
    Ok(())
}

/// The members who write in one chat.
struct Writers {
    api: Api,
    tokens: Vec<String>,
    chat: String,
    publisher: Publisher,
}

impl Writers {
    /// Creates the writers of a chat, who send in turn.
    fn new(api: &Api, tokens: &[String], chat: String) -> Self {
        let requests: Vec<Request> = tokens.iter().map(|token| Request::send(token, &chat)).collect();
        Self { api: api.clone(), tokens: tokens.to_vec(), chat, publisher: Publisher::new(api.clone(), requests) }
    }

    /// Returns the token of a member, by any number.
    fn member(&self, number: usize) -> &str {
        &self.tokens[number % self.tokens.len()]
    }
}

/// Sends a message. Depending on its number, other members react to it or mark it as read.
async fn send_and_react(writers: Arc<Writers>, number: usize) -> Result<()> {
    let response: Value = serde_json::from_str(&writers.publisher.publish(number).await?)?;
    let message = &response["data"]["sendMessage"]["message"]["id"];
    if number.is_multiple_of(2) {
        let input = json!({ "messageId": message, "emoji": "👍" });
        writers.api.ask(writers.member(number + 1), REACT, json!({ "input": input })).await?;
    }
    if number.is_multiple_of(3) {
        let input = json!({ "chatId": writers.chat, "upToMessageId": message });
        writers.api.ask(writers.member(number + 2), READ, json!({ "input": input })).await?;
    }
    Ok(())
}

/// The subscribers of all chats. Their sockets are closed when this value is dropped.
#[derive(Default)]
struct Subscribers {
    /// Notified to disconnect a subscriber.
    disconnects: Vec<Arc<Notify>>,
    /// The chat of each subscriber, and the number of messages that it has received.
    received: Vec<(usize, Arc<AtomicUsize>)>,
    log: Arc<SharedLog>,
    readers: JoinSet<()>,
}

/// The log that all readers share.
#[derive(Default)]
struct SharedLog {
    resumes: AtomicUsize,
    /// The first error of a reader.
    failure: OnceLock<String>,
}

impl Subscribers {
    fn add(&mut self, subscriber: ResumingSubscriber, chat: usize) {
        let (disconnect, received, log) = (Arc::<Notify>::default(), Arc::<AtomicUsize>::default(), self.log.clone());
        self.disconnects.push(disconnect.clone());
        self.received.push((chat, received.clone()));
        self.readers.spawn(async move {
            if let Err(error) = read(subscriber, &disconnect, &received, &log.resumes).await {
                log.failure.get_or_init(|| error.to_string());
            }
        });
    }

    /// Disconnects the subscribers whose turn it is in a second.
    fn disconnect_some(&self, second: usize) {
        let numbers = second * DISCONNECTS_PER_SECOND..(second + 1) * DISCONNECTS_PER_SECOND;
        numbers.for_each(|number| self.disconnects[number % self.disconnects.len()].notify_one());
    }

    /// Returns the first error of a subscriber.
    fn check(&self) -> Result<()> {
        match self.log.failure.get() {
            Some(failure) => Err(failure.clone().into()),
            None => Ok(()),
        }
    }

    /// Waits until all subscribers have received all messages of their chats.
    async fn wait_for_all(&self, sent: usize) -> Result<()> {
        // Messages are sent to the chats in turn, so the first chats may have one more.
        let expected = |chat: usize| (sent + CHATS - 1 - chat) / CHATS;
        let has_all =
            |(chat, received): &(usize, Arc<AtomicUsize>)| received.load(Ordering::Acquire) == expected(*chat);
        within(TIMEOUT, "the delivery of all messages", async {
            while !self.received.iter().all(has_all) {
                self.check()?;
                sleep(Duration::from_millis(20)).await;
            }
            self.check()
        })
        .await
    }
}

/// Reads a chat's feed, and resumes it `OFFLINE` after each notification.
async fn read(
    mut subscriber: ResumingSubscriber,
    disconnect: &Notify,
    received: &AtomicUsize,
    resumes: &AtomicUsize,
) -> Result<()> {
    let mut seqs = HashSet::new();
    let mut record = |seq: i64| match seqs.insert(seq) {
        true => Ok(received.fetch_add(1, Ordering::AcqRel)),
        false => Err(format!("message {seq} was delivered twice")),
    };
    loop {
        tokio::select! {
            event = subscriber.next() => if let FeedEvent::New(seq) = event? {
                record(seq)?;
            },
            () = disconnect.notified() => {
                subscriber.disconnect();
                sleep(OFFLINE).await;
                subscriber.connect().await?;
                for seq in within(TIMEOUT, "the catch-up of a feed", subscriber.catch_up()).await? {
                    record(seq)?;
                }
                resumes.fetch_add(1, Ordering::AcqRel);
            }
        }
    }
}
