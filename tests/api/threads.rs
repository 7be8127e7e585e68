//! Threads: replies to a message that the timeline of the chat does not contain.

use serde_json::{Value, json};
use testkit::{Feed, TestApp, User, engine_test, pluck};

async fn replies(user: &User, root: &str, arguments: &str) -> (Value, Value) {
    let selection = format!(
        "replyCount replies{arguments} {{ totalCount nodes {{ text threadRoot {{ id }} }} edges {{ cursor }}
           pageInfo {{ hasNextPage hasPreviousPage }} }}"
    );
    let seen = user.fetch_message(root, &selection).await;
    let nodes = &seen["replies"]["nodes"];
    assert!(pluck(nodes, "threadRoot").iter().all(|thread| thread["id"] == root), "{nodes}");
    let texts: Value = pluck(nodes, "text").into();
    (texts, seen)
}

async fn reply(user: &User, chat: &str, root: &str, text: &str) -> String {
    user.send_message(chat, json!({ "text": text, "threadRootId": root })).await
}

#[engine_test]
async fn thread_replies_stay_out_of_chat_timeline(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let root = alice.send(&chat, "where to?").await;
    let mut ids = Vec::new();
    for text in ["one", "two", "three", "four"] {
        ids.push(reply(&bob, &chat, &root, text).await);
    }
    alice.send(&chat, "later").await;
    assert_eq!(alice.fetch_texts(&chat).await, ["where to?", "later"]);
    let (texts, seen) = replies(&alice, &root, "").await;
    assert_eq!((&texts, &seen["replyCount"]), (&json!(["one", "two", "three", "four"]), &json!(4)));
    let cursor = |n: usize| seen["replies"]["edges"][n]["cursor"].as_str().unwrap().to_owned();
    for (arguments, expected, previous, next) in [
        ("(first: 2)".to_owned(), json!(["one", "two"]), false, true),
        ("(last: 2)".to_owned(), json!(["three", "four"]), true, false),
        (format!("(first: 1, after: \"{}\")", cursor(1)), json!(["three"]), true, true),
        (format!("(last: 2, before: \"{}\")", cursor(3)), json!(["two", "three"]), true, true),
        (format!("(after: \"{}\")", cursor(3)), json!([]), true, false),
    ] {
        let (texts, seen) = replies(&alice, &root, &arguments).await;
        assert_eq!(texts, expected, "{arguments}");
        assert_eq!(seen["replies"]["totalCount"], 4, "{arguments}");
        let info = &seen["replies"]["pageInfo"];
        assert_eq!((&info["hasPreviousPage"], &info["hasNextPage"]), (&json!(previous), &json!(next)), "{arguments}");
    }
    let ask = format!("{{ message(id: \"{root}\") {{ replies(first: 101) {{ totalCount }} }} }}");
    alice.ask(&ask).await.assert_bad_input("first");
    let one = alice.fetch_message(&ids[0], "threadRoot { id text } replyCount replies { nodes { id } }").await;
    assert_eq!(
        one,
        json!({ "threadRoot": { "id": root, "text": "where to?" }, "replyCount": 0, "replies": { "nodes": [] } })
    );
    let last = alice.fetch_chat(&chat, "lastMessage { text }").await;
    assert_eq!(last["lastMessage"]["text"], "later");
}

#[engine_test]
async fn thread_reply_counts_unread_only_when_echoed(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let root = alice.send(&chat, "where to?").await;
    bob.mutate_ok("markRead", json!({ "chatId": chat })).await;
    let unread = async |user: &User| {
        let seen = user.fetch_chat(&chat, "viewerMembership { unreadCount }").await;
        seen["viewerMembership"]["unreadCount"].as_i64().unwrap()
    };
    reply(&alice, &chat, &root, "in the thread").await;
    assert_eq!(unread(&bob).await, 0);
    assert_eq!(
        bob.ask("{ viewer { unread { messages chats } } }").await.at("viewer.unread"),
        &json!({ "messages": 0, "chats": 0 })
    );
    alice.send_message(&chat, json!({ "text": "in both", "threadRootId": root, "alsoInChat": true })).await;
    assert_eq!(unread(&bob).await, 1);
    assert_eq!(bob.fetch_texts(&chat).await, ["where to?", "in both"]);
    let (texts, seen) = replies(&bob, &root, "").await;
    assert_eq!((&texts, &seen["replyCount"]), (&json!(["in the thread", "in both"]), &json!(2)));
    alice.send(&chat, "more").await;
    reply(&bob, &chat, &root, "mine").await;
    assert_eq!(unread(&bob).await, 2, "a reply in a thread marks nothing as read");
}

#[engine_test]
async fn thread_root_must_exist_in_same_chat(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let (chat, other) = (alice.group("Walk", &[&bob]).await, alice.group("Run", &[]).await);
    let root = alice.send(&chat, "where to?").await;
    let inner = reply(&bob, &chat, &root, "there").await;
    let both = alice.send_message(&chat, json!({ "text": "both", "threadRootId": root, "alsoInChat": true })).await;
    let other_message = alice.send(&other, "in another chat").await;
    let deleted = alice.send(&chat, "gone").await;
    alice.delete_message(&deleted).await;
    let to = |root: &str| json!({ "text": "me", "threadRootId": root });
    for reply in [&inner, &both] {
        alice.try_send_message(&chat, to(reply)).await.assert_bad_input("threadRootId");
    }
    for invalid_root in [other_message.as_str(), "msg_nonsense"] {
        alice.try_send_message(&chat, to(invalid_root)).await.assert_error("NOT_FOUND");
    }
    alice.try_send_message(&chat, to(&deleted)).await.assert_error("FORBIDDEN");
    alice.try_send_message(&chat, json!({ "text": "me", "alsoInChat": true })).await.assert_bad_input("alsoInChat");
    let answer = alice.send_message(&chat, json!({ "text": "me", "threadRootId": root, "replyToId": inner })).await;
    assert_eq!(alice.fetch_message(&answer, "replyTo { id }").await["replyTo"]["id"], inner);
    assert_eq!(replies(&alice, &root, "").await.1["replyCount"], 3);
    let again = json!({ "text": "once", "threadRootId": root, "nonce": "n" });
    assert_eq!(alice.send_message(&chat, again.clone()).await, alice.send_message(&chat, again.clone()).await);
    assert_eq!(replies(&alice, &root, "").await.1["replyCount"], 4, "a replayed send counts once");
    alice.try_send_message(&chat, json!({ "text": "once", "nonce": "n" })).await.assert_error("CONFLICT");
}

#[engine_test]
async fn deleted_reply_leaves_thread_count(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let root = alice.send(&chat, "where to?").await;
    let first = reply(&bob, &chat, &root, "there").await;
    reply(&bob, &chat, &root, "or there").await;
    alice.delete_message(&first).await;
    alice.delete_message(&first).await;
    let (texts, seen) = replies(&alice, &root, "").await;
    assert_eq!((&texts, &seen["replyCount"]), (&json!([null, "or there"]), &json!(1)));
    assert_eq!(seen["replies"]["totalCount"], 2, "a deleted reply stays in the list");
    alice.delete_message(&root).await;
    let (texts, seen) = replies(&bob, &root, "").await;
    assert_eq!((&texts, &seen["replyCount"]), (&json!([null, "or there"]), &json!(1)), "replies outlive their root");
}

#[engine_test]
async fn thread_outlives_its_deleted_root(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let root = alice.send(&chat, "where to?").await;
    let first = reply(&bob, &chat, &root, "there").await;
    alice.delete_message(&root).await;
    let second = reply(&alice, &chat, &root, "late").await;
    let (texts, seen) = replies(&bob, &root, "").await;
    assert_eq!((&texts, &seen["replyCount"]), (&json!(["there", "late"]), &json!(2)));
    assert_eq!(thread(&bob, &root).await, json!([1, 0, true, first]), "the thread still notifies");
    let rooted =
        bob.mutate_returning("markThreadRead", json!({ "threadRootId": root }), "thread { root { id } }").await;
    assert_eq!(rooted.at("markThreadRead.thread.root.id"), root.as_str());
    for id in [&first, &second] {
        alice.delete_message(id).await;
    }
    let late = alice.try_send_message(&chat, json!({ "text": "too late", "threadRootId": root })).await;
    late.assert_error("FORBIDDEN");
    assert_eq!(late.body["errors"][0]["extensions"]["reason"], "DELETED", "nothing of the thread is left");
}

/// Returns a user's state of a thread: its unread counts, whether they follow it, and the last read reply.
async fn thread(user: &User, root: &str) -> Value {
    let selection = "thread { unreadCount unreadMentionCount following lastReadMessage { id } root { id } }";
    let seen = &user.fetch_message(root, selection).await["thread"];
    assert_eq!(seen["root"]["id"], root);
    json!([seen["unreadCount"], seen["unreadMentionCount"], seen["following"], seen["lastReadMessage"]["id"]])
}

/// Returns the unread counts of a chat (messages, mentions) and of the user (threads, notifications).
async fn unread(user: &User, chat: &str) -> Value {
    let query = "query($id: ID!) { chat(id: $id) { viewerMembership { unreadCount unreadMentionCount } }
        viewer { unread { chats messages mentions threads notifications } } }";
    let reply = user.ask_with(query, json!({ "id": chat })).await;
    let (own, totals) = (reply.at("chat.viewerMembership"), reply.at("viewer.unread"));
    assert_eq!((&totals["messages"], &totals["mentions"]), (&own["unreadCount"], &own["unreadMentionCount"]));
    json!([own["unreadCount"], own["unreadMentionCount"], totals["threads"], totals["notifications"]])
}

/// Returns the kinds and messages of the user's unread notifications, newest first.
async fn notifications(user: &User) -> Value {
    let query = "{ viewer { notifications(unreadOnly: true) { nodes { kind message { id } } } } }";
    let nodes = user.ask(query).await.at("viewer.notifications.nodes").clone();
    nodes.as_array().unwrap().iter().map(|node| json!([node["kind"], node["message"]["id"]])).collect()
}

/// Returns the members of a group, who have read everything.
async fn group<const N: usize>(app: &TestApp, ids: [&str; N]) -> ([User; N], String) {
    let mut users = Vec::new();
    for id in ids {
        users.push(app.user(id).await);
    }
    let chat = users[0].group("Walk", &users[1..].iter().collect::<Vec<_>>()).await;
    for user in &users {
        user.mutate_ok("markRead", json!({ "chatId": chat })).await;
    }
    (users.try_into().unwrap_or_else(|_| unreachable!("one user for each id")), chat)
}

#[engine_test]
async fn thread_participants_are_notified_of_later_replies(app: &TestApp) {
    let ([alice, bob, carol, dave, erin], chat) = group(app, ["alice", "bob", "carol", "dave", "erin"]).await;
    let root = alice.send(&chat, "where to?").await;
    let first = reply(&bob, &chat, &root, "there").await;
    assert_eq!(notifications(&alice).await, json!([["REPLY", first]]));
    let mention = json!({ "text": "or here", "threadRootId": root, "mentionIds": ["dave"] });
    let second = carol.send_message(&chat, mention).await;
    assert_eq!(notifications(&alice).await, json!([["REPLY", second], ["REPLY", first]]));
    assert_eq!(notifications(&bob).await, json!([["REPLY", second]]));
    assert_eq!(notifications(&dave).await, json!([["MENTION", second]]));
    let third = reply(&alice, &chat, &root, "no").await;
    assert_eq!(notifications(&alice).await, json!([]), "a reply reads the thread, and nobody hears of their own");
    assert_eq!(notifications(&bob).await, json!([["REPLY", third], ["REPLY", second]]));
    assert_eq!(notifications(&carol).await, json!([["REPLY", third]]));
    assert_eq!(notifications(&dave).await, json!([["REPLY", third], ["MENTION", second]]));
    assert_eq!(notifications(&erin).await, json!([]), "Erin takes no part in the thread");
    bob.mutate_ok("updateMyMembership", json!({ "chatId": chat, "notificationLevel": "MENTIONS" })).await;
    carol.mutate_ok("leaveChat", json!({ "chatId": chat })).await;
    let echoed = json!({ "text": "both", "threadRootId": root, "alsoInChat": true });
    let fourth = alice.send_message(&chat, echoed).await;
    assert_eq!(notifications(&bob).await, json!([["REPLY", third], ["REPLY", second]]));
    assert_eq!(notifications(&dave).await, json!([["REPLY", fourth], ["REPLY", third], ["MENTION", second]]));
    assert_eq!(thread(&erin, &root).await, json!([0, 0, false, null]));
    assert_eq!(thread(&dave, &root).await, json!([3, 1, true, null]), "earlier replies are not unread for Dave");
    alice.delete_message(&third).await;
    assert_eq!(thread(&dave, &root).await, json!([2, 1, true, null]), "a deleted reply does not count");
}

#[engine_test]
async fn thread_is_unread_until_it_is_read(app: &TestApp) {
    let ([alice, bob, carol], chat) = group(app, ["alice", "bob", "carol"]).await;
    let root = alice.send(&chat, "where to?").await;
    for user in [&bob, &carol] {
        user.mutate_ok("markRead", json!({ "chatId": chat })).await;
    }
    let mut ids = Vec::new();
    for (user, text) in [(&bob, "there"), (&alice, "no"), (&alice, "or here"), (&carol, "yes")] {
        ids.push(reply(user, &chat, &root, text).await);
    }
    assert_eq!(thread(&bob, &root).await, json!([3, 0, true, ids[0]]));
    assert_eq!(thread(&carol, &root).await, json!([0, 0, true, ids[3]]), "a reply reads the thread up to it");
    assert_eq!(unread(&bob, &chat).await, json!([0, 0, 1, 3]), "replies count in their thread only");
    bob.mutate_ok("markRead", json!({ "chatId": chat })).await;
    bob.send(&chat, "something else").await;
    assert_eq!(unread(&bob, &chat).await, json!([0, 0, 1, 3]), "reading the chat does not read its threads");
    let read = async |up_to: Value| {
        let input = json!({ "threadRootId": root, "upToMessageId": up_to });
        let selection = "thread { unreadCount lastReadMessage { id } } member { user { id } unreadMentionCount }";
        let reply = bob.mutate_returning("markThreadRead", input, selection).await;
        assert_eq!(reply.at("markThreadRead.member"), &json!({ "user": { "id": "bob" }, "unreadMentionCount": 0 }));
        let thread = reply.at("markThreadRead.thread");
        json!([thread["unreadCount"], thread["lastReadMessage"]["id"]])
    };
    assert_eq!(read(json!(ids[2])).await, json!([1, ids[2]]));
    assert_eq!(notifications(&bob).await, json!([["REPLY", ids[3]]]));
    assert_eq!(read(json!(ids[1])).await, json!([1, ids[2]]), "the position only moves forward");
    assert_eq!(read(Value::Null).await, json!([0, ids[3]]));
    assert_eq!(unread(&bob, &chat).await, json!([0, 0, 0, 0]));
    reply(&alice, &chat, &root, "more").await;
    assert_eq!(unread(&bob, &chat).await[2], 1);
    bob.mutate_ok("updateMyMembership", json!({ "chatId": chat, "mutedUntil": app.time_in(60) })).await;
    assert_eq!(bob.ask("{ viewer { unread { threads } } }").await.at("viewer.unread.threads"), 0, "as in muted chats");
}

#[engine_test]
async fn mention_in_thread_counts_until_thread_is_read(app: &TestApp) {
    let ([alice, bob, carol], chat) = group(app, ["alice", "bob", "carol"]).await;
    let root = alice.send(&chat, "where to?").await;
    for user in [&bob, &carol] {
        user.mutate_ok("markRead", json!({ "chatId": chat })).await;
    }
    let in_thread = |text: &str, more: Value| {
        let mut input = json!({ "text": text, "threadRootId": root });
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        input
    };
    let named = alice.send_message(&chat, in_thread("bob", json!({ "mentionIds": ["bob"] }))).await;
    assert_eq!(
        (unread(&bob, &chat).await, thread(&bob, &root).await),
        (json!([0, 1, 1, 1]), json!([1, 1, true, null]))
    );
    let everyone = alice.send_message(&chat, in_thread("all", json!({ "mentionsEveryone": true }))).await;
    assert_eq!(unread(&bob, &chat).await, json!([0, 2, 1, 2]));
    assert_eq!(unread(&carol, &chat).await, json!([0, 1, 0, 1]), "Carol does not follow the thread");
    let chats = bob.ask("{ viewer { unread { chats } } }").await;
    assert_eq!(chats.at("viewer.unread.chats"), 0, "no message of the chat itself is unread");
    for user in [&bob, &carol] {
        user.mutate_ok("markRead", json!({ "chatId": chat, "upToMessageId": everyone })).await;
        user.mutate_ok("markRead", json!({ "chatId": chat })).await;
        user.send(&chat, "I read the chat").await;
    }
    bob.mutate_ok("markRead", json!({ "chatId": chat })).await;
    assert_eq!(unread(&bob, &chat).await, json!([0, 2, 1, 2]), "the mentions stay");
    assert_eq!(notifications(&bob).await, json!([["MENTION", everyone], ["MENTION", named]]));
    carol.mutate_ok("markThreadRead", json!({ "threadRootId": root })).await;
    carol.mutate_ok("markRead", json!({ "chatId": chat })).await;
    assert_eq!(unread(&carol, &chat).await, json!([0, 0, 0, 0]));
    assert_eq!(thread(&carol, &root).await, json!([0, 0, false, everyone]), "reading is not following");
    alice.delete_message(&everyone).await;
    assert_eq!(
        (unread(&bob, &chat).await, thread(&bob, &root).await),
        (json!([0, 1, 1, 1]), json!([1, 1, true, null]))
    );
    reply(&bob, &chat, &root, "here").await;
    assert_eq!(unread(&bob, &chat).await, json!([0, 0, 0, 0]), "a reply reads the thread");
    let echoed = in_thread("bob", json!({ "mentionIds": ["bob"], "alsoInChat": true }));
    alice.send_message(&chat, echoed).await;
    assert_eq!(unread(&bob, &chat).await, json!([1, 1, 1, 1]), "a mention counts once");
    bob.mutate_ok("markRead", json!({ "chatId": chat })).await;
    assert_eq!(unread(&bob, &chat).await, json!([0, 0, 1, 0]));
    let last = alice.send_message(&chat, in_thread("all", json!({ "mentionsEveryone": true }))).await;
    alice.send_message(&chat, in_thread("carol", json!({ "mentionIds": ["carol"] }))).await;
    assert_eq!(thread(&carol, &root).await, json!([1, 2, true, everyone]), "a new follower keeps what was unread");
    let read = json!({ "threadRootId": root, "upToMessageId": last });
    carol.mutate_ok("markThreadRead", read).await;
    assert_eq!(thread(&carol, &root).await, json!([1, 1, true, last]));
    let dora = app.user("dora").await;
    alice.send_message(&chat, in_thread("all", json!({ "mentionsEveryone": true }))).await;
    alice.add_member(&chat, "dora", "MEMBER").await;
    assert_eq!(unread(&dora, &chat).await[1], 0, "nothing from before a membership is unread");
}

#[engine_test]
async fn mark_thread_read_requires_a_thread_and_its_reply(app: &TestApp) {
    let ([alice, bob], chat) = group(app, ["alice", "bob"]).await;
    let eve = app.user("eve").await;
    let root = alice.send(&chat, "where to?").await;
    let (inner, plain) = (reply(&bob, &chat, &root, "there").await, alice.send(&chat, "plain").await);
    let read = async |user: &User, root: &str, up_to: Option<&str>| {
        user.mutate("markThreadRead", json!({ "threadRootId": root, "upToMessageId": up_to })).await
    };
    read(&alice, &inner, None).await.assert_bad_input("threadRootId");
    read(&alice, &plain, None).await.assert_error("NOT_FOUND");
    read(&alice, "msg_nonsense", None).await.assert_error("NOT_FOUND");
    for other in [plain.as_str(), &root, "msg_nonsense"] {
        read(&alice, &root, Some(other)).await.assert_error("NOT_FOUND");
    }
    read(&eve, &root, None).await.assert_error("NOT_FOUND");
    assert_eq!(alice.fetch_message(&plain, "thread { unreadCount }").await["thread"], Value::Null);
    assert_eq!(alice.fetch_message(&inner, "thread { unreadCount }").await["thread"], Value::Null);
    assert_eq!(thread(&alice, &root).await, json!([1, 0, true, null]));
    read(&alice, &root, Some(&inner)).await.data();
    assert_eq!(thread(&alice, &root).await, json!([0, 0, true, inner]));
}

#[engine_test]
async fn thread_read_position_reaches_other_devices(app: &TestApp) {
    const THREAD_FEED: &str = "subscription($chat: ID!, $after: String) { chatFeed(chatId: $chat, after: $after) {
        __typename ... on FeedEvent { cursor }
        ... on MemberUpserted { member { user { id } unreadMentionCount } }
        ... on MessageUpserted { change message { id thread { unreadCount unreadMentionCount } } } } }";
    let ([alice, bob], chat) = group(app, ["alice", "bob"]).await;
    let root = alice.send(&chat, "where to?").await;
    let mention = json!({ "text": "bob", "threadRootId": root, "mentionIds": ["bob"] });
    alice.send_message(&chat, mention).await;
    let mut alice_feed = alice.subscribe(THREAD_FEED, json!({ "chat": chat })).await;
    let mut feed = bob.subscribe(THREAD_FEED, json!({ "chat": chat })).await;
    alice_feed.expect("FeedCaughtUp").await;
    let cursor = feed.expect("FeedCaughtUp").await["cursor"].clone();
    bob.mutate_ok("markThreadRead", json!({ "threadRootId": root })).await;
    let read_thread = json!({ "id": root, "thread": { "unreadCount": 0, "unreadMentionCount": 0 } });
    let has_read_thread = async |feed: &mut Feed| {
        let (mut member, mut thread) = (false, false);
        while !(member && thread) {
            let event = feed.next().await;
            assert_ne!(event["__typename"], "FeedCaughtUp", "the read position was not delivered");
            member |= event["member"] == json!({ "user": { "id": "bob" }, "unreadMentionCount": 0 });
            thread |= event["change"] == "THREAD" && event["message"] == read_thread;
        }
    };
    has_read_thread(&mut feed).await;
    has_read_thread(&mut bob.subscribe(THREAD_FEED, json!({ "chat": chat, "after": cursor })).await).await;
    let marker = alice.send(&chat, "marker").await;
    loop {
        let event = alice_feed.next().await;
        assert_ne!(event["change"], "THREAD", "the read positions of others are private");
        if event["message"]["id"] == marker.as_str() {
            break;
        }
    }
}

const FEED: &str = "subscription($chat: ID!, $after: String) { chatFeed(chatId: $chat, after: $after) {
    __typename ... on FeedEvent { cursor } ... on MessageUpserted { change message { id replyCount } } } }";

async fn change(feed: &mut Feed) -> Value {
    let event = feed.next_non_member_event().await;
    json!([event["change"], event["message"]["id"], event["message"]["replyCount"]])
}

#[engine_test]
async fn chat_feed_delivers_thread_count_changes(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let root = alice.send(&chat, "where to?").await;
    let mut feed = alice.subscribe(FEED, json!({ "chat": chat })).await;
    let cursor = feed.expect("FeedCaughtUp").await["cursor"].clone();
    let first = reply(&bob, &chat, &root, "there").await;
    assert_eq!(change(&mut feed).await, json!(["ADDED", first, 0]));
    assert_eq!(change(&mut feed).await, json!(["THREAD", root, 1]));
    let second = reply(&bob, &chat, &root, "or there").await;
    assert_eq!(change(&mut feed).await, json!(["ADDED", second, 0]));
    assert_eq!(change(&mut feed).await, json!(["THREAD", root, 2]));
    bob.delete_message(&first).await;
    assert_eq!(change(&mut feed).await, json!(["DELETED", first, 0]));
    assert_eq!(change(&mut feed).await, json!(["THREAD", root, 1]));
    let mut resumed = alice.subscribe(FEED, json!({ "chat": chat, "after": cursor })).await;
    let mut changes = Vec::new();
    loop {
        let event = resumed.next_non_member_event().await;
        if event["__typename"] == "FeedCaughtUp" {
            break;
        }
        changes.push(json!([event["change"], event["message"]["id"], event["message"]["replyCount"]]));
    }
    assert_eq!(changes, [json!(["ADDED", second, 0]), json!(["SYNCED", first, 0]), json!(["SYNCED", root, 1])]);
}
