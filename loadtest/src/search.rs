//! Full-text search: the newest 30 matches in a chat of 10,000 messages and in one of 1,000,000.

use std::path::Path;
use std::time::Instant;

use serde_json::json;
use testkit::Database;

use crate::Scale;
use crate::client::history_seed::HistorySeed;
use crate::client::interleaved::interleaved;
use crate::client::parlor::Parlor;
use crate::client::population::TestPopulation;
use crate::engines::Engine;
use crate::tools::Result;
use crate::tools::report::{Table, number, ratio, whole};

const SMALL_CHAT: i64 = 10_000;
const TEXT: &str = "'About topic' || (n % 100) || ' and item' || (n % 5000) \
                    || ': the meeting moves to three o''clock, in the small room upstairs.'";

const SEARCH: &str = "query($query: String!, $chat: ID) { searchMessages(query: $query, filter: { chatId: $chat }, \
    first: 30) { edges { snippet node { id text sender { name } } } pageInfo { hasNextPage } } }";

/// The queries, and a description of the messages that match each.
const QUERIES: [(&str, &str); 5] = [
    ("item42", "a word in 1 of 5,000 messages"),
    ("topic7", "a word in 1 of 100 messages"),
    ("meeting", "a word in every message"),
    ("\"small room upstairs\"", "a phrase in every message"),
    ("item4", "a prefix of a word in 1 of 10 messages"),
];

pub async fn run(engine: &Engine, scale: Scale) -> Result<()> {
    engine.with_database(async |database, folder| measure(engine, database, folder, scale).await).await
}

async fn measure(engine: &Engine, database: &Database, folder: &Path, scale: Scale) -> Result<()> {
    let sizes = [SMALL_CHAT, scale.large_chat];
    let [small_size, large_size] = sizes.map(|size| whole(size as f64));
    eprintln!("search: chats of {small_size} and {large_size} messages on {}", engine.name());
    let parlor = Parlor::start(database, folder).await?;
    let mut population = TestPopulation::create(parlor.address, 2).await?;
    let mut chats = Vec::new();
    for size in sizes {
        chats.push(population.group(&title(size)).await?);
    }
    parlor.stop().await;
    for size in sizes {
        HistorySeed { title: &title(size), count: size, users: 2, text: TEXT }.insert(database).await?;
    }
    // At its start the server indexes messages without an index.
    let start = Instant::now();
    let parlor = Parlor::start(database, folder).await?;
    let indexed = start.elapsed();
    population.set_address(parlor.address)?;
    database.execute_by_engine("", "VACUUM ANALYZE").await;

    let mut table = Table::new(&[
        "query".into(),
        format!("{small_size}: p50 ms"),
        format!("{large_size}: p50 ms"),
        "p99 ms".into(),
        "p50 ratio".into(),
    ]);
    for (query, description) in QUERIES {
        eprintln!("search: {description}");
        let body = |chat: &str| json!({ "query": SEARCH, "variables": { "query": query, "chat": chat } }).to_string();
        let data =
            population.api.ask(&population.tokens[0], SEARCH, json!({ "query": query, "chat": chats[1] })).await?;
        let matches = data["searchMessages"]["edges"].as_array().map_or(0, Vec::len);
        if matches == 0 {
            return Err(format!("no match for {query}: {data}").into());
        }
        let [small, large] = interleaved(&population, [(0, &body(&chats[0])), (0, &body(&chats[1]))], scale).await?;
        table.row([
            format!("`{query}`, {description}"),
            number(small.p50()),
            number(large.p50()),
            number(large.p99()),
            ratio(large.p50(), small.p50()),
        ]);
    }
    parlor.stop().await;
    println!(
        "## Search on {}\n\n\
         The newest 30 matches over HTTP, one request at a time, alternately in a chat of {small_size} messages and in \
         one of {large_size}. The server indexed {} messages in {} s.\n\n{table}",
        engine.name(),
        whole((sizes[0] + sizes[1]) as f64),
        number(indexed.as_secs_f64()),
    );
    Ok(())
}

fn title(size: i64) -> String {
    format!("A chat of {size}")
}
