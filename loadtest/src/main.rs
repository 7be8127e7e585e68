//! The load generator: what Parlor costs, beside what the same work costs without it.
//!
//! `cargo run --release -p loadtest -- [SCENARIO] [--engine sqlite|postgres|both] [--quick] [--subscribers N]`, where a
//! scenario is
//! `sends`, `history`, `search`, `lists`, `fanout`, `memory`, `per-viewer-fields`, `chats`, `reconnect-storm`,
//! `presence`, `cluster`,
//! `soak`, or `all` of them but the soak.
//!
//! Each run starts the real binary in a temporary folder, drives it over its public API, and prints
//! Markdown. A figure alone says more about the machine than about the server, so each stands beside
//! one taken in the same run: the engine's own inserts, a raw WebSocket broadcast, the stock handler.
//!
//! PostgreSQL is the cluster at `PARLOR_TEST_POSTGRES`, where the generator may create databases, or
//! else a private one, on this machine's disk and with fsync on. CPU and memory are read from
//! `/proc`, so it runs on Linux.

mod chats;
mod client;
mod cluster;
mod engines;
mod fanout;
mod history;
mod lists;
mod memory;
mod per_viewer_fields;
mod presence;
mod raw_db_floor;
mod reconnect_storm;
mod references;
mod search;
mod sends;
mod soak;
mod tools;

use std::env;
use std::net::SocketAddr;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Parser, ValueEnum};

use engines::{Choice, Engine};
use references::Reference;
use tools::{Result, limits, machine};

/// The same as the server's, so that memory and CPU compare the servers and not their allocators.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Arguments {
    #[arg(value_enum, default_value_t = Scenario::All)]
    scenario: Scenario,
    /// The engines to run on; by default those that are there.
    #[arg(long, value_enum)]
    engine: Option<Choice>,
    /// Shorter and smaller: to see that all works, not to quote.
    #[arg(long)]
    quick: bool,
    /// So many subscribers of one chat, instead of each number in turn.
    #[arg(long)]
    subscribers: Option<usize>,
    /// Be this server instead: how the generator starts those that it compares with.
    #[arg(long, hide = true, requires = "address")]
    reference: Option<Reference>,
    #[arg(long, hide = true)]
    address: Option<SocketAddr>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Messages sent a second, beside the engine's own inserts.
    Sends,
    /// A page of history in a small chat and in a large one.
    History,
    /// Searching a small chat and a large one.
    Search,
    /// The chat list of a person with few chats and of one with two thousand.
    Lists,
    /// The cost of one delivery to one subscriber.
    Fanout,
    /// The memory of an idle subscriber.
    Memory,
    /// The cost of a delivery that differs by who sees it.
    PerViewerFields,
    /// The cost of a delivery where there are many small chats.
    Chats,
    /// All subscribers of a chat gone and back at once.
    ReconnectStorm,
    /// People who come and go, and others who are told.
    Presence,
    /// Two servers over one database, with Redis between them.
    Cluster,
    /// The server's memory over minutes of steady load; not a part of all.
    Soak,
    All,
}

/// How long and how large.
#[derive(Clone, Copy)]
pub struct Scale {
    /// Of one measurement.
    pub duration: Duration,
    /// Before it, uncounted.
    pub warm_up: Duration,
    /// How often servers are measured in turns.
    pub rounds: usize,
    /// Messages of the large chat.
    pub large_chat: i64,
    /// Chats of the person with many.
    pub many_chats: usize,
    /// Subscribers that a message is sent to.
    pub pools: &'static [usize],
    /// Messages by which the cost of a send alone is measured.
    pub sends: usize,
    /// Idle subscribers, few and many.
    pub subscriber_counts: [usize; 2],
    /// Subscribers before whom messages are reacted to.
    pub subscribers: usize,
    /// Chats of ten members.
    pub small_chats: usize,
    /// People who come back at once, or come and go.
    pub users: usize,
    /// Of steady load.
    pub soak: Duration,
}

impl Scale {
    const FULL: Self = Self {
        duration: Duration::from_secs(5),
        warm_up: Duration::from_secs(1),
        rounds: 3,
        large_chat: 1_000_000,
        many_chats: 2_000,
        pools: &[100, 1_000, 10_000],
        sends: 1_000,
        subscriber_counts: [1_000, 5_000],
        subscribers: 100,
        small_chats: 1_000,
        users: 5_000,
        soak: Duration::from_secs(600),
    };
    const QUICK: Self = Self {
        duration: Duration::from_secs(2),
        warm_up: Duration::from_millis(500),
        rounds: 1,
        large_chat: 100_000,
        many_chats: 500,
        pools: &[1_000],
        sends: 500,
        subscriber_counts: [500, 2_000],
        subscribers: 50,
        small_chats: 100,
        users: 500,
        soak: Duration::from_secs(60),
    };
}

fn main() -> ExitCode {
    match start(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadtest: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn start(arguments: Arguments) -> Result<()> {
    if let (Some(reference), Some(address)) = (arguments.reference, arguments.address) {
        return references::serve(reference, address).await;
    }
    build_server()?;
    limits::raise_open_files()?;
    // Asked for by the HTTP client, though no address here is https.
    testkit::provide_tls();
    tokio::select! {
        result = measure(&arguments) => result,
        // Ends what is running by dropping it.
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    }
}

/// Builds the server as it is now, where Cargo started this program: Cargo builds the load generator only.
fn build_server() -> Result<()> {
    let Some(cargo) = env::var_os("CARGO") else { return Ok(()) };
    let mut build = Command::new(cargo);
    build.args(["build", "--locked", "--package", "parlor", "--bin", "parlor"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    match build.current_dir(root).status()?.success() {
        true => Ok(()),
        false => Err("the server can't be built".into()),
    }
}

async fn measure(arguments: &Arguments) -> Result<()> {
    let mut scale = if arguments.quick { Scale::QUICK } else { Scale::FULL };
    if let Some(subscribers) = arguments.subscribers {
        scale.pools = vec![subscribers].leak();
    }
    let runs = |scenario| arguments.scenario == scenario || arguments.scenario == Scenario::All;
    println!("# Parlor under load\n\n{}\n", machine::describe()?);
    if arguments.quick {
        println!("A quick run: to see that all works, not to quote.\n");
    }
    let engines = Engine::chosen(arguments.engine).await?;
    for engine in &engines {
        println!("- {}", engine.describe().await?);
    }
    println!();

    for engine in &engines {
        if runs(Scenario::Sends) {
            sends::run(engine, scale).await?;
        }
        if runs(Scenario::History) {
            history::run(engine, scale).await?;
        }
        if runs(Scenario::Search) {
            search::run(engine, scale).await?;
        }
        if runs(Scenario::Lists) {
            lists::run(engine, scale).await?;
        }
    }
    // What these measure lies above the database: one engine is enough.
    let engine = engines.first().ok_or("no engine to run on")?;
    if runs(Scenario::Fanout) {
        fanout::run(engine, scale).await?;
    }
    if runs(Scenario::Memory) {
        memory::run(engine, scale).await?;
    }
    if runs(Scenario::PerViewerFields) {
        per_viewer_fields::run(engine, scale).await?;
    }
    if runs(Scenario::Chats) {
        chats::run(engine, scale).await?;
    }
    if runs(Scenario::ReconnectStorm) {
        reconnect_storm::run(engine, scale).await?;
    }
    if runs(Scenario::Presence) {
        presence::run(engine, scale).await?;
    }
    if runs(Scenario::Cluster) {
        cluster::run(&engines, scale).await?;
    }
    if arguments.scenario == Scenario::Soak {
        soak::run(engine, scale).await?;
    }
    for engine in engines {
        engine.close().await;
    }
    Ok(())
}
