//! Bans take effect on all nodes.

use serde_json::{Value, json};
use testkit::postgres_test;

use crate::consistency::cluster::harness::TestCluster;

#[postgres_test]
async fn ban_reaches_other_nodes_at_once() {
    let cluster = TestCluster::start_two().await;
    let (alice, bob, carol) =
        (cluster.user_at(0, "alice").await, cluster.user_at(1, "bob").await, cluster.user_at(1, "carol").await);
    let channel = alice.chat("CHANNEL", "News", &[&bob, &carol]).await;
    alice.mutate_ok("changeMemberRole", json!({ "chatId": channel, "userId": "carol", "role": "ADMIN" })).await;
    cluster.wait_until_connected().await;
    let query = "subscription($chat: ID!) { chatFeed(chatId: $chat) { __typename
        ... on ChatUpserted { chat { bans { nodes { user { id } } } } } } }";
    let mut list = carol.subscribe(query, json!({ "chat": channel })).await;
    list.expect("FeedCaughtUp").await;
    let mut bans = async || list.next_of_type("ChatUpserted").await["chat"]["bans"]["nodes"].clone();
    let mut feed = bob.feed(&channel, None, None).await;
    feed.expect("FeedCaughtUp").await;
    alice.mutate_ok("removeMember", json!({ "chatId": channel, "userId": "bob", "ban": true })).await;
    bob.mutate("joinChannel", json!({ "chatId": channel })).await.assert_error("FORBIDDEN");
    assert_eq!(feed.error_code().await, "FORBIDDEN");
    assert_eq!(bans().await, json!([{ "user": { "id": "bob" } }]));
    carol.mutate_ok("unbanMember", json!({ "chatId": channel, "userId": "bob" })).await;
    assert_eq!(bans().await, Value::Array(Vec::new()));
    cluster.at(0, &bob).mutate_ok("joinChannel", json!({ "chatId": channel })).await;
    cluster.end().await;
}
