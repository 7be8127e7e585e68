//! A reconnect storm: all subscribers of a chat disconnect, messages are sent, and all resume at the same time.

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
use crate::client::resuming_subscriber::{ResumingSubscriber, connect_all};
use crate::client::subscriber_pool::subscriber_specs;
use crate::engines::Engine;
use crate::tools::latency::Latencies;
use crate::tools::report::{Table, number, whole};
use crate::tools::{Error, Result, TIMEOUT, within};

/// The number of messages sent while no subscriber is connected.
const MISSED: usize = 20;
/// The time in which the server notices the closed sockets.
const SETTLE_TIME: Duration = Duration::from_secs(2);

pub async fn run(engine: &Engine, scale: Scale) -> Result<()> {
    engine.with_database(async |database, folder| measure(engine, database, folder, scale).await).await
}

async fn measure(engine: &Engine, database: &Database, folder: &Path, scale: Scale) -> Result<()> {
    let users = scale.users;
    eprintln!("reconnect-storm: {users} sockets");
    // The generator shares the machine with the server, so it is slow to authenticate this many sockets.
    let settings = [("PARLOR_SOCKET_INIT_SECONDS", "60")];
    let parlor = Parlor::start_with(database, folder, &settings).await?;
    let population = TestPopulation::create(parlor.address, users).await?;
    let chat = population.group("Everyone").await?;
    let publisher = Publisher::new(population.api.clone(), [Request::send(&population.tokens[0], &chat)]);
    let mut subscribers = connect_all(subscriber_specs(parlor.address, &population.tokens, &chat)).await?;

    let mut table = Table::new(&["round", "all caught up s", "p50 s", "p99 s", "CPU µs/resume"]);
    for round in 0..scale.rounds {
        eprintln!("reconnect-storm: round {} of {}", round + 1, scale.rounds);
        subscribers.iter_mut().for_each(ResumingSubscriber::disconnect);
        let sent = send_missed(&publisher, round * MISSED).await?;
        sleep(SETTLE_TIME).await;
        let (start, cpu) = (Instant::now(), parlor.server.process.cpu_time());
        let (resumed, latencies) = resume_all(subscribers, &sent, start).await?;
        let (elapsed, cpu) = (start.elapsed(), parlor.server.process.cpu_time() - cpu);
        subscribers = resumed;
        table.row([
            (round + 1).to_string(),
            number(elapsed.as_secs_f64()),
            number(latencies.p50() / 1_000.0),
            number(latencies.p99() / 1_000.0),
            number(micros(cpu) / users as f64),
        ]);
    }
    drop(subscribers);
    parlor.stop().await;
    println!(
        "## Reconnect storm of {} sockets ({})\n\n\
         All sockets are subscribed to one chat and dropped together. {MISSED} messages are sent while no socket is \
         connected. Then all connect at the same time and resume from their cursors. Each received exactly the \
         {MISSED} messages in order, then `FeedCaughtUp`. The server's CPU includes the connection, the token and the \
         catch-up.\n\n{table}",
        whole(users as f64),
        engine.name(),
    );
    Ok(())
}

/// Sends the messages that the subscribers miss, and returns their sequence numbers.
async fn send_missed(publisher: &Publisher, first: usize) -> Result<Vec<i64>> {
    let mut sent = Vec::new();
    for number in first..first + MISSED {
        let response: Value = serde_json::from_str(&publisher.publish(number).await?)?;
        let seq = response["data"]["sendMessage"]["message"]["seq"].as_i64();
        sent.push(seq.ok_or("a message without seq")?);
    }
    Ok(sent)
}

/// Resumes all subscriptions at the same time.
///
/// Returns the subscribers and the times from `start` until each has caught up.
async fn resume_all(
    subscribers: Vec<ResumingSubscriber>,
    sent: &[i64],
    start: Instant,
) -> Result<(Vec<ResumingSubscriber>, Latencies)> {
    let mut tasks = JoinSet::new();
    for mut subscriber in subscribers {
        tasks.spawn(async move {
            subscriber.connect().await?;
            let received = within(4 * TIMEOUT, "the catch-up of a feed", subscriber.catch_up()).await?;
            Ok::<_, Error>((subscriber, received, start.elapsed()))
        });
    }
    let (mut subscribers, mut latencies) = (Vec::new(), Latencies::default());
    while let Some(task) = tasks.join_next().await {
        let (subscriber, received, elapsed) = task??;
        if received != sent {
            return Err(format!("messages {sent:?} were sent, a subscriber received {received:?}").into());
        }
        subscribers.push(subscriber);
        latencies.record(elapsed);
    }
    Ok((subscribers, latencies))
}
