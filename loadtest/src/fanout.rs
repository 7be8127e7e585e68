//! The cost of a delivery: one message to each subscriber of a chat with 100 to 10,000 subscribers.
//!
//! Parlor, the raw broadcast and the stock handler are measured alternately, so that other load on the machine affects
//! all alike. Subscribers connect for each measurement, so that only one server's sockets are open at a time.

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

/// The numbers of messages in flight. With one message, no two frames can share a write.
const IN_FLIGHT: [usize; 2] = [1, 8];
/// The largest number of subscribers that the stock handler can serve in a reasonable time.
const MAX_REFERENCE_SUBSCRIBERS: usize = 1_000;

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
        "vs broadcast",
        "without, vs broadcast",
        "vs stock",
        "deliveries/s",
        "p50 ms",
        "p99 ms",
    ]);
    let mut bytes = 0;
    for &subscribers in scale.pools {
        let mut contenders = start_contenders(database, folder, subscribers).await?;
        bytes = contenders[0].harness.pool.sample().map_or(0, |frame| frame.len());
        for round in 1..=scale.rounds {
            eprintln!("fanout: {subscribers} subscribers, round {round} of {}", scale.rounds);
            for contender in &mut contenders {
                contender.run_round(scale).await?;
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
         Server CPU per delivery of a frame of {bytes} bytes; medians of {} rounds, in which the servers alternate. \
         Parlor's `CPU µs/delivery` includes everything that its process does for a message: the `sendMessage` over \
         HTTP, its commit ({}) and the deliveries. `without the send` subtracts the CPU of `sendMessage` in a chat \
         with the same members and no subscribers, measured directly afterwards over {} messages. The broadcast sends \
         the bytes that Parlor sends, prepared in advance; the stock handler executes each subscriber's operation for \
         the same event. Neither of them has a mutation or a database. The CPU of PostgreSQL's processes is not counted. A \
         ratio below 1x means that Parlor costs less.\n\n{table}",
        scale.rounds,
        engine.name(),
        whole(scale.sends as f64),
    );
    Ok(())
}

/// Starts Parlor, the raw broadcast and the stock handler, in this order.
///
/// The stock handler is left out above [`MAX_REFERENCE_SUBSCRIBERS`].
async fn start_contenders(database: &Database, folder: &Path, subscribers: usize) -> Result<Vec<Contender>> {
    eprintln!("fanout: preparing {subscribers} subscribers");
    let parlor = Contender::parlor(database, folder, subscribers).await?;
    let frame = parlor.harness.pool.sample().ok_or("no subscriber received a frame")?.clone();
    let message: Value = serde_json::from_str(&frame)?;
    let event = message["payload"]["data"]["chatFeed"].to_string();
    let (process, address) = Reference::RawBroadcast.start(folder).await?;
    let broadcast = Contender::reference("raw WebSocket broadcast", process, address, frame, subscribers)?;
    let mut contenders = vec![parlor, broadcast];
    if subscribers <= MAX_REFERENCE_SUBSCRIBERS {
        let (process, address) = Reference::AsyncGraphql.start(folder).await?;
        contenders.push(Contender::reference("stock async-graphql", process, address, event, subscribers)?);
    }
    Ok(contenders)
}

fn report(table: &mut Table, contenders: &[Contender], subscribers: usize) {
    let dash = || "-".to_string();
    for (index, in_flight) in IN_FLIGHT.into_iter().enumerate() {
        let cpu = |contender: usize| contenders.get(contender).map(|contender| contender.results[index].cpu());
        let versus = |cost: Option<f64>, contender| {
            cost.zip(cpu(contender)).map_or_else(dash, |(cost, reference)| ratio(cost, reference))
        };
        for Contender { name, results, .. } in contenders {
            let results = &results[index];
            let without = results.without_requests();
            table.row([
                name.to_string(),
                whole(subscribers as f64),
                in_flight.to_string(),
                number(results.cpu()),
                without.map_or_else(dash, number),
                versus(Some(results.cpu()), 1),
                versus(without, 1),
                versus(Some(results.cpu()), 2),
                whole(results.rate()),
                number(results.latencies.p50()),
                number(results.latencies.p99()),
            ]);
        }
    }
}

/// A server that is measured.
struct Contender {
    name: &'static str,
    process: ChildProcess,
    harness: Harness,
    /// Measures the cost of a message without its deliveries, for a server with such a cost.
    baseline: Option<BaselineSender>,
    /// In the order of [`IN_FLIGHT`].
    results: [Results; 2],
}

impl Contender {
    /// Starts Parlor, and connects its subscribers once to receive a sample frame.
    async fn parlor(database: &Database, folder: &Path, subscribers: usize) -> Result<Self> {
        let parlor = Parlor::start(database, folder).await?;
        let population = TestPopulation::create(parlor.address, subscribers).await?;
        let mut publishers = Vec::new();
        for title in ["Everyone", "No subscribers"] {
            let chat = population.group(title).await?;
            let request = Request::send(&population.tokens[0], &chat);
            publishers.push((Publisher::new(population.api.clone(), [request]), chat));
        }
        let [(publisher, chat), (baseline, _)] = publishers.try_into().map_err(|_| "expected two publishers")?;
        let pool = SubscriberPool::new(subscriber_specs(parlor.address, &population.tokens, &chat), FEED, subscribers);
        let mut harness = Harness::new(pool, publisher);
        harness.connect().await?;
        harness.pool.disconnect();
        let baseline = Some(BaselineSender::new(baseline));
        Ok(Self { name: "Parlor", process: parlor.server.process, harness, baseline, results: Default::default() })
    }

    /// Creates a contender for a reference server, which publishes `body` at each request.
    fn reference(
        name: &'static str,
        process: ChildProcess,
        address: SocketAddr,
        body: String,
        subscribers: usize,
    ) -> Result<Self> {
        let tokens = vec![String::new(); subscribers];
        let pool = SubscriberPool::new(subscriber_specs(address, &tokens, "chat"), FEED, subscribers);
        let publisher = Publisher::new(Api::with_path(address, "/publish")?, [Request { token: String::new(), body }]);
        Ok(Self { name, process, harness: Harness::new(pool, publisher), baseline: None, results: Default::default() })
    }

    async fn run_round(&mut self, scale: Scale) -> Result<()> {
        let result = self.measure(scale).await;
        self.harness.pool.disconnect();
        result.map_err(|error| format!("{}: {error}", self.name).into())
    }

    async fn measure(&mut self, scale: Scale) -> Result<()> {
        self.harness.connect().await?;
        let windows = [Window::Time(scale.warm_up), Window::Time(scale.duration)];
        for (results, in_flight) in self.results.iter_mut().zip(IN_FLIGHT) {
            let throughput = self.harness.measure(&[&self.process], in_flight, windows).await?;
            results.add(&throughput, &self.harness.pool.take_latencies());
            if let Some(baseline) = &mut self.baseline {
                let cost = baseline.cost(&self.process, in_flight, scale.sends).await?;
                results.add_request(cost, self.harness.pool.recipients());
            }
        }
        Ok(())
    }
}
