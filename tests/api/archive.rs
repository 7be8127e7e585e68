//! Archived and deleted chats.

use serde_json::{Value, json};
use testkit::{TestApp, User, engine_test, pluck};

/// Returns the titles of the chats that match a filter.
async fn listed_titles(user: &User, filter: &str) -> Vec<Value> {
    let list = user.ask(&format!("{{ chats(filter: {{ {filter} }}) {{ nodes {{ title }} }} }}")).await;
    pluck(list.at("chats.nodes"), "title")
}

#[engine_test]
async fn archived_chat_is_readable_but_not_writable(app: &TestApp) {
    let (alice, bob, _carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let message = bob.send(&chat, "hello").await;
    let poll = json!({ "poll": { "question": "Where to?", "options": ["hill", "lake"] } });
    let poll = alice.send_message(&chat, poll).await;
    let option = bob.fetch_message(&poll, "poll { options { id } }").await["poll"]["options"][0]["id"].clone();
    let archive = |archived: bool| json!({ "chatId": chat, "archived": archived });
    bob.mutate("archiveChat", archive(true)).await.assert_error("FORBIDDEN");
    app.user("eve").await.mutate("archiveChat", archive(true)).await.assert_error("NOT_FOUND");
    let mut feed = bob.feed(&chat, None, None).await;
    feed.expect("FeedCaughtUp").await;
    let archived_chat = alice.mutate_returning("archiveChat", archive(true), "chat { archivedAt version }").await;
    assert!(archived_chat.at("archiveChat.chat.archivedAt").is_string());
    assert_eq!(feed.next_non_member_event().await["__typename"], "ChatUpserted");
    let again = alice.mutate_returning("archiveChat", archive(true), "chat { archivedAt version }").await;
    assert_eq!(archived_chat.data(), again.data(), "a change without effect takes no version");
    for (user, field, input) in [
        (&alice, "sendMessage", json!({ "chatId": chat, "text": "late" })),
        (&bob, "editMessage", json!({ "messageId": message, "text": "late" })),
        (&bob, "addReaction", json!({ "messageId": message, "emoji": "👍" })),
        (&bob, "votePoll", json!({ "messageId": poll, "optionIds": [option] })),
        (&alice, "closePoll", json!({ "messageId": poll })),
        (&alice, "pinMessage", json!({ "messageId": message })),
        (&alice, "forwardMessage", json!({ "messageId": message, "toChatId": chat })),
        (&alice, "addMembers", json!({ "chatId": chat, "userIds": ["carol"] })),
    ] {
        user.mutate(field, input).await.assert_error("FORBIDDEN");
    }
    let view = bob.fetch_chat(&chat, "archivedAt messages { nodes { text } } viewerCan { action allowed }").await;
    assert!(view["archivedAt"].is_string());
    assert!(pluck(&view["messages"]["nodes"], "text").contains(&json!("hello")));
    assert!(view["viewerCan"].as_array().unwrap().contains(&json!({ "action": "POST", "allowed": false })));
    bob.mutate_ok("markRead", json!({ "chatId": chat })).await;
    let other = bob.group("Run", &[]).await;
    bob.mutate_ok("forwardMessage", json!({ "messageId": message, "toChatId": other })).await;
    let back = alice.mutate_returning("archiveChat", archive(false), "chat { archivedAt }").await;
    assert_eq!(back.at("archiveChat.chat.archivedAt"), &Value::Null);
    bob.send(&chat, "again").await;
}

#[engine_test]
async fn call_in_an_archived_chat_cannot_be_joined(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    // However slow the test is, nobody counts as lost.
    app.app.clock.pause();
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    let call = alice.start_call(&chat).await.call;
    bob.join_call(&call).await;
    alice.mutate_ok("archiveChat", json!({ "chatId": chat, "archived": true })).await;
    let join = json!({ "callId": call, "deviceId": "phone" });
    carol.mutate("joinCall", join.clone()).await.assert_error("FORBIDDEN");
    alice.mutate_ok("archiveChat", json!({ "chatId": chat, "archived": false })).await;
    carol.mutate_ok("joinCall", join).await;
}

#[engine_test]
async fn archived_chats_are_listed_and_counted_separately(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let (walk, run) = (alice.group("Walk", &[&bob]).await, alice.group("Run", &[&bob]).await);
    alice.send_message(&walk, json!({ "text": "hello", "mentionIds": ["bob"] })).await;
    alice.send(&run, "hello").await;
    alice.mutate_ok("archiveChat", json!({ "chatId": walk, "archived": true })).await;
    assert_eq!(listed_titles(&bob, "").await, ["Run"]);
    assert_eq!(listed_titles(&bob, "archived: false").await, ["Run"]);
    assert_eq!(listed_titles(&bob, "archived: true").await, ["Walk"]);
    assert_eq!(listed_titles(&bob, "archived: true, search: \"run\"").await, Vec::<Value>::new());
    let totals =
        async || bob.ask("{ viewer { unread { chats messages mentions } } }").await.at("viewer.unread").clone();
    assert_eq!(totals().await, json!({ "chats": 1, "messages": 1, "mentions": 0 }));
    let own = bob.fetch_chat(&walk, "viewerMembership { unreadCount }").await;
    assert_eq!(own["viewerMembership"]["unreadCount"], 1, "the chat itself counts the message");
    alice.mutate_ok("archiveChat", json!({ "chatId": walk, "archived": false })).await;
    assert_eq!(totals().await, json!({ "chats": 2, "messages": 2, "mentions": 1 }));
    assert_eq!(listed_titles(&bob, "archived: true").await, Vec::<Value>::new());
    let channel = alice.chat("CHANNEL", "News", &[]).await;
    alice.mutate_ok("archiveChat", json!({ "chatId": channel, "archived": true })).await;
    assert_eq!(listed_titles(&bob, "joinable: true").await, Vec::<Value>::new());
    bob.mutate("joinChannel", json!({ "chatId": channel })).await.assert_error("FORBIDDEN");
    let direct = alice.mutate_returning("openDirectChat", json!({ "userId": "bob" }), "chat { id }").await;
    let direct = direct.text("openDirectChat.chat.id");
    alice.mutate("archiveChat", json!({ "chatId": direct, "archived": true })).await.assert_error("FORBIDDEN");
}

#[engine_test]
async fn deleted_chat_disappears_for_members_and_ends_its_feeds(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let input = json!({ "kind": "GROUP", "title": "Walk", "memberIds": ["bob"], "nonce": "walk" });
    let chat = alice.mutate_returning("createChat", input.clone(), "chat { id }").await.text("createChat.chat.id");
    let kept = alice.group("Kept", &[&bob]).await;
    let message = alice.send_message(&chat, json!({ "text": "hello bob", "mentionIds": ["bob"] })).await;
    bob.mutate_ok("addReaction", json!({ "messageId": message, "emoji": "👍" })).await;
    alice.mutate_ok("pinMessage", json!({ "messageId": message })).await;
    let member = bob.fetch_chat(&chat, "viewerMembership { id }").await["viewerMembership"]["id"].clone();
    let mut feed = bob.feed(&chat, None, None).await;
    feed.expect("FeedCaughtUp").await;
    let mut inbox = bob.subscribe("subscription { messageAdded { text } }", json!({})).await;
    let delete = json!({ "chatId": chat });
    bob.mutate("deleteChat", delete.clone()).await.assert_error("FORBIDDEN");
    app.user("eve").await.mutate("deleteChat", delete.clone()).await.assert_error("NOT_FOUND");
    let powerless = app.user_in("demo", "alice", Some(&["chat.view", "chat.manage_group"])).await;
    powerless.mutate("deleteChat", delete.clone()).await.assert_error("FORBIDDEN");
    let deleted = alice.mutate_returning("deleteChat", delete.clone(), "deletedChatId").await;
    assert_eq!(deleted.at("deleteChat.deletedChatId"), chat.as_str());
    assert_eq!(feed.error_code().await, "FORBIDDEN");
    alice.mutate("deleteChat", delete).await.assert_error("NOT_FOUND");
    for user in [&alice, &bob] {
        let ids = json!({ "ids": [chat, message, member] });
        let found = user.ask_with("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids).await;
        assert_eq!(found.at("nodes"), &json!([null, null, null]));
        let rest = user
                .ask("{ chats { nodes { title } } searchMessages(query: \"hello\") { nodes { id } } viewer { unread { chats messages mentions } } }")
                .await;
        assert_eq!(rest.at("chats.nodes"), &json!([{ "title": "Kept" }]));
        assert_eq!(rest.at("searchMessages.nodes"), &json!([]));
        assert_eq!(rest.at("viewer.unread"), &json!({ "chats": 0, "messages": 0, "mentions": 0 }));
        user.try_send_message(&chat, json!({ "text": "hello" })).await.assert_error("NOT_FOUND");
    }
    let mut late = bob.feed(&chat, None, None).await;
    assert_eq!(late.error_code().await, "NOT_FOUND");
    let new = alice.mutate_returning("createChat", input, "chat { id }").await.text("createChat.chat.id");
    assert_eq!(new, chat, "the nonce can be used again, for a chat with the same id");
    alice.send(&kept, "still here").await;
    // Earlier events of the new chat are skipped; the feed goes on after the deletion of the other chat.
    while inbox.next().await["text"] != "still here" {}
}

#[engine_test]
async fn direct_chat_cannot_be_deleted(app: &TestApp) {
    let (alice, _bob) = (app.user("alice").await, app.user("bob").await);
    let direct = alice.mutate_returning("openDirectChat", json!({ "userId": "bob" }), "chat { id }").await;
    let direct = direct.text("openDirectChat.chat.id");
    alice.mutate("deleteChat", json!({ "chatId": direct })).await.assert_error("FORBIDDEN");
}
