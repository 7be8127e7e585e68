//! What the server tells of a chat, in messages of its own.

use serde_json::{Value, json};
use testkit::{TestApp, User, engine_test};

/// All notices of a chat: kind, actor, subject and detail.
async fn notices(who: &User, chat: &str) -> Vec<Value> {
    let what =
        "messages(first: 100) { nodes { kind text sender { id } system { kind detail actor { id } subject { id } } } }";
    let seen = who.fetch_chat(chat, what).await;
    let messages = seen["messages"]["nodes"].as_array().unwrap();
    let systems: Vec<_> = messages.iter().filter(|message| message["kind"] == "SYSTEM").collect();
    assert!(systems.iter().all(|message| message["sender"].is_null() && message["text"].is_null()), "{systems:?}");
    assert!(
        messages.iter().all(|message| message["system"].is_null() == (message["kind"] != "SYSTEM")),
        "{messages:?}"
    );
    systems.iter().map(|message| brief(&message["system"])).collect()
}

fn brief(system: &Value) -> Value {
    json!([system["kind"], system["actor"]["id"], system["subject"]["id"], system["detail"]])
}

#[engine_test]
async fn system_message_names_actor_and_subject(app: &TestApp) {
    let (alice, bob, _carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let mut told = vec![json!(["CHAT_CREATED", "alice", null, "Walk"]), json!(["WELCOME", "alice", null, "Walk"])];
    assert_eq!(notices(&bob, &chat).await, told);
    let said = bob.send(&chat, "hello").await;
    let mut feed = bob.feed(&chat, None, None).await;
    feed.expect("FeedCaughtUp").await;
    let silenced = json!({ "chatId": chat, "userId": "bob", "until": app.time_in(60) });
    let lifted = json!({ "chatId": chat, "userId": "bob" });
    for (field, input, notice) in [
        (
            "addMembers",
            json!({ "chatId": chat, "userIds": ["carol", "bob"] }),
            json!(["MEMBER_ADDED", "alice", "carol", null]),
        ),
        (
            "changeMemberRole",
            json!({ "chatId": chat, "userId": "carol", "role": "MODERATOR" }),
            json!(["ROLE_CHANGED", "alice", "carol", "MODERATOR"]),
        ),
        (
            "updateChat",
            json!({ "chatId": chat, "title": "Run", "slowModeSeconds": 1, "policy": [{ "action": "PIN", "role": "ADMIN" }] }),
            json!(["DETAILS_CHANGED", "alice", null, "title,policy,slowModeSeconds"]),
        ),
        ("pinMessage", json!({ "messageId": said }), json!(["MESSAGE_PINNED", "alice", null, said])),
        ("unpinMessage", json!({ "messageId": said }), Value::Null),
        ("silenceMember", silenced, Value::Null),
        ("silenceMember", lifted, Value::Null),
        (
            "removeMember",
            json!({ "chatId": chat, "userId": "carol" }),
            json!(["MEMBER_REMOVED", "alice", "carol", null]),
        ),
        (
            "archiveChat",
            json!({ "chatId": chat, "archived": true }),
            json!(["DETAILS_CHANGED", "alice", null, "archivedAt"]),
        ),
        (
            "archiveChat",
            json!({ "chatId": chat, "archived": false }),
            json!(["DETAILS_CHANGED", "alice", null, "archivedAt"]),
        ),
        ("updateChat", json!({ "chatId": chat, "title": "Run" }), Value::Null),
    ] {
        alice.mutate_ok(field, input).await;
        told.extend((!notice.is_null()).then_some(notice));
        assert_eq!(notices(&bob, &chat).await, told, "{field}");
    }
    alice.mutate_ok("leaveChat", json!({ "chatId": chat })).await;
    told.push(json!(["MEMBER_LEFT", "alice", "alice", null]));
    told.push(json!(["ROLE_CHANGED", "alice", "bob", "OWNER"]));
    assert_eq!(notices(&bob, &chat).await, told);
    let channel = alice.chat("CHANNEL", "News", &[]).await;
    bob.mutate_ok("joinChannel", json!({ "chatId": channel })).await;
    assert_eq!(
        notices(&bob, &channel).await[2..],
        [json!(["MEMBER_ADDED", "bob", "bob", null])],
        "both, who came by himself"
    );
    let added = loop {
        let event = feed.next_non_member_event().await;
        if event["__typename"] == "MessageUpserted" {
            break event;
        }
    };
    assert_eq!((&added["change"], &added["message"]["sender"]), (&json!("ADDED"), &Value::Null), "feeds tell of it");
}

#[engine_test]
async fn direct_chat_has_no_system_messages(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let direct =
        alice.mutate_returning("openDirectChat", json!({ "userId": "bob" }), "chat { id lastMessage { id } }").await;
    assert_eq!(direct.at("openDirectChat.chat.lastMessage"), &Value::Null);
    let chat = direct.text("openDirectChat.chat.id");
    let said = bob.send(&chat, "hello").await;
    assert_eq!(notices(&alice, &chat).await, Vec::<Value>::new());
    alice.mutate_ok("pinMessage", json!({ "messageId": said })).await;
    let seen = notices(&alice, &chat).await;
    assert_eq!(seen, Vec::<Value>::new(), "not even of a pin");
}

#[engine_test]
async fn system_message_is_immutable_and_never_unread(app: &TestApp) {
    let alice = app
        .user_in("demo", "alice", Some(&["chat.view", "chat.create_group", "chat.manage_group", "chat.moderate"]))
        .await;
    let bob = app.user("bob").await;
    let chat = alice.group("Walk", &[&bob]).await;
    let own = alice.send(&chat, "hello").await;
    let seen = alice.fetch_chat(&chat, "messages(first: 1) { nodes { id } }").await;
    let notice = seen["messages"]["nodes"][0]["id"].clone();
    for (field, input) in [
        ("editMessage", json!({ "messageId": notice, "text": "changed" })),
        ("deleteMessage", json!({ "messageId": notice })),
        ("addReaction", json!({ "messageId": notice, "emoji": "👍" })),
        ("removeReaction", json!({ "messageId": notice, "emoji": "👍" })),
        ("pinMessage", json!({ "messageId": notice })),
        ("unpinMessage", json!({ "messageId": notice })),
        ("forwardMessage", json!({ "messageId": notice, "toChatId": chat })),
        ("reportMessage", json!({ "messageId": notice, "reason": "rude" })),
        ("votePoll", json!({ "messageId": notice, "optionIds": [] })),
        ("closePoll", json!({ "messageId": notice })),
        ("sendMessage", json!({ "chatId": chat, "text": "in it", "threadRootId": notice })),
    ] {
        alice.mutate(field, input.clone()).await.assert_error("FORBIDDEN");
        bob.mutate(field, input).await.assert_error("FORBIDDEN");
    }
    let can = alice.fetch_message(notice.as_str().unwrap(), "viewerCanEdit viewerCanDelete").await;
    assert_eq!(can, json!({ "viewerCanEdit": false, "viewerCanDelete": false }));
    let unread = bob.fetch_chat(&chat, "viewerMembership { unreadCount }").await;
    assert_eq!(unread["viewerMembership"]["unreadCount"], 1, "what Alice said");
    alice.delete_message(&own).await;
    let newest = bob.fetch_chat(&chat, "lastMessage { id }").await;
    assert_eq!(newest["lastMessage"]["id"], own, "its place stays");
}
