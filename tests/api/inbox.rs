//! All that concerns a person across chats, on one feed.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use parlor::realtime::feeds::catch_up::ResetReason;
use parlor::realtime::feeds::inbox::InboxEventKind;
use parlor::service::feeds::inbox_feed;
use parlor::service::sessions;
use testkit::keys::sign_with_secret;
use testkit::{DatabaseDump, Feed, Socket, TestApp, User, engine_test};

const CHAT: &str = "id title memberCount lastMessage { id text } viewerMembership { unreadCount draft }";

async fn inbox(who: &User, after: Option<&str>) -> Feed {
    who.subscribe(&query(), json!({ "after": after })).await
}

fn query() -> String {
    format!(
        "subscription($after: String) {{ inboxFeed(after: $after) {{
            __typename
            ... on FeedEvent {{ cursor }}
            ... on ChatUpserted {{ chat {{ {CHAT} }} }}
            ... on ChatRemoved {{ chatId }}
            ... on NotificationUpserted {{ notification {{ id kind readAt chat {{ id }} message {{ text }} }} }}
            ... on SessionExpiring {{ expiresAt }}
            ... on FeedReset {{ reason }}
        }} }}"
    )
}

/// A feed that is level, and the cursor there.
async fn level(who: &User) -> (Feed, String) {
    let mut feed = inbox(who, None).await;
    let cursor = cursor(&feed.expect("FeedCaughtUp").await);
    (feed, cursor)
}

fn cursor(event: &Value) -> String {
    event["cursor"].as_str().expect("each event has a cursor").to_owned()
}

/// What a client holds that only listens to its inbox.
#[derive(Debug, Default, PartialEq)]
struct Held {
    chats: BTreeMap<String, Value>,
    notifications: BTreeMap<String, Value>,
    cursor: Option<String>,
}

impl Held {
    fn apply(&mut self, event: &Value) {
        self.cursor = Some(cursor(event));
        let id = |node: &Value| node["id"].as_str().expect("an id").to_owned();
        match event["__typename"].as_str().expect("a type") {
            "ChatUpserted" => drop(self.chats.insert(id(&event["chat"]), event["chat"].clone())),
            "ChatRemoved" => drop(self.chats.remove(event["chatId"].as_str().expect("an id"))),
            "NotificationUpserted" => {
                let notification = &event["notification"];
                self.notifications.insert(id(notification), notification.clone());
            }
            "FeedCaughtUp" => {}
            other => panic!("{other}: {event}"),
        }
    }

    /// What a feed tells from a cursor until it is level.
    async fn since(who: &User, after: &str) -> Self {
        let (mut held, mut feed) = (Self::default(), inbox(who, Some(after)).await);
        loop {
            let event = feed.next().await;
            held.apply(&event);
            if event["__typename"] == "FeedCaughtUp" {
                return held;
            }
        }
    }

    /// Whether it is what a fresh query gives; of chats that are gone, notifications may be left.
    fn is(&self, (chats, notifications): &(BTreeMap<String, Value>, BTreeMap<String, Value>)) -> bool {
        let known = |(id, notification): (&String, &Value)| {
            self.notifications.get(id).is_some_and(|held| held["readAt"] == notification["readAt"])
        };
        self.chats == *chats && notifications.iter().all(known)
    }

    fn removed(&self, chat: &str) -> bool {
        !self.chats.contains_key(chat)
    }
}

/// The next event that is the one; what is told before it is passed over.
async fn until(feed: &mut Feed, is_it: impl Fn(&Value) -> bool) -> Value {
    loop {
        let event = feed.next().await;
        if is_it(&event) {
            return event;
        }
    }
}

fn of_chat<'a>(chat: &'a str, what: impl Fn(&Value) -> bool + 'a) -> impl Fn(&Value) -> bool + 'a {
    move |event| event["chat"]["id"] == chat && what(&event["chat"])
}

fn removal(chat: &str) -> impl Fn(&Value) -> bool {
    move |event| event["__typename"] == "ChatRemoved" && event["chatId"] == chat
}

async fn notified(feed: &mut Feed, kind: &str, read: bool) -> Value {
    let event = until(feed, |event| {
        let notification = &event["notification"];
        notification["kind"] == kind && notification["readAt"].is_string() == read
    });
    event.await["notification"].clone()
}

/// Nothing is told for a while.
async fn silent(feed: &mut Feed) {
    let heard = tokio::time::timeout(Duration::from_millis(400), feed.next()).await;
    assert!(heard.is_err(), "{heard:?}");
}

#[engine_test]
async fn inbox_feed_delivers_every_list_change_to_all_devices(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let all = ["chat.view", "chat.create_group", "chat.manage_group", "chat.delete"];
    let alice = app.user_in("demo", &alice.id, Some(&all)).await;
    let walk = alice.group("Walk", &[&bob]).await;
    let (mut phone, _) = level(&bob).await;
    let (mut desk, _) = level(&bob).await;
    let (mut strangers, _) = level(&carol).await;
    let run = alice.group("Run", &[&bob]).await;
    let hello = alice.send(&walk, "hello").await;
    for feed in [&mut phone, &mut desk] {
        until(feed, of_chat(&run, |chat| chat["title"] == "Run")).await;
        let told = until(feed, of_chat(&walk, |chat| chat["lastMessage"]["id"] == hello)).await;
        assert_eq!(told["chat"]["viewerMembership"]["unreadCount"], 1);
    }
    alice.mutate_ok("editMessage", json!({ "messageId": hello, "text": "hello all" })).await;
    until(&mut phone, of_chat(&walk, |chat| chat["lastMessage"]["text"] == "hello all")).await;
    alice.delete_message(&hello).await;
    until(&mut phone, of_chat(&walk, |chat| chat["viewerMembership"]["unreadCount"] == 0)).await;
    alice.mutate_ok("updateChat", json!({ "chatId": walk, "title": "Stroll" })).await;
    until(&mut phone, of_chat(&walk, |chat| chat["title"] == "Stroll")).await;
    alice.add_member(&walk, "carol", "MEMBER").await;
    until(&mut phone, of_chat(&walk, |chat| chat["memberCount"] == 3)).await;
    until(&mut strangers, of_chat(&walk, |chat| chat["title"] == "Stroll")).await;

    // What is done on one device is level on the other.
    alice.send(&walk, "to be read").await;
    until(&mut desk, of_chat(&walk, |chat| chat["viewerMembership"]["unreadCount"] == 1)).await;
    bob.mutate_ok("markRead", json!({ "chatId": walk })).await;
    until(&mut desk, of_chat(&walk, |chat| chat["viewerMembership"]["unreadCount"] == 0)).await;
    bob.mutate_ok("updateMyMembership", json!({ "chatId": walk, "draft": "I", "pinned": true })).await;
    until(&mut desk, of_chat(&walk, |chat| chat["viewerMembership"]["draft"] == "I")).await;

    // Leaving, being taken out, coming back, and the end of a chat.
    alice.mutate_ok("removeMember", json!({ "chatId": walk, "userId": "bob" })).await;
    for feed in [&mut phone, &mut desk] {
        until(feed, removal(&walk)).await;
    }
    alice.send(&walk, "without Bob").await;
    alice.add_member(&walk, "bob", "MEMBER").await;
    let back = until(&mut phone, of_chat(&walk, |_| true)).await;
    assert_eq!(back["chat"]["memberCount"], 3);
    alice.send(&walk, "with Bob").await;
    until(&mut phone, of_chat(&walk, |chat| chat["lastMessage"]["text"] == "with Bob")).await;
    bob.mutate_ok("leaveChat", json!({ "chatId": walk })).await;
    until(&mut phone, removal(&walk)).await;
    alice.mutate_ok("deleteChat", json!({ "chatId": run })).await;
    until(&mut phone, removal(&run)).await;
    let news = alice.chat("CHANNEL", "News", &[]).await;
    bob.mutate_ok("joinChannel", json!({ "chatId": news })).await;
    until(&mut phone, of_chat(&news, |chat| chat["title"] == "News")).await;
}

#[engine_test]
async fn inbox_feed_skips_changes_no_list_shows(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let id = alice.send(&chat, "hello").await;
    bob.mutate_ok("markRead", json!({ "chatId": chat })).await;
    // What moved before is told when it is gathered.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (mut feed, _) = level(&bob).await;
    let (mut others, _) = level(&carol).await;
    bob.mutate_ok("addReaction", json!({ "messageId": id, "emoji": "👍" })).await;
    alice.mutate_ok("markRead", json!({ "chatId": chat })).await;
    alice.mutate_ok("updateMyMembership", json!({ "chatId": chat, "draft": "of Alice" })).await;
    alice.send_message(&chat, json!({ "text": "in the thread", "threadRootId": id })).await;
    silent(&mut feed).await;
    alice.send(&chat, "heard").await;
    until(&mut feed, of_chat(&chat, |chat| chat["lastMessage"]["text"] == "heard")).await;
    silent(&mut others).await;
    // A person of the same id in another organisation is another.
    let (mut namesake, _) = level(&app.user_in("other", "bob", None).await).await;
    alice.send_message(&chat, json!({ "text": "Bob!", "mentionIds": ["bob"] })).await;
    notified(&mut feed, "MENTION", false).await;
    silent(&mut namesake).await;
}

#[engine_test]
async fn inbox_feed_delivers_new_and_read_notifications(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let (mut feed, _) = level(&bob).await;
    let (mut alices, _) = level(&alice).await;
    let chat = alice.group("Walk", &[&bob]).await;
    let added = notified(&mut feed, "ADDED_TO_CHAT", false).await;
    assert_eq!(added["chat"]["id"], chat);
    let own = bob.send(&chat, "mine").await;
    assert_eq!(notified(&mut feed, "ADDED_TO_CHAT", true).await["id"], added["id"], "who sends has read");

    alice.send_message(&chat, json!({ "text": "Bob!", "mentionIds": ["bob"] })).await;
    let mention = notified(&mut feed, "MENTION", false).await;
    assert_eq!(mention["message"]["text"], "Bob!");
    bob.mutate_ok("markRead", json!({ "chatId": chat })).await;
    assert_eq!(notified(&mut feed, "MENTION", true).await["id"], mention["id"]);

    let reply = alice.send_message(&chat, json!({ "text": "yes", "replyToId": own })).await;
    let unread = notified(&mut feed, "REPLY", false).await;
    bob.mutate_ok("markNotificationsRead", json!({ "ids": [unread["id"]] })).await;
    assert_eq!(notified(&mut feed, "REPLY", true).await["id"], unread["id"]);
    alice.mutate_ok("addReaction", json!({ "messageId": own, "emoji": "👍" })).await;
    let reaction = notified(&mut feed, "REACTION", false).await;
    bob.mutate_ok("markNotificationsRead", json!({})).await;
    assert_eq!(notified(&mut feed, "REACTION", true).await["id"], reaction["id"]);
    alice.delete_message(&reply).await;
    let gone = alice.send_message(&chat, json!({ "text": "gone", "replyToId": own })).await;
    let unread = notified(&mut feed, "REPLY", false).await;
    alice.delete_message(&gone).await;
    assert_eq!(notified(&mut feed, "REPLY", true).await["id"], unread["id"], "deleted is read");

    // None of it was Alice's.
    alice.send(&chat, "the end").await;
    loop {
        let event = alices.next().await;
        assert_eq!(event["__typename"], "ChatUpserted", "{event}");
        if event["chat"]["lastMessage"]["text"] == "the end" {
            break;
        }
    }
}

#[engine_test]
async fn large_notification_batch_is_loaded_from_database(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    for _ in 0..12 {
        join_all((0..10).map(|_| alice.send_message(&chat, json!({ "text": "Bob!", "mentionIds": ["bob"] })))).await;
    }
    let (mut feed, _) = level(&bob).await;
    bob.mutate_ok("markNotificationsRead", json!({})).await;
    let mut read = std::collections::BTreeSet::new();
    while read.len() < 121 {
        let event = feed.next().await;
        if event["notification"]["readAt"].is_string() {
            read.insert(event["notification"]["id"].to_string());
        }
    }
}

#[engine_test]
async fn resumed_inbox_feed_delivers_changes(app: &TestApp) {
    let all = ["chat.view", "chat.create_group", "chat.manage_group", "chat.delete"];
    let alice = app.user_in("demo", "alice", Some(&all)).await;
    let (bob, carol) = (app.user("bob").await, app.user("carol").await);
    let mut chats = BTreeMap::new();
    for name in ["quiet", "sent", "edited", "titled", "read", "kicked", "left", "returned", "deleted", "both"] {
        chats.insert(name, alice.group(name, &[&bob]).await);
    }
    let last = alice.send(&chats["edited"], "last").await;
    alice.send_message(&chats["read"], json!({ "text": "Bob!", "mentionIds": ["bob"] })).await;
    app.advance(60);
    let (feed, away) = level(&bob).await;
    drop(feed);
    let nothing = Held::since(&bob, &away).await;
    assert_eq!((nothing.chats.len(), nothing.notifications.len()), (0, 0));

    alice.send(&chats["sent"], "new").await;
    alice.mutate_ok("editMessage", json!({ "messageId": last, "text": "edited" })).await;
    alice.mutate_ok("updateChat", json!({ "chatId": chats["titled"], "title": "Title" })).await;
    bob.mutate_ok("markRead", json!({ "chatId": chats["read"] })).await;
    for name in ["kicked", "returned", "both"] {
        alice.mutate_ok("removeMember", json!({ "chatId": chats[name], "userId": "bob" })).await;
    }
    alice.add_member(&chats["returned"], "bob", "MEMBER").await;
    bob.mutate_ok("leaveChat", json!({ "chatId": chats["left"] })).await;
    for name in ["deleted", "both"] {
        alice.mutate_ok("deleteChat", json!({ "chatId": chats[name] })).await;
    }
    let added = carol.group("added", &[&bob]).await;
    app.advance(60);

    // A client that holds each of them.
    let mut held = Held { chats: chats.values().map(|id| (id.clone(), json!({}))).collect(), ..Held::default() };
    let mut feed = inbox(&bob, Some(&away)).await;
    let back = loop {
        let event = feed.next().await;
        held.apply(&event);
        if event["__typename"] == "FeedCaughtUp" {
            break cursor(&event);
        }
    };
    for name in ["kicked", "left", "deleted", "both"] {
        assert!(held.removed(&chats[name]), "{name}");
    }
    assert_eq!(held.chats[&chats["quiet"]], json!({}), "told of what did not change");
    assert_eq!(held.chats[&chats["sent"]]["lastMessage"]["text"], "new");
    assert_eq!(held.chats[&chats["edited"]]["lastMessage"]["text"], "edited");
    assert_eq!(held.chats[&chats["titled"]]["title"], "Title");
    assert_eq!(held.chats[&chats["read"]]["viewerMembership"]["unreadCount"], 0);
    assert_eq!(held.chats[&chats["returned"]]["title"], "returned");
    assert_eq!(held.chats[&added]["title"], "added");
    assert_eq!(held.chats.len(), 7);
    let kinds = |kind: &str, read: bool| {
        let told = held.notifications.values();
        told.filter(|told| told["kind"] == kind && told["readAt"].is_string() == read).count()
    };
    assert_eq!((kinds("MENTION", true), kinds("ADDED_TO_CHAT", true), kinds("ADDED_TO_CHAT", false)), (1, 1, 2));
    // Level is level, and what comes next is live.
    let again = Held::since(&bob, &back).await;
    assert_eq!((again.chats.len(), again.notifications.len()), (0, 0));
    alice.send(&chats["quiet"], "live").await;
    until(&mut feed, of_chat(&chats["quiet"], |chat| chat["lastMessage"]["text"] == "live")).await;

    // Each event on the way is a place to go on from.
    let mut feed = inbox(&bob, Some(&away)).await;
    feed.next().await;
    let second = cursor(&feed.next().await);
    let rest = Held::since(&bob, &second).await;
    assert!(rest.chats.contains_key(&added), "the last that happened is still to be told");
}

#[engine_test(settings = [("PARLOR_CATCH_UP_CHANGES", "5")])]
async fn inbox_feed_resets_when_catch_up_is_impossible(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let (_, foreign) = level(&bob).await;
    let other = app.user_in("other", "alice", None).await;
    let (_, namesake) = level(&other).await;
    let chats = alice.feed(&chat, None, None).await.next().await;
    app.advance(60);
    let (_, old) = level(&alice).await;
    app.advance(60);
    for n in 0..6 {
        alice.group(&n.to_string(), &[]).await;
    }
    let nonsense = ["", "ÿ", "AAAA", &cursor(&chats), &foreign, &namesake];
    let invalid = nonsense.into_iter().map(|after| (after, "CURSOR_INVALID"));
    for (after, reason) in invalid.chain([(old.as_str(), "TOO_FAR_BEHIND")]) {
        let mut feed = inbox(&alice, Some(after)).await;
        let reset = feed.expect("FeedReset").await;
        assert_eq!(reset["reason"], reason, "{after}");
        let live = format!("live again after {after}");
        bob.send(&chat, &live).await;
        until(&mut feed, of_chat(&chat, |chat| chat["lastMessage"]["text"] == live)).await;
        app.advance(60);
    }
    // Many changes of one chat are one to tell.
    let (_, level) = level(&alice).await;
    for n in 0..10 {
        bob.send(&chat, &n.to_string()).await;
    }
    app.advance(60);
    assert_eq!(Held::since(&alice, &level).await.chats[&chat]["lastMessage"]["text"], "9");
    // Whose chats were deleted is remembered for a month.
    app.advance(31 * 24 * 3_600);
    let late = app.user("alice").await;
    assert_eq!(inbox(&late, Some(&level)).await.expect("FeedReset").await["reason"], "TOO_FAR_BEHIND");
}

#[engine_test]
async fn chat_removals_are_retained_for_a_month(app: &TestApp) {
    let all = ["chat.view", "chat.create_group", "chat.manage_group", "chat.delete"];
    let delete = async |title: &str| {
        let alice = app.user_in("demo", "alice", Some(&all)).await;
        let chat = alice.group(title, &[]).await;
        let (_, before) = level(&alice).await;
        alice.mutate_ok("deleteChat", json!({ "chatId": chat })).await;
        let mut feed = inbox(&alice, Some(&before)).await;
        until(&mut feed, removal(&chat)).await;
    };
    delete("first").await;
    delete("second").await;
    assert_eq!(removals(app).await, 2);
    app.advance(31 * 24 * 3_600);
    delete("third").await;
    assert_eq!(removals(app).await, 1);
}

async fn removals(app: &TestApp) -> usize {
    DatabaseDump::take(&app.database).await.count("removals")
}

#[engine_test]
async fn slow_inbox_client_receives_each_chat_once_and_catches_up(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let mut chats = Vec::new();
    for n in 0..4 {
        chats.push(alice.group(&n.to_string(), &[&bob]).await);
    }
    let (mut slow, _) = level(&bob).await;
    // Far more than mailbox, outbox and kernel hold, while nothing is read.
    let long = "x".repeat(7_000);
    for n in 0..100 {
        join_all(chats.iter().map(|chat| async {
            join_all((0..5).map(|_| alice.send(chat, &long))).await;
            alice.send(chat, &n.to_string()).await
        }))
        .await;
    }
    let (mut held, mut told) = (Held::default(), 0);
    while !chats.iter().all(|chat| {
        held.chats
            .get(chat)
            .is_some_and(|chat| chat["lastMessage"]["text"] == "99" && chat["viewerMembership"]["unreadCount"] == 600)
    }) {
        held.apply(&slow.next().await);
        told += 1;
    }
    assert!(told < 2_400, "told {told} times of 2,400 sends");
}

#[engine_test]
async fn overflowed_inbox_queue_delivers_each_chat_once(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let mut chats = Vec::new();
    for n in 0..4 {
        chats.push(alice.group(&n.to_string(), &[&bob]).await);
    }
    app.advance(60);
    let viewer = sessions::open(&app.app, &bob.token).await.expect("a session").viewer();
    // In a mailbox, and in more than one holds.
    for sends in [10, 50] {
        let mut feed = inbox_feed(&app.app, viewer.clone(), None, None).expect("a feed");
        let mut next = async || feed.recv().await.expect("an event").expect("no error").kind;
        assert!(matches!(next().await, InboxEventKind::CaughtUp));
        let gone = chats.pop().expect("a chat");
        for n in 0..sends {
            join_all(chats.iter().map(|chat| alice.send_message(chat, json!({ "text": n.to_string() })))).await;
        }
        alice.mutate_ok("removeMember", json!({ "chatId": gone, "userId": "bob" })).await;
        let mut told = Vec::new();
        for _ in 0..=chats.len() {
            told.push(match next().await {
                InboxEventKind::Chat(chat) => chat.id.to_string(),
                InboxEventKind::ChatRemoved(chat) => format!("not {chat}"),
                other => panic!("{other:?}"),
            });
        }
        let mut expected: Vec<String> = chats.iter().cloned().chain([format!("not {gone}")]).collect();
        told.sort();
        expected.sort();
        assert_eq!(told, expected);
        let more = tokio::time::timeout(Duration::from_millis(400), next()).await;
        assert!(more.is_err(), "{more:?}");
        app.advance(60);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inbox_feed_warns_before_token_expires() {
    let app = TestApp::sqlite(&[("PARLOR_JWT_LEEWAY_SECONDS", "0")]).await;
    let token = |seconds: i64| {
        let until = app.app.clock.now().timestamp() + seconds;
        (sign_with_secret(json!({ "sub": "alice", "org": "demo", "name": "Alice", "exp": until })), until)
    };
    let open = async |token: &str| {
        let mut socket = Socket::connect(app.addr).await;
        socket.init(token).await;
        socket.subscribe("feed", &query(), json!({})).await;
        Feed::new(socket)
    };
    let told = |event: &Value| {
        let at = event["expiresAt"].as_str().expect("a moment").parse::<chrono::DateTime<chrono::Utc>>();
        at.expect("a moment").timestamp()
    };
    // At once where it is less than a minute.
    let (short, until) = token(50);
    let mut feed = open(&short).await;
    feed.expect("FeedCaughtUp").await;
    assert_eq!(told(&feed.expect("SessionExpiring").await), until);

    // A minute before, once; and the connection ends.
    let (long, until) = token(600);
    let mut feed = open(&long).await;
    feed.expect("FeedCaughtUp").await;
    silent(&mut feed).await;
    app.advance(545);
    assert_eq!(told(&feed.expect("SessionExpiring").await), until);
    silent(&mut feed).await;
    app.advance(60);
    assert_eq!(feed.socket.expect_close().await.0, 4403);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inbox_feed_reports_changed_permissions_after_renewal() {
    let app = TestApp::sqlite(&[]).await;
    app.user("alice").await;
    let token = |permissions: &[&str]| app.token("demo", "alice", Some(permissions));
    let session = sessions::open(&app.app, &token(&["chat.view"])).await.expect("a session");
    let mut feed = inbox_feed(&app.app, session.viewer(), Some(session.clone()), None).expect("a feed");
    let mut next = async || feed.recv().await.expect("an event").expect("no error").kind;
    assert!(matches!(next().await, InboxEventKind::CaughtUp));
    sessions::renew(&app.app, &session, &token(&["chat.view"])).await.expect("the same");
    sessions::renew(&app.app, &session, &token(&["chat.view", "chat.delete"])).await.expect("more");
    assert!(matches!(next().await, InboxEventKind::Reset(ResetReason::AccessChanged)));
    assert!(tokio::time::timeout(Duration::from_millis(400), next()).await.is_err(), "told once");
    app.stop().await;
}

/// What of a person's list and notifications a fresh query gives.
async fn fresh(who: &User) -> (BTreeMap<String, Value>, BTreeMap<String, Value>) {
    let query = format!(
        "{{ chats(first: 100) {{ nodes {{ {CHAT} }} }}
         viewer {{ notifications(first: 100) {{ nodes {{ id kind readAt chat {{ id }} message {{ text }} }} }} }} }}"
    );
    let reply = who.ask(&query).await;
    let by_id = |path: &str| {
        let nodes = reply.at(path).as_array().expect("nodes").clone();
        nodes.into_iter().map(|node| (node["id"].as_str().expect("an id").to_owned(), node)).collect()
    };
    (by_id("chats.nodes"), by_id("viewer.notifications.nodes"))
}

/// Somebody does something in one of the chats; what isn't allowed then does nothing.
async fn act(random: &mut StdRng, [alice, bob, carol]: [&User; 3], chats: &mut [String], n: usize) {
    let place = random.random_range(0..chats.len());
    let chat = chats[place].clone();
    let who = if random.random_bool(0.5) { alice } else { carol };
    let text = n.to_string();
    let said = json!({ "chatId": chat, "text": text });
    let mention = json!({ "chatId": chat, "text": text, "mentionIds": ["bob"] });
    match random.random_range(0..24) {
        0..6 => drop(who.mutate("sendMessage", said).await),
        6..8 => drop(who.mutate("sendMessage", mention).await),
        8 => drop(bob.mutate("sendMessage", said).await),
        deed @ 9..13 => {
            let last = alice.fetch_chat(&chat, "lastMessage { id }").await["lastMessage"]["id"].clone();
            drop(match deed {
                9 | 10 => alice.mutate("editMessage", json!({ "messageId": last, "text": text })).await,
                11 => alice.mutate("deleteMessage", json!({ "messageId": last })).await,
                _ => carol.mutate("addReaction", json!({ "messageId": last, "emoji": "👍" })).await,
            });
        }
        13..15 => drop(bob.mutate("markRead", json!({ "chatId": chat })).await),
        15 => drop(bob.mutate("updateMyMembership", json!({ "chatId": chat, "draft": text })).await),
        16 => drop(alice.mutate("updateChat", json!({ "chatId": chat, "title": text })).await),
        17 => drop(alice.mutate("removeMember", json!({ "chatId": chat, "userId": "bob" })).await),
        18..20 => drop(alice.mutate("addMembers", json!({ "chatId": chat, "userIds": ["bob"] })).await),
        20 => drop(bob.mutate("leaveChat", json!({ "chatId": chat })).await),
        21 => {
            alice.mutate_ok("deleteChat", json!({ "chatId": chat })).await;
            chats[place] = alice.group(&text, &[bob, carol]).await;
        }
        22 => drop(bob.mutate("markUnread", json!({ "chatId": chat })).await),
        _ => drop(bob.mutate("markNotificationsRead", json!({})).await),
    }
}

#[engine_test]
async fn list_built_from_inbox_feed_equals_queried_list(app: &TestApp) {
    const ACTS: usize = 300;
    let all = ["chat.view", "chat.create_group", "chat.manage_group", "chat.delete"];
    let alice = app.user_in("demo", "alice", Some(&all)).await;
    let (bob, carol) = (app.user("bob").await, app.user("carol").await);
    let (_, begin) = level(&bob).await;
    let done = tokio::sync::watch::Sender::new(0);
    let acting = async |seed: u64| {
        let mut random = StdRng::seed_from_u64(seed);
        let mut chats = Vec::new();
        for n in 0..3 {
            chats.push(alice.group(&format!("{seed}-{n}"), &[&bob, &carol]).await);
        }
        for n in 0..ACTS / 2 {
            act(&mut random, [&alice, &bob, &carol], &mut chats, n).await;
            // Time goes on, so that what was before is not always told again.
            app.advance(2);
        }
        done.send_modify(|done| *done += 1);
    };
    let reading = async {
        let mut random = StdRng::seed_from_u64(11);
        let mut held = Held { cursor: Some(begin.clone()), ..Held::default() };
        let mut cuts = 0;
        loop {
            let mut feed = inbox(&bob, held.cursor.as_deref()).await;
            for _ in 0..random.random_range(1..25) {
                let ended = *done.borrow() == 2;
                match tokio::time::timeout(Duration::from_millis(300), feed.next()).await {
                    Ok(event) => held.apply(&event),
                    Err(_) if ended && held.is(&fresh(&bob).await) => return cuts,
                    Err(_) if ended && cuts > 1_000 => {
                        let (chats, notifications) = fresh(&bob).await;
                        assert_eq!(held.chats, chats);
                        assert_eq!(held.notifications, notifications);
                    }
                    Err(_) => {}
                }
            }
            cuts += 1;
        }
    };
    let ((), (), cuts) = futures_util::join!(acting(1), acting(2), reading);
    assert!(cuts > 3, "cut {cuts} times");
}
