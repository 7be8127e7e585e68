//! Presence: the status of users, its grace period, and the users who can see it.
//!
//! The silence of a feed is proven by a marker: the feed also follows Carol, whose status changes after the event that
//! must not be delivered. Feeds deliver the changes of different users in their order, so the next event is the marker.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parlor::domain::users;
use parlor::realtime::cluster::message::PresenceUpdate;
use parlor::realtime::presence::snapshot::PresenceSnapshot;
use serde_json::{Value, json};
use testkit::presence::PRESENCE_FEED;
use testkit::tungstenite::Message;
use testkit::{Feed, Socket, TestApp, User, engine_test, pluck, wait_until};

/// More than the default of `PARLOR_PRESENCE_GRACE_SECONDS`.
const BEYOND_GRACE_SECONDS: u64 = 6;

/// Returns the presence that the server has in memory.
fn remembered_presence(app: &TestApp, id: &str) -> PresenceSnapshot {
    app.app.presence.snapshot_of(&users::User {
        organization: "demo".parse().expect("an id"),
        id: id.parse().expect("an id"),
        name: String::new(),
        avatar_url: None,
        last_seen_at: None,
    })
}

/// Returns the state of a user who is connected, or who has set a status that is remembered.
fn local_update(app: &TestApp, id: &str) -> Option<PresenceUpdate> {
    let announcements = app.app.presence.announcements(&(0..=u8::MAX).collect());
    announcements.into_iter().flat_map(|announcement| announcement.users).find(|update| update.user.as_str() == id)
}

/// Drops all connections of a user, and waits until the server has noticed it.
async fn disconnect<S>(app: &TestApp, user: &User, sockets: S) {
    drop(sockets);
    let is_disconnected = async || local_update(app, &user.id).is_none_or(|update| !update.is_connected);
    wait_until("the server notices the end of the connections", is_disconnected).await;
}

/// Closes one of several connections of a user, and waits until the server has closed it too.
async fn close(mut socket: Socket) {
    socket.send_raw(Message::Close(None)).await;
    while let Some(Ok(_)) = socket.recv_raw().await {}
}

/// Asserts that the next event of a feed is this status of this user.
async fn assert_next(feed: &mut Feed, user: &str, status: &str) {
    let event = feed.next().await;
    assert_eq!((&event["user"]["id"], &event["status"]), (&json!(user), &json!(status)), "{event}");
}

/// Sets the status of `marker`, whom the feed follows, and asserts that no other event precedes that.
async fn assert_silent_until(feed: &mut Feed, marker: &User, status: &str) {
    assert_eq!(marker.set_presence(status, None).await, status);
    assert_next(feed, &marker.id, status).await;
}

#[engine_test]
async fn user_is_online_while_connected_and_during_grace(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let offline = json!({ "status": "OFFLINE", "lastSeenAt": null, "currentChatId": null });
    assert_eq!(alice.fetch_presence("bob").await, offline, "requests over HTTP do not count as connections");
    let carol_socket = carol.socket().await;
    let mut feed = alice.presence_feed(&["bob", "alice", "bob", "carol"]).await;
    let initial = [feed.next().await, feed.next().await, feed.next().await];
    for (user, status) in [("bob", "OFFLINE"), ("alice", "ONLINE"), ("carol", "ONLINE")] {
        let event = json!({ "user": { "id": user }, "status": status, "lastSeenAt": null, "currentChatId": null });
        assert!(initial.contains(&event), "{initial:?}");
    }

    let (first, second) = (bob.socket().await, bob.socket().await);
    assert_next(&mut feed, "bob", "ONLINE").await;
    // Bob stays online with one of two connections: the tick that ends Carol's grace period changes nothing about him.
    close(first).await;
    disconnect(app, &carol, carol_socket).await;
    app.advance(10);
    assert_next(&mut feed, "carol", "OFFLINE").await;
    let carol_socket = carol.socket().await;
    assert_next(&mut feed, "carol", "ONLINE").await;
    // The reload of a page is not visible.
    disconnect(app, &bob, second).await;
    app.advance(3);
    let reconnected = bob.socket().await;
    disconnect(app, &carol, carol_socket).await;
    app.advance(10);
    assert_next(&mut feed, "carol", "OFFLINE").await;
    let before = app.app.clock.now();
    disconnect(app, &bob, reconnected).await;
    app.advance(BEYOND_GRACE_SECONDS);
    let event = feed.next().await;
    assert_eq!((&event["user"]["id"], &event["status"]), (&json!("bob"), &json!("OFFLINE")));
    let last_seen = event["lastSeenAt"].as_str().expect("a time");
    let last_seen = chrono::DateTime::parse_from_rfc3339(last_seen).expect("a time").to_utc();
    assert!((last_seen - before).num_seconds().abs() <= 2, "the end of the connection, not of the grace period");
    assert_eq!(alice.fetch_presence("bob").await["lastSeenAt"], event["lastSeenAt"]);
}

#[engine_test]
async fn last_seen_survives_server_restart(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let socket = bob.socket().await;
    disconnect(app, &bob, socket).await;
    app.advance(BEYOND_GRACE_SECONDS);
    let offline = alice.wait_for_status("bob", "OFFLINE").await;
    assert_ne!(offline["lastSeenAt"], json!(null));
    // From here on, the presence comes from the row, as it does after a restart.
    wait_until_last_seen_is_written(app, 1).await;
    app.advance(600);
    wait_until_last_seen_is_forgotten(app, "bob").await;
    assert_eq!(alice.fetch_presence("bob").await, offline);
    let users = alice.ask("{ users { nodes { id presence { lastSeenAt } } } }").await;
    assert_eq!(users.at("users.nodes.1.presence.lastSeenAt"), &offline["lastSeenAt"]);
    let own = bob.ask("{ viewer { user { presence { status lastSeenAt user { id } } } } }").await;
    assert_eq!(own.at("viewer.user.presence.lastSeenAt"), &offline["lastSeenAt"]);
    let mut feed = alice.presence_feed(&["bob"]).await;
    assert_eq!(feed.next().await["lastSeenAt"], offline["lastSeenAt"]);
}

/// Waits until the database has the time when this number of users was last seen.
async fn wait_until_last_seen_is_written(app: &TestApp, users: i64) {
    let query = "SELECT count(*) FROM users WHERE last_seen_at IS NOT NULL";
    let is_written = async || app.database.query_number(query).await == users;
    wait_until("the database has the times when users were last seen", is_written).await;
}

/// Waits until the server no longer has in memory when an offline user was last seen.
async fn wait_until_last_seen_is_forgotten(app: &TestApp, id: &str) {
    let is_forgotten = async || remembered_presence(app, id).last_seen_at.is_none();
    wait_until("the server forgets the user", is_forgotten).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_stop_records_last_seen() {
    let app = TestApp::sqlite(&[]).await;
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let socket = bob.socket().await;
    let database = app.shut_down().await;
    drop(socket);
    let app = TestApp::start(database, &[]).await;
    let presence = alice.at(app.addr).fetch_presence("bob").await;
    assert_eq!(presence["status"], "OFFLINE");
    assert_ne!(presence["lastSeenAt"], json!(null));
    app.stop().await;
}

#[engine_test]
async fn manual_status_survives_reconnect(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let carol_socket = carol.socket().await;
    let mut feed = alice.presence_feed(&["bob", "carol"]).await;
    let initial = BTreeMap::from([status_by_user(&feed.next().await), status_by_user(&feed.next().await)]);
    assert_eq!(initial, BTreeMap::from([("bob", "OFFLINE"), ("carol", "ONLINE")].map(owned)));
    // A status that is set without a connection is kept, and not visible yet.
    assert_eq!(bob.set_presence("BUSY", None).await, "OFFLINE");
    assert_silent_until(&mut feed, &carol, "AWAY").await;
    let socket = bob.socket().await;
    assert_next(&mut feed, "bob", "BUSY").await;
    assert_eq!(bob.set_presence("AWAY", None).await, "AWAY");
    assert_next(&mut feed, "bob", "AWAY").await;
    assert_silent_until(&mut feed, &carol, "ONLINE").await;
    disconnect(app, &bob, socket).await;
    disconnect(app, &carol, carol_socket).await;
    app.advance(BEYOND_GRACE_SECONDS);
    assert_next(&mut feed, "bob", "OFFLINE").await;
    assert_next(&mut feed, "carol", "OFFLINE").await;
    app.advance(23 * 3600);
    // A tick has passed since: Carol, who has no manual status, is remembered for a minute only.
    wait_until_last_seen_is_forgotten(app, "carol").await;
    let (bob, carol) = (bob.with_fresh_token(app), carol.with_fresh_token(app));
    let _carol_socket = carol.socket().await;
    assert_next(&mut feed, "carol", "ONLINE").await;
    let socket = bob.socket().await;
    assert_next(&mut feed, "bob", "AWAY").await;
    assert_eq!(bob.set_presence("ONLINE", None).await, "ONLINE");
    assert_next(&mut feed, "bob", "ONLINE").await;
    bob.set_presence("ONLINE", None).await;
    assert_silent_until(&mut feed, &carol, "BUSY").await;
    bob.set_presence("BUSY", None).await;
    assert_next(&mut feed, "bob", "BUSY").await;
    disconnect(app, &bob, socket).await;
    app.advance(BEYOND_GRACE_SECONDS);
    assert_next(&mut feed, "bob", "OFFLINE").await;
}

/// Returns the user of a presence event, and the user's status.
fn status_by_user(event: &Value) -> (String, String) {
    let user = event["user"]["id"].as_str().expect("an id");
    owned((user, event["status"].as_str().expect("a status")))
}

fn owned((user, status): (&str, &str)) -> (String, String) {
    (user.to_owned(), status.to_owned())
}

#[engine_test]
async fn manual_status_expires_after_a_day(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    bob.set_presence("BUSY", None).await;
    app.advance(25 * 3600);
    wait_until("the server forgets the status", async || local_update(app, "bob").is_none()).await;
    let (alice, bob) = (alice.with_fresh_token(app), bob.with_fresh_token(app));
    let _socket = bob.socket().await;
    alice.wait_for_status("bob", "ONLINE").await;
}

#[engine_test]
async fn invisible_user_appears_offline_to_others(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let mut feed = alice.presence_feed(&["bob", "carol"]).await;
    for _ in 0..2 {
        feed.next().await;
    }
    let socket = bob.socket().await;
    assert_next(&mut feed, "bob", "ONLINE").await;
    let carol_socket = carol.socket().await;
    assert_next(&mut feed, "carol", "ONLINE").await;
    assert_eq!(bob.set_presence("OFFLINE", Some(&chat)).await, "OFFLINE");
    let hidden = feed.next().await;
    assert_eq!((&hidden["status"], &hidden["currentChatId"]), (&json!("OFFLINE"), &json!(null)));
    assert_ne!(hidden["lastSeenAt"], json!(null));
    // Neither new connections of an invisible user are visible nor the end of the grace period.
    app.advance(60);
    bob.set_presence("OFFLINE", None).await;
    let other = bob.socket().await;
    disconnect(app, &bob, (socket, other)).await;
    disconnect(app, &carol, carol_socket).await;
    app.advance(BEYOND_GRACE_SECONDS);
    assert_next(&mut feed, "carol", "OFFLINE").await;
    let socket = bob.socket().await;
    let _carol_socket = carol.socket().await;
    assert_next(&mut feed, "carol", "ONLINE").await;
    assert_eq!(alice.fetch_presence("bob").await["lastSeenAt"], hidden["lastSeenAt"]);
    assert_eq!(bob.set_presence("ONLINE", None).await, "ONLINE");
    let visible = feed.next().await;
    assert_eq!((&visible["status"], &visible["lastSeenAt"]), (&json!("ONLINE"), &json!(null)));
    drop(socket);
}

#[engine_test]
async fn current_chat_is_visible_to_its_members_only(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let news = carol.chat("CHANNEL", "News", &[]).await;
    let hidden = carol.group("Secret", &[]).await;
    let mut feeds = [alice.presence_feed(&["bob"]).await, carol.presence_feed(&["bob"]).await];
    for feed in &mut feeds {
        feed.next().await;
    }
    // The current chat of a user without a connection is not kept.
    bob.set_presence("ONLINE", Some(&chat)).await;
    let socket = bob.socket().await;
    let [alice_feed, carol_feed] = &mut feeds;
    assert_eq!(alice_feed.next().await["currentChatId"], json!(null));
    carol_feed.next().await;
    bob.set_presence("ONLINE", Some(&chat)).await;
    assert_eq!(alice_feed.next().await["currentChatId"], json!(chat));
    assert_eq!(carol_feed.next().await["currentChatId"], json!(null));
    assert_eq!(bob.fetch_presence("bob").await["currentChatId"], json!(chat));
    assert_eq!(carol.fetch_presence("bob").await["currentChatId"], json!(null));
    for (id, code) in [(hidden.as_str(), "NOT_FOUND"), ("chat_x", "NOT_FOUND"), (&news, "FORBIDDEN")] {
        let input = json!({ "status": "ONLINE", "currentChatId": id });
        bob.mutate("setPresence", input).await.assert_error(code);
    }
    bob.set_presence("BUSY", None).await;
    assert_eq!(alice_feed.next().await["currentChatId"], json!(null));
    bob.set_presence("BUSY", Some(&chat)).await;
    assert_eq!(alice_feed.next().await["currentChatId"], json!(chat));
    // The current chat is cleared when the user is removed from it, and at the end of the grace period.
    alice.mutate_ok("removeMember", json!({ "chatId": chat, "userId": "bob" })).await;
    assert_eq!(alice_feed.next().await["currentChatId"], json!(null));
    alice.add_member(&chat, "bob", "MEMBER").await;
    bob.set_presence("BUSY", Some(&chat)).await;
    assert_eq!(alice_feed.next().await["currentChatId"], json!(chat));
    disconnect(app, &bob, socket).await;
    app.advance(BEYOND_GRACE_SECONDS);
    assert_eq!(alice_feed.next().await["status"], "OFFLINE");
    let _socket = bob.socket().await;
    let reconnected = alice_feed.next().await;
    assert_eq!((&reconnected["status"], &reconnected["currentChatId"]), (&json!("BUSY"), &json!(null)));
}

#[engine_test]
async fn presence_subscription_takes_at_most_200_users_of_organization(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let mallory = app.user_in("other", "mallory", None).await;
    // The marker for feeds of the other organization.
    let other_carol = app.user_in("other", "carol", None).await;
    let ids: Vec<String> = (0..201).map(|number| format!("u{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    for ids in [&ids[..], &[]] {
        let mut socket = alice.socket().await;
        socket.subscribe("1", PRESENCE_FEED, json!({ "ids": ids })).await;
        let message = socket.recv().await;
        let error = &message["payload"]["errors"][0]["extensions"];
        assert_eq!(error, &json!({ "code": "BAD_USER_INPUT", "field": "userIds" }), "{message}");
    }
    let _markers = (carol.socket().await, other_carol.socket().await);
    // Repeated ids count once, and unknown users have no events.
    let ids: Vec<&str> = ids[..198].iter().copied().chain(["carol", "bob", "bob", "bob"]).collect();
    let mut feed = alice.presence_feed(&ids).await;
    let initial = BTreeMap::from([status_by_user(&feed.next().await), status_by_user(&feed.next().await)]);
    assert_eq!(initial, BTreeMap::from([("bob", "OFFLINE"), ("carol", "ONLINE")].map(owned)));
    assert_silent_until(&mut feed, &carol, "AWAY").await;
    let mut mallory_feed = alice.presence_feed(&["mallory", "carol"]).await;
    assert_next(&mut mallory_feed, "carol", "AWAY").await;
    let mut other_bob_feed = mallory.presence_feed(&["bob", "carol"]).await;
    assert_next(&mut other_bob_feed, "carol", "ONLINE").await;
    // Users with the same id in two organizations are different users.
    let other_bob = app.user_in("other", "bob", None).await;
    let (_first, _second) = (mallory.socket().await, other_bob.socket().await);
    assert_eq!(carol.set_presence("BUSY", None).await, "BUSY");
    assert_next(&mut mallory_feed, "carol", "BUSY").await;
    assert_next(&mut feed, "carol", "BUSY").await;
    assert_silent_until(&mut other_bob_feed, &other_carol, "BUSY").await;
    let _socket = bob.socket().await;
    assert_next(&mut feed, "bob", "ONLINE").await;
    assert_silent_until(&mut other_bob_feed, &other_carol, "AWAY").await;
    let powerless = app.user_in("demo", "powerless", Some(&[])).await;
    assert_eq!(powerless.presence_feed(&["bob"]).await.error_code().await, "FORBIDDEN");
    powerless.mutate("setPresence", json!({ "status": "BUSY" })).await.assert_error("FORBIDDEN");
}

#[engine_test(settings = [("PARLOR_PRESENCE_GRACE_SECONDS", "0")])]
async fn simultaneous_disconnects_are_all_delivered(app: &TestApp) {
    let alice = app.user("alice").await;
    let mut users = Vec::new();
    for number in 0..20 {
        users.push(app.user(&format!("u{number:02}")).await);
    }
    let ids: Vec<&str> = users.iter().map(|user| user.id.as_str()).collect();
    let mut feed = alice.presence_feed(&ids).await;
    let mut statuses = BTreeMap::new();
    let mut sockets = Vec::new();
    for user in &users {
        sockets.push(user.socket().await);
    }
    while statuses.values().filter(|status| **status == "ONLINE").count() < 20 {
        let (user, status) = status_by_user(&feed.next().await);
        statuses.insert(user, status);
    }
    drop(sockets);
    while statuses.values().any(|status| *status == "ONLINE") {
        let (user, status) = status_by_user(&feed.next().await);
        statuses.insert(user, status);
    }
    let nodes = alice.ask("{ users { nodes { presence { status lastSeenAt } } } }").await;
    let presence = pluck(nodes.at("users.nodes"), "presence");
    assert!(presence[1..].iter().all(|presence| presence["lastSeenAt"].is_string()), "{presence:?}");
}

#[engine_test]
async fn simultaneous_disconnects_are_written_in_one_batch(app: &TestApp) {
    let alice = app.user("alice").await;
    app.database
        .execute(
            "INSERT INTO users (organization_id, id, name, name_folded, created_at)
                 WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
                 SELECT 'demo', 'u' || i, 'U', 'u', (SELECT min(created_at) FROM users) FROM n",
        )
        .await;
    let organization = "demo".parse().expect("an id");
    let connect = |number| {
        let user = format!("u{number}").parse().expect("an id");
        app.app.presence.connect(&organization, &user)
    };
    let connections: Vec<_> = (1..=5000).map(connect).collect();
    assert_eq!(alice.fetch_presence("u5000").await["status"], "ONLINE");
    drop(connections);
    app.advance(BEYOND_GRACE_SECONDS);
    let started_at = Instant::now();
    alice.wait_for_status("u5000", "OFFLINE").await;
    // From here on, the presence comes from the rows.
    wait_until_last_seen_is_written(app, 5000).await;
    app.advance(120);
    wait_until_last_seen_is_forgotten(app, "u5000").await;
    assert!(started_at.elapsed() < Duration::from_secs(15), "{:?}", started_at.elapsed());
    for id in ["u1", "u2500", "u5000"] {
        assert_ne!(alice.fetch_presence(id).await["lastSeenAt"], json!(null), "{id}");
    }
}
