//! Every kind of message that nodes publish through Redis.
//!
//! The kinds that a step names, such as `Chat Changed`, are spelled as they are transmitted.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{FAR_FUTURE, compare, join_call, mutate, normalized, option_ids, permissions, policy, start_call};
use crate::consistency::cluster::harness::TestCluster;
use testkit::{RedisServer, User, postgres_test};

#[postgres_test]
async fn cluster_messages_keep_their_spelling() {
    let redis = RedisServer::start();
    let mut recorder = Recorder::subscribe(&redis);
    let mut cluster = TestCluster::start(2, Some(redis), &[]).await;
    cluster.wait_until_connected().await;
    recorder.record("nodes start", "Hello, Hello, Beat, Beat").await;
    let alice = &cluster.user_with(0, "alice", json!({ "permissions": permissions() })).await;
    let (bob, carol) = (&cluster.user_at(1, "bob").await, &cluster.user_at(1, "carol").await);

    let chat_input = |kind: &str, fields: Value| {
        let mut input = json!({ "kind": kind, "title": "Walk", "memberIds": [] });
        input.as_object_mut().expect("an object").append(&mut fields.as_object().expect("an object").clone());
        input
    };
    let group = chat_input("GROUP", json!({ "memberIds": ["bob"], "category": "DEPARTMENT", "policy": policy() }));
    let kinds = "Chat Changed, Chat Notified, Spent new chats";
    let group = &recorder.mutate(alice, "createChat", group, "chat.id", kinds).await;
    let ticket = json!({ "resource": { "type": "ticket", "id": "7" }, "title": "Ticket 7", "memberIds": ["alice"] });
    let mut direct = String::new();
    for (field, input) in [
        ("createChat", chat_input("GROUP", json!({ "category": "OPERATIONAL" }))),
        ("createChat", chat_input("GROUP", json!({ "category": "CUSTOM" }))),
        ("createChat", chat_input("CHANNEL", json!({}))),
        ("ensureResourceChat", ticket),
        ("openDirectChat", json!({ "userId": "bob" })),
    ] {
        direct = recorder.mutate(alice, field, input, "chat.id", "Chat Changed, Spent new chats").await;
    }

    // The position up to which the sender has read moves with each message.
    let sending = "Chat Changed, Members, Spent messages";
    let notifying = "Chat Changed, Members, Chat Notified, Spent messages";
    let to_group = |mut input: Value| {
        input["chatId"] = group.as_str().into();
        input
    };
    let text = to_group(json!({ "text": "Hello **everybody**", "mentionIds": ["bob"], "nonce": "text" }));
    let hello = &recorder.mutate(alice, "sendMessage", text, "message.id", notifying).await;
    let location = json!({ "latitude": 47.5, "longitude": 8.25, "name": "Hill", "address": "Hill road 1" });
    for (user, input, kinds) in [
        (bob, json!({ "text": "Hi", "replyToId": hello }), notifying),
        (bob, json!({ "text": "In a thread", "threadRootId": hello, "alsoInChat": true }), notifying),
        (alice, json!({ "text": "🎉", "mentionsEveryone": true }), notifying),
        (alice, json!({ "location": location }), sending),
    ] {
        recorder.mutate(user, "sendMessage", to_group(input), "message.id", kinds).await;
    }
    let poll = to_group(json!({ "poll": { "question": "When?", "options": ["now", "later"],
        "multipleChoice": true, "closesAt": FAR_FUTURE } }));
    let poll = &recorder.mutate(alice, "sendMessage", poll, "message.id", sending).await;
    let reaction = json!({ "messageId": hello, "emoji": "👍" });
    for (user, field, input, kinds) in [
        (
            bob,
            "votePoll",
            json!({ "messageId": poll, "optionIds": option_ids(bob, poll).await }),
            "Chat Changed, Spent reactions",
        ),
        (alice, "closePoll", json!({ "messageId": poll }), "Chat Changed"),
        (bob, "addReaction", reaction, "Chat Changed, Chat Notified, Spent reactions"),
        (alice, "editMessage", json!({ "messageId": hello, "text": "Hello all" }), "Chat Changed, Spent messages"),
        (alice, "pinMessage", json!({ "messageId": hello }), "Chat Changed"),
        (alice, "forwardMessage", json!({ "messageId": hello, "toChatId": direct }), sending),
        (alice, "deleteMessage", json!({ "messageId": hello }), "Chat Changed, Chat Notified"),
        (bob, "markRead", to_group(json!({})), "Members, Chat Notified"),
        (bob, "updateMyMembership", to_group(json!({ "notificationLevel": "MENTIONS" })), "Members"),
        (bob, "updateMyMembership", to_group(json!({ "notificationLevel": "NONE" })), "Members"),
        (alice, "silenceMember", to_group(json!({ "userId": "bob", "until": FAR_FUTURE })), "Chat Changed"),
        (alice, "setTyping", json!({ "chatId": direct, "typing": true }), "Typing, Spent signals"),
        (alice, "setTyping", json!({ "chatId": direct, "typing": false }), "Typing, Spent signals"),
    ] {
        recorder.mutate(user, field, input, "__typename", kinds).await;
    }

    let socket = bob.socket().await;
    recorder.record("connect", "Presence").await;
    for status in ["AWAY", "BUSY", "OFFLINE", "ONLINE"] {
        let input = json!({ "status": status, "currentChatId": direct });
        recorder.mutate(bob, "setPresence", input, "__typename", "Presence, Spent signals").await;
    }
    drop(socket);
    recorder.record("disconnect", "Presence").await;

    let (call, _, from) = start_call(alice, &direct, "AUDIO").await;
    recorder.record("startCall", "Chat Changed, Chat Called, Spent calls").await;
    let to = join_call(bob, &call).await;
    recorder.record("joinCall", "Chat Called, Spent calls").await;
    let signal = json!({ "callId": call, "fromConnectionId": from, "toConnectionId": to, "kind": "RENEGOTIATE",
        "payload": {} });
    let kinds = "Chat Called, Spent KiB of signals of calls, Spent signals of calls";
    recorder.mutate(alice, "sendSignal", signal, "__typename", kinds).await;
    let kinds = "Chat Changed, Chat Called, Spent signals of calls";
    recorder.mutate(alice, "endCall", json!({ "callId": call }), "__typename", kinds).await;
    let (call, ..) = start_call(alice, &direct, "AUDIO").await;
    recorder.record("startCall", "Chat Changed, Chat Called, Spent calls").await;
    let kinds = "Chat Changed, Chat Notified, Chat Called, Spent signals of calls";
    recorder.mutate(alice, "endCall", json!({ "callId": call }), "__typename", kinds).await;
    for (field, input, kinds) in [
        ("archiveChat", to_group(json!({ "archived": true })), "Chat Changed"),
        ("deleteChat", to_group(json!({})), "Chat Deleted"),
        ("revokeSessions", json!({ "userId": carol.id }), "Revoked"),
    ] {
        recorder.mutate(alice, field, input, "__typename", kinds).await;
    }

    // After its connection broke, a node asks the others to compare versions. Only nodes use RESP3.
    let redis = cluster.redis.as_ref().expect("a Redis");
    let clients = redis.cli(&["client", "list"]);
    for client in clients.lines().filter(|client| client.contains("resp=3")) {
        let id = client.split(' ').find_map(|field| field.strip_prefix("id=")).expect("an id");
        redis.cli(&["client", "kill", "id", id]);
    }
    recorder.record("reconnect", "Hello, Compare, Hello, Compare").await;
    cluster.retire(1).await;
    recorder.record("a node stops", "Bye, Envelope").await;
    compare("cluster.txt", &recorder.golden);
    cluster.end().await;
}

/// A subscriber of Redis that records everything that nodes publish.
struct Recorder {
    received: mpsc::UnboundedReceiver<String>,
    /// The messages that no step has recorded yet, each with its kind.
    unrecorded: Vec<(String, String)>,
    golden: String,
}

/// The messages that a node publishes together.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    node: String,
    number: u64,
    #[serde(rename = "at")]
    _sent_at: String,
    #[serde(borrow)]
    messages: &'a RawValue,
}

/// The consumption of rate limits, which a node publishes together.
#[derive(Deserialize)]
struct RateLimitUsage<'a> {
    #[serde(borrow, rename = "Spent")]
    usage: Vec<&'a RawValue>,
}

/// The time in which a step's messages have to arrive.
const RECORD_TIMEOUT: Duration = Duration::from_secs(30);
/// The length of the code before each envelope.
const CODE_CHARS: usize = 64;

impl Recorder {
    /// Subscribes to all channels.
    fn subscribe(redis: &RedisServer) -> Self {
        let mut connection =
            redis::Client::open(redis.url()).and_then(|client| client.get_connection()).expect("a connection to Redis");
        let (sender, received) = mpsc::unbounded_channel();
        let (ready_sender, ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut channels = connection.as_pubsub();
            channels.psubscribe("*").expect("a subscription");
            ready_sender.send(()).expect("the test waits");
            // The thread ends with Redis, or with the test.
            while let Ok(message) = channels.get_message() {
                let text = message.get_payload::<String>().expect("text");
                if sender.send(text).is_err() {
                    return;
                }
            }
        });
        ready.recv().expect("a subscription");
        Self { received, unrecorded: Vec::new(), golden: String::new() }
    }

    /// Waits for one message of each of these kinds, and records the messages in this order.
    ///
    /// Any other message is an error, except for kinds that nodes publish without a request.
    async fn record(&mut self, step: &str, kinds: &str) {
        self.golden += &format!("# {step}\n");
        // Heartbeats arrive all the time, so the limit is that of the whole step.
        let deadline = Instant::now() + RECORD_TIMEOUT;
        for kind in kinds.split(", ") {
            let index = loop {
                if let Some(index) = self.unrecorded.iter().position(|(found, _)| found == kind) {
                    break index;
                }
                let received = tokio::time::timeout_at(deadline, self.received.recv()).await;
                let text = received.unwrap_or_else(|_| panic!("{step}: no {kind} among {:?}", self.unrecorded));
                self.receive(&text.expect("an open subscription"));
            };
            let (_, text) = self.unrecorded.remove(index);
            self.golden += &format!("{kind}: {text}\n");
        }
        let unsolicited = ["Hello", "Beat", "Compare", "Presence", "Spent other changes"];
        self.unrecorded.retain(|(kind, _)| !unsolicited.iter().any(|prefix| kind.starts_with(prefix)));
        assert_eq!(self.unrecorded, [], "{step}");
        self.golden.push('\n');
    }

    /// Runs a mutation, records the published messages, and returns the text at a path of the payload.
    async fn mutate(&mut self, user: &User, field: &str, input: Value, path: &str, kinds: &str) -> String {
        let text = mutate(user, field, input, path).await;
        self.record(field, kinds).await;
        text
    }

    fn receive(&mut self, payload: &str) {
        let (code, text) = payload.split_at(CODE_CHARS);
        assert!(code.bytes().all(|digit| digit.is_ascii_hexdigit()), "{payload}");
        let envelope: Envelope = serde_json::from_str(text).expect("an envelope");
        assert!(envelope.node.starts_with("node-"), "{text}");
        let messages: Vec<&RawValue> = serde_json::from_str(envelope.messages.get()).expect("a list");
        for message in messages {
            if let Ok(RateLimitUsage { usage }) = serde_json::from_str(message.get()) {
                // One message has the consumption of all limits within a tenth of a second, in any order.
                for text in usage.into_iter().map(|usage| format!("{{\"Spent\":[{}]}}", usage.get())) {
                    let value = serde_json::from_str(&text).expect("JSON");
                    self.unrecorded.push((kind_of(&value), normalized(&text)));
                }
                continue;
            }
            let value: Value = serde_json::from_str(message.get()).expect("JSON");
            self.unrecorded.push((kind_of(&value), normalized(message.get())));
            if value == "Bye" {
                let number = format!("\"number\":{}", envelope.number);
                let envelope = text.replace(envelope.messages.get(), "[…]").replace(&number, "\"number\":…");
                self.unrecorded.push(("Envelope".to_owned(), normalized(&envelope)));
            }
        }
    }
}

/// Returns the variants of a message as they are transmitted, the outermost first.
fn kind_of(message: &Value) -> String {
    let variant = |value: &Value| match value.as_object() {
        Some(object) => object.keys().next().expect("a variant").clone(),
        None => value.as_str().expect("a variant").to_owned(),
    };
    match variant(message).as_str() {
        "Chat" => format!("Chat {}", variant(&message["Chat"]["what"])),
        "Spent" => format!("Spent {}", message["Spent"][0]["limit"].as_str().expect("a limit")),
        kind => kind.to_owned(),
    }
}
