//! Two servers over one database, with Redis between them: what a delivery costs where the message was
//! sent, and on the other.

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
        None => println!("Two nodes are left out: they need PostgreSQL.\n"),
        Some(_) if !RedisServer::is_installed() => println!("Two nodes are left out: no redis-server in the PATH.\n"),
        Some(engine) => {
            let work = async |database: &Database, folder: &Path| measure(database, folder, scale).await;
            engine.with_database(work).await?;
        }
    }
    Ok(())
}

async fn measure(database: &Database, folder: &Path, scale: Scale) -> Result<()> {
    eprintln!("nodes: {SUBSCRIBERS} subscribers, half on each of two");
    let redis = RedisServer::start();
    let near = node(database, folder, &redis, "near").await?;
    let far = node(database, folder, &redis, "far").await?;
    let population = TestPopulation::gather(near.address, SUBSCRIBERS).await?;
    let chat = population.group("Everybody").await?;
    let (here, there) = population.tokens.split_at(HALF);
    let subscriber_specs =
        [subscriber_specs(near.address, here, &chat), subscriber_specs(far.address, there, &chat)].concat();
    let publisher = Publisher::new(population.api.clone(), [Request::send(&population.tokens[0], &chat)]);
    let mut harness = Harness::new(SubscriberPool::new(subscriber_specs, FEED, SUBSCRIBERS), publisher);
    harness.gather().await?;

    let mut figures: [[Results; 2]; 2] = Default::default();
    let spans = [scale.warm_up, scale.duration].map(Window::Time);
    for round in 1..=scale.rounds {
        eprintln!("nodes: round {round} of {}", scale.rounds);
        for (figures, in_flight) in figures.iter_mut().zip(IN_FLIGHT) {
            let flow = harness.measure(&[&near.server.process, &far.server.process], in_flight, spans).await?;
            let halves = [0..HALF, HALF..SUBSCRIBERS];
            for (node, (figures, half)) in figures.iter_mut().zip(halves).enumerate() {
                figures.add(&flow.of(node, 0.5), &harness.pool.latencies_of(half));
            }
        }
    }
    let mut table = Table::new(&[
        "node",
        "in flight",
        "CPU µs/delivery",
        "to the near",
        "deliveries/s",
        "p50 ms",
        "to the near",
        "p99 ms",
        "to the near",
    ]);
    for (figures, in_flight) in figures.iter().zip(IN_FLIGHT) {
        let near = &figures[0];
        for (name, figures) in ["near", "far"].into_iter().zip(figures) {
            let [p50, p99] = [figures.latencies.p50(), figures.latencies.p99()];
            table.row([
                name.to_string(),
                in_flight.to_string(),
                number(figures.cpu()),
                ratio(figures.cpu(), near.cpu()),
                whole(figures.rate()),
                number(p50),
                ratio(p50, near.latencies.p50()),
                number(p99),
                ratio(p99, near.latencies.p99()),
            ]);
        }
    }
    drop(harness);
    near.stop().await;
    far.stop().await;
    drop(redis);
    println!(
        "## Two nodes: one message to each of {SUBSCRIBERS} subscribers, half on each\n\n\
         Over one PostgreSQL database and one Redis, whose own CPU is in no figure. All is sent to the near node, \
         whose CPU includes the `sendMessage` of each message and its commit; a latency is from the request to the \
         subscriber. Medians of {} rounds.\n\n{table}",
        scale.rounds
    );
    Ok(())
}

/// A server in a folder of its own.
async fn node(database: &Database, folder: &Path, redis: &RedisServer, name: &str) -> Result<Parlor> {
    let folder = folder.join(name);
    fs::create_dir(&folder)?;
    let url = redis.url();
    let settings = [("REDIS_URL", url.as_str()), ("PARLOR_NODE_NAME", name)];
    Parlor::start_with(database, &folder, &settings).await
}
