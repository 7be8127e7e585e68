//! Silence: saying nothing in a chat until a moment.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::support::{User, each_engine};

fn silence(chat: &str, user: &str, until: Value) -> Value {
    json!({ "chatId": chat, "userId": user, "until": until })
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_is_silenced_says_nothing_until_exactly_then() {
    each_engine(async |app| {
        let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
        let chat = alice.group("Walk", &[&bob, &carol]).await;
        let own = bob.send(&chat, "mine").await;
        let poll = json!({ "poll": { "question": "Where to?", "options": ["hill", "lake"] } });
        let poll = alice.sends(&chat, poll).await;
        let option = bob.sees(&poll, "poll { options { id } }").await["poll"]["options"][0]["id"].clone();
        let until = app.moment(3_600);
        let silenced =
            alice.mutate("silenceMember", silence(&chat, "bob", json!(until)), "member { silencedUntil }").await;
        let told = silenced.text("silenceMember.member.silencedUntil");
        let all = async |who: &User| {
            [
                who.act("sendMessage", json!({ "chatId": chat, "text": "hello" })).await,
                who.act("editMessage", json!({ "messageId": own, "text": "changed" })).await,
                who.act("addReaction", json!({ "messageId": poll, "emoji": "👍" })).await,
                who.act("votePoll", json!({ "messageId": poll, "optionIds": [option] })).await,
                who.act("forwardMessage", json!({ "messageId": poll, "toChatId": chat })).await,
                who.act("sendMessage", json!({ "chatId": chat, "text": "in it", "threadRootId": poll })).await,
            ]
        };
        for refused in all(&bob).await {
            refused.refused("FORBIDDEN");
        }
        // Reading goes on, and so does the rest of the chat.
        bob.does("markRead", json!({ "chatId": chat })).await;
        carol.send(&chat, "hello").await;
        let seen = carol.sees_chat(&chat, "members { nodes { user { id } silencedUntil } }").await;
        assert_eq!(seen["members"]["nodes"][1], json!({ "user": { "id": "bob" }, "silencedUntil": told }));
        let can = bob.sees_chat(&chat, "viewerCan { action allowed reason until }").await;
        let post = can["viewerCan"].as_array().unwrap().iter().find(|can| can["action"] == "POST").unwrap().clone();
        assert_eq!((&post["allowed"], &post["until"]), (&json!(false), &json!(told)));
        app.advance(3_540);
        bob.try_send(&chat, json!({ "text": "a minute before" })).await.refused("FORBIDDEN");
        let until: DateTime<Utc> = told.parse().unwrap();
        app.app.clock.advance((until - app.app.clock.now()).to_std().unwrap_or(Duration::ZERO));
        for allowed in all(&bob).await {
            allowed.data();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_for_those_below_and_is_lifted_by_hand() {
    each_engine(async |app| {
        let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
        app.user("dora").await;
        let chat = alice.group("Walk", &[&bob]).await;
        alice.adds(&chat, "carol", "MODERATOR").await;
        alice.adds(&chat, "dora", "MODERATOR").await;
        let until = app.moment(3_600);
        bob.act("silenceMember", silence(&chat, "carol", json!(until))).await.refused("FORBIDDEN");
        for above in ["alice", "dora"] {
            carol.act("silenceMember", silence(&chat, above, json!(until))).await.refused("FORBIDDEN");
        }
        alice.act("silenceMember", silence(&chat, "alice", json!(until))).await.bad_input("userId");
        for past in [app.moment(-1), app.moment(-86_400)] {
            carol.act("silenceMember", silence(&chat, "bob", json!(past))).await.bad_input("until");
        }
        app.user("eve").await.act("silenceMember", silence(&chat, "bob", json!(until))).await.refused("NOT_FOUND");
        carol.act("silenceMember", silence(&chat, "eve", json!(until))).await.refused("NOT_FOUND");
        carol.does("silenceMember", silence(&chat, "bob", json!(until))).await;
        bob.try_send(&chat, json!({ "text": "hello" })).await.refused("FORBIDDEN");
        bob.act("silenceMember", silence(&chat, "bob", Value::Null)).await.refused("FORBIDDEN");
        let lifted =
            carol.mutate("silenceMember", silence(&chat, "bob", Value::Null), "member { silencedUntil }").await;
        assert_eq!(lifted.at("silenceMember.member.silencedUntil"), &Value::Null);
        bob.send(&chat, "hello").await;
        let direct = bob.mutate("openDirectChat", json!({ "userId": "carol" }), "chat { id }").await;
        let direct = direct.text("openDirectChat.chat.id");
        bob.act("silenceMember", silence(&direct, "carol", json!(until))).await.refused("FORBIDDEN");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_and_joining_again_does_not_end_silence() {
    each_engine(async |app| {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let chat = alice.chat("CHANNEL", "News", &[&bob]).await;
        let policy = json!([{ "action": "POST", "role": "MEMBER" }]);
        alice.does("updateChat", json!({ "chatId": chat, "policy": policy })).await;
        bob.send(&chat, "hello").await;
        alice.does("silenceMember", silence(&chat, "bob", json!(app.moment(3_600)))).await;
        bob.does("leaveChat", json!({ "chatId": chat })).await;
        let again = bob.mutate("joinChannel", json!({ "chatId": chat }), "member { silencedUntil }").await;
        assert!(again.at("joinChannel.member.silencedUntil").is_string(), "{}", again.body);
        bob.try_send(&chat, json!({ "text": "me again" })).await.refused("FORBIDDEN");
        alice.does("removeMember", json!({ "chatId": chat, "userId": "bob" })).await;
        alice.adds(&chat, "bob", "MEMBER").await;
        bob.try_send(&chat, json!({ "text": "me again" })).await.refused("FORBIDDEN");
        app.advance(3_600);
        bob.send(&chat, "me again").await;
    })
    .await;
}
