//! Isolation of organizations, and of chats from users who are not members.
//!
//! The results of requests by such users are tested in `authorization_matrix.rs`.

use std::time::Duration;

use serde_json::json;
use testkit::{TestApp, engine_test};
use tokio::time::timeout;

#[engine_test]
async fn organizations_share_no_users_or_channels(app: &TestApp) {
    let carol = app.user("carol").await;
    app.user_in("other", "mallory", None).await;
    let spy = app.user_in("other", "spy", None).await;
    let users = spy.ask("{ users { nodes { id } } found: users(search: \"carol\") { nodes { id } } }").await;
    assert_eq!(users.at("users.nodes"), &json!([{ "id": "mallory" }, { "id": "spy" }]));
    assert_eq!(users.at("found.nodes"), &json!([]));
    let channel = carol.chat("CHANNEL", "News", &[]).await;
    spy.mutate_returning("joinChannel", json!({ "chatId": channel }), "member { id }").await.assert_error("NOT_FOUND");
    let query =
        format!("{{ chat(id: \"{channel}\") {{ id }} chats(filter: {{ joinable: true }}) {{ nodes {{ id }} }} }}");
    assert_eq!(spy.ask(&query).await.data(), &json!({ "chat": null, "chats": { "nodes": [] } }));
}

#[engine_test]
async fn non_member_receives_no_event(app: &TestApp) {
    let (alice, mallory) = (app.user("alice").await, app.user("mallory").await);
    let chat = alice.group("Secret", &[]).await;
    let own = mallory.group("Own", &[]).await;
    let mut added = mallory.subscribe("subscription { messageAdded { text } }", json!({})).await;
    // The feed has no event at its start, so messages are sent until one arrives.
    loop {
        mallory.send(&own, "probe").await;
        if timeout(Duration::from_millis(500), added.next()).await.is_ok() {
            break;
        }
    }
    for _ in 0..5 {
        alice.send(&chat, "secret").await;
    }
    mallory.send(&own, "mine").await;
    loop {
        let message = added.next().await;
        assert_ne!(message["text"], "secret");
        if message["text"] == "mine" {
            break;
        }
    }
}
