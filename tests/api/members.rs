//! Members: adding, removing and listing them, and the rights that it takes.

use serde_json::json;
use testkit::{TestApp, User, engine_test};

/// Returns the members of a chat with their roles, in the order of the list.
async fn roles(user: &User, chat: &str) -> String {
    let query = format!(
        "{{ chat(id: \"{chat}\") {{ memberCount members(first: 100) {{ nodes {{ role user {{ id }} }} }} }} }}"
    );
    let reply = user.ask(&query).await;
    let members = reply.at("chat.members.nodes").as_array().unwrap().clone();
    assert_eq!(reply.at("chat.memberCount"), members.len());
    let role = |member: &serde_json::Value| {
        format!("{}:{}", member["user"]["id"].as_str().unwrap(), member["role"].as_str().unwrap())
    };
    members.iter().map(role).collect::<Vec<_>>().join(" ")
}

async fn alice_bob_and_carol(app: &TestApp) -> (User, User, User) {
    (app.user("alice").await, app.user("bob").await, app.user("carol").await)
}

#[engine_test]
async fn members_join_and_leave_chat(app: &TestApp) {
    let (alice, bob, carol) = alice_bob_and_carol(app).await;
    let chat = alice.group("Walk", &[&bob]).await;
    alice.send(&chat, "before Carol").await;
    let input = json!({ "chatId": chat, "userIds": ["carol", "bob"], "role": "MODERATOR" });
    let added = alice
        .mutate_returning(
            "addMembers",
            input,
            "chat { memberCount } members { role user { id } addedBy { id } unreadCount }",
        )
        .await;
    assert_eq!(added.at("addMembers.chat.memberCount"), 3);
    assert_eq!(added.at("addMembers.members.0.role"), "MEMBER", "an existing member keeps the role");
    assert_eq!(
        added.at("addMembers.members.1"),
        &json!({ "role": "MODERATOR", "user": { "id": "carol" }, "addedBy": { "id": "alice" }, "unreadCount": 0 })
    );
    assert_eq!(roles(&carol, &chat).await, "alice:OWNER bob:MEMBER carol:MODERATOR");

    let removed = alice
        .mutate_returning(
            "removeMember",
            json!({ "chatId": chat, "userId": "bob" }),
            "removedUserId chat { memberCount }",
        )
        .await;
    assert_eq!(removed.at("removeMember"), &json!({ "removedUserId": "bob", "chat": { "memberCount": 2 } }));
    let removed_view = bob.ask(&format!("{{ chat(id: \"{chat}\") {{ id }} chats {{ nodes {{ id }} }} }}")).await;
    assert_eq!(removed_view.data(), &json!({ "chat": null, "chats": { "nodes": [] } }));
    bob.mutate_returning("sendMessage", json!({ "chatId": chat, "text": "still here?" }), "message { id }")
        .await
        .assert_error("NOT_FOUND");

    let left = carol.mutate_returning("leaveChat", json!({ "chatId": chat }), "removedUserId chat { id }").await;
    assert_eq!(left.at("leaveChat"), &json!({ "removedUserId": "carol", "chat": null }));
    carol.mutate_returning("leaveChat", json!({ "chatId": chat }), "removedUserId").await.assert_error("NOT_FOUND");
    alice.mutate_returning("addMembers", json!({ "chatId": chat, "userIds": ["bob"] }), "chat { id }").await.data();
    assert_eq!(roles(&bob, &chat).await, "alice:OWNER bob:MEMBER");
}

#[engine_test]
async fn leaving_last_owner_is_succeeded(app: &TestApp) {
    let (alice, bob, carol) = alice_bob_and_carol(app).await;
    let chat = alice.group("Walk", &[&bob]).await;
    alice
        .mutate_returning("addMembers", json!({ "chatId": chat, "userIds": ["carol"], "role": "ADMIN" }), "chat { id }")
        .await
        .data();
    alice.mutate_returning("leaveChat", json!({ "chatId": chat }), "removedUserId").await.data();
    assert_eq!(roles(&bob, &chat).await, "bob:MEMBER carol:OWNER");
    carol.mutate_returning("leaveChat", json!({ "chatId": chat }), "removedUserId").await.data();
    assert_eq!(roles(&bob, &chat).await, "bob:OWNER");
    bob.mutate_returning("leaveChat", json!({ "chatId": chat }), "removedUserId").await.data();
    assert_eq!(bob.ask("{ chats { nodes { id } } }").await.at("chats.nodes"), &json!([]));
}

#[engine_test]
async fn first_who_joins_a_channel_without_an_owner_becomes_its_owner(app: &TestApp) {
    let (alice, bob, carol) = alice_bob_and_carol(app).await;
    let channel = alice.chat("CHANNEL", "News", &[&bob]).await;
    let input = json!({ "chatId": channel });
    let join = async |user: &User| {
        let joined = user.mutate_returning("joinChannel", input.clone(), "member { role }").await;
        joined.text("joinChannel.member.role")
    };
    let leave = async |user: &User| user.mutate_ok("leaveChat", input.clone()).await;
    assert_eq!(join(&carol).await, "MEMBER", "the channel has an owner");
    for user in [&carol, &alice, &bob] {
        leave(user).await;
    }
    let joined = futures_util::future::join_all([&alice, &bob, &carol].map(join)).await;
    assert_eq!(joined.iter().filter(|role| *role == "OWNER").count(), 1, "{joined:?}");
    for user in [&alice, &bob, &carol] {
        leave(user).await;
    }
    assert_eq!(join(&bob).await, "OWNER");
    assert_eq!(join(&bob).await, "OWNER", "joining again changes nothing");
    assert_eq!(join(&alice).await, "MEMBER", "the founder is a member like every other");
    bob.mutate_ok("updateChat", json!({ "chatId": channel, "title": "Old news" })).await;
    bob.send(&channel, "hello").await;
    bob.mutate_ok("changeMemberRole", json!({ "chatId": channel, "userId": "alice", "role": "OWNER" })).await;
    // An archived channel that all have left can be joined, or nobody could restore or delete it.
    bob.mutate_ok("archiveChat", json!({ "chatId": channel, "archived": true })).await;
    carol.mutate("joinChannel", input.clone()).await.assert_error("FORBIDDEN");
    leave(&alice).await;
    leave(&bob).await;
    assert_eq!(join(&carol).await, "OWNER");
    carol.mutate_ok("archiveChat", json!({ "chatId": channel, "archived": false })).await;
    let powerful = app.user_in("demo", "carol", Some(&["chat.view", "chat.delete"])).await;
    powerful.mutate_ok("deleteChat", input.clone()).await;
}

#[engine_test]
async fn returning_member_has_fresh_settings_and_the_former_silence(app: &TestApp) {
    let (alice, bob, _carol) = alice_bob_and_carol(app).await;
    let chat = alice.group("Walk", &[&bob]).await;
    let selection = "viewerMembership { mutedUntil pinned notificationLevel markedUnread draft lastReadAt unreadCount
                    silencedUntil }";
    let settings = json!({ "chatId": chat, "mutedUntil": app.time_in(3600), "pinned": true, "draft": "Dear",
        "notificationLevel": "NONE" });
    let until = app.time_in(3600);
    for (user, field, input) in [
        (&bob, "updateMyMembership", settings),
        (&bob, "markRead", json!({ "chatId": chat, "private": true })),
        (&bob, "markUnread", json!({ "chatId": chat })),
        (&alice, "silenceMember", json!({ "chatId": chat, "userId": "bob", "until": until })),
        (&alice, "removeMember", json!({ "chatId": chat, "userId": "bob" })),
    ] {
        user.mutate_ok(field, input).await;
    }
    let meanwhile = alice.send(&chat, "while Bob is out").await;
    alice.add_member(&chat, "bob", "MEMBER").await;
    let membership = bob.fetch_chat(&chat, selection).await["viewerMembership"].clone();
    let fresh = json!({ "mutedUntil": null, "pinned": false, "notificationLevel": "ALL", "markedUnread": false,
        "draft": null, "lastReadAt": null, "unreadCount": 0, "silencedUntil": membership["silencedUntil"] });
    assert_eq!(membership, fresh);
    bob.mutate("sendMessage", json!({ "chatId": chat, "text": "hello" })).await.assert_error("FORBIDDEN");
    assert!(membership["silencedUntil"].is_string(), "leaving ends no silence");
    assert_eq!(bob.fetch_message(&meanwhile, "id").await["id"], meanwhile, "the chat shows new members all messages");
    // The read position is public again.
    alice.send(&chat, "welcome back").await;
    bob.mutate_ok("markRead", json!({ "chatId": chat })).await;
    let seen = alice.fetch_chat(&chat, "lastMessage { status }").await;
    assert_eq!(seen["lastMessage"]["status"], "READ");
}

#[engine_test]
async fn removed_member_has_no_unread_notifications_of_the_chat(app: &TestApp) {
    let (alice, bob, _carol) = alice_bob_and_carol(app).await;
    let other = alice.group("Run", &[&bob]).await;
    bob.mutate_ok("markNotificationsRead", json!({})).await;
    let kept = alice.send_message(&other, json!({ "text": "bob", "mentionIds": ["bob"] })).await;
    let unread = async || {
        let query =
            "{ viewer { unread { notifications } notifications(unreadOnly: true) { nodes { message { id } } } } }";
        bob.ask(query).await.at("viewer").clone()
    };
    let only_kept =
        json!({ "unread": { "notifications": 1 }, "notifications": { "nodes": [{ "message": { "id": kept } }] } });
    for (kind, ends_by) in
        [("GROUP", "removeMember"), ("GROUP", "leaveChat"), ("CHANNEL", "removeMember"), ("CHANNEL", "leaveChat")]
    {
        let chat = alice.chat(kind, "Walk", &[&bob]).await;
        let hello = alice.send_message(&chat, json!({ "text": "bob", "mentionIds": ["bob"] })).await;
        alice.send_message(&chat, json!({ "text": "all", "mentionsEveryone": true, "threadRootId": hello })).await;
        assert_eq!(unread().await["unread"]["notifications"], 4, "{kind}: added, and mentioned twice");
        match ends_by {
            "leaveChat" => bob.mutate_ok(ends_by, json!({ "chatId": chat })).await,
            _ => alice.mutate_ok(ends_by, json!({ "chatId": chat, "userId": "bob" })).await,
        }
        assert_eq!(unread().await, only_kept, "{kind} {ends_by}");
        if ends_by == "removeMember" {
            alice.add_member(&chat, "bob", "MEMBER").await;
            assert_eq!(unread().await["unread"]["notifications"], 2, "only the new invitation is unread");
            alice.mutate_ok("removeMember", json!({ "chatId": chat, "userId": "bob", "ban": true })).await;
            assert_eq!(unread().await, only_kept);
        }
    }
}

#[engine_test]
async fn draft_equal_to_the_sent_text_is_cleared_by_the_send(app: &TestApp) {
    let (alice, bob, _carol) = alice_bob_and_carol(app).await;
    let chat = alice.group("Walk", &[&bob]).await;
    let draft =
        async || alice.fetch_chat(&chat, "viewerMembership { draft }").await["viewerMembership"]["draft"].clone();
    let root = bob.send(&chat, "where to?").await;
    for (text, sent, remaining) in [
        ("hello", json!({ "text": "hello" }), json!(null)),
        ("  hello\n", json!({ "text": "hello" }), json!(null)),
        ("hello", json!({ "text": "hello", "threadRootId": root }), json!(null)),
        ("*Hello*", json!({ "text": "*Hello*", "mentionIds": ["bob"] }), json!(null)),
        ("hello", json!({ "text": "hello there" }), json!("hello")),
        ("hello there", json!({ "text": "hello" }), json!("hello there")),
        ("Hello", json!({ "text": "hello" }), json!("Hello")),
    ] {
        alice.mutate_ok("updateMyMembership", json!({ "chatId": chat, "draft": text })).await;
        bob.send(&chat, text).await;
        assert_ne!(draft().await, json!(null), "the message of another user clears nothing");
        alice.send_message(&chat, sent.clone()).await;
        assert_eq!(draft().await, remaining, "{text:?} {sent}");
    }
    // Other devices learn of it.
    let inbox = "subscription { inboxFeed { __typename ... on ChatUpserted { chat { viewerMembership { draft } } } } }";
    let mut phone = alice.subscribe(inbox, json!({})).await;
    phone.next_of_type("FeedCaughtUp").await;
    let draft_event = |text: serde_json::Value| json!({ "viewerMembership": { "draft": text } });
    alice.mutate_ok("updateMyMembership", json!({ "chatId": chat, "draft": "last words" })).await;
    while phone.next().await["chat"] != draft_event(json!("last words")) {}
    alice.send(&chat, "last words").await;
    while phone.next().await["chat"] != draft_event(json!(null)) {}
}

#[engine_test]
async fn removing_member_of_equal_role_is_forbidden(app: &TestApp) {
    let (alice, bob, carol) = alice_bob_and_carol(app).await;
    let chat = alice.group("Walk", &[]).await;
    alice
        .mutate_returning(
            "addMembers",
            json!({ "chatId": chat, "userIds": ["bob", "carol"], "role": "ADMIN" }),
            "chat { id }",
        )
        .await
        .data();
    let dave = app.user("dave").await;
    bob.mutate_returning("addMembers", json!({ "chatId": chat, "userIds": ["dave"] }), "chat { id }").await.data();
    let remove = async |user: &User, target: &str| {
        user.mutate_returning("removeMember", json!({ "chatId": chat, "userId": target }), "removedUserId").await
    };
    remove(&bob, "carol").await.assert_error("FORBIDDEN");
    remove(&bob, "alice").await.assert_error("FORBIDDEN");
    remove(&dave, "bob").await.assert_error("FORBIDDEN");
    remove(&bob, "bob").await.assert_bad_input("userId");
    remove(&bob, "nobody").await.assert_error("NOT_FOUND");
    remove(&bob, "dave").await.data();
    remove(&alice, "carol").await.data();
    assert_eq!(roles(&alice, &chat).await, "alice:OWNER bob:ADMIN");
    let _ = (carol, dave);
}

#[engine_test]
async fn adding_members_needs_right(app: &TestApp) {
    let (alice, bob, _carol) = alice_bob_and_carol(app).await;
    let chat = alice.group("Walk", &[&bob]).await;
    let add = async |user: &User, input: serde_json::Value| {
        let mut input = input;
        input["chatId"] = chat.as_str().into();
        user.mutate_returning("addMembers", input, "chat { id }").await
    };
    add(&bob, json!({ "userIds": ["carol"] })).await.assert_error("FORBIDDEN");
    add(&alice, json!({ "userIds": ["nobody"] })).await.assert_error("NOT_FOUND");
    add(&alice, json!({ "userIds": [] })).await.assert_bad_input("userIds");
    add(&alice, json!({ "userIds": ["carol"], "role": "OWNER" })).await.assert_bad_input("role");
    let ids: Vec<String> = (0..101).map(|n| format!("user{n}")).collect();
    add(&alice, json!({ "userIds": ids })).await.assert_bad_input("userIds");
    let policy = json!({ "chatId": chat, "policy": [{ "action": "ADD_MEMBERS", "role": "MEMBER" }] });
    alice.mutate_returning("updateChat", policy, "chat { id }").await.data();
    add(&bob, json!({ "userIds": ["carol"], "role": "ADMIN" })).await.assert_error("FORBIDDEN");
    add(&bob, json!({ "userIds": ["carol"] })).await.data();
    let viewer_only = app.user_in("demo", "alice", Some(&["chat.view"])).await;
    add(&viewer_only, json!({ "userIds": ["carol"] })).await.assert_error("FORBIDDEN");
}

#[engine_test]
async fn member_list_is_paged_and_filtered_by_role(app: &TestApp) {
    let alice = app.user("alice").await;
    let mut users = Vec::new();
    for n in 0..7 {
        users.push(app.user(&format!("user{n}")).await);
    }
    let chat = alice.group("Walk", &users.iter().collect::<Vec<_>>()).await;
    let page = async |arguments: &str| {
        let query = format!(
            "{{ chat(id: \"{chat}\") {{ members({arguments}) {{ edges {{ cursor node {{ user {{ id }} }} }} pageInfo {{ hasNextPage endCursor }} }} }} }}"
        );
        alice.ask(&query).await.at("chat.members").clone()
    };
    let first = page("first: 5").await;
    assert_eq!(first["pageInfo"]["hasNextPage"], true);
    let after = first["pageInfo"]["endCursor"].as_str().unwrap();
    let second = page(&format!("first: 5, after: \"{after}\"")).await;
    assert_eq!(second["edges"].as_array().unwrap().len(), 3);
    assert_eq!(second["pageInfo"]["hasNextPage"], false);
    assert_eq!(page("roles: [OWNER]").await["edges"][0]["node"]["user"]["id"], "alice");
    assert_eq!(page("roles: []").await["edges"], json!([]));
}

#[engine_test]
async fn user_search_by_name_is_paged(app: &TestApp) {
    for id in ["alice", "bob", "bobby", "zoe", "élodie"] {
        app.user_in("demo", id, None).await;
    }
    app.user_in("other", "bobo", None).await;
    let alice = app.user("alice").await;
    let names = async |arguments: &str| {
        let reply = alice
            .ask(&format!("{{ users({arguments}) {{ nodes {{ name }} pageInfo {{ endCursor hasNextPage }} }} }}"))
            .await;
        let names: Vec<String> = reply
            .at("users.nodes")
            .as_array()
            .unwrap()
            .iter()
            .map(|user| user["name"].as_str().unwrap().to_owned())
            .collect();
        (names.join(","), reply.at("users.pageInfo").clone())
    };
    assert_eq!(names("first: 10").await.0, "Alice,Bob,Bobby,Zoe,Élodie");
    assert_eq!(names("search: \"BOB\"").await.0, "Bob,Bobby");
    assert_eq!(names("search: \"ÉLO\"").await.0, "Élodie");
    assert_eq!(names("search: \"_o\"").await.0, "");
    let (first, info) = names("first: 2").await;
    assert_eq!(first, "Alice,Bob");
    let after = info["endCursor"].as_str().unwrap();
    assert_eq!(names(&format!("first: 9, after: \"{after}\"")).await.0, "Bobby,Zoe,Élodie");
    let one = alice
        .ask("{ user(id: \"bob\") { name } unknown: user(id: \"x\") { name } bobo: user(id: \"bobo\") { name } }")
        .await;
    assert_eq!(one.data(), &json!({ "user": { "name": "Bob" }, "unknown": null, "bobo": null }));
}
