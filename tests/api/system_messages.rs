//! System messages, by which the server records changes in the history of a chat.

use serde_json::{Value, json};
use testkit::{TestApp, User, engine_test};

/// Returns the kind, actor, subject and detail of each system message of a chat.
async fn system_messages(user: &User, chat: &str) -> Vec<Value> {
    let selection =
        "messages(first: 100) { nodes { kind text sender { id } system { kind detail actor { id } subject { id } } } }";
    let seen = user.fetch_chat(chat, selection).await;
    let messages = seen["messages"]["nodes"].as_array().unwrap();
    let systems: Vec<_> = messages.iter().filter(|message| message["kind"] == "SYSTEM").collect();
    assert!(systems.iter().all(|message| message["sender"].is_null() && message["text"].is_null()), "{systems:?}");
    assert!(
        messages.iter().all(|message| message["system"].is_null() == (message["kind"] != "SYSTEM")),
        "{messages:?}"
    );
    systems.iter().map(|message| fields_of(&message["system"])).collect()
}

fn fields_of(system: &Value) -> Value {
    json!([system["kind"], system["actor"]["id"], system["subject"]["id"], system["detail"]])
}

#[engine_test]
async fn system_message_names_actor_and_subject(app: &TestApp) {
    let (alice, bob, _carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let mut expected = vec![json!(["CHAT_CREATED", "alice", null, "Walk"]), json!(["WELCOME", "alice", null, "Walk"])];
    assert_eq!(system_messages(&bob, &chat).await, expected);
    let message = bob.send(&chat, "hello").await;
    let mut feed = bob.feed(&chat, None, None).await;
    feed.expect("FeedCaughtUp").await;
    let silenced = json!({ "chatId": chat, "userId": "bob", "until": app.time_in(60) });
    let lifted = json!({ "chatId": chat, "userId": "bob" });
    for (field, input, system_message) in [
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
            json!(["DETAILS_CHANGED", "alice", null, "Run"]),
        ),
        ("pinMessage", json!({ "messageId": message }), json!(["MESSAGE_PINNED", "alice", null, message])),
        ("unpinMessage", json!({ "messageId": message }), Value::Null),
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
        expected.extend((!system_message.is_null()).then_some(system_message));
        assert_eq!(system_messages(&bob, &chat).await, expected, "{field}");
    }
    alice.mutate_ok("leaveChat", json!({ "chatId": chat })).await;
    expected.push(json!(["MEMBER_LEFT", "alice", "alice", null]));
    expected.push(json!(["ROLE_CHANGED", "alice", "bob", "OWNER"]));
    assert_eq!(system_messages(&bob, &chat).await, expected);
    let channel = alice.chat("CHANNEL", "News", &[]).await;
    bob.mutate_ok("joinChannel", json!({ "chatId": channel })).await;
    assert_eq!(
        system_messages(&bob, &channel).await[2..],
        [json!(["MEMBER_ADDED", "bob", "bob", null])],
        "a user who joins is both the actor and the subject"
    );
    let added = loop {
        let event = feed.next_non_member_event().await;
        if event["__typename"] == "MessageUpserted" {
            break event;
        }
    };
    assert_eq!(
        (&added["change"], &added["message"]["sender"]),
        (&json!("ADDED"), &Value::Null),
        "chat feeds deliver system messages"
    );
}

#[engine_test]
async fn details_change_names_the_fields_and_the_new_title(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    let title_with_commas = "Run, then rest, policy";
    for (change, detail, changed_fields) in [
        (json!({ "title": "Run" }), "Run", json!(["title"])),
        (json!({ "title": title_with_commas }), title_with_commas, json!(["title"])),
        (
            json!({ "slowModeSeconds": 5, "description": "Bring water" }),
            "description,slowModeSeconds",
            json!(["description", "slowModeSeconds"]),
        ),
        (
            json!({ "slowModeSeconds": 0, "title": "Walk", "policy": [{ "action": "PIN", "role": "ADMIN" }] }),
            "Walk",
            json!(["title", "policy", "slowModeSeconds"]),
        ),
        (json!({ "historyForNewMembers": "SINCE_JOINED" }), "historyForNewMembers", json!(["historyForNewMembers"])),
    ] {
        let mut input = change;
        input["chatId"] = chat.as_str().into();
        alice.mutate_ok("updateChat", input).await;
        let system = alice.fetch_chat(&chat, "title lastEntry { system { kind detail changedFields } }").await;
        let expected = json!({ "kind": "DETAILS_CHANGED", "detail": detail, "changedFields": changed_fields });
        assert_eq!(system["lastEntry"]["system"], expected);
    }
    alice.add_member(&chat, &app.user("bob").await.id, "MEMBER").await;
    let other = alice.fetch_chat(&chat, "lastEntry { system { kind changedFields } }").await;
    assert_eq!(other["lastEntry"]["system"], json!({ "kind": "MEMBER_ADDED", "changedFields": [] }));
}

#[engine_test]
async fn direct_chat_has_no_system_messages(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let direct =
        alice.mutate_returning("openDirectChat", json!({ "userId": "bob" }), "chat { id lastMessage { id } }").await;
    assert_eq!(direct.at("openDirectChat.chat.lastMessage"), &Value::Null);
    let chat = direct.text("openDirectChat.chat.id");
    let message = bob.send(&chat, "hello").await;
    assert_eq!(system_messages(&alice, &chat).await, Vec::<Value>::new());
    alice.mutate_ok("pinMessage", json!({ "messageId": message })).await;
    let seen = system_messages(&alice, &chat).await;
    assert_eq!(seen, Vec::<Value>::new(), "a pin in a direct chat has no system message either");
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
    let system_message = seen["messages"]["nodes"][0]["id"].clone();
    for (field, input) in [
        ("editMessage", json!({ "messageId": system_message, "text": "changed" })),
        ("deleteMessage", json!({ "messageId": system_message })),
        ("addReaction", json!({ "messageId": system_message, "emoji": "👍" })),
        ("removeReaction", json!({ "messageId": system_message, "emoji": "👍" })),
        ("pinMessage", json!({ "messageId": system_message })),
        ("unpinMessage", json!({ "messageId": system_message })),
        ("forwardMessage", json!({ "messageId": system_message, "toChatId": chat })),
        ("reportMessage", json!({ "messageId": system_message, "reason": "rude" })),
        ("votePoll", json!({ "messageId": system_message, "optionIds": [] })),
        ("closePoll", json!({ "messageId": system_message })),
        ("sendMessage", json!({ "chatId": chat, "text": "in it", "threadRootId": system_message })),
    ] {
        alice.mutate(field, input.clone()).await.assert_error("FORBIDDEN");
        bob.mutate(field, input).await.assert_error("FORBIDDEN");
    }
    let can = alice.fetch_message(system_message.as_str().unwrap(), "viewerCanEdit viewerCanDelete").await;
    assert_eq!(can, json!({ "viewerCanEdit": false, "viewerCanDelete": false }));
    let unread = bob.fetch_chat(&chat, "viewerMembership { unreadCount }").await;
    assert_eq!(unread["viewerMembership"]["unreadCount"], 1, "only the message of Alice counts");
    alice.delete_message(&own).await;
    let newest = bob.fetch_chat(&chat, "lastMessage { id }").await;
    assert_eq!(newest["lastMessage"]["id"], own, "a deleted message stays the last one");
}

#[engine_test]
async fn repeated_joining_and_leaving_changes_one_system_message(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    app.app.clock.pause();
    let channel = alice.chat("CHANNEL", "News", &[]).await;
    let mut feed = alice.feed(&channel, None, None).await;
    feed.expect("FeedCaughtUp").await;
    let notices = async || system_messages(&alice, &channel).await.split_off(2);
    let notice = |kind: &str| json!([kind, "bob", "bob", null]);
    let (join, leave) = (("joinChannel", json!({ "chatId": channel })), ("leaveChat", json!({ "chatId": channel })));
    let repeat = async |times: usize| {
        for (field, input) in [&join, &leave].into_iter().cycle().take(times) {
            bob.mutate_ok(field, input.clone()).await;
        }
    };
    repeat(2).await;
    assert_eq!(notices().await, [notice("MEMBER_ADDED"), notice("MEMBER_LEFT")]);
    let activity = alice.fetch_chat(&channel, "lastActivityAt lastMessage { id }").await;
    repeat(21).await;
    assert_eq!(notices().await, [notice("MEMBER_ADDED"), notice("MEMBER_ADDED")]);
    assert_eq!(alice.fetch_chat(&channel, "lastActivityAt lastMessage { id }").await, activity);
    let mut changes = Vec::new();
    while changes.len() < 23 {
        let event = feed.next_non_member_event().await;
        if event["__typename"] == "MessageUpserted" {
            changes.push(event["change"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(changes, [vec!["ADDED"; 2], vec!["EDITED"; 21]].concat());
    // A departure after that is a change of the same message, until its ten minutes are over.
    app.advance(590);
    bob.mutate_ok(leave.0, leave.1.clone()).await;
    assert_eq!(notices().await, [notice("MEMBER_ADDED"), notice("MEMBER_LEFT")]);
    app.advance(10);
    repeat(2).await;
    let expected = [notice("MEMBER_ADDED"), notice("MEMBER_LEFT"), notice("MEMBER_ADDED"), notice("MEMBER_LEFT")];
    assert_eq!(notices().await, expected);
}

#[engine_test]
async fn repeated_adding_and_removing_changes_one_system_message_and_notifies_once(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob]).await;
    for _ in 0..10 {
        alice.add_member(&chat, "carol", "MEMBER").await;
        alice.mutate_ok("removeMember", json!({ "chatId": chat, "userId": "carol" })).await;
    }
    // Another user's membership has messages of its own.
    alice.mutate_ok("removeMember", json!({ "chatId": chat, "userId": "bob" })).await;
    alice.add_member(&chat, "carol", "MEMBER").await;
    let notices = system_messages(&alice, &chat).await.split_off(2);
    let expected = [
        json!(["MEMBER_ADDED", "alice", "carol", null]),
        json!(["MEMBER_ADDED", "alice", "carol", null]),
        json!(["MEMBER_REMOVED", "alice", "bob", null]),
    ];
    assert_eq!(notices, expected);
    let notifications = carol.ask("{ viewer { notifications(first: 100) { nodes { kind } } } }").await;
    assert_eq!(notifications.at("viewer.notifications.nodes"), &json!([{ "kind": "ADDED_TO_CHAT" }]));
    // A member who returns is a full member again.
    carol.send(&chat, "hello").await;
}
