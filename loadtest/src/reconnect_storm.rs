//! All at once: the sockets of a whole chat are gone together, messages are sent meanwhile, and all come
//! back together, each after their cursor.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::Database;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Scale;
use crate::client::parlor::Parlor;
use crate::client::population::TestPopulation;
use crate::client::publisher::{Publisher, Request, micros};
use crate::client::resuming_subscriber::{ResumingSubscriber, gather};
use crate::client::subscriber_pool::subscriber_specs;
use crate::engines::Engine;
use crate::tools::latency::Latencies;
use crate::tools::report::{Table, number, whole};
use crate::tools::{Error, Result, TIMEOUT, within};

/// Messages sent while nobody is there.
const MISSED: usize = 20;
/// So that the server has noticed who is gone.
const SETTLE_TIME: Duration = Duration::from_secs(2);

pub async fn run(engine: &Engine, scale: Scale) -> Result<()> {
    engine.with_database(async |database, folder| measure(engine, database, folder, scale).await).await
}

async fn measure(engine: &Engine, database: &Database, folder: &Path, scale: Scale) -> Result<()> {
    let people = scale.users;
    eprintln!("storm: {people} sockets come back at once");
    // The generator shares the machine: it is slow to say who it is on so many sockets.
    let settings = [("PARLOR_SOCKET_INIT_SECONDS", "60")];
    let parlor = Parlor::start_with(database, folder, &settings).await?;
    let population = TestPopulation::gather(parlor.address, people).await?;
    let chat = population.group("Everybody").await?;
    let publisher = Publisher::new(population.api.clone(), [Request::send(&population.tokens[0], &chat)]);
    let mut followers = gather(subscriber_specs(parlor.address, &population.tokens, &chat)).await?;

    let mut table = Table::new(&["round", "all caught up, s", "p50 s", "p99 s", "CPU µs/resume"]);
    for round in 0..scale.rounds {
        eprintln!("storm: round {} of {}", round + 1, scale.rounds);
        followers.iter_mut().for_each(ResumingSubscriber::cut);
        let sent = send(&publisher, round * MISSED).await?;
        sleep(SETTLE_TIME).await;
        let (start, cpu) = (Instant::now(), parlor.server.process.cpu_time());
        let (back, latencies) = resume(followers, &sent, start).await?;
        let (elapsed, cpu) = (start.elapsed(), parlor.server.process.cpu_time() - cpu);
        followers = back;
        table.row([
            (round + 1).to_string(),
            number(elapsed.as_secs_f64()),
            number(latencies.p50() / 1_000.0),
            number(latencies.p99() / 1_000.0),
            number(micros(cpu) / people as f64),
        ]);
    }
    drop(followers);
    parlor.stop().await;
    println!(
        "## A storm of {} sockets ({})\n\n\
         All are subscribed to one chat and dropped at once; {MISSED} messages are sent while nobody is there; then \
         all connect at the same time and resume after their cursor. Each got exactly the {MISSED} in their order, \
         then `FeedCaughtUp`. The server's CPU includes the connection, the token and the catching up.\n\n{table}",
        whole(people as f64),
        engine.name(),
    );
    Ok(())
}

/// Sends what is missed. Gives the messages' numbers in the chat.
async fn send(publisher: &Publisher, first: usize) -> Result<Vec<i64>> {
    let mut sent = Vec::new();
    for number in first..first + MISSED {
        let answer: Value = serde_json::from_str(&publisher.publish(number).await?)?;
        let seq = answer["data"]["sendMessage"]["message"]["seq"].as_i64();
        sent.push(seq.ok_or("a message without its number")?);
    }
    Ok(sent)
}

/// Lets all come back at once. Gives them, and how long after the start each was caught up.
async fn resume(
    followers: Vec<ResumingSubscriber>,
    sent: &[i64],
    start: Instant,
) -> Result<(Vec<ResumingSubscriber>, Latencies)> {
    let mut tasks = JoinSet::new();
    for mut follower in followers {
        tasks.spawn(async move {
            follower.come().await?;
            let added = within(4 * TIMEOUT, "catching up", follower.catch_up()).await?;
            Ok::<_, Error>((follower, added, start.elapsed()))
        });
    }
    let (mut followers, mut latencies) = (Vec::new(), Latencies::default());
    while let Some(task) = tasks.join_next().await {
        let (follower, added, elapsed) = task??;
        if added != sent {
            return Err(format!("messages {sent:?} were sent, a follower got {added:?}").into());
        }
        followers.push(follower);
        latencies.record(elapsed);
    }
    Ok((followers, latencies))
}
