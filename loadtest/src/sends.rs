//! Messages sent a second, from a client's call to its answer, beside the engine's own inserts.
//!
//! Every sender has one message under way. The engine's inserts are measured directly before and
//! after each row, half as long each, in a database of their own.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use testkit::Database;
use testkit::process::ChildProcess;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::Scale;
use crate::client::parlor::Parlor;
use crate::client::population::TestPopulation;
use crate::client::sender::Sender;
use crate::engines::Engine;
use crate::raw_db_floor::RawInserts;
use crate::tools::latency::Latencies;
use crate::tools::report::{Table, number, share, whole};
use crate::tools::{Result, TIMEOUT, within};

/// (Chats, senders) of the rows over sockets.
const ROWS: [(usize, usize); 6] = [(1, 1), (1, 16), (1, 256), (100, 1), (100, 16), (100, 256)];
/// Rows of one transaction of the engine's own: as many sends as the server commits at once.
const TOGETHER: usize = 256;
const PEOPLE: usize = 256;
const CHATS: usize = 100;
/// Sockets opened at the same time.
const CONCURRENCY: usize = 50;

pub async fn run(engine: &Engine, scale: Scale) -> Result<()> {
    engine.with_database(async |database, folder| measure(engine, database, folder, scale).await).await
}

async fn measure(engine: &Engine, database: &Database, folder: &Path, scale: Scale) -> Result<()> {
    eprintln!("sends: {PEOPLE} people in {CHATS} chats on {}", engine.name());
    let parlor = Parlor::start(database, folder).await?;
    let population = TestPopulation::gather(parlor.address, PEOPLE).await?;
    let mut chats = Vec::new();
    for number in 0..CHATS {
        chats.push(population.group(&format!("Chat {number}")).await?);
    }
    let opening = population.tokens.iter().enumerate();
    let opening = opening.map(|(number, token)| Sender::on_socket(number, parlor.address, token));
    let mut sockets: Vec<Sender> = stream::iter(opening).buffered(CONCURRENCY).try_collect().await?;
    let tokens = population.tokens.iter().enumerate();
    let over_http = tokens.map(|(number, token)| Sender::over_http(number, &population.api, token));

    let mut table = Table::new(&[
        "chats",
        "senders",
        "over",
        "sends/s",
        "p50 ms",
        "p99 ms",
        "CPU µs/send",
        "engine's inserts/s",
        "sends of these",
        "one by one/s",
    ]);
    let bench = Bench { engine, folder, server: &parlor.server.process, scale };
    for (chat_count, senders) in ROWS {
        let mut row = Row::new("sockets", &chats[..chat_count], sockets.drain(..senders).collect());
        table.row(bench.measure(&mut row).await?);
        sockets.splice(..0, row.senders);
    }
    let mut row = Row::new("HTTP", &chats[..1], over_http.collect());
    table.row(bench.measure(&mut row).await?);

    let acknowledged: usize = sockets.iter().chain(&row.senders).map(Sender::acknowledged).sum();
    drop((sockets, row));
    let query = "SELECT count(*) FROM messages WHERE nonce IS NOT NULL";
    let stored = database.query_number(query).await;
    parlor.stop().await;
    if usize::try_from(stored) != Ok(acknowledged) {
        return Err(format!("{acknowledged} sends were acknowledged, {stored} are stored").into());
    }
    println!(
        "## Sends on {}\n\n\
         `sendMessage` by senders who wait for each answer before they send again, and the server's own CPU. \
         Beside it the engine's own inserts into the same table by one writer in a loop, {TOGETHER} rows a \
         transaction (taken directly before and after each row), and one row a transaction.\n\n\
         {table}\n\
         All {} acknowledged sends are stored, each once.\n",
        engine.name(),
        whole(acknowledged as f64),
    );
    Ok(())
}

/// Those who send in one row of the table, and where.
struct Row {
    over: &'static str,
    chats: Arc<[String]>,
    senders: Vec<Sender>,
}

impl Row {
    fn new(over: &'static str, chats: &[String], senders: Vec<Sender>) -> Self {
        Self { over, chats: chats.into(), senders }
    }
}

/// What all rows share.
struct Bench<'a> {
    engine: &'a Engine,
    folder: &'a Path,
    server: &'a ChildProcess,
    scale: Scale,
}

impl Bench<'_> {
    /// A row's figures, with the engine's own around them.
    async fn measure(&self, row: &mut Row) -> Result<[String; 10]> {
        let (chats, senders) = (row.chats.len(), row.senders.len());
        eprintln!("sends: {senders} senders in {chats} chats over {}", row.over);
        let mut raw = RawInserts::new(self.engine, self.folder, chats).await?;
        let figures = self.figures(row, &mut raw).await;
        raw.close().await;
        figures
    }

    async fn figures(&self, row: &mut Row, raw: &mut RawInserts) -> Result<[String; 10]> {
        let (chats, senders) = (row.chats.len(), row.senders.len());
        let before = raw.write::<TOGETHER>(self.scale.duration / 2).await?;
        let sent = self.drive(row).await?;
        let after = raw.write::<TOGETHER>(self.scale.duration / 2).await?;
        let inserts = (before + after) / 2.0;
        let one_by_one = raw.write::<1>(self.scale.duration / 4).await?;
        let rate = sent.count as f64 / self.scale.duration.as_secs_f64();
        Ok([
            chats.to_string(),
            senders.to_string(),
            row.over.into(),
            whole(rate),
            number(sent.latencies.p50()),
            number(sent.latencies.p99()),
            number(sent.cpu.as_secs_f64() * 1e6 / sent.count as f64),
            whole(inserts),
            share(rate, inserts),
            whole(one_by_one),
        ])
    }

    /// Lets all send until the time is up, and counts what was acknowledged after the warm-up.
    async fn drive(&self, row: &mut Row) -> Result<Sent> {
        let start = Instant::now() + self.scale.warm_up;
        let end = start + self.scale.duration;
        let mut tasks = JoinSet::new();
        for sender in row.senders.drain(..) {
            tasks.spawn(keep_sending(sender, row.chats.clone(), start..end));
        }
        sleep_until(start).await;
        let cpu = self.server.cpu_time();
        sleep_until(end).await;
        let mut sent = Sent { cpu: self.server.cpu_time() - cpu, ..Sent::default() };
        while let Some(task) = tasks.join_next().await {
            let (sender, latencies) = task??;
            sent.count += latencies.len();
            latencies.into_iter().for_each(|latency| sent.latencies.record(latency));
            row.senders.push(sender);
        }
        Ok(sent)
    }
}

/// Sends until the time is up. Gives the sender back, and how long those took that were acknowledged
/// within the time.
async fn keep_sending(
    mut sender: Sender,
    chats: Arc<[String]>,
    time: Range<Instant>,
) -> Result<(Sender, Vec<Duration>)> {
    let mut latencies = Vec::new();
    loop {
        let sent = Instant::now();
        if sent >= time.end {
            return Ok((sender, latencies));
        }
        within(TIMEOUT, "a send", sender.send(&chats)).await?;
        let acknowledged = Instant::now();
        if time.contains(&acknowledged) {
            latencies.push(acknowledged - sent);
        }
    }
}

/// What was acknowledged within the time.
#[derive(Default)]
struct Sent {
    count: usize,
    latencies: Latencies,
    /// Of the server's process.
    cpu: Duration,
}
