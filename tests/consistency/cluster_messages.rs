//! The handling of messages in Redis by the nodes. They accept only messages of their own cluster, each once, and fall
//! back to the database's state when there are none.

use std::time::{Duration, Instant};

use redis::Commands;
use serde_json::{Value, json};
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
        if payloads.len() > 20 && String::from_utf8_lossy(&payloads[payloads.len() - 1].1).contains("genuine 4") {
            break;
        }
    }
    let genuine = payloads.iter().position(|(_, payload)| String::from_utf8_lossy(payload).contains("genuine 4"));
    let (channel, payload) = payloads[genuine.expect("the last message was recorded")].clone();

    // Forged: the message of another text, a revocation without a code, and one with the code of another message.
    let text = String::from_utf8(payload.clone()).expect("text");
    let forged_text = text.replace("genuine 4", "forged ones");
    let (code, _) = text.split_at(64);
    let revocation = r#"{"node":"node-0 x","number":999999,"at":"2999-01-01T00:00:00Z","messages":[{"Revoked":{"organization":"demo","user":"bob","before":"2999-01-01T00:00:00Z"}}]}"#;
    let first_channel = "parlor:v3:0";
    let forged = [
        (channel.as_str(), forged_text.clone()),
        (first_channel, revocation.to_owned()),
        (first_channel, format!("{code}{revocation}")),
        (first_channel, String::new()),
        // A genuine message on the channel of others.
        (if channel == first_channel { "parlor:v3:1" } else { first_channel }, text),
    ];
    let rejected = counted(&metrics_url, "rejected").await;
    for (channel, payload) in &forged {
        publisher.publish::<_, _, ()>(*channel, payload).expect("published");
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
