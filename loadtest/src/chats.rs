//! The cost of a delivery in many small chats, compared with a single such chat.

use std::path::Path;

use futures_util::{StreamExt, TryStreamExt, stream};
use testkit::Database;

use crate::Scale;
use crate::client::harness::{Harness, Results, Window};
use crate::client::parlor::Parlor;
use crate::client::population::TestPopulation;
use crate::client::publisher::{BaselineSender, Publisher, Request};
use crate::client::subscriber_pool::{FEED, SubscriberPool, subscriber_specs};
use crate::engines::Engine;
use crate::tools::report::{Table, number, ratio, whole};
use crate::tools::{Error, Result};

/// The number of members of each chat.
const MEMBERS: usize = 10;
const IN_FLIGHT: usize = 8;
/// The number of concurrent requests while chats are created.
const CONCURRENCY: usize = 32;

pub async fn run(engine: &Engine, scale: Scale) -> Result<()> {
    engine.with_database(async |database, folder| measure(engine, database, folder, scale).await).await
}

async fn measure(engine: &Engine, database: &Database, folder: &Path, scale: Scale) -> Result<()> {
    let chats = scale.small_chats;
    eprintln!("chats: {chats} of {MEMBERS} members");
    let parlor = Parlor::start(database, folder).await?;
    let population = TestPopulation::create(parlor.address, chats * MEMBERS).await?;
    let mut harnesses = Vec::new();
    for (name, count) in [("one chat".to_string(), 1), (format!("{} chats", whole(chats as f64)), chats)] {
        let (pool, publisher) = small_chats(&parlor, &population, "Busy", count).await?;
        let (_, baseline) = small_chats(&parlor, &population, "Quiet", count).await?;
        let mut harness = Harness::new(pool, publisher);
        harness.connect().await?;
        harnesses.push((name, harness, BaselineSender::new(baseline), Results::default()));
    }
    let messages = scale.sends.max(chats);
    let windows = [messages / 10, messages].map(Window::Messages);
    for round in 1..=scale.rounds {
        eprintln!("chats: round {round} of {}", scale.rounds);
        for (_, harness, baseline, results) in &mut harnesses {
            let throughput = harness.measure(&[&parlor.server.process], IN_FLIGHT, windows).await?;
            results.add(&throughput, &harness.pool.take_latencies());
            results.add_request(baseline.cost(&parlor.server.process, IN_FLIGHT, messages).await?, MEMBERS);
        }
    }
    let mut table = Table::new(&[
        "chats",
        "subscribers",
        "CPU µs/delivery",
        "vs one chat",
        "without the send",
        "vs one chat",
        "deliveries/s",
        "p50 ms",
        "p99 ms",
    ]);
    let without = |results: &Results| results.without_requests().unwrap_or_default();
    let one = &harnesses[0].3;
    for (name, harness, _, results) in &harnesses {
        table.row([
            name.clone(),
            whole((harness.pool.chats() * MEMBERS) as f64),
            number(results.cpu()),
            ratio(results.cpu(), one.cpu()),
            number(without(results)),
            ratio(without(results), without(one)),
            whole(results.rate()),
            number(results.latencies.p50()),
            number(results.latencies.p99()),
        ]);
    }
    drop(harnesses);
    parlor.stop().await;
    println!(
        "## Fan-out in {} chats of {MEMBERS} members\n\n\
         Each member has one socket and subscribes to one chat. Messages are sent to the chats in turn, {IN_FLIGHT} of \
         them in flight. The reference is the same number of messages, and so of deliveries, in one such chat. Server \
         CPU per delivery; medians of {} rounds, in which the two alternate. The CPU includes the `sendMessage` of \
         every {MEMBERS} deliveries and its commit ({}). `without the send` subtracts the CPU of `sendMessage` in the \
         same number of chats without subscribers.\n\n{table}",
        whole(chats as f64),
        scale.rounds,
        engine.name(),
    );
    Ok(())
}

/// Creates chats without common members, a pool of all members, and a publisher.
///
/// The publisher sends to the chats in turn, as the first member of each.
async fn small_chats(
    parlor: &Parlor,
    population: &TestPopulation,
    title: &str,
    count: usize,
) -> Result<(SubscriberPool, Publisher)> {
    let creating = (0..count).map(|number| async move {
        let members = number * MEMBERS..(number + 1) * MEMBERS;
        let chat = population.group_with(&format!("{title} {number}"), members.clone()).await?;
        let request = Request::send(&population.tokens[members.start], &chat);
        Ok::<_, Error>((subscriber_specs(parlor.address, &population.tokens[members], &chat), request))
    });
    let created: Vec<_> = stream::iter(creating).buffered(CONCURRENCY).try_collect().await?;
    let (specs, requests): (Vec<_>, Vec<_>) = created.into_iter().unzip();
    let pool = SubscriberPool::new(specs.concat(), FEED, MEMBERS);
    Ok((pool, Publisher::new(population.api.clone(), requests)))
}
