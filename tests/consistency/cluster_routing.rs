//! The channels by which messages reach those nodes that have listeners, and no others.

use std::time::{Duration, Instant};

use parlor::domain::ids::ChatId;
use parlor::realtime::cluster::authentication::MessageKey;
use parlor::realtime::cluster::channels::Channels;
use parlor::realtime::cluster::codec::FORMAT_VERSION;
use redis::Commands;
use serde_json::json;
use testkit::metrics::fetch_metric;
use testkit::{RedisServer, TcpRelay, User, postgres_test, wait_until};

use crate::consistency::cluster::caught_up_feed;
use crate::consistency::cluster::harness::TestCluster;

/// The time in which a change arrives, which is shorter than the interval of comparisons with the database.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(4);
/// Settings with which each node reports metrics.
const WITH_METRICS: [(&str, &str); 2] = [("PARLOR_METRICS_ADDR", "127.0.0.1:0"), ("PARLOR_SENDS_PER_MINUTE", "10000")];

/// Returns the name of a chat's channel in Redis.
pub fn channel_name(chat: &str) -> String {
    let channels = Channels::new("parlor".to_owned(), 16_384);
    channels.name(channels.of_chat(chat.parse::<ChatId>().expect("an id")))
}

/// Returns how many messages a node has received by channels of this kind.
async fn received(metrics_url: &str, kind: &str) -> f64 {
    fetch_metric(metrics_url, &format!("parlor_cluster_channel_messages_total{{kind=\"{kind}\"}}")).await
}

async fn counted(metrics_url: &str, kind: &str) -> f64 {
    fetch_metric(metrics_url, &format!("parlor_cluster_messages_total{{kind=\"{kind}\"}}")).await
}

/// Creates a chat whose channel is not that of another chat.
async fn chat_beside(user: &User, member: &User, other: &str) -> String {
    loop {
        let chat = user.group("Beside", &[member]).await;
        if channel_name(&chat) != channel_name(other) {
            return chat;
        }
    }
}

#[postgres_test]
async fn node_receives_only_messages_of_chats_that_have_listeners_there() {
    const MESSAGES: usize = 40;
    let cluster = TestCluster::start(3, Some(RedisServer::start()), &WITH_METRICS).await;
    let urls = [1, 2].map(|node| cluster.node(node).next_metrics_url());
    cluster.wait_until_connected().await;
    let (alice, bob, carol) =
        (cluster.user_at(0, "alice").await, cluster.user_at(1, "bob").await, cluster.user_at(2, "carol").await);
    let busy = alice.group("Busy", &[&bob, &carol]).await;
    let quiet = chat_beside(&alice, &carol, &busy).await;
    let mut busy_feed = caught_up_feed(&bob, &busy).await;
    let mut quiet_feed = caught_up_feed(&carol, &quiet).await;
    let mut before = Vec::new();
    for url in &urls {
        before.push(received(url, "chats").await);
    }
    for number in 0..MESSAGES {
        alice.send(&busy, &format!("message {number}")).await;
    }
    for number in 0..MESSAGES {
        assert_eq!(busy_feed.expect("MessageUpserted").await["message"]["text"], format!("message {number}"));
    }
    // One node has published both, so the marker arrives after everything else that the node sent.
    alice.send(&quiet, "marker").await;
    assert_eq!(quiet_feed.expect("MessageUpserted").await["message"]["text"], "marker");
    let of_bob = received(&urls[0], "chats").await - before[0];
    let of_carol = received(&urls[1], "chats").await - before[1];
    assert!(of_bob >= MESSAGES as f64, "{of_bob}");
    // The marker, and the position up to which its sender has read.
    assert!((1.0..=2.0).contains(&of_carol), "{of_carol} of {MESSAGES} messages reached a node without listeners");
    assert_eq!(counted(&urls[1], "unwanted").await, 0.0);
    // A listener that comes later gets what was sent before and what is sent now.
    let mut late_feed = carol.feed(&busy, Some(1), None).await;
    assert_eq!(late_feed.expect("MessageUpserted").await["message"]["text"], format!("message {}", MESSAGES - 1));
    late_feed.expect("FeedCaughtUp").await;
    let start = Instant::now();
    alice.send(&busy, "for both").await;
    for feed in [&mut busy_feed, &mut late_feed] {
        assert_eq!(feed.expect("MessageUpserted").await["message"]["text"], "for both");
    }
    assert!(start.elapsed() < DELIVERY_TIMEOUT, "{:?}", start.elapsed());
    cluster.end().await;
}

#[postgres_test]
async fn events_for_users_reach_only_the_nodes_where_they_are() {
    let cluster = TestCluster::start(3, Some(RedisServer::start()), &WITH_METRICS).await;
    let urls = [1, 2].map(|node| cluster.node(node).next_metrics_url());
    cluster.wait_until_connected().await;
    let (alice, bob, carol) =
        (cluster.user_at(0, "alice").await, cluster.user_at(1, "bob").await, cluster.user_at(2, "carol").await);
    let mut inbox = bob.inbox_feed(None).await;
    inbox.catch_up().await;
    let mut other_inbox = carol.inbox_feed(None).await;
    other_inbox.catch_up().await;
    let start = Instant::now();
    // Chats in which no node has listeners yet, a notification, and a call that rings.
    let group = alice.group("Users", &[&bob]).await;
    inbox.next_of_type("ChatUpserted").await;
    alice.send_message(&group, json!({ "text": "Look", "mentionIds": ["bob"] })).await;
    inbox.next_of_type("NotificationUpserted").await;
    let chat = alice.direct(&bob).await;
    alice.start_call(&chat).await;
    assert_eq!(inbox.next_of_type("CallUpserted").await["call"]["status"], "RINGING");
    assert!(start.elapsed() < DELIVERY_TIMEOUT, "by messages, not by the database: {:?}", start.elapsed());
    alice.direct(&carol).await;
    other_inbox.next_of_type("ChatUpserted").await;
    assert!(received(&urls[0], "users").await >= 3.0);
    assert_eq!(received(&urls[1], "users").await, 1.0, "the chat with Carol only");
    cluster.end().await;
}

/// Starts one node, and a second one that reaches Redis through a relay.
async fn start_behind_relay() -> (TestCluster, TcpRelay) {
    let mut cluster = TestCluster::start(1, Some(RedisServer::start()), &[]).await;
    let port = cluster.redis.as_ref().expect("a Redis").port();
    let relay = TcpRelay::start(([127, 0, 0, 1], port).into()).await;
    cluster.set("REDIS_URL", &format!("redis://{}", relay.addr()));
    cluster.add_node();
    cluster.wait_until_connected().await;
    (cluster, relay)
}

#[postgres_test]
async fn message_sent_while_the_first_listener_subscribes_is_delivered() {
    let (cluster, relay) = start_behind_relay().await;
    let (alice, bob) = (cluster.user_at(0, "alice").await, cluster.user_at(1, "bob").await);
    for number in 0..20 {
        let chat = alice.group("New", &[&bob]).await;
        let start = bob.fetch_chat(&chat, "feedCursor").await;
        let cursor = start["feedCursor"].as_str().expect("a cursor").to_owned();
        // Redis gets the subscription after the message, whichever was requested first.
        relay.hold();
        let open = bob.feed(&chat, None, Some(&cursor));
        let send = async {
            alice.send(&chat, &format!("message {number}")).await;
            relay.release();
            Instant::now()
        };
        let (mut feed, sent_at) = futures_util::join!(open, send);
        assert_eq!(feed.expect("MessageUpserted").await["message"]["text"], format!("message {number}"));
        assert!(sent_at.elapsed() < DELIVERY_TIMEOUT, "{:?}", sent_at.elapsed());
    }
    cluster.end().await;
}

#[postgres_test]
async fn feed_that_starts_while_redis_is_slow_gets_what_was_sent_before_its_subscription() {
    let (cluster, relay) = start_behind_relay().await;
    let (alice, bob) = (cluster.user_at(0, "alice").await, cluster.user_at(1, "bob").await);
    let chat = alice.group("Slow", &[&bob]).await;
    relay.hold();
    // The feed does not wait for Redis any longer than a second.
    let mut feed = caught_up_feed(&bob, &chat).await;
    alice.send(&chat, "sent meanwhile").await;
    relay.release();
    let start = Instant::now();
    assert_eq!(feed.expect("MessageUpserted").await["message"]["text"], "sent meanwhile");
    assert!(start.elapsed() < DELIVERY_TIMEOUT, "{:?}", start.elapsed());
    cluster.end().await;
}

#[postgres_test]
async fn node_subscribes_to_its_channels_again_after_redis_restarts() {
    let mut cluster = TestCluster::start_two().await;
    let (alice, bob) = (cluster.user_at(0, "alice").await, cluster.user_at(1, "bob").await);
    let chat = alice.group("Again", &[&bob]).await;
    cluster.wait_until_connected().await;
    let mut feed = caught_up_feed(&bob, &chat).await;
    let redis = cluster.redis.as_mut().expect("a Redis");
    redis.kill();
    redis.restart();
    let channel = channel_name(&chat);
    let is_subscribed = async || redis.cli(&["pubsub", "channels"]).lines().any(|line| line == channel);
    wait_until("the chat's channel has a subscriber again", is_subscribed).await;
    let start = Instant::now();
    alice.send(&chat, "after the restart").await;
    assert_eq!(feed.expect("MessageUpserted").await["message"]["text"], "after the restart");
    assert!(start.elapsed() < DELIVERY_TIMEOUT, "{:?}", start.elapsed());
    cluster.end().await;
}

#[postgres_test]
async fn messages_of_a_newer_release_are_counted_and_their_changes_read_from_the_database() {
    let mut cluster = TestCluster::start(2, Some(RedisServer::start()), &WITH_METRICS).await;
    let metrics_url = cluster.node(1).next_metrics_url();
    cluster.wait_until_connected().await;
    // The messages of the newer node are those of the test: its own Redis is none.
    cluster.add_node_without_redis();
    let (alice, bob) = (cluster.user_at(2, "alice").await, cluster.user_at(1, "bob").await);
    let chat = alice.group("Newer", &[&bob]).await;
    let key =
        cluster.database().query_lines("SELECT encode(message_key, 'hex') AS line FROM cluster_state").await.remove(0);
    let digits = key.as_bytes().chunks(2).map(|digits| str::from_utf8(digits).expect("text"));
    let key: Vec<u8> = digits.map(|digits| u8::from_str_radix(digits, 16).expect("digits")).collect();
    let client = redis::Client::open(cluster.redis.as_ref().expect("a Redis").url()).expect("an address");
    let mut publisher = client.get_connection().expect("a connection");
    let channel = channel_name(&chat);
    let body = b"a form that this release does not know";
    let version = FORMAT_VERSION + 1;
    let payload = [&[version], MessageKey::new(&key).sign(&channel, version, body).as_slice(), body].concat();
    let mut feed = caught_up_feed(&bob, &chat).await;
    for number in 1..=4 {
        let start = Instant::now();
        alice.send(&chat, &format!("message {number}")).await;
        publisher.publish::<_, _, ()>(&channel, payload.as_slice()).expect("published");
        assert_eq!(feed.expect("MessageUpserted").await["message"]["text"], format!("message {number}"));
        assert!(start.elapsed() < DELIVERY_TIMEOUT, "{:?}", start.elapsed());
    }
    assert_eq!(counted(&metrics_url, "unreadable").await, 4.0);
    assert_eq!(counted(&metrics_url, "rejected").await, 0.0);
    let log = cluster.node(1).log();
    assert!(log.contains("dropped messages of nodes of another release"), "{log}");
    cluster.end().await;
}

#[postgres_test]
async fn node_with_another_number_of_channels_is_reported_and_its_changes_read_from_the_database() {
    let mut cluster = TestCluster::start(1, Some(RedisServer::start()), &[]).await;
    cluster.set("PARLOR_REDIS_CHANNELS", "512");
    cluster.add_node();
    let (alice, bob) = (cluster.user_at(0, "alice").await, cluster.user_at(1, "bob").await);
    cluster.wait_until_connected().await;
    let chat = alice.group("Channels", &[&bob]).await;
    let reports = async || (0..2).all(|node| cluster.node(node).log().contains("another number of channels"));
    wait_until("both nodes report it", reports).await;
    let mut feed = caught_up_feed(&bob, &chat).await;
    for number in 0..3 {
        let start = Instant::now();
        alice.send(&chat, &format!("message {number}")).await;
        assert_eq!(feed.expect("MessageUpserted").await["message"]["text"], format!("message {number}"));
        assert!(start.elapsed() < DELIVERY_TIMEOUT, "{:?}", start.elapsed());
    }
    cluster.end().await;
}
