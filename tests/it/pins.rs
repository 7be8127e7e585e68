//! Pinned messages.

use serde_json::{Value, json};

use crate::support::{User, each, each_engine};

fn message(id: &str) -> Value {
    json!({ "messageId": id })
}

async fn pinned(who: &User, chat: &str, arguments: &str) -> (Vec<Value>, Value) {
    let what = format!(
        "pinnedMessages{arguments} {{ totalCount nodes {{ id }} edges {{ cursor }} pageInfo {{ hasNextPage endCursor }} }}"
    );
    let seen = who.sees_chat(chat, &what).await;
    (each(&seen["pinnedMessages"]["nodes"], "id"), seen["pinnedMessages"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_pin_is_first() {
    each_engine(async |app| {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let chat = alice.group("Walk", &[&bob]).await;
        let mut ids = Vec::new();
        for text in ["one", "two", "three", "four"] {
            ids.push(bob.send(&chat, text).await);
        }
        for place in [2, 0, 3, 1] {
            alice.does("pinMessage", message(&ids[place])).await;
            app.advance(1);
        }
        let (all, _) = pinned(&bob, &chat, "").await;
        assert_eq!(all, [1, 3, 0, 2].map(|place| json!(ids[place])));
        let (first, info) = pinned(&bob, &chat, "(first: 3)").await;
        assert_eq!(first, all[..3]);
        assert_eq!((&info["totalCount"], &info["pageInfo"]["hasNextPage"]), (&json!(4), &json!(true)));
        let after = format!("(first: 3, after: {})", info["pageInfo"]["endCursor"]);
        let (rest, info) = pinned(&bob, &chat, &after).await;
        assert_eq!((rest.as_slice(), &info["pageInfo"]["hasNextPage"]), (&all[3..], &json!(false)));
        let ask = format!("{{ chat(id: \"{chat}\") {{ pinnedMessages(first: 101) {{ totalCount }} }} }}");
        bob.ask(&ask).await.bad_input("first");
        let seen = bob.sees(&ids[1], "pinnedAt pinnedBy { id }").await;
        assert!(seen["pinnedAt"].is_string());
        assert_eq!(seen["pinnedBy"]["id"], "alice");
        let version = bob.sees_chat(&chat, "version").await;
        alice.does("pinMessage", message(&ids[2])).await;
        assert_eq!(bob.sees_chat(&chat, "version").await, version, "pinned once is enough");
        assert_eq!(pinned(&bob, &chat, "").await.0, all);
        alice.does("unpinMessage", message(&ids[3])).await;
        alice.does("unpinMessage", message(&ids[3])).await;
        assert_eq!(pinned(&bob, &chat, "").await.0, [1, 0, 2].map(|place| json!(ids[place])));
        assert_eq!(bob.sees(&ids[3], "pinnedAt pinnedBy { id }").await, json!({ "pinnedAt": null, "pinnedBy": null }));
        alice.delete(&ids[0]).await;
        let (left, info) = pinned(&bob, &chat, "").await;
        assert_eq!(left, [json!(ids[1]), json!(ids[2])], "a deleted message is not pinned any more");
        assert_eq!(info["totalCount"], 2);
        alice.act("pinMessage", message(&ids[0])).await.refused("FORBIDDEN");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_pin_who_may() {
    each_engine(async |app| {
        let (alice, bob, eve) = (app.user("alice").await, app.user("bob").await, app.user("eve").await);
        let chat = alice.group("Walk", &[&bob]).await;
        let id = bob.send(&chat, "mine").await;
        for field in ["pinMessage", "unpinMessage"] {
            bob.act(field, message(&id)).await.refused("FORBIDDEN");
            eve.act(field, message(&id)).await.refused("NOT_FOUND");
            alice.act(field, message("msg_nonsense")).await.refused("NOT_FOUND");
        }
        alice.does("updateChat", json!({ "chatId": chat, "policy": [{ "action": "PIN", "role": "MEMBER" }] })).await;
        bob.does("pinMessage", message(&id)).await;
        let channel = alice.chat("CHANNEL", "News", &[]).await;
        let announced = alice.send(&channel, "hello").await;
        alice.does("pinMessage", message(&announced)).await;
        assert_eq!(pinned(&eve, &channel, "").await.0, Vec::<Value>::new(), "not for one who is not in");
        assert_eq!(pinned(&eve, &channel, "").await.1["totalCount"], 0);
        let direct = bob.mutate("openDirectChat", json!({ "userId": "alice" }), "chat { id }").await;
        let direct = direct.text("openDirectChat.chat.id");
        let between = alice.send(&direct, "hello").await;
        bob.does("pinMessage", message(&between)).await;
        let reply = alice.sends(&chat, json!({ "text": "in a thread", "threadRootId": id })).await;
        alice.does("pinMessage", message(&reply)).await;
        assert_eq!(pinned(&bob, &chat, "").await.0, [json!(reply), json!(id)]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_has_at_most_a_hundred_pins() {
    each_engine(async |app| {
        let alice = app.user("alice").await;
        let chat = alice.group("Walk", &[]).await;
        let mut ids = Vec::new();
        for n in 0..101 {
            ids.push(alice.send(&chat, &n.to_string()).await);
        }
        for id in &ids[..100] {
            alice.does("pinMessage", message(id)).await;
        }
        alice.act("pinMessage", message(&ids[100])).await.bad_input("messageId");
        alice.does("pinMessage", message(&ids[0])).await;
        let (all, info) = pinned(&alice, &chat, "(first: 100)").await;
        assert_eq!((all.len(), &info["totalCount"]), (100, &json!(100)));
        alice.delete(&ids[0]).await;
        alice.does("pinMessage", message(&ids[100])).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn feeds_tell_of_pins() {
    each_engine(async |app| {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let chat = alice.group("Walk", &[&bob]).await;
        let id = alice.send(&chat, "hello").await;
        let query = "subscription($chat: ID!) { chatFeed(chatId: $chat) { __typename ... on MessageUpserted {
            change message { id pinnedBy { id } system { kind detail } } } } }";
        let mut feed = bob.subscribe(query, json!({ "chat": chat })).await;
        feed.expect("FeedCaughtUp").await;
        alice.does("pinMessage", message(&id)).await;
        let event = feed.next_but_members().await;
        assert_eq!((&event["change"], &event["message"]["pinnedBy"]["id"]), (&json!("PIN"), &json!("alice")));
        let event = feed.next_but_members().await;
        assert_eq!(event["message"]["system"], json!({ "kind": "MESSAGE_PINNED", "detail": id }));
        alice.does("unpinMessage", message(&id)).await;
        let event = feed.next_but_members().await;
        assert_eq!((&event["change"], &event["message"]["pinnedBy"]), (&json!("PIN"), &Value::Null));
    })
    .await;
}
