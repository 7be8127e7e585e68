//! Chats: creating, opening, finding and changing them.

use futures_util::future::join_all;
use serde_json::json;
use testkit::{TestApp, engine_test};

#[engine_test]
async fn direct_chat_delivers_messages_both_ways(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let opened = alice
        .mutate_returning("openDirectChat", json!({ "userId": "bob" }), "chat { id kind title memberCount }")
        .await;
    assert_eq!(opened.at("openDirectChat.chat.kind"), "DIRECT");
    assert_eq!(opened.at("openDirectChat.chat.memberCount"), 2);
    let chat = opened.text("openDirectChat.chat.id");

    let mut feed = bob.feed(&chat, None, None).await;
    feed.expect("FeedCaughtUp").await;
    let sent = alice
        .mutate_returning(
            "sendMessage",
            json!({ "chatId": chat, "text": "Hello Bob", "nonce": "1" }),
            "replayed messageEdge { cursor node { id } }
                 message { id seq text nonce kind sender { id name } chat { lastMessage { text } } }",
        )
        .await;
    assert_eq!(sent.at("sendMessage.replayed"), false);
    assert_eq!(sent.at("sendMessage.message.sender.name"), "Alice");
    assert_eq!(sent.at("sendMessage.message.chat.lastMessage.text"), "Hello Bob");
    let event = feed.expect("MessageUpserted").await;
    assert_eq!(event["change"], "ADDED");
    assert_eq!(event["message"]["id"], sent.text("sendMessage.message.id"));

    let list = bob
            .ask("{ chats { nodes { id lastMessage { text } viewerMembership { unreadCount } } } viewer { unread { chats messages } } }")
            .await;
    assert_eq!(list.at("chats.nodes.0.viewerMembership.unreadCount"), 1);
    assert_eq!(list.at("viewer.unread"), &json!({ "chats": 1, "messages": 1 }));
    let read = bob
        .mutate_returning("markRead", json!({ "chatId": chat }), "member { unreadCount lastReadMessage { text } }")
        .await;
    let member = json!({ "unreadCount": 0, "lastReadMessage": { "text": "Hello Bob" } });
    assert_eq!(read.at("markRead.member"), &member);
}

#[engine_test]
async fn direct_chat_is_unique_per_pair_under_concurrency(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let opens = (0..20).map(async |turn| {
        let (user, other) = if turn % 2 == 0 { (&alice, "bob") } else { (&bob, "alice") };
        user.mutate_returning("openDirectChat", json!({ "userId": other }), "chat { id }")
            .await
            .text("openDirectChat.chat.id")
    });
    let ids = join_all(opens).await;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let list = alice.ask("{ chats { nodes { id members { nodes { user { id } role } } } } }").await;
    assert_eq!(list.at("chats.nodes").as_array().unwrap().len(), 1);
    let members = json!([
        { "user": { "id": "alice" }, "role": "MEMBER" },
        { "user": { "id": "bob" }, "role": "MEMBER" },
    ]);
    assert_eq!(list.at("chats.nodes.0.members.nodes"), &members);

    alice
        .mutate_returning("openDirectChat", json!({ "userId": "nobody" }), "chat { id }")
        .await
        .assert_error("NOT_FOUND");
    alice
        .mutate_returning("updateChat", json!({ "chatId": ids[0], "title": "Us" }), "chat { id }")
        .await
        .assert_error("FORBIDDEN");
    alice.mutate_returning("leaveChat", json!({ "chatId": ids[0] }), "removedUserId").await.assert_error("FORBIDDEN");
}

#[engine_test]
async fn group_is_created_once_per_nonce(app: &TestApp) {
    let (alice, _bob) = (app.user("alice").await, app.user("bob").await);
    let input = json!({
        "kind": "GROUP", "title": "  Tuesday walk ", "description": "Where to?", "category": "CUSTOM",
        "avatarUrl": "https://example.org/walk.png", "memberIds": ["bob", "alice", "bob"], "nonce": "walk",
        "policy": [{ "action": "ADD_MEMBERS", "role": "MEMBER" }],
    });
    let selection = "chat { id kind title description category avatarUrl memberCount createdBy { id }
                    policy { action role } viewerMembership { role } }";
    let replies = join_all((0..10).map(|_| alice.mutate_returning("createChat", input.clone(), selection))).await;
    for reply in &replies {
        assert_eq!(reply.at("createChat.chat"), replies[0].at("createChat.chat"));
    }
    let chat = replies[0].at("createChat.chat");
    assert_eq!(chat["title"], "Tuesday walk");
    assert_eq!(chat["memberCount"], 2);
    assert_eq!(chat["viewerMembership"]["role"], "OWNER");
    assert!(chat["policy"].as_array().unwrap().contains(&json!({ "action": "ADD_MEMBERS", "role": "MEMBER" })));
    assert!(chat["policy"].as_array().unwrap().contains(&json!({ "action": "CHANGE_ROLES", "role": "OWNER" })));

    let mut other = input.clone();
    other["title"] = "Wednesday walk".into();
    alice.mutate_returning("createChat", other, selection).await.assert_error("CONFLICT");
    let list = alice.ask("{ chats { nodes { id } } }").await;
    assert_eq!(list.at("chats.nodes").as_array().unwrap().len(), 1);
}

#[engine_test]
async fn invalid_chat_input_is_rejected_by_field(app: &TestApp) {
    let alice = app.user("alice").await;
    let cases = [
        (json!({ "kind": "GROUP", "title": " ", "memberIds": [] }), "title"),
        (json!({ "kind": "GROUP", "title": "a\nb", "memberIds": [] }), "title"),
        (json!({ "kind": "GROUP", "title": "x".repeat(201), "memberIds": [] }), "title"),
        (json!({ "kind": "GROUP", "title": "a", "description": "x".repeat(2_001), "memberIds": [] }), "description"),
        (json!({ "kind": "GROUP", "title": "a", "description": "a\u{0}b", "memberIds": [] }), "description"),
        (json!({ "kind": "GROUP", "title": "a", "memberIds": [], "nonce": "" }), "nonce"),
        (json!({ "kind": "DIRECT", "title": "a", "memberIds": [] }), "kind"),
    ];
    for (input, field) in cases {
        alice.mutate_returning("createChat", input, "chat { id }").await.assert_bad_input(field);
    }
    let unknown_member = json!({ "kind": "GROUP", "title": "a", "memberIds": ["nobody"] });
    alice.mutate_returning("createChat", unknown_member, "chat { id }").await.assert_error("NOT_FOUND");
    let script = json!({ "kind": "GROUP", "title": "a", "avatarUrl": "javascript:alert(1)", "memberIds": [] });
    alice.mutate_returning("createChat", script, "chat { id }").await.assert_error("BAD_USER_INPUT");
    let viewer_only = app.user_in("demo", "observer", Some(&["chat.view"])).await;
    let input = json!({ "kind": "GROUP", "title": "a", "memberIds": [] });
    viewer_only.mutate_returning("createChat", input, "chat { id }").await.assert_error("FORBIDDEN");
}

#[engine_test]
async fn chat_details_change_needs_right_and_keeps_omitted_fields(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let selection = "chat { title description category slowModeSeconds version }";
    let update = async |input| {
        let mut input: serde_json::Value = input;
        input["chatId"] = chat.as_str().into();
        alice.mutate_returning("updateChat", input, selection).await
    };
    let first = update(json!({ "description": "Bring water", "category": "OPERATIONAL" })).await;
    assert_eq!(first.at("updateChat.chat.title"), "Walk");
    assert_eq!(first.at("updateChat.chat.description"), "Bring water");
    let same = update(json!({ "description": "Bring water" })).await;
    assert_eq!(same.at("updateChat.chat"), first.at("updateChat.chat"), "a change without effect takes no version");
    let emptied = update(json!({ "description": null, "title": "Run", "slowModeSeconds": 21600 })).await;
    assert_eq!(emptied.at("updateChat.chat.title"), "Run");
    assert_eq!(emptied.at("updateChat.chat.description"), &json!(null));
    assert_eq!(emptied.at("updateChat.chat.category"), "OPERATIONAL");
    update(json!({ "title": null })).await.assert_bad_input("title");
    update(json!({ "slowModeSeconds": 21601 })).await.assert_bad_input("slowModeSeconds");
    update(json!({ "slowModeSeconds": -1 })).await.assert_bad_input("slowModeSeconds");
    bob.mutate_returning("updateChat", json!({ "chatId": chat, "title": "Mine" }), selection)
        .await
        .assert_error("FORBIDDEN");
}

#[engine_test]
async fn chat_list_is_ordered_filtered_and_paged(app: &TestApp) {
    let (alice, bob, zoe) = (app.user("alice").await, app.user("bob").await, app.user("zoe").await);
    let mut chats = Vec::new();
    for title in ["Alpha", "Beta", "Gamma 100%"] {
        chats.push(alice.group(title, &[&bob]).await);
    }
    chats.push(alice.chat("CHANNEL", "News", &[]).await);
    let direct = alice.mutate_returning("openDirectChat", json!({ "userId": "zoe" }), "chat { id }").await;
    chats.push(direct.text("openDirectChat.chat.id"));
    bob.send(&chats[0], "the newest").await;
    let titles = async |arguments: &str| {
        let list = alice.ask(&format!("{{ chats({arguments}) {{ nodes {{ title }} pageInfo {{ endCursor startCursor hasNextPage hasPreviousPage }} }} }}")).await;
        let titles: Vec<String> = list
            .at("chats.nodes")
            .as_array()
            .unwrap()
            .iter()
            .map(|chat| chat["title"].as_str().unwrap_or("-").to_owned())
            .collect();
        (titles.join(","), list.at("chats.pageInfo").clone())
    };
    assert_eq!(titles("first: 10").await.0, "Alpha,-,News,Gamma 100%,Beta");
    let (page, info) = titles("first: 2").await;
    assert_eq!(page, "Alpha,-");
    assert_eq!(info["hasNextPage"], true);
    let after = info["endCursor"].as_str().unwrap();
    assert_eq!(titles(&format!("first: 2, after: \"{after}\"")).await.0, "News,Gamma 100%");
    let (page, info) = titles("last: 2").await;
    assert_eq!(page, "Gamma 100%,Beta");
    assert_eq!(info["hasPreviousPage"], true);
    let before = info["startCursor"].as_str().unwrap();
    assert_eq!(titles(&format!("last: 2, before: \"{before}\"")).await.0, "-,News");
    assert_eq!(titles("first: 0").await.0, "");
    for (filter, expected) in [
        ("kinds: [CHANNEL]", "News"),
        ("kinds: []", ""),
        ("unreadOnly: true", "Alpha"),
        ("search: \"LPH\"", "Alpha"),
        ("search: \"100%\"", "Gamma 100%"),
        ("search: \"%\"", "Gamma 100%"),
        ("search: \"Zo\"", "-"),
        ("search: \"alice\"", ""),
        ("joinable: true", ""),
    ] {
        assert_eq!(titles(&format!("filter: {{ {filter} }}")).await.0, expected, "{filter}");
    }
    let joinable = zoe.ask("{ chats(filter: { joinable: true }) { nodes { title viewerMembership { id } } } }").await;
    assert_eq!(joinable.at("chats.nodes"), &json!([{ "title": "News", "viewerMembership": null }]));
    for (arguments, field) in [
        ("first: 101", "first"),
        ("first: -1", "first"),
        ("last: 101", "last"),
        ("first: 1, last: 1", "last"),
        ("after: \"nonsense\"", "after"),
        ("before: \"MQ\"", "before"),
    ] {
        alice.ask(&format!("{{ chats({arguments}) {{ nodes {{ id }} }} }}")).await.assert_bad_input(field);
    }
}

#[engine_test]
async fn open_direct_chat_with_oneself_opens_personal_notes(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let selection = "chat { id kind title memberCount lastMessage { id } members { nodes { user { id } role } }
                    viewerCan { action allowed } }";
    let open = async || alice.mutate_returning("openDirectChat", json!({ "userId": "alice" }), selection).await;
    let opened = join_all((0..5).map(|_| open())).await;
    let chat = opened[0].at("openDirectChat.chat");
    assert!(opened.iter().all(|reply| reply.at("openDirectChat.chat") == chat), "{opened:?}");
    let fields = [&chat["kind"], &chat["title"], &chat["memberCount"], &chat["lastMessage"]];
    assert_eq!(json!(fields), json!(["DIRECT", null, 1, null]));
    assert_eq!(chat["members"]["nodes"], json!([{ "user": { "id": "alice" }, "role": "MEMBER" }]));
    let actions = chat["viewerCan"].as_array().unwrap().iter().filter(|action| action["allowed"] == true);
    let allowed: Vec<_> = actions.map(|action| action["action"].as_str().unwrap()).collect();
    assert_eq!(allowed, ["POST", "MENTION_EVERYONE", "PIN"]);
    let id = chat["id"].as_str().unwrap();
    let note = alice.send(id, "buy milk").await;
    alice.mutate_ok("pinMessage", json!({ "messageId": note })).await;
    let listed = alice.ask("{ chats { nodes { id lastMessage { id } viewerMembership { unreadCount } } } }").await;
    let expected = json!([{ "id": id, "lastMessage": { "id": note }, "viewerMembership": { "unreadCount": 0 } }]);
    assert_eq!(listed.at("chats.nodes"), &expected);
    let found = alice.ask("{ searchMessages(query: \"milk\") { nodes { id } } }").await;
    assert_eq!(found.at("searchMessages.nodes"), &json!([{ "id": note }]));
    for (field, input) in [
        ("leaveChat", json!({ "chatId": id })),
        ("addMembers", json!({ "chatId": id, "userIds": ["bob"] })),
        ("updateChat", json!({ "chatId": id, "title": "Notes" })),
        ("startCall", json!({ "chatId": id, "kind": "AUDIO", "deviceId": "phone" })),
    ] {
        alice.mutate(field, input).await.assert_error("FORBIDDEN");
    }
    let by_name = alice.ask("{ chats(filter: { search: \"alic\" }) { nodes { id } } }").await;
    assert_eq!(by_name.at("chats.nodes"), &json!([{ "id": id }]), "the viewer's name is the title of their notes");
    // The notes belong to nobody else, and the chat with another user is another one.
    bob.mutate("sendMessage", json!({ "chatId": id, "text": "hello" })).await.assert_error("NOT_FOUND");
    assert_eq!(bob.fetch_chat(id, "id").await, json!(null));
    assert_ne!(alice.direct(&bob).await, id);
    assert_ne!(bob.direct(&bob).await, id);
}

#[engine_test]
async fn chat_order_and_preview_follow_what_users_said(app: &TestApp) {
    let (alice, bob, _carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let (walk, run) = (alice.group("Walk", &[&bob]).await, alice.group("Run", &[&bob]).await);
    let list = async || {
        let list = alice.ask("{ chats { nodes { title lastMessage { text } lastEntry { kind } } } }").await;
        list.at("chats.nodes").clone()
    };
    let entry = |title: &str, text: Option<&str>, kind: &str| json!({ "title": title, "lastMessage": text.map(|text| json!({ "text": text })), "lastEntry": { "kind": kind } });
    assert_eq!(list().await, json!([entry("Run", None, "SYSTEM"), entry("Walk", None, "SYSTEM")]));
    let said = bob.send(&walk, "said").await;
    bob.send(&run, "and heard").await;
    let run_entry = entry("Run", Some("and heard"), "TEXT");
    assert_eq!(list().await, json!([run_entry, entry("Walk", Some("said"), "TEXT")]));
    let activity = alice.fetch_chat(&walk, "lastActivityAt").await;
    for (user, field, input) in [
        (&alice, "addMembers", json!({ "chatId": walk, "userIds": ["carol"] })),
        (&alice, "changeMemberRole", json!({ "chatId": walk, "userId": "carol", "role": "ADMIN" })),
        (&alice, "updateChat", json!({ "chatId": walk, "title": "Stroll" })),
        (&alice, "pinMessage", json!({ "messageId": said })),
        (&bob, "addReaction", json!({ "messageId": said, "emoji": "👍" })),
        (&bob, "editMessage", json!({ "messageId": said, "text": "said better" })),
        (&bob, "sendMessage", json!({ "chatId": walk, "text": "in the thread", "threadRootId": said })),
        (&alice, "removeMember", json!({ "chatId": walk, "userId": "carol" })),
        (&bob, "startCall", json!({ "chatId": walk, "kind": "AUDIO", "deviceId": "phone" })),
        (&bob, "leaveChat", json!({ "chatId": walk })),
    ] {
        user.mutate_ok(field, input).await;
        let chats = list().await;
        assert_eq!(chats[0], run_entry, "{field}");
        let text = &chats[1]["lastMessage"]["text"];
        assert!(text == "said" || text == "said better", "{field}: {text}");
    }
    for archived in [true, false] {
        alice.mutate_ok("archiveChat", json!({ "chatId": walk, "archived": archived })).await;
    }
    assert_eq!(list().await, json!([run_entry, entry("Stroll", Some("said better"), "SYSTEM")]));
    assert_eq!(alice.fetch_chat(&walk, "lastActivityAt").await, activity);
    // Reading the whole chat reads the system messages too.
    let read =
        alice.mutate_returning("markRead", json!({ "chatId": walk }), "member { unreadCount lastReadMessage { id } }");
    let read = read.await.at("markRead.member").clone();
    let newest = alice.fetch_chat(&walk, "lastEntry { id }").await["lastEntry"].clone();
    assert_eq!(read, json!({ "unreadCount": 0, "lastReadMessage": newest }));
    // A page of the list continues by the same order.
    let first = alice.ask("{ chats(first: 1) { nodes { title } pageInfo { endCursor } } }").await;
    assert_eq!(first.at("chats.nodes.0.title"), "Run");
    let after = json!({ "after": first.text("chats.pageInfo.endCursor") });
    let second = alice.ask_with("query($after: String) { chats(first: 1, after: $after) { nodes { title } } }", after);
    assert_eq!(second.await.at("chats.nodes.0.title"), "Stroll");
    alice.send(&walk, "again").await;
    assert_eq!(list().await[0], entry("Stroll", Some("again"), "TEXT"));
}

#[engine_test]
async fn policy_that_names_an_action_twice_is_refused(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    let rule = |action: &str, role: &str| json!({ "action": action, "role": role });
    for policy in [
        json!([rule("POST", "ADMIN"), rule("POST", "MEMBER")]),
        json!([rule("PIN", "OWNER"), rule("POST", "MEMBER"), rule("PIN", "OWNER")]),
    ] {
        let new = json!({ "kind": "GROUP", "title": "Run", "memberIds": [], "policy": policy });
        alice.mutate("createChat", new).await.assert_bad_input("policy");
        alice.mutate("updateChat", json!({ "chatId": chat, "policy": policy })).await.assert_bad_input("policy");
    }
    let policy = json!([rule("POST", "ADMIN"), rule("PIN", "OWNER")]);
    alice.mutate_ok("updateChat", json!({ "chatId": chat, "policy": policy })).await;
    let stored = alice.fetch_chat(&chat, "policy { action role }").await["policy"].clone();
    assert!(policy.as_array().unwrap().iter().all(|rule| stored.as_array().unwrap().contains(rule)), "{stored}");
}

#[engine_test]
async fn unknown_users_are_named_in_the_error(app: &TestApp) {
    let alice = app
        .user_in("demo", "alice", Some(&["chat.view", "chat.create_group", "chat.manage_group", "organization.admin"]))
        .await;
    app.user("bob").await;
    app.user_in("other", "mallory", None).await;
    let chat = alice.group("Walk", &[]).await;
    let resource = |id: &str, users: &serde_json::Value| json!({ "resource": { "type": "ticket", "id": id }, "title": "Ticket", "memberIds": users });
    alice.mutate_ok("ensureResourceChat", resource("known", &json!([]))).await;
    let users = json!(["bob", "nobody", "mallory", "alice"]);
    let unknown = json!(["mallory", "nobody"]);
    for (mutation, input, field, ids) in [
        ("createChat", json!({ "kind": "GROUP", "title": "a", "memberIds": users }), "memberIds", &unknown),
        ("createChat", json!({ "kind": "CHANNEL", "title": "a", "memberIds": users }), "memberIds", &unknown),
        ("addMembers", json!({ "chatId": chat, "userIds": users }), "userIds", &unknown),
        ("addMembers", json!({ "chatId": chat, "userIds": ["bob", " "] }), "userIds", &json!([" "])),
        ("ensureResourceChat", resource("new", &users), "memberIds", &unknown),
        ("ensureResourceChat", resource("known", &users), "memberIds", &unknown),
        ("openDirectChat", json!({ "userId": "nobody" }), "userId", &json!(["nobody"])),
        ("openDirectChat", json!({ "userId": "a\u{200B}" }), "userId", &json!(["a\u{200B}"])),
        ("removeMember", json!({ "chatId": chat, "userId": "nobody", "ban": true }), "userId", &json!(["nobody"])),
    ] {
        let refused = alice.mutate(mutation, input).await;
        refused.assert_error("NOT_FOUND");
        let extensions = &refused.body["errors"][0]["extensions"];
        assert_eq!([&extensions["field"], &extensions["ids"]], [&json!(field), ids], "{mutation}");
    }
    assert_eq!(alice.fetch_chat(&chat, "memberCount").await["memberCount"], 1, "nobody was added");
    let long = "x".repeat(10_000);
    let refused = alice.mutate("openDirectChat", json!({ "userId": long })).await;
    assert_eq!(refused.body["errors"][0]["extensions"]["ids"], json!([&long[..255]]), "a long id is cut");
}

#[engine_test]
async fn channel_is_visible_to_all_and_readable_by_members(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.chat("CHANNEL", "News", &[]).await;
    let message = alice.send(&chat, "for members").await;
    let query = format!(
        "{{ chat(id: \"{chat}\") {{ title memberCount lastMessage {{ id }} viewerMembership {{ id }}
               members {{ nodes {{ id }} }} messages {{ nodes {{ id kind }} totalCount }}
               viewerCan {{ allowed reason }} }} message(id: \"{message}\") {{ id }} }}"
    );
    let outside = bob.ask(&query).await;
    assert_eq!(outside.at("chat.title"), "News");
    assert_eq!(outside.at("chat.lastMessage"), &json!(null));
    assert_eq!(outside.at("chat.messages"), &json!({ "nodes": [], "totalCount": 0 }));
    assert_eq!(outside.at("chat.members.nodes"), &json!([]));
    assert_eq!(outside.at("message"), &json!(null));
    assert!(outside.at("chat.viewerCan").as_array().unwrap().iter().all(|action| action["allowed"] == false));

    let joined = bob.mutate_returning("joinChannel", json!({ "chatId": chat }), "member { id role unreadCount }").await;
    assert_eq!(joined.at("joinChannel.member.unreadCount"), 0, "a new member starts at the newest message");
    let again = bob.mutate_returning("joinChannel", json!({ "chatId": chat }), "member { id role unreadCount }").await;
    assert_eq!(joined.data(), again.data());
    let inside = bob.ask(&query).await;
    assert_eq!(inside.at("chat.memberCount"), 2);
    let kinds: Vec<_> = inside.at("chat.messages.nodes").as_array().unwrap().iter().map(|node| &node["kind"]).collect();
    assert_eq!(
        kinds,
        ["SYSTEM", "SYSTEM", "TEXT", "SYSTEM"],
        "the creation, the welcome, the message, and the new member"
    );
    assert_eq!(inside.at("chat.messages.nodes.2.id"), message.as_str());
    assert_eq!(inside.at("chat.messages.totalCount"), 4);
    assert_eq!(inside.at("message.id"), message.as_str());
    let post = bob.mutate_returning("sendMessage", json!({ "chatId": chat, "text": "me too" }), "message { id }").await;
    post.assert_error("FORBIDDEN");
    let group = alice.group("Closed", &[]).await;
    bob.mutate_returning("joinChannel", json!({ "chatId": group }), "member { id }").await.assert_error("NOT_FOUND");
    alice.mutate_returning("joinChannel", json!({ "chatId": group }), "member { id }").await.assert_error("FORBIDDEN");
}

#[engine_test(settings = [])]
async fn chat_capabilities_match_mutation_outcome(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    alice.mutate_returning("updateChat", json!({ "chatId": chat, "slowModeSeconds": 60 }), "chat { id }").await.data();
    let capability_to_post = async || {
        let query = format!("{{ chat(id: \"{chat}\") {{ viewerCan {{ action allowed reason until }} }} }}");
        let actions = bob.ask(&query).await.at("chat.viewerCan").clone();
        actions.as_array().unwrap().iter().find(|action| action["action"] == "POST").unwrap().clone()
    };
    assert_eq!(capability_to_post().await["allowed"], true);
    bob.send(&chat, "first").await;
    let slowed = capability_to_post().await;
    assert_eq!(slowed["allowed"], false);
    assert!(slowed["until"].is_string(), "{slowed}");
    let rejected =
        bob.mutate_returning("sendMessage", json!({ "chatId": chat, "text": "second" }), "message { id }").await;
    rejected.assert_error("RATE_LIMITED");
    let wait = rejected.body["errors"][0]["extensions"]["retryAfterMs"].as_u64().unwrap();
    assert!((1..=60_000).contains(&wait), "{wait}");
    app.app.clock.advance(std::time::Duration::from_millis(wait));
    assert_eq!(capability_to_post().await["allowed"], true);
    bob.send(&chat, "second").await;
    alice.send(&chat, "owners do not wait").await;
    alice.send(&chat, "indeed").await;
}
