//! Every kind of message that nodes publish through Redis.
//!
//! The kinds that a step names, such as `Chat Changed`, are spelled as they are transmitted.

use std::time::Duration;

use rmpv::Value as Packed;
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
    let kinds = "Chat Changed, User Changed, User Changed, User Notified, Spent new chats";
    let group = &recorder.mutate(alice, "createChat", group, "chat.id", kinds).await;
    let ticket = json!({ "resource": { "type": "ticket", "id": "7" }, "title": "Ticket 7", "memberIds": ["alice"] });
    let mut direct = String::new();
    let (of_one, of_two) = ("User Changed", "User Changed, User Changed");
    for (field, input, users) in [
        ("createChat", chat_input("GROUP", json!({ "category": "OPERATIONAL" })), of_one),
        ("createChat", chat_input("GROUP", json!({ "category": "CUSTOM" })), of_one),
        ("createChat", chat_input("CHANNEL", json!({})), of_one),
        ("ensureResourceChat", ticket, of_one),
        ("openDirectChat", json!({ "userId": "bob" }), of_two),
    ] {
        let kinds = format!("Chat Changed, {users}, Spent new chats");
        direct = recorder.mutate(alice, field, input, "chat.id", &kinds).await;
    }

    // The position up to which the sender has read moves with each message.
    let sending = "Chat Changed, Members, Spent messages";
    let notifying = "Chat Changed, Members, User Notified, Spent messages";
    let notifying_both = "Chat Changed, Members, User Notified, User Notified, Spent messages";
    let to_group = |mut input: Value| {
        input["chatId"] = group.as_str().into();
        input
    };
    let text = to_group(json!({ "text": "Hello **everybody**", "mentionIds": ["bob"], "nonce": "text" }));
    let hello = &recorder.mutate(alice, "sendMessage", text, "message.id", notifying).await;
    let location = json!({ "latitude": 47.5, "longitude": 8.25, "name": "Hill", "address": "Hill road 1" });
    for (user, input, kinds) in [
        (bob, json!({ "text": "Hi", "replyToId": hello }), notifying_both),
        (bob, json!({ "text": "In a thread", "threadRootId": hello, "alsoInChat": true }), notifying),
        (alice, json!({ "text": "🎉", "mentionsEveryone": true }), notifying_both),
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
        (bob, "addReaction", reaction, "Chat Changed, User Notified, Spent reactions"),
        (alice, "editMessage", json!({ "messageId": hello, "text": "Hello all" }), "Chat Changed, Spent messages"),
        (alice, "pinMessage", json!({ "messageId": hello }), "Chat Changed"),
        (alice, "forwardMessage", json!({ "messageId": hello, "toChatId": direct }), sending),
        (alice, "deleteMessage", json!({ "messageId": hello }), "Chat Changed, User Notified"),
        (bob, "markRead", to_group(json!({})), "Members, User Notified"),
        (bob, "updateMyMembership", to_group(json!({ "notificationLevel": "MENTIONS" })), "Members"),
        (bob, "updateMyMembership", to_group(json!({ "notificationLevel": "NONE" })), "Members"),
        (
            alice,
            "silenceMember",
            to_group(json!({ "userId": "bob", "until": FAR_FUTURE })),
            "Chat Changed, User Changed",
        ),
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
    recorder.record("startCall", "Chat Changed, Chat Called, User Called, User Called, Spent calls").await;
    let to = join_call(bob, &call).await;
    recorder.record("joinCall", "Chat Called, User Called, User Called, Spent calls").await;
    let signal = json!({ "callId": call, "fromConnectionId": from, "toConnectionId": to, "kind": "RENEGOTIATE",
        "payload": {} });
    let kinds = "Chat Called, Spent KiB of signals of calls, Spent signals of calls";
    recorder.mutate(alice, "sendSignal", signal, "__typename", kinds).await;
    let kinds = "Chat Changed, Chat Called, User Called, User Called, Spent signals of calls";
    recorder.mutate(alice, "endCall", json!({ "callId": call }), "__typename", kinds).await;
    let (call, ..) = start_call(alice, &direct, "AUDIO").await;
    recorder.record("startCall", "Chat Changed, Chat Called, User Called, User Called, Spent calls").await;
    let kinds = "Chat Changed, User Notified, Chat Called, User Called, User Called, Spent signals of calls";
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
    received: mpsc::UnboundedReceiver<Vec<u8>>,
    /// The messages that no step has recorded yet, each with its kind.
    unrecorded: Vec<(String, String)>,
    golden: String,
}

/// The time in which a step's messages have to arrive.
const RECORD_TIMEOUT: Duration = Duration::from_secs(30);
/// The length of the version and the code before the parts of a payload.
const PREFIX_BYTES: usize = 33;

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
                if sender.send(message.get_payload_bytes().to_vec()).is_err() {
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
                let payload = received.unwrap_or_else(|_| panic!("{step}: no {kind} among {:?}", self.unrecorded));
                self.receive(&payload.expect("an open subscription"));
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

    fn receive(&mut self, payload: &[u8]) {
        let (prefix, mut rest) = payload.split_at(PREFIX_BYTES);
        assert_eq!(prefix[0], 4, "the version of the format");
        let mut parts = Vec::new();
        while let Some((length, after)) = rest.split_first_chunk() {
            let (mut part, after) = after.split_at(u32::from_be_bytes(*length) as usize);
            parts.push(rmpv::decode::read_value(&mut part).expect("MessagePack"));
            assert!(part.is_empty(), "a part is one value");
            rest = after;
        }
        let header = parts.remove(0);
        assert!(header["node"].as_str().expect("a name").starts_with("node-"), "{header}");
        for message in parts {
            if let Some(usage) = message["Spent"].as_array() {
                // One message has the consumption of all limits within a tenth of a second, in any order.
                for usage in usage {
                    self.unrecorded.push((
                        format!("Spent {}", usage["limit"].as_str().expect("a limit")),
                        normalized(&format!("{{\"Spent\":[{}]}}", rendered(usage))),
                    ));
                }
                continue;
            }
            self.unrecorded.push((kind_of(&message), normalized(&rendered(&message))));
            if message.as_str() == Some("Bye") {
                let number = format!("\"number\":{}", header["number"]);
                let header = rendered(&header).replace(&number, "\"number\":…");
                self.unrecorded.push(("Envelope".to_owned(), normalized(&header)));
            }
        }
    }
}

/// Returns the variants of a message as they are transmitted, the outermost first.
fn kind_of(message: &Packed) -> String {
    let variant = |value: &Packed| match value.as_map() {
        Some(entries) => entries[0].0.as_str().expect("a variant").to_owned(),
        None => value.as_str().expect("a variant").to_owned(),
    };
    match variant(message).as_str() {
        kind @ ("Chat" | "User") => format!("{kind} {}", variant(&message[kind]["what"])),
        kind => kind.to_owned(),
    }
}

/// Returns a value as JSON, with the bytes of ids as `<id>`.
fn rendered(value: &Packed) -> String {
    match value {
        Packed::Map(entries) => {
            let entries = entries.iter().map(|(key, value)| format!("{}:{}", rendered(key), rendered(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
        }
        Packed::Array(values) => format!("[{}]", values.iter().map(rendered).collect::<Vec<_>>().join(",")),
        Packed::Binary(bytes) if bytes.len() == 16 => "\"<id>\"".to_owned(),
        Packed::Nil => "null".to_owned(),
        value => value.to_string(),
    }
}
