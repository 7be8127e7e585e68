//! The live feed: nothing lost, doubled or out of order.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use testkit::{Feed, TestApp, User, engine_test};

fn cursor(event: &Value) -> String {
    event["cursor"].as_str().expect("each event has a cursor").to_owned()
}

/// What a feed tells up to FeedCaughtUp but for members, whose positions are told again; and the
/// cursor there.
async fn caught_up(feed: &mut Feed) -> (Vec<Value>, String) {
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

/// The next change is a message of the chat's own that tells of this.
async fn noticed(feed: &mut Feed, kind: &str) {
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
    noticed(&mut feed, "MEMBER_ADDED").await;
    alice.mutate_returning("removeMember", json!({ "chatId": chat, "userId": "carol" }), "removedUserId").await.data();
    let removed = feed.expect("MemberRemoved").await;
    assert_eq!((&removed["userId"], &removed["chatId"]), (&json!("carol"), &json!(chat)));
    noticed(&mut feed, "MEMBER_REMOVED").await;
    alice.mutate_returning("updateChat", json!({ "chatId": chat, "title": "Run" }), "chat { id }").await.data();
    assert_eq!(feed.expect("ChatUpserted").await["chat"]["title"], "Run");
    noticed(&mut feed, "DETAILS_CHANGED").await;
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
    let (snapshot, level) = caught_up(&mut bob.feed(&chat, Some(3), None).await).await;
    assert_eq!(texts(&snapshot), "3 four 5");
    // Cut within the snapshot, the rest of it follows, and nothing twice.
    let (rest, _) = caught_up(&mut bob.feed(&chat, Some(3), Some(&cursor(&snapshot[0]))).await).await;
    assert_eq!(texts(&rest), "5 four", "by last change");
    let (rest, _) = caught_up(&mut bob.feed(&chat, None, Some(&cursor(&snapshot[1]))).await).await;
    assert_eq!(texts(&rest), "5");
    assert_eq!(texts(&caught_up(&mut bob.feed(&chat, Some(3), Some(&level)).await).await.0), "");

    alice.send(&chat, "6").await;
    alice.mutate_returning("deleteMessage", json!({ "messageId": ids[0] }), "message { id }").await.data();
    alice.mutate_returning("updateChat", json!({ "chatId": chat, "title": "Run" }), "chat { id }").await.data();
    let mut resumed = bob.feed(&chat, None, Some(&level)).await;
    let (missed, _) = caught_up(&mut resumed).await;
    let kinds: Vec<_> = missed
        .iter()
        .map(|event| (event["__typename"].as_str().unwrap(), event["change"].as_str().unwrap_or("-")))
        .collect();
    let (added, synced) = (("MessageUpserted", "ADDED"), ("MessageUpserted", "SYNCED"));
    assert_eq!(kinds, [added, synced, ("ChatUpserted", "-"), added], "the last tells of the new title");
    let (rest, _) = caught_up(&mut bob.feed(&chat, None, Some(&cursor(&missed[0]))).await).await;
    assert_eq!(rest.len(), 3, "each event is a place to go on from");
    alice.send(&chat, "7").await;
    assert_eq!(resumed.expect("MessageUpserted").await["message"]["text"], "7");
}

#[engine_test(settings = [("PARLOR_CATCH_UP_CHANGES", "5")])]
async fn chat_feed_resets_when_catch_up_is_impossible(app: &TestApp) {
    let alice = app.user("alice").await;
    let (chat, other) = (alice.group("Walk", &[]).await, alice.group("Run", &[]).await);
    let (_, old) = caught_up(&mut alice.feed(&chat, None, None).await).await;
    let (_, foreign) = caught_up(&mut alice.feed(&other, None, None).await).await;
    for n in 0..6 {
        alice.send(&chat, &n.to_string()).await;
    }
    for (after, reason) in [
        (old.as_str(), "TOO_FAR_BEHIND"),
        (foreign.as_str(), "CURSOR_INVALID"),
        ("", "CURSOR_INVALID"),
        ("ÿ", "CURSOR_INVALID"),
    ] {
        let mut feed = alice.feed(&chat, None, Some(after)).await;
        let reset = feed.expect("FeedReset").await;
        assert_eq!(reset["reason"], reason);
        alice.send(&chat, "live again").await;
        assert_eq!(feed.expect("MessageUpserted").await["message"]["text"], "live again");
        let (missed, _) = caught_up(&mut alice.feed(&chat, None, Some(&cursor(&reset))).await).await;
        assert_eq!(missed.len(), 1, "the reset's cursor is a place to go on from");
    }
    // Many changes of few messages are few to tell.
    let (_, level) = caught_up(&mut alice.feed(&chat, None, None).await).await;
    let id = alice.send(&chat, "edited often").await;
    for n in 0..10 {
        alice
            .mutate_returning("editMessage", json!({ "messageId": id, "text": n.to_string() }), "message { id }")
            .await
            .data();
    }
    let (missed, _) = caught_up(&mut alice.feed(&chat, None, Some(&level)).await).await;
    assert_eq!(missed.len(), 1);
}

/// `messageAdded` tells nothing when it begins: knocks at a chat until it is heard.
async fn knock(who: &User, chat: &str, added: &mut Feed) {
    loop {
        who.send(chat, "knock").await;
        if tokio::time::timeout(Duration::from_millis(500), added.next()).await.is_ok() {
            return;
        }
    }
}

/// The next that somebody said, and that is no knock.
async fn next_said(feed: &mut Feed) -> Value {
    loop {
        let event = feed.next().await;
        let message = event.get("message").unwrap_or(&event);
        if message["text"].is_string() && message["text"] != "knock" {
            return message.clone();
        }
    }
}

#[engine_test]
async fn lost_membership_ends_chat_feed(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let mut feed = bob.feed(&chat, None, None).await;
    let level = cursor(&feed.expect("FeedCaughtUp").await);
    let mut added = bob
        .subscribe("subscription($chat: ID) { messageAdded(chatId: $chat) { text } }", json!({ "chat": chat }))
        .await;
    knock(&alice, &chat, &mut added).await;
    alice.send(&chat, "for Bob").await;
    assert_eq!(next_said(&mut added).await["text"], "for Bob");
    alice.mutate_returning("removeMember", json!({ "chatId": chat, "userId": "bob" }), "removedUserId").await.data();
    alice.send(&chat, "without Bob").await;
    assert_eq!(next_said(&mut feed).await["text"], "for Bob");
    assert_eq!(feed.error_code().await, "FORBIDDEN");
    assert_eq!(feed.socket.recv().await, json!({ "type": "complete", "id": "feed" }));
    assert_eq!(added.error_code().await, "FORBIDDEN");
    assert_eq!(bob.feed(&chat, None, Some(&level)).await.error_code().await, "NOT_FOUND");
}

#[engine_test]
async fn message_added_follows_membership_changes(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let known = alice.group("Walk", &[&bob]).await;
    alice.send(&known, "before").await;
    let mut all = bob.subscribe("subscription { messageAdded { text chat { id } } }", json!({})).await;
    knock(&alice, &known, &mut all).await;
    let fresh = alice.group("Run", &[&bob]).await;
    alice.send(&fresh, "two").await;
    let two = next_said(&mut all).await;
    assert_eq!((&two["text"], &two["chat"]["id"]), (&json!("two"), &json!(fresh)));
    alice.mutate_returning("removeMember", json!({ "chatId": fresh, "userId": "bob" }), "removedUserId").await.data();
    alice.send(&fresh, "not for Bob").await;
    alice.send(&known, "three").await;
    assert_eq!(next_said(&mut all).await["text"], "three");
    alice.mutate_returning("addMembers", json!({ "chatId": fresh, "userIds": ["bob"] }), "chat { id }").await.data();
    alice.send(&fresh, "four").await;
    assert_eq!(next_said(&mut all).await["text"], "four");
}

/// Everything that a client was told, as a client with a normalised cache holds it.
#[derive(Default)]
struct Held {
    added: Vec<i64>,
    seen: BTreeSet<String>,
    cursor: Option<String>,
}

impl Held {
    fn take(&mut self, event: &Value) {
        let fresh = self.seen.insert(format!("{}", event["cursor"]));
        if event["__typename"] == "MessageUpserted" {
            assert!(fresh, "told twice: {event}");
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
    let sending = async {
        for burst in 0..SENDS / 20 {
            join_all(
                (0..20)
                    .map(|n| alice.send(&chat, if n + 1 == 20 && (burst + 1) * 20 == SENDS { "last" } else { "more" })),
            )
            .await;
        }
        alice.send(&chat, "the end").await;
    };
    let reading = async {
        let mut random = StdRng::seed_from_u64(7);
        let (mut held, mut cuts) = (Held::default(), 0);
        'connected: loop {
            let mut feed = bob.feed(&chat, None, held.cursor.as_deref()).await;
            let patience = random.random_range(1..60);
            for heard in 0.. {
                if cuts < 50 && heard == patience {
                    cuts += 1;
                    continue 'connected;
                }
                let event = feed.next().await;
                held.take(&event);
                if event["message"]["text"] == "the end" {
                    return (held, cuts);
                }
            }
        }
    };
    let ((), (held, cuts)) = futures_util::join!(sending, reading);
    assert_eq!(cuts, 50);
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
    // The feed may have begun after the first messages; from its first on, it has each once.
    let began = all.iter().position(|seq| *seq == held.added[0]).expect("a message of the chat");
    assert_eq!(held.added, all[began..]);
}

#[engine_test]
async fn slow_consumer_resumes_from_its_cursor(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let mut slow = bob.feed(&chat, None, None).await;
    slow.expect("FeedCaughtUp").await;
    // Far more than mailbox, outbox and kernel hold, while nothing is read.
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
