//! A person with many subscriptions on one socket.

use std::collections::HashMap;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::support::{Socket, User};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Feed,
    /// New messages of the one chat.
    OfChat,
    /// New messages of all chats.
    OfAll,
}

impl Kind {
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
                "subscription($chat: ID!) {{ chatFeed(chatId: $chat) {{ __typename ... on ChatUpserted {{ chat {{ id version }} }}
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

pub struct Watcher {
    pub id: String,
    chat: String,
    socket: Socket,
    operations: HashMap<String, Operation>,
    /// Operations of each kind, in the order of asking.
    asked: Vec<(Kind, String)>,
    pings: usize,
}

/// What shows how far each kind of subscription was told.
const PACES: [(Kind, &str); 3] = [
    (
        Kind::Feed,
        "subscription Pace($chat: ID!) { chatFeed(chatId: $chat) {
            __typename ... on MemberUpserted { member { user { id } lastReadMessage { id } } }
        } }",
    ),
    (Kind::OfChat, "subscription Pace($chat: ID!) { messageAdded(chatId: $chat) { id } }"),
    (Kind::OfAll, "subscription Pace { messageAdded { id } }"),
];

impl Watcher {
    pub async fn of(who: &User, chat: &str) -> Self {
        let (socket, operations) = (who.socket().await, HashMap::new());
        let mut watcher =
            Self { id: who.id.clone(), chat: chat.into(), socket, operations, asked: Vec::new(), pings: 0 };
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
                self.hear().await;
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

    /// Waits until all that was asked for has been told, up to Dave's reading his own message.
    pub async fn settle(&mut self, message: &str) {
        while !self.is_settled(message) {
            self.hear().await;
        }
        // What was told together with it.
        self.ping().await;
        while !self.is_settled(message) {
            self.hear().await;
        }
    }

    /// Whether every operation tells of this message.
    pub async fn is_there(&mut self, message: &str) -> bool {
        let deadline = Instant::now() + Duration::from_secs(2);
        let has_come = |operation: &Operation| operation.told.last().is_some_and(|event| event["id"] == message);
        while !self.operations.values().all(|operation| operation.kind == Kind::Feed || has_come(operation)) {
            if timeout_at(deadline, self.hear()).await.is_err() {
                return false;
            }
        }
        // Which of those of before an inbox told is open.
        for kind in [Kind::OfChat, Kind::OfAll] {
            self.all(kind).for_each(|operation| operation.told.drain(..operation.told.len() - 1).for_each(drop));
        }
        self.settle(message).await;
        true
    }

    /// Counts from here on.
    pub fn forget(&mut self) {
        self.operations.values_mut().for_each(|operation| operation.told.clear());
    }

    fn all(&mut self, kind: Kind) -> impl Iterator<Item = &mut Operation> {
        self.operations.values_mut().filter(move |operation| operation.kind == kind)
    }

    fn is_settled(&self, message: &str) -> bool {
        let pace = |kind: Kind| &self.operations[&format!("{kind:?}")].told;
        let has_read = |event: &Value| {
            event["member"]["user"]["id"] == "dave" && event["member"]["lastReadMessage"]["id"] == message
        };
        let has_come = |kind: Kind| pace(kind).last().is_some_and(|event| event["id"] == message);
        pace(Kind::Feed).iter().rev().any(has_read)
            && has_come(Kind::OfChat)
            && has_come(Kind::OfAll)
            && self.operations.values().all(|operation| operation.told.len() == pace(operation.kind).len())
    }

    async fn ping(&mut self) {
        self.pings += 1;
        let id = format!("ping {}", self.pings);
        self.socket.subscribe(&id, "{ __typename }", json!({})).await;
        while self.hear().await != id {}
    }

    /// Hears one message, and gives the id of its operation where that has ended.
    async fn hear(&mut self) -> String {
        let message = self.socket.hear().await;
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
