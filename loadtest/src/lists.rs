//! The chat list: a page of 30 chats with all that a list shows, and the totals of what is unread, for a
//! person with 20 chats and for one with two thousand, asked for in turns.

use std::path::Path;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use testkit::Database;

use crate::Scale;
use crate::client::interleaved::interleaved;
use crate::client::parlor::Parlor;
use crate::client::population::{TestPopulation, user};
use crate::engines::Engine;
use crate::tools::Result;
use crate::tools::report::{Table, number, ratio, whole};

const FEW_CHATS: usize = 20;
/// Messages that wait unread in each chat.
const UNREAD: usize = 3;
/// Requests under way while chats are made.
const CONCURRENCY: usize = 32;

const LIST: &str = "{ chats(first: 20) { nodes { id title kind memberCount lastActivityAt \
    lastMessage { id kind text createdAt sender { id name avatarUrl } } \
    viewerMembership { unreadCount unreadMentionCount markedUnread pinned mutedUntil draft notificationLevel } \
    viewerCan { action allowed reason until } members(first: 3) { nodes { role user { name } } } } \
    pageInfo { hasNextPage endCursor } } }";
const TOTALS: &str = "{ viewer { unread { chats messages mentions notifications } } }";
const UNREAD_ONLY: &str = "{ chats(first: 20, filter: { unreadOnly: true }) { nodes { id title } } }";

pub async fn run(engine: &Engine, scale: Scale) -> Result<()> {
    engine.with_database(async |database, folder| measure(engine, database, folder, scale).await).await
}

async fn measure(engine: &Engine, database: &Database, folder: &Path, scale: Scale) -> Result<()> {
    let [few, many] = [FEW_CHATS, scale.many_chats].map(|chats| whole(chats as f64));
    eprintln!("lists: people with {few} and {many} chats on {}", engine.name());
    let parlor = Parlor::start(database, folder).await?;
    // The first has few chats, the second many; the third talks in all of them.
    let population = TestPopulation::gather(parlor.address, 3).await?;
    for (person, chats) in [(0, FEW_CHATS), (1, scale.many_chats)] {
        stream::iter(0..chats)
            .map(|number| busy_chat(&population, person, number))
            .buffer_unordered(CONCURRENCY)
            .try_for_each(async |()| Ok(()))
            .await?;
    }
    database.execute_by_engine("", "VACUUM ANALYZE").await;
    let mut table = Table::new(&[
        "asked for".into(),
        format!("{few}: p50 ms"),
        format!("{many}: p50 ms"),
        "p99 ms".into(),
        "p50 to p50".into(),
    ]);
    for (query, what) in
        [(LIST, "20 chats with all that a list shows"), (TOTALS, "unread totals"), (UNREAD_ONLY, "20 unread chats")]
    {
        eprintln!("lists: {what}");
        let body = json!({ "query": query }).to_string();
        let [small, large] = interleaved(&population, [(0, &body), (1, &body)], scale).await?;
        table.row([
            what.to_string(),
            number(small.p50()),
            number(large.p50()),
            number(large.p99()),
            ratio(large.p50(), small.p50()),
        ]);
    }
    parlor.stop().await;
    println!(
        "## Chat lists on {}\n\nOver HTTP, one request at a time, of a person with {few} chats and of one with {many} \
         in turns; each chat has {UNREAD} unread messages.\n\n{table}",
        engine.name()
    );
    Ok(())
}

/// A group of a person's in which another has said something.
async fn busy_chat(population: &TestPopulation, person: usize, number: usize) -> Result<()> {
    const CREATE: &str = "mutation($input: CreateChatInput!) { createChat(input: $input) { chat { id } } }";
    const SEND: &str = "mutation($input: SendMessageInput!) { sendMessage(input: $input) { message { id } } }";
    let input = json!({ "kind": "GROUP", "title": format!("Chat {number}"), "memberIds": [user(2)] });
    let made: Value = population.api.ask(&population.tokens[person], CREATE, json!({ "input": input })).await?;
    for n in 0..UNREAD {
        let mentions = if n == 0 { vec![user(person)] } else { Vec::new() };
        let input =
            json!({ "chatId": made["createChat"]["chat"]["id"], "text": "Are you coming?", "mentionIds": mentions });
        population.api.ask(&population.tokens[2], SEND, json!({ "input": input })).await?;
    }
    Ok(())
}
