//! Feeds of several nodes whose messages are lost, doubled, delayed and reordered.
//!
//! Clients at each node keep what their feeds deliver. When no message is disturbed any more, each client's copy equals
//! what it queries. `PARLOR_TEST_CONVERGENCE_SEEDS` sets the number of runs, with 1,000 mutations each;
//! `PARLOR_TEST_SEED` repeats one run.

mod client_copy;

use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use testkit::{Disturbance, RedisRelay, RedisServer, User, postgres_test};
use tokio::time::Instant;

use self::client_copy::{ClientCopy, Difference};
use crate::consistency::cluster::harness::TestCluster;

const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];
const CHATS: usize = 2;
/// The number of runs and of mutations in each, unless the environment sets another number of runs.
const SHORT_RUN: (u64, usize) = (2, 150);
const LONG_RUN_MUTATIONS: usize = 1_000;
/// The number of mutations that run at the same time.
const CONCURRENT_MUTATIONS: usize = 3;
/// The time in which copies have to be right after the last disturbance.
const CONVERGENCE_TIMEOUT: Duration = Duration::from_secs(30);
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
const DISTURBANCE: Disturbance =
    Disturbance { lost_percent: 8, doubled_percent: 15, delayed_percent: 50, max_delay: Duration::from_millis(900) };

#[postgres_test]
async fn feeds_of_all_nodes_converge_when_messages_are_disturbed() {
    let variable = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let (runs, mutations) = match variable("PARLOR_TEST_CONVERGENCE_SEEDS") {
        Some(runs) => (runs, LONG_RUN_MUTATIONS),
        None => SHORT_RUN,
    };
    let seeds = match variable("PARLOR_TEST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..runs + 1,
    };
    for seed in seeds {
        run(seed, mutations).await;
    }
}

/// Runs random mutations on two or three nodes, and asserts that all copies converge.
async fn run(seed: u64, mutations: usize) {
    let redis = RedisServer::start();
    let relay = RedisRelay::start(redis.port(), seed, DISTURBANCE).await;
    let url = relay.url();
    let node_count = 2 + usize::from(seed.is_multiple_of(2));
    let settings = [
        ("REDIS_URL", url.as_str()),
        ("PARLOR_PRESENCE_GRACE_SECONDS", "1"),
        ("PARLOR_SENDS_PER_MINUTE", "100000"),
        ("PARLOR_REACTIONS_PER_MINUTE", "100000"),
        ("PARLOR_SIGNALS_PER_MINUTE", "100000"),
    ];
    let cluster = TestCluster::start(node_count, None, &settings).await;
    cluster.wait_until_connected().await;
    let users = join_all(USERS.map(|id| cluster.user_at(0, id))).await;
    let members: Vec<&User> = users[1..].iter().collect();
    let mut chats = Vec::new();
    for number in 0..CHATS {
        chats.push(users[0].group(&format!("Chat {number}"), &members).await);
    }
    let mut copies = Vec::new();
    for node in 0..node_count {
        for user in &users {
            copies.push(ClientCopy::start(cluster.at(node, user), node, &chats, &USERS).await);
        }
    }
    let mut workload = Workload { random: StdRng::seed_from_u64(seed), chats: chats.clone(), messages: Vec::new() };
    let mut succeeded = 0;
    for _ in 0..mutations / CONCURRENT_MUTATIONS {
        let batch: Vec<_> = (0..CONCURRENT_MUTATIONS).map(|_| workload.next(&cluster, &users, node_count)).collect();
        let replies = join_all(batch.into_iter().map(async |(user, field, input)| {
            let selection = if field == "sendMessage" { "message { id }" } else { "__typename" };
            (user.mutate_returning(field, input, selection).await, field)
        }));
        for (reply, field) in replies.await {
            assert_ne!(reply.body["errors"][0]["extensions"]["code"], "INTERNAL", "seed {seed}: {}", reply.body);
            succeeded += usize::from(reply.body["errors"].is_null());
            if let Some(id) = reply.body["data"][field]["message"]["id"].as_str() {
                workload.messages.push(id.to_owned());
            }
        }
    }
    assert!(succeeded > mutations / 2, "seed {seed}: {succeeded} of {mutations} mutations succeeded");
    relay.calm();
    assert_converged(seed, &copies).await;
    drop(copies);
    cluster.end().await;
}

async fn assert_converged(seed: u64, copies: &[ClientCopy]) {
    let start = Instant::now();
    loop {
        let differences: Vec<Difference> =
            join_all(copies.iter().map(ClientCopy::differences)).await.into_iter().flatten().collect();
        if differences.is_empty() {
            return;
        }
        assert!(
            start.elapsed() < CONVERGENCE_TIMEOUT,
            "PARLOR_TEST_SEED={seed}: {} differences, such as {:#?}",
            differences.len(),
            &differences[..differences.len().min(5)]
        );
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

/// The source of random mutations.
struct Workload {
    random: StdRng,
    chats: Vec<String>,
    messages: Vec<String>,
}

impl Workload {
    /// Returns the next mutation: a user at a random node, the field and its input.
    fn next(&mut self, cluster: &TestCluster, users: &[User], node_count: usize) -> (User, &'static str, Value) {
        let user = cluster.at(self.random.random_range(0..node_count), self.pick(users));
        let chat = self.pick(&self.chats.clone()).clone();
        let other = *self.pick(&USERS);
        let message = if self.messages.is_empty() { String::new() } else { self.pick(&self.messages.clone()).clone() };
        let number: u32 = self.random.random();
        let message_only = json!({ "messageId": message });
        let (field, input) = match self.random.random_range(0..18) {
            0..5 => ("sendMessage", json!({ "chatId": chat, "text": format!("text {number}"), "mentionIds": [other] })),
            5 => ("editMessage", json!({ "messageId": message, "text": format!("edited {number}") })),
            6 => ("deleteMessage", message_only),
            7 => ("addReaction", json!({ "messageId": message, "emoji": "👍" })),
            8 => ("removeReaction", json!({ "messageId": message, "emoji": "👍" })),
            9 => ("markRead", json!({ "chatId": chat })),
            10 => ("markUnread", json!({ "chatId": chat })),
            11 => ("markDelivered", json!({ "upTo": [{ "chatId": chat, "messageId": message }] })),
            12 => ("updateMyMembership", json!({ "chatId": chat, "draft": format!("draft {number}") })),
            13 => ("updateMyMembership", json!({ "chatId": chat, "pinned": number.is_multiple_of(2) })),
            14 => ("markNotificationsRead", json!({})),
            15 => ("setPresence", json!({ "status": *self.pick(&["ONLINE", "AWAY", "BUSY"]) })),
            16 => ("updateChat", json!({ "chatId": chat, "title": format!("Title {number}") })),
            _ => {
                let role = *self.pick(&["MEMBER", "MODERATOR", "ADMIN"]);
                ("changeMemberRole", json!({ "chatId": chat, "userId": other, "role": role }))
            }
        };
        (user, field, input)
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.random.random_range(0..items.len())]
    }
}
