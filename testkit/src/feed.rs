//! A subscription, read event by event.

use serde_json::Value;

use crate::Socket;

/// The subscription to a chat's feed with the fields that tests compare.
pub const CHAT_FEED: &str = "subscription($chat: ID!, $last: Int, $after: String) {
    chatFeed(chatId: $chat, last: $last, after: $after) {
        __typename
        ... on FeedEvent { cursor }
        ... on ChatUpserted { chat { id title version } }
        ... on MessageUpserted { change message {
            id seq kind text editedAt deletedAt system { kind } sender { id name } reactions { emoji count } replyTo { id }
        } }
        ... on MemberUpserted { member { id role user { id } } }
        ... on MemberRemoved { chatId userId }
        ... on FeedReset { reason }
    }
}";

/// Returns the version in a feed's cursor.
///
/// The format is private to the server; only these tests decode it.
pub fn position(cursor: &Value) -> i64 {
    use base64::Engine as _;
    let cursor = cursor.as_str().expect("each event has a cursor");
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(cursor).expect("a cursor");
    i64::from_be_bytes(bytes[24..32].try_into().expect("a version"))
}

/// A subscription on its own WebSocket.
pub struct Feed {
    pub socket: Socket,
    /// The version in the last cursor received; 0 before the first one.
    position: i64,
}

impl Feed {
    /// Wraps a WebSocket on which a subscription has been started.
    pub fn new(socket: Socket) -> Self {
        Self { socket, position: 0 }
    }

    /// Returns the next event.
    pub async fn next(&mut self) -> Value {
        let message = self.socket.recv().await;
        assert_eq!(message["type"], "next", "{message}");
        let payload = &message["payload"];
        assert!(payload.get("errors").is_none(), "{payload}");
        let data = payload["data"].as_object().and_then(|data| data.values().next());
        let event = data.unwrap_or_else(|| panic!("no event: {payload}")).clone();
        if event["cursor"].is_string() {
            self.position = position(&event["cursor"]);
        }
        event
    }

    /// Returns the next event that is not a read position.
    ///
    /// Read positions are published with a delay, and they take no version.
    pub async fn next_change(&mut self) -> Value {
        loop {
            let previous = self.position;
            let event = self.next().await;
            if event["__typename"] != "MemberUpserted" || self.position > previous {
                return event;
            }
        }
    }

    /// Returns the next event that is not a read position, and asserts its type.
    pub async fn expect(&mut self, kind: &str) -> Value {
        let event = self.next_change().await;
        assert_eq!(event["__typename"], kind, "{event}");
        event
    }

    /// Returns all events until the feed has caught up.
    pub async fn catch_up(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let event = self.next().await;
            if event["__typename"] == "FeedCaughtUp" {
                return events;
            }
            events.push(event);
        }
    }

    /// Skips events until one of this type, and returns it.
    pub async fn next_of_type(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next().await;
            if event["__typename"] == kind {
                return event;
            }
        }
    }

    /// Skips events until the error that ends the feed, and returns its extensions.
    pub async fn error(&mut self) -> Value {
        loop {
            let message = self.socket.recv().await;
            let errors = match message["type"].as_str() {
                Some("next") => &message["payload"]["errors"],
                Some("error") => &message["payload"],
                _ => panic!("ended without an error: {message}"),
            };
            let extensions = &errors[0]["extensions"];
            if extensions["code"].is_string() {
                return extensions.clone();
            }
        }
    }

    /// Skips events until the error that ends the feed, and returns its code.
    pub async fn error_code(&mut self) -> String {
        self.error().await["code"].as_str().expect("a code").to_owned()
    }
}
