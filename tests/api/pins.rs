//! Pinned messages.

use serde_json::{Value, json};
use testkit::{TestApp, User, engine_test, pluck};

fn message(id: &str) -> Value {
    json!({ "messageId": id })
}

async fn pinned(user: &User, chat: &str, arguments: &str) -> (Vec<Value>, Value) {
    let selection = format!(
        "pinnedMessages{arguments} {{ totalCount nodes {{ id }} edges {{ cursor }} pageInfo {{ hasNextPage endCursor }} }}"
    );
    let seen = user.fetch_chat(chat, &selection).await;
    (pluck(&seen["pinnedMessages"]["nodes"], "id"), seen["pinnedMessages"].clone())
}

#[engine_test]
async fn pinned_messages_are_newest_first(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let mut ids = Vec::new();
    for text in ["one", "two", "three", "four"] {
        ids.push(bob.send(&chat, text).await);
    }
    for index in [2, 0, 3, 1] {
        alice.mutate_ok("pinMessage", message(&ids[index])).await;
        app.advance(1);
    }
    let (all, _) = pinned(&bob, &chat, "").await;
    assert_eq!(all, [1, 3, 0, 2].map(|index| json!(ids[index])));
    let (first, info) = pinned(&bob, &chat, "(first: 3)").await;
    assert_eq!(first, all[..3]);
    assert_eq!((&info["totalCount"], &info["pageInfo"]["hasNextPage"]), (&json!(4), &json!(true)));
    let after = format!("(first: 3, after: {})", info["pageInfo"]["endCursor"]);
    let (rest, info) = pinned(&bob, &chat, &after).await;
    assert_eq!((rest.as_slice(), &info["pageInfo"]["hasNextPage"]), (&all[3..], &json!(false)));
    let ask = format!("{{ chat(id: \"{chat}\") {{ pinnedMessages(first: 101) {{ totalCount }} }} }}");
    bob.ask(&ask).await.assert_bad_input("first");
    let seen = bob.fetch_message(&ids[1], "pinnedAt pinnedBy { id }").await;
    assert!(seen["pinnedAt"].is_string());
    assert_eq!(seen["pinnedBy"]["id"], "alice");
    let version = bob.fetch_chat(&chat, "version").await;
    alice.mutate_ok("pinMessage", message(&ids[2])).await;
    assert_eq!(bob.fetch_chat(&chat, "version").await, version, "a second pin has no effect");
    assert_eq!(pinned(&bob, &chat, "").await.0, all);
    alice.mutate_ok("unpinMessage", message(&ids[3])).await;
    alice.mutate_ok("unpinMessage", message(&ids[3])).await;
    assert_eq!(pinned(&bob, &chat, "").await.0, [1, 0, 2].map(|index| json!(ids[index])));
    assert_eq!(
        bob.fetch_message(&ids[3], "pinnedAt pinnedBy { id }").await,
        json!({ "pinnedAt": null, "pinnedBy": null })
    );
    alice.delete_message(&ids[0]).await;
    let (rest, info) = pinned(&bob, &chat, "").await;
    assert_eq!(rest, [json!(ids[1]), json!(ids[2])], "a deleted message is no longer pinned");
    assert_eq!(info["totalCount"], 2);
    alice.mutate("pinMessage", message(&ids[0])).await.assert_error("FORBIDDEN");
}

#[engine_test]
async fn pinning_needs_right(app: &TestApp) {
    let (alice, bob, eve) = (app.user("alice").await, app.user("bob").await, app.user("eve").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let id = bob.send(&chat, "mine").await;
    for field in ["pinMessage", "unpinMessage"] {
        bob.mutate(field, message(&id)).await.assert_error("FORBIDDEN");
        eve.mutate(field, message(&id)).await.assert_error("NOT_FOUND");
        alice.mutate(field, message("msg_nonsense")).await.assert_error("NOT_FOUND");
    }
    alice.mutate_ok("updateChat", json!({ "chatId": chat, "policy": [{ "action": "PIN", "role": "MEMBER" }] })).await;
    bob.mutate_ok("pinMessage", message(&id)).await;
    let channel = alice.chat("CHANNEL", "News", &[]).await;
    let announced = alice.send(&channel, "hello").await;
    alice.mutate_ok("pinMessage", message(&announced)).await;
    assert_eq!(pinned(&eve, &channel, "").await.0, Vec::<Value>::new(), "users who are not members see no pins");
    assert_eq!(pinned(&eve, &channel, "").await.1["totalCount"], 0);
    let direct = bob.mutate_returning("openDirectChat", json!({ "userId": "alice" }), "chat { id }").await;
    let direct = direct.text("openDirectChat.chat.id");
    let between = alice.send(&direct, "hello").await;
    bob.mutate_ok("pinMessage", message(&between)).await;
    let reply = alice.send_message(&chat, json!({ "text": "in a thread", "threadRootId": id })).await;
    alice.mutate_ok("pinMessage", message(&reply)).await;
    assert_eq!(pinned(&bob, &chat, "").await.0, [json!(reply), json!(id)]);
}

#[engine_test]
async fn chat_has_at_most_100_pins(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    let mut ids = Vec::new();
    for n in 0..101 {
        ids.push(alice.send(&chat, &n.to_string()).await);
    }
    for id in &ids[..100] {
        alice.mutate_ok("pinMessage", message(id)).await;
    }
    alice.mutate("pinMessage", message(&ids[100])).await.assert_bad_input("messageId");
    alice.mutate_ok("pinMessage", message(&ids[0])).await;
    let (all, info) = pinned(&alice, &chat, "(first: 100)").await;
    assert_eq!((all.len(), &info["totalCount"]), (100, &json!(100)));
    alice.delete_message(&ids[0]).await;
    alice.mutate_ok("pinMessage", message(&ids[100])).await;
}

#[engine_test]
async fn chat_feed_delivers_pin_changes(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let id = alice.send(&chat, "hello").await;
    let query = "subscription($chat: ID!) { chatFeed(chatId: $chat) { __typename ... on MessageUpserted {
            change message { id pinnedBy { id } system { kind detail } } } } }";
    let mut feed = bob.subscribe(query, json!({ "chat": chat })).await;
    feed.expect("FeedCaughtUp").await;
    alice.mutate_ok("pinMessage", message(&id)).await;
    let event = feed.next_non_member_event().await;
    assert_eq!((&event["change"], &event["message"]["pinnedBy"]["id"]), (&json!("PIN"), &json!("alice")));
    let event = feed.next_non_member_event().await;
    assert_eq!(event["message"]["system"], json!({ "kind": "MESSAGE_PINNED", "detail": id }));
    alice.mutate_ok("unpinMessage", message(&id)).await;
    let event = feed.next_non_member_event().await;
    assert_eq!((&event["change"], &event["message"]["pinnedBy"]), (&json!("PIN"), &Value::Null));
}
