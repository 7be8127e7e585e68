//! A client that follows a chat across restarts and failures of nodes.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Socket, User};
use tokio::task::JoinHandle;
use tokio::time::Instant;

const FEED: &str = "subscription($chat: ID!, $last: Int, $after: String) {
    chatFeed(chatId: $chat, last: $last, after: $after) {
        __typename
        ... on FeedEvent { cursor }
        ... on MessageUpserted { change message { seq text editedAt deletedAt reactions { emoji count } } }
    }
}";

/// The time after which a client gives up connecting to a node.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The pause before a client tries the next node.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The messages by their sequence numbers, each as the newest event showed it.
pub type Messages = BTreeMap<i64, Value>;

/// The end of a connection: the close code, if there was one, and the time.
pub type Disconnect = (Option<u16>, Instant);

#[derive(Default)]
struct State {
    messages: Messages,
    added: HashSet<i64>,
    cursor: Option<String>,
    disconnects: Vec<Disconnect>,
    /// The events that violate the order or repeat a message.
    violations: Vec<String>,
}

pub struct Follower {
    pub user: User,
    pub chat: String,
    /// The lock is held for single operations only, never across an `await`.
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Follower {
    /// Starts a client at one of the nodes.
    ///
    /// Whenever the socket or the feed ends, it resumes at the next node.
    pub fn start(user: &User, chat: &str, nodes: Vec<SocketAddr>, first_node: usize) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let task = tokio::spawn(run(user.clone(), chat.to_owned(), nodes, first_node, state.clone()));
        Self { user: user.clone(), chat: chat.into(), state, task }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }

    /// Returns whether the client has received a first event.
    pub fn has_started(&self) -> bool {
        self.state().cursor.is_some()
    }

    pub fn messages(&self) -> Messages {
        self.state().messages.clone()
    }

    pub fn disconnects(&self) -> Vec<Disconnect> {
        self.state().disconnects.clone()
    }

    /// Asserts that the client received all messages in order, and none of them twice.
    pub fn assert_no_violations(&self) {
        let state = self.state();
        assert!(state.violations.is_empty(), "{}: {:?}", self.user.id, state.violations);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(user: User, chat: String, nodes: Vec<SocketAddr>, first_node: usize, state: Arc<Mutex<State>>) {
    for addr in nodes.iter().cycle().skip(first_node) {
        let Some(socket) = Socket::try_connect(*addr, &user.token, CONNECT_TIMEOUT).await else {
            tokio::time::sleep(RETRY_DELAY).await;
            continue;
        };
        let code = follow(socket, &chat, &state).await;
        state.lock().expect("no panic under this lock").disconnects.push((code, Instant::now()));
    }
}

/// Receives events until the socket or the feed ends, and returns the close code.
async fn follow(mut socket: Socket, chat: &str, state: &Mutex<State>) -> Option<u16> {
    let after = state.lock().expect("no panic under this lock").cursor.clone();
    let variables = json!({ "chat": chat, "last": 0, "after": after });
    let payload = json!({ "query": FEED, "variables": variables });
    socket.try_send(json!({ "type": "subscribe", "id": "1", "payload": payload })).await?;
    loop {
        let message = match socket.recv_or_close().await {
            Ok(message) => message,
            Err(frame) => return frame.map(|frame| frame.code.into()),
        };
        let event = &message["payload"]["data"]["chatFeed"];
        if message["type"] != "next" || event.is_null() {
            return None;
        }
        state.lock().expect("no panic under this lock").apply(event);
    }
}

impl State {
    fn apply(&mut self, event: &Value) {
        self.cursor = event["cursor"].as_str().map(str::to_owned);
        match event["__typename"].as_str() {
            Some("MessageUpserted") => {}
            Some("FeedReset") => return self.violations.push(format!("{event}")),
            _ => return,
        }
        let message = &event["message"];
        let seq = message["seq"].as_i64().expect("a sequence number");
        let newest = self.messages.last_key_value().map_or(0, |(seq, _)| *seq);
        if event["change"] == "ADDED" && !self.added.insert(seq) {
            self.violations.push(format!("{seq} was added twice"));
        }
        // A message that changed again before its delivery is delivered with its newest change, after later ones.
        if !self.messages.contains_key(&seq) && seq < newest && event["change"] != "SYNCED" {
            self.violations.push(format!("{seq} was delivered after {newest}: {event}"));
        }
        self.messages.insert(seq, message.clone());
    }
}
