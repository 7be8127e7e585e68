//! The memory of an idle subscriber: how much more a server holds with many of them than with few, so
//! that what it holds without any is no part of it.

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

/// How long a server is left alone before its memory is read.
const SETTLE_TIME: Duration = Duration::from_secs(3);
/// Who subscribes and leaves before the first look, so that code and pools are in memory.
const WARM_UP: usize = 10;
/// The stock handler takes too much for more.
const REFERENCE_SUBSCRIBER_COUNTS: [usize; 2] = [500, 1_500];

pub async fn run(engine: &Engine, scale: Scale) -> Result<()> {
    engine.with_database(async |database, folder| measure(database, folder, scale.subscriber_counts).await).await
}

async fn measure(database: &Database, folder: &Path, subscriber_counts: [usize; 2]) -> Result<()> {
    eprintln!("memory: {subscriber_counts:?} idle subscribers of three servers");
    let parlor = parlor(database, folder, subscriber_counts).await?;
    let stock = reference(Reference::AsyncGraphql, folder, REFERENCE_SUBSCRIBER_COUNTS).await?;
    let floor = reference(Reference::RawBroadcast, folder, subscriber_counts).await?;

    println!(
        "## Memory: idle subscribers\n\n\
         Resident memory of the server's process at few and at many sockets, each subscribed to one chat; the \
         difference over the difference is what one more subscriber takes. The kernel's share of a socket is not in \
         it.\n"
    );
    let mut table =
        Table::new(&["server", "few", "MiB", "many", "MiB", "KiB/subscriber", "to stock", "to the broadcast"]);
    let rows = [("Parlor", &parlor), ("stock async-graphql", &stock), ("raw WebSocket broadcast", &floor)];
    for (name, memory) in rows {
        let [few, many] = memory.subscriber_counts.map(|users| whole(users as f64));
        let [with_few, with_many] = memory.resident.map(|bytes| number(bytes / 1_048_576.0));
        table.row([
            name.to_string(),
            few,
            with_few,
            many,
            with_many,
            number(memory.each() / 1_024.0),
            ratio(memory.each(), stock.each()),
            ratio(memory.each(), floor.each()),
        ]);
    }
    println!("{table}");
    Ok(())
}

/// Of a server with few and with many subscribers.
struct Memory {
    subscriber_counts: [usize; 2],
    /// In bytes.
    resident: [f64; 2],
}

impl Memory {
    fn each(&self) -> f64 {
        let [few, many] = self.subscriber_counts;
        (self.resident[1] - self.resident[0]) / (many - few) as f64
    }
}

async fn parlor(database: &Database, folder: &Path, subscriber_counts: [usize; 2]) -> Result<Memory> {
    let parlor = Parlor::start(database, folder).await?;
    let population = TestPopulation::gather(parlor.address, subscriber_counts[1]).await?;
    let chat = population.group("Everybody").await?;
    parlor.stop().await;
    // Anew, so that nothing which the preparation freed is there to be used again.
    let parlor = Parlor::start(database, folder).await?;
    let memory =
        subscribed(&parlor.server.process, parlor.address, &population.tokens, &chat, subscriber_counts).await?;
    parlor.stop().await;
    Ok(memory)
}

async fn reference(reference: Reference, folder: &Path, subscriber_counts: [usize; 2]) -> Result<Memory> {
    let (process, address) = reference.start(folder).await?;
    let tokens = vec![String::new(); subscriber_counts[1]];
    let memory = subscribed(&process, address, &tokens, "chat", subscriber_counts).await?;
    process.stop("TERM").await;
    Ok(memory)
}

/// Looks at a server's memory with few and with many subscribers.
async fn subscribed(
    process: &ChildProcess,
    address: SocketAddr,
    tokens: &[String],
    chat: &str,
    subscriber_counts: [usize; 2],
) -> Result<Memory> {
    drop(SubscriberPool::assemble(address, &tokens[..WARM_UP], chat).await?);
    let (few, more) = tokens.split_at(subscriber_counts[0]);
    let mut pools = Vec::new();
    let mut resident = [0.0; 2];
    for (tokens, resident) in [few, more].into_iter().zip(&mut resident) {
        pools.push(SubscriberPool::assemble(address, tokens, chat).await?);
        sleep(SETTLE_TIME).await;
        *resident = process.resident_memory() as f64;
    }
    for pool in pools {
        pool.check()?;
    }
    Ok(Memory { subscriber_counts, resident })
}
