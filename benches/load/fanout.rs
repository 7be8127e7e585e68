//! The cost of a delivery: one message to each of a thousand subscribers of a chat.
//!
//! Parlor, the floor and the stock handler take turns, so that what else the machine does hits all
//! alike. Parlor's figures include what the others don't do: the mutation and its commit.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::tempdir;
use tokio::task::JoinSet;

use crate::Scale;
use crate::client::api::Api;
use crate::client::audience::{Audience, mark};
use crate::client::community::Community;
use crate::client::parlor::Parlor;
use crate::client::sender::SEND;
use crate::engines::{Database, Engine};
use crate::references::Reference;
use crate::tools::Result;
use crate::tools::latency::{Latencies, median};
use crate::tools::process::Process;
use crate::tools::report::{Table, number, ratio, whole};

pub const SUBSCRIBERS: usize = 1_000;
/// How many messages are under way at once. With one, no two frames can share a write.
const IN_FLIGHT: [usize; 2] = [1, 8];
/// How often a probe is sent until it reaches everybody, a second apart.
const PROBES: usize = 30;

pub async fn run(engine: &Engine, scale: Scale) -> Result<()> {
    let folder = tempdir()?;
    let database = engine.database(folder.path(), "fanout").await?;
    let result = measure(&database, folder.path(), engine.name(), scale).await;
    database.drop().await?;
    result
}

async fn measure(database: &Database, folder: &Path, engine: &str, scale: Scale) -> Result<()> {
    eprintln!("fanout: {SUBSCRIBERS} subscribers of three servers");
    let parlor = Rig::parlor(database, folder).await?;
    let frame = parlor.audience.sample().ok_or("no frame seen")?.clone();
    let bytes = frame.len();
    let message: Value = serde_json::from_str(&frame)?;
    let event = message["payload"]["data"]["chatFeed"].to_string();
    let floor = Rig::reference("raw WebSocket broadcast", Reference::Floor, frame, folder).await?;
    let stock = Rig::reference("stock async-graphql", Reference::Stock, event, folder).await?;

    let mut rigs = [parlor, floor, stock];
    for round in 1..=scale.rounds {
        eprintln!("fanout: round {round} of {}", scale.rounds);
        for rig in &mut rigs {
            for (index, in_flight) in IN_FLIGHT.into_iter().enumerate() {
                rig.flow(in_flight, scale.warm_up).await?;
                rig.audience.latencies();
                rig.measure(index, in_flight, scale.duration).await?;
            }
        }
    }
    println!(
        "## Fan-out: one message to each of {SUBSCRIBERS} subscribers\n\n\
         Server CPU for each delivery of a frame of {bytes} bytes; medians of {} rounds in turns. \
         Parlor's figures include the `sendMessage` of each message and its commit ({engine}); the \
         broadcast sends Parlor's own bytes, ready-made. Below 1x is cheaper.\n",
        scale.rounds
    );
    println!("{}", table(&rigs));
    for rig in rigs {
        drop(rig.audience);
        rig.process.stop("TERM").await?;
    }
    Ok(())
}

fn table(rigs: &[Rig; 3]) -> Table {
    let mut table = Table::new(&[
        "server",
        "in flight",
        "CPU µs/delivery",
        "to the broadcast",
        "to stock",
        "deliveries/s",
        "p50 ms",
        "p99 ms",
    ]);
    let [_, floor, stock] = rigs;
    for (index, in_flight) in IN_FLIGHT.into_iter().enumerate() {
        for rig in rigs {
            let figures = &rig.figures[index];
            let cpu = figures.cpu();
            table.row([
                rig.name.to_string(),
                in_flight.to_string(),
                number(cpu),
                ratio(cpu, floor.figures[index].cpu()),
                ratio(cpu, stock.figures[index].cpu()),
                whole(median(figures.rates.clone())),
                number(figures.latencies.p50()),
                number(figures.latencies.p99()),
            ]);
        }
    }
    table
}

/// A server, its subscribers, and how to make it tell them something.
struct Rig {
    name: &'static str,
    process: Process,
    audience: Audience,
    publisher: Arc<Publisher>,
    /// In the order of [`IN_FLIGHT`].
    figures: [Figures; 2],
}

#[derive(Default)]
struct Figures {
    /// Microseconds of the server's CPU for each delivery; one a round, as the rates are.
    cpu: Vec<f64>,
    rates: Vec<f64>,
    latencies: Latencies,
}

impl Figures {
    fn cpu(&self) -> f64 {
        median(self.cpu.clone())
    }
}

impl Rig {
    async fn parlor(database: &Database, folder: &Path) -> Result<Self> {
        let parlor = Parlor::start(database, folder).await?;
        let community = Community::gather(parlor.address, SUBSCRIBERS).await?;
        let chat = community.group("Everybody").await?;
        let audience = Audience::assemble(parlor.address, &community.tokens, &chat).await?;
        let text = format!("{} The meeting moves to three, in the small room upstairs.", mark(0));
        let input = json!({ "chatId": chat, "nonce": mark(0), "text": text });
        let publisher = Publisher {
            api: community.api,
            token: community.tokens[0].clone(),
            body: json!({ "query": SEND, "variables": { "input": input } }).to_string(),
        };
        Self::ready("Parlor", parlor.process, audience, publisher).await
    }

    async fn reference(name: &'static str, reference: Reference, body: String, folder: &Path) -> Result<Self> {
        let (process, address) = reference.start(folder).await?;
        let tokens = vec![String::new(); SUBSCRIBERS];
        let audience = Audience::assemble(address, &tokens, "chat").await?;
        let publisher = Publisher { api: Api::at(address, "/publish")?, token: String::new(), body };
        Self::ready(name, process, audience, publisher).await
    }

    /// Waits until every subscription is in place: nobody says so, but a message that reaches all.
    async fn ready(name: &'static str, process: Process, audience: Audience, publisher: Publisher) -> Result<Self> {
        let mut rig = Self { name, process, audience, publisher: Arc::new(publisher), figures: Default::default() };
        for _ in 0..PROBES {
            let number = rig.audience.announce()?;
            rig.publisher.publish(number).await?;
            if rig.audience.completes_within(Duration::from_secs(1)).await {
                return Ok(rig);
            }
        }
        Err(format!("{name}: a message never reached all subscribers").into())
    }

    async fn measure(&mut self, index: usize, in_flight: usize, duration: Duration) -> Result<()> {
        let (start, cpu) = (Instant::now(), self.process.cpu()?);
        let messages = self.flow(in_flight, duration).await?;
        let (elapsed, cpu) = (start.elapsed(), self.process.cpu()? - cpu);
        let deliveries = (messages * SUBSCRIBERS) as f64;
        let figures = &mut self.figures[index];
        figures.cpu.push(cpu.as_secs_f64() * 1e6 / deliveries);
        figures.rates.push(deliveries / elapsed.as_secs_f64());
        figures.latencies.add(&self.audience.latencies());
        Ok(())
    }

    /// Sends messages, the next as soon as fewer than `in_flight` are under way, until all that were
    /// sent have reached everybody. Returns how many.
    async fn flow(&mut self, in_flight: usize, duration: Duration) -> Result<usize> {
        let start = Instant::now();
        let mut requests = JoinSet::new();
        let (mut sent, mut arrived) = (0, 0);
        while start.elapsed() < duration {
            if sent - arrived == in_flight {
                self.audience.one_complete().await?;
                arrived += 1;
            }
            let number = self.audience.announce()?;
            let publisher = self.publisher.clone();
            requests.spawn(async move { publisher.publish(number).await });
            sent += 1;
            while let Some(answer) = requests.try_join_next() {
                answer??;
            }
        }
        for _ in arrived..sent {
            self.audience.one_complete().await?;
        }
        while let Some(answer) = requests.join_next().await {
            answer??;
        }
        Ok(sent)
    }
}

/// Makes a server tell its subscribers a message.
struct Publisher {
    api: Api,
    token: String,
    /// With the mark of message 0 wherever that of another is to be.
    body: String,
}

impl Publisher {
    async fn publish(&self, number: usize) -> Result<()> {
        let body = self.body.replace(&mark(0), &mark(number));
        let answer = self.api.post(&self.token, body).await?;
        match answer.contains(r#""errors""#) {
            true => Err(answer.into()),
            false => Ok(()),
        }
    }
}
