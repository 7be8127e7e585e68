//! The chat list and the unread totals of a user with 20 chats, compared with those of a user with 2,000.

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
/// The number of unread messages in each chat.
const UNREAD: usize = 3;
/// The number of concurrent requests while chats are created.
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
    eprintln!("lists: users with {few} and {many} chats on {}", engine.name());
    let parlor = Parlor::start(database, folder).await?;
    // User 0 has few chats, user 1 has many, and user 2 sends the messages in all of them.
    let population = TestPopulation::create(parlor.address, 3).await?;
    for (user, chats) in [(0, FEW_CHATS), (1, scale.many_chats)] {
        stream::iter(0..chats)
            .map(|number| create_chat_with_messages(&population, user, number))
            .buffer_unordered(CONCURRENCY)
            .try_for_each(async |()| Ok(()))
            .await?;
    }
    database.execute_by_engine("", "VACUUM ANALYZE").await;
    let mut table = Table::new(&[
        "query".into(),
        format!("{few}: p50 ms"),
        format!("{many}: p50 ms"),
        "p99 ms".into(),
        "p50 ratio".into(),
    ]);
    for (query, name) in
        [(LIST, "20 chats with the fields of a list"), (TOTALS, "unread totals"), (UNREAD_ONLY, "20 unread chats")]
    {
        eprintln!("lists: {name}");
        let body = json!({ "query": query }).to_string();
        let [small, large] = interleaved(&population, [(0, &body), (1, &body)], scale).await?;
        table.row([
            name.to_string(),
            number(small.p50()),
            number(large.p50()),
            number(large.p99()),
            ratio(large.p50(), small.p50()),
        ]);
    }
    parlor.stop().await;
    println!(
        "## Chat lists on {}\n\n\
         Queries over HTTP, one request at a time, alternately of a user with {few} chats and of one with {many}. Each \
         chat has {UNREAD} unread messages.\n\n{table}",
        engine.name()
    );
    Ok(())
}

/// Creates a group of a user in which user 2 has sent messages.
async fn create_chat_with_messages(population: &TestPopulation, owner: usize, number: usize) -> Result<()> {
    const CREATE: &str = "mutation($input: CreateChatInput!) { createChat(input: $input) { chat { id } } }";
    const SEND: &str = "mutation($input: SendMessageInput!) { sendMessage(input: $input) { message { id } } }";
    let input = json!({ "kind": "GROUP", "title": format!("Chat {number}"), "memberIds": [user(2)] });
    let created: Value = population.api.ask(&population.tokens[owner], CREATE, json!({ "input": input })).await?;
    for n in 0..UNREAD {
        let mentions = if n == 0 { vec![user(owner)] } else { Vec::new() };
        let input =
            json!({ "chatId": created["createChat"]["chat"]["id"], "text": "Are you coming?", "mentionIds": mentions });
        population.api.ask(&population.tokens[2], SEND, json!({ "input": input })).await?;
    }
    Ok(())
}
