//! Senders and followers that use several nodes while a test disturbs the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::{Reply, User, wait_until};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::follower::{Follower, Messages};
use super::harness::TestCluster;

const CHATS: usize = 3;
const FOLLOWERS: usize = 12;
const SENDERS: usize = 6;
/// The pause between two messages of a sender, which sets the load.
const SEND_INTERVAL: Duration = Duration::from_millis(60);
/// The time after which a sender asks another node.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// The pause before a sender asks another node.
const RETRY_DELAY: Duration = Duration::from_millis(50);
/// The time in which followers have to receive everything after the last message.
const CONVERGENCE_TIMEOUT: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(30);
/// The number of differences that a failure shows.
const SHOWN_DIFFERENCES: usize = 5;

pub struct Workload {
    pub followers: Vec<Follower>,
    chats: Vec<String>,
    reader: User,
    senders: Vec<JoinHandle<()>>,
    progress: Arc<Progress>,
}

/// The state that senders share. The lock is held for single operations only.
#[derive(Default)]
struct Progress {
    /// The ids of acknowledged messages by their nonces.
    acknowledged: Mutex<BTreeMap<String, String>>,
    sent_count: AtomicUsize,
    is_over: AtomicBool,
}

impl Workload {
    /// Starts the followers, waits until each has received an event, and starts the senders.
    pub async fn start(cluster: &TestCluster) -> Self {
        let users =
            join_all((0..SENDERS).map(|n| async move { cluster.user_at(0, &format!("sender{n}")).await })).await;
        let reader = cluster.user_at(0, "reader").await;
        let members: Vec<&User> = users.iter().collect();
        let chats = join_all((0..CHATS).map(|n| {
            let (reader, members) = (&reader, &members);
            async move { reader.group(&format!("Chat {n}"), members).await }
        }))
        .await;
        let nodes = cluster.addrs();
        let followers: Vec<Follower> = (0..FOLLOWERS)
            .map(|n| Follower::start(&users[n % SENDERS], &chats[n % CHATS], nodes.clone(), n % nodes.len()))
            .collect();
        wait_until("all followers have started", async || followers.iter().all(Follower::has_started)).await;
        let progress = Arc::<Progress>::default();
        let senders = users
            .iter()
            .enumerate()
            .map(|(n, user)| tokio::spawn(send_loop(user.clone(), n, chats.clone(), nodes.clone(), progress.clone())))
            .collect();
        Self { followers, chats, reader, senders, progress }
    }

    /// Waits until this many further messages were acknowledged.
    pub async fn wait_for_messages(&self, messages: usize) {
        let target = self.progress.sent_count.load(Ordering::Relaxed) + messages;
        let is_reached = async || self.progress.sent_count.load(Ordering::Relaxed) >= target;
        wait_until("further messages were acknowledged", is_reached).await;
    }

    /// Ends the senders, and asserts that all followers converge on the content of the database.
    pub async fn stop_and_assert_converged(self, cluster: &TestCluster) {
        self.progress.is_over.store(true, Ordering::Relaxed);
        for sender in self.senders {
            sender.await.expect("a sender without a panic");
        }
        let reader = cluster.at(0, &self.reader);
        let mut texts = BTreeMap::new();
        for chat in &self.chats {
            let stored = history(&reader, chat).await;
            for message in stored.values() {
                let text = message["text"].as_str().unwrap_or_default().to_owned();
                let id = message["id"].as_str().expect("an id").to_owned();
                assert!(texts.insert(id, text).is_none());
            }
            for follower in self.followers.iter().filter(|follower| follower.chat == *chat) {
                let start = Instant::now();
                loop {
                    let differences = differences(&stored, &follower.messages());
                    if differences.is_empty() {
                        break;
                    }
                    assert!(start.elapsed() < CONVERGENCE_TIMEOUT, "{}: {differences:?}", follower.user.id);
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
                follower.assert_no_violations();
            }
        }
        let acknowledged = self.progress.acknowledged.lock().expect("no panic under this lock").clone();
        assert!(acknowledged.len() > 50, "{}", acknowledged.len());
        let mut message_ids: Vec<&String> = acknowledged.values().collect();
        message_ids.sort();
        message_ids.dedup();
        assert_eq!(message_ids.len(), acknowledged.len(), "each nonce created its own message");
        for (nonce, id) in &acknowledged {
            assert!(texts.contains_key(id), "the acknowledged message {nonce} is lost");
        }
        let sent_texts: Vec<&String> = texts.values().filter(|text| text.starts_with("nonce ")).collect();
        assert!(sent_texts.iter().collect::<BTreeSet<_>>().len() == sent_texts.len(), "no message exists twice");
    }
}

/// Returns the first sequence numbers at which a follower's message differs from the database.
///
/// A system message is compared only if the follower received it: followers do not query messages before their feed.
fn differences(stored: &Messages, followed: &Messages) -> Vec<(i64, Value, Value)> {
    let comparable = |message: Option<&Value>| {
        let mut message = message.cloned().unwrap_or_default();
        message.as_object_mut().map(|fields| (fields.remove("id"), fields.remove("kind")));
        message
    };
    let user_messages = stored.iter().filter(|(_, message)| message["kind"] != "SYSTEM").map(|(seq, _)| seq);
    user_messages
        .chain(followed.keys())
        .map(|seq| (*seq, comparable(stored.get(seq)), comparable(followed.get(seq))))
        .filter(|(_, stored, followed)| stored != followed)
        .take(SHOWN_DIFFERENCES)
        .collect()
}

/// Returns all messages of a chat.
async fn history(reader: &User, chat: &str) -> Messages {
    const QUERY: &str = "query($chat: ID!, $before: String) {
        chat(id: $chat) { messages(last: 100, before: $before) {
            pageInfo { hasPreviousPage startCursor }
            nodes { id kind seq text editedAt deletedAt reactions { emoji count } }
        } }
    }";
    let mut messages = Messages::new();
    let mut before = None;
    loop {
        let page = reader.ask_with(QUERY, json!({ "chat": chat, "before": before })).await;
        let nodes = page.at("chat.messages.nodes").as_array().expect("a list");
        messages.extend(nodes.iter().map(|node| (node["seq"].as_i64().expect("a sequence number"), node.clone())));
        if page.at("chat.messages.pageInfo.hasPreviousPage") == &json!(false) {
            return messages;
        }
        before = Some(page.text("chat.messages.pageInfo.startCursor"));
    }
}

/// Sends messages until the workload is over, and edits, deletes or reacts to some of them.
async fn send_loop(user: User, number: usize, chats: Vec<String>, nodes: Vec<SocketAddr>, progress: Arc<Progress>) {
    let mut node = number;
    for round in 0.. {
        if progress.is_over.load(Ordering::Relaxed) {
            return;
        }
        let nonce = format!("nonce {number} {round}");
        let input = json!({ "chatId": chats[round % CHATS], "text": nonce, "nonce": nonce });
        let reply = mutate_until_answered(&user, "sendMessage", input, "message { id }", &nodes, &mut node).await;
        let id = reply.text("sendMessage.message.id");
        progress.acknowledged.lock().expect("no panic under this lock").insert(nonce, id.clone());
        progress.sent_count.fetch_add(1, Ordering::Relaxed);
        // A repetition of one of these is rejected, or changes nothing.
        let (field, input) = match round % 7 {
            2 => ("editMessage", json!({ "messageId": id, "text": format!("edited {number} {round}") })),
            4 => ("addReaction", json!({ "messageId": id, "emoji": "👍" })),
            6 => ("deleteMessage", json!({ "messageId": id })),
            _ => ("", json!({})),
        };
        if !field.is_empty() {
            mutate_until_answered(&user, field, input, "message { id }", &nodes, &mut node).await;
        }
        tokio::time::sleep(SEND_INTERVAL).await;
    }
}

/// Sends a mutation to one node after another until a node answers.
async fn mutate_until_answered(
    user: &User,
    field: &str,
    input: Value,
    selection: &str,
    nodes: &[SocketAddr],
    node: &mut usize,
) -> Reply {
    let kind = if field == "addReaction" { "Reaction".into() } else { field[..1].to_uppercase() + &field[1..] };
    let query = format!("mutation($input: {kind}Input!) {{ {field}(input: $input) {{ {selection} }} }}");
    loop {
        let user = user.at(nodes[*node % nodes.len()]);
        let request = user.try_ask(&query, json!({ "input": input }));
        match timeout(REQUEST_TIMEOUT, request).await {
            Ok(Some(reply)) if reply.body["errors"][0]["extensions"]["code"] != "UNAVAILABLE" => return reply,
            _ => {}
        }
        *node += 1;
        tokio::time::sleep(RETRY_DELAY).await;
    }
}
