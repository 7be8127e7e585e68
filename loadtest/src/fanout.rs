//! The cost of a delivery: one message to each subscriber of a chat, of a hundred to ten thousand.
//!
//! Parlor, the floor and the stock handler take turns, so that what else the machine does hits all
//! alike; for each turn the subscribers come anew, so that no more sockets are open than of one of them.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use testkit::Database;
use testkit::process::ChildProcess;

use crate::Scale;
use crate::client::api::Api;
use crate::client::harness::{Harness, Results, Window};
use crate::client::parlor::Parlor;
use crate::client::population::TestPopulation;
use crate::client::publisher::{BaselineSender, Publisher, Request};
use crate::client::subscriber_pool::{FEED, SubscriberPool, subscriber_specs};
use crate::engines::Engine;
use crate::references::Reference;
use crate::tools::Result;
use crate::tools::report::{Table, number, ratio, whole};

/// How many messages are under way at once. With one, no two frames can share a write.
const IN_FLIGHT: [usize; 2] = [1, 8];
/// The stock handler takes too long for more.
const MOST_REFERENCE_SUBSCRIBERS: usize = 1_000;

pub async fn run(engine: &Engine, scale: Scale) -> Result<()> {
    engine.with_database(async |database, folder| measure(engine, database, folder, scale).await).await
}

async fn measure(engine: &Engine, database: &Database, folder: &Path, scale: Scale) -> Result<()> {
    let mut table = Table::new(&[
        "server",
        "subscribers",
        "in flight",
        "CPU µs/delivery",
        "without the send",
        "to the broadcast",
        "without, to the broadcast",
        "to stock",
        "deliveries/s",
        "p50 ms",
        "p99 ms",
    ]);
    let mut bytes = 0;
    for &subscribers in scale.pools {
        let mut contenders = contenders(database, folder, subscribers).await?;
        bytes = contenders[0].harness.pool.sample().map_or(0, |frame| frame.len());
        for round in 1..=scale.rounds {
            eprintln!("fanout: {subscribers} subscribers, round {round} of {}", scale.rounds);
            for contender in &mut contenders {
                contender.turn(scale).await?;
            }
        }
        report(&mut table, &contenders, subscribers);
        for contender in contenders {
            drop(contender.harness);
            contender.process.stop("TERM").await;
        }
    }
    println!(
        "## Fan-out: one message to each subscriber of a chat\n\n\
         Server CPU for each delivery of a frame of {bytes} bytes; medians of {} rounds in turns, each with the same \
         number of messages in flight. Parlor's `CPU µs/delivery` includes all that its process does for a message: \
         the `sendMessage` over HTTP, its commit ({}) and the deliveries. `without the send` is the same less what \
         `sendMessage` costs in a chat of as many members to which nobody is subscribed, measured directly after over \
         {} messages. The broadcast sends Parlor's own bytes, ready-made, and the stock handler executes each \
         subscriber's operation over the same event; neither has a mutation, nor a database. PostgreSQL's own \
         processes are in no figure. Below 1x is cheaper.\n\n{table}",
        scale.rounds,
        engine.name(),
        whole(scale.sends as f64),
    );
    Ok(())
}

/// Parlor first, then the floor, then the stock handler if it can.
async fn contenders(database: &Database, folder: &Path, subscribers: usize) -> Result<Vec<Contender>> {
    eprintln!("fanout: {subscribers} subscribers come");
    let parlor = Contender::parlor(database, folder, subscribers).await?;
    let frame = parlor.harness.pool.sample().ok_or("no frame seen")?.clone();
    let message: Value = serde_json::from_str(&frame)?;
    let event = message["payload"]["data"]["chatFeed"].to_string();
    let (process, address) = Reference::RawBroadcast.start(folder).await?;
    let floor = Contender::reference("raw WebSocket broadcast", process, address, frame, subscribers)?;
    let mut contenders = vec![parlor, floor];
    if subscribers <= MOST_REFERENCE_SUBSCRIBERS {
        let (process, address) = Reference::AsyncGraphql.start(folder).await?;
        contenders.push(Contender::reference("stock async-graphql", process, address, event, subscribers)?);
    }
    Ok(contenders)
}

fn report(table: &mut Table, contenders: &[Contender], subscribers: usize) {
    let dash = || "-".to_string();
    for (index, in_flight) in IN_FLIGHT.into_iter().enumerate() {
        let cpu = |place: usize| contenders.get(place).map(|contender| contender.figures[index].cpu());
        let to =
            |figure: Option<f64>, place| figure.zip(cpu(place)).map_or_else(dash, |(one, other)| ratio(one, other));
        for Contender { name, figures, .. } in contenders {
            let figures = &figures[index];
            let without = figures.without_requests();
            table.row([
                name.to_string(),
                whole(subscribers as f64),
                in_flight.to_string(),
                number(figures.cpu()),
                without.map_or_else(dash, number),
                to(Some(figures.cpu()), 1),
                to(without, 1),
                to(Some(figures.cpu()), 2),
                whole(figures.rate()),
                number(figures.latencies.p50()),
                number(figures.latencies.p99()),
            ]);
        }
    }
}

struct Contender {
    name: &'static str,
    process: ChildProcess,
    harness: Harness,
    /// Where a message is more than its deliveries.
    baseline: Option<BaselineSender>,
    /// In the order of [`IN_FLIGHT`].
    figures: [Results; 2],
}

impl Contender {
    /// Its subscribers have come once, so that a frame was seen.
    async fn parlor(database: &Database, folder: &Path, subscribers: usize) -> Result<Self> {
        let parlor = Parlor::start(database, folder).await?;
        let population = TestPopulation::gather(parlor.address, subscribers).await?;
        let mut publishers = Vec::new();
        for title in ["Everybody", "Nobody listens"] {
            let chat = population.group(title).await?;
            let request = Request::send(&population.tokens[0], &chat);
            publishers.push((Publisher::new(population.api.clone(), [request]), chat));
        }
        let [(publisher, chat), (baseline, _)] = publishers.try_into().map_err(|_| "two chats are two publishers")?;
        let pool = SubscriberPool::new(subscriber_specs(parlor.address, &population.tokens, &chat), FEED, subscribers);
        let mut harness = Harness::new(pool, publisher);
        harness.gather().await?;
        harness.pool.disband();
        let baseline = Some(BaselineSender::new(baseline));
        Ok(Self { name: "Parlor", process: parlor.server.process, harness, baseline, figures: Default::default() })
    }

    fn reference(
        name: &'static str,
        process: ChildProcess,
        address: SocketAddr,
        body: String,
        subscribers: usize,
    ) -> Result<Self> {
        let tokens = vec![String::new(); subscribers];
        let pool = SubscriberPool::new(subscriber_specs(address, &tokens, "chat"), FEED, subscribers);
        let publisher = Publisher::new(Api::at(address, "/publish")?, [Request { token: String::new(), body }]);
        Ok(Self { name, process, harness: Harness::new(pool, publisher), baseline: None, figures: Default::default() })
    }

    async fn turn(&mut self, scale: Scale) -> Result<()> {
        let turn = self.measure(scale).await;
        self.harness.pool.disband();
        turn.map_err(|error| format!("{}: {error}", self.name).into())
    }

    async fn measure(&mut self, scale: Scale) -> Result<()> {
        self.harness.gather().await?;
        let spans = [Window::Time(scale.warm_up), Window::Time(scale.duration)];
        for (figures, in_flight) in self.figures.iter_mut().zip(IN_FLIGHT) {
            let flow = self.harness.measure(&[&self.process], in_flight, spans).await?;
            figures.add(&flow, &self.harness.pool.latencies());
            if let Some(baseline) = &mut self.baseline {
                let cost = baseline.cost(&self.process, in_flight, scale.sends).await?;
                figures.add_request(cost, self.harness.pool.reach());
            }
        }
        Ok(())
    }
}
