//! The end of a session by a revocation on another node.

use std::time::Instant;

use serde_json::json;
use testkit::{RedisServer, Socket, postgres_test, wait_until};

use crate::consistency::cluster::DELIVERY_TIMEOUT;
use crate::consistency::cluster::harness::TestCluster;
use crate::transport::session_end::{EARLY_MESSAGES, FEED, long_text, receive_until_session_ends};

/// Revokes a user's sessions at one node while the other has more to deliver than their client reads.
async fn assert_revocation_reaches_other_node(redis: Option<RedisServer>) {
    let is_connected = redis.is_some();
    let cluster = TestCluster::start(2, redis, &[]).await;
    if is_connected {
        cluster.wait_until_connected().await;
    }
    let permissions = json!({ "permissions": ["chat.view", "organization.admin"] });
    let admin = cluster.user_with(0, "admin", permissions).await;
    let (alice, bob) = (cluster.user_at(1, "alice").await, cluster.user_at(1, "bob").await);
    let chat = alice.group("Busy", &[&bob]).await;
    let mut shared = alice.subscribe(FEED, json!({ "chat": chat })).await;
    shared.expect("FeedCaughtUp").await;
    let mut socket = Socket::with_small_buffer(cluster.addrs()[1], &bob.token).await;
    socket.subscribe("feed", FEED, json!({ "chat": chat })).await;
    assert_eq!(socket.recv().await["payload"]["data"]["chatFeed"]["__typename"], "FeedCaughtUp");
    for _ in 0..EARLY_MESSAGES {
        alice.send(&chat, &long_text("early")).await;
    }
    let start = Instant::now();
    admin.mutate_ok("revokeSessions", json!({ "userId": "bob" })).await;
    wait_until("the other node knows", async || bob.ask("{ viewer { user { id } } }").await.status == 401).await;
    assert!(start.elapsed() < DELIVERY_TIMEOUT, "{:?}", start.elapsed());
    for _ in 0..10 {
        alice.send(&chat, &long_text("late")).await;
    }
    receive_until_session_ends(&mut socket).await;
    cluster.end().await;
}

#[postgres_test]
async fn revocation_ends_busy_feed_on_another_node() {
    assert_revocation_reaches_other_node(Some(RedisServer::start())).await;
}

#[postgres_test]
async fn revocation_ends_busy_feed_on_another_node_without_redis() {
    assert_revocation_reaches_other_node(None).await;
}
