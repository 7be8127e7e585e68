//! The part of a chat's history that members may read who joined later.

use serde_json::{Value, json};
use testkit::{TestApp, User, engine_test, pluck};

/// Creates a chat of Alice and Bob that shows new members no earlier messages.
async fn chat_without_history(alice: &User, kind: &str) -> String {
    let input = json!({ "kind": kind, "title": "Walk", "memberIds": ["bob"], "historyForNewMembers": "SINCE_JOINED",
        "policy": [{ "action": "POST", "role": "MEMBER" }] });
    alice.mutate_returning("createChat", input, "chat { id }").await.text("createChat.chat.id")
}

async fn users(app: &TestApp) -> [User; 3] {
    [app.user("alice").await, app.user("bob").await, app.user("carol").await]
}

#[engine_test]
async fn new_member_reads_the_whole_history_by_default(app: &TestApp) {
    let [alice, bob, carol] = users(app).await;
    let chat = alice.group("Walk", &[&bob]).await;
    assert_eq!(alice.fetch_chat(&chat, "historyForNewMembers").await["historyForNewMembers"], "ALL");
    bob.send(&chat, "before").await;
    alice.add_member(&chat, "carol", "MEMBER").await;
    assert_eq!(carol.fetch_texts(&chat).await, ["before"]);
    alice.mutate_ok("removeMember", json!({ "chatId": chat, "userId": "carol" })).await;
    bob.send(&chat, "while Carol is out").await;
    alice.add_member(&chat, "carol", "MEMBER").await;
    assert_eq!(carol.fetch_texts(&chat).await, ["before", "while Carol is out"]);
}

#[engine_test]
async fn history_for_new_members_is_fixed_when_they_join(app: &TestApp) {
    let [alice, bob, carol] = users(app).await;
    for kind in ["GROUP", "CHANNEL"] {
        let chat = chat_without_history(&alice, kind).await;
        let enter = async |user: &User| match kind {
            "CHANNEL" => user.mutate_ok("joinChannel", json!({ "chatId": chat })).await,
            _ => alice.add_member(&chat, &user.id, "MEMBER").await,
        };
        let leave = async |user: &User| user.mutate_ok("leaveChat", json!({ "chatId": chat })).await;
        let set = async |history: Value| {
            let input = json!({ "chatId": chat, "historyForNewMembers": history });
            let updated = alice.mutate_returning("updateChat", input, "chat { historyForNewMembers }").await;
            updated.text("updateChat.chat.historyForNewMembers")
        };
        alice.send(&chat, "1").await;
        enter(&carol).await;
        alice.send(&chat, "2").await;
        assert_eq!(bob.fetch_texts(&chat).await, ["1", "2"], "the first members read everything");
        assert_eq!(carol.fetch_texts(&chat).await, ["2"]);
        leave(&carol).await;
        alice.send(&chat, "3").await;
        enter(&carol).await;
        assert_eq!(carol.fetch_texts(&chat).await, Vec::<Value>::new(), "a return begins a new history");
        assert_eq!(set(json!("ALL")).await, "ALL");
        assert_eq!(carol.fetch_texts(&chat).await, Vec::<Value>::new());
        leave(&carol).await;
        enter(&carol).await;
        assert_eq!(carol.fetch_texts(&chat).await, ["1", "2", "3"]);
        assert_eq!(set(json!("SINCE_JOINED")).await, "SINCE_JOINED");
        assert_eq!(carol.fetch_texts(&chat).await, ["1", "2", "3"], "members keep what they may read");
        leave(&bob).await;
        enter(&bob).await;
        alice.send(&chat, "4").await;
        assert_eq!(bob.fetch_texts(&chat).await, ["4"]);
        assert_eq!(set(Value::Null).await, "ALL", "null restores the default");
    }
}

#[engine_test]
async fn history_for_new_members_is_set_by_those_who_may_change_roles(app: &TestApp) {
    let [alice, bob, _carol] = users(app).await;
    let chat = chat_without_history(&alice, "GROUP").await;
    alice.mutate_ok("changeMemberRole", json!({ "chatId": chat, "userId": "bob", "role": "ADMIN" })).await;
    let show_all = json!({ "chatId": chat, "historyForNewMembers": "ALL" });
    bob.mutate("updateChat", show_all.clone()).await.assert_error("FORBIDDEN");
    bob.mutate_ok("updateChat", json!({ "chatId": chat, "title": "Run", "historyForNewMembers": "SINCE_JOINED" }))
        .await;
    alice.mutate_ok("updateChat", show_all).await;
}

#[engine_test]
async fn messages_from_before_the_membership_exist_in_no_query(app: &TestApp) {
    let [alice, bob, carol] = users(app).await;
    let chat = chat_without_history(&alice, "GROUP").await;
    let old = alice.send(&chat, "an old secret").await;
    let old_reply = alice.send_message(&chat, json!({ "text": "old reply", "threadRootId": old })).await;
    let poll = json!({ "poll": { "question": "Where to?", "options": ["hill", "lake"] } });
    let old_poll = alice.send_message(&chat, poll).await;
    alice.mutate_ok("pinMessage", json!({ "messageId": old })).await;
    alice.add_member(&chat, "carol", "MEMBER").await;
    let empty = carol.fetch_chat(&chat, "lastMessage { id } lastEntry { system { kind } }").await;
    assert_eq!(empty, json!({ "lastMessage": null, "lastEntry": { "system": { "kind": "MEMBER_ADDED" } } }));

    let quoting = alice.send_message(&chat, json!({ "text": "see above", "replyToId": old })).await;
    let in_old_thread =
        alice.send_message(&chat, json!({ "text": "also", "threadRootId": old, "alsoInChat": true })).await;
    let seen = carol
        .fetch_chat(
            &chat,
            "messages(first: 100) { totalCount pageInfo { hasPreviousPage hasNextPage }
                 nodes { kind text replyTo { text } threadRoot { text } } }
             latest: messages(last: 1) { pageInfo { hasPreviousPage } nodes { text } }
             pinnedMessages { totalCount nodes { id } }
             members { nodes { user { id } lastReadMessage { text } lastDeliveredMessage { text } } }
             viewerMembership { unreadCount unreadMentionCount lastReadMessage { id } }",
        )
        .await;
    let messages = &seen["messages"];
    assert_eq!(messages["totalCount"], 3, "the message about the member, and two since: {messages}");
    assert_eq!(messages["pageInfo"], json!({ "hasPreviousPage": false, "hasNextPage": false }));
    assert_eq!(pluck(&messages["nodes"], "text"), [Value::Null, json!("see above"), json!("also")]);
    assert!(messages["nodes"].as_array().unwrap().iter().all(|message| message["replyTo"].is_null()));
    assert!(messages["nodes"].as_array().unwrap().iter().all(|message| message["threadRoot"].is_null()));
    assert_eq!(seen["latest"], json!({ "pageInfo": { "hasPreviousPage": true }, "nodes": [{ "text": "also" }] }));
    assert_eq!(seen["pinnedMessages"], json!({ "totalCount": 0, "nodes": [] }));
    let unread = json!({ "unreadCount": 2, "unreadMentionCount": 0, "lastReadMessage": null });
    assert_eq!(seen["viewerMembership"], unread);
    assert!(!seen.to_string().contains("secret"), "{seen}");

    let first_page = json!({ "chat": chat, "before": null });
    let page = "query($chat: ID!, $before: String) { chat(id: $chat) { messages(last: 2, before: $before) {
        nodes { text } pageInfo { startCursor hasPreviousPage } } } }";
    let latest = carol.ask_with(page, first_page).await;
    let before = latest.text("chat.messages.pageInfo.startCursor");
    let rest = carol.ask_with(page, json!({ "chat": chat, "before": before })).await;
    assert_eq!(
        pluck(rest.at("chat.messages.nodes"), "text"),
        [Value::Null],
        "the message about the member is the first"
    );
    assert_eq!(rest.at("chat.messages.pageInfo.hasPreviousPage"), false);
    let ids = json!({ "ids": [old, old_reply, old_poll, quoting, in_old_thread] });
    let nodes = carol.ask_with("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids).await;
    let found = json!([null, null, null, { "id": quoting }, { "id": in_old_thread }]);
    assert_eq!(nodes.at("nodes"), &found);
    for hidden in [&old, &old_reply, &old_poll] {
        assert_eq!(carol.fetch_message(hidden, "id").await, Value::Null);
        let around = carol
            .ask_with(
                "query($chat: ID!, $id: ID!) { chat(id: $chat) { messages(around: $id) { nodes { id } } } }",
                json!({ "chat": chat, "id": hidden }),
            )
            .await;
        assert!(!around.body.to_string().contains("\"nodes\":[{"), "{}", around.body);
    }
    let around =
        "query($chat: ID!, $id: ID!) { chat(id: $chat) { messages(first: 9, around: $id) { nodes { text } } } }";
    let around = carol.ask_with(around, json!({ "chat": chat, "id": quoting })).await;
    assert_eq!(around.at("chat.messages.nodes").as_array().unwrap().len(), 3, "{}", around.body);
    let search = async |user: &User, text: &str| {
        let query = "query($text: String!) { searchMessages(query: $text) { nodes { id } } }";
        pluck(user.ask_with(query, json!({ "text": text })).await.at("searchMessages.nodes"), "id")
    };
    assert_eq!(search(&carol, "secret").await, Vec::<Value>::new());
    assert_eq!(search(&bob, "secret").await, [json!(old)]);
    assert_eq!(search(&carol, "above").await, [json!(quoting)]);
}

#[engine_test]
async fn messages_from_before_the_membership_cannot_be_acted_on(app: &TestApp) {
    let [alice, bob, carol] = users(app).await;
    let chat = chat_without_history(&alice, "CHANNEL").await;
    let other = carol.group("Run", &[]).await;
    carol.mutate_ok("joinChannel", json!({ "chatId": chat })).await;
    let own = carol.send(&chat, "from her former membership").await;
    let poll = json!({ "poll": { "question": "Where to?", "options": ["hill", "lake"] } });
    let poll = bob.send_message(&chat, poll).await;
    let option = carol.fetch_message(&poll, "poll { options { id } }").await["poll"]["options"][0]["id"].clone();
    carol.mutate_ok("leaveChat", json!({ "chatId": chat })).await;
    carol.mutate_ok("joinChannel", json!({ "chatId": chat })).await;
    alice.mutate_ok("changeMemberRole", json!({ "chatId": chat, "userId": "carol", "role": "MODERATOR" })).await;
    for (field, input) in [
        ("editMessage", json!({ "messageId": own, "text": "changed" })),
        ("deleteMessage", json!({ "messageId": own })),
        ("addReaction", json!({ "messageId": poll, "emoji": "👍" })),
        ("removeReaction", json!({ "messageId": poll, "emoji": "👍" })),
        ("pinMessage", json!({ "messageId": own })),
        ("votePoll", json!({ "messageId": poll, "optionIds": [option] })),
        ("closePoll", json!({ "messageId": poll })),
        ("reportMessage", json!({ "messageId": poll, "reason": "rude" })),
        ("forwardMessage", json!({ "messageId": own, "toChatId": other })),
        ("sendMessage", json!({ "chatId": chat, "text": "answer", "replyToId": own })),
        ("sendMessage", json!({ "chatId": chat, "text": "answer", "threadRootId": own })),
        ("markRead", json!({ "chatId": chat, "upToMessageId": own })),
        ("markUnread", json!({ "chatId": chat, "fromMessageId": own })),
        ("markDelivered", json!({ "upTo": [{ "chatId": chat, "messageId": own }] })),
    ] {
        carol.mutate(field, input).await.assert_error("NOT_FOUND");
    }
    // Unread messages begin with the membership.
    let first = alice.send(&chat, "welcome back").await;
    let unread = json!({ "chatId": chat, "fromMessageId": first });
    let unread = carol.mutate_returning("markUnread", unread, "member { unreadCount }").await;
    assert_eq!(unread.at("markUnread.member.unreadCount"), 1);
}

#[engine_test]
async fn feeds_deliver_no_message_from_before_the_membership(app: &TestApp) {
    let [alice, bob, carol] = users(app).await;
    let chat = chat_without_history(&alice, "GROUP").await;
    let old = alice.send(&chat, "an old secret").await;
    alice.add_member(&chat, "carol", "MEMBER").await;
    // All of them run the same operations, whose renderings members share who may read everything.
    let added = "subscription { messageAdded { text replyTo { text } chat { lastMessage { text } } } }";
    let chat_feed = "subscription($chat: ID!, $last: Int, $after: String) {
        chatFeed(chatId: $chat, last: $last, after: $after) {
            __typename
            ... on FeedEvent { cursor }
            ... on MessageUpserted { message { id text replyTo { text } threadRoot { text } } }
            ... on ChatUpserted { chat { title lastMessage { text } } }
        } }";
    let open = async |user: &User| user.subscribe(chat_feed, json!({ "chat": chat, "last": 50 })).await;
    let (mut of_bob, mut of_carol) = (open(&bob).await, open(&carol).await);
    let snapshot = of_carol.catch_up().await;
    assert_eq!(snapshot.len(), 1, "only the message about her own membership: {snapshot:?}");
    assert!(of_bob.catch_up().await.len() > 2);
    let (mut new_of_bob, mut new_of_carol) =
        (bob.subscribe(added, json!({})).await, carol.subscribe(added, json!({})).await);
    let cursor =
        carol.subscribe(chat_feed, json!({ "chat": chat })).await.next_of_type("FeedCaughtUp").await["cursor"].clone();

    // Changes of the old message, and answers to it, in one run of events.
    alice.mutate_ok("editMessage", json!({ "messageId": old, "text": "an edited secret" })).await;
    bob.mutate_ok("addReaction", json!({ "messageId": old, "emoji": "👍" })).await;
    alice.mutate_ok("updateChat", json!({ "chatId": chat, "title": "Run" })).await;
    alice.send_message(&chat, json!({ "text": "answer", "replyToId": old })).await;
    alice.send_message(&chat, json!({ "text": "in the thread", "threadRootId": old })).await;
    alice.mutate_ok("deleteMessage", json!({ "messageId": old })).await;
    alice.send(&chat, "the end").await;

    let until_end = async |feed: &mut testkit::Feed| {
        let mut events = Vec::new();
        while events.last().is_none_or(|event: &Value| event["message"]["text"] != "the end") {
            events.push(feed.next().await);
        }
        events
    };
    let of_bob = until_end(&mut of_bob).await;
    assert!(of_bob.iter().any(|event| event["message"]["text"] == "an edited secret"), "{of_bob:?}");
    assert!(of_bob.iter().any(|event| event["message"]["replyTo"]["text"] == "an edited secret"), "{of_bob:?}");
    let live = until_end(&mut of_carol).await;
    let mut resumed = carol.subscribe(chat_feed, json!({ "chat": chat, "after": cursor })).await;
    let resumed = resumed.catch_up().await;
    for events in [live, resumed] {
        let events = Value::from(events);
        let messages = events.as_array().unwrap().iter().filter(|event| event["__typename"] == "MessageUpserted");
        let texts: Vec<_> = messages.map(|event| event["message"]["text"].clone()).collect();
        assert!(["answer", "in the thread", "the end"].iter().all(|text| texts.contains(&json!(text))), "{texts:?}");
        assert!(!events.to_string().contains("secret") && !events.to_string().contains(&old), "{events}");
    }
    for (feed, quoted) in [(&mut new_of_bob, json!({ "text": "an edited secret" })), (&mut new_of_carol, Value::Null)] {
        let answer = loop {
            let event = feed.next().await;
            if event["text"] == "answer" {
                break event;
            }
        };
        assert_eq!(answer["replyTo"], quoted);
    }
}

#[engine_test]
async fn member_who_returns_while_a_feed_is_open_receives_the_new_history(app: &TestApp) {
    let [alice, _bob, carol] = users(app).await;
    let chat = chat_without_history(&alice, "CHANNEL").await;
    carol.mutate_ok("joinChannel", json!({ "chatId": chat })).await;
    let added = "subscription { messageAdded { id text replyTo { text } } }";
    let mut feed = carol.subscribe(added, json!({})).await;
    let old = alice.send(&chat, "a secret of the past").await;
    assert_eq!(feed.next().await["id"], old);
    carol.mutate_ok("leaveChat", json!({ "chatId": chat })).await;
    alice.send(&chat, "while Carol is out").await;
    carol.mutate_ok("joinChannel", json!({ "chatId": chat })).await;
    let answer = alice.send_message(&chat, json!({ "text": "answer", "replyToId": old })).await;
    let event = loop {
        let event = feed.next().await;
        assert_ne!(event["text"], "while Carol is out");
        if event["id"] == answer {
            break event;
        }
    };
    assert_eq!(event["replyTo"], Value::Null);
}
