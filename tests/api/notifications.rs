//! Notifications: their kinds, their recipients, and their withdrawal.

use serde_json::{Value, json};
use testkit::{TestApp, User, engine_test, pluck};

const FIELDS: &str = "nodes { id kind readAt createdAt actor { id } chat { id } message { id } }";

/// Returns the kind, actor and message of each unread notification, newest first.
async fn unread_notifications(user: &User) -> Vec<Value> {
    let seen = user
        .ask(&format!("{{ viewer {{ unread {{ notifications }} notifications(unreadOnly: true) {{ {FIELDS} }} }} }}"))
        .await;
    let nodes = seen.at("viewer.notifications.nodes").as_array().unwrap();
    assert_eq!(seen.at("viewer.unread.notifications"), nodes.len());
    assert!(nodes.iter().all(|node| node["readAt"].is_null() && node["createdAt"].is_string()), "{nodes:?}");
    nodes.iter().map(|node| json!([node["kind"], node["actor"]["id"], node["message"]["id"]])).collect()
}

/// Returns two users and their group, without unread notifications.
async fn alice_and_bob_in_group(app: &TestApp) -> (User, User, String) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    bob.mutate_ok("markNotificationsRead", json!({})).await;
    (alice, bob, chat)
}

fn reaction(message: &str, emoji: &str) -> Value {
    json!({ "messageId": message, "emoji": emoji })
}

#[engine_test]
async fn notification_kind_reaches_its_recipients(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob]).await;
    assert_eq!(unread_notifications(&bob).await, [json!(["ADDED_TO_CHAT", "alice", null])]);
    assert_eq!(unread_notifications(&alice).await, Vec::<Value>::new(), "users are not notified of their own actions");
    alice.add_member(&chat, "carol", "MEMBER").await;
    assert_eq!(unread_notifications(&carol).await, [json!(["ADDED_TO_CHAT", "alice", null])]);
    let mentioned = alice.send_message(&chat, json!({ "text": "bob", "mentionIds": ["bob", "alice"] })).await;
    assert_eq!(unread_notifications(&bob).await[0], json!(["MENTION", "alice", mentioned]));
    let root = bob.send(&chat, "where to?").await;
    let answer = alice.send_message(&chat, json!({ "text": "there", "replyToId": root })).await;
    let in_thread = carol.send_message(&chat, json!({ "text": "here", "threadRootId": root })).await;
    let everyone = alice.send_message(&chat, json!({ "text": "all", "mentionsEveryone": true })).await;
    carol.mutate_ok("addReaction", reaction(&root, "👍")).await;
    let bob_notifications = unread_notifications(&bob).await;
    let since_his_message = [
        json!(["REACTION", "carol", root]),
        json!(["MENTION", "alice", everyone]),
        json!(["REPLY", "carol", in_thread]),
        json!(["REPLY", "alice", answer]),
    ];
    assert_eq!(bob_notifications, since_his_message);
    assert_eq!(unread_notifications(&carol).await[0], json!(["MENTION", "alice", everyone]));
    assert_eq!(unread_notifications(&alice).await, Vec::<Value>::new());
    let channel = alice.chat("CHANNEL", "News", &[]).await;
    bob.mutate_ok("joinChannel", json!({ "chatId": channel })).await;
    assert_eq!(unread_notifications(&bob).await, bob_notifications, "a user who joins is not notified");
    let direct = carol.mutate_returning("openDirectChat", json!({ "userId": "bob" }), "chat { id }").await;
    carol.send(&direct.text("openDirectChat.chat.id"), "hello").await;
    assert_eq!(unread_notifications(&bob).await, bob_notifications, "a plain message causes no notification");
}

#[engine_test]
async fn message_causes_one_notification_per_user(app: &TestApp) {
    let (alice, bob, chat) = alice_and_bob_in_group(app).await;
    let root = bob.send(&chat, "where to?").await;
    let id = alice
            .send_message(&chat, json!({ "text": "bob", "mentionIds": ["bob"], "mentionsEveryone": true, "replyToId": root, "threadRootId": root }))
            .await;
    assert_eq!(unread_notifications(&bob).await, [json!(["MENTION", "alice", id])]);
    bob.send_message(&chat, json!({ "text": "to myself", "replyToId": root, "mentionIds": ["bob"] })).await;
    bob.mutate_ok("addReaction", reaction(&root, "👍")).await;
    assert_eq!(unread_notifications(&bob).await.iter().filter(|one| one[1] == "bob").count(), 0);
    let again = json!({ "text": "bob", "mentionIds": ["bob"], "nonce": "n" });
    alice.send_message(&chat, again.clone()).await;
    let once = unread_notifications(&bob).await.len();
    alice.send_message(&chat, again).await;
    assert_eq!(unread_notifications(&bob).await.len(), once, "a replayed send causes no second notification");
}

#[engine_test]
async fn notification_level_and_mute_are_respected(app: &TestApp) {
    let (alice, bob, chat) = alice_and_bob_in_group(app).await;
    let root = bob.send(&chat, "where to?").await;
    let all = async || {
        bob.mutate_ok("markNotificationsRead", json!({})).await;
        alice.send_message(&chat, json!({ "text": "bob", "mentionIds": ["bob"] })).await;
        alice.send_message(&chat, json!({ "text": "all", "mentionsEveryone": true })).await;
        alice.send_message(&chat, json!({ "text": "there", "replyToId": root })).await;
        alice.mutate_ok("removeReaction", reaction(&root, "👍")).await;
        alice.mutate_ok("addReaction", reaction(&root, "👍")).await;
        unread_notifications(&bob).await.iter().map(|one| one[0].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let set = async |field: &str, value: Value| {
        bob.mutate_ok("updateMyMembership", json!({ "chatId": chat, field: value })).await
    };
    set("notificationLevel", json!("MENTIONS")).await;
    assert_eq!(all().await, ["MENTION", "MENTION"]);
    set("notificationLevel", json!("NONE")).await;
    assert_eq!(all().await, Vec::<String>::new());
    set("notificationLevel", json!("ALL")).await;
    assert_eq!(all().await, ["REACTION", "REPLY", "MENTION", "MENTION"]);
    set("mutedUntil", json!(app.time_in(600))).await;
    assert_eq!(all().await, ["MENTION", "MENTION"], "mentions are kept");
    app.advance(600);
    assert_eq!(all().await, ["REPLY", "MENTION", "MENTION"], "the mute ends at its exact time");
}

#[engine_test]
async fn mention_in_a_muted_chat_is_kept_as_its_level_says(app: &TestApp) {
    let (alice, bob, chat) = alice_and_bob_in_group(app).await;
    let settings = |level: &str, muted_until: Value| json!({ "chatId": chat, "notificationLevel": level, "mutedUntil": muted_until });
    let mention = json!({ "text": "bob", "mentionIds": ["bob"] });
    let mut kept = Vec::new();
    for (level, keeps) in [("ALL", true), ("MENTIONS", true), ("NONE", false)] {
        bob.mutate_ok("updateMyMembership", settings(level, json!(app.time_in(60)))).await;
        let id = alice.send_message(&chat, mention.clone()).await;
        if keeps {
            kept.insert(0, json!(["MENTION", "alice", id]));
        }
        assert_eq!(unread_notifications(&bob).await, kept, "{level}");
    }
    bob.mutate_ok("updateMyMembership", settings("ALL", Value::Null)).await;
    assert_eq!(unread_notifications(&bob).await, kept, "they are there when the mute is over");
}

#[engine_test]
async fn muted_until_is_null_after_its_time(app: &TestApp) {
    let (_, bob, chat) = alice_and_bob_in_group(app).await;
    let muted_until = async || {
        bob.fetch_chat(&chat, "viewerMembership { mutedUntil }").await["viewerMembership"]["mutedUntil"].clone()
    };
    bob.mutate_ok("updateMyMembership", json!({ "chatId": chat, "mutedUntil": app.time_in(60) })).await;
    assert!(muted_until().await.is_string());
    app.advance(60);
    assert_eq!(muted_until().await, Value::Null);
    let past = json!({ "chatId": chat, "mutedUntil": app.time_in(-60) });
    let reply = bob.mutate_returning("updateMyMembership", past, "member { mutedUntil }").await;
    assert_eq!(reply.at("updateMyMembership.member.mutedUntil"), &Value::Null);
}

#[engine_test]
async fn read_or_deleted_message_withdraws_notification(app: &TestApp) {
    let (alice, bob, chat) = alice_and_bob_in_group(app).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(alice.send_message(&chat, json!({ "text": "bob", "mentionIds": ["bob"] })).await);
    }
    let mention = |id: &String| json!(["MENTION", "alice", id]);
    bob.mutate_ok("markRead", json!({ "chatId": chat, "upToMessageId": ids[1] })).await;
    assert_eq!(unread_notifications(&bob).await, [mention(&ids[3]), mention(&ids[2])]);
    alice.delete_message(&ids[2]).await;
    assert_eq!(unread_notifications(&bob).await, [mention(&ids[3])]);
    let seen = bob.ask(&format!("{{ viewer {{ notifications {{ {FIELDS} }} }} }}")).await;
    let read = pluck(seen.at("viewer.notifications.nodes"), "readAt");
    assert_eq!(read.iter().filter(|at| at.is_string()).count(), 4, "the notifications are kept as read: {read:?}");
    bob.send(&chat, "I see").await;
    assert_eq!(unread_notifications(&bob).await, Vec::<Value>::new(), "sending marks the chat as read");
    let in_thread =
        alice.send_message(&chat, json!({ "text": "bob", "mentionIds": ["bob"], "threadRootId": ids[0] })).await;
    assert_eq!(unread_notifications(&bob).await, [mention(&in_thread)]);
    bob.mutate_ok("markRead", json!({ "chatId": chat })).await;
    assert_eq!(unread_notifications(&bob).await, [mention(&in_thread)], "reading the chat does not read its threads");
    bob.mutate_ok("markThreadRead", json!({ "threadRootId": ids[0] })).await;
    assert_eq!(unread_notifications(&bob).await, Vec::<Value>::new());
}

#[engine_test]
async fn removed_reaction_withdraws_notification(app: &TestApp) {
    let (alice, bob, chat) = alice_and_bob_in_group(app).await;
    let id = bob.send(&chat, "where to?").await;
    let alice_reaction = [json!(["REACTION", "alice", id])];
    alice.mutate_ok("addReaction", reaction(&id, "👍")).await;
    alice.mutate_ok("addReaction", reaction(&id, "🎉")).await;
    assert_eq!(unread_notifications(&bob).await, alice_reaction, "all reactions of a user are one notification");
    alice.mutate_ok("removeReaction", reaction(&id, "👍")).await;
    assert_eq!(unread_notifications(&bob).await, alice_reaction, "one reaction is left");
    alice.mutate_ok("removeReaction", reaction(&id, "🎉")).await;
    assert_eq!(unread_notifications(&bob).await, Vec::<Value>::new());
    alice.mutate_ok("addReaction", reaction(&id, "👍")).await;
    assert_eq!(unread_notifications(&bob).await, alice_reaction);
    bob.mutate_ok("markNotificationsRead", json!({})).await;
    alice.mutate_ok("removeReaction", reaction(&id, "👍")).await;
    alice.mutate_ok("addReaction", reaction(&id, "👍")).await;
    assert_eq!(
        unread_notifications(&bob).await,
        Vec::<Value>::new(),
        "a notification that was read does not become unread again"
    );
    bob.mutate_ok("leaveChat", json!({ "chatId": chat })).await;
    alice.mutate_ok("addReaction", reaction(&id, "🦀")).await;
    assert_eq!(unread_notifications(&bob).await, Vec::<Value>::new());
}

#[engine_test]
async fn user_marks_only_own_notifications_read(app: &TestApp) {
    let (alice, bob, chat) = alice_and_bob_in_group(app).await;
    for _ in 0..3 {
        alice.send_message(&chat, json!({ "text": "bob", "mentionIds": ["bob"] })).await;
    }
    let page = async |arguments: &str| {
        let query = format!(
            "{{ viewer {{ notifications({arguments}) {{ nodes {{ id }} pageInfo {{ hasNextPage endCursor }} }} }} }}"
        );
        let reply = bob.ask(&query).await;
        let page = reply.at("viewer.notifications");
        (pluck(&page["nodes"], "id"), page["pageInfo"].clone())
    };
    let (all, _) = page("first: 100").await;
    assert_eq!(all.len(), 4);
    let (first, info) = page("first: 3").await;
    assert_eq!((first.as_slice(), &info["hasNextPage"]), (&all[..3], &json!(true)));
    let (rest, info) = page(&format!("first: 3, after: {}", info["endCursor"])).await;
    assert_eq!((rest.as_slice(), &info["hasNextPage"]), (&all[3..], &json!(false)));
    bob.ask("{ viewer { notifications(first: 101) { nodes { id } } } }").await.assert_bad_input("first");
    let mark = async |user: &User, ids: Value| {
        user.mutate_returning("markNotificationsRead", json!({ "ids": ids }), "unread { notifications messages }").await
    };
    mark(&alice, json!([all[0]])).await.assert_error("NOT_FOUND");
    mark(&bob, json!([all[0], "notification_nonsense"])).await.assert_error("NOT_FOUND");
    mark(&bob, json!(vec![all[0].clone(); 101])).await.assert_bad_input("ids");
    assert_eq!(unread_notifications(&bob).await.len(), 3, "all or nothing");
    let remaining = mark(&bob, json!([all[1], all[1]])).await;
    assert_eq!(
        remaining.at("markNotificationsRead.unread"),
        &json!({ "notifications": 2, "messages": 3 }),
        "the messages stay unread"
    );
    assert_eq!(page("first: 100, unreadOnly: true").await.0, [all[0].clone(), all[2].clone()]);
    assert_eq!(mark(&bob, json!([])).await.at("markNotificationsRead.unread.notifications"), 2);
    let node = "query($id: ID!) { node(id: $id) { id ... on Notification { kind } } }";
    let own = bob.ask_with(node, json!({ "id": all[0] })).await;
    assert_eq!(own.at("node"), &json!({ "id": all[0], "kind": "MENTION" }));
    assert_eq!(alice.ask_with(node, json!({ "id": all[0] })).await.at("node"), &Value::Null);
    let other_bob = app.user_in("other", "bob", None).await;
    assert_eq!(other_bob.ask_with(node, json!({ "id": all[0] })).await.at("node"), &Value::Null);
    assert_eq!(unread_notifications(&other_bob).await, Vec::<Value>::new());
    assert_eq!(mark(&bob, Value::Null).await.at("markNotificationsRead.unread.notifications"), 0);
    alice.mutate_ok("removeMember", json!({ "chatId": chat, "userId": "bob" })).await;
    let reply = bob.ask(&format!("{{ viewer {{ notifications {{ {FIELDS} }} }} }}")).await;
    let nodes = reply.at("viewer.notifications.nodes");
    assert!(pluck(nodes, "chat").iter().chain(&pluck(nodes, "message")).all(Value::is_null), "{nodes}");
}
