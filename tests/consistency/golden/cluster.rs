//! Every kind of message that nodes publish through Redis.
//!
//! The kinds that a step names, such as `Chat Changed`, are spelled as they are transmitted.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{FAR, compare, join_call, make, normalised, options, permissions, policy, start_call};
use crate::consistency::cluster::harness::TestCluster;
use testkit::{RedisServer, User, postgres_test};

#[postgres_test]
async fn cluster_messages_keep_their_spelling() {
    let redis = RedisServer::start();
    let mut wire = Wire::open(&redis);
    let mut cluster = TestCluster::start(2, Some(redis), &[]).await;
    cluster.wait_until_connected().await;
    wire.note("nodes start", "Hello, Hello, Beat, Beat").await;
    let alice = &cluster.user_with(0, "alice", json!({ "permissions": permissions() })).await;
    let (bob, carol) = (&cluster.user_at(1, "bob").await, &cluster.user_at(1, "carol").await);

    let chat = |kind: &str, more: Value| {
        let mut input = json!({ "kind": kind, "title": "Walk", "memberIds": [] });
        input.as_object_mut().expect("an object").append(&mut more.as_object().expect("an object").clone());
        input
    };
    let group = chat("GROUP", json!({ "memberIds": ["bob"], "category": "DEPARTMENT", "policy": policy() }));
    let kinds = "Chat Changed, Chat Notified, Spent new chats";
    let group = &wire.step(alice, "createChat", group, "chat.id", kinds).await;
    let ticket = json!({ "resource": { "type": "ticket", "id": "7" }, "title": "Ticket 7", "memberIds": [] });
    let mut direct = String::new();
    for (field, input) in [
        ("createChat", chat("GROUP", json!({ "category": "OPERATIONAL" }))),
        ("createChat", chat("GROUP", json!({ "category": "CUSTOM" }))),
        ("createChat", chat("CHANNEL", json!({}))),
        ("ensureResourceChat", ticket),
        ("openDirectChat", json!({ "userId": "bob" })),
    ] {
        direct = wire.step(alice, field, input, "chat.id", "Chat Changed, Spent new chats").await;
    }

    // The position up to which the sender has read moves with each message.
    let sent = "Chat Changed, Chat Moved, Spent messages";
    let notifying = "Chat Changed, Chat Moved, Chat Notified, Spent messages";
    let to_group = |mut input: Value| {
        input["chatId"] = group.as_str().into();
        input
    };
    let text = to_group(json!({ "text": "Hello **everybody**", "mentionIds": ["bob"], "nonce": "text" }));
    let hello = &wire.step(alice, "sendMessage", text, "message.id", notifying).await;
    let place = json!({ "latitude": 47.5, "longitude": 8.25, "name": "Hill", "address": "Hill road 1" });
    for (who, input, kinds) in [
        (bob, json!({ "text": "Hi", "replyToId": hello }), notifying),
        (bob, json!({ "text": "In a thread", "threadRootId": hello, "alsoInChat": true }), notifying),
        (alice, json!({ "text": "🎉", "mentionsEveryone": true }), notifying),
        (alice, json!({ "location": place }), sent),
    ] {
        wire.step(who, "sendMessage", to_group(input), "message.id", kinds).await;
    }
    let poll = to_group(json!({ "poll": { "question": "When?", "options": ["now", "later"],
        "multipleChoice": true, "closesAt": FAR } }));
    let poll = &wire.step(alice, "sendMessage", poll, "message.id", sent).await;
    let reaction = json!({ "messageId": hello, "emoji": "👍" });
    for (who, field, input, kinds) in [
        (
            bob,
            "votePoll",
            json!({ "messageId": poll, "optionIds": options(bob, poll).await }),
            "Chat Changed, Spent reactions",
        ),
        (alice, "closePoll", json!({ "messageId": poll }), "Chat Changed"),
        (bob, "addReaction", reaction, "Chat Changed, Chat Notified, Spent reactions"),
        (alice, "editMessage", json!({ "messageId": hello, "text": "Hello all" }), "Chat Changed"),
        (alice, "pinMessage", json!({ "messageId": hello }), "Chat Changed"),
        (alice, "forwardMessage", json!({ "messageId": hello, "toChatId": direct }), sent),
        (alice, "deleteMessage", json!({ "messageId": hello }), "Chat Changed, Chat Notified"),
        (bob, "markRead", to_group(json!({})), "Chat Moved, Chat Notified"),
        (bob, "updateMyMembership", to_group(json!({ "notificationLevel": "MENTIONS" })), "Chat Moved"),
        (bob, "updateMyMembership", to_group(json!({ "notificationLevel": "NONE" })), "Chat Moved"),
        (alice, "silenceMember", to_group(json!({ "userId": "bob", "until": FAR })), "Chat Changed"),
        (alice, "setTyping", json!({ "chatId": direct, "typing": true }), "Typing, Spent signals"),
        (alice, "setTyping", json!({ "chatId": direct, "typing": false }), "Typing, Spent signals"),
    ] {
        wire.step(who, field, input, "__typename", kinds).await;
    }

    let socket = bob.socket().await;
    wire.note("connect", "Presence").await;
    for status in ["AWAY", "BUSY", "OFFLINE", "ONLINE"] {
        let input = json!({ "status": status, "currentChatId": direct });
        wire.step(bob, "setPresence", input, "__typename", "Presence, Spent signals").await;
    }
    drop(socket);
    wire.note("disconnect", "Presence").await;

    let (call, from) = start_call(alice, &direct, "AUDIO").await;
    wire.note("startCall", "Chat Changed, Chat Called, Spent calls").await;
    let to = join_call(bob, &call).await;
    wire.note("joinCall", "Chat Called, Spent calls").await;
    let signal = json!({ "callId": call, "fromParticipantId": from, "toParticipantId": to, "kind": "RENEGOTIATE",
        "payload": {} });
    wire.step(alice, "sendSignal", signal, "__typename", "Chat Called, Spent signals of calls").await;
    let ended = "Chat Changed, Chat Called, Spent signals of calls";
    wire.step(alice, "endCall", json!({ "callId": call }), "__typename", ended).await;
    let (call, _) = start_call(alice, &direct, "AUDIO").await;
    wire.note("startCall", "Chat Changed, Chat Called, Spent calls").await;
    let missed = "Chat Changed, Chat Notified, Chat Called, Spent signals of calls";
    wire.step(alice, "endCall", json!({ "callId": call }), "__typename", missed).await;
    for (field, input, kinds) in [
        ("archiveChat", to_group(json!({ "archived": true })), "Chat Changed"),
        ("deleteChat", to_group(json!({})), "Chat Deleted"),
        ("revokeSessions", json!({ "userId": carol.id }), "Revoked"),
    ] {
        wire.step(alice, field, input, "__typename", kinds).await;
    }

    // Nodes whose connection broke ask the others to compare; they alone speak RESP3.
    let redis = cluster.redis.as_ref().expect("a Redis");
    let clients = redis.cli(&["client", "list"]);
    for client in clients.lines().filter(|client| client.contains("resp=3")) {
        let id = client.split(' ').find_map(|field| field.strip_prefix("id=")).expect("an id");
        redis.cli(&["client", "kill", "id", id]);
    }
    wire.note("reconnect", "Hello, Compare, Hello, Compare").await;
    cluster.retire(1).await;
    wire.note("a node stops", "Bye, Envelope").await;
    compare("cluster.txt", &wire.golden);
    cluster.end().await;
}

/// All that nodes publish, as a further subscriber of Redis receives it.
struct Wire {
    received: mpsc::UnboundedReceiver<String>,
    waiting: Vec<(String, String)>,
    golden: String,
}

/// What one node publishes at once.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    node: String,
    #[serde(borrow)]
    words: &'a RawValue,
}

impl Wire {
    /// Subscribes to all channels, whatever their names begin with.
    fn open(redis: &RedisServer) -> Self {
        let mut connection =
            redis::Client::open(redis.url()).and_then(|client| client.get_connection()).expect("a connection to Redis");
        let (sender, received) = mpsc::unbounded_channel();
        let (subscribed, is_subscribed) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut all = connection.as_pubsub();
            all.psubscribe("*").expect("a subscription");
            subscribed.send(()).expect("the test waits");
            // Ends with Redis, or with the test.
            while let Ok(message) = all.get_message() {
                let text = message.get_payload::<String>().expect("text");
                if sender.send(text).is_err() {
                    return;
                }
            }
        });
        is_subscribed.recv().expect("a subscription");
        Self { received, waiting: Vec::new(), golden: String::new() }
    }

    /// Waits for one message of each of these kinds and notes them in this order.
    ///
    /// Any other message is an error, except for kinds that nodes publish without a request.
    async fn note(&mut self, step: &str, kinds: &str) {
        self.golden += &format!("# {step}\n");
        for kind in kinds.split(", ") {
            let place = loop {
                if let Some(place) = self.waiting.iter().position(|(waiting, _)| waiting == kind) {
                    break place;
                }
                let received = tokio::time::timeout(Duration::from_secs(30), self.received.recv()).await;
                let text = received.unwrap_or_else(|_| panic!("{step}: no {kind} among {:?}", self.waiting));
                self.receive(&text.expect("the subscription goes on"));
            };
            let (_, text) = self.waiting.remove(place);
            self.golden += &format!("{kind}: {text}\n");
        }
        let unsolicited = ["Hello", "Beat", "Compare", "Presence"];
        self.waiting.retain(|(kind, _)| !unsolicited.contains(&kind.as_str()));
        assert_eq!(self.waiting, [], "{step}");
        self.golden.push('\n');
    }

    /// Runs a mutation and notes what it makes the nodes publish; returns what is at a path of its payload.
    async fn step(&mut self, who: &User, field: &str, input: Value, path: &str, kinds: &str) -> String {
        let made = make(who, field, input, path).await;
        self.note(field, kinds).await;
        made
    }

    fn receive(&mut self, text: &str) {
        let envelope: Envelope = serde_json::from_str(text).expect("an envelope");
        assert!(envelope.node.starts_with("node-"), "{text}");
        let words: Vec<&RawValue> = serde_json::from_str(envelope.words.get()).expect("a list");
        for word in words {
            let value: Value = serde_json::from_str(word.get()).expect("JSON");
            self.waiting.push((kind_of(&value), normalised(word.get())));
            if value == "Bye" {
                let envelope = text.replace(envelope.words.get(), "[…]");
                self.waiting.push(("Envelope".to_owned(), normalised(&envelope)));
            }
        }
    }
}

/// Returns the variants of a message as they are spelled: outermost first.
fn kind_of(word: &Value) -> String {
    let variant = |value: &Value| match value.as_object() {
        Some(object) => object.keys().next().expect("a variant").clone(),
        None => value.as_str().expect("a variant").to_owned(),
    };
    match variant(word).as_str() {
        "Chat" => format!("Chat {}", variant(&word["Chat"]["what"])),
        "Spent" => format!("Spent {}", word["Spent"][0]["limit"].as_str().expect("a limit")),
        kind => kind.to_owned(),
    }
}
