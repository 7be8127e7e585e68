//! Servers whose machines have wrong clocks, and clocks that go back.

use chrono::{DateTime, TimeDelta, Utc};
use parlor::domain::clock::Clock;
use serde_json::{Value, json};
use testkit::{Database, Engine, Feed, TestApp, User, engine_test, postgres_test};

const INBOX: &str = "subscription($after: String) { inboxFeed(after: $after) { __typename
    ... on FeedEvent { cursor }
    ... on ChatUpserted { chat { id lastMessage { text } } }
    ... on NotificationUpserted { notification { id readAt message { text } } }
    ... on FeedReset { reason } } }";

async fn inbox(user: &User, after: Option<&Value>) -> Feed {
    user.subscribe(INBOX, json!({ "after": after })).await
}

/// Returns the last cursor of a feed that has caught up, and its events.
async fn catch_up(mut feed: Feed) -> (Value, Vec<Value>) {
    let mut events = Vec::new();
    loop {
        let event = feed.next().await;
        if event["__typename"] == "FeedCaughtUp" {
            return (event["cursor"].clone(), events);
        }
        events.push(event);
    }
}

async fn created_at(user: &User, message: &str) -> DateTime<Utc> {
    let message = user.fetch_message(message, "createdAt").await;
    message["createdAt"].as_str().expect("a time").parse().expect("a time")
}

/// Returns the texts of the chats' last messages, and of the messages that notifications are about.
fn texts(events: &[Value]) -> (Vec<&str>, Vec<&str>) {
    let chats = events.iter().filter_map(|event| event["chat"]["lastMessage"]["text"].as_str());
    let notified = events.iter().filter_map(|event| event["notification"]["message"]["text"].as_str());
    (chats.collect(), notified.collect())
}

/// The database's clock decides, so a node whose machine has another time loses nothing.
#[postgres_test]
async fn inbox_resumes_without_loss_when_clocks_of_nodes_differ() {
    for hours in [-1, 1] {
        let first = TestApp::start_with_clock(Database::create(Engine::Postgres).await, &[], Clock::system()).await;
        let wrong_clock = Clock::system_with_error(TimeDelta::hours(hours));
        let second_config = testkit::config(&first.database.url, &[]);
        let second = parlor::bootstrap::start(&second_config, wrong_clock.clone()).await.expect("a second node");
        let difference = second.clock.now() - first.app.clock.now();
        assert!(difference.abs() < TimeDelta::seconds(5), "both have the database's time: {difference}");

        let (alice, bob) = (first.user("alice").await, first.user("bob").await);
        let chat = bob.direct(&alice).await;
        let (cursor, _) = catch_up(inbox(&alice, None).await).await;
        let before = bob.send(&chat, "from the first node").await;
        let sender = std::sync::Arc::new(second.authenticator.verify(&bob.token).await.expect("a token"));
        let draft = parlor::domain::messages::MessageDraft::new(
            chat.parse().expect("an id"),
            parlor::domain::messages::DraftBody::text("from the second node".to_owned()),
        );
        let sent = parlor::service::messages::send(&second, sender, draft).await.expect("sent");
        let difference = sent.message.created_at - created_at(&alice, &before).await;
        assert!(difference > TimeDelta::zero() && difference < TimeDelta::seconds(5), "{difference}");
        let (_, events) = catch_up(inbox(&alice, Some(&cursor)).await).await;
        assert_eq!(texts(&events).0, ["from the second node"]);
        drop(second);
        first.stop().await;
    }
}

/// The machine's clock is an hour ahead, and is put right while the server restarts.
#[engine_test]
async fn inbox_resumes_without_loss_after_the_clock_went_back(engine: Engine) {
    let database = Database::create(engine).await;
    let app = TestApp::start_with_clock(database, &[], Clock::system_with_error(TimeDelta::hours(1))).await;
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = bob.direct(&alice).await;
    let before = bob.send(&chat, "before").await;
    let (cursor, _) = catch_up(inbox(&alice, None).await).await;
    let database = app.shut_down().await;

    let app = TestApp::start_with_clock(database, &[], Clock::system()).await;
    let (alice, bob) = (alice.at(app.addr), bob.at(app.addr));
    let reply = bob.mutate_returning(
        "sendMessage",
        json!({ "chatId": chat, "text": "after", "replyToId": null, "mentionIds": ["alice"] }),
        "message { id }",
    );
    let after = reply.await.text("sendMessage.message.id");
    assert!(created_at(&alice, &after).await >= created_at(&alice, &before).await - TimeDelta::seconds(5));
    let (_, events) = catch_up(inbox(&alice, Some(&cursor)).await).await;
    assert_eq!(texts(&events), (vec!["after"], vec!["after"]));
    app.stop().await;
}

#[engine_test]
async fn inbox_cursor_ahead_of_the_clock_resets_the_client(engine: Engine) {
    let app = TestApp::start(Database::create(engine).await, &[]).await;
    app.advance(3_600);
    let alice = app.user("alice").await;
    let (cursor, _) = catch_up(inbox(&alice, None).await).await;
    // The database was restored, so nothing remembers how far the clock was.
    let app = TestApp::start(app.shut_down().await, &[]).await;
    let alice = app.user("alice").await;
    let mut feed = inbox(&alice, Some(&cursor)).await;
    let reset = feed.expect("FeedReset").await;
    assert_eq!(reset["reason"], "CURSOR_INVALID");
    app.stop().await;
}
