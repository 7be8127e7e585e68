//! A user with many subscriptions on one WebSocket.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Socket, User, position};
use tokio::time::{Instant, timeout_at};

/// A kind of subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    ChatFeed,
    /// The new messages of one chat.
    ChatMessages,
    /// The new messages of all chats.
    AllMessages,
}

impl Kind {
    /// Returns the number of objects between an event and the tested fields.
    pub fn depth(self) -> usize {
        match self {
            Self::ChatFeed => 3,
            Self::ChatMessages | Self::AllMessages => 2,
        }
    }

    /// Returns the type of the events.
    pub fn event_type(self) -> &'static str {
        match self {
            Self::ChatFeed => "ChatFeedEvent",
            Self::ChatMessages | Self::AllMessages => "Message",
        }
    }

    /// Returns a subscription that selects the fields at these paths.
    pub fn subscription(self, paths: &[Vec<String>]) -> String {
        let field = |path: &Vec<String>| format!("{}{}", path.join(" { "), " }".repeat(path.len() - 1));
        let fields: Vec<String> = paths.iter().map(field).collect();
        let fields = fields.join(" ");
        match self {
            Self::ChatFeed => format!(
                "subscription($chat: ID!) {{ chatFeed(chatId: $chat) {{ __typename ... on FeedEvent {{ cursor }} ... on ChatUpserted {{ chat {{ id version }} }}
                 ... on MessageUpserted {{ message {{ id }} change }} ... on MemberUpserted {{ member {{ id }} }} {fields} }} }}"
            ),
            Self::ChatMessages => format!("subscription($chat: ID!) {{ messageAdded(chatId: $chat) {{ __typename id {fields} }} }}"),
            Self::AllMessages => format!("subscription {{ messageAdded {{ __typename id {fields} }} }}"),
        }
    }

    /// Returns the objects, the change and the version of an event, which identify it for every user.
    pub fn subject(event: &Value) -> String {
        let id = |node: &str| event[node]["id"].as_str().unwrap_or_default();
        let (ids, change) = ([id("chat"), id("message"), id("member")].concat(), &event["change"]);
        let id = event["id"].as_str().unwrap_or_default();
        format!("{} {ids}{id} {change} {}", event["__typename"], event["chat"]["version"])
    }
}

/// Returns true for the error of the bans of a chat.
///
/// Only users who may ban receive them; others receive null.
fn is_denied_list(error: &Value) -> bool {
    error["extensions"]["code"] == "FORBIDDEN"
        && error["path"].as_array().is_some_and(|path| path.last().is_some_and(|field| field == "bans"))
}

/// The time after which a marker is sent again.
const MARKER_TIMEOUT: Duration = Duration::from_secs(5);

struct Operation {
    kind: Kind,
    events: Vec<Value>,
}

impl Operation {
    /// Returns the index of the event for a message and, in a feed, for the member who then read it.
    fn index_of(&self, message: &str, member: &str) -> Option<usize> {
        match self.kind {
            Kind::ChatFeed => {
                let sent = self.events.iter().position(|event| event["message"]["id"] == message)?;
                let read = self.events[sent..].iter().position(|event| event["member"]["id"] == member)?;
                Some(sent + read)
            }
            Kind::ChatMessages | Kind::AllMessages => self.events.iter().position(|event| event["id"] == message),
        }
    }
}

pub struct Observer {
    pub id: String,
    chat: String,
    socket: Socket,
    operations: HashMap<String, Operation>,
    /// The kinds and ids of the tested operations, in the order of subscription.
    tested: Vec<(Kind, String)>,
    pings: usize,
    /// The number of events of the reference feed up to the last settled step.
    settled: usize,
}

/// The id of the reference subscription to the chat feed.
const REFERENCE_FEED: &str = "ChatFeed";

/// A reference subscription of each kind, which receives the events of all subscriptions of the kind.
const REFERENCES: [(Kind, &str); 3] = [
    (
        Kind::ChatFeed,
        "subscription Reference($chat: ID!) { chatFeed(chatId: $chat) {
            __typename ... on FeedEvent { cursor } ... on MessageUpserted { change message { id } }
            ... on MemberUpserted { member { id user { id } } }
        } }",
    ),
    (Kind::ChatMessages, "subscription Reference($chat: ID!) { messageAdded(chatId: $chat) { id } }"),
    (Kind::AllMessages, "subscription Reference { messageAdded { id } }"),
];

impl Observer {
    pub async fn connect(user: &User, chat: &str) -> Self {
        let (socket, operations) = (user.socket().await, HashMap::new());
        let mut observer = Self {
            id: user.id.clone(),
            chat: chat.into(),
            socket,
            operations,
            tested: Vec::new(),
            pings: 0,
            settled: 0,
        };
        for (kind, query) in REFERENCES {
            let id = format!("{kind:?}");
            observer.start(&id, kind, query).await;
        }
        observer
    }

    /// Subscribes, and waits until the subscription has started.
    pub async fn subscribe(&mut self, kind: Kind, query: &str) {
        let id = format!("{}", self.tested.len());
        self.tested.push((kind, id.clone()));
        self.start(&id, kind, query).await;
    }

    async fn start(&mut self, id: &str, kind: Kind, query: &str) {
        self.socket.subscribe(id, query, json!({ "chat": self.chat })).await;
        self.operations.insert(id.into(), Operation { kind, events: Vec::new() });
        if kind == Kind::ChatFeed {
            // Each feed starts with its own FeedCaughtUp, which is not compared.
            while self.operations[id].events.is_empty() {
                self.recv().await;
            }
            let first = self.operations.get_mut(id).expect("an operation").events.pop().expect("an event");
            assert_eq!(first["__typename"], "FeedCaughtUp");
        } else {
            self.ping().await;
        }
    }

    /// Returns the events of a tested operation, by its index among the operations of its kind.
    pub fn events(&self, kind: Kind, index: usize) -> &[Value] {
        let (_, id) = self.tested.iter().filter(|(tested, _)| *tested == kind).nth(index).expect("an operation");
        &self.operations[id].events
    }

    /// Waits until all operations received the chat up to a version and a reader's new read position.
    pub async fn settle(&mut self, version: i64, reader: Option<&str>) {
        for _ in 0..2 {
            while !self.is_settled(version, reader) {
                self.recv().await;
            }
            // Events that were published together with the last one arrive before the answer.
            self.ping().await;
        }
        while !self.is_settled(version, reader) {
            self.recv().await;
        }
        self.settled = self.operations[REFERENCE_FEED].events.len();
    }

    /// Returns whether all operations receive this message and, in feeds, that a member has read it.
    ///
    /// A subscription to new messages sends nothing when it has started, so the marker shows that it has. The events up
    /// to the marker are removed.
    pub async fn receives_marker(&mut self, message: &str, member: &str) -> bool {
        let deadline = Instant::now() + MARKER_TIMEOUT;
        while !self.operations.values().all(|operation| operation.index_of(message, member).is_some()) {
            if timeout_at(deadline, self.recv()).await.is_err() {
                return false;
            }
        }
        for operation in self.operations.values_mut() {
            let end = operation.index_of(message, member).map_or(0, |index| index + 1);
            operation.events.drain(..end);
        }
        true
    }

    fn is_settled(&self, version: i64, reader: Option<&str>) -> bool {
        let reference = &self.operations[REFERENCE_FEED].events;
        let is_added = |event: &&Value| event["change"] == "ADDED";
        let newest = reference.iter().rev().find(is_added).map(|event| &event["message"]["id"]);
        let has_read = |user: &str| reference[self.settled..].iter().any(|event| event["member"]["user"]["id"] == user);
        reader.is_none_or(has_read)
            && self.operations.values().all(|operation| match operation.kind {
                Kind::ChatFeed => {
                    let is_caught_up = |event: &Value| position(&event["cursor"]) >= version;
                    operation.events.len() == reference.len() && operation.events.last().is_none_or(is_caught_up)
                }
                Kind::ChatMessages | Kind::AllMessages => operation.events.last().map(|event| &event["id"]) == newest,
            })
            && reference.last().is_some_and(|event| position(&event["cursor"]) >= version)
    }

    /// Waits for the result of a query: all earlier messages of the socket have arrived by then.
    async fn ping(&mut self) {
        self.pings += 1;
        let id = format!("ping {}", self.pings);
        self.socket.subscribe(&id, "{ __typename }", json!({})).await;
        while self.recv().await != id {}
    }

    /// Receives one message, and returns the id of a query that it completes.
    async fn recv(&mut self) -> String {
        let message = self.socket.recv().await;
        let id = message["id"].as_str().expect("an id").to_owned();
        match (message["type"].as_str(), self.operations.get_mut(&id)) {
            (Some("complete"), None) => id,
            (Some("next"), None) => String::new(),
            (Some("next"), Some(operation)) => {
                let payload = &message["payload"];
                let errors = payload["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
                assert!(errors.iter().all(is_denied_list), "{payload}");
                let event = payload["data"].as_object().and_then(|data| data.values().next()).expect("an event");
                operation.events.push(event.clone());
                String::new()
            }
            _ => panic!("{message}"),
        }
    }
}
