//! Messages: history, replies, edits, deletes, reactions and reading.

use serde_json::{Value, json};
use testkit::{TestApp, User, engine_test};

async fn page(user: &User, chat: &str, arguments: &str) -> Value {
    let query = format!(
        "{{ chat(id: \"{chat}\") {{ messages({arguments}) {{ nodes {{ text }} edges {{ cursor node {{ id }} }} totalCount
           pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }} }} }} }}"
    );
    user.ask(&query).await.at("chat.messages").clone()
}

fn texts(page: &Value) -> String {
    let texts: Vec<&str> =
        page["nodes"].as_array().unwrap().iter().map(|node| node["text"].as_str().unwrap_or("-")).collect();
    texts.join(" ")
}

#[engine_test]
async fn history_is_paged_both_ways_and_around_message(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.direct(&bob).await;
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(alice.send(&chat, &n.to_string()).await);
    }
    let all = page(&alice, &chat, "first: 100").await;
    assert_eq!(texts(&all), "0 1 2 3 4 5 6 7 8 9");
    assert_eq!(all["totalCount"], 10);
    assert_eq!(texts(&page(&alice, &chat, "last: 3").await), "7 8 9");
    let cursor = |n: usize| all["edges"][n]["cursor"].as_str().unwrap();
    for (arguments, expected, previous, next) in [
        (format!("first: 3, after: \"{}\"", cursor(1)), "2 3 4", true, true),
        (format!("last: 3, before: \"{}\"", cursor(5)), "2 3 4", true, true),
        (format!("after: \"{}\", before: \"{}\", first: 9", cursor(1), cursor(4)), "2 3", true, false),
        (format!("before: \"{}\"", cursor(2)), "0 1", false, true),
        (format!("after: \"{}\"", cursor(7)), "8 9", true, false),
        (format!("around: \"{}\", first: 5", ids[5]), "3 4 5 6 7", true, true),
        (format!("around: \"{}\", first: 1", ids[5]), "5", true, true),
        (format!("around: \"{}\", last: 4", ids[0]), "0 1 2 3", false, true),
        (format!("around: \"{}\", first: 5", ids[1]), "0 1 2 3 4", false, true),
        (format!("around: \"{}\", first: 5", ids[8]), "5 6 7 8 9", true, false),
        (format!("around: \"{}\", last: 5", ids[9]), "5 6 7 8 9", true, false),
        (format!("around: \"{}\", first: 2", ids[9]), "8 9", true, false),
        (format!("around: \"{}\", first: 10", ids[3]), "0 1 2 3 4 5 6 7 8 9", false, false),
        (format!("around: \"{}\", first: 0", ids[5]), "", false, false),
        (format!("around: \"{}\", last: 0", ids[5]), "", false, false),
        (format!("around: \"{}\"", ids[9]), "0 1 2 3 4 5 6 7 8 9", false, false),
        ("first: 0".into(), "", false, true),
    ] {
        let page = page(&alice, &chat, &arguments).await;
        assert_eq!(texts(&page), expected, "{arguments}");
        assert_eq!(
            (&page["pageInfo"]["hasPreviousPage"], &page["pageInfo"]["hasNextPage"]),
            (&json!(previous), &json!(next)),
            "{arguments}"
        );
    }
    let ask = async |arguments: String| {
        alice.ask(&format!("{{ chat(id: \"{chat}\") {{ messages({arguments}) {{ totalCount }} }} }}")).await
    };
    ask("first: 101".into()).await.assert_bad_input("first");
    ask("after: \"bm9uc2Vuc2U\"".into()).await.assert_bad_input("after");
    ask(format!("around: \"{}\", after: \"{}\"", ids[1], cursor(0))).await.assert_bad_input("around");
}

#[engine_test]
async fn page_around_an_unknown_message_is_empty(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let (chat, other) = (alice.direct(&bob).await, alice.group("Run", &[]).await);
    let root = alice.send(&chat, "hello").await;
    let other_message = alice.send(&other, "in another chat").await;
    let reply = alice.send_message(&chat, json!({ "text": "in a thread", "threadRootId": root })).await;
    for unknown in ["msg_nonsense", &other_message, &reply, &chat, ""] {
        let query = format!(
            "{{ chat(id: \"{chat}\") {{ id messages(around: \"{unknown}\") {{ nodes {{ id }}
             pageInfo {{ hasNextPage hasPreviousPage }} }} }} }}"
        );
        let page = json!({ "nodes": [], "pageInfo": { "hasNextPage": false, "hasPreviousPage": false } });
        assert_eq!(alice.ask(&query).await.at("chat"), &json!({ "id": chat, "messages": page }), "{unknown}");
    }
}

#[engine_test]
async fn cursor_of_another_list_is_rejected(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let mut cursors = Vec::new();
    let mut roots = Vec::new();
    for title in ["Walk", "Run"] {
        let chat = alice.group(title, &[&bob]).await;
        let root = alice.send(&chat, "hello").await;
        alice.mutate_ok("editMessage", json!({ "messageId": root, "text": "hello again" })).await;
        alice.send_message(&chat, json!({ "text": "in a thread", "threadRootId": root })).await;
        alice.mutate_ok("pinMessage", json!({ "messageId": root })).await;
        bob.mutate_ok("markRead", json!({ "chatId": chat })).await;
        let query = format!(
            "{{ chat(id: \"{chat}\") {{ messages {{ edges {{ cursor }} }} pinnedMessages {{ edges {{ cursor }} }}
             members {{ edges {{ cursor }} }} }} message(id: \"{root}\") {{ replies {{ edges {{ cursor }} }}
             readBy {{ edges {{ cursor }} }} editHistory {{ edges {{ cursor }} }} }} }}"
        );
        let reply = alice.ask(&query).await;
        let first = |path: &str| reply.text(&format!("{path}.edges.0.cursor"));
        cursors.push(
            [
                "chat.messages",
                "chat.pinnedMessages",
                "chat.members",
                "message.replies",
                "message.readBy",
                "message.editHistory",
            ]
            .map(|path| (path, first(path))),
        );
        roots.push((chat, root));
    }
    let ask = async |(chat, root): &(String, String), path: &str, arguments: String| {
        let (parent, list) = path.split_once('.').unwrap();
        let id = if parent == "chat" { chat } else { root };
        alice.ask(&format!("{{ {parent}(id: \"{id}\") {{ {list}({arguments}) {{ edges {{ cursor }} }} }} }}")).await
    };
    for ((path, own), (_, foreign)) in cursors[0].iter().zip(&cursors[1]) {
        ask(&roots[0], path, format!("after: \"{own}\"")).await.data();
        ask(&roots[0], path, format!("after: \"{foreign}\"")).await.assert_bad_input("after");
        if !["chat.pinnedMessages", "chat.members", "message.readBy"].contains(path) {
            ask(&roots[0], path, format!("before: \"{own}\"")).await.data();
            ask(&roots[0], path, format!("before: \"{foreign}\"")).await.assert_bad_input("before");
        }
    }
    let timeline_cursor = &cursors[0][0].1;
    let replies = ask(&roots[0], "message.replies", format!("after: \"{timeline_cursor}\"")).await;
    assert_eq!(replies.at("message.replies.edges").as_array().unwrap().len(), 1, "the lists of a chat share cursors");
}

#[engine_test]
async fn text_loses_control_characters_except_tabs_and_line_breaks(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let (dirty, clean) = ("\u{1b}[31ma\u{7}\u{7f}\u{85}\u{9b}\tb\r\nc\rd\u{1}", "[31ma\tb\nc\nd");
    let nonce = |text: &str| json!({ "text": text, "nonce": "n" });
    let id = alice.send_message(&chat, nonce(dirty)).await;
    assert_eq!(alice.send_message(&chat, nonce(clean)).await, id, "the same text");
    let has_control = |text: &str| text.chars().any(|c| c.is_control() && c != '\t' && c != '\n');
    let assert_clean = async || {
        let seen = bob.fetch_message(&id, "text html").await;
        assert_eq!(seen["text"], clean);
        assert!(!has_control(seen["html"].as_str().unwrap()), "{seen}");
    };
    assert_clean().await;
    alice.mutate_ok("editMessage", json!({ "messageId": id, "text": "something else" })).await;
    alice.mutate_ok("editMessage", json!({ "messageId": id, "text": dirty })).await;
    assert_clean().await;
    let draft = json!({ "chatId": chat, "draft": dirty });
    let member = alice.mutate_returning("updateMyMembership", draft, "member { draft }").await;
    assert_eq!(member.at("updateMyMembership.member.draft"), clean);
    for blank in ["\u{7}", " \u{1b}\n\u{9f}"] {
        alice.try_send_message(&chat, json!({ "text": blank })).await.assert_bad_input("text");
    }
    alice.try_send_message(&chat, json!({ "text": "a\0b" })).await.assert_bad_input("text");
}

#[engine_test]
async fn reply_target_must_be_in_same_chat(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let (chat, other) = (alice.direct(&bob).await, alice.group("Run", &[]).await);
    let first = alice.send(&chat, "who comes?").await;
    let other_message = alice.send(&other, "in another chat").await;
    let reply = async |to: &str| {
        let input = json!({ "chatId": chat, "text": "me", "replyToId": to });
        alice.mutate_returning("sendMessage", input, "message { replyTo { id text replyTo { id } } }").await
    };
    let replied = reply(&first).await;
    assert_eq!(
        replied.at("sendMessage.message.replyTo"),
        &json!({ "id": first, "text": "who comes?", "replyTo": null })
    );
    reply(&other_message).await.assert_error("NOT_FOUND");
    reply("msg_nonsense").await.assert_error("NOT_FOUND");
    alice.mutate_returning("deleteMessage", json!({ "messageId": first }), "message { id }").await.data();
    reply(&first).await.assert_error("FORBIDDEN");
    let history = alice
        .ask(&format!(
            "{{ chat(id: \"{chat}\") {{ messages {{ nodes {{ text replyTo {{ id text deletedAt }} }} }} }} }}"
        ))
        .await;
    assert_eq!(history.at("chat.messages.nodes.1.replyTo.text"), &json!(null));
    assert!(history.at("chat.messages.nodes.1.replyTo.deletedAt").is_string());
}

#[engine_test(settings = [("PARLOR_MESSAGE_CHARACTERS", "10")])]
async fn invalid_message_input_is_rejected_by_field(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[]).await;
    let send = async |user: &User, input: Value| {
        let mut input = input;
        input["chatId"] = chat.as_str().into();
        user.mutate_returning("sendMessage", input, "message { text }").await
    };
    send(&alice, json!({})).await.assert_bad_input("text");
    send(&alice, json!({ "text": " \n\t" })).await.assert_bad_input("text");
    send(&alice, json!({ "text": "a\u{0}b" })).await.assert_bad_input("text");
    send(&alice, json!({ "text": "é".repeat(11) })).await.assert_bad_input("text");
    send(&alice, json!({ "text": "hello", "nonce": "x".repeat(129) })).await.assert_bad_input("nonce");
    send(&alice, json!({ "text": "hello", "nonce": "a\u{0}" })).await.assert_bad_input("nonce");
    send(&bob, json!({ "text": "hello" })).await.assert_error("NOT_FOUND");
    for text in ["é".repeat(10), "  a\nb 👍🏽".into(), "<b>&\"'".into()] {
        assert_eq!(send(&alice, json!({ "text": text })).await.at("sendMessage.message.text"), &json!(text));
    }
    alice
        .mutate_returning("sendMessage", json!({ "chatId": "chat_x", "text": "hello" }), "message { id }")
        .await
        .assert_error("NOT_FOUND");
}

#[engine_test]
async fn edit_keeps_revisions_and_delete_keeps_no_content(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let id = alice.send(&chat, "one").await;
    let selection = "message { text editedAt deletedAt editHistory { nodes { text } } reactions { emoji } viewerCanEdit viewerCanDelete }";
    let edit = async |user: &User, text: &str| {
        user.mutate_returning("editMessage", json!({ "messageId": id, "text": text }), selection).await
    };
    edit(&bob, "mine").await.assert_error("FORBIDDEN");
    edit(&alice, "").await.assert_bad_input("text");
    let same = edit(&alice, "one").await;
    assert_eq!(same.at("editMessage.message.editedAt"), &json!(null), "an edit to the same text has no effect");
    edit(&alice, "two").await.data();
    let edited = edit(&alice, "three").await;
    assert!(edited.at("editMessage.message.editedAt").is_string());
    assert_eq!(edited.at("editMessage.message.editHistory.nodes"), &json!([{ "text": "one" }, { "text": "two" }]));
    bob.mutate_returning("addReaction", json!({ "messageId": id, "emoji": "👍" }), "message { id }").await.data();
    let can = bob.ask(&format!("{{ message(id: \"{id}\") {{ viewerCanEdit viewerCanDelete }} }}")).await;
    assert_eq!(can.at("message"), &json!({ "viewerCanEdit": false, "viewerCanDelete": false }));
    let delete =
        async |user: &User| user.mutate_returning("deleteMessage", json!({ "messageId": id }), selection).await;
    delete(&bob).await.assert_error("FORBIDDEN");
    let deleted = delete(&alice).await;
    let message = deleted.at("deleteMessage.message");
    assert!(message["deletedAt"].is_string());
    assert_eq!(
        (&message["text"], &message["editHistory"]["nodes"], &message["reactions"]),
        (&json!(null), &json!([]), &json!([]))
    );
    assert_eq!((&message["viewerCanEdit"], &message["viewerCanDelete"]), (&json!(false), &json!(false)));
    assert_eq!(delete(&alice).await.at("deleteMessage.message"), message, "a second deletion has no effect");
    edit(&alice, "late").await.assert_error("FORBIDDEN");
    bob.mutate_returning("addReaction", json!({ "messageId": id, "emoji": "👍" }), "message { id }")
        .await
        .assert_error("FORBIDDEN");
    let history = page(&alice, &chat, "last: 5").await;
    assert_eq!(history["edges"][2]["node"]["id"], id.as_str(), "a deleted message stays in the history");
    assert_eq!(
        (texts(&history).as_str(), &history["totalCount"]),
        ("- - -", &json!(3)),
        "after the two system messages"
    );
    let by_owner = bob.send(&chat, "by Bob").await;
    alice.mutate_returning("deleteMessage", json!({ "messageId": by_owner }), "message { deletedAt }").await.data();
}

#[engine_test]
async fn reactions_are_a_set_of_user_and_emoji(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let id = alice.send(&chat, "who comes?").await;
    let selection = "message { reactions { emoji count viewerReacted users { id } } }";
    let react = async |user: &User, emoji: &str| {
        user.mutate_returning("addReaction", json!({ "messageId": id, "emoji": emoji }), selection).await
    };
    react(&alice, "👍").await.data();
    react(&bob, "❤").await.data();
    react(&bob, "👍").await.data();
    let twice = react(&bob, "👍").await;
    let reactions = json!([
        { "emoji": "👍", "count": 2, "viewerReacted": true, "users": [{ "id": "alice" }, { "id": "bob" }] },
        { "emoji": "❤️", "count": 1, "viewerReacted": true, "users": [{ "id": "bob" }] },
    ]);
    assert_eq!(twice.at("addReaction.message.reactions"), &reactions);
    let seen = alice
        .ask(&format!("{{ message(id: \"{id}\") {{ reactions {{ viewerReacted users(first: 1) {{ id }} }} }} }}"))
        .await;
    assert_eq!(
        seen.at("message.reactions"),
        &json!([
            { "viewerReacted": true, "users": [{ "id": "alice" }] },
            { "viewerReacted": false, "users": [{ "id": "bob" }] },
        ])
    );
    for bad in ["", "a", "👍👍", ":+1:"] {
        react(&alice, bad).await.assert_bad_input("emoji");
    }
    for emoji in emojis::iter().filter(|emoji| !["👍", "❤️"].contains(&emoji.as_str())).take(18) {
        react(&alice, emoji.as_str()).await.data();
    }
    react(&alice, "🦀").await.assert_bad_input("emoji");
    react(&alice, "❤️").await.data();
    let remove = json!({ "messageId": id, "emoji": "👍" });
    let removed = bob.mutate_returning("removeReaction", remove.clone(), selection).await;
    assert_eq!(
        removed.at("removeReaction.message.reactions.0"),
        &json!({ "emoji": "👍", "count": 1, "viewerReacted": false, "users": [{ "id": "alice" }] })
    );
    assert_eq!(
        bob.mutate_returning("removeReaction", remove, selection).await.at("removeReaction.message.reactions.0.count"),
        1
    );
}

#[engine_test]
async fn unread_count_excludes_own_and_deleted_messages(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let unread = async |user: &User| {
        let query = format!(
            "{{ chat(id: \"{chat}\") {{ viewerMembership {{ unreadCount }} }} viewer {{ unread {{ chats messages }} }} }}"
        );
        let reply = user.ask(&query).await;
        let count = reply.at("chat.viewerMembership.unreadCount").as_i64().unwrap();
        assert_eq!(reply.at("viewer.unread"), &json!({ "chats": i64::from(count > 0), "messages": count }));
        count
    };
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(alice.send(&chat, &n.to_string()).await);
    }
    assert_eq!((unread(&alice).await, unread(&bob).await), (0, 4));
    let read = async |up_to: Value| {
        bob.mutate_returning(
            "markRead",
            json!({ "chatId": chat, "upToMessageId": up_to }),
            "member { unreadCount lastReadAt lastReadMessage { id } }",
        )
        .await
    };
    assert_eq!(read(json!(ids[1])).await.at("markRead.member.unreadCount"), 2);
    assert_eq!(
        read(json!(ids[0])).await.at("markRead.member.lastReadMessage.id"),
        &json!(ids[1]),
        "the read position only moves forward"
    );
    alice.mutate_returning("deleteMessage", json!({ "messageId": ids[3] }), "message { id }").await.data();
    assert_eq!(unread(&bob).await, 1);
    bob.send(&chat, "reads up to itself").await;
    assert_eq!((unread(&alice).await, unread(&bob).await), (1, 0));
    read(json!("msg_nonsense")).await.assert_error("NOT_FOUND");
    let other = bob.group("Run", &[]).await;
    let other_message = bob.send(&other, "in another chat").await;
    read(json!(other_message)).await.assert_error("NOT_FOUND");
    assert_eq!(read(json!(null)).await.at("markRead.member.unreadCount"), 0);
}

#[engine_test]
async fn node_lookup_needs_read_access(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let message = alice.send(&chat, "hello").await;
    let query =
        format!("{{ chat(id: \"{chat}\") {{ viewerMembership {{ id }} }} viewer {{ organization {{ id }} }} }}");
    let reply = alice.ask(&query).await;
    let (member, organization) = (reply.text("chat.viewerMembership.id"), reply.text("viewer.organization.id"));
    let ids = json!([chat, message, member, organization, "bob", "chat_x", "nobody", ""]);
    let nodes = "query($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }";
    let found = bob.ask_with(nodes, json!({ "ids": ids })).await;
    let kinds: Vec<&str> =
        found.at("nodes").as_array().unwrap().iter().map(|node| node["__typename"].as_str().unwrap_or("-")).collect();
    assert_eq!(kinds, ["Chat", "Message", "ChatMember", "Organization", "User", "-", "-", "-"]);
    for (node, id) in found.at("nodes").as_array().unwrap().iter().zip(ids.as_array().unwrap()).take(5) {
        assert_eq!(&node["id"], id);
        let one = bob.ask_with("query($id: ID!) { node(id: $id) { id } }", json!({ "id": id })).await;
        assert_eq!(one.at("node.id"), id);
    }
    // The id of a user can equal the id of another object.
    let user_with_chat_id = app.user_in("demo", &chat, None).await;
    assert_eq!(
        user_with_chat_id
            .ask_with("query($id: ID!) { node(id: $id) { __typename } }", json!({ "id": chat }))
            .await
            .at("node.__typename"),
        "User"
    );
    let ids: Vec<&str> = std::iter::repeat_n("bob", 101).collect();
    bob.ask_with(nodes, json!({ "ids": ids })).await.assert_bad_input("ids");
}

#[engine_test]
async fn action_on_a_deleted_message_is_forbidden_with_reason(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let poll = json!({ "question": "Where?", "options": ["Lake", "Hill"] });
    let id = alice.send_message(&chat, json!({ "text": "to the lake", "poll": poll })).await;
    let option = alice.fetch_message(&id, "poll { options { id } }").await["poll"]["options"][0]["id"].clone();
    alice.delete_message(&id).await;
    for (field, input) in [
        ("sendMessage", json!({ "chatId": chat, "text": "me", "replyToId": id })),
        ("sendMessage", json!({ "chatId": chat, "text": "me", "threadRootId": id })),
        ("forwardMessage", json!({ "messageId": id, "toChatId": chat })),
        ("editMessage", json!({ "messageId": id, "text": "edited" })),
        ("pinMessage", json!({ "messageId": id })),
        ("unpinMessage", json!({ "messageId": id })),
        ("addReaction", json!({ "messageId": id, "emoji": "👍" })),
        ("removeReaction", json!({ "messageId": id, "emoji": "👍" })),
        ("votePoll", json!({ "messageId": id, "optionIds": [option] })),
        ("closePoll", json!({ "messageId": id })),
        ("reportMessage", json!({ "messageId": id, "reason": "rude" })),
    ] {
        let reply = alice.mutate(field, input).await;
        reply.assert_error("FORBIDDEN");
        let error = &reply.body["errors"][0];
        assert_eq!(error["extensions"]["reason"], "DELETED", "{field}: {error}");
        assert_eq!(error["message"], "the message was deleted", "{field}");
    }
    alice.delete_message(&id).await;
}

#[engine_test]
async fn time_in_a_slow_mode_error_is_written_as_a_date_time(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    alice.mutate_ok("updateChat", json!({ "chatId": chat, "slowModeSeconds": 60 })).await;
    let first = bob.send(&chat, "one").await;
    let capability = async || {
        let seen = bob.fetch_chat(&chat, "viewerCan { action reason until }").await;
        let all = seen["viewerCan"].as_array().unwrap().clone();
        all.into_iter().find(|capability| capability["action"] == "POST").unwrap()
    };
    let until = capability().await["until"].as_str().unwrap().to_owned();
    let expected = format!("the chat is in slow mode: you can send or edit a message again at {until}");
    assert_eq!(capability().await["reason"], expected);
    let denied = [
        bob.try_send_message(&chat, json!({ "text": "two" })).await,
        bob.try_send_message(&chat, json!({ "text": "in a thread", "threadRootId": first })).await,
    ];
    for reply in denied {
        reply.assert_error("RATE_LIMITED");
        assert_eq!(reply.body["errors"][0]["message"], expected);
    }
    let silenced = json!({ "chatId": chat, "userId": "bob", "until": "2100-01-01T00:00:00Z" });
    alice.mutate_ok("silenceMember", silenced).await;
    assert_eq!(capability().await["reason"], "you are silenced in this chat until 2100-01-01T00:00:00.000Z");
}
