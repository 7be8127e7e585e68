//! Chat feeds: no event is lost, delivered twice, or out of order.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use testkit::{Feed, TestApp, User, engine_test};

/// The text of the messages of [`send_until_delivered`].
const PROBE: &str = "probe";

fn cursor(event: &Value) -> String {
    event["cursor"].as_str().expect("each event has a cursor").to_owned()
}

/// Returns the events of a feed up to `FeedCaughtUp`, and the cursor of that event.
///
/// Events of members are left out, because a resumed feed repeats read positions.
async fn catch_up(feed: &mut Feed) -> (Vec<Value>, String) {
    let mut events = Vec::new();
    loop {
        let event = feed.next().await;
        if event["__typename"] == "FeedCaughtUp" {
            return (events, cursor(&event));
        }
        if event["__typename"] != "MemberUpserted" {
            events.push(event);
        }
    }
}

/// Asserts that the next change is a system message of this kind.
async fn expect_system_message(feed: &mut Feed, kind: &str) {
    let event = feed.expect("MessageUpserted").await;
    assert_eq!((&event["change"], &event["message"]["kind"]), (&json!("ADDED"), &json!("SYSTEM")));
    assert_eq!(event["message"]["system"]["kind"], kind);
}

#[engine_test]
async fn chat_feed_delivers_every_change_with_new_state(app: &TestApp) {
    let (alice, bob, _carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let mut feed = bob.feed(&chat, None, None).await;
    feed.expect("FeedCaughtUp").await;
    let id = alice.send(&chat, "hello").await;
    assert_eq!(feed.expect("MessageUpserted").await["change"], "ADDED");
    alice
        .mutate_returning("editMessage", json!({ "messageId": id, "text": "hello all" }), "message { id }")
        .await
        .data();
    let edited = feed.expect("MessageUpserted").await;
    assert_eq!((&edited["change"], &edited["message"]["text"]), (&json!("EDITED"), &json!("hello all")));
    bob.mutate_returning("addReaction", json!({ "messageId": id, "emoji": "👍" }), "message { id }").await.data();
    let reacted = feed.expect("MessageUpserted").await;
    assert_eq!(reacted["change"], "REACTIONS");
    assert_eq!(reacted["message"]["reactions"], json!([{ "emoji": "👍", "count": 1 }]));
    alice.mutate_returning("addMembers", json!({ "chatId": chat, "userIds": ["carol"] }), "chat { id }").await.data();
    assert_eq!(feed.expect("MemberUpserted").await["member"]["user"]["id"], "carol");
    expect_system_message(&mut feed, "MEMBER_ADDED").await;
    alice.mutate_returning("removeMember", json!({ "chatId": chat, "userId": "carol" }), "removedUserId").await.data();
    let removed = feed.expect("MemberRemoved").await;
    assert_eq!((&removed["userId"], &removed["chatId"]), (&json!("carol"), &json!(chat)));
    expect_system_message(&mut feed, "MEMBER_REMOVED").await;
    alice.mutate_returning("updateChat", json!({ "chatId": chat, "title": "Run" }), "chat { id }").await.data();
    assert_eq!(feed.expect("ChatUpserted").await["chat"]["title"], "Run");
    expect_system_message(&mut feed, "DETAILS_CHANGED").await;
    alice.mutate_returning("deleteMessage", json!({ "messageId": id }), "message { id }").await.data();
    let deleted = feed.expect("MessageUpserted").await;
    assert_eq!((&deleted["change"], &deleted["message"]["text"]), (&json!("DELETED"), &json!(null)));
}

#[engine_test]
async fn chat_feed_starts_with_latest_or_resumes_from_any_cursor(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(alice.send(&chat, &n.to_string()).await);
    }
    alice
        .mutate_returning("editMessage", json!({ "messageId": ids[4], "text": "four" }), "message { id }")
        .await
        .data();
    let texts = |events: &[Value]| {
        let texts: Vec<_> =
            events.iter().map(|event| event["message"]["text"].as_str().unwrap_or("-").to_owned()).collect();
        texts.join(" ")
    };
    let (snapshot, caught_up_cursor) = catch_up(&mut bob.feed(&chat, Some(3), None).await).await;
    assert_eq!(texts(&snapshot), "3 four 5");
    // A feed that resumes within the snapshot delivers the rest of it, and nothing twice.
    let (rest, _) = catch_up(&mut bob.feed(&chat, Some(3), Some(&cursor(&snapshot[0]))).await).await;
    assert_eq!(texts(&rest), "5 four", "in the order of the last changes");
    let (rest, _) = catch_up(&mut bob.feed(&chat, None, Some(&cursor(&snapshot[1]))).await).await;
    assert_eq!(texts(&rest), "5");
    assert_eq!(texts(&catch_up(&mut bob.feed(&chat, Some(3), Some(&caught_up_cursor)).await).await.0), "");

    alice.send(&chat, "6").await;
    alice.mutate_returning("deleteMessage", json!({ "messageId": ids[0] }), "message { id }").await.data();
    alice.mutate_returning("updateChat", json!({ "chatId": chat, "title": "Run" }), "chat { id }").await.data();
    let mut resumed = bob.feed(&chat, None, Some(&caught_up_cursor)).await;
    let (missed, _) = catch_up(&mut resumed).await;
    let kinds: Vec<_> = missed
        .iter()
        .map(|event| (event["__typename"].as_str().unwrap(), event["change"].as_str().unwrap_or("-")))
        .collect();
    let (added, synced) = (("MessageUpserted", "ADDED"), ("MessageUpserted", "SYNCED"));
    assert_eq!(
        kinds,
        [added, synced, ("ChatUpserted", "-"), added],
        "the last event is the system message about the new title"
    );
    let (rest, _) = catch_up(&mut bob.feed(&chat, None, Some(&cursor(&missed[0]))).await).await;
    assert_eq!(rest.len(), 3, "a client can resume from the cursor of each event");
    alice.send(&chat, "7").await;
    assert_eq!(resumed.expect("MessageUpserted").await["message"]["text"], "7");
}

#[engine_test(settings = [("PARLOR_CATCH_UP_CHANGES", "5")])]
async fn chat_feed_resets_when_catch_up_is_impossible(app: &TestApp) {
    let alice = app.user("alice").await;
    let (chat, other) = (alice.group("Walk", &[]).await, alice.group("Run", &[]).await);
    let (_, old_cursor) = catch_up(&mut alice.feed(&chat, None, None).await).await;
    let (_, other_cursor) = catch_up(&mut alice.feed(&other, None, None).await).await;
    for n in 0..6 {
        alice.send(&chat, &n.to_string()).await;
    }
    for (after, reason) in [
        (old_cursor.as_str(), "TOO_FAR_BEHIND"),
        (other_cursor.as_str(), "CURSOR_INVALID"),
        ("", "CURSOR_INVALID"),
        ("ÿ", "CURSOR_INVALID"),
    ] {
        let mut feed = alice.feed(&chat, None, Some(after)).await;
        let reset = feed.expect("FeedReset").await;
        assert_eq!(reset["reason"], reason);
        alice.send(&chat, "live again").await;
        assert_eq!(feed.expect("MessageUpserted").await["message"]["text"], "live again");
        let (missed, _) = catch_up(&mut alice.feed(&chat, None, Some(&cursor(&reset))).await).await;
        assert_eq!(missed.len(), 1, "a client can resume from the cursor of the reset");
    }
    // Many changes of one message are one change to deliver.
    let (_, caught_up_cursor) = catch_up(&mut alice.feed(&chat, None, None).await).await;
    let id = alice.send(&chat, "edited often").await;
    for n in 0..10 {
        alice
            .mutate_returning("editMessage", json!({ "messageId": id, "text": n.to_string() }), "message { id }")
            .await
            .data();
    }
    let (missed, _) = catch_up(&mut alice.feed(&chat, None, Some(&caught_up_cursor)).await).await;
    assert_eq!(missed.len(), 1);
}

#[engine_test(settings = [("PARLOR_CATCH_UP_CHANGES", "5")])]
async fn new_and_earlier_messages_count_once_each_for_the_reset_of_a_feed(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    let edit = async |id: &str, text: &str| {
        alice.mutate_ok("editMessage", json!({ "messageId": id, "text": text })).await;
    };
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(alice.send(&chat, &n.to_string()).await);
    }
    let (_, old_cursor) = catch_up(&mut alice.feed(&chat, None, None).await).await;
    for n in 3..5 {
        ids.push(alice.send(&chat, &n.to_string()).await);
    }
    // All five messages have changed, some of them twice.
    for id in &ids[..4] {
        edit(id, "edited").await;
        edit(id, "edited again").await;
    }
    let (missed, _) = catch_up(&mut alice.feed(&chat, None, Some(&old_cursor)).await).await;
    let texts: Vec<_> = missed.iter().map(|event| event["message"]["text"].clone()).collect();
    assert_eq!(texts, ["4", "edited again", "edited again", "edited again", "edited again"], "in the log's order");
    alice.send(&chat, "one too many").await;
    let reset = alice.feed(&chat, None, Some(&old_cursor)).await.expect("FeedReset").await;
    assert_eq!(reset["reason"], "TOO_FAR_BEHIND");
}

/// Sends messages until a `messageAdded` feed, which has no event at its start, delivers one.
pub async fn send_until_delivered(user: &User, chat: &str, added: &mut Feed) {
    loop {
        user.send(chat, PROBE).await;
        if tokio::time::timeout(Duration::from_millis(500), added.next()).await.is_ok() {
            return;
        }
    }
}

/// Returns the next message with a text, except probes.
pub async fn next_text_message(feed: &mut Feed) -> Value {
    loop {
        let event = feed.next().await;
        let message = event.get("message").unwrap_or(&event);
        if message["text"].is_string() && message["text"] != PROBE {
            return message.clone();
        }
    }
}

#[engine_test]
async fn lost_membership_ends_chat_feed(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let mut feed = bob.feed(&chat, None, None).await;
    let caught_up_cursor = cursor(&feed.expect("FeedCaughtUp").await);
    let mut added = bob
        .subscribe("subscription($chat: ID) { messageAdded(chatId: $chat) { text } }", json!({ "chat": chat }))
        .await;
    send_until_delivered(&alice, &chat, &mut added).await;
    alice.send(&chat, "for Bob").await;
    assert_eq!(next_text_message(&mut added).await["text"], "for Bob");
    alice.mutate_returning("removeMember", json!({ "chatId": chat, "userId": "bob" }), "removedUserId").await.data();
    alice.send(&chat, "without Bob").await;
    assert_eq!(next_text_message(&mut feed).await["text"], "for Bob");
    assert_eq!(feed.error_code().await, "FORBIDDEN");
    assert_eq!(feed.socket.recv().await, json!({ "type": "complete", "id": "feed" }));
    assert_eq!(added.error_code().await, "FORBIDDEN");
    assert_eq!(bob.feed(&chat, None, Some(&caught_up_cursor)).await.error_code().await, "NOT_FOUND");
}

#[engine_test]
async fn message_added_follows_membership_changes(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let old_chat = alice.group("Walk", &[&bob]).await;
    alice.send(&old_chat, "before").await;
    let mut feed = bob.subscribe("subscription { messageAdded { text chat { id } } }", json!({})).await;
    send_until_delivered(&alice, &old_chat, &mut feed).await;
    let new_chat = alice.group("Run", &[&bob]).await;
    alice.send(&new_chat, "two").await;
    let two = next_text_message(&mut feed).await;
    assert_eq!((&two["text"], &two["chat"]["id"]), (&json!("two"), &json!(new_chat)));
    alice
        .mutate_returning("removeMember", json!({ "chatId": new_chat, "userId": "bob" }), "removedUserId")
        .await
        .data();
    alice.send(&new_chat, "not for Bob").await;
    alice.send(&old_chat, "three").await;
    assert_eq!(next_text_message(&mut feed).await["text"], "three");
    alice.mutate_returning("addMembers", json!({ "chatId": new_chat, "userIds": ["bob"] }), "chat { id }").await.data();
    alice.send(&new_chat, "four").await;
    assert_eq!(next_text_message(&mut feed).await["text"], "four");
}

/// The events that a client with a normalized cache has received.
#[derive(Default)]
struct ClientView {
    added: Vec<i64>,
    seen: BTreeSet<String>,
    cursor: Option<String>,
}

impl ClientView {
    fn apply(&mut self, event: &Value) {
        let is_new = self.seen.insert(format!("{}", event["cursor"]));
        if event["__typename"] == "MessageUpserted" {
            assert!(is_new, "delivered twice: {event}");
            if event["change"] == "ADDED" {
                self.added.push(event["message"]["seq"].as_i64().unwrap());
            }
        }
        assert_ne!(event["__typename"], "FeedReset", "{event}");
        self.cursor = Some(cursor(event));
    }
}

#[engine_test(settings = [("PARLOR_CATCH_UP_CHANGES", "100000")])]
async fn randomly_reconnecting_feed_loses_and_duplicates_nothing(app: &TestApp) {
    const SENDS: usize = 2_000;
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.direct(&bob).await;
    let write = async {
        for burst in 0..SENDS / 20 {
            join_all(
                (0..20)
                    .map(|n| alice.send(&chat, if n + 1 == 20 && (burst + 1) * 20 == SENDS { "last" } else { "more" })),
            )
            .await;
        }
        alice.send(&chat, "the end").await;
    };
    let read = async {
        let mut random = StdRng::seed_from_u64(7);
        let (mut view, mut reconnects) = (ClientView::default(), 0);
        'connected: loop {
            let mut feed = bob.feed(&chat, None, view.cursor.as_deref()).await;
            let events_until_reconnect = random.random_range(1..60);
            for events in 0.. {
                if reconnects < 50 && events == events_until_reconnect {
                    reconnects += 1;
                    continue 'connected;
                }
                let event = feed.next().await;
                view.apply(&event);
                if event["message"]["text"] == "the end" {
                    return (view, reconnects);
                }
            }
        }
    };
    let ((), (view, reconnects)) = futures_util::join!(write, read);
    assert_eq!(reconnects, 50);
    let mut after = String::new();
    let mut all = Vec::new();
    loop {
        let query = format!(
            "{{ chat(id: \"{chat}\") {{ messages(first: 100{after}) {{ nodes {{ seq }} pageInfo {{ hasNextPage endCursor }} }} }} }}"
        );
        let page = alice.ask(&query).await;
        all.extend(page.at("chat.messages.nodes").as_array().unwrap().iter().map(|node| node["seq"].as_i64().unwrap()));
        if page.at("chat.messages.pageInfo.hasNextPage") == &json!(false) {
            break;
        }
        after = format!(", after: \"{}\"", page.text("chat.messages.pageInfo.endCursor"));
    }
    assert_eq!(all.len(), SENDS + 1);
    // The feed may have started after the first messages; from its first message on, it has each once.
    let start = all.iter().position(|seq| *seq == view.added[0]).expect("a message of the chat");
    assert_eq!(view.added, all[start..]);
}

#[engine_test]
async fn slow_consumer_resumes_from_its_cursor(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let mut slow = bob.feed(&chat, None, None).await;
    slow.expect("FeedCaughtUp").await;
    // More than the delivery queue, the outbox and the kernel's buffers hold while the client reads nothing.
    let long = "x".repeat(7_000);
    for _ in 0..60 {
        join_all((0..25).map(|_| alice.send(&chat, &long))).await;
    }
    alice.send(&chat, "the end").await;
    let mut seqs = Vec::new();
    loop {
        let event = slow.expect("MessageUpserted").await;
        seqs.push(event["message"]["seq"].as_i64().unwrap());
        if event["message"]["text"] == "the end" {
            break;
        }
    }
    assert_eq!(seqs.len(), 1_501);
    assert!(seqs.is_sorted_by(|one, next| one < next));
}
