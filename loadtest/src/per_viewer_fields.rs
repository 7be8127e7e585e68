//! What it costs that an event differs by who sees it: reactions with `viewerReacted`, which is executed
//! for each subscriber, beside the same without it, which is executed once for all.
//!
//! The messages were sent before, with their marks; each event is a reaction to the next of them, so that
//! the mark in its frame numbers the event.

use std::path::Path;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use testkit::Database;

use crate::Scale;
use crate::client::harness::{Harness, Results, Window};
use crate::client::parlor::Parlor;
use crate::client::population::TestPopulation;
use crate::client::publisher::{Publisher, Request};
use crate::client::subscriber_pool::{FEED, SubscriberPool, subscriber_specs};
use crate::engines::Engine;
use crate::tools::Result;
use crate::tools::report::{Table, number, ratio, whole};

const IN_FLIGHT: [usize; 2] = [1, 8];
/// Messages for the probes that find out whether all are there.
const PROBES: usize = 30;
/// Messages under way while they are sent before.
const CONCURRENCY: usize = 32;
const REACT: &str = "mutation React($input: ReactionInput!) { addReaction(input: $input) { message { id } } }";

pub async fn run(engine: &Engine, scale: Scale) -> Result<()> {
    engine.with_database(async |database, folder| measure(engine, database, folder, scale).await).await
}

async fn measure(engine: &Engine, database: &Database, folder: &Path, scale: Scale) -> Result<()> {
    eprintln!("tainted: reactions before {} subscribers", scale.subscribers);
    let parlor = Parlor::start(database, folder).await?;
    let population = TestPopulation::gather(parlor.address, scale.subscribers).await?;
    let of_viewer = FEED.replace("emoji count", "emoji count viewerReacted");
    let mut harnesses = Vec::new();
    for (name, feed) in [("the same for all", FEED), ("with viewerReacted", &of_viewer)] {
        let chat = population.group(name).await?;
        let publisher = reactions(&population, &chat, scale).await?;
        let pool =
            SubscriberPool::new(subscriber_specs(parlor.address, &population.tokens, &chat), feed, scale.subscribers);
        let mut harness = Harness::new(pool, publisher);
        harness.gather().await?;
        harnesses.push((name, harness, [Results::default(), Results::default()]));
    }
    let spans = spans(scale).map(Window::Messages);
    for round in 1..=scale.rounds {
        eprintln!("tainted: round {round} of {}", scale.rounds);
        for (_, harness, figures) in &mut harnesses {
            for (figures, in_flight) in figures.iter_mut().zip(IN_FLIGHT) {
                let flow = harness.measure(&[&parlor.server.process], in_flight, spans).await?;
                figures.add(&flow, &harness.pool.latencies());
            }
        }
    }
    let mut table = Table::new(&[
        "event",
        "in flight",
        "CPU µs/delivery",
        "to the same for all",
        "deliveries/s",
        "p50 ms",
        "p99 ms",
    ]);
    for (index, in_flight) in IN_FLIGHT.into_iter().enumerate() {
        for (name, _, figures) in &harnesses {
            let figures = &figures[index];
            table.row([
                name.to_string(),
                in_flight.to_string(),
                number(figures.cpu()),
                ratio(figures.cpu(), harnesses[0].2[index].cpu()),
                whole(figures.rate()),
                number(figures.latencies.p50()),
                number(figures.latencies.p99()),
            ]);
        }
    }
    drop(harnesses);
    parlor.stop().await;
    println!(
        "## Fan-out of reactions to {} subscribers\n\n\
         Server CPU for each delivery of an event that a reaction makes, in which all subscribers ask for \
         `reactions {{ emoji count }}` or for `reactions {{ emoji count viewerReacted }}`; medians of {} rounds in \
         turns. Both include the `addReaction` of each event and its commit ({}).\n\n{table}",
        scale.subscribers,
        scale.rounds,
        engine.name(),
    );
    Ok(())
}

/// How many events of one measurement come before it, and in it.
fn spans(scale: Scale) -> [usize; 2] {
    [scale.sends / 10, scale.sends]
}

/// Sends all messages that are reacted to. The first person reacts.
async fn reactions(population: &TestPopulation, chat: &str, scale: Scale) -> Result<Publisher> {
    let token = &population.tokens[0];
    let events = scale.rounds * IN_FLIGHT.len() * spans(scale).iter().sum::<usize>() + PROBES;
    let sends = Publisher::new(population.api.clone(), [Request::send(token, chat)]);
    let messages = stream::iter(0..events).map(|number| sends.publish(number)).buffered(CONCURRENCY);
    let requests = messages.map(|answer| {
        let answer: Value = serde_json::from_str(&answer?)?;
        let message = &answer["data"]["sendMessage"]["message"]["id"];
        Ok(Request::new(token, REACT, json!({ "messageId": message, "emoji": "👍" })))
    });
    let requests: Result<Vec<Request>> = requests.try_collect().await;
    Ok(Publisher::new(population.api.clone(), requests?))
}
