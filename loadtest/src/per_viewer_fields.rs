//! The cost of a field that depends on the viewer.
//!
//! Subscribers that select `viewerReacted` need one execution each; otherwise one execution is shared by all. Each
//! event is a reaction to a message that was sent beforehand, whose mark in the frame numbers the event.

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
/// The number of messages for the probes that detect active subscriptions.
const PROBES: usize = 30;
/// The number of concurrent requests while messages are sent beforehand.
const CONCURRENCY: usize = 32;
const REACT: &str = "mutation React($input: ReactionInput!) { addReaction(input: $input) { message { id } } }";

pub async fn run(engine: &Engine, scale: Scale) -> Result<()> {
    engine.with_database(async |database, folder| measure(engine, database, folder, scale).await).await
}

async fn measure(engine: &Engine, database: &Database, folder: &Path, scale: Scale) -> Result<()> {
    eprintln!("per-viewer-fields: reactions for {} subscribers", scale.subscribers);
    let parlor = Parlor::start(database, folder).await?;
    let population = TestPopulation::create(parlor.address, scale.subscribers).await?;
    let per_viewer_feed = FEED.replace("emoji count", "emoji count viewerReacted");
    let mut harnesses = Vec::new();
    for (name, feed) in [("shared", FEED), ("with viewerReacted", &per_viewer_feed)] {
        let chat = population.group(name).await?;
        let publisher = reaction_publisher(&population, &chat, scale).await?;
        let pool =
            SubscriberPool::new(subscriber_specs(parlor.address, &population.tokens, &chat), feed, scale.subscribers);
        let mut harness = Harness::new(pool, publisher);
        harness.connect().await?;
        harnesses.push((name, harness, [Results::default(), Results::default()]));
    }
    let windows = window_sizes(scale).map(Window::Messages);
    for round in 1..=scale.rounds {
        eprintln!("per-viewer-fields: round {round} of {}", scale.rounds);
        for (_, harness, results) in &mut harnesses {
            for (results, in_flight) in results.iter_mut().zip(IN_FLIGHT) {
                let throughput = harness.measure(&[&parlor.server.process], in_flight, windows).await?;
                results.add(&throughput, &harness.pool.take_latencies());
            }
        }
    }
    let mut table =
        Table::new(&["event", "in flight", "CPU µs/delivery", "vs shared", "deliveries/s", "p50 ms", "p99 ms"]);
    for (index, in_flight) in IN_FLIGHT.into_iter().enumerate() {
        for (name, _, results) in &harnesses {
            let results = &results[index];
            table.row([
                name.to_string(),
                in_flight.to_string(),
                number(results.cpu()),
                ratio(results.cpu(), harnesses[0].2[index].cpu()),
                whole(results.rate()),
                number(results.latencies.p50()),
                number(results.latencies.p99()),
            ]);
        }
    }
    drop(harnesses);
    parlor.stop().await;
    println!(
        "## Fan-out of reactions to {} subscribers\n\n\
         Server CPU per delivery of an event that a reaction publishes, if all subscribers select \
         `reactions {{ emoji count }}` (shared) or `reactions {{ emoji count viewerReacted }}`; medians of {} rounds, \
         in which the two alternate. Both include the `addReaction` of each event and its commit ({}).\n\n{table}",
        scale.subscribers,
        scale.rounds,
        engine.name(),
    );
    Ok(())
}

/// Returns the numbers of events in the warm-up and in the measurement.
fn window_sizes(scale: Scale) -> [usize; 2] {
    [scale.sends / 10, scale.sends]
}

/// Sends a message for each event, and returns a publisher of reactions to them by the first user.
async fn reaction_publisher(population: &TestPopulation, chat: &str, scale: Scale) -> Result<Publisher> {
    let token = &population.tokens[0];
    let events = scale.rounds * IN_FLIGHT.len() * window_sizes(scale).iter().sum::<usize>() + PROBES;
    let sends = Publisher::new(population.api.clone(), [Request::send(token, chat)]);
    let messages = stream::iter(0..events).map(|number| sends.publish(number)).buffered(CONCURRENCY);
    let requests = messages.map(|response| {
        let response: Value = serde_json::from_str(&response?)?;
        let message = &response["data"]["sendMessage"]["message"]["id"];
        Ok(Request::new(token, REACT, json!({ "messageId": message, "emoji": "👍" })))
    });
    let requests: Result<Vec<Request>> = requests.try_collect().await;
    Ok(Publisher::new(population.api.clone(), requests?))
}
