//! The cost of a delivery in a cluster of two nodes: on the node that received the message, and on the other one.

use std::fs;
use std::path::Path;

use testkit::{Database, RedisServer};

use crate::Scale;
use crate::client::harness::{Harness, Results, Window};
use crate::client::parlor::Parlor;
use crate::client::population::TestPopulation;
use crate::client::publisher::{Publisher, Request};
use crate::client::subscriber_pool::{FEED, SubscriberPool, subscriber_specs};
use crate::engines::Engine;
use crate::tools::Result;
use crate::tools::report::{Table, number, ratio, whole};

const SUBSCRIBERS: usize = 1_000;
const HALF: usize = SUBSCRIBERS / 2;
const IN_FLIGHT: [usize; 2] = [1, 8];

pub async fn run(engines: &[Engine], scale: Scale) -> Result<()> {
    let postgres = engines.iter().find(|engine| engine.is_postgres());
    match postgres {
        None => println!("The cluster scenario is skipped: it needs PostgreSQL.\n"),
        Some(_) if !RedisServer::is_installed() => {
            println!("The cluster scenario is skipped: no redis-server in the PATH.\n")
        }
        Some(engine) => {
            let work = async |database: &Database, folder: &Path| measure(database, folder, scale).await;
            engine.with_database(work).await?;
        }
    }
    Ok(())
}

async fn measure(database: &Database, folder: &Path, scale: Scale) -> Result<()> {
    eprintln!("cluster: {SUBSCRIBERS} subscribers, half on each of two nodes");
    let redis = RedisServer::start();
    let sender = start_node(database, folder, &redis, "sender").await?;
    let peer = start_node(database, folder, &redis, "peer").await?;
    let population = TestPopulation::create(sender.address, SUBSCRIBERS).await?;
    let chat = population.group("Everyone").await?;
    let (first, second) = population.tokens.split_at(HALF);
    let specs =
        [subscriber_specs(sender.address, first, &chat), subscriber_specs(peer.address, second, &chat)].concat();
    let publisher = Publisher::new(population.api.clone(), [Request::send(&population.tokens[0], &chat)]);
    let mut harness = Harness::new(SubscriberPool::new(specs, FEED, SUBSCRIBERS), publisher);
    harness.connect().await?;

    let mut results: [[Results; 2]; 2] = Default::default();
    let windows = [scale.warm_up, scale.duration].map(Window::Time);
    for round in 1..=scale.rounds {
        eprintln!("cluster: round {round} of {}", scale.rounds);
        for (results, in_flight) in results.iter_mut().zip(IN_FLIGHT) {
            let throughput =
                harness.measure(&[&sender.server.process, &peer.server.process], in_flight, windows).await?;
            let halves = [0..HALF, HALF..SUBSCRIBERS];
            for (node, (results, half)) in results.iter_mut().zip(halves).enumerate() {
                results.add(&throughput.of_server(node, 0.5), &harness.pool.take_latencies_of(half));
            }
        }
    }
    let mut table = Table::new(&[
        "node",
        "in flight",
        "CPU µs/delivery",
        "vs sender",
        "deliveries/s",
        "p50 ms",
        "vs sender",
        "p99 ms",
        "vs sender",
    ]);
    for (results, in_flight) in results.iter().zip(IN_FLIGHT) {
        let sender = &results[0];
        for (name, results) in ["sender", "peer"].into_iter().zip(results) {
            let [p50, p99] = [results.latencies.p50(), results.latencies.p99()];
            table.row([
                name.to_string(),
                in_flight.to_string(),
                number(results.cpu()),
                ratio(results.cpu(), sender.cpu()),
                whole(results.rate()),
                number(p50),
                ratio(p50, sender.latencies.p50()),
                number(p99),
                ratio(p99, sender.latencies.p99()),
            ]);
        }
    }
    drop(harness);
    sender.stop().await;
    peer.stop().await;
    drop(redis);
    println!(
        "## Two nodes: one message to each of {SUBSCRIBERS} subscribers, half on each node\n\n\
         The nodes share one PostgreSQL database and one Redis, whose CPU is not counted. All messages are sent to the \
         node `sender`, whose CPU includes the `sendMessage` of each message and its commit. A latency is the time \
         from the request to the subscriber. Medians of {} rounds.\n\n{table}",
        scale.rounds
    );
    Ok(())
}

/// Starts a node in its own folder.
async fn start_node(database: &Database, folder: &Path, redis: &RedisServer, name: &str) -> Result<Parlor> {
    let folder = folder.join(name);
    fs::create_dir(&folder)?;
    let url = redis.url();
    let settings = [("REDIS_URL", url.as_str()), ("PARLOR_NODE_NAME", name)];
    Parlor::start_with(database, &folder, &settings).await
}
