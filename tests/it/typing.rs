//! Who is typing: told to those who are in, and over by itself.

use std::sync::Arc;
use std::time::Duration;

use parlor::service;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::{Feed, User, each, each_engine, each_engine_with};

const TYPING: &str = "subscription($chat: ID!) { typing(chatId: $chat) { chatId users { id name } } }";

impl User {
    async fn hears_typing(&self, chat: &str) -> Feed {
        self.subscribe(TYPING, json!({ "chat": chat })).await
    }

    async fn types(&self, chat: &str, typing: bool) -> Value {
        let input = json!({ "chatId": chat, "typing": typing });
        self.mutate("setTyping", input, "expiresAt").await.at("setTyping.expiresAt").clone()
    }

    async fn sees_typing(&self, chat: &str) -> Vec<Value> {
        each(&self.sees_chat(chat, "typing { id }").await["typing"], "id")
    }
}

impl Feed {
    async fn typers(&mut self) -> Vec<Value> {
        each(&self.next().await["users"], "id")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_types_is_told_and_it_ends_by_itself() {
    each_engine(async |app| {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let chat = alice.group("Walk", &[&bob]).await;
        let mut feed = alice.hears_typing(&chat).await;
        assert_eq!(feed.next().await, json!({ "chatId": chat, "users": [] }));
        let before = app.app.clock.now();
        let until = bob.types(&chat, true).await;
        let until = chrono::DateTime::parse_from_rfc3339(until.as_str().expect("a moment")).expect("a moment");
        let lasts = until.to_utc() - before;
        assert!(lasts.num_milliseconds() >= 5_999 && lasts.num_seconds() < 20, "{lasts}");
        assert_eq!(feed.next().await, json!({ "chatId": chat, "users": [{ "id": "bob", "name": "Bob" }] }));
        assert_eq!(alice.sees_typing(&chat).await, ["bob"]);
        // Who goes on typing is told once.
        app.advance(4);
        bob.types(&chat, true).await;
        feed.is_silent().await;
        app.advance(4);
        assert_eq!(alice.sees_typing(&chat).await, ["bob"]);
        app.advance(3);
        assert!(alice.sees_typing(&chat).await.is_empty());
        assert!(feed.typers().await.is_empty());
        bob.types(&chat, true).await;
        assert_eq!(feed.typers().await, ["bob"]);
        assert_eq!(bob.types(&chat, false).await, json!(null));
        assert!(feed.typers().await.is_empty());
        bob.types(&chat, false).await;
        feed.is_silent().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_type_in_the_order_in_which_they_began_on_any_device() {
    each_engine(async |app| {
        let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
        let chat = alice.group("Walk", &[&bob, &carol]).await;
        let elsewhere = alice.group("Run", &[&bob]).await;
        let mut feed = alice.hears_typing(&chat).await;
        feed.typers().await;
        carol.types(&chat, true).await;
        assert_eq!(feed.typers().await, ["carol"]);
        alice.types(&chat, true).await;
        // Alice listens on one device and types on another.
        assert_eq!(feed.typers().await, ["carol", "alice"]);
        let mut other = alice.hears_typing(&chat).await;
        assert_eq!(other.typers().await, ["carol", "alice"]);
        bob.types(&elsewhere, true).await;
        bob.types(&chat, true).await;
        for feed in [&mut feed, &mut other] {
            assert_eq!(feed.typers().await, ["carol", "alice", "bob"]);
        }
        alice.types(&chat, true).await;
        carol.types(&chat, false).await;
        for feed in [&mut feed, &mut other] {
            assert_eq!(feed.typers().await, ["alice", "bob"]);
        }
        // One question for many chats, each with its own.
        let chats = alice.ask("{ chats { nodes { title typing { id } } } }").await;
        let mut typing: Vec<_> =
            chats.at("chats.nodes").as_array().expect("a list").iter().map(Value::to_string).collect();
        typing.sort();
        let run = json!({ "title": "Run", "typing": [{ "id": "bob" }] }).to_string();
        let walk = json!({ "title": "Walk", "typing": [{ "id": "alice" }, { "id": "bob" }] }).to_string();
        assert_eq!(typing, [run, walk]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_or_goes_types_no_more() {
    each_engine(async |app| {
        let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
        let chat = alice.group("Walk", &[&bob, &carol]).await;
        let elsewhere = bob.group("Run", &[]).await;
        let mut feed = alice.hears_typing(&chat).await;
        feed.typers().await;
        bob.types(&chat, true).await;
        assert_eq!(feed.typers().await, ["bob"]);
        bob.send(&elsewhere, "somewhere else").await;
        alice.send(&chat, "somebody else").await;
        feed.is_silent().await;
        bob.send(&chat, "said").await;
        assert!(feed.typers().await.is_empty());

        bob.types(&chat, true).await;
        assert_eq!(feed.typers().await, ["bob"]);
        alice.does("removeMember", json!({ "chatId": chat, "userId": "bob" })).await;
        assert!(feed.typers().await.is_empty());
        carol.types(&chat, true).await;
        assert_eq!(feed.typers().await, ["carol"]);
        carol.does("leaveChat", json!({ "chatId": chat })).await;
        assert!(feed.typers().await.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_longer_in_hears_it_at_once_and_nothing_more() {
    each_engine(async |app| {
        let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
        let chat = alice.group("Walk", &[&bob, &carol]).await;
        let other = alice.group("Run", &[&bob]).await;
        let mut feeds =
            [bob.hears_typing(&chat).await, carol.hears_typing(&chat).await, alice.hears_typing(&chat).await];
        for feed in &mut feeds {
            feed.typers().await;
        }
        let [bobs, carols, alices] = &mut feeds;
        // What happens elsewhere, or to others, ends nothing.
        alice.does("removeMember", json!({ "chatId": other, "userId": "bob" })).await;
        alice.does("changeMemberRole", json!({ "chatId": chat, "userId": "bob", "role": "MODERATOR" })).await;
        alice.does("removeMember", json!({ "chatId": chat, "userId": "carol" })).await;
        assert_eq!(carols.ends().await, "FORBIDDEN");
        alice.types(&chat, true).await;
        assert_eq!(bobs.typers().await, ["alice"]);
        assert_eq!(alices.typers().await, ["alice"]);
        alice.does("deleteChat", json!({ "chatId": chat })).await;
        assert_eq!(bobs.ends().await, "FORBIDDEN");
        assert_eq!(alices.ends().await, "FORBIDDEN");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_post_types_and_only_members_are_told() {
    each_engine(async |app| {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let (mallory, spy) = (app.user("mallory").await, app.person("elsewhere", "bob", None).await);
        let chat = alice.group("Walk", &[&bob]).await;
        let news = alice.chat("CHANNEL", "News", &[&bob]).await;
        let typing = |chat: &str| json!({ "chatId": chat, "typing": true });
        for stranger in [&mallory, &spy] {
            stranger.act("setTyping", typing(&chat)).await.refused("NOT_FOUND");
            assert_eq!(stranger.hears_typing(&chat).await.ends().await, "NOT_FOUND");
        }
        // A channel is seen by all, posted in by moderators, and listened to by members.
        mallory.act("setTyping", typing(&news)).await.refused("FORBIDDEN");
        assert_eq!(mallory.hears_typing(&news).await.ends().await, "FORBIDDEN");
        bob.act("setTyping", typing(&news)).await.refused("FORBIDDEN");
        alice.types(&news, true).await;
        assert_eq!(bob.sees_typing(&news).await, ["alice"]);
        assert!(mallory.sees_typing(&news).await.is_empty());

        let until = app.moment(3600);
        alice.does("silenceMember", json!({ "chatId": chat, "userId": "bob", "until": until })).await;
        bob.act("setTyping", typing(&chat)).await.refused("FORBIDDEN");
        bob.types(&chat, false).await;
        alice.does("silenceMember", json!({ "chatId": chat, "userId": "bob" })).await;
        bob.types(&chat, true).await;
        alice.does("archiveChat", json!({ "chatId": chat, "archived": true })).await;
        alice.act("setTyping", typing(&chat)).await.refused("FORBIDDEN");
        alice.act("setTyping", typing("chat_x")).await.refused("NOT_FOUND");
        let blind = app.person("demo", "alice", Some(&[])).await;
        blind.act("setTyping", typing(&chat)).await.refused("FORBIDDEN");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_large_chat_nobody_is_told() {
    each_engine_with(&[("PARLOR_TYPING_MEMBERS", "2")], async |app| {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        app.user("carol").await;
        let chat = alice.group("Walk", &[&bob]).await;
        assert_ne!(alice.types(&chat, true).await, json!(null));
        alice.types(&chat, false).await;
        alice.adds(&chat, "carol", "MEMBER").await;
        let mut feed = bob.hears_typing(&chat).await;
        assert!(feed.typers().await.is_empty());
        assert_eq!(alice.types(&chat, true).await, json!(null));
        feed.is_silent().await;
        assert!(bob.sees_typing(&chat).await.is_empty());
    })
    .await;
    each_engine_with(&[("PARLOR_TYPING_MEMBERS", "0")], async |app| {
        let alice = app.user("alice").await;
        let chat = alice.group("Walk", &[]).await;
        assert_eq!(alice.types(&chat, true).await, json!(null));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_is_slow_is_told_the_newest_alone() {
    each_engine(async |app| {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let chat = alice.group("Walk", &[&bob]).await;
        let viewer = Arc::new(service::users::authenticate(&app.app, &alice.token).await.expect("Alice"));
        let id = chat.parse().expect("an id");
        let mut feed = service::feeds::typing(&app.app, viewer, id).await.expect("a feed");
        for _ in 0..50 {
            bob.types(&chat, true).await;
            bob.types(&chat, false).await;
        }
        bob.types(&chat, true).await;
        // It begins with the list as it is when it is asked for.
        let first = feed.next().await.expect("a list").expect("a list");
        assert_eq!(first.event.users, ["bob".parse().expect("an id")]);
        for _ in 0..50 {
            alice.types(&chat, true).await;
            alice.types(&chat, false).await;
        }
        bob.types(&chat, false).await;
        let newest = feed.next().await.expect("a list").expect("a list");
        assert!(newest.event.users.is_empty());
        assert!(timeout(Duration::from_millis(500), feed.next()).await.is_err(), "no backlog");
    })
    .await;
}
