//! Who is typing: told to those who are in, and over by itself.

use std::sync::Arc;
use std::time::Duration;

use parlor::service;
use serde_json::{Value, json};
use testkit::{TestApp, engine_test};
use tokio::time::timeout;

#[engine_test]
async fn typing_is_published_and_expires(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let mut feed = alice.typing_feed(&chat).await;
    assert_eq!(feed.next().await, json!({ "chatId": chat, "users": [] }));
    let before = app.app.clock.now();
    let until = bob.set_typing(&chat, true).await;
    let until = chrono::DateTime::parse_from_rfc3339(until.as_str().expect("a moment")).expect("a moment");
    let lasts = until.to_utc() - before;
    assert!(lasts.num_milliseconds() >= 5_999 && lasts.num_seconds() < 20, "{lasts}");
    assert_eq!(feed.next().await, json!({ "chatId": chat, "users": [{ "id": "bob", "name": "Bob" }] }));
    assert_eq!(alice.fetch_typing(&chat).await, ["bob"]);
    // Who goes on typing is told once.
    app.advance(4);
    bob.set_typing(&chat, true).await;
    feed.assert_no_event().await;
    app.advance(4);
    assert_eq!(alice.fetch_typing(&chat).await, ["bob"]);
    app.advance(3);
    assert!(alice.fetch_typing(&chat).await.is_empty());
    assert!(feed.next_typing_users().await.is_empty());
    bob.set_typing(&chat, true).await;
    assert_eq!(feed.next_typing_users().await, ["bob"]);
    assert_eq!(bob.set_typing(&chat, false).await, json!(null));
    assert!(feed.next_typing_users().await.is_empty());
    bob.set_typing(&chat, false).await;
    feed.assert_no_event().await;
}

#[engine_test]
async fn typing_users_are_ordered_by_start_across_devices(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    let elsewhere = alice.group("Run", &[&bob]).await;
    let mut feed = alice.typing_feed(&chat).await;
    feed.next_typing_users().await;
    carol.set_typing(&chat, true).await;
    assert_eq!(feed.next_typing_users().await, ["carol"]);
    alice.set_typing(&chat, true).await;
    // Alice listens on one device and types on another.
    assert_eq!(feed.next_typing_users().await, ["carol", "alice"]);
    let mut other = alice.typing_feed(&chat).await;
    assert_eq!(other.next_typing_users().await, ["carol", "alice"]);
    bob.set_typing(&elsewhere, true).await;
    bob.set_typing(&chat, true).await;
    for feed in [&mut feed, &mut other] {
        assert_eq!(feed.next_typing_users().await, ["carol", "alice", "bob"]);
    }
    alice.set_typing(&chat, true).await;
    carol.set_typing(&chat, false).await;
    for feed in [&mut feed, &mut other] {
        assert_eq!(feed.next_typing_users().await, ["alice", "bob"]);
    }
    // One question for many chats, each with its own.
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
    let elsewhere = bob.group("Run", &[]).await;
    let mut feed = alice.typing_feed(&chat).await;
    feed.next_typing_users().await;
    bob.set_typing(&chat, true).await;
    assert_eq!(feed.next_typing_users().await, ["bob"]);
    bob.send(&elsewhere, "somewhere else").await;
    alice.send(&chat, "somebody else").await;
    feed.assert_no_event().await;
    bob.send(&chat, "said").await;
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
    let [bobs, carols, alices] = &mut feeds;
    // What happens elsewhere, or to others, ends nothing.
    alice.mutate_ok("removeMember", json!({ "chatId": other, "userId": "bob" })).await;
    alice.mutate_ok("changeMemberRole", json!({ "chatId": chat, "userId": "bob", "role": "MODERATOR" })).await;
    alice.mutate_ok("removeMember", json!({ "chatId": chat, "userId": "carol" })).await;
    assert_eq!(carols.error_code().await, "FORBIDDEN");
    alice.set_typing(&chat, true).await;
    assert_eq!(bobs.next_typing_users().await, ["alice"]);
    assert_eq!(alices.next_typing_users().await, ["alice"]);
    alice.mutate_ok("deleteChat", json!({ "chatId": chat })).await;
    assert_eq!(bobs.error_code().await, "FORBIDDEN");
    assert_eq!(alices.error_code().await, "FORBIDDEN");
}

#[engine_test]
async fn typing_needs_right_to_post_and_reaches_members_only(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let (mallory, spy) = (app.user("mallory").await, app.user_in("elsewhere", "bob", None).await);
    let chat = alice.group("Walk", &[&bob]).await;
    let news = alice.chat("CHANNEL", "News", &[&bob]).await;
    let typing = |chat: &str| json!({ "chatId": chat, "typing": true });
    for stranger in [&mallory, &spy] {
        stranger.mutate("setTyping", typing(&chat)).await.assert_error("NOT_FOUND");
        assert_eq!(stranger.typing_feed(&chat).await.error_code().await, "NOT_FOUND");
    }
    // A channel is seen by all, posted in by moderators, and listened to by members.
    mallory.mutate("setTyping", typing(&news)).await.assert_error("FORBIDDEN");
    assert_eq!(mallory.typing_feed(&news).await.error_code().await, "FORBIDDEN");
    bob.mutate("setTyping", typing(&news)).await.assert_error("FORBIDDEN");
    alice.set_typing(&news, true).await;
    assert_eq!(bob.fetch_typing(&news).await, ["alice"]);
    assert!(mallory.fetch_typing(&news).await.is_empty());

    let until = app.time_in(3600);
    alice.mutate_ok("silenceMember", json!({ "chatId": chat, "userId": "bob", "until": until })).await;
    bob.mutate("setTyping", typing(&chat)).await.assert_error("FORBIDDEN");
    bob.set_typing(&chat, false).await;
    alice.mutate_ok("silenceMember", json!({ "chatId": chat, "userId": "bob" })).await;
    bob.set_typing(&chat, true).await;
    alice.mutate_ok("archiveChat", json!({ "chatId": chat, "archived": true })).await;
    alice.mutate("setTyping", typing(&chat)).await.assert_error("FORBIDDEN");
    alice.mutate("setTyping", typing("chat_x")).await.assert_error("NOT_FOUND");
    let blind = app.user_in("demo", "alice", Some(&[])).await;
    blind.mutate("setTyping", typing(&chat)).await.assert_error("FORBIDDEN");
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
    assert_eq!(alice.set_typing(&chat, true).await, json!(null));
    feed.assert_no_event().await;
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
    // It begins with the list as it is when it is asked for.
    let first = feed.recv().await.expect("a list").expect("a list");
    assert_eq!(first.event.users, ["bob".parse().expect("an id")]);
    for _ in 0..50 {
        alice.set_typing(&chat, true).await;
        alice.set_typing(&chat, false).await;
    }
    bob.set_typing(&chat, false).await;
    let newest = feed.recv().await.expect("a list").expect("a list");
    assert!(newest.event.users.is_empty());
    assert!(timeout(Duration::from_millis(500), feed.recv()).await.is_err(), "no backlog");
}
