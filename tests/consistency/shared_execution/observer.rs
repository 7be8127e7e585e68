//! A person with many subscriptions on one socket.

use std::collections::HashMap;

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Socket, User, position};
use tokio::time::{Instant, timeout_at};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Feed,
    /// New messages of the one chat.
    OfChat,
    /// New messages of all chats.
    OfAll,
}

impl Kind {
    /// Objects on the way from what is told to a field.
    pub fn objects(self) -> usize {
        match self {
            Self::Feed => 3,
            Self::OfChat | Self::OfAll => 2,
        }
    }

    /// What its events are.
    pub fn ty(self) -> &'static str {
        match self {
            Self::Feed => "ChatFeedEvent",
            Self::OfChat | Self::OfAll => "Message",
        }
    }

    /// A subscription that asks for what is at the end of these paths.
    pub fn asking(self, paths: &[Vec<String>]) -> String {
        let field = |path: &Vec<String>| format!("{}{}", path.join(" { "), " }".repeat(path.len() - 1));
        let fields: Vec<String> = paths.iter().map(field).collect();
        let fields = fields.join(" ");
        match self {
            Self::Feed => format!(
                "subscription($chat: ID!) {{ chatFeed(chatId: $chat) {{ __typename ... on FeedEvent {{ cursor }} ... on ChatUpserted {{ chat {{ id version }} }}
                 ... on MessageUpserted {{ message {{ id }} change }} ... on MemberUpserted {{ member {{ id }} }} {fields} }} }}"
            ),
            Self::OfChat => format!("subscription($chat: ID!) {{ messageAdded(chatId: $chat) {{ __typename id {fields} }} }}"),
            Self::OfAll => format!("subscription {{ messageAdded {{ __typename id {fields} }} }}"),
        }
    }

    /// What an event is about.
    pub fn subject(event: &Value) -> String {
        let id = |node: &str| event[node]["id"].as_str().unwrap_or_default();
        let (ids, change) = ([id("chat"), id("message"), id("member")].concat(), &event["change"]);
        let id = event["id"].as_str().unwrap_or_default();
        format!("{} {ids}{id} {change} {}", event["__typename"], event["chat"]["version"])
    }
}

struct Operation {
    kind: Kind,
    told: Vec<Value>,
}

impl Operation {
    /// Where it tells of a message, or of Dave's reading it.
    fn place_of(&self, message: &str, dave: &str) -> Option<usize> {
        match self.kind {
            Kind::Feed => {
                let sent = self.told.iter().position(|event| event["message"]["id"] == message)?;
                let read = self.told[sent..].iter().position(|event| event["member"]["id"] == dave)?;
                Some(sent + read)
            }
            Kind::OfChat | Kind::OfAll => self.told.iter().position(|event| event["id"] == message),
        }
    }
}

pub struct Watcher {
    pub id: String,
    chat: String,
    socket: Socket,
    operations: HashMap<String, Operation>,
    /// Operations of each kind, in the order of asking.
    asked: Vec<(Kind, String)>,
    pings: usize,
    /// How many events of the pace were waited for.
    settled: usize,
}

const FEED_PACE: &str = "Feed";

/// What shows how far each kind of subscription was told.
const PACES: [(Kind, &str); 3] = [
    (
        Kind::Feed,
        "subscription Pace($chat: ID!) { chatFeed(chatId: $chat) {
            __typename ... on FeedEvent { cursor } ... on MessageUpserted { change message { id } }
            ... on MemberUpserted { member { id user { id } } }
        } }",
    ),
    (Kind::OfChat, "subscription Pace($chat: ID!) { messageAdded(chatId: $chat) { id } }"),
    (Kind::OfAll, "subscription Pace { messageAdded { id } }"),
];

impl Watcher {
    pub async fn of(who: &User, chat: &str) -> Self {
        let (socket, operations) = (who.socket().await, HashMap::new());
        let mut watcher =
            Self { id: who.id.clone(), chat: chat.into(), socket, operations, asked: Vec::new(), pings: 0, settled: 0 };
        for (kind, query) in PACES {
            let id = format!("{kind:?}");
            watcher.start(&id, kind, query).await;
        }
        watcher
    }

    /// Subscribes, and waits until nothing more can be missed.
    pub async fn subscribe(&mut self, kind: Kind, query: &str) {
        let id = format!("{}", self.asked.len());
        self.asked.push((kind, id.clone()));
        self.start(&id, kind, query).await;
    }

    async fn start(&mut self, id: &str, kind: Kind, query: &str) {
        self.socket.subscribe(id, query, json!({ "chat": self.chat })).await;
        self.operations.insert(id.into(), Operation { kind, told: Vec::new() });
        if kind == Kind::Feed {
            // It begins with FeedCaughtUp, which has a cursor of its own.
            while self.operations[id].told.is_empty() {
                self.recv().await;
            }
            let begun = self.operations.get_mut(id).expect("an operation").told.pop().expect("an event");
            assert_eq!(begun["__typename"], "FeedCaughtUp");
        } else {
            self.ping().await;
        }
    }

    /// What an operation was told, by its place among those of its kind.
    pub fn told(&self, kind: Kind, place: usize) -> &[Value] {
        let (_, id) = self.asked.iter().filter(|(of, _)| *of == kind).nth(place).expect("an operation");
        &self.operations[id].told
    }

    /// Waits until all of it is told: the chat up to a version, and, where somebody moved, that.
    pub async fn settle(&mut self, version: i64, moved: Option<&str>) {
        for _ in 0..2 {
            while !self.is_settled(version, moved) {
                self.recv().await;
            }
            // What is told together with it.
            self.ping().await;
        }
        while !self.is_settled(version, moved) {
            self.recv().await;
        }
        self.settled = self.operations[FEED_PACE].told.len();
    }

    /// Whether every operation tells of this message, and a feed that Dave has read it; counts from there
    /// on. An inbox says nothing of when it has begun.
    pub async fn is_there(&mut self, message: &str, dave: &str) -> bool {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.operations.values().all(|operation| operation.place_of(message, dave).is_some()) {
            if timeout_at(deadline, self.recv()).await.is_err() {
                return false;
            }
        }
        for operation in self.operations.values_mut() {
            let known = operation.place_of(message, dave).map_or(0, |place| place + 1);
            operation.told.drain(..known);
        }
        true
    }

    fn is_settled(&self, version: i64, moved: Option<&str>) -> bool {
        let pace = &self.operations[FEED_PACE].told;
        let is_added = |event: &&Value| event["change"] == "ADDED";
        let newest = pace.iter().rev().find(is_added).map(|event| &event["message"]["id"]);
        let has_moved = |user: &str| pace[self.settled..].iter().any(|event| event["member"]["user"]["id"] == user);
        moved.is_none_or(has_moved)
            && self.operations.values().all(|operation| match operation.kind {
                Kind::Feed => {
                    let is_level = |event: &Value| position(&event["cursor"]) >= version;
                    operation.told.len() == pace.len() && operation.told.last().is_none_or(is_level)
                }
                Kind::OfChat | Kind::OfAll => operation.told.last().map(|event| &event["id"]) == newest,
            })
            && pace.last().is_some_and(|event| position(&event["cursor"]) >= version)
    }

    async fn ping(&mut self) {
        self.pings += 1;
        let id = format!("ping {}", self.pings);
        self.socket.subscribe(&id, "{ __typename }", json!({})).await;
        while self.recv().await != id {}
    }

    /// Hears one message, and gives the id of its operation where that has ended.
    async fn recv(&mut self) -> String {
        let message = self.socket.recv().await;
        let id = message["id"].as_str().expect("an id").to_owned();
        match (message["type"].as_str(), self.operations.get_mut(&id)) {
            (Some("complete"), None) => id,
            (Some("next"), None) => String::new(),
            (Some("next"), Some(operation)) => {
                let payload = &message["payload"];
                assert!(payload.get("errors").is_none(), "{payload}");
                let event = payload["data"].as_object().and_then(|data| data.values().next()).expect("an event");
                operation.told.push(event.clone());
                String::new()
            }
            _ => panic!("{message}"),
        }
    }
}
