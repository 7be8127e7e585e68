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

/// Returns the texts of the messages in the timeline of a chat.
async fn timeline_texts(user: &User, chat: &str) -> Vec<Value> {
    let seen = user.fetch_chat(chat, "messages { nodes { kind text } }").await;
    let messages = seen["messages"]["nodes"].as_array().unwrap().clone();
    messages.into_iter().filter(|message| message["kind"] != "SYSTEM").map(|message| message["text"].clone()).collect()
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
    assert_eq!(timeline_texts(&alice, &chat).await, ["where to?", "later"]);
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
    assert_eq!(timeline_texts(&bob, &chat).await, ["where to?", "in both"]);
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
    for invalid_root in [other_message.as_str(), &deleted, "msg_nonsense"] {
        alice.try_send_message(&chat, to(invalid_root)).await.assert_error("NOT_FOUND");
    }
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
    bob.try_send_message(&chat, json!({ "text": "late", "threadRootId": root })).await.assert_error("NOT_FOUND");
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
