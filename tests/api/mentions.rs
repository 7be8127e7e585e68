//! Mentions: of members by name, and of everyone.

use serde_json::{Value, json};
use testkit::{TestApp, User, engine_test, pluck};

async fn unread(user: &User, chat: &str) -> (i64, i64) {
    let seen = user.fetch_chat(chat, "viewerMembership { unreadCount unreadMentionCount }").await;
    let own = &seen["viewerMembership"];
    (own["unreadCount"].as_i64().unwrap(), own["unreadMentionCount"].as_i64().unwrap())
}

#[engine_test]
async fn mentions_resolve_to_current_members_only(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    app.user("eve").await;
    let mention = |ids: &[&str]| json!({ "text": "look", "mentionIds": ids });
    let id = alice.send_message(&chat, mention(&["carol", "bob", "carol"])).await;
    let seen = bob.fetch_message(&id, "mentions { id } mentionsEveryone").await;
    assert_eq!(seen, json!({ "mentions": [{ "id": "bob" }, { "id": "carol" }], "mentionsEveryone": false }));
    for outsider in ["eve", "nobody"] {
        alice.try_send_message(&chat, mention(&["bob", outsider])).await.assert_bad_input("mentionIds");
    }
    carol.mutate_ok("leaveChat", json!({ "chatId": chat })).await;
    alice.try_send_message(&chat, mention(&["carol"])).await.assert_bad_input("mentionIds");
    let seen = bob.fetch_message(&id, "mentions { id }").await;
    assert_eq!(
        seen["mentions"],
        json!([{ "id": "bob" }, { "id": "carol" }]),
        "the mentions of the time at which the message was sent"
    );
    let same = mention(&["bob"]);
    let with_nonce = |mut input: Value| {
        input["nonce"] = "n".into();
        input
    };
    let first = alice.send_message(&chat, with_nonce(same.clone())).await;
    assert_eq!(alice.send_message(&chat, with_nonce(mention(&["bob", "bob"]))).await, first);
    alice.try_send_message(&chat, with_nonce(mention(&[]))).await.assert_error("CONFLICT");
}

#[engine_test]
async fn message_has_at_most_100_mentions(app: &TestApp) {
    let alice = app.user("alice").await;
    let ids: Vec<String> = (0..101).map(|n| format!("p{n:03}")).collect();
    for id in &ids {
        app.user(id).await;
    }
    let chat = alice.group("Walk", &[]).await;
    alice.mutate_ok("addMembers", json!({ "chatId": chat, "userIds": ids[..100] })).await;
    alice.mutate_ok("addMembers", json!({ "chatId": chat, "userIds": ids[100..] })).await;
    alice.try_send_message(&chat, json!({ "text": "all", "mentionIds": ids })).await.assert_bad_input("mentionIds");
    let id = alice.send_message(&chat, json!({ "text": "all", "mentionIds": ids[1..] })).await;
    assert_eq!(alice.fetch_message(&id, "mentions { id }").await["mentions"].as_array().unwrap().len(), 100);
}

#[engine_test]
async fn mention_everyone_needs_right(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let everyone = json!({ "text": "all of you", "mentionsEveryone": true });
    bob.try_send_message(&chat, everyone.clone()).await.assert_error("FORBIDDEN");
    let id = alice.send_message(&chat, everyone.clone()).await;
    assert_eq!(
        bob.fetch_message(&id, "mentionsEveryone mentions { id }").await,
        json!({ "mentionsEveryone": true, "mentions": [] })
    );
    assert_eq!((unread(&alice, &chat).await, unread(&bob, &chat).await), ((0, 0), (1, 1)));
    alice
        .mutate_ok(
            "updateChat",
            json!({ "chatId": chat, "policy": [{ "action": "MENTION_EVERYONE", "role": "MEMBER" }] }),
        )
        .await;
    bob.send_message(&chat, everyone.clone()).await;
    assert_eq!(unread(&alice, &chat).await, (1, 1));
    let direct = bob.mutate_returning("openDirectChat", json!({ "userId": "alice" }), "chat { id }").await;
    bob.send_message(&direct.text("openDirectChat.chat.id"), everyone).await;
}

#[engine_test]
async fn unread_mention_count_is_exact(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    let bob_too = json!({ "text": "bob", "mentionIds": ["bob"] });
    let first = alice.send_message(&chat, bob_too.clone()).await;
    alice.send(&chat, "plain").await;
    let both =
        alice.send_message(&chat, json!({ "text": "bob", "mentionIds": ["bob"], "mentionsEveryone": true })).await;
    bob.send_message(&chat, json!({ "text": "myself", "mentionIds": ["bob"], "threadRootId": first })).await;
    assert_eq!((unread(&bob, &chat).await, unread(&carol, &chat).await), ((3, 2), (3, 1)));
    alice.send_message(&chat, json!({ "text": "aside", "mentionIds": ["bob"], "threadRootId": first })).await;
    assert_eq!(unread(&bob, &chat).await, (3, 3), "mentions in threads count");
    alice
        .send_message(
            &chat,
            json!({ "text": "both", "mentionIds": ["bob"], "threadRootId": first, "alsoInChat": true }),
        )
        .await;
    assert_eq!(unread(&bob, &chat).await, (4, 4));
    let totals = bob.ask("{ viewer { unread { chats messages mentions } } }").await;
    assert_eq!(totals.at("viewer.unread"), &json!({ "chats": 1, "messages": 4, "mentions": 4 }));
    let others = alice.fetch_chat(&chat, "members { nodes { unreadMentionCount } }").await;
    assert!(others["members"]["nodes"].as_array().unwrap().iter().all(|member| member["unreadMentionCount"] == 0));
    alice.delete_message(&both).await;
    assert_eq!(unread(&bob, &chat).await, (3, 3), "a deleted message does not count");
    assert_eq!(
        bob.fetch_message(&both, "mentions { id } mentionsEveryone").await,
        json!({ "mentions": [], "mentionsEveryone": false })
    );
    bob.mutate_ok("markRead", json!({ "chatId": chat, "upToMessageId": first })).await;
    assert_eq!(unread(&bob, &chat).await, (2, 2));
    bob.mutate_ok("markRead", json!({ "chatId": chat })).await;
    assert_eq!(unread(&bob, &chat).await, (0, 1), "reading the chat does not read the thread");
    bob.mutate_ok("markThreadRead", json!({ "threadRootId": first })).await;
    assert_eq!(unread(&bob, &chat).await, (0, 0));
}

#[engine_test]
async fn edit_never_notifies_mentions_again(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let plain = alice.send(&chat, "hello").await;
    let named = alice.send_message(&chat, json!({ "text": "hello bob", "mentionIds": ["bob"] })).await;
    bob.mutate_ok("markRead", json!({ "chatId": chat })).await;
    for id in [&plain, &named] {
        alice.mutate_ok("editMessage", json!({ "messageId": id, "text": "hello @bob @everyone" })).await;
    }
    assert_eq!(unread(&bob, &chat).await, (0, 0));
    assert_eq!(
        bob.fetch_message(&plain, "mentions { id } mentionsEveryone").await,
        json!({ "mentions": [], "mentionsEveryone": false })
    );
    assert_eq!(
        bob.fetch_message(&named, "mentions { id }").await["mentions"],
        json!([{ "id": "bob" }]),
        "an edit keeps the mentions"
    );
    let reply = bob.ask("{ viewer { unread { notifications } notifications { nodes { kind } } } }").await;
    assert_eq!(reply.at("viewer.unread.notifications"), 0);
    assert_eq!(reply.at("viewer.notifications.nodes"), &json!([{ "kind": "MENTION" }, { "kind": "ADDED_TO_CHAT" }]));
}

/// Returns the kinds of the user's notifications, newest first, and the number of unread ones.
async fn notifications(user: &User) -> (Vec<Value>, i64) {
    let reply = user.ask("{ viewer { unread { notifications } notifications { nodes { kind } } } }").await;
    let unread = reply.at("viewer.unread.notifications").as_i64().unwrap();
    (pluck(reply.at("viewer.notifications.nodes"), "kind"), unread)
}

#[engine_test]
async fn edit_replaces_mentions_and_withdraws_notifications(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    for user in [&bob, &carol] {
        user.mutate_ok("markNotificationsRead", json!({})).await;
    }
    let id = alice.send_message(&chat, json!({ "text": "bob", "mentionIds": ["bob"] })).await;
    assert_eq!((unread(&bob, &chat).await.1, notifications(&bob).await.1), (1, 1));
    let edit = async |text: &str, mentions: Value| {
        let input = json!({ "messageId": id, "text": text, "mentionIds": mentions });
        let selection = "message { mentions { id } editedAt editHistory { nodes { text } } }";
        alice.mutate_returning("editMessage", input, selection).await
    };
    let edited = edit("nobody", json!(["carol", "carol"])).await;
    assert_eq!(edited.at("editMessage.message.mentions"), &json!([{ "id": "carol" }]));
    assert_eq!(unread(&bob, &chat).await.1, 0);
    assert_eq!(notifications(&bob).await, (vec![json!("ADDED_TO_CHAT")], 0), "the notification is withdrawn");
    assert_eq!((unread(&carol, &chat).await.1, notifications(&carol).await.1), (1, 0), "an edit notifies nobody");
    let found = async |user: &User| {
        let query = "{ searchMessages(filter: { mentionsMe: true }, query: \"nobody\") { nodes { id } } }";
        user.ask(query).await.at("searchMessages.nodes").as_array().unwrap().len()
    };
    assert_eq!((found(&bob).await, found(&carol).await), (0, 1));
    let same = edit("nobody", json!(["carol"])).await;
    assert_eq!(pluck(same.at("editMessage.message.editHistory.nodes"), "text"), ["bob"], "nothing changed");
    let only_mentions = edit("nobody", json!([])).await;
    let message = only_mentions.at("editMessage.message");
    assert_eq!((&message["mentions"], message["editedAt"].is_string()), (&json!([]), true));
    assert_eq!(pluck(&message["editHistory"]["nodes"], "text"), ["bob"], "the text is the same");
    assert_eq!(unread(&carol, &chat).await.1, 0);
    edit("bob again", json!(["bob"])).await;
    assert_eq!((unread(&bob, &chat).await.1, notifications(&bob).await.1), (1, 0), "never a second notification");
}

#[engine_test]
async fn edit_checks_the_users_it_begins_to_mention(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    app.user("eve").await;
    let id = bob.send_message(&chat, json!({ "text": "carol", "mentionIds": ["carol"] })).await;
    let edit = async |fields: Value| {
        let mut input = json!({ "messageId": id, "text": "edited" });
        input.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        bob.mutate("editMessage", input).await
    };
    edit(json!({ "mentionIds": ["eve"] })).await.assert_bad_input("mentionIds");
    let many: Vec<String> = (0..101).map(|n| format!("p{n}")).collect();
    edit(json!({ "mentionIds": many })).await.assert_bad_input("mentionIds");
    edit(json!({ "mentionsEveryone": true })).await.assert_error("FORBIDDEN");
    assert_eq!(bob.fetch_message(&id, "text").await["text"], "carol", "a rejected edit changes nothing");
    carol.mutate_ok("leaveChat", json!({ "chatId": chat })).await;
    edit(json!({ "mentionIds": ["carol", "alice"] })).await.data();
    let seen = bob.fetch_message(&id, "mentions { id }").await;
    assert_eq!(seen["mentions"], json!([{ "id": "alice" }, { "id": "carol" }]), "a former member stays mentioned");
}

#[engine_test]
async fn edit_without_everyone_withdraws_their_notifications(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    for user in [&bob, &carol] {
        user.mutate_ok("markNotificationsRead", json!({})).await;
    }
    let root = alice.send(&chat, "where to?").await;
    for thread_root in [Value::Null, json!(root)] {
        let input =
            json!({ "text": "all", "mentionsEveryone": true, "mentionIds": ["carol"], "threadRootId": thread_root });
        let id = alice.send_message(&chat, input).await;
        let count = async |user: &User| (unread(user, &chat).await.1, notifications(user).await.1);
        assert_eq!((count(&bob).await, count(&carol).await), ((1, 1), (1, 1)));
        let edit = json!({ "messageId": id, "text": "carol", "mentionsEveryone": false });
        alice.mutate_ok("editMessage", edit).await;
        assert_eq!((count(&bob).await, count(&carol).await), ((0, 0), (1, 1)), "Carol is still mentioned");
        assert_eq!(bob.fetch_message(&id, "mentionsEveryone").await["mentionsEveryone"], false);
        carol.mutate_ok("markRead", json!({ "chatId": chat })).await;
        if !thread_root.is_null() {
            carol.mutate_ok("markThreadRead", json!({ "threadRootId": root })).await;
        }
        assert_eq!(count(&carol).await, (0, 0));
    }
}
