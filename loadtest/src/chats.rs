//! Many small chats at once, beside one of them alone: what it costs that each message is for another few.

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

/// Members of each chat.
const MEMBERS: usize = 10;
const IN_FLIGHT: usize = 8;
/// Requests under way while chats are made.
const CONCURRENCY: usize = 32;

pub async fn run(engine: &Engine, scale: Scale) -> Result<()> {
    engine.with_database(async |database, folder| measure(engine, database, folder, scale).await).await
}

async fn measure(engine: &Engine, database: &Database, folder: &Path, scale: Scale) -> Result<()> {
    let chats = scale.small_chats;
    eprintln!("chats: {chats} of {MEMBERS} members");
    let parlor = Parlor::start(database, folder).await?;
    let population = TestPopulation::gather(parlor.address, chats * MEMBERS).await?;
    let mut harnesses = Vec::new();
    for (name, count) in [("one chat".to_string(), 1), (format!("{} chats", whole(chats as f64)), chats)] {
        let (pool, publisher) = small_chats(&parlor, &population, "Busy", count).await?;
        let (_, baseline) = small_chats(&parlor, &population, "Quiet", count).await?;
        let mut harness = Harness::new(pool, publisher);
        harness.gather().await?;
        harnesses.push((name, harness, BaselineSender::new(baseline), Results::default()));
    }
    let messages = scale.sends.max(chats);
    let spans = [messages / 10, messages].map(Window::Messages);
    for round in 1..=scale.rounds {
        eprintln!("chats: round {round} of {}", scale.rounds);
        for (_, harness, baseline, figures) in &mut harnesses {
            let flow = harness.measure(&[&parlor.server.process], IN_FLIGHT, spans).await?;
            figures.add(&flow, &harness.pool.latencies());
            figures.add_request(baseline.cost(&parlor.server.process, IN_FLIGHT, messages).await?, MEMBERS);
        }
    }
    let mut table = Table::new(&[
        "chats",
        "subscribers",
        "CPU µs/delivery",
        "to one chat",
        "without the send",
        "to one chat",
        "deliveries/s",
        "p50 ms",
        "p99 ms",
    ]);
    let without = |figures: &Results| figures.without_requests().unwrap_or_default();
    let one = &harnesses[0].3;
    for (name, harness, _, figures) in &harnesses {
        table.row([
            name.clone(),
            whole((harness.pool.groups() * MEMBERS) as f64),
            number(figures.cpu()),
            ratio(figures.cpu(), one.cpu()),
            number(without(figures)),
            ratio(without(figures), without(one)),
            whole(figures.rate()),
            number(figures.latencies.p50()),
            number(figures.latencies.p99()),
        ]);
    }
    drop(harnesses);
    parlor.stop().await;
    println!(
        "## Fan-out in {} chats of {MEMBERS} members\n\n\
         Each member has one socket, subscribed to their one chat; {IN_FLIGHT} messages are in flight and go round \
         the chats. Beside it as many messages, and so deliveries, in one such chat. Server CPU for each delivery, \
         medians of {} rounds in turns; it includes the `sendMessage` of every {MEMBERS} deliveries and its commit \
         ({}). `without the send` is less what `sendMessage` costs in as many such chats to which nobody is \
         subscribed.\n\n{table}",
        whole(chats as f64),
        scale.rounds,
        engine.name(),
    );
    Ok(())
}

/// So many chats, each of other people; the first member of each sends, the chats in turns.
async fn small_chats(
    parlor: &Parlor,
    population: &TestPopulation,
    title: &str,
    count: usize,
) -> Result<(SubscriberPool, Publisher)> {
    let making = (0..count).map(|number| async move {
        let people = number * MEMBERS..(number + 1) * MEMBERS;
        let chat = population.group_of(&format!("{title} {number}"), people.clone()).await?;
        let request = Request::send(&population.tokens[people.start], &chat);
        Ok::<_, Error>((subscriber_specs(parlor.address, &population.tokens[people], &chat), request))
    });
    let made: Vec<_> = stream::iter(making).buffered(CONCURRENCY).try_collect().await?;
    let (subscriber_specs, requests): (Vec<_>, Vec<_>) = made.into_iter().unzip();
    let pool = SubscriberPool::new(subscriber_specs.concat(), FEED, MEMBERS);
    Ok((pool, Publisher::new(population.api.clone(), requests)))
}
