//! Clients of the inbox feed: what they know after they resume, fall behind, or reconnect at random.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use testkit::{DatabaseDump, TestApp, User, engine_test};

use crate::api::inbox::{CHAT, caught_up_inbox, cursor, is_about, is_removal_of, next_matching, subscribe_inbox};

/// The state of a client that knows only the events of its inbox feed.
#[derive(Debug, Default, PartialEq)]
struct ClientView {
    chats: BTreeMap<String, Value>,
    notifications: BTreeMap<String, Value>,
    cursor: Option<String>,
}

impl ClientView {
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

    /// Returns the state of a client without chats after a feed from a cursor has caught up.
    async fn resumed_from(user: &User, after: &str) -> Self {
        let (mut view, mut feed) = (Self::default(), subscribe_inbox(user, Some(after)).await);
        loop {
            let event = feed.next().await;
            view.apply(&event);
            if event["__typename"] == "FeedCaughtUp" {
                return view;
            }
        }
    }

    /// Returns true if the state equals the lists that a query returns.
    ///
    /// Notifications about chats that the user can no longer see may remain.
    fn matches(&self, (chats, notifications): &(BTreeMap<String, Value>, BTreeMap<String, Value>)) -> bool {
        let known = |(id, notification): (&String, &Value)| {
            self.notifications.get(id).is_some_and(|delivered| delivered["readAt"] == notification["readAt"])
        };
        self.chats == *chats && notifications.iter().all(known)
    }

    fn lacks(&self, chat: &str) -> bool {
        !self.chats.contains_key(chat)
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
    let (feed, cursor_before) = caught_up_inbox(&bob).await;
    drop(feed);
    let unchanged = ClientView::resumed_from(&bob, &cursor_before).await;
    assert_eq!((unchanged.chats.len(), unchanged.notifications.len()), (0, 0));

    alice.send(&chats["sent"], "new").await;
    alice.mutate_ok("editMessage", json!({ "messageId": last, "text": "edited" })).await;
    alice.mutate_ok("updateChat", json!({ "chatId": chats["titled"], "title": "Title" })).await;
    bob.mutate_ok("markRead", json!({ "chatId": chats["read"] })).await;
    for name in ["kicked", "returned", "both"] {
        alice.mutate_ok("removeMember", json!({ "chatId": chats[name], "userId": "bob" })).await;
    }
    // Within ten minutes of a removal, being added again does not notify.
    app.advance(660);
    alice.add_member(&chats["returned"], "bob", "MEMBER").await;
    bob.mutate_ok("leaveChat", json!({ "chatId": chats["left"] })).await;
    for name in ["deleted", "both"] {
        alice.mutate_ok("deleteChat", json!({ "chatId": chats[name] })).await;
    }
    let added = carol.group("added", &[&bob]).await;
    app.advance(60);

    // A client that knows each of these chats.
    let mut view =
        ClientView { chats: chats.values().map(|id| (id.clone(), json!({}))).collect(), ..ClientView::default() };
    let mut feed = subscribe_inbox(&bob, Some(&cursor_before)).await;
    let cursor_after = loop {
        let event = feed.next().await;
        view.apply(&event);
        if event["__typename"] == "FeedCaughtUp" {
            break cursor(&event);
        }
    };
    for name in ["kicked", "left", "deleted", "both"] {
        assert!(view.lacks(&chats[name]), "{name}");
    }
    assert_eq!(view.chats[&chats["quiet"]], json!({}), "a chat without changes has no event");
    assert_eq!(view.chats[&chats["sent"]]["lastMessage"]["text"], "new");
    assert_eq!(view.chats[&chats["edited"]]["lastMessage"]["text"], "edited");
    assert_eq!(view.chats[&chats["titled"]]["title"], "Title");
    assert_eq!(view.chats[&chats["read"]]["viewerMembership"]["unreadCount"], 0);
    assert_eq!(view.chats[&chats["returned"]]["title"], "returned");
    assert_eq!(view.chats[&added]["title"], "added");
    assert_eq!(view.chats.len(), 7);
    let kinds = |kind: &str, read: bool| {
        let notifications = view.notifications.values();
        notifications.filter(|each| each["kind"] == kind && each["readAt"].is_string() == read).count()
    };
    assert_eq!((kinds("MENTION", true), kinds("ADDED_TO_CHAT", true), kinds("ADDED_TO_CHAT", false)), (1, 1, 2));
    // A feed that has caught up has nothing left to resume, and goes on with live events.
    let resumed = ClientView::resumed_from(&bob, &cursor_after).await;
    assert_eq!((resumed.chats.len(), resumed.notifications.len()), (0, 0));
    alice.send(&chats["quiet"], "live").await;
    next_matching(&mut feed, is_about(&chats["quiet"], |chat| chat["lastMessage"]["text"] == "live")).await;

    // A client can resume from the cursor of each event.
    let mut feed = subscribe_inbox(&bob, Some(&cursor_before)).await;
    feed.next().await;
    let second = cursor(&feed.next().await);
    let rest = ClientView::resumed_from(&bob, &second).await;
    assert!(rest.chats.contains_key(&added), "the last change has not been delivered yet");
}

#[engine_test(settings = [("PARLOR_CATCH_UP_CHANGES", "5")])]
async fn inbox_feed_resets_when_catch_up_is_impossible(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let (_, bob_cursor) = caught_up_inbox(&bob).await;
    let other = app.user_in("other", "alice", None).await;
    let (_, other_alice_cursor) = caught_up_inbox(&other).await;
    let chats = alice.feed(&chat, None, None).await.next().await;
    app.advance(60);
    let (_, old) = caught_up_inbox(&alice).await;
    app.advance(60);
    for n in 0..6 {
        alice.group(&n.to_string(), &[]).await;
    }
    let nonsense = ["", "ÿ", "AAAA", &cursor(&chats), &bob_cursor, &other_alice_cursor];
    let invalid = nonsense.into_iter().map(|after| (after, "CURSOR_INVALID"));
    for (after, reason) in invalid.chain([(old.as_str(), "TOO_FAR_BEHIND")]) {
        let mut feed = subscribe_inbox(&alice, Some(after)).await;
        let reset = feed.expect("FeedReset").await;
        assert_eq!(reset["reason"], reason, "{after}");
        let live = format!("live again after {after}");
        bob.send(&chat, &live).await;
        next_matching(&mut feed, is_about(&chat, |chat| chat["lastMessage"]["text"] == live)).await;
        app.advance(60);
    }
    // Many changes of one chat are one change to deliver.
    let (_, cursor_before) = caught_up_inbox(&alice).await;
    for n in 0..10 {
        bob.send(&chat, &n.to_string()).await;
    }
    app.advance(60);
    assert_eq!(ClientView::resumed_from(&alice, &cursor_before).await.chats[&chat]["lastMessage"]["text"], "9");
    // Removals of chats are retained for a month.
    app.advance(31 * 24 * 3_600);
    let alice = app.user("alice").await;
    let mut feed = subscribe_inbox(&alice, Some(&cursor_before)).await;
    assert_eq!(feed.expect("FeedReset").await["reason"], "TOO_FAR_BEHIND");
}

#[engine_test]
async fn chat_removals_are_retained_for_a_month(app: &TestApp) {
    let all = ["chat.view", "chat.create_group", "chat.manage_group", "chat.delete"];
    let delete = async |organization: &str| {
        let alice = app.user_in(organization, "alice", Some(&all)).await;
        let chat = alice.group("Walk", &[]).await;
        let (_, before) = caught_up_inbox(&alice).await;
        alice.mutate_ok("deleteChat", json!({ "chatId": chat })).await;
        let mut feed = subscribe_inbox(&alice, Some(&before)).await;
        next_matching(&mut feed, is_removal_of(&chat)).await;
    };
    delete("demo").await;
    delete("demo").await;
    // This one is in another bucket.
    delete("acme").await;
    assert_eq!(removals(app).await, 3);
    app.advance(31 * 24 * 3_600);
    delete("demo").await;
    assert_eq!(removals(app).await, 1);
}

async fn removals(app: &TestApp) -> usize {
    DatabaseDump::take(&app.database).await.count("removals")
}

/// The limit for a client that reads nothing is longer than the sends take on a slow machine.
#[engine_test(settings = [("PARLOR_SOCKET_WRITE_SECONDS", "600")])]
async fn slow_inbox_client_receives_each_chat_once_and_catches_up(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let mut chats = Vec::new();
    for n in 0..4 {
        chats.push(alice.group(&n.to_string(), &[&bob]).await);
    }
    let (mut slow, _) = caught_up_inbox(&bob).await;
    // More than the delivery queue, the outbox and the kernel's buffers hold while the client reads nothing.
    let long = "ა".repeat(7_000);
    for n in 0..20 {
        join_all(chats.iter().map(|chat| async {
            join_all((0..5).map(|_| alice.send(chat, &long))).await;
            alice.send(chat, &n.to_string()).await
        }))
        .await;
    }
    let (mut view, mut event_count) = (ClientView::default(), 0);
    while !chats.iter().all(|chat| {
        view.chats
            .get(chat)
            .is_some_and(|chat| chat["lastMessage"]["text"] == "19" && chat["viewerMembership"]["unreadCount"] == 120)
    }) {
        view.apply(&slow.next().await);
        event_count += 1;
    }
    assert!(event_count < 480, "{event_count} events for 480 sends");
}

/// Queries the chats and notifications of a user, each by its id.
async fn query_lists(user: &User) -> (BTreeMap<String, Value>, BTreeMap<String, Value>) {
    let query = format!(
        "{{ chats(first: 100) {{ nodes {{ {CHAT} }} }}
         viewer {{ notifications(first: 100) {{ nodes {{ id kind readAt chat {{ id }} message {{ text }} }} }} }} }}"
    );
    let reply = user.ask(&query).await;
    let by_id = |path: &str| {
        let nodes = reply.at(path).as_array().expect("nodes").clone();
        nodes.into_iter().map(|node| (node["id"].as_str().expect("an id").to_owned(), node)).collect()
    };
    (by_id("chats.nodes"), by_id("viewer.notifications.nodes"))
}

/// Performs a random action of a random user in one of the chats.
///
/// Actions that are not allowed have no effect.
async fn perform_random_action(random: &mut StdRng, [alice, bob, carol]: [&User; 3], chats: &mut [String], n: usize) {
    let index = random.random_range(0..chats.len());
    let chat = chats[index].clone();
    let user = if random.random_bool(0.5) { alice } else { carol };
    let text = n.to_string();
    let message = json!({ "chatId": chat, "text": text });
    let mention = json!({ "chatId": chat, "text": text, "mentionIds": ["bob"] });
    match random.random_range(0..24) {
        0..6 => drop(user.mutate("sendMessage", message).await),
        6..8 => drop(user.mutate("sendMessage", mention).await),
        8 => drop(bob.mutate("sendMessage", message).await),
        action @ 9..13 => {
            let last = alice.fetch_chat(&chat, "lastMessage { id }").await["lastMessage"]["id"].clone();
            drop(match action {
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
            chats[index] = alice.group(&text, &[bob, carol]).await;
        }
        22 => drop(bob.mutate("markUnread", json!({ "chatId": chat })).await),
        _ => drop(bob.mutate("markNotificationsRead", json!({})).await),
    }
}

#[engine_test]
async fn list_built_from_inbox_feed_equals_queried_list(app: &TestApp) {
    const ACTION_COUNT: usize = 300;
    let all = ["chat.view", "chat.create_group", "chat.manage_group", "chat.delete"];
    let alice = app.user_in("demo", "alice", Some(&all)).await;
    let (bob, carol) = (app.user("bob").await, app.user("carol").await);
    let (_, initial_cursor) = caught_up_inbox(&bob).await;
    let done = tokio::sync::watch::Sender::new(0);
    let write = async |seed: u64| {
        let mut random = StdRng::seed_from_u64(seed);
        let mut chats = Vec::new();
        for n in 0..3 {
            chats.push(alice.group(&format!("{seed}-{n}"), &[&bob, &carol]).await);
        }
        for n in 0..ACTION_COUNT / 2 {
            perform_random_action(&mut random, [&alice, &bob, &carol], &mut chats, n).await;
            // Older changes leave the margin of time within which a resumed feed delivers changes again.
            app.advance(2);
        }
        done.send_modify(|done| *done += 1);
    };
    let read = async {
        let mut random = StdRng::seed_from_u64(11);
        let mut view = ClientView { cursor: Some(initial_cursor.clone()), ..ClientView::default() };
        let mut reconnects = 0;
        loop {
            let mut feed = subscribe_inbox(&bob, view.cursor.as_deref()).await;
            for _ in 0..random.random_range(1..25) {
                let ended = *done.borrow() == 2;
                // A pause only makes the reader compare its state, so its length does not change the result.
                match tokio::time::timeout(Duration::from_millis(300), feed.next()).await {
                    Ok(event) => view.apply(&event),
                    Err(_) if ended && view.matches(&query_lists(&bob).await) => return reconnects,
                    Err(_) if ended && reconnects > 1_000 => {
                        let (chats, notifications) = query_lists(&bob).await;
                        assert_eq!(view.chats, chats);
                        assert_eq!(view.notifications, notifications);
                    }
                    Err(_) => {}
                }
            }
            reconnects += 1;
        }
    };
    let ((), (), reconnects) = futures_util::join!(write(1), write(2), read);
    assert!(reconnects > 3, "reconnected {reconnects} times");
}
