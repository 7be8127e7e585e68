//! The user of another organisation, who must be served during each attack.

use std::time::Duration;

use serde_json::json;
use testkit::process::ChildProcess;
use tokio::time::{Instant, sleep};

use super::Target;
use crate::client::api::Api;
use crate::client::parlor::token_in;
use crate::client::sender::{SEND, TEXT};
use crate::tools::Result;
use crate::tools::latency::Latencies;

const ORGANIZATION: &str = "bystander";
/// The pause between two requests of the bystander.
const PAUSE: Duration = Duration::from_millis(20);
/// The interval at which the server's memory is read.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(50);
const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// A user who sends a message and reads a page, in turn and without end.
pub struct Bystander {
    api: Api,
    token: String,
    chat: String,
}

/// The result of an attack, and its effects.
pub struct Watched {
    pub outcome: Result<String>,
    /// The 99th percentile of the bystander's requests, in milliseconds.
    pub p99: f64,
    /// The largest resident memory of the server, in MiB.
    pub memory: f64,
    /// The bystander's requests that failed, without repetitions.
    pub failures: Vec<String>,
}

impl Bystander {
    /// Creates the user's chat.
    pub async fn create(target: &Target) -> Result<Self> {
        let token = token_in(ORGANIZATION, "bystander");
        let chat = target.chat(&token, "GROUP", &[]).await?;
        Ok(Self { api: target.api.clone(), token, chat })
    }

    /// Runs an attack while the user sends and reads and the server's memory is sampled.
    pub async fn watch(&self, server: &ChildProcess, attack: impl Future<Output = Result<String>>) -> Watched {
        let (mut latencies, mut failures, mut memory) = (Latencies::default(), Vec::new(), 0_u64);
        let using = async {
            loop {
                let start = Instant::now();
                if let Err(error) = self.send_and_read().await {
                    let failure = format!("the bystander's request failed: {error}");
                    if !failures.contains(&failure) {
                        failures.push(failure);
                    }
                }
                latencies.record(start.elapsed() / 2);
                sleep(PAUSE).await;
            }
        };
        let sampling = async {
            loop {
                memory = memory.max(server.resident_memory());
                sleep(SAMPLE_INTERVAL).await;
            }
        };
        let outcome = tokio::select! {
            outcome = attack => outcome,
            () = using => unreachable!("the loop never ends"),
            () = sampling => unreachable!("the loop never ends"),
        };
        Watched { outcome, p99: latencies.p99(), memory: memory as f64 / MEBIBYTE, failures }
    }

    async fn send_and_read(&self) -> Result<()> {
        self.api.ask(&self.token, SEND, json!({ "input": { "chatId": self.chat, "text": TEXT } })).await?;
        let read = "query($id: ID!) { chat(id: $id) { messages(last: 20) { nodes { text html sender { name } } } } }";
        self.api.ask(&self.token, read, json!({ "id": self.chat })).await?;
        Ok(())
    }
}
