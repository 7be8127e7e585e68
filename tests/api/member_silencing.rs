//! Silenced members, who cannot post in a chat until a given time.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use testkit::{TestApp, User, engine_test};

fn silence(chat: &str, user: &str, until: Value) -> Value {
    json!({ "chatId": chat, "userId": user, "until": until })
}

#[engine_test]
async fn silenced_member_cannot_post_until_exact_time(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    let own = bob.send(&chat, "mine").await;
    let poll = json!({ "poll": { "question": "Where to?", "options": ["hill", "lake"] } });
    let poll = alice.send_message(&chat, poll).await;
    let option = bob.fetch_message(&poll, "poll { options { id } }").await["poll"]["options"][0]["id"].clone();
    let until = app.time_in(3_600);
    let silenced =
        alice.mutate_returning("silenceMember", silence(&chat, "bob", json!(until)), "member { silencedUntil }").await;
    let silenced_until = silenced.text("silenceMember.member.silencedUntil");
    let all = async |user: &User| {
        [
            user.mutate("sendMessage", json!({ "chatId": chat, "text": "hello" })).await,
            user.mutate("editMessage", json!({ "messageId": own, "text": "changed" })).await,
            user.mutate("addReaction", json!({ "messageId": poll, "emoji": "👍" })).await,
            user.mutate("votePoll", json!({ "messageId": poll, "optionIds": [option] })).await,
            user.mutate("forwardMessage", json!({ "messageId": poll, "toChatId": chat })).await,
            user.mutate("sendMessage", json!({ "chatId": chat, "text": "in it", "threadRootId": poll })).await,
        ]
    };
    for reply in all(&bob).await {
        reply.assert_error("FORBIDDEN");
    }
    // A silenced member can read, and other members can post.
    bob.mutate_ok("markRead", json!({ "chatId": chat })).await;
    carol.send(&chat, "hello").await;
    let view = carol.fetch_chat(&chat, "members { nodes { user { id } silencedUntil } }").await;
    assert_eq!(view["members"]["nodes"][1], json!({ "user": { "id": "bob" }, "silencedUntil": silenced_until }));
    let can = bob.fetch_chat(&chat, "viewerCan { action allowed reason until }").await;
    let post = can["viewerCan"].as_array().unwrap().iter().find(|can| can["action"] == "POST").unwrap().clone();
    assert_eq!((&post["allowed"], &post["until"]), (&json!(false), &json!(silenced_until)));
    app.advance(3_540);
    bob.try_send_message(&chat, json!({ "text": "a minute before" })).await.assert_error("FORBIDDEN");
    let until: DateTime<Utc> = silenced_until.parse().unwrap();
    app.app.clock.advance((until - app.app.clock.now()).to_std().unwrap_or(Duration::ZERO));
    for reply in all(&bob).await {
        reply.data();
    }
}

#[engine_test]
async fn silencing_needs_higher_role_and_can_be_lifted(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    app.user("dora").await;
    let chat = alice.group("Walk", &[&bob]).await;
    alice.add_member(&chat, "carol", "MODERATOR").await;
    alice.add_member(&chat, "dora", "MODERATOR").await;
    let until = app.time_in(3_600);
    bob.mutate("silenceMember", silence(&chat, "carol", json!(until))).await.assert_error("FORBIDDEN");
    for user in ["alice", "dora"] {
        carol.mutate("silenceMember", silence(&chat, user, json!(until))).await.assert_error("FORBIDDEN");
    }
    alice.mutate("silenceMember", silence(&chat, "alice", json!(until))).await.assert_bad_input("userId");
    for past in [app.time_in(-1), app.time_in(-86_400)] {
        carol.mutate("silenceMember", silence(&chat, "bob", json!(past))).await.assert_bad_input("until");
    }
    app.user("eve").await.mutate("silenceMember", silence(&chat, "bob", json!(until))).await.assert_error("NOT_FOUND");
    carol.mutate("silenceMember", silence(&chat, "eve", json!(until))).await.assert_error("NOT_FOUND");
    carol.mutate_ok("silenceMember", silence(&chat, "bob", json!(until))).await;
    bob.try_send_message(&chat, json!({ "text": "hello" })).await.assert_error("FORBIDDEN");
    bob.mutate("silenceMember", silence(&chat, "bob", Value::Null)).await.assert_error("FORBIDDEN");
    let lifted =
        carol.mutate_returning("silenceMember", silence(&chat, "bob", Value::Null), "member { silencedUntil }").await;
    assert_eq!(lifted.at("silenceMember.member.silencedUntil"), &Value::Null);
    bob.send(&chat, "hello").await;
    let direct = bob.mutate_returning("openDirectChat", json!({ "userId": "carol" }), "chat { id }").await;
    let direct = direct.text("openDirectChat.chat.id");
    bob.mutate("silenceMember", silence(&direct, "carol", json!(until))).await.assert_error("FORBIDDEN");
}

#[engine_test]
async fn rejoining_does_not_lift_silence(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.chat("CHANNEL", "News", &[&bob]).await;
    let policy = json!([{ "action": "POST", "role": "MEMBER" }]);
    alice.mutate_ok("updateChat", json!({ "chatId": chat, "policy": policy })).await;
    bob.send(&chat, "hello").await;
    alice.mutate_ok("silenceMember", silence(&chat, "bob", json!(app.time_in(3_600)))).await;
    bob.mutate_ok("leaveChat", json!({ "chatId": chat })).await;
    let again = bob.mutate_returning("joinChannel", json!({ "chatId": chat }), "member { silencedUntil }").await;
    assert!(again.at("joinChannel.member.silencedUntil").is_string(), "{}", again.body);
    bob.try_send_message(&chat, json!({ "text": "me again" })).await.assert_error("FORBIDDEN");
    alice.mutate_ok("removeMember", json!({ "chatId": chat, "userId": "bob" })).await;
    alice.add_member(&chat, "bob", "MEMBER").await;
    bob.try_send_message(&chat, json!({ "text": "me again" })).await.assert_error("FORBIDDEN");
    app.advance(3_600);
    bob.send(&chat, "me again").await;
}
