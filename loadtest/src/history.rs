//! A page of history: 50 messages at the newest end, in the middle and at the oldest end of a chat of
//! ten thousand and of one of a million messages, asked for in turns.

use std::path::Path;

use serde_json::{Value, json};
use testkit::Database;

use crate::Scale;
use crate::client::history_seed;
use crate::client::interleaved::interleaved;
use crate::client::parlor::Parlor;
use crate::client::population::TestPopulation;
use crate::engines::Engine;
use crate::tools::Result;
use crate::tools::report::{Table, number, ratio, whole};

const PEOPLE: usize = 20;
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
    // Rows are written past the server, so only while it isn't running and holds nothing in memory.
    let parlor = Parlor::start(database, folder).await?;
    let mut population = TestPopulation::gather(parlor.address, PEOPLE).await?;
    let mut chats = Vec::new();
    for size in &sizes {
        let chat = population.group(&title(*size)).await?;
        // A full-text index with anything in it isn't filled at the next start.
        ask(&population, MIDDLE, json!({ "input": { "chatId": chat, "text": "The first one" } })).await?;
        chats.push(chat);
    }
    parlor.stop().await;
    for size in sizes {
        history_seed::seed(database, &title(size), size / 2, PEOPLE, TEXT).await?;
    }
    // A cursor is the server's own word, so the one in the middle is got by sending a message there.
    let parlor = Parlor::start(database, folder).await?;
    population.moved_to(parlor.address)?;
    let mut middles = Vec::new();
    for chat in &chats {
        let input = json!({ "chatId": chat, "text": "The one in the middle" });
        let sent = ask(&population, MIDDLE, json!({ "input": input })).await?;
        middles.push(sent["sendMessage"]["messageEdge"]["cursor"].clone());
    }
    parlor.stop().await;
    for size in sizes {
        history_seed::seed(database, &title(size), size - size / 2 - 1, PEOPLE, TEXT).await?;
    }
    database.execute_by_engine("", "VACUUM ANALYZE").await;

    let parlor = Parlor::start(database, folder).await?;
    population.moved_to(parlor.address)?;
    let mut table = Table::new(&[
        "page".into(),
        format!("{small_size}: p50 ms"),
        "p99 ms".into(),
        format!("{large_size}: p50 ms"),
        "p99 ms".into(),
        "p50 to p50".into(),
        "p99 to p99".into(),
    ]);
    for place in [Place::Newest, Place::Middle, Place::Oldest] {
        eprintln!("history: the {} page", place.name());
        let mut pages = Vec::new();
        for (chat, middle) in chats.iter().zip(&middles) {
            pages.push(Page::at(place, &population, chat, middle).await?);
        }
        let [small, large] =
            interleaved(&population, [(0, pages[0].0.as_str()), (0, pages[1].0.as_str())], scale).await?;
        table.row([
            place.name().to_string(),
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
         A page of {PAGE} messages over HTTP, one request at a time, from a chat of {small_size} messages \
         and one of {large_size} in turns.\n\n{table}",
        engine.name()
    );
    Ok(())
}

fn title(size: i64) -> String {
    format!("A chat of {size}")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Newest,
    Middle,
    Oldest,
}

impl Place {
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
    /// The page before the newest end, the message in the middle, or the 51st from the oldest end.
    async fn at(place: Place, population: &TestPopulation, chat: &str, middle: &Value) -> Result<Self> {
        let before = match place {
            Place::Newest => Value::Null,
            Place::Middle => middle.clone(),
            Place::Oldest => {
                let answer = ask(population, OLDEST, json!({ "chat": chat })).await?;
                answer["chat"]["messages"]["pageInfo"]["endCursor"].clone()
            }
        };
        let variables = json!({ "chat": chat, "before": before });
        let answer = ask(population, HISTORY, variables.clone()).await?;
        check(place, &answer["chat"]["messages"])?;
        Ok(Self(json!({ "query": HISTORY, "variables": variables }).to_string()))
    }
}

/// Whether it is the page that was meant, with its messages in order.
fn check(place: Place, page: &Value) -> Result<()> {
    let nodes = page["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let seqs: Vec<i64> = nodes.iter().filter_map(|node| node["seq"].as_i64()).collect();
    let info = &page["pageInfo"];
    let sound = seqs.len() == PAGE
        && seqs.is_sorted_by(|one, next| one < next)
        && info["hasNextPage"] == json!(place != Place::Newest)
        && info["hasPreviousPage"] == json!(place != Place::Oldest);
    if sound { Ok(()) } else { Err(format!("not the {} page: {page}", place.name()).into()) }
}

async fn ask(population: &TestPopulation, query: &str, variables: Value) -> Result<Value> {
    population.api.ask(&population.tokens[0], query, variables).await
}
