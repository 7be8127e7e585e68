//! Several nodes, which are one server to everybody.

mod follower;
pub mod harness;
pub mod workload;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::{Feed, RedisServer, Socket, User, postgres_test};

use crate::consistency::cluster::harness::{TestCluster, eventually, now};

/// What has to happen within a second, with slack for a machine that has other things to do.
const SOON: Duration = Duration::from_secs(3);

const PRESENCE: &str = "subscription($ids: [ID!]!) { presence(userIds: $ids) { user { id } status } }";
const TYPING: &str = "subscription($chat: ID!) { typing(chatId: $chat) { users { id } } }";

/// A feed that is level: from here on it tells what happens.
async fn live(who: &User, chat: &str) -> Feed {
    let mut feed = who.feed(chat, None, None).await;
    feed.expect("FeedCaughtUp").await;
    feed
}

/// The next event that is like this.
async fn until(feed: &mut Feed, is_it: impl Fn(&Value) -> bool) -> Value {
    loop {
        let event = feed.next().await;
        if is_it(&event) {
            return event;
        }
    }
}

/// A cluster of two, with Alice at one node and Bob at the other.
async fn apart() -> (TestCluster, User, User, String) {
    let cluster = TestCluster::start_two().await;
    let (alice, bob) = (cluster.user_at(0, "alice").await, cluster.user_at(1, "bob").await);
    let chat = alice.group("Apart", &[&bob]).await;
    cluster.wait_until_connected().await;
    (cluster, alice, bob, chat)
}

/// What is told through Redis, told to and fro.
async fn hear_each_other(cluster: &TestCluster, alice: &User, bob: &User, chat: &str) {
    for (one, other) in [(alice, bob), (bob, alice)] {
        let mut feed = live(other, chat).await;
        let begun = Instant::now();
        let id = one.send(chat, "hello").await;
        assert_eq!(feed.expect("MessageUpserted").await["message"]["text"], "hello");
        one.mutate_ok("editMessage", json!({ "messageId": id, "text": "hello again" })).await;
        assert_eq!(feed.expect("MessageUpserted").await["message"]["text"], "hello again");
        one.mutate_ok("addReaction", json!({ "messageId": id, "emoji": "👍" })).await;
        let reactions = json!([{ "emoji": "👍", "count": 1 }]);
        assert_eq!(feed.expect("MessageUpserted").await["message"]["reactions"], reactions);
        one.delete_message(&id).await;
        assert_ne!(feed.expect("MessageUpserted").await["message"]["deletedAt"], json!(null));
        // Not by the look at the database that comes now and then.
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}: {}", begun.elapsed(), cluster.node(0).log());

        let read = "subscription($chat: ID!) { chatFeed(chatId: $chat) { __typename
            ... on MemberUpserted { member { user { id } lastReadMessage { id } } } } }";
        let mut positions = other.subscribe(read, json!({ "chat": chat })).await;
        until(&mut positions, |event| event["__typename"] == "FeedCaughtUp").await;
        let id = other.send(chat, "read this").await;
        one.mutate_ok("markRead", json!({ "chatId": chat })).await;
        let has_read = |event: &Value| {
            event["member"]["user"]["id"] == one.id.as_str() && event["member"]["lastReadMessage"]["id"] == id.as_str()
        };
        until(&mut positions, has_read).await;

        let mut typing = other.subscribe(TYPING, json!({ "chat": chat })).await;
        until(&mut typing, |list| list["users"] == json!([])).await;
        one.mutate_ok("setTyping", json!({ "chatId": chat, "typing": true })).await;
        until(&mut typing, |list| list["users"] == json!([{ "id": one.id }])).await;
        one.send(chat, "said").await;
        until(&mut typing, |list| list["users"] == json!([])).await;
    }
}

#[postgres_test]
async fn events_reach_members_on_other_nodes() {
    let (cluster, alice, bob, chat) = apart().await;
    hear_each_other(&cluster, &alice, &bob, &chat).await;
    cluster.end().await;
}

#[postgres_test]
async fn events_reach_members_through_redis_cluster() {
    let settings = [("PARLOR_REDIS_CLUSTER", "true")];
    let cluster = TestCluster::start(2, Some(RedisServer::start_cluster()), &settings).await;
    let (alice, bob) = (cluster.user_at(0, "alice").await, cluster.user_at(1, "bob").await);
    let chat = alice.group("Apart", &[&bob]).await;
    cluster.wait_until_connected().await;
    let redis = cluster.redis.as_ref().expect("a Redis");
    let channels = redis.cli(&["pubsub", "shardchannels"]);
    assert_eq!(channels.lines().filter(|line| line.starts_with("parlor:")).count(), 16, "{channels}");
    hear_each_other(&cluster, &alice, &bob, &chat).await;
    cluster.end().await;
}

/// Follows people's presence from a node.
async fn follow(who: &User, people: &[&str]) -> Feed {
    who.subscribe(PRESENCE, json!({ "ids": people })).await
}

async fn becomes(presence: &mut Feed, who: &str, status: &str) {
    until(presence, |event| event["user"]["id"] == who && event["status"] == status).await;
}

#[postgres_test]
async fn presence_is_consistent_when_nodes_join_or_die() {
    let redis = Some(RedisServer::start());
    let mut cluster = TestCluster::start(2, redis, &[("PARLOR_PRESENCE_GRACE_SECONDS", "1")]).await;
    let (alice, bob) = (cluster.user_at(0, "alice").await, cluster.user_at(1, "bob").await);
    cluster.wait_until_connected().await;
    let mut of_alice = follow(&bob, &["alice"]).await;
    becomes(&mut of_alice, "alice", "OFFLINE").await;
    let mut of_bob = follow(&alice, &["bob"]).await;
    becomes(&mut of_bob, "bob", "ONLINE").await;
    becomes(&mut of_alice, "alice", "ONLINE").await;
    alice.mutate_ok("setPresence", json!({ "status": "BUSY" })).await;
    becomes(&mut of_alice, "alice", "BUSY").await;

    // A node that joins later is told who is there.
    cluster.grow();
    cluster.wait_until_connected().await;
    let carol = cluster.user_at(2, "carol").await;
    let mut of_both = follow(&carol, &["alice", "bob"]).await;
    becomes(&mut of_both, "alice", "BUSY").await;
    let mut of_both = follow(&carol, &["alice", "bob"]).await;
    becomes(&mut of_both, "bob", "ONLINE").await;

    drop(of_bob);
    becomes(&mut of_both, "alice", "OFFLINE").await;
    becomes(&mut of_alice, "alice", "OFFLINE").await;

    // One that dies takes those with it who were at it, and comes back without them.
    cluster.kill(1);
    cluster.restart(1);
    becomes(&mut of_both, "bob", "OFFLINE").await;
    cluster.end().await;
}

#[postgres_test]
async fn presence_recovers_after_node_pause() {
    let cluster = TestCluster::start(2, Some(RedisServer::start()), &[("PARLOR_PRESENCE_GRACE_SECONDS", "1")]).await;
    let (alice, bob) = (cluster.user_at(0, "alice").await, cluster.user_at(1, "bob").await);
    cluster.wait_until_connected().await;
    let _there = bob.socket().await;
    let mut of_bob = follow(&alice, &["bob"]).await;
    becomes(&mut of_bob, "bob", "ONLINE").await;
    cluster.node(1).signal("STOP");
    becomes(&mut of_bob, "bob", "OFFLINE").await;
    cluster.node(1).signal("CONT");
    becomes(&mut of_bob, "bob", "ONLINE").await;
    cluster.end().await;
}

#[postgres_test]
async fn node_without_messages_reconciles_from_database() {
    let cluster = TestCluster::start(2, None, &[]).await;
    let (alice, bob) = (cluster.user_at(0, "alice").await, cluster.user_at(1, "bob").await);
    let chat = alice.group("Apart", &[&bob]).await;
    let [removed, ended] = [alice.group("Removed", &[&bob]).await, alice.group("Ended", &[&bob]).await];
    let mut inbox = bob.subscribe("subscription { messageAdded { text chat { id } } }", json!({})).await;
    let mut feeds = [live(&bob, &removed).await, live(&bob, &ended).await];
    // At Bob's own node, so that the inbox is known to have begun.
    until_told(&mut inbox, &bob, &removed).await;
    alice.send(&chat, "nobody tells of this").await;
    alice.mutate_ok("removeMember", json!({ "chatId": removed, "userId": "bob" })).await;
    alice.mutate_ok("deleteChat", json!({ "chatId": ended })).await;
    until(&mut inbox, |message| message["text"] == "nobody tells of this").await;
    for feed in &mut feeds {
        assert_eq!(feed.error_code().await, "FORBIDDEN");
    }
    cluster.end().await;
}

#[postgres_test]
async fn membership_change_takes_effect_on_other_nodes() {
    let (cluster, alice, bob, chat) = apart().await;
    let mut inbox = bob.subscribe("subscription { messageAdded { text chat { id } } }", json!({})).await;
    let mut feed = live(&bob, &chat).await;
    let mut typing = bob.subscribe(TYPING, json!({ "chat": chat })).await;
    until(&mut typing, |list| list["users"] == json!([])).await;
    // The inbox has begun when it tells of something.
    until_told(&mut inbox, &alice, &chat).await;

    let begun = Instant::now();
    alice.mutate_ok("removeMember", json!({ "chatId": chat, "userId": "bob" })).await;
    assert_eq!(feed.error_code().await, "FORBIDDEN");
    assert_eq!(typing.error_code().await, "FORBIDDEN");
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    alice.send(&chat, "behind your back").await;

    let begun = Instant::now();
    alice.add_member(&chat, "bob", "MEMBER").await;
    alice.send(&chat, "welcome back").await;
    let is_news = |message: &Value| message["text"].is_string() && message["text"] != "are you there?";
    let told = until(&mut inbox, is_news).await;
    assert_eq!((&told["text"], &told["chat"]["id"]), (&json!("welcome back"), &json!(chat)));
    let other = alice.group("New", &[&bob]).await;
    alice.send(&other, "and here").await;
    until(&mut inbox, |message| message["text"] == "and here").await;
    assert!(begun.elapsed() < 2 * SOON, "{:?}", begun.elapsed());

    let mut feed = live(&bob, &other).await;
    let begun = Instant::now();
    alice.mutate_ok("deleteChat", json!({ "chatId": other })).await;
    assert_eq!(feed.error_code().await, "FORBIDDEN");
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    cluster.end().await;
}

/// Sends until an inbox tells of it.
async fn until_told(inbox: &mut Feed, who: &User, chat: &str) {
    loop {
        who.send(chat, "are you there?").await;
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
        async |who: &User| who.try_send_message(&chat, json!({ "text": "!" })).await.body.get("errors").is_none();
    while send(&alice).await {}
    let there = cluster.at(1, &alice);
    let mut sent = 0;
    while send(&there).await {
        sent += 1;
    }
    assert!(sent < 30, "{sent} at the other node, where 60 are allowed at all");
    cluster.end().await;
}

/// Somebody's socket, which has told something.
async fn open(who: &User) -> Socket {
    let mut socket = who.socket().await;
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
        let here = cluster.at(0, &bob);
        let carol = cluster.user_at(1, "carol").await;
        let (mut socket, mut beside, mut others) = (open(&bob).await, open(&here).await, open(&carol).await);
        if !with_redis {
            cluster.redis.as_mut().expect("a Redis").kill();
        }
        let begun = Instant::now();
        admin.mutate_ok("revokeSessions", json!({ "userId": "bob" })).await;
        for socket in [&mut socket, &mut beside] {
            assert_eq!(socket.expect_close().await.0, 4403);
        }
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        for bob in [&bob, &here] {
            bob.ask("{ viewer { user { id } } }").await.assert_error("UNAUTHENTICATED");
        }
        others.subscribe("2", "{ viewer { user { id } } }", json!({})).await;
        while others.recv().await["id"] != "2" {}
        // A fresh token is to be of the next second.
        let second = now();
        eventually("the next second", async || now() > second).await;
    }
    cluster.end().await;
}

#[postgres_test]
async fn concurrent_sends_on_two_nodes_have_one_order() {
    let (cluster, alice, bob, chat) = apart().await;
    let mut feeds = Vec::new();
    for number in [0, 1, 0, 1] {
        feeds.push(live(&cluster.at(number, &alice), &chat).await);
    }
    let sends = [&alice, &bob].map(async |who| {
        for number in 0..100 {
            who.send(&chat, &format!("{} {number}", who.id)).await;
        }
    });
    let heard = feeds.iter_mut().map(async |feed| {
        let mut told: Vec<(i64, String)> = Vec::new();
        while told.len() < 200 {
            let event = feed.expect("MessageUpserted").await;
            assert_eq!(event["change"], "ADDED");
            let message = &event["message"];
            told.push((message["seq"].as_i64().expect("a place"), message["text"].as_str().expect("a text").into()));
        }
        told
    });
    let (_, heard) = futures_util::join!(join_all(sends), join_all(heard));
    assert!(heard[0].is_sorted_by(|one, next| one.0 < next.0));
    assert!(heard.iter().all(|told| told == &heard[0]));
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
    let a = alice.start_call(&chat).await;
    let begun = Instant::now();
    assert_eq!(rings.next_of_type("CallUpserted").await["call"]["status"], "RINGING");
    let b = bob.join_call(&a.call).await;
    let (mut hers, mut his) = (alice.call_feed(&a, None).await, bob.call_feed(&b, None).await);
    hers.catch_up().await;
    his.catch_up().await;
    alice.send_signal(&a, &b, "RENEGOTIATE", json!({ "from": "alice" })).await;
    assert_eq!(his.next_signal().await[2], json!({ "from": "alice" }));
    bob.send_signal(&b, &a, "RENEGOTIATE", json!({ "from": "bob" })).await;
    let heard = hers.next_of_type("SignalReceived").await;
    assert!(begun.elapsed() < SOON, "through Redis, not by a look at the database: {:?}", begun.elapsed());
    // Alice's node dies; she comes back at the other in time, and has missed nothing.
    cluster.kill(0);
    bob.send_signal(&b, &a, "RENEGOTIATE", json!({ "from": "bob", "again": true })).await;
    let moved = cluster.at(1, &alice);
    let mut hers = moved.call_feed(&a, heard["cursor"].as_str()).await;
    let missed = hers.catch_up().await;
    let signals: Vec<&Value> = missed.iter().filter(|event| event["__typename"] == "SignalReceived").collect();
    assert_eq!(signals.len(), 1, "{missed:?}");
    assert_eq!(bob.call_status(&a.call).await, json!(["ACTIVE", null]));
    // Whose node dies and who does not come back has left, by what the other node sees.
    cluster.restart(0);
    cluster.wait_until_connected().await;
    let carol = cluster.user_at(0, "carol").await;
    let walk = bob.group("Walk", &[&carol]).await;
    let at = bob.start_call(&walk).await;
    let c = carol.join_call(&at.call).await;
    let mut watched = bob.call_feed(&at, None).await;
    let mut carols = carol.call_feed(&c, None).await;
    watched.catch_up().await;
    carols.catch_up().await;
    cluster.kill(0);
    watched.wait_for_participant("carol", "LEFT").await;
    // What rings at a node that died is missed by the clock of the other.
    cluster.restart(0);
    cluster.wait_until_connected().await;
    let dora = cluster.user_at(0, "dora").await;
    let direct = bob.direct(&dora).await;
    let rung = cluster.at(0, &bob).start_call(&direct).await;
    cluster.kill(0);
    let mut watched = bob.watch_call(&rung.call).await;
    assert!(watched.drain().await.iter().any(|event| event["call"]["status"] == "ENDED"));
    cluster.end().await;
}
