//! The memory of an idle subscriber: resident memory of the server at a thousand of them, over what
//! it was before they came.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tempfile::tempdir;
use tokio::time::sleep;

use crate::client::audience::Audience;
use crate::client::community::Community;
use crate::client::parlor::Parlor;
use crate::engines::{Database, Engine};
use crate::fanout::SUBSCRIBERS;
use crate::references::Reference;
use crate::tools::Result;
use crate::tools::process::Process;
use crate::tools::report::{Table, number, ratio};

/// How long a server is left alone before its memory is read.
const REST: Duration = Duration::from_secs(3);
/// Who subscribes and leaves before the first look, so that code and pools are in memory.
const WARM_UP: usize = 10;

pub async fn run(engine: &Engine) -> Result<()> {
    let folder = tempdir()?;
    let database = engine.database(folder.path(), "memory").await?;
    let result = measure(&database, folder.path()).await;
    database.drop().await?;
    result
}

async fn measure(database: &Database, folder: &Path) -> Result<()> {
    eprintln!("memory: {SUBSCRIBERS} idle subscribers of three servers");
    let parlor = parlor(database, folder).await?;
    let stock = reference(Reference::Stock, folder).await?;
    let floor = reference(Reference::Floor, folder).await?;

    println!(
        "## Memory: {SUBSCRIBERS} idle subscribers\n\n\
         Resident memory of the server's process before and with them; the kernel's share of a socket \
         is not in it.\n"
    );
    let mut table = Table::new(&["server", "before MiB", "with MiB", "KiB/subscriber", "to stock", "to the broadcast"]);
    let rows = [("Parlor", &parlor), ("stock async-graphql", &stock), ("raw WebSocket broadcast", &floor)];
    for (name, memory) in rows {
        table.row([
            name.to_string(),
            number(memory.before / 1_048_576.0),
            number(memory.with / 1_048_576.0),
            number(memory.each() / 1_024.0),
            ratio(memory.each(), stock.each()),
            ratio(memory.each(), floor.each()),
        ]);
    }
    println!("{table}");
    Ok(())
}

/// In bytes.
struct Memory {
    before: f64,
    with: f64,
}

impl Memory {
    fn each(&self) -> f64 {
        (self.with - self.before) / SUBSCRIBERS as f64
    }
}

async fn parlor(database: &Database, folder: &Path) -> Result<Memory> {
    let parlor = Parlor::start(database, folder).await?;
    let community = Community::gather(parlor.address, SUBSCRIBERS).await?;
    let chat = community.group("Everybody").await?;
    parlor.stop().await?;
    // Anew, so that nothing which the preparation freed is there to be used again.
    let parlor = Parlor::start(database, folder).await?;
    let memory = subscribed(&parlor.process, parlor.address, &community.tokens, &chat).await?;
    parlor.stop().await?;
    Ok(memory)
}

async fn reference(reference: Reference, folder: &Path) -> Result<Memory> {
    let (process, address) = reference.start(folder).await?;
    let tokens = vec![String::new(); SUBSCRIBERS];
    let memory = subscribed(&process, address, &tokens, "chat").await?;
    process.stop("TERM").await?;
    Ok(memory)
}

/// Looks at a server's memory without and with its subscribers.
async fn subscribed(process: &Process, address: SocketAddr, tokens: &[String], chat: &str) -> Result<Memory> {
    drop(Audience::assemble(address, &tokens[..WARM_UP], chat).await?);
    sleep(REST).await;
    let before = process.resident()?;
    let audience = Audience::assemble(address, tokens, chat).await?;
    sleep(REST).await;
    let with = process.resident()?;
    audience.check()?;
    Ok(Memory { before, with })
}
