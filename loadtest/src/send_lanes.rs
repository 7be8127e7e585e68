//! Messages sent per second over one, two and four send lanes, on PostgreSQL.
//!
//! The servers run side by side, each with its own database, and are measured in turn, so that other load on the machine
//! affects all alike. Every sender has one message in flight.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use testkit::Database;

use crate::Scale;
use crate::client::parlor::Parlor;
use crate::client::population::TestPopulation;
use crate::client::sender::Sender;
use crate::client::sending::{Sent, send_all};
use crate::engines::Engine;
use crate::tools::Result;
use crate::tools::latency::median;
use crate::tools::report::{Table, number, ratio, whole};

const LANES: [&str; 3] = ["1", "2", "4"];
/// Enough connections for each number of lanes.
const CONNECTIONS: (&str, &str) = ("PARLOR_DATABASE_CONNECTIONS", "32");
const SENDERS: usize = 256;
/// The chats of the organisation to which everyone belongs, in the first workload.
const CHATS: usize = 100;
/// The organisations of the second workload, each with a chat and an equal part of the senders.
const ORGANIZATIONS: usize = 64;
/// The number of sockets that are opened at the same time.
const CONCURRENCY: usize = 50;

pub async fn run(engine: &Engine, scale: Scale) -> Result<()> {
    if !engine.is_postgres() {
        println!("## Send lanes\n\nSQLite has one writer, and therefore one lane.\n");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let mut table = Table::new(&["workload", "lanes", "sends/s", "to one lane", "p50 ms", "p99 ms", "CPU µs/send"]);
    for workload in [Workload::OneChat, Workload::OneOrganization, Workload::ManyOrganizations] {
        let mut servers = Vec::new();
        for lanes in LANES {
            let folder = folder.path().join(format!("{workload:?}-{lanes}"));
            std::fs::create_dir(&folder)?;
            servers.push(Server::start(engine.database().await, &folder, lanes, workload).await?);
        }
        for round in 0..scale.rounds {
            // No server is always the first one.
            for turn in 0..servers.len() {
                let server = (round + turn) % servers.len();
                eprintln!("send-lanes: {}, {} lanes", workload.describe(), LANES[server]);
                servers[server].measure(scale).await?;
            }
        }
        let one_lane = servers[0].rate(scale);
        for (server, lanes) in servers.iter().zip(LANES) {
            let rate = server.rate(scale);
            table.row([
                workload.describe(),
                lanes.into(),
                whole(rate),
                ratio(rate, one_lane),
                number(server.median_of(|sent| sent.latencies.p50())),
                number(server.median_of(|sent| sent.latencies.p99())),
                number(server.median_of(|sent| sent.cpu.as_secs_f64() * 1e6 / sent.count as f64)),
            ]);
        }
        for server in servers {
            server.stop().await?;
        }
    }
    println!(
        "## Send lanes\n\n\
         `sendMessage` over WebSockets by {SENDERS} senders who wait for each response before they send again, and the \
         server's CPU. The servers of a workload run side by side and are measured in turn; medians of {} rounds.\n\n\
         {table}",
        scale.rounds,
    );
    Ok(())
}

/// The chats that the senders send to.
#[derive(Debug, Clone, Copy)]
enum Workload {
    OneChat,
    OneOrganization,
    ManyOrganizations,
}

impl Workload {
    fn describe(self) -> String {
        match self {
            Self::OneChat => "one chat".into(),
            Self::OneOrganization => format!("{CHATS} chats of one organisation"),
            Self::ManyOrganizations => format!("{ORGANIZATIONS} organisations"),
        }
    }

    /// Creates the chats, and returns the senders of each group of chats.
    async fn prepare(self, address: SocketAddr) -> Result<Vec<Senders>> {
        match self {
            Self::OneChat => Ok(vec![Senders::create("load", address, SENDERS, 1).await?]),
            Self::OneOrganization => Ok(vec![Senders::create("load", address, SENDERS, CHATS).await?]),
            Self::ManyOrganizations => {
                let mut senders = Vec::new();
                for number in 0..ORGANIZATIONS {
                    let organization = format!("organisation{number}");
                    senders.push(Senders::create(&organization, address, SENDERS / ORGANIZATIONS, 1).await?);
                }
                Ok(senders)
            }
        }
    }
}

/// Users of one organisation and the chats that all of them send to.
struct Senders {
    chats: Arc<[String]>,
    senders: Vec<Sender>,
}

impl Senders {
    async fn create(organization: &str, address: SocketAddr, users: usize, chats: usize) -> Result<Self> {
        let population = TestPopulation::create_in(organization, address, users).await?;
        let mut ids = Vec::new();
        for number in 0..chats {
            ids.push(population.group(&format!("Chat {number}")).await?);
        }
        let connecting = population.tokens.iter().enumerate();
        let connecting = connecting.map(|(number, token)| Sender::over_socket(number, address, token));
        let senders = stream::iter(connecting).buffered(CONCURRENCY).try_collect().await?;
        Ok(Self { chats: ids.into(), senders })
    }
}

/// A server with a number of lanes, and its measurements.
struct Server {
    parlor: Parlor,
    database: Database,
    groups: Vec<Senders>,
    rounds: Vec<Sent>,
}

impl Server {
    async fn start(database: Database, folder: &Path, lanes: &str, workload: Workload) -> Result<Self> {
        let parlor = Parlor::start_with(&database, folder, &[CONNECTIONS, ("PARLOR_SEND_LANES", lanes)]).await?;
        let groups = workload.prepare(parlor.address).await?;
        Ok(Self { parlor, database, groups, rounds: Vec::new() })
    }

    async fn measure(&mut self, scale: Scale) -> Result<()> {
        let process = &self.parlor.server.process;
        let groups = self.groups.iter_mut();
        let sending = groups.map(|group| send_all(process, &group.chats, &mut group.senders, scale));
        let mut sent = Sent::default();
        for group in futures_util::future::try_join_all(sending).await? {
            sent.count += group.count;
            sent.latencies.add(&group.latencies);
            // Each group has measured the same process.
            sent.cpu = group.cpu;
        }
        self.rounds.push(sent);
        Ok(())
    }

    fn median_of(&self, value: impl Fn(&Sent) -> f64) -> f64 {
        median(self.rounds.iter().map(value).collect())
    }

    fn rate(&self, scale: Scale) -> f64 {
        self.median_of(|sent| sent.count as f64 / scale.duration.as_secs_f64())
    }

    /// Stops the server, and checks that each acknowledged send is stored once.
    async fn stop(self) -> Result<()> {
        let senders = self.groups.iter().flat_map(|group| &group.senders);
        let acknowledged: usize = senders.map(Sender::acknowledged).sum();
        let stored = self.database.query_number("SELECT count(*) FROM messages WHERE nonce IS NOT NULL").await;
        self.parlor.stop().await;
        self.database.drop().await;
        match usize::try_from(stored) == Ok(acknowledged) {
            true => Ok(()),
            false => Err(format!("{acknowledged} sends were acknowledged, {stored} are stored").into()),
        }
    }
}
