//! A client that keeps a chat, whatever becomes of the nodes.

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

/// How long a client waits for a node that says nothing when it comes.
const PATIENCE: Duration = Duration::from_secs(3);

/// Messages by their places, as the newest event showed each.
pub type Held = BTreeMap<i64, Value>;

#[derive(Default)]
struct State {
    held: Held,
    added: HashSet<i64>,
    cursor: Option<String>,
    /// How sockets ended: the code where there was one, and when.
    ends: Vec<(Option<u16>, Instant)>,
    /// What should never be.
    wrong: Vec<String>,
}

pub struct Follower {
    pub who: User,
    pub chat: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Follower {
    /// Begins at one of the nodes, and goes on at the next whenever the socket or the feed ends.
    pub fn start(who: &User, chat: &str, nodes: Vec<SocketAddr>, first: usize) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let follow = follow(who.clone(), chat.to_owned(), nodes, first, state.clone());
        Self { who: who.clone(), chat: chat.into(), state, task: tokio::spawn(follow) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under it")
    }

    /// Whether it has begun.
    pub fn is_there(&self) -> bool {
        self.state().cursor.is_some()
    }

    pub fn held(&self) -> Held {
        self.state().held.clone()
    }

    pub fn ends(&self) -> Vec<(Option<u16>, Instant)> {
        self.state().ends.clone()
    }

    /// Asserts that it was told all in order and nothing twice.
    pub fn was_told_well(&self) {
        let state = self.state();
        assert!(state.wrong.is_empty(), "{}: {:?}", self.who.id, state.wrong);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(who: User, chat: String, nodes: Vec<SocketAddr>, first: usize, state: Arc<Mutex<State>>) {
    for addr in nodes.iter().cycle().skip(first) {
        let Some(socket) = Socket::try_connect(*addr, &who.token, PATIENCE).await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let code = listen(socket, &chat, &state).await;
        state.lock().expect("no panic under it").ends.push((code, Instant::now()));
    }
}

/// Listens until the socket or the feed ends.
async fn listen(mut socket: Socket, chat: &str, state: &Mutex<State>) -> Option<u16> {
    let after = state.lock().expect("no panic under it").cursor.clone();
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
        state.lock().expect("no panic under it").recv(event);
    }
}

impl State {
    fn recv(&mut self, event: &Value) {
        self.cursor = event["cursor"].as_str().map(str::to_owned);
        match event["__typename"].as_str() {
            Some("MessageUpserted") => {}
            Some("FeedReset") => return self.wrong.push(format!("{event}")),
            _ => return,
        }
        let message = &event["message"];
        let seq = message["seq"].as_i64().expect("a place");
        let newest = self.held.last_key_value().map_or(0, |(seq, _)| *seq);
        if event["change"] == "ADDED" && !self.added.insert(seq) {
            self.wrong.push(format!("{seq} was added twice"));
        }
        // What changed again before it was told is told by its newest change, after others.
        if !self.held.contains_key(&seq) && seq < newest && event["change"] != "SYNCED" {
            self.wrong.push(format!("{seq} came after {newest}: {event}"));
        }
        self.held.insert(seq, message.clone());
    }
}
