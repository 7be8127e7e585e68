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
use crate::client::audience::{Audience, FEED, seats};
use crate::client::community::Community;
use crate::client::parlor::Parlor;
use crate::client::publisher::{Publisher, Request};
use crate::client::rig::{Figures, Rig, Span};
use crate::engines::Engine;
use crate::tools::Result;
use crate::tools::report::{Table, number, ratio, whole};

const IN_FLIGHT: [usize; 2] = [1, 8];
/// Messages for the probes that find out whether all are there.
const PROBES: usize = 30;
/// Messages under way while they are sent before.
const HASTE: usize = 32;
const REACT: &str = "mutation React($input: ReactionInput!) { addReaction(input: $input) { message { id } } }";

pub async fn run(engine: &Engine, scale: Scale) -> Result<()> {
    engine.with_database(async |database, folder| measure(engine, database, folder, scale).await).await
}

async fn measure(engine: &Engine, database: &Database, folder: &Path, scale: Scale) -> Result<()> {
    eprintln!("tainted: reactions before {} subscribers", scale.onlookers);
    let parlor = Parlor::start(database, folder).await?;
    let community = Community::gather(parlor.address, scale.onlookers).await?;
    let of_viewer = FEED.replace("emoji count", "emoji count viewerReacted");
    let mut rigs = Vec::new();
    for (name, feed) in [("the same for all", FEED), ("with viewerReacted", &of_viewer)] {
        let chat = community.group(name).await?;
        let publisher = reactions(&community, &chat, scale).await?;
        let audience = Audience::new(seats(parlor.address, &community.tokens, &chat), feed, scale.onlookers);
        let mut rig = Rig::new(audience, publisher);
        rig.gather().await?;
        rigs.push((name, rig, [Figures::default(), Figures::default()]));
    }
    let spans = spans(scale).map(Span::Messages);
    for round in 1..=scale.rounds {
        eprintln!("tainted: round {round} of {}", scale.rounds);
        for (_, rig, figures) in &mut rigs {
            for (figures, in_flight) in figures.iter_mut().zip(IN_FLIGHT) {
                let flow = rig.measure(&[&parlor.server.process], in_flight, spans).await?;
                figures.add(&flow, &rig.audience.latencies());
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
        for (name, _, figures) in &rigs {
            let figures = &figures[index];
            table.row([
                name.to_string(),
                in_flight.to_string(),
                number(figures.cpu()),
                ratio(figures.cpu(), rigs[0].2[index].cpu()),
                whole(figures.rate()),
                number(figures.latencies.p50()),
                number(figures.latencies.p99()),
            ]);
        }
    }
    drop(rigs);
    parlor.stop().await;
    println!(
        "## Fan-out of reactions to {} subscribers\n\n\
         Server CPU for each delivery of an event that a reaction makes, in which all subscribers ask for \
         `reactions {{ emoji count }}` or for `reactions {{ emoji count viewerReacted }}`; medians of {} rounds in \
         turns. Both include the `addReaction` of each event and its commit ({}).\n\n{table}",
        scale.onlookers,
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
async fn reactions(community: &Community, chat: &str, scale: Scale) -> Result<Publisher> {
    let token = &community.tokens[0];
    let events = scale.rounds * IN_FLIGHT.len() * spans(scale).iter().sum::<usize>() + PROBES;
    let sends = Publisher::new(community.api.clone(), [Request::send(token, chat)]);
    let messages = stream::iter(0..events).map(|number| sends.publish(number)).buffered(HASTE);
    let requests = messages.map(|answer| {
        let answer: Value = serde_json::from_str(&answer?)?;
        let message = &answer["data"]["sendMessage"]["message"]["id"];
        Ok(Request::new(token, REACT, json!({ "messageId": message, "emoji": "👍" })))
    });
    let requests: Result<Vec<Request>> = requests.try_collect().await;
    Ok(Publisher::new(community.api.clone(), requests?))
}
