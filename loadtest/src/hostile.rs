//! Hostile clients: each attack exhausts one resource of a server with default limits.
//!
//! An attack passes if the server refuses it as documented in docs/OPERATIONS.md ("Limits"), if a user of another
//! organisation is served meanwhile, and if the server's memory stays bounded. `--quick` runs the same attacks with
//! fewer repetitions, and does not judge the latency, because it is meant for unoptimised builds on busy machines.

mod bystander;
mod connections;
mod membership;
mod requests;
mod sockets;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use serde_json::{Value, json};
use testkit::{Database, SECRET};

use crate::Scale;
use crate::client::api::Api;
use crate::client::parlor::{Parlor, administrator_token, token_in};
use crate::engines::Engine;
use crate::tools::report::{Table, number};
use crate::tools::{Result, within};
use bystander::Bystander;

/// The settings that are not defaults: the key, and no delay at the stop.
const SETTINGS: [(&str, &str); 2] = [("PARLOR_JWT_SECRET", SECRET), ("PARLOR_DRAIN_SECONDS", "0")];
/// The organisation of the hostile clients.
const ORGANIZATION: &str = "hostile";
/// The 99th percentile of the bystander's requests that an attack may cause, in milliseconds.
const MAX_P99: f64 = 250.0;
/// The resident memory that the server may reach in any attack, in MiB.
const MAX_MEMORY: f64 = 512.0;
/// The time limit of one attack.
const ATTACK_TIMEOUT: Duration = Duration::from_secs(60);

/// The server under attack, and the size of the attacks.
pub struct Target {
    pub address: SocketAddr,
    pub api: Api,
    /// The divisor of each attack's repetitions.
    pub divisor: usize,
}

impl Target {
    /// Returns a number of repetitions for this run.
    pub fn scaled(&self, repetitions: usize) -> usize {
        repetitions.div_ceil(self.divisor)
    }

    /// Returns a token of a hostile user.
    pub fn token(&self, user: &str) -> String {
        token_in(ORGANIZATION, user)
    }

    /// Returns a token of a hostile user who administers the hostile organisation.
    pub fn administrator(&self) -> String {
        administrator_token(ORGANIZATION)
    }

    /// Sends an operation and returns the whole response.
    pub async fn request(&self, token: &str, query: &str, variables: Value) -> Result<Value> {
        Ok(serde_json::from_str(&self.request_text(token, query, variables).await?)?)
    }

    /// Sends an operation and returns the response as text, whatever its status.
    pub async fn request_text(&self, token: &str, query: &str, variables: Value) -> Result<String> {
        self.api.exchange(token, json!({ "query": query, "variables": variables }).to_string()).await
    }

    /// Runs a mutation with an input, and returns the whole response.
    pub async fn mutate(&self, token: &str, field: &str, input: Value) -> Result<Value> {
        let (first, rest) = field.split_at(1);
        let input_type = format!("{}{rest}Input", first.to_uppercase());
        let query = format!("mutation($input: {input_type}!) {{ {field}(input: $input) {{ __typename }} }}");
        self.request(token, &query, json!({ "input": input })).await
    }

    /// Creates a chat of the first user with the others, and returns its id.
    pub async fn chat(&self, token: &str, kind: &str, members: &[&str]) -> Result<String> {
        let query = "mutation($input: CreateChatInput!) { createChat(input: $input) { chat { id } } }";
        let input = json!({ "kind": kind, "title": "Attack", "memberIds": members });
        let data = self.api.ask(token, query, json!({ "input": input })).await?;
        Ok(data["createChat"]["chat"]["id"].as_str().ok_or("a chat without id")?.to_owned())
    }

    /// Sends messages of this text to a chat, and returns the id of the last.
    pub async fn fill(&self, token: &str, chat: &str, text: &str, count: usize) -> Result<String> {
        let query = "mutation($input: SendMessageInput!) { sendMessage(input: $input) { message { id } } }";
        let mut last = String::new();
        for _ in 0..count {
            let data = self.api.ask(token, query, json!({ "input": { "chatId": chat, "text": text } })).await?;
            last = data["sendMessage"]["message"]["id"].as_str().ok_or("a message without id")?.to_owned();
        }
        Ok(last)
    }
}

/// Returns the code of the first error of a response.
pub fn error_code(response: &Value) -> Option<&str> {
    response["errors"][0]["extensions"]["code"].as_str()
}

/// Fails unless a condition of an attack holds.
pub fn require(condition: bool, failure: impl FnOnce() -> String) -> Result<()> {
    if condition { Ok(()) } else { Err(failure().into()) }
}

pub async fn run(engine: &Engine, scale: Scale, is_quick: bool) -> Result<()> {
    engine.with_database(async |database, folder| attack(engine, database, folder, scale, is_quick).await).await
}

async fn attack(engine: &Engine, database: &Database, folder: &Path, scale: Scale, is_quick: bool) -> Result<()> {
    eprintln!("hostile: attacks on a server with default limits on {}", engine.name());
    let mut parlor = Parlor::start_with_defaults(database, folder, &SETTINGS).await?;
    let address = parlor.address;
    let target = Target { address, api: Api::new(address)?, divisor: scale.hostile_divisor };
    let start = Instant::now();
    let mut table = Table::new(&["attack", "verdict", "bystander p99 ms", "memory MiB", "result"]);
    let mut failures = Vec::new();
    let bystander = Bystander::create(&target).await?;
    // A future does nothing before it is polled, so the attacks run one after another.
    let attacks: [(&str, LocalBoxFuture<'_, Result<String>>); 12] = [
        ("large responses", requests::large_responses(&target).boxed_local()),
        ("costly Markdown", requests::costly_markdown(&target).boxed_local()),
        ("search of others", requests::search_flood(&target).boxed_local()),
        ("chat of a resource", requests::resource_chat(&target).boxed_local()),
        ("reads after revocation", sockets::reads_after_revocation(&target).boxed_local()),
        ("completed operations", sockets::completed_operations(&target).boxed_local()),
        ("edits", sockets::edit_flood(&target).boxed_local()),
        ("many sockets", sockets::many_sockets(&target).boxed_local()),
        ("long operation ids", sockets::long_operation_ids(&target).boxed_local()),
        ("joins and leaves", membership::joins_and_leaves(&target).boxed_local()),
        ("silent connections", connections::silent_connections(&target).boxed_local()),
        ("unfinished heads", connections::unfinished_heads(&target).boxed_local()),
    ];
    for (name, attack) in attacks {
        eprintln!("hostile: {name}");
        let watched = bystander.watch(&parlor.server.process, within(ATTACK_TIMEOUT, name, attack)).await;
        let mut problems = watched.failures;
        let outcome = watched.outcome.unwrap_or_else(|error| {
            problems.push(error.to_string());
            String::new()
        });
        if !is_quick && watched.p99 > MAX_P99 {
            problems.push(format!("the bystander's p99 must be at most {MAX_P99} ms"));
        }
        if watched.memory > MAX_MEMORY {
            problems.push(format!("the server's memory must be at most {MAX_MEMORY} MiB"));
        }
        let (verdict, result) = if problems.is_empty() { ("pass", outcome) } else { ("FAIL", problems.join("; ")) };
        if !problems.is_empty() {
            failures.push(name);
        }
        table.row([name.to_owned(), verdict.into(), number(watched.p99), number(watched.memory), result]);
    }
    println!("## Hostile clients, {}\n\n{table}", engine.name());
    println!("The attacks took {:.0} s.\n", start.elapsed().as_secs_f64());
    require(parlor.server.is_running(), || "the server has ended".into())?;
    parlor.stop().await;
    require(failures.is_empty(), || format!("these attacks succeeded: {}", failures.join(", ")))
}
