//! The memory of an idle subscriber: the difference between a server with many subscribers and one with few.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use testkit::Database;
use testkit::process::ChildProcess;
use tokio::time::sleep;

use crate::Scale;
use crate::client::parlor::Parlor;
use crate::client::population::TestPopulation;
use crate::client::subscriber_pool::SubscriberPool;
use crate::engines::Engine;
use crate::references::Reference;
use crate::tools::Result;
use crate::tools::report::{Table, number, ratio, whole};

/// The time between the last subscription and the reading of the memory.
const SETTLE_TIME: Duration = Duration::from_secs(3);
/// The number of subscribers that connect and disconnect first, so that code and pools are in memory.
const WARM_UP: usize = 10;
/// The numbers of subscribers for the stock handler, which needs too much memory for more.
const REFERENCE_SUBSCRIBER_COUNTS: [usize; 2] = [500, 1_500];

pub async fn run(engine: &Engine, scale: Scale) -> Result<()> {
    engine.with_database(async |database, folder| measure(database, folder, scale.subscriber_counts).await).await
}

async fn measure(database: &Database, folder: &Path, subscriber_counts: [usize; 2]) -> Result<()> {
    eprintln!("memory: {subscriber_counts:?} idle subscribers on three servers");
    let parlor = parlor(database, folder, subscriber_counts).await?;
    let stock = reference(Reference::AsyncGraphql, folder, REFERENCE_SUBSCRIBER_COUNTS).await?;
    let broadcast = reference(Reference::RawBroadcast, folder, subscriber_counts).await?;

    println!(
        "## Memory: idle subscribers\n\n\
         Resident memory of the server's process with few and with many sockets, each subscribed to one chat. \
         `KiB/subscriber` is the difference in memory divided by the difference in sockets. The kernel's memory for a \
         socket is not counted.\n"
    );
    let mut table = Table::new(&["server", "few", "MiB", "many", "MiB", "KiB/subscriber", "vs stock", "vs broadcast"]);
    let rows = [("Parlor", &parlor), ("stock async-graphql", &stock), ("raw WebSocket broadcast", &broadcast)];
    for (name, memory) in rows {
        let [few, many] = memory.subscriber_counts.map(|count| whole(count as f64));
        let [with_few, with_many] = memory.resident.map(|bytes| number(bytes / 1_048_576.0));
        table.row([
            name.to_string(),
            few,
            with_few,
            many,
            with_many,
            number(memory.per_subscriber() / 1_024.0),
            ratio(memory.per_subscriber(), stock.per_subscriber()),
            ratio(memory.per_subscriber(), broadcast.per_subscriber()),
        ]);
    }
    println!("{table}");
    Ok(())
}

/// The memory of a server with few and with many subscribers.
struct Memory {
    subscriber_counts: [usize; 2],
    /// The resident memory in bytes.
    resident: [f64; 2],
}

impl Memory {
    /// Returns the bytes per subscriber.
    fn per_subscriber(&self) -> f64 {
        let [few, many] = self.subscriber_counts;
        (self.resident[1] - self.resident[0]) / (many - few) as f64
    }
}

async fn parlor(database: &Database, folder: &Path, subscriber_counts: [usize; 2]) -> Result<Memory> {
    let parlor = Parlor::start(database, folder).await?;
    let population = TestPopulation::create(parlor.address, subscriber_counts[1]).await?;
    let chat = population.group("Everyone").await?;
    parlor.stop().await;
    // A fresh process has no freed memory of the preparation to reuse.
    let parlor = Parlor::start(database, folder).await?;
    let memory =
        measure_server(&parlor.server.process, parlor.address, &population.tokens, &chat, subscriber_counts).await?;
    parlor.stop().await;
    Ok(memory)
}

async fn reference(reference: Reference, folder: &Path, subscriber_counts: [usize; 2]) -> Result<Memory> {
    let (process, address) = reference.start(folder).await?;
    let tokens = vec![String::new(); subscriber_counts[1]];
    let memory = measure_server(&process, address, &tokens, "chat", subscriber_counts).await?;
    process.stop("TERM").await;
    Ok(memory)
}

/// Reads a server's memory with few and with many subscribers.
async fn measure_server(
    process: &ChildProcess,
    address: SocketAddr,
    tokens: &[String],
    chat: &str,
    subscriber_counts: [usize; 2],
) -> Result<Memory> {
    drop(SubscriberPool::connected(address, &tokens[..WARM_UP], chat).await?);
    let (few, more) = tokens.split_at(subscriber_counts[0]);
    let mut pools = Vec::new();
    let mut resident = [0.0; 2];
    for (tokens, resident) in [few, more].into_iter().zip(&mut resident) {
        pools.push(SubscriberPool::connected(address, tokens, chat).await?);
        sleep(SETTLE_TIME).await;
        *resident = process.resident_memory() as f64;
    }
    for pool in pools {
        pool.check()?;
    }
    Ok(Memory { subscriber_counts, resident })
}
