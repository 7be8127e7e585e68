//! Concurrent requests.

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::{TestApp, User, engine_test};

/// Returns the messages of users, each with its sequence number.
async fn history(reader: &User, chat: &str) -> Vec<(i64, String)> {
    let mut messages = Vec::new();
    let mut before = String::new();
    loop {
        let query = format!(
            "{{ chat(id: \"{chat}\") {{ messages(last: 100{before}) {{ nodes {{ seq kind text }} pageInfo {{ hasPreviousPage startCursor }} }} }} }}"
        );
        let page = reader.ask(&query).await;
        let nodes = page.at("chat.messages.nodes").as_array().unwrap();
        let to_message = |node: &Value| (node["seq"].as_i64().unwrap(), node["text"].as_str().unwrap().to_owned());
        messages.splice(0..0, nodes.iter().filter(|node| node["kind"] != "SYSTEM").map(to_message));
        if page.at("chat.messages.pageInfo.hasPreviousPage") == &json!(false) {
            return messages;
        }
        before = format!(", before: \"{}\"", page.text("chat.messages.pageInfo.startCursor"));
    }
}

#[engine_test]
async fn concurrent_sends_have_one_order_for_every_reader(app: &TestApp) {
    let mut users = Vec::new();
    for n in 0..50 {
        users.push(app.user(&format!("user{n}")).await);
    }
    let chat = users[0].group("Crowd", &users[1..].iter().collect::<Vec<_>>()).await;
    let mut feeds = Vec::new();
    for reader in &users[..5] {
        let mut feed = reader.feed(&chat, None, None).await;
        feed.expect("FeedCaughtUp").await;
        feeds.push(feed);
    }
    join_all(users.iter().map(async |user| {
        for n in 0..10 {
            user.send(&chat, &format!("{} {n}", user.id)).await;
        }
    }))
    .await;
    let stored = history(&users[7], &chat).await;
    assert_eq!(stored.len(), 500);
    assert!(stored.is_sorted_by(|earlier, later| earlier.0 < later.0), "strictly ascending");
    for user in &users {
        let own: Vec<_> = stored
            .iter()
            .filter(|(_, text)| text.starts_with(&format!("{} ", user.id)))
            .map(|(_, text)| text.clone())
            .collect();
        let sent: Vec<_> = (0..10).map(|n| format!("{} {n}", user.id)).collect();
        assert_eq!(own, sent, "the messages of each user, in the order of sending");
    }
    for feed in &mut feeds {
        for (seq, text) in &stored {
            let event = feed.expect("MessageUpserted").await;
            assert_eq!(
                (event["message"]["seq"].as_i64(), event["message"]["text"].as_str()),
                (Some(*seq), Some(text.as_str()))
            );
        }
    }
}

#[engine_test]
async fn concurrent_replays_create_one_message(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let send = async |user: &User, text: &str| {
        user.mutate_returning(
            "sendMessage",
            json!({ "chatId": chat, "text": text, "nonce": "once" }),
            "replayed message { id text }",
        )
        .await
    };
    let replies = join_all((0..20).map(|_| send(&alice, "only once"))).await;
    let first = replies.iter().filter(|reply| reply.at("sendMessage.replayed") == false).count();
    assert_eq!(first, 1);
    for reply in &replies {
        assert_eq!(reply.at("sendMessage.message"), replies[0].at("sendMessage.message"));
    }
    send(&alice, "something else").await.assert_error("CONFLICT");
    assert_eq!(send(&bob, "Bob's own nonce").await.at("sendMessage.replayed"), false);
    assert_eq!(history(&alice, &chat).await.len(), 2);

    // A replay returns the first message in its current state, even to a member who may no longer send.
    let id = replies[0].text("sendMessage.message.id");
    alice.mutate_returning("editMessage", json!({ "messageId": id, "text": "edited" }), "message { id }").await.data();
    alice
        .mutate_returning(
            "updateChat",
            json!({ "chatId": chat, "slowModeSeconds": 60, "policy": [{ "action": "POST", "role": "OWNER" }] }),
            "chat { id }",
        )
        .await
        .data();
    assert_eq!(send(&alice, "only once").await.at("sendMessage.message.text"), "edited");
    assert_eq!(send(&bob, "Bob's own nonce").await.at("sendMessage.replayed"), true);
    alice.mutate_returning("removeMember", json!({ "chatId": chat, "userId": "bob" }), "removedUserId").await.data();
    send(&bob, "Bob's own nonce").await.assert_error("NOT_FOUND");
}

#[engine_test(settings = [("PARLOR_SEND_QUEUE", "1")])]
async fn full_send_queue_rejects_without_losing_messages(app: &TestApp) {
    // One organization cannot fill the queue, so each sender is of another.
    let senders = join_all((0..30).map(async |n| {
        let sender = app.user_in(&format!("organization{n}"), "alice", None).await;
        let chat = sender.group("Walk", &[]).await;
        (sender, chat)
    }))
    .await;
    let replies = join_all(senders.iter().map(|(sender, chat)| {
        sender.mutate_returning("sendMessage", json!({ "chatId": chat, "text": "text" }), "message { text }")
    }))
    .await;
    let (sent, rejected): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.body.get("errors").is_none());
    for reply in &rejected {
        reply.assert_error("UNAVAILABLE");
        assert!(reply.body["errors"][0]["extensions"]["retryAfterMs"].as_u64().unwrap() > 0);
    }
    assert!(!sent.is_empty());
    let mut stored = 0;
    for (sender, chat) in &senders {
        stored += history(sender, chat).await.len();
    }
    assert_eq!(stored, sent.len());
}

#[engine_test]
async fn in_flight_sends_of_removed_member_are_rejected(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let sends = join_all((0..40).map(|n| {
        let input = json!({ "chatId": chat, "text": n.to_string() });
        bob.mutate_returning("sendMessage", input, "message { seq }")
    }));
    let removal =
        alice.mutate_returning("removeMember", json!({ "chatId": chat, "userId": "bob" }), "chat { version }");
    let (sends, removal) = futures_util::join!(sends, removal);
    let removed_at = removal.at("removeMember.chat.version").as_i64().unwrap();
    for reply in sends {
        match reply.body.get("errors") {
            None => assert!(reply.at("sendMessage.message.seq").as_i64().unwrap() < removed_at),
            Some(_) => reply.assert_error("NOT_FOUND"),
        }
    }
}

#[engine_test(settings = [("PARLOR_DATABASE_CONNECTIONS", "2")])]
async fn requests_with_many_lookups_do_not_deadlock_on_connections(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    // Some of these fields are loaded individually, others in batches.
    let query = format!(
            "{{ viewer {{ unread {{ chats }} }} chats {{ nodes {{ id }} }}
               chat(id: \"{chat}\") {{ viewerMembership {{ unreadCount }} messages {{ totalCount nodes {{ id }} }} }} }}"
        );
    for reply in join_all((0..50).map(|_| alice.ask(&query))).await {
        assert_eq!(reply.at("chat.messages.totalCount"), 2);
    }
}

#[engine_test]
async fn concurrent_chat_changes_take_distinct_versions(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let id = alice.send(&chat, "start").await;
    let version = async || {
        alice.ask(&format!("{{ chat(id: \"{chat}\") {{ version }} }}")).await.at("chat.version").as_i64().unwrap()
    };
    let before = version().await;
    let titles = (0..10).map(|n| {
        alice.mutate_returning("updateChat", json!({ "chatId": chat, "title": format!("Walk {n}") }), "chat { id }")
    });
    let edits = (0..10).map(|n| {
        alice.mutate_returning("editMessage", json!({ "messageId": id, "text": format!("edit {n}") }), "message { id }")
    });
    let emoji = ["👍", "👎", "🎉", "🦀", "🔥", "🚀", "👀", "💯", "🙏", "✅"];
    let reactions = emoji
        .map(|emoji| bob.mutate_returning("addReaction", json!({ "messageId": id, "emoji": emoji }), "message { id }"));
    let sends = (0..10).map(|n| {
        bob.mutate_returning("sendMessage", json!({ "chatId": chat, "text": n.to_string() }), "message { id }")
    });
    let (titles, edits, reactions, sends) =
        futures_util::join!(join_all(titles), join_all(edits), join_all(reactions), join_all(sends));
    for reply in titles.iter().chain(&edits).chain(&reactions).chain(&sends) {
        reply.data();
    }
    // The system message for each change of the title takes a version too.
    assert_eq!(version().await, before + 50);
}
