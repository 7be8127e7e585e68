//! Feeds around the end of a membership, and after its return.

use serde_json::{Value, json};
use testkit::{Feed, Socket, TestApp, User, engine_test};

const SETTINGS: [(&str, &str); 1] = [("PARLOR_SENDS_PER_MINUTE", "1000000")];
const REPLIES: &str = "subscription($chat: ID!, $after: String) { chatFeed(chatId: $chat, after: $after) {
    __typename
    ... on FeedEvent { cursor }
    ... on MessageUpserted { message { text replyTo { id } threadRoot { id } reactions { viewerReacted } } }
    ... on FeedReset { reason }
} }";
/// The number of messages that wait for a client that does not read, fewer than its queue holds.
const WAITING_MESSAGES: usize = 40;

fn long_text() -> String {
    "x".repeat(7_900)
}

async fn remove(owner: &User, chat: &str, user: &str) {
    owner.mutate_returning("removeMember", json!({ "chatId": chat, "userId": user }), "removedUserId").await.data();
}

/// Returns a feed of Bob's whose client has read everything until now and blocks the server soon.
async fn blocked_feed(app: &TestApp, bob: &User, chat: &str) -> Feed {
    let mut socket = Socket::with_small_buffer(app.addr, &bob.token).await;
    socket.subscribe("feed", REPLIES, json!({ "chat": chat })).await;
    let mut feed = Feed::new(socket);
    feed.expect("FeedCaughtUp").await;
    feed
}

#[engine_test(settings = SETTINGS)]
async fn event_authorized_before_a_removal_has_no_missing_fields(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Busy", &[&bob]).await;
    let root = alice.send(&chat, "root").await;
    let mut feed = blocked_feed(app, &bob, &chat).await;
    for _ in 0..WAITING_MESSAGES {
        let reply = json!({ "text": long_text(), "replyToId": root, "threadRootId": root });
        alice.send_message(&chat, reply).await;
    }
    remove(&alice, &chat, "bob").await;
    // The fields of the events that wait are read now, as Bob's client reads now.
    let mut delivered = 0;
    let errors = loop {
        let message = feed.socket.recv().await;
        let payload = &message["payload"];
        if payload["errors"].is_array() {
            break payload["errors"].clone();
        }
        let event = &payload["data"]["chatFeed"];
        if event["__typename"] == "MessageUpserted" && event["message"]["text"] != "root" {
            assert_eq!(event["message"]["replyTo"]["id"], root.as_str(), "{event}");
            assert_eq!(event["message"]["threadRoot"]["id"], root.as_str(), "{event}");
            delivered += 1;
        }
    };
    assert_eq!(errors[0]["extensions"]["code"], "FORBIDDEN");
    assert!(delivered < WAITING_MESSAGES, "the events after the removal are not delivered");
}

#[engine_test(settings = SETTINGS)]
async fn returning_member_is_reset(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Busy", &[&bob]).await;
    let mut feed = bob.subscribe(REPLIES, json!({ "chat": chat })).await;
    feed.expect("FeedCaughtUp").await;
    let root = alice.send(&chat, "root").await;
    let cursor = feed.expect("MessageUpserted").await["cursor"].clone();
    remove(&alice, &chat, "bob").await;
    assert_eq!(feed.error_code().await, "FORBIDDEN");
    alice.send_message(&chat, json!({ "text": "missed", "replyToId": root })).await;
    alice.add_member(&chat, "bob", "MEMBER").await;

    let mut resumed = bob.subscribe(REPLIES, json!({ "chat": chat, "after": cursor })).await;
    let reset = resumed.expect("FeedReset").await;
    assert_eq!(reset["reason"], "ACCESS_CHANGED");
    alice.send_message(&chat, json!({ "text": "again", "replyToId": root })).await;
    let event = resumed.expect("MessageUpserted").await;
    assert_eq!((&event["message"]["text"], &event["message"]["replyTo"]["id"]), (&json!("again"), &json!(root)));
    // The cursor of the reset belongs to the new membership.
    let mut after_reset = bob.subscribe(REPLIES, json!({ "chat": chat, "after": reset["cursor"] })).await;
    assert_eq!(after_reset.expect("MessageUpserted").await["message"]["text"], "again");
    after_reset.expect("FeedCaughtUp").await;
}

#[engine_test(settings = SETTINGS)]
async fn member_with_a_new_role_is_not_reset(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Calm", &[&bob]).await;
    app.advance(60);
    let mut feed = bob.subscribe(REPLIES, json!({ "chat": chat })).await;
    let cursor = feed.expect("FeedCaughtUp").await["cursor"].clone();
    let promotion = json!({ "chatId": chat, "userId": "bob", "role": "MODERATOR" });
    alice.mutate_ok("changeMemberRole", promotion).await;
    let mut resumed = bob.subscribe(REPLIES, json!({ "chat": chat, "after": cursor })).await;
    let kinds: Vec<Value> =
        [resumed.next().await, resumed.next().await].map(|event| event["__typename"].clone()).into();
    assert!(!kinds.contains(&json!("FeedReset")), "{kinds:?}");
}

#[engine_test(settings = SETTINGS)]
async fn live_feed_that_missed_a_removal_is_reset(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Busy", &[&bob]).await;
    let mut feed = blocked_feed(app, &bob, &chat).await;
    for _ in 0..WAITING_MESSAGES {
        alice.send(&chat, &long_text()).await;
    }
    remove(&alice, &chat, "bob").await;
    alice.add_member(&chat, "bob", "MEMBER").await;
    // The queue of the feed overflows, so that it reads the database, in which Bob is a member.
    for _ in 0..100 {
        alice.send(&chat, "more").await;
    }
    let reset = loop {
        let event = feed.next().await;
        if event["__typename"] == "FeedReset" {
            break event;
        }
        assert_ne!(event["message"]["text"], "more", "{event}");
    };
    assert_eq!(reset["reason"], "ACCESS_CHANGED");
    alice.send(&chat, "last").await;
    assert_eq!(feed.expect("MessageUpserted").await["message"]["text"], "last");
}
