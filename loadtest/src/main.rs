//! The load generator: measures the cost of Parlor, and compares it with references.
//!
//! `cargo run --release -p loadtest -- [SCENARIO] [--engine sqlite|postgres|both] [--quick] [--subscribers N]`, where
//! SCENARIO is one of `sends`, `send-lanes`, `history`, `search`, `lists`, `storage`, `fanout`, `memory`,
//! `per-viewer-fields`, `chats`, `reconnect-storm`, `presence`, `cluster`, `mesh`, `hostile`, `soak` and `all`. `all`
//! runs every scenario except `mesh`, `hostile` and `soak`.
//!
//! Each run starts the server's binary in a temporary folder, drives it over its public API, and prints Markdown. An
//! absolute figure depends mostly on the machine, so each is printed with a reference of the same run: bare inserts
//! into the database, a raw WebSocket broadcast, or the stock async-graphql handler.
//!
//! The server is built from the working tree. To compare two builds, set `PARLOR_TEST_BINARY` to the path of one binary
//! and of the other in alternate runs; then nothing is built.
//!
//! PostgreSQL is the server at `PARLOR_TEST_POSTGRES`, whose user must be able to create databases, or a private server
//! with fsync on. CPU time and memory are read from `/proc`, so the load generator needs Linux.

mod chats;
mod client;
mod cluster;
mod engines;
mod fanout;
mod history;
mod hostile;
mod lists;
mod memory;
mod mesh;
mod per_viewer_fields;
mod presence;
mod raw_db_floor;
mod reconnect_storm;
mod references;
mod search;
mod send_lanes;
mod sends;
mod soak;
mod storage;
mod tools;

use std::env;
use std::net::SocketAddr;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Parser, ValueEnum};

use engines::{Choice, Engine};
use references::Reference;
use testkit::process::server_binary;
use tools::{Result, limits, machine};

#[derive(Parser)]
struct Arguments {
    #[arg(value_enum, default_value_t = Scenario::All)]
    scenario: Scenario,
    /// The database engines to run on [default: every available engine]
    #[arg(long, value_enum)]
    engine: Option<Choice>,
    /// Run shorter and smaller, to check that a scenario works; don't quote the figures
    #[arg(long)]
    quick: bool,
    /// The number of subscribers in `fanout`, instead of each default number in turn
    #[arg(long)]
    subscribers: Option<usize>,
    /// Run as a reference server; the load generator starts itself with this option
    #[arg(long, hide = true, requires = "address")]
    reference: Option<Reference>,
    #[arg(long, hide = true)]
    address: Option<SocketAddr>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Messages sent per second, compared with bare inserts
    Sends,
    /// Messages sent per second over one, two and four lanes
    SendLanes,
    /// A page of history in a small and in a large chat
    History,
    /// Full-text search in a small and in a large chat
    Search,
    /// The chat list of a user with few chats and of one with many
    Lists,
    /// The bytes that the database needs for a message
    Storage,
    /// The cost of a delivery to one subscriber
    Fanout,
    /// The memory of an idle subscriber
    Memory,
    /// The cost of a delivery with a field that depends on the viewer
    PerViewerFields,
    /// The cost of a delivery in many small chats
    Chats,
    /// All subscribers of a chat disconnect and resume together
    ReconnectStorm,
    /// Users connect and disconnect while others subscribe to their presence
    Presence,
    /// Two nodes with one database and Redis
    Cluster,
    /// The messages between up to 100 nodes, simulated in this process; not part of `all`
    Mesh,
    /// Attacks on a server with default limits; not part of `all`
    Hostile,
    /// The server's memory over minutes of steady load; not part of `all`
    Soak,
    /// All scenarios except `mesh`, `hostile` and `soak`
    All,
}

/// The durations and sizes of a run.
#[derive(Clone, Copy)]
pub struct Scale {
    /// The duration of one measurement.
    pub duration: Duration,
    /// The duration of the warm-up before a measurement.
    pub warm_up: Duration,
    /// The number of rounds, in which servers alternate.
    pub rounds: usize,
    /// The number of messages in the large chat.
    pub large_chat: i64,
    /// The number of messages in `storage`.
    pub stored_messages: usize,
    /// The number of chats of the user with many.
    pub many_chats: usize,
    /// The numbers of subscribers in `fanout`.
    pub pools: &'static [usize],
    /// The number of messages in a measurement by count, such as that of a send without subscribers.
    pub sends: usize,
    /// The numbers of idle subscribers: few and many.
    pub subscriber_counts: [usize; 2],
    /// The number of subscribers in `per-viewer-fields`.
    pub subscribers: usize,
    /// The number of chats in `chats`.
    pub small_chats: usize,
    /// The number of users in `reconnect-storm` and `presence`.
    pub users: usize,
    /// The duration of `soak`.
    pub soak: Duration,
    /// The divisor of the repetitions in `hostile`.
    pub hostile_divisor: usize,
}

impl Scale {
    const FULL: Self = Self {
        duration: Duration::from_secs(5),
        warm_up: Duration::from_secs(1),
        rounds: 3,
        large_chat: 1_000_000,
        stored_messages: 200_000,
        many_chats: 2_000,
        pools: &[100, 1_000, 10_000],
        sends: 1_000,
        subscriber_counts: [1_000, 5_000],
        subscribers: 100,
        small_chats: 1_000,
        users: 5_000,
        soak: Duration::from_secs(600),
        hostile_divisor: 1,
    };
    const QUICK: Self = Self {
        duration: Duration::from_secs(2),
        warm_up: Duration::from_millis(500),
        rounds: 1,
        large_chat: 100_000,
        stored_messages: 20_000,
        many_chats: 500,
        pools: &[1_000],
        sends: 500,
        subscriber_counts: [500, 2_000],
        subscribers: 50,
        small_chats: 100,
        users: 500,
        soak: Duration::from_secs(60),
        hostile_divisor: 10,
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
    if arguments.scenario == Scenario::Mesh {
        println!("# Parlor under load\n\n{}\n", machine::describe()?);
        return mesh::run(arguments.quick);
    }
    if env::var_os("PARLOR_TEST_BINARY").is_none() {
        build_server()?;
    }
    limits::raise_open_files()?;
    // The HTTP client needs a TLS provider, although no URL is https.
    testkit::provide_tls();
    tokio::select! {
        result = measure(&arguments) => result,
        // Dropping the measurement kills its child processes.
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    }
}

/// Builds the server if Cargo started this program, because Cargo has built only the load generator.
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
        false => Err("the build of the server failed".into()),
    }
}

async fn measure(arguments: &Arguments) -> Result<()> {
    let mut scale = if arguments.quick { Scale::QUICK } else { Scale::FULL };
    if let Some(subscribers) = arguments.subscribers {
        scale.pools = vec![subscribers].leak();
    }
    let runs = |scenario| arguments.scenario == scenario || arguments.scenario == Scenario::All;
    println!("# Parlor under load\n\n{}\n", machine::describe()?);
    println!("- Server: {}", server_binary().display());
    if arguments.quick {
        println!("- A quick run, which shows that the scenarios work; don't quote its figures.");
    }
    let engines = Engine::select(arguments.engine).await?;
    for engine in &engines {
        println!("- {}", engine.describe().await?);
    }
    println!();

    for engine in &engines {
        if runs(Scenario::Sends) {
            sends::run(engine, scale).await?;
        }
        if runs(Scenario::SendLanes) {
            send_lanes::run(engine, scale).await?;
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
        if runs(Scenario::Storage) {
            storage::run(engine, scale).await?;
        }
        if arguments.scenario == Scenario::Hostile {
            hostile::run(engine, scale, arguments.quick).await?;
        }
    }
    // The other scenarios depend little on the database, so they run on one engine.
    let engine = engines.first().ok_or("no database engine is available")?;
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
