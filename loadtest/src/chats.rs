//! Many small chats at once, beside one of them alone: what it costs that each message is for another few.

use std::path::Path;

use futures_util::{StreamExt, TryStreamExt, stream};
use testkit::Database;

use crate::Scale;
use crate::client::audience::{Audience, FEED, seats};
use crate::client::community::Community;
use crate::client::parlor::Parlor;
use crate::client::publisher::{Publisher, Quiet, Request};
use crate::client::rig::{Figures, Rig, Span};
use crate::engines::Engine;
use crate::tools::report::{Table, number, ratio, whole};
use crate::tools::{Error, Result};

/// Members of each chat.
const MEMBERS: usize = 10;
const IN_FLIGHT: usize = 8;
/// Requests under way while chats are made.
const HASTE: usize = 32;

pub async fn run(engine: &Engine, scale: Scale) -> Result<()> {
    engine.with_database(async |database, folder| measure(engine, database, folder, scale).await).await
}

async fn measure(engine: &Engine, database: &Database, folder: &Path, scale: Scale) -> Result<()> {
    let chats = scale.small_chats;
    eprintln!("chats: {chats} of {MEMBERS} members");
    let parlor = Parlor::start(database, folder).await?;
    let community = Community::gather(parlor.address, chats * MEMBERS).await?;
    let mut rigs = Vec::new();
    for (name, count) in [("one chat".to_string(), 1), (format!("{} chats", whole(chats as f64)), chats)] {
        let (audience, publisher) = small_chats(&parlor, &community, "Busy", count).await?;
        let (_, quiet) = small_chats(&parlor, &community, "Quiet", count).await?;
        let mut rig = Rig::new(audience, publisher);
        rig.gather().await?;
        rigs.push((name, rig, Quiet::new(quiet), Figures::default()));
    }
    let messages = scale.sends.max(chats);
    let spans = [messages / 10, messages].map(Span::Messages);
    for round in 1..=scale.rounds {
        eprintln!("chats: round {round} of {}", scale.rounds);
        for (_, rig, quiet, figures) in &mut rigs {
            let flow = rig.measure(&[&parlor.server.process], IN_FLIGHT, spans).await?;
            figures.add(&flow, &rig.audience.latencies());
            figures.add_request(quiet.cost(&parlor.server.process, IN_FLIGHT, messages).await?, MEMBERS);
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
    let without = |figures: &Figures| figures.without_requests().unwrap_or_default();
    let one = &rigs[0].3;
    for (name, rig, _, figures) in &rigs {
        table.row([
            name.clone(),
            whole((rig.audience.groups() * MEMBERS) as f64),
            number(figures.cpu()),
            ratio(figures.cpu(), one.cpu()),
            number(without(figures)),
            ratio(without(figures), without(one)),
            whole(figures.rate()),
            number(figures.latencies.p50()),
            number(figures.latencies.p99()),
        ]);
    }
    drop(rigs);
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
    community: &Community,
    title: &str,
    count: usize,
) -> Result<(Audience, Publisher)> {
    let making = (0..count).map(|number| async move {
        let people = number * MEMBERS..(number + 1) * MEMBERS;
        let chat = community.group_of(&format!("{title} {number}"), people.clone()).await?;
        let request = Request::send(&community.tokens[people.start], &chat);
        Ok::<_, Error>((seats(parlor.address, &community.tokens[people], &chat), request))
    });
    let made: Vec<_> = stream::iter(making).buffered(HASTE).try_collect().await?;
    let (seats, requests): (Vec<_>, Vec<_>) = made.into_iter().unzip();
    let audience = Audience::new(seats.concat(), FEED, MEMBERS);
    Ok((audience, Publisher::new(community.api.clone(), requests)))
}
