//! The handling of messages in Redis by the nodes. They accept only messages of their own cluster, each once, and fall
//! back to the database's state when there are none.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use parlor::realtime::cluster::authentication::MessageKey;
use parlor::realtime::cluster::codec;
use parlor::realtime::cluster::codec::{ClusterEnvelope, EnvelopeHeader};
use parlor::realtime::cluster::message::ClusterMessage;
use redis::Commands;
use serde_json::{Value, json};
use testkit::keys::unix_seconds;
use testkit::metrics::fetch_metric;
use testkit::{RedisServer, TIMEOUT, postgres_test, wait_until};
use tokio::time::timeout;

use crate::consistency::cluster::caught_up_feed;
use crate::consistency::cluster::harness::TestCluster;

/// The time in which changes reach other nodes without Redis.
const OUTAGE_DELIVERY_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns the value of a counter of messages between nodes.
async fn counted(metrics_url: &str, kind: &str) -> f64 {
    fetch_metric(metrics_url, &format!("parlor_cluster_messages_total{{kind=\"{kind}\"}}")).await
}

#[postgres_test]
async fn quiet_chat_reaches_other_nodes_within_two_seconds_without_redis() {
    let mut cluster = TestCluster::start_two().await;
    let (alice, bob) = (cluster.user_at(0, "alice").await, cluster.user_at(1, "bob").await);
    cluster.wait_until_connected().await;
    cluster.redis.as_mut().expect("a Redis").kill();
    for number in 0..4 {
        let chat = alice.group("Quiet", &[&bob]).await;
        let mut feed = caught_up_feed(&bob, &chat).await;
        let start = Instant::now();
        alice.send(&chat, &format!("message {number}")).await;
        assert_eq!(feed.expect("MessageUpserted").await["message"]["text"], format!("message {number}"));
        assert!(start.elapsed() < OUTAGE_DELIVERY_TIMEOUT, "{:?}", start.elapsed());
    }
    cluster.end().await;
}

#[postgres_test]
async fn changes_without_version_arrive_after_an_outage_of_redis() {
    let mut cluster = TestCluster::start_two().await;
    let (alice, bob) = (cluster.user_at(0, "alice").await, cluster.user_at(1, "bob").await);
    let chat = alice.group("Outage", &[&bob]).await;
    let message = alice.send(&chat, "read this").await;
    cluster.wait_until_connected().await;
    let query = "subscription($chat: ID!) { chatFeed(chatId: $chat) { __typename
        ... on MemberUpserted { member { user { id } lastReadMessage { id } } } } }";
    let mut receipts = bob.subscribe(query, json!({ "chat": chat })).await;
    receipts.catch_up().await;
    let inbox =
        "subscription { inboxFeed { __typename ... on NotificationUpserted { notification { readAt kind } } } }";
    let mut inbox = bob.subscribe(inbox, json!({})).await;
    inbox.catch_up().await;

    cluster.redis.as_mut().expect("a Redis").kill();
    let bob_elsewhere = cluster.at(0, &bob);
    alice.mutate_ok("markRead", json!({ "chatId": chat })).await;
    bob_elsewhere.mutate_ok("markRead", json!({ "chatId": chat })).await;
    bob_elsewhere.mutate_ok("markNotificationsRead", json!({})).await;
    // The outage is longer than the time by which feeds read again.
    let (start, outage) = (Instant::now(), Duration::from_secs(17));
    wait_until("the outage has lasted", async || start.elapsed() > outage).await;
    // An event of this node does not hide what this node missed.
    bob.send(&chat, "still here").await;
    cluster.redis.as_mut().expect("a Redis").restart();
    loop {
        let event = receipts.next().await;
        if event["member"]["user"]["id"] == "alice" && event["member"]["lastReadMessage"]["id"] == message.as_str() {
            break;
        }
    }
    while inbox.next().await["notification"]["readAt"].is_null() {}
    cluster.end().await;
}

/// Returns whether bytes contain a text.
fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Returns bytes in which a text of the same length stands for another one.
fn replaced(bytes: &[u8], text: &str, replacement: &str) -> Vec<u8> {
    let index = bytes.windows(text.len()).position(|window| window == text.as_bytes()).expect("the text");
    let mut replaced = bytes.to_vec();
    replaced[index..index + text.len()].copy_from_slice(&replacement.as_bytes()[..text.len()]);
    replaced
}

/// Returns the parts of a message by which all sessions of Bob would end.
fn revocation_of_bob() -> Vec<u8> {
    let message = ClusterMessage::TokensRevoked {
        organization: "demo".parse().expect("an id"),
        user: "bob".parse().expect("an id"),
        before: DateTime::<Utc>::MAX_UTC,
    };
    payload_of(&MessageKey::new(b"a guessed key"), "parlor:nodes", message)[33..].to_vec()
}

/// Returns the payload by which a node whose clock is right sends a message.
fn payload_of(key: &MessageKey, channel: &str, message: ClusterMessage) -> Vec<u8> {
    let header = EnvelopeHeader {
        node: "another node".to_owned(),
        number: 1,
        sent_at: DateTime::from_timestamp(unix_seconds(), 0).expect("a time"),
        previous_sent_at: None,
    };
    codec::encode(key, channel, &ClusterEnvelope { header, messages: vec![message] }).expect("a payload")
}

#[postgres_test]
async fn forged_and_repeated_cluster_messages_are_dropped() {
    let settings = [("PARLOR_METRICS_ADDR", "127.0.0.1:0"), ("PARLOR_SENDS_PER_MINUTE", "60")];
    let cluster = TestCluster::start(2, Some(RedisServer::start()), &settings).await;
    let metrics_url = cluster.node(1).next_metrics_url();
    cluster.wait_until_connected().await;
    let redis = cluster.redis.as_ref().expect("a Redis");
    let client = redis::Client::open(redis.url()).expect("an address");
    let mut recorded = client.get_connection().expect("a connection");
    let mut publisher = client.get_connection().expect("a connection");
    let mut recorder = recorded.as_pubsub();
    recorder.psubscribe("parlor:*").expect("a subscription");

    let (alice, bob) = (cluster.user_at(0, "alice").await, cluster.user_at(1, "bob").await);
    let chat = alice.group("Genuine", &[&bob]).await;
    let mut socket = bob.socket().await;
    let mut feed = caught_up_feed(&bob, &chat).await;
    for number in 0..5 {
        alice.send(&chat, &format!("genuine {number}")).await;
        feed.expect("MessageUpserted").await;
    }
    recorder.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    let mut payloads: Vec<(String, Vec<u8>)> = Vec::new();
    while payloads.len() < 500 {
        let Ok(message) = recorder.get_message() else { break };
        payloads.push((message.get_channel_name().to_owned(), message.get_payload_bytes().to_vec()));
        if payloads.len() > 20 && contains(&payloads[payloads.len() - 1].1, "genuine 4") {
            break;
        }
    }
    let genuine = payloads.iter().position(|(_, payload)| contains(payload, "genuine 4"));
    let (channel, payload) = payloads[genuine.expect("the last message was recorded")].clone();

    // Forged: the message of another text, a revocation without a code, and one with the code of another message.
    let forged_text = replaced(&payload, "genuine 4", "forged ones");
    let prefix = &payload[..33];
    let common = "parlor:nodes";
    let revocation = revocation_of_bob();
    let forged = [
        (channel.as_str(), forged_text),
        (common, revocation.clone()),
        (common, [prefix, &revocation].concat()),
        (common, Vec::new()),
        // A genuine message on the channel of others.
        (common, payload.clone()),
    ];
    let rejected = counted(&metrics_url, "rejected").await;
    for (channel, payload) in &forged {
        publisher.publish::<_, _, ()>(*channel, payload.as_slice()).expect("published");
    }
    let is_rejected = async || counted(&metrics_url, "rejected").await >= rejected + 5.0;
    wait_until("forged messages are rejected", is_rejected).await;
    let log = cluster.node(1).log();
    assert!(log.contains("dropped messages in Redis that no node of this installation sent"), "{log}");

    // Repeated: everything that was recorded, with what it says about consumed limits.
    let stale = counted(&metrics_url, "stale").await;
    for _ in 0..20 {
        for (channel, payload) in &payloads {
            publisher.publish::<_, _, ()>(channel.as_str(), payload.as_slice()).expect("published");
        }
    }
    let is_dropped = async || counted(&metrics_url, "stale").await >= stale + 20.0;
    wait_until("repeated messages are dropped", is_dropped).await;
    let alice_elsewhere = cluster.at(1, &alice);
    for number in 0..20 {
        alice_elsewhere.send(&chat, &format!("allowed {number}")).await;
        let message = feed.expect("MessageUpserted").await["message"]["text"].clone();
        assert_eq!(message, format!("allowed {number}"), "neither a forged message nor a repeated one was delivered");
    }
    socket.subscribe("still open", "{ viewer { user { id } } }", json!({})).await;
    assert_eq!(socket.recv().await["type"], "next", "nobody revoked the session");
    cluster.end().await;
}

#[postgres_test]
async fn nodes_agree_on_a_new_message_key() {
    let cluster = TestCluster::start(2, Some(RedisServer::start()), &[]).await;
    let (alice, bob) = (cluster.user_at(0, "alice").await, cluster.user_at(1, "bob").await);
    let chat = alice.group("Keys", &[&bob]).await;
    cluster.wait_until_connected().await;
    let keys = "SELECT count(*) AS number FROM cluster_state";
    cluster.database().execute("DELETE FROM cluster_state").await;
    wait_until("a node creates another key", async || cluster.database().query_number(keys).await == 1).await;
    // Typing exists in memory only, so it shows that messages arrive.
    let query = "subscription($chat: ID!) { typing(chatId: $chat) { users { id } } }";
    let mut typing = bob.subscribe(query, json!({ "chat": chat })).await;
    assert_eq!(typing.next().await["users"], json!([]));
    let arrives = async {
        let mut list = Value::Null;
        while list["users"] != json!([{ "id": "alice" }]) {
            alice.mutate_ok("setTyping", json!({ "chatId": chat, "typing": true })).await;
            if let Ok(next) = timeout(Duration::from_secs(1), typing.next()).await {
                list = next;
            }
        }
    };
    timeout(TIMEOUT, arrives).await.expect("messages arrive under the new key");
    cluster.end().await;
}
