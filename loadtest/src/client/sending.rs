//! Many senders at the same time, whose acknowledgements are counted.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use testkit::process::ChildProcess;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::sender::Sender;
use crate::Scale;
use crate::tools::latency::Latencies;
use crate::tools::{Result, TIMEOUT, within};

/// The messages that were acknowledged within the measured time.
#[derive(Default)]
pub struct Sent {
    pub count: usize,
    pub latencies: Latencies,
    /// The CPU time of the server's process.
    pub cpu: Duration,
}

/// Runs all senders for the scale's duration, and counts the acknowledgements after the warm-up.
pub async fn send_all(
    server: &ChildProcess,
    chats: &Arc<[String]>,
    senders: &mut Vec<Sender>,
    scale: Scale,
) -> Result<Sent> {
    let start = Instant::now() + scale.warm_up;
    let end = start + scale.duration;
    let mut tasks = JoinSet::new();
    for sender in senders.drain(..) {
        tasks.spawn(keep_sending(sender, chats.clone(), start..end));
    }
    sleep_until(start).await;
    let cpu = server.cpu_time();
    sleep_until(end).await;
    let mut sent = Sent { cpu: server.cpu_time() - cpu, ..Sent::default() };
    while let Some(task) = tasks.join_next().await {
        let (sender, latencies) = task??;
        sent.count += latencies.len();
        latencies.into_iter().for_each(|latency| sent.latencies.record(latency));
        senders.push(sender);
    }
    Ok(sent)
}

/// Sends until the end of a time range.
///
/// Returns the sender and the latencies of the messages that were acknowledged within the range.
async fn keep_sending(
    mut sender: Sender,
    chats: Arc<[String]>,
    range: Range<Instant>,
) -> Result<(Sender, Vec<Duration>)> {
    let mut latencies = Vec::new();
    loop {
        let sent_at = Instant::now();
        if sent_at >= range.end {
            return Ok((sender, latencies));
        }
        within(TIMEOUT, "a send", sender.send(&chats)).await?;
        let acknowledged_at = Instant::now();
        if range.contains(&acknowledged_at) {
            latencies.push(acknowledged_at - sent_at);
        }
    }
}
