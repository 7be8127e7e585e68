//! Messages sent per second, from request to response, compared with bare inserts into the database.
//!
//! Every sender has one message in flight. The bare inserts are measured directly before and after each row, for half
//! of the row's duration each, in a separate database.

use std::path::Path;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use testkit::Database;
use testkit::process::ChildProcess;

use crate::Scale;
use crate::client::parlor::Parlor;
use crate::client::population::TestPopulation;
use crate::client::sender::Sender;
use crate::client::sending::send_all;
use crate::engines::Engine;
use crate::raw_db_floor::RawInserts;
use crate::tools::Result;
use crate::tools::report::{Table, number, share, whole};

/// The numbers of chats and senders in the rows over WebSockets.
const ROWS: [(usize, usize); 6] = [(1, 1), (1, 16), (1, 256), (100, 1), (100, 16), (100, 256)];
/// The number of rows in a transaction of bare inserts, which is the server's largest batch of sends.
const BATCH: usize = 256;
const USERS: usize = 256;
const CHATS: usize = 100;
/// The number of sockets that are opened at the same time.
const CONCURRENCY: usize = 50;

pub async fn run(engine: &Engine, scale: Scale) -> Result<()> {
    engine.with_database(async |database, folder| measure(engine, database, folder, scale).await).await
}

async fn measure(engine: &Engine, database: &Database, folder: &Path, scale: Scale) -> Result<()> {
    eprintln!("sends: {USERS} users in {CHATS} chats on {}", engine.name());
    let parlor = Parlor::start(database, folder).await?;
    let population = TestPopulation::create(parlor.address, USERS).await?;
    let mut chats = Vec::new();
    for number in 0..CHATS {
        chats.push(population.group(&format!("Chat {number}")).await?);
    }
    let connecting = population.tokens.iter().enumerate();
    let connecting = connecting.map(|(number, token)| Sender::over_socket(number, parlor.address, token));
    let mut sockets: Vec<Sender> = stream::iter(connecting).buffered(CONCURRENCY).try_collect().await?;
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
        "bare inserts/s",
        "sends/bare inserts",
        "single-row inserts/s",
    ]);
    let bench = Bench { engine, folder, server: &parlor.server.process, scale };
    for (chat_count, senders) in ROWS {
        let mut row = Row::new("WebSocket", &chats[..chat_count], sockets.drain(..senders).collect());
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
         `sendMessage` by senders who wait for each response before they send again, and the server's CPU. The \
         reference is bare inserts into the same table by one writer: {BATCH} rows per transaction, measured directly \
         before and after each row of this table, and one row per transaction.\n\n\
         {table}\n\
         All {} acknowledged sends are stored, each once.\n",
        engine.name(),
        whole(acknowledged as f64),
    );
    Ok(())
}

/// The senders, transport and chats of one row of the table.
struct Row {
    transport: &'static str,
    chats: Arc<[String]>,
    senders: Vec<Sender>,
}

impl Row {
    fn new(transport: &'static str, chats: &[String], senders: Vec<Sender>) -> Self {
        Self { transport, chats: chats.into(), senders }
    }
}

/// The context of all rows.
struct Bench<'a> {
    engine: &'a Engine,
    folder: &'a Path,
    server: &'a ChildProcess,
    scale: Scale,
}

impl Bench<'_> {
    /// Measures a row, and bare inserts before and after it.
    async fn measure(&self, row: &mut Row) -> Result<[String; 10]> {
        let (chats, senders) = (row.chats.len(), row.senders.len());
        eprintln!("sends: {senders} senders in {chats} chats over {}", row.transport);
        let mut raw = RawInserts::new(self.engine, self.folder, chats).await?;
        let cells = self.measure_between(row, &mut raw).await;
        raw.close().await;
        cells
    }

    async fn measure_between(&self, row: &mut Row, raw: &mut RawInserts) -> Result<[String; 10]> {
        let (chats, senders) = (row.chats.len(), row.senders.len());
        let before = raw.write::<BATCH>(self.scale.duration / 2).await?;
        let sent = send_all(self.server, &row.chats, &mut row.senders, self.scale).await?;
        let after = raw.write::<BATCH>(self.scale.duration / 2).await?;
        let inserts = (before + after) / 2.0;
        let single = raw.write::<1>(self.scale.duration / 4).await?;
        let rate = sent.count as f64 / self.scale.duration.as_secs_f64();
        Ok([
            chats.to_string(),
            senders.to_string(),
            row.transport.into(),
            whole(rate),
            number(sent.latencies.p50()),
            number(sent.latencies.p99()),
            number(sent.cpu.as_secs_f64() * 1e6 / sent.count as f64),
            whole(inserts),
            share(rate, inserts),
            whole(single),
        ])
    }
}
