//! Full-text search: the newest 30 of what is found in a chat of ten thousand and in one of a million
//! messages, asked for in turns.

use std::path::Path;
use std::time::Instant;

use serde_json::json;
use testkit::Database;

use crate::Scale;
use crate::client::history_seed;
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

/// What is searched for, and how many messages of a chat have it.
const QUERIES: [(&str, &str); 5] = [
    ("item42", "a word of one message in 5,000"),
    ("topic7", "a word of one in 100"),
    ("meeting", "a word of every message"),
    ("\"small room upstairs\"", "a phrase of every message"),
    ("item4", "the beginning of words of one in 10"),
];

pub async fn run(engine: &Engine, scale: Scale) -> Result<()> {
    engine.with_database(async |database, folder| measure(engine, database, folder, scale).await).await
}

async fn measure(engine: &Engine, database: &Database, folder: &Path, scale: Scale) -> Result<()> {
    let sizes = [SMALL_CHAT, scale.large_chat];
    let [small_size, large_size] = sizes.map(|size| whole(size as f64));
    eprintln!("search: chats of {small_size} and {large_size} messages on {}", engine.name());
    let parlor = Parlor::start(database, folder).await?;
    let mut population = TestPopulation::gather(parlor.address, 2).await?;
    let mut chats = Vec::new();
    for size in sizes {
        chats.push(population.group(&title(size)).await?);
    }
    parlor.stop().await;
    for size in sizes {
        history_seed::seed(database, &title(size), size, 2, TEXT).await?;
    }
    // The server indexes what it finds without an index.
    let start = Instant::now();
    let parlor = Parlor::start(database, folder).await?;
    let indexed = start.elapsed();
    population.moved_to(parlor.address)?;
    database.execute_by_engine("", "VACUUM ANALYZE").await;

    let mut table = Table::new(&[
        "searched for".into(),
        format!("{small_size}: p50 ms"),
        format!("{large_size}: p50 ms"),
        "p99 ms".into(),
        "p50 to p50".into(),
    ]);
    for (query, what) in QUERIES {
        eprintln!("search: {what}");
        let body = |chat: &str| json!({ "query": SEARCH, "variables": { "query": query, "chat": chat } }).to_string();
        let answer =
            population.api.ask(&population.tokens[0], SEARCH, json!({ "query": query, "chat": chats[1] })).await?;
        let found = answer["searchMessages"]["edges"].as_array().map_or(0, Vec::len);
        if found == 0 {
            return Err(format!("nothing was found for {query}: {answer}").into());
        }
        let [small, large] = interleaved(&population, [(0, &body(&chats[0])), (0, &body(&chats[1]))], scale).await?;
        table.row([
            format!("`{query}`, {what}"),
            number(small.p50()),
            number(large.p50()),
            number(large.p99()),
            ratio(large.p50(), small.p50()),
        ]);
    }
    parlor.stop().await;
    println!(
        "## Search on {}\n\n\
         The newest 30 found, over HTTP, one request at a time, in a chat of {small_size} messages and in one of \
         {large_size} in turns. The server put {} messages into its index in {} s.\n\n{table}",
        engine.name(),
        whole((sizes[0] + sizes[1]) as f64),
        number(indexed.as_secs_f64()),
    );
    Ok(())
}

fn title(size: i64) -> String {
    format!("A chat of {size}")
}
