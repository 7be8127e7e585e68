//! Clusters: several nodes behave as one server.

mod bans;
mod call_connections;
mod call_outages;
mod follower;
pub mod harness;
mod revocation;
pub mod workload;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::keys::unix_seconds;
use testkit::{Feed, RedisServer, Socket, User, postgres_test, wait_until};

use crate::consistency::cluster::harness::TestCluster;
use crate::consistency::cluster_routing::channel_name;

/// The time in which an event reaches other nodes: a second, and a margin for a busy machine.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(3);

const PRESENCE: &str = "subscription($ids: [ID!]!) { presence(userIds: $ids) { user { id } status } }";
const TYPING: &str = "subscription($chat: ID!) { typing(chatId: $chat) { users { id } } }";

/// Returns a feed that has caught up.
pub async fn caught_up_feed(user: &User, chat: &str) -> Feed {
    let mut feed = user.feed(chat, None, None).await;
    feed.expect("FeedCaughtUp").await;
    feed
}

/// Returns the next event that satisfies a condition.
async fn wait_for_event(feed: &mut Feed, condition: impl Fn(&Value) -> bool) -> Value {
    loop {
        let event = feed.next().await;
        if condition(&event) {
            return event;
        }
    }
}

/// Starts a cluster of two nodes, with Alice at one node, Bob at the other, and a group of both.
async fn start_with_alice_and_bob() -> (TestCluster, User, User, String) {
    let cluster = TestCluster::start_two().await;
    let (alice, bob) = (cluster.user_at(0, "alice").await, cluster.user_at(1, "bob").await);
    let chat = alice.group("Two nodes", &[&bob]).await;
    cluster.wait_until_connected().await;
    (cluster, alice, bob, chat)
}

/// Asserts that messages, read positions and typing reach the other node, in both directions.
async fn assert_events_cross_nodes(cluster: &TestCluster, alice: &User, bob: &User, chat: &str) {
    for (sender, reader) in [(alice, bob), (bob, alice)] {
        let mut feed = caught_up_feed(reader, chat).await;
        let start = Instant::now();
        let id = sender.send(chat, "hello").await;
        assert_eq!(feed.expect("MessageUpserted").await["message"]["text"], "hello");
        sender.mutate_ok("editMessage", json!({ "messageId": id, "text": "hello again" })).await;
        assert_eq!(feed.expect("MessageUpserted").await["message"]["text"], "hello again");
        sender.mutate_ok("addReaction", json!({ "messageId": id, "emoji": "👍" })).await;
        let reactions = json!([{ "emoji": "👍", "count": 1 }]);
        assert_eq!(feed.expect("MessageUpserted").await["message"]["reactions"], reactions);
        sender.delete_message(&id).await;
        assert_ne!(feed.expect("MessageUpserted").await["message"]["deletedAt"], json!(null));
        // The events came through Redis, not by the reconciliation with the database.
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}: {}", start.elapsed(), cluster.node(0).log());

        let query = "subscription($chat: ID!) { chatFeed(chatId: $chat) { __typename
            ... on MemberUpserted { member { user { id } lastReadMessage { id } } } } }";
        let mut receipts = reader.subscribe(query, json!({ "chat": chat })).await;
        wait_for_event(&mut receipts, |event| event["__typename"] == "FeedCaughtUp").await;
        let id = reader.send(chat, "read this").await;
        sender.mutate_ok("markRead", json!({ "chatId": chat })).await;
        let has_read = |event: &Value| {
            event["member"]["user"]["id"] == sender.id.as_str()
                && event["member"]["lastReadMessage"]["id"] == id.as_str()
        };
        wait_for_event(&mut receipts, has_read).await;

        let query = "subscription($chat: ID!) { chatFeed(chatId: $chat) { __typename
            ... on MessageUpserted { change message { id thread { unreadCount unreadMentionCount } } } } }";
        sender.send_message(chat, json!({ "text": "read this too", "threadRootId": id })).await;
        let elsewhere = cluster.at(usize::from(reader.id == alice.id), reader);
        let mut threads = elsewhere.subscribe(query, json!({ "chat": chat })).await;
        wait_for_event(&mut threads, |event| event["__typename"] == "FeedCaughtUp").await;
        reader.mutate_ok("markThreadRead", json!({ "threadRootId": id })).await;
        let read_thread = json!({ "id": id, "thread": { "unreadCount": 0, "unreadMentionCount": 0 } });
        let is_read = |event: &Value| event["change"] == "THREAD" && event["message"] == read_thread;
        wait_for_event(&mut threads, is_read).await;

        let mut typing = reader.subscribe(TYPING, json!({ "chat": chat })).await;
        wait_for_event(&mut typing, |list| list["users"] == json!([])).await;
        sender.mutate_ok("setTyping", json!({ "chatId": chat, "typing": true })).await;
        wait_for_event(&mut typing, |list| list["users"] == json!([{ "id": sender.id }])).await;
        sender.send(chat, "typed").await;
        wait_for_event(&mut typing, |list| list["users"] == json!([])).await;
    }
}

#[postgres_test]
async fn events_reach_members_on_other_nodes() {
    let (cluster, alice, bob, chat) = start_with_alice_and_bob().await;
    assert_events_cross_nodes(&cluster, &alice, &bob, &chat).await;
    cluster.end().await;
}

#[postgres_test]
async fn events_reach_members_through_redis_cluster() {
    let settings = [("PARLOR_REDIS_CLUSTER", "true")];
    let cluster = TestCluster::start(2, Some(RedisServer::start_cluster()), &settings).await;
    let (alice, bob) = (cluster.user_at(0, "alice").await, cluster.user_at(1, "bob").await);
    let chat = alice.group("Two nodes", &[&bob]).await;
    cluster.wait_until_connected().await;
    let redis = cluster.redis.as_ref().expect("a Redis");
    let shard_channels = || redis.cli(&["pubsub", "shardchannels"]);
    assert_eq!(shard_channels().trim(), "parlor:nodes", "nobody follows a chat");
    assert_events_cross_nodes(&cluster, &alice, &bob, &chat).await;
    let channel = channel_name(&chat);
    assert!(shard_channels().lines().any(|line| line == channel), "{channel} in {}", shard_channels());
    cluster.end().await;
}

/// Subscribes to the presence of these users.
async fn subscribe_presence(subscriber: &User, user_ids: &[&str]) -> Feed {
    subscriber.subscribe(PRESENCE, json!({ "ids": user_ids })).await
}

async fn wait_for_status(presence: &mut Feed, user_id: &str, status: &str) {
    wait_for_event(presence, |event| event["user"]["id"] == user_id && event["status"] == status).await;
}

#[postgres_test]
async fn presence_is_consistent_when_nodes_join_or_die() {
    let redis = Some(RedisServer::start());
    let mut cluster = TestCluster::start(2, redis, &[("PARLOR_PRESENCE_GRACE_SECONDS", "1")]).await;
    let (alice, bob) = (cluster.user_at(0, "alice").await, cluster.user_at(1, "bob").await);
    cluster.wait_until_connected().await;
    let mut alice_presence = subscribe_presence(&bob, &["alice"]).await;
    wait_for_status(&mut alice_presence, "alice", "OFFLINE").await;
    let mut bob_presence = subscribe_presence(&alice, &["bob"]).await;
    wait_for_status(&mut bob_presence, "bob", "ONLINE").await;
    wait_for_status(&mut alice_presence, "alice", "ONLINE").await;
    alice.mutate_ok("setPresence", json!({ "status": "BUSY" })).await;
    wait_for_status(&mut alice_presence, "alice", "BUSY").await;

    // A node that joins later receives the presence of all users.
    cluster.add_node();
    cluster.wait_until_connected().await;
    let carol = cluster.user_at(2, "carol").await;
    let mut both_presences = subscribe_presence(&carol, &["alice", "bob"]).await;
    wait_for_status(&mut both_presences, "alice", "BUSY").await;
    let mut both_presences = subscribe_presence(&carol, &["alice", "bob"]).await;
    wait_for_status(&mut both_presences, "bob", "ONLINE").await;

    drop(bob_presence);
    wait_for_status(&mut both_presences, "alice", "OFFLINE").await;
    wait_for_status(&mut alice_presence, "alice", "OFFLINE").await;

    // The users of a node that dies become offline, and the restarted node does not restore them.
    cluster.kill(1);
    cluster.restart(1);
    wait_for_status(&mut both_presences, "bob", "OFFLINE").await;
    cluster.end().await;
}

#[postgres_test]
async fn presence_recovers_after_node_pause() {
    let cluster = TestCluster::start(2, Some(RedisServer::start()), &[("PARLOR_PRESENCE_GRACE_SECONDS", "1")]).await;
    let (alice, bob) = (cluster.user_at(0, "alice").await, cluster.user_at(1, "bob").await);
    cluster.wait_until_connected().await;
    let _socket = bob.socket().await;
    let mut bob_presence = subscribe_presence(&alice, &["bob"]).await;
    wait_for_status(&mut bob_presence, "bob", "ONLINE").await;
    cluster.node(1).signal("STOP");
    wait_for_status(&mut bob_presence, "bob", "OFFLINE").await;
    cluster.node(1).signal("CONT");
    wait_for_status(&mut bob_presence, "bob", "ONLINE").await;
    cluster.end().await;
}

#[postgres_test]
async fn node_without_messages_reconciles_from_database() {
    let cluster = TestCluster::start(2, None, &[]).await;
    let (alice, bob) = (cluster.user_at(0, "alice").await, cluster.user_at(1, "bob").await);
    let chat = alice.group("Two nodes", &[&bob]).await;
    let [removed, deleted] = [alice.group("Removed", &[&bob]).await, alice.group("Deleted", &[&bob]).await];
    let mut inbox = bob.subscribe("subscription { messageAdded { text chat { id } } }", json!({})).await;
    let mut feeds = [caught_up_feed(&bob, &removed).await, caught_up_feed(&bob, &deleted).await];
    // Bob sends at his own node, so that the subscription is known to have started.
    send_until_received(&mut inbox, &bob, &removed).await;
    alice.send(&chat, "not published").await;
    alice.mutate_ok("removeMember", json!({ "chatId": removed, "userId": "bob" })).await;
    alice.mutate_ok("deleteChat", json!({ "chatId": deleted })).await;
    wait_for_event(&mut inbox, |message| message["text"] == "not published").await;
    for feed in &mut feeds {
        assert_eq!(feed.error_code().await, "FORBIDDEN");
    }
    cluster.end().await;
}

#[postgres_test]
async fn membership_change_takes_effect_on_other_nodes() {
    let (cluster, alice, bob, chat) = start_with_alice_and_bob().await;
    let mut inbox = bob.subscribe("subscription { messageAdded { text chat { id } } }", json!({})).await;
    let mut feed = caught_up_feed(&bob, &chat).await;
    let mut typing = bob.subscribe(TYPING, json!({ "chat": chat })).await;
    wait_for_event(&mut typing, |list| list["users"] == json!([])).await;
    // The subscription has started when it receives a message.
    send_until_received(&mut inbox, &alice, &chat).await;

    let start = Instant::now();
    alice.mutate_ok("removeMember", json!({ "chatId": chat, "userId": "bob" })).await;
    assert_eq!(feed.error_code().await, "FORBIDDEN");
    assert_eq!(typing.error_code().await, "FORBIDDEN");
    assert!(start.elapsed() < DELIVERY_TIMEOUT, "{:?}", start.elapsed());
    alice.send(&chat, "sent while removed").await;

    let start = Instant::now();
    alice.add_member(&chat, "bob", "MEMBER").await;
    alice.send(&chat, "welcome back").await;
    let is_new = |message: &Value| message["text"].is_string() && message["text"] != "are you there?";
    let received = wait_for_event(&mut inbox, is_new).await;
    assert_eq!((&received["text"], &received["chat"]["id"]), (&json!("welcome back"), &json!(chat)));
    let other = alice.group("New", &[&bob]).await;
    alice.send(&other, "and here").await;
    wait_for_event(&mut inbox, |message| message["text"] == "and here").await;
    assert!(start.elapsed() < 2 * DELIVERY_TIMEOUT, "{:?}", start.elapsed());

    let mut feed = caught_up_feed(&bob, &other).await;
    let start = Instant::now();
    alice.mutate_ok("deleteChat", json!({ "chatId": other })).await;
    assert_eq!(feed.error_code().await, "FORBIDDEN");
    assert!(start.elapsed() < DELIVERY_TIMEOUT, "{:?}", start.elapsed());
    cluster.end().await;
}

/// Sends messages until a subscription receives one.
async fn send_until_received(inbox: &mut Feed, sender: &User, chat: &str) {
    loop {
        sender.send(chat, "are you there?").await;
        if tokio::time::timeout(Duration::from_secs(1), inbox.next()).await.is_ok() {
            return;
        }
    }
}

#[postgres_test]
async fn rate_limit_usage_is_shared_between_nodes() {
    let cluster = TestCluster::start(2, Some(RedisServer::start()), &[("PARLOR_SENDS_PER_MINUTE", "60")]).await;
    let alice = cluster.user_at(0, "alice").await;
    let chat = alice.group("Loud", &[]).await;
    cluster.wait_until_connected().await;
    let send =
        async |user: &User| user.try_send_message(&chat, json!({ "text": "!" })).await.body.get("errors").is_none();
    while send(&alice).await {}
    let at_other_node = cluster.at(1, &alice);
    let mut sent = 0;
    while send(&at_other_node).await {
        sent += 1;
    }
    assert!(sent < 30, "{sent} messages at the other node, where the limit is 60 in total");
    cluster.end().await;
}

/// Opens a user's WebSocket, and asserts that it executes operations.
async fn open_socket(user: &User) -> Socket {
    let mut socket = user.socket().await;
    socket.subscribe("1", "{ viewer { user { id } } }", json!({})).await;
    assert_eq!(socket.recv().await["type"], "next");
    socket
}

#[postgres_test]
async fn token_revocation_closes_sockets_on_other_nodes() {
    let mut cluster = TestCluster::start_two().await;
    let admin = json!({ "permissions": ["chat.view", "organization.admin"] });
    let admin = cluster.user_with(0, "admin", admin).await;
    cluster.wait_until_connected().await;
    for with_redis in [true, false] {
        let bob = cluster.user_at(1, "bob").await;
        let bob_at_first = cluster.at(0, &bob);
        let carol = cluster.user_at(1, "carol").await;
        let (mut bob_socket, mut bob_socket_at_first, mut carol_socket) =
            (open_socket(&bob).await, open_socket(&bob_at_first).await, open_socket(&carol).await);
        if !with_redis {
            cluster.redis.as_mut().expect("a Redis").kill();
        }
        let start = Instant::now();
        admin.mutate_ok("revokeSessions", json!({ "userId": "bob" })).await;
        for socket in [&mut bob_socket, &mut bob_socket_at_first] {
            assert_eq!(socket.expect_close().await.0, 4403);
        }
        assert!(start.elapsed() < DELIVERY_TIMEOUT, "{:?}", start.elapsed());
        for bob in [&bob, &bob_at_first] {
            bob.ask("{ viewer { user { id } } }").await.assert_error("UNAUTHENTICATED");
        }
        carol_socket.subscribe("2", "{ viewer { user { id } } }", json!({})).await;
        while carol_socket.recv().await["id"] != "2" {}
        // Tokens of the current second are revoked too, so the next tokens need a later one.
        let revoked_at = unix_seconds();
        wait_until("the next second begins", async || unix_seconds() > revoked_at).await;
    }
    cluster.end().await;
}

#[postgres_test]
async fn concurrent_sends_on_two_nodes_have_one_order() {
    let (cluster, alice, bob, chat) = start_with_alice_and_bob().await;
    let mut feeds = Vec::new();
    for number in [0, 1, 0, 1] {
        feeds.push(caught_up_feed(&cluster.at(number, &alice), &chat).await);
    }
    let sends = [&alice, &bob].map(async |user| {
        for number in 0..100 {
            user.send(&chat, &format!("{} {number}", user.id)).await;
        }
    });
    let receives = feeds.iter_mut().map(async |feed| {
        let mut received: Vec<(i64, String)> = Vec::new();
        while received.len() < 200 {
            let event = feed.expect("MessageUpserted").await;
            assert_eq!(event["change"], "ADDED");
            let message = &event["message"];
            let seq = message["seq"].as_i64().expect("a sequence number");
            received.push((seq, message["text"].as_str().expect("a text").to_owned()));
        }
        received
    });
    let (_, received) = futures_util::join!(join_all(sends), join_all(receives));
    assert!(received[0].is_sorted_by(|earlier, later| earlier.0 < later.0));
    assert!(received.iter().all(|messages| messages == &received[0]));
    cluster.end().await;
}

#[postgres_test]
async fn call_across_nodes_survives_node_death() {
    let settings = [("PARLOR_CALL_LOST_SECONDS", "5"), ("PARLOR_CALL_RING_SECONDS", "6")];
    let mut cluster = TestCluster::start(2, Some(RedisServer::start()), &settings).await;
    let (alice, bob) = (cluster.user_at(0, "alice").await, cluster.user_at(1, "bob").await);
    let chat = alice.direct(&bob).await;
    cluster.wait_until_connected().await;
    let mut rings = bob.inbox_feed(None).await;
    rings.catch_up().await;
    let alice_call = alice.start_call(&chat).await;
    let start = Instant::now();
    assert_eq!(rings.next_of_type("CallUpserted").await["call"]["status"], "RINGING");
    let bob_call = bob.join_call(&alice_call.call).await;
    let (mut alice_feed, mut bob_feed) =
        (alice.call_feed(&alice_call, None).await, bob.call_feed(&bob_call, None).await);
    alice_feed.catch_up().await;
    bob_feed.catch_up().await;
    alice.send_signal(&alice_call, &bob_call, "RENEGOTIATE", json!({ "from": "alice" })).await;
    assert_eq!(bob_feed.next_signal().await[2], json!({ "from": "alice" }));
    bob.send_signal(&bob_call, &alice_call, "RENEGOTIATE", json!({ "from": "bob" })).await;
    let signal = alice_feed.next_of_type("SignalReceived").await;
    assert!(start.elapsed() < DELIVERY_TIMEOUT, "through Redis, not by polling the database: {:?}", start.elapsed());
    // Alice's node dies. She reconnects at the other node in time and misses no event.
    cluster.kill(0);
    bob.send_signal(&bob_call, &alice_call, "RENEGOTIATE", json!({ "from": "bob", "again": true })).await;
    let alice_at_second = cluster.at(1, &alice);
    let mut alice_feed = alice_at_second.call_feed(&alice_call, signal["cursor"].as_str()).await;
    let missed = alice_feed.catch_up().await;
    let signals: Vec<&Value> = missed.iter().filter(|event| event["__typename"] == "SignalReceived").collect();
    assert_eq!(signals.len(), 1, "{missed:?}");
    assert_eq!(bob.call_status(&alice_call.call).await, json!(["ACTIVE", null]));
    // The other node removes a participant whose node dies and who does not reconnect.
    cluster.restart(0);
    cluster.wait_until_connected().await;
    let carol = cluster.user_at(0, "carol").await;
    let walk = bob.group("Walk", &[&carol]).await;
    let bob_call = bob.start_call_on(&walk, "laptop").await;
    let carol_call = carol.join_call(&bob_call.call).await;
    let mut bob_feed = bob.call_feed(&bob_call, None).await;
    let mut carol_feed = carol.call_feed(&carol_call, None).await;
    bob_feed.catch_up().await;
    carol_feed.catch_up().await;
    cluster.kill(0);
    bob_feed.wait_for_participant("carol", "LEFT").await;
    // The other node ends a call that rings at a node that died.
    cluster.restart(0);
    cluster.wait_until_connected().await;
    let dora = cluster.user_at(0, "dora").await;
    let direct = bob.direct(&dora).await;
    let ringing = cluster.at(0, &bob).start_call_on(&direct, "tablet").await;
    cluster.kill(0);
    let mut call_feed = bob.watch_call(&ringing.call).await;
    assert!(call_feed.drain().await.iter().any(|event| event["call"]["status"] == "ENDED"));
    cluster.end().await;
}
