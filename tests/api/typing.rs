//! Typing indicators: their delivery to members, their expiry, and their limits.
//!
//! A typing feed delivers the newest list only, so a later list may replace one that should not exist. The silence of a
//! feed is therefore proven at its source: the mutation has returned, and the server has published no list.

use std::sync::Arc;

use parlor::realtime::typing::CachedTyping;
use parlor::service;
use serde_json::{Value, json};
use testkit::{TestApp, engine_test};
use tokio::sync::watch;

/// The lists that the server publishes about a chat.
struct PublishedLists(watch::Receiver<CachedTyping>);

impl PublishedLists {
    /// Observes a chat from now on.
    fn of_chat(app: &TestApp, chat: &str) -> Self {
        Self(app.app.typing.watch_chat(chat.parse().expect("an id")))
    }

    /// Asserts that no list was published since the start, or since the last [`skip`](Self::skip).
    fn assert_unchanged(&mut self) {
        let has_changed = self.0.has_changed().expect("the server runs");
        assert!(!has_changed, "published: {:?}", self.0.borrow_and_update().event);
    }

    /// Ignores the lists that were published so far.
    fn skip(&mut self) {
        self.0.mark_unchanged();
    }
}

#[engine_test]
async fn typing_is_published_and_expires(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let mut feed = alice.typing_feed(&chat).await;
    assert_eq!(feed.next().await, json!({ "chatId": chat, "users": [] }));
    let before = app.app.clock.now();
    let expires_at = bob.set_typing(&chat, true).await;
    let expires_at = chrono::DateTime::parse_from_rfc3339(expires_at.as_str().expect("a time")).expect("a time");
    let duration = expires_at.to_utc() - before;
    assert!(duration.num_milliseconds() >= 5_999 && duration.num_seconds() < 20, "{duration}");
    assert_eq!(feed.next().await, json!({ "chatId": chat, "users": [{ "id": "bob", "name": "Bob" }] }));
    assert_eq!(alice.fetch_typing(&chat).await, ["bob"]);
    // A renewed state is not published again.
    let mut published = PublishedLists::of_chat(app, &chat);
    app.advance(4);
    bob.set_typing(&chat, true).await;
    published.assert_unchanged();
    app.advance(4);
    assert_eq!(alice.fetch_typing(&chat).await, ["bob"]);
    app.advance(3);
    assert!(alice.fetch_typing(&chat).await.is_empty());
    assert!(feed.next_typing_users().await.is_empty());
    bob.set_typing(&chat, true).await;
    assert_eq!(feed.next_typing_users().await, ["bob"]);
    assert_eq!(bob.set_typing(&chat, false).await, json!(null));
    assert!(feed.next_typing_users().await.is_empty());
    published.skip();
    bob.set_typing(&chat, false).await;
    published.assert_unchanged();
}

#[engine_test]
async fn typing_users_are_ordered_by_start_across_devices(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    let other_chat = alice.group("Run", &[&bob]).await;
    let mut feed = alice.typing_feed(&chat).await;
    feed.next_typing_users().await;
    carol.set_typing(&chat, true).await;
    assert_eq!(feed.next_typing_users().await, ["carol"]);
    alice.set_typing(&chat, true).await;
    // Alice subscribes on one device and types on another.
    assert_eq!(feed.next_typing_users().await, ["carol", "alice"]);
    let mut other = alice.typing_feed(&chat).await;
    assert_eq!(other.next_typing_users().await, ["carol", "alice"]);
    bob.set_typing(&other_chat, true).await;
    bob.set_typing(&chat, true).await;
    for feed in [&mut feed, &mut other] {
        assert_eq!(feed.next_typing_users().await, ["carol", "alice", "bob"]);
    }
    alice.set_typing(&chat, true).await;
    carol.set_typing(&chat, false).await;
    for feed in [&mut feed, &mut other] {
        assert_eq!(feed.next_typing_users().await, ["alice", "bob"]);
    }
    // One query returns the typing users of several chats.
    let chats = alice.ask("{ chats { nodes { title typing { id } } } }").await;
    let mut typing: Vec<_> = chats.at("chats.nodes").as_array().expect("a list").iter().map(Value::to_string).collect();
    typing.sort();
    let run = json!({ "title": "Run", "typing": [{ "id": "bob" }] }).to_string();
    let walk = json!({ "title": "Walk", "typing": [{ "id": "alice" }, { "id": "bob" }] }).to_string();
    assert_eq!(typing, [run, walk]);
}

#[engine_test]
async fn sending_or_disconnecting_stops_typing(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    let other_chat = bob.group("Run", &[]).await;
    let mut feed = alice.typing_feed(&chat).await;
    feed.next_typing_users().await;
    bob.set_typing(&chat, true).await;
    assert_eq!(feed.next_typing_users().await, ["bob"]);
    let mut published = PublishedLists::of_chat(app, &chat);
    bob.send(&other_chat, "by Bob in another chat").await;
    alice.send(&chat, "by another user").await;
    published.assert_unchanged();
    bob.send(&chat, "by Bob").await;
    assert!(feed.next_typing_users().await.is_empty());

    bob.set_typing(&chat, true).await;
    assert_eq!(feed.next_typing_users().await, ["bob"]);
    alice.mutate_ok("removeMember", json!({ "chatId": chat, "userId": "bob" })).await;
    assert!(feed.next_typing_users().await.is_empty());
    carol.set_typing(&chat, true).await;
    assert_eq!(feed.next_typing_users().await, ["carol"]);
    carol.mutate_ok("leaveChat", json!({ "chatId": chat })).await;
    assert!(feed.next_typing_users().await.is_empty());
}

#[engine_test]
async fn removed_member_typing_feed_ends_at_once(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    let other = alice.group("Run", &[&bob]).await;
    let mut feeds = [bob.typing_feed(&chat).await, carol.typing_feed(&chat).await, alice.typing_feed(&chat).await];
    for feed in &mut feeds {
        feed.next_typing_users().await;
    }
    let [bob_feed, carol_feed, alice_feed] = &mut feeds;
    // Neither changes of other chats nor changes of other members end the feed.
    alice.mutate_ok("removeMember", json!({ "chatId": other, "userId": "bob" })).await;
    alice.mutate_ok("changeMemberRole", json!({ "chatId": chat, "userId": "bob", "role": "MODERATOR" })).await;
    alice.mutate_ok("removeMember", json!({ "chatId": chat, "userId": "carol" })).await;
    assert_eq!(carol_feed.error_code().await, "FORBIDDEN");
    alice.set_typing(&chat, true).await;
    assert_eq!(bob_feed.next_typing_users().await, ["alice"]);
    assert_eq!(alice_feed.next_typing_users().await, ["alice"]);
    alice.mutate_ok("deleteChat", json!({ "chatId": chat })).await;
    assert_eq!(bob_feed.error_code().await, "FORBIDDEN");
    assert_eq!(alice_feed.error_code().await, "FORBIDDEN");
}

#[engine_test]
async fn typing_needs_right_to_post_and_reaches_members_only(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let (mallory, other_bob) = (app.user("mallory").await, app.user_in("other", "bob", None).await);
    let chat = alice.group("Walk", &[&bob]).await;
    let news = alice.chat("CHANNEL", "News", &[&bob]).await;
    let typing = |chat: &str| json!({ "chatId": chat, "typing": true });
    for outsider in [&mallory, &other_bob] {
        outsider.mutate("setTyping", typing(&chat)).await.assert_error("NOT_FOUND");
        assert_eq!(outsider.typing_feed(&chat).await.error_code().await, "NOT_FOUND");
    }
    // Everyone sees a channel, its moderators post in it, and its members subscribe to it.
    mallory.mutate("setTyping", typing(&news)).await.assert_error("FORBIDDEN");
    assert_eq!(mallory.typing_feed(&news).await.error_code().await, "FORBIDDEN");
    bob.mutate("setTyping", typing(&news)).await.assert_error("FORBIDDEN");
    alice.set_typing(&news, true).await;
    assert_eq!(bob.fetch_typing(&news).await, ["alice"]);
    assert!(mallory.fetch_typing(&news).await.is_empty());

    let expires_at = app.time_in(3600);
    alice.mutate_ok("silenceMember", json!({ "chatId": chat, "userId": "bob", "until": expires_at })).await;
    bob.mutate("setTyping", typing(&chat)).await.assert_error("FORBIDDEN");
    bob.set_typing(&chat, false).await;
    alice.mutate_ok("silenceMember", json!({ "chatId": chat, "userId": "bob" })).await;
    bob.set_typing(&chat, true).await;
    alice.mutate_ok("archiveChat", json!({ "chatId": chat, "archived": true })).await;
    alice.mutate("setTyping", typing(&chat)).await.assert_error("FORBIDDEN");
    alice.mutate("setTyping", typing("chat_x")).await.assert_error("NOT_FOUND");
    let powerless = app.user_in("demo", "alice", Some(&[])).await;
    powerless.mutate("setTyping", typing(&chat)).await.assert_error("FORBIDDEN");
}

#[engine_test(settings = [("PARLOR_TYPING_MEMBERS", "2")])]
async fn typing_is_off_in_large_chat(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    app.user("carol").await;
    let chat = alice.group("Walk", &[&bob]).await;
    assert_ne!(alice.set_typing(&chat, true).await, json!(null));
    alice.set_typing(&chat, false).await;
    alice.add_member(&chat, "carol", "MEMBER").await;
    let mut feed = bob.typing_feed(&chat).await;
    assert!(feed.next_typing_users().await.is_empty());
    let mut published = PublishedLists::of_chat(app, &chat);
    assert_eq!(alice.set_typing(&chat, true).await, json!(null));
    published.assert_unchanged();
    assert!(bob.fetch_typing(&chat).await.is_empty());
}

#[engine_test(settings = [("PARLOR_TYPING_MEMBERS", "0")])]
async fn typing_is_off_when_limit_is_zero(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    assert_eq!(alice.set_typing(&chat, true).await, json!(null));
}

#[engine_test]
async fn slow_typing_subscriber_receives_latest_state_only(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let viewer = Arc::new(service::users::authenticate(&app.app, &alice.token).await.expect("Alice"));
    let id = chat.parse().expect("an id");
    let mut feed = service::feeds::typing(&app.app, viewer, id).await.expect("a feed");
    for _ in 0..50 {
        bob.set_typing(&chat, true).await;
        bob.set_typing(&chat, false).await;
    }
    bob.set_typing(&chat, true).await;
    // The first list is the current one at the time of the first read.
    let first = feed.recv().await.expect("a list").expect("a list");
    assert_eq!(first.event.users, ["bob".parse().expect("an id")]);
    for _ in 0..50 {
        alice.set_typing(&chat, true).await;
        alice.set_typing(&chat, false).await;
    }
    bob.set_typing(&chat, false).await;
    let newest = feed.recv().await.expect("a list").expect("a list");
    assert!(newest.event.users.is_empty());
    // A feed with a backlog would deliver an older list first.
    bob.set_typing(&chat, true).await;
    let next = feed.recv().await.expect("a list").expect("a list");
    assert_eq!(next.event.users, ["bob".parse().expect("an id")]);
}
