//! Whether memory grows: minutes of steady load, with some subscribers cut and back every second.

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
use crate::client::resuming_subscriber::{FeedEvent, ResumingSubscriber, gather};
use crate::client::subscriber_pool::subscriber_specs;
use crate::engines::Engine;
use crate::tools::report::{Table, number, ratio, whole};
use crate::tools::{Result, TIMEOUT, within};

const CHATS: usize = 10;
const MEMBERS: usize = 50;
/// Between two messages.
const SEND_INTERVAL: Duration = Duration::from_millis(20);
/// A second's messages.
const SECOND: usize = 50;
/// Subscribers who are cut each second, and how long they are away.
const CUT: usize = 5;
const OFFLINE: Duration = Duration::from_millis(500);
/// How often memory is looked at.
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
    let population = TestPopulation::gather(parlor.address, CHATS * MEMBERS).await?;
    let mut users = Subscribers::default();
    let mut writers = Vec::new();
    for (number, members) in population.tokens.chunks(MEMBERS).enumerate() {
        let people = number * MEMBERS..number * MEMBERS + members.len();
        let chat = population.group_of(&format!("Chat {number}"), people).await?;
        for follower in gather(subscriber_specs(parlor.address, members, &chat)).await? {
            users.add(follower, number);
        }
        writers.push(Arc::new(Writers::new(&population.api, members, chat)));
    }

    let mut table = Table::new(&["after s", "RSS MiB", "to the first", "of it not files MiB", "to the first"]);
    let mut first = None;
    let (mut pace, mut acts, mut sent) = (interval(SEND_INTERVAL), JoinSet::new(), 0);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let start = Instant::now();
    for look in 1..=SAMPLES {
        let until = scale.soak * look / SAMPLES;
        while start.elapsed() < until {
            pace.tick().await;
            acts.spawn(act(writers[sent % CHATS].clone(), sent));
            sent += 1;
            if sent.is_multiple_of(SECOND) {
                users.cut(sent / SECOND);
                users.check()?;
            }
            while let Some(act) = acts.try_join_next() {
                act??;
            }
        }
        let [resident, own] =
            [parlor.server.process.resident_memory() as f64, parlor.server.process.anonymous_memory() as f64];
        let [first_resident, first_own] = *first.get_or_insert([resident, own]);
        eprintln!("soak: {} MiB after {until:?}", number(resident / MIB));
        table.row([
            until.as_secs().to_string(),
            number(resident / MIB),
            ratio(resident, first_resident),
            number(own / MIB),
            ratio(own, first_own),
        ]);
    }
    while let Some(act) = acts.join_next().await {
        act??;
    }
    users.all_told(sent).await?;
    let returns = users.log.returns.load(Ordering::Acquire);
    drop(users);
    parlor.stop().await;
    println!(
        "## Memory over {:?} of steady load ({})\n\n\
         {} subscribers of {CHATS} chats; {} messages were sent, every second of them got a reaction and every third \
         was marked as read; {CUT} subscribers are cut each second and resume after {OFFLINE:?}, {} times in all. Each \
         was told every message of their chat exactly once. Resident memory of the server's process; what is not a \
         file's is without its code and the database that is mapped.\n\n{table}",
        scale.soak,
        engine.name(),
        CHATS * MEMBERS,
        whole(sent as f64),
        whole(returns as f64),
    );
    Ok(())
}

/// What is said and done in one chat.
struct Writers {
    api: Api,
    tokens: Vec<String>,
    chat: String,
    publisher: Publisher,
}

impl Writers {
    /// Several members send, by the message's number.
    fn new(api: &Api, tokens: &[String], chat: String) -> Self {
        let requests: Vec<Request> = tokens.iter().map(|token| Request::send(token, &chat)).collect();
        Self { api: api.clone(), tokens: tokens.to_vec(), chat, publisher: Publisher::new(api.clone(), requests) }
    }

    fn member(&self, number: usize) -> &str {
        &self.tokens[number % self.tokens.len()]
    }
}

/// One message, and what others do with it.
async fn act(writers: Arc<Writers>, number: usize) -> Result<()> {
    let answer: Value = serde_json::from_str(&writers.publisher.publish(number).await?)?;
    let message = &answer["data"]["sendMessage"]["message"]["id"];
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

/// All subscribers. They leave when it is dropped.
#[derive(Default)]
struct Subscribers {
    cuts: Vec<Arc<Notify>>,
    /// How many messages each was told, in which of the chats.
    told: Vec<(usize, Arc<AtomicUsize>)>,
    log: Arc<SharedLog>,
    readers: JoinSet<()>,
}

#[derive(Default)]
struct SharedLog {
    returns: AtomicUsize,
    failure: OnceLock<String>,
}

impl Subscribers {
    fn add(&mut self, follower: ResumingSubscriber, chat: usize) {
        let (cut, told, log) = (Arc::<Notify>::default(), Arc::<AtomicUsize>::default(), self.log.clone());
        self.cuts.push(cut.clone());
        self.told.push((chat, told.clone()));
        self.readers.spawn(async move {
            if let Err(error) = follow(follower, &cut, &told, &log.returns).await {
                log.failure.get_or_init(|| error.to_string());
            }
        });
    }

    /// Cuts the next few, after so many seconds.
    fn cut(&self, second: usize) {
        let cut = second * CUT..(second + 1) * CUT;
        cut.for_each(|number| self.cuts[number % self.cuts.len()].notify_one());
    }

    fn check(&self) -> Result<()> {
        match self.log.failure.get() {
            Some(failure) => Err(failure.clone().into()),
            None => Ok(()),
        }
    }

    /// Waits until all know all that was said in their chat.
    async fn all_told(&self, sent: usize) -> Result<()> {
        // The first chats had one more where the turns didn't come out even.
        let said = |chat: usize| (sent + CHATS - 1 - chat) / CHATS;
        let knows = |(chat, told): &(usize, Arc<AtomicUsize>)| told.load(Ordering::Acquire) == said(*chat);
        within(TIMEOUT, "telling all subscribers all", async {
            while !self.told.iter().all(knows) {
                self.check()?;
                sleep(Duration::from_millis(20)).await;
            }
            self.check()
        })
        .await
    }
}

/// Follows a chat, away for a moment whenever it is cut.
async fn follow(
    mut follower: ResumingSubscriber,
    cut: &Notify,
    told: &AtomicUsize,
    returns: &AtomicUsize,
) -> Result<()> {
    let mut known = HashSet::new();
    let mut learn = |message: i64| match known.insert(message) {
        true => Ok(told.fetch_add(1, Ordering::AcqRel)),
        false => Err(format!("a message was told twice: {message}")),
    };
    loop {
        tokio::select! {
            news = follower.next() => if let FeedEvent::New(message) = news? {
                learn(message)?;
            },
            () = cut.notified() => {
                follower.cut();
                sleep(OFFLINE).await;
                follower.come().await?;
                for message in within(TIMEOUT, "catching up", follower.catch_up()).await? {
                    learn(message)?;
                }
                returns.fetch_add(1, Ordering::AcqRel);
            }
        }
    }
}
