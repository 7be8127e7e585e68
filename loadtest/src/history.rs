//! Pages of 50 messages at the newest end, in the middle and at the oldest end, of chats of 10,000 and of 1,000,000
//! messages.

use std::path::Path;

use serde_json::{Value, json};
use testkit::Database;

use crate::Scale;
use crate::client::history_seed::HistorySeed;
use crate::client::interleaved::interleaved;
use crate::client::parlor::Parlor;
use crate::client::population::TestPopulation;
use crate::engines::Engine;
use crate::tools::Result;
use crate::tools::report::{Table, number, ratio, whole};

const USERS: usize = 20;
const SMALL_CHAT: i64 = 10_000;
const PAGE: usize = 50;
const TEXT: &str = "'Message ' || n || ': the meeting moves to three o''clock, in the small room upstairs.'";

const HISTORY: &str = "query($chat: ID!, $before: String) { chat(id: $chat) { \
    messages(last: 50, before: $before) { nodes { id seq text sender { name } createdAt } \
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } }";
const OLDEST: &str = "query($chat: ID!) { chat(id: $chat) { \
    messages(first: 51) { pageInfo { endCursor } } } }";
const MIDDLE: &str = "mutation($input: SendMessageInput!) { sendMessage(input: $input) { \
    messageEdge { cursor } } }";

pub async fn run(engine: &Engine, scale: Scale) -> Result<()> {
    engine.with_database(async |database, folder| measure(engine, database, folder, scale).await).await
}

async fn measure(engine: &Engine, database: &Database, folder: &Path, scale: Scale) -> Result<()> {
    let sizes = [SMALL_CHAT, scale.large_chat];
    let [small_size, large_size] = sizes.map(|size| whole(size as f64));
    eprintln!("history: chats of {small_size} and {large_size} messages on {}", engine.name());
    // Most messages are inserted by SQL while the server is stopped, because it keeps chat state in memory.
    let parlor = Parlor::start(database, folder).await?;
    let mut population = TestPopulation::create(parlor.address, USERS).await?;
    let mut chats = Vec::new();
    for size in &sizes {
        let chat = population.group(&title(*size)).await?;
        // One indexed message prevents the next start from indexing the whole history.
        ask(&population, MIDDLE, json!({ "input": { "chatId": chat, "text": "The first message" } })).await?;
        chats.push(chat);
    }
    parlor.stop().await;
    for size in sizes {
        let count = size / 2;
        HistorySeed { title: &title(size), count, users: USERS, text: TEXT }.insert(database).await?;
    }
    // Cursors are opaque, so sending a message in the middle provides the cursor there.
    let parlor = Parlor::start(database, folder).await?;
    population.set_address(parlor.address)?;
    let mut middles = Vec::new();
    for chat in &chats {
        let input = json!({ "chatId": chat, "text": "The message in the middle" });
        let sent = ask(&population, MIDDLE, json!({ "input": input })).await?;
        middles.push(sent["sendMessage"]["messageEdge"]["cursor"].clone());
    }
    parlor.stop().await;
    for size in sizes {
        let count = size - size / 2 - 1;
        HistorySeed { title: &title(size), count, users: USERS, text: TEXT }.insert(database).await?;
    }
    database.execute_by_engine("", "VACUUM ANALYZE").await;

    let parlor = Parlor::start(database, folder).await?;
    population.set_address(parlor.address)?;
    let mut table = Table::new(&[
        "page".into(),
        format!("{small_size}: p50 ms"),
        "p99 ms".into(),
        format!("{large_size}: p50 ms"),
        "p99 ms".into(),
        "p50 ratio".into(),
        "p99 ratio".into(),
    ]);
    for position in [Position::Newest, Position::Middle, Position::Oldest] {
        eprintln!("history: the {} page", position.name());
        let mut pages = Vec::new();
        for (chat, middle) in chats.iter().zip(&middles) {
            pages.push(Page::load(position, &population, chat, middle).await?);
        }
        let [small, large] =
            interleaved(&population, [(0, pages[0].0.as_str()), (0, pages[1].0.as_str())], scale).await?;
        table.row([
            position.name().to_string(),
            number(small.p50()),
            number(small.p99()),
            number(large.p50()),
            number(large.p99()),
            ratio(large.p50(), small.p50()),
            ratio(large.p99(), small.p99()),
        ]);
    }
    parlor.stop().await;
    println!(
        "## History on {}\n\n\
         Pages of {PAGE} messages over HTTP, one request at a time, alternately from a chat of {small_size} messages \
         and from one of {large_size}.\n\n{table}",
        engine.name()
    );
    Ok(())
}

fn title(size: i64) -> String {
    format!("A chat of {size}")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Position {
    Newest,
    Middle,
    Oldest,
}

impl Position {
    fn name(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Middle => "middle",
            Self::Oldest => "oldest",
        }
    }
}

/// A request for a page, ready to be sent many times.
struct Page(String);

impl Page {
    /// Prepares a page of the newest messages, of those before the middle, or of the oldest.
    async fn load(position: Position, population: &TestPopulation, chat: &str, middle: &Value) -> Result<Self> {
        let before = match position {
            Position::Newest => Value::Null,
            Position::Middle => middle.clone(),
            Position::Oldest => {
                let data = ask(population, OLDEST, json!({ "chat": chat })).await?;
                data["chat"]["messages"]["pageInfo"]["endCursor"].clone()
            }
        };
        let variables = json!({ "chat": chat, "before": before });
        let data = ask(population, HISTORY, variables.clone()).await?;
        check(position, &data["chat"]["messages"])?;
        Ok(Self(json!({ "query": HISTORY, "variables": variables }).to_string()))
    }
}

/// Checks that a response is the expected page, with its messages in order.
fn check(position: Position, page: &Value) -> Result<()> {
    let nodes = page["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let seqs: Vec<i64> = nodes.iter().filter_map(|node| node["seq"].as_i64()).collect();
    let info = &page["pageInfo"];
    let is_valid = seqs.len() == PAGE
        && seqs.is_sorted_by(|seq, next| seq < next)
        && info["hasNextPage"] == json!(position != Position::Newest)
        && info["hasPreviousPage"] == json!(position != Position::Oldest);
    if is_valid { Ok(()) } else { Err(format!("not the {} page: {page}", position.name()).into()) }
}

async fn ask(population: &TestPopulation, query: &str, variables: Value) -> Result<Value> {
    population.api.ask(&population.tokens[0], query, variables).await
}
