//! Who is there: told to those who ask, after a grace, and as people want to be seen.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use testkit::presence::PRESENCE_FEED;
use testkit::{TestApp, engine_test, pluck};
use tokio::time::sleep;

/// How the server itself knows a person.
fn known(app: &TestApp, id: &str) -> parlor::realtime::presence::snapshot::PresenceSnapshot {
    app.app.presence.snapshot_of(&parlor::domain::users::User {
        organization: "demo".parse().expect("an id"),
        id: id.parse().expect("an id"),
        name: String::new(),
        avatar_url: None,
        last_seen_at: None,
    })
}

/// A moment, once the server has noticed that somebody's connections are gone, and the grace is over.
async fn after_grace(app: &TestApp) {
    sleep(Duration::from_millis(500)).await;
    app.advance(6);
}

#[engine_test]
async fn user_is_online_while_connected_and_during_grace(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let never = json!({ "status": "OFFLINE", "lastSeenAt": null, "currentChatId": null });
    assert_eq!(alice.fetch_presence("bob").await, never, "by HTTP nobody is there");
    let mut feed = alice.presence_feed(&["bob", "alice", "bob"]).await;
    let first = [feed.next().await, feed.next().await];
    let offline = json!({ "user": { "id": "bob" }, "status": "OFFLINE", "lastSeenAt": null, "currentChatId": null });
    assert!(first.contains(&offline), "{first:?}");
    let online = json!({ "user": { "id": "alice" }, "status": "ONLINE", "lastSeenAt": null, "currentChatId": null });
    assert!(first.contains(&online), "{first:?}");

    let (one, other) = (bob.socket().await, bob.socket().await);
    assert_eq!(feed.next_status().await, "ONLINE");
    drop(one);
    sleep(Duration::from_millis(300)).await;
    app.advance(10);
    feed.assert_no_event().await;
    // A reload is seen by nobody.
    drop(other);
    sleep(Duration::from_millis(300)).await;
    app.advance(3);
    let again = bob.socket().await;
    app.advance(10);
    feed.assert_no_event().await;
    let before = app.app.clock.now();
    drop(again);
    after_grace(app).await;
    let gone = feed.next().await;
    assert_eq!((&gone["user"]["id"], &gone["status"]), (&json!("bob"), &json!("OFFLINE")));
    let seen = chrono::DateTime::parse_from_rfc3339(gone["lastSeenAt"].as_str().expect("a moment")).expect("a moment");
    assert!((seen.to_utc() - before).num_seconds().abs() <= 2, "the connection's end, not that of the grace");
    assert_eq!(alice.fetch_presence("bob").await["lastSeenAt"], gone["lastSeenAt"]);
}

#[engine_test]
async fn last_seen_survives_server_restart(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    drop(bob.socket().await);
    after_grace(app).await;
    let gone = alice.wait_for_status("bob", "OFFLINE").await;
    // What is remembered for a while isn't what is shown from then on.
    sleep(Duration::from_millis(600)).await;
    app.advance(600);
    sleep(Duration::from_millis(600)).await;
    assert_ne!(gone["lastSeenAt"], json!(null));
    assert_eq!(known(app, "bob").last_seen_at, None, "forgotten but for the row");
    assert_eq!(alice.fetch_presence("bob").await, gone);
    let people = alice.ask("{ users { nodes { id presence { lastSeenAt } } } }").await;
    assert_eq!(people.at("users.nodes.1.presence.lastSeenAt"), &gone["lastSeenAt"]);
    let own = bob.ask("{ viewer { user { presence { status lastSeenAt user { id } } } } }").await;
    assert_eq!(own.at("viewer.user.presence.lastSeenAt"), &gone["lastSeenAt"]);
    let mut feed = alice.presence_feed(&["bob"]).await;
    assert_eq!(feed.next().await["lastSeenAt"], gone["lastSeenAt"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn server_stop_records_last_seen() {
    let app = TestApp::sqlite(&[]).await;
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let socket = bob.socket().await;
    let database = app.shut_down().await;
    drop(socket);
    let app = TestApp::start(database, &[]).await;
    let seen = alice.at(app.addr).fetch_presence("bob").await;
    assert_eq!(seen["status"], "OFFLINE");
    assert_ne!(seen["lastSeenAt"], json!(null));
    app.stop().await;
}

#[engine_test]
async fn manual_status_survives_reconnect(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let mut feed = alice.presence_feed(&["bob"]).await;
    assert_eq!(feed.next_status().await, "OFFLINE");
    // Without a connection it is kept, and seen by nobody yet.
    assert_eq!(bob.set_presence("BUSY", None).await, "OFFLINE");
    feed.assert_no_event().await;
    let socket = bob.socket().await;
    assert_eq!(feed.next_status().await, "BUSY");
    assert_eq!(bob.set_presence("AWAY", None).await, "AWAY");
    assert_eq!(feed.next_status().await, "AWAY");
    drop(socket);
    after_grace(app).await;
    assert_eq!(feed.next_status().await, "OFFLINE");
    app.advance(23 * 3600);
    sleep(Duration::from_millis(500)).await;
    let bob = bob.with_fresh_token(app);
    let socket = bob.socket().await;
    assert_eq!(feed.next_status().await, "AWAY");
    assert_eq!(bob.set_presence("ONLINE", None).await, "ONLINE");
    assert_eq!(feed.next_status().await, "ONLINE");
    bob.set_presence("ONLINE", None).await;
    feed.assert_no_event().await;
    bob.set_presence("BUSY", None).await;
    assert_eq!(feed.next_status().await, "BUSY");
    drop(socket);
    after_grace(app).await;
    assert_eq!(feed.next_status().await, "OFFLINE");
}

#[engine_test]
async fn manual_status_expires_after_a_day(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    bob.set_presence("BUSY", None).await;
    app.advance(25 * 3600);
    sleep(Duration::from_millis(500)).await;
    let (alice, bob) = (alice.with_fresh_token(app), bob.with_fresh_token(app));
    let _socket = bob.socket().await;
    alice.wait_for_status("bob", "ONLINE").await;
}

#[engine_test]
async fn invisible_user_appears_offline_to_others(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let mut feed = alice.presence_feed(&["bob"]).await;
    feed.next().await;
    let socket = bob.socket().await;
    assert_eq!(feed.next_status().await, "ONLINE");
    assert_eq!(bob.set_presence("OFFLINE", Some(&chat)).await, "OFFLINE");
    let hidden = feed.next().await;
    assert_eq!((&hidden["status"], &hidden["currentChatId"]), (&json!("OFFLINE"), &json!(null)));
    assert_ne!(hidden["lastSeenAt"], json!(null));
    // Nothing that they do then is told, nor when they go.
    app.advance(60);
    bob.set_presence("OFFLINE", None).await;
    let other = bob.socket().await;
    drop((socket, other));
    after_grace(app).await;
    feed.assert_no_event().await;
    let socket = bob.socket().await;
    feed.assert_no_event().await;
    assert_eq!(alice.fetch_presence("bob").await["lastSeenAt"], hidden["lastSeenAt"]);
    assert_eq!(bob.set_presence("ONLINE", None).await, "ONLINE");
    let back = feed.next().await;
    assert_eq!((&back["status"], &back["lastSeenAt"]), (&json!("ONLINE"), &json!(null)));
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
    // One who isn't there has none before them.
    bob.set_presence("ONLINE", Some(&chat)).await;
    let socket = bob.socket().await;
    let [alices, carols] = &mut feeds;
    assert_eq!(alices.next().await["currentChatId"], json!(null));
    carols.next().await;
    bob.set_presence("ONLINE", Some(&chat)).await;
    assert_eq!(alices.next().await["currentChatId"], json!(chat));
    assert_eq!(carols.next().await["currentChatId"], json!(null));
    assert_eq!(bob.fetch_presence("bob").await["currentChatId"], json!(chat));
    assert_eq!(carol.fetch_presence("bob").await["currentChatId"], json!(null));
    for (id, code) in [(hidden.as_str(), "NOT_FOUND"), ("chat_x", "NOT_FOUND"), (&news, "FORBIDDEN")] {
        let input = json!({ "status": "ONLINE", "currentChatId": id });
        bob.mutate("setPresence", input).await.assert_error(code);
    }
    bob.set_presence("BUSY", None).await;
    assert_eq!(alices.next().await["currentChatId"], json!(null));
    bob.set_presence("BUSY", Some(&chat)).await;
    assert_eq!(alices.next().await["currentChatId"], json!(chat));
    // One who is taken out of it is no longer in it; one who went comes back to none.
    alice.mutate_ok("removeMember", json!({ "chatId": chat, "userId": "bob" })).await;
    assert_eq!(alices.next().await["currentChatId"], json!(null));
    alice.add_member(&chat, "bob", "MEMBER").await;
    bob.set_presence("BUSY", Some(&chat)).await;
    assert_eq!(alices.next().await["currentChatId"], json!(chat));
    drop(socket);
    after_grace(app).await;
    assert_eq!(alices.next().await["status"], "OFFLINE");
    let _socket = bob.socket().await;
    let back = alices.next().await;
    assert_eq!((&back["status"], &back["currentChatId"]), (&json!("BUSY"), &json!(null)));
}

#[engine_test]
async fn presence_subscription_takes_at_most_200_users_of_organization(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let stranger = app.user_in("elsewhere", "mallory", None).await;
    let many: Vec<String> = (0..201).map(|number| format!("u{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for ids in [&many[..], &[]] {
        let mut socket = alice.socket().await;
        socket.subscribe("1", PRESENCE_FEED, json!({ "ids": ids })).await;
        let heard = socket.recv().await;
        let error = &heard["payload"]["errors"][0]["extensions"];
        assert_eq!(error, &json!({ "code": "BAD_USER_INPUT", "field": "userIds" }), "{heard}");
    }
    // Who is named twice counts once, and who isn't known isn't told of.
    let ids: Vec<&str> = many[..199].iter().copied().chain(["bob", "bob", "bob"]).collect();
    let mut feed = alice.presence_feed(&ids).await;
    assert_eq!(feed.next().await["user"]["id"], "bob");
    feed.assert_no_event().await;
    let mut mallorys = alice.presence_feed(&["mallory"]).await;
    let mut bobs = stranger.presence_feed(&["bob"]).await;
    // Those of one name in two organisations are two.
    let namesake = app.user_in("elsewhere", "bob", None).await;
    let (_one, _other) = (stranger.socket().await, namesake.socket().await);
    mallorys.assert_no_event().await;
    bobs.assert_no_event().await;
    feed.assert_no_event().await;
    let _socket = bob.socket().await;
    assert_eq!(feed.next_status().await, "ONLINE");
    bobs.assert_no_event().await;
    let blind = app.user_in("demo", "blind", Some(&[])).await;
    assert_eq!(blind.presence_feed(&["bob"]).await.error_code().await, "FORBIDDEN");
    blind.mutate("setPresence", json!({ "status": "BUSY" })).await.assert_error("FORBIDDEN");
}

#[engine_test(settings = [("PARLOR_PRESENCE_GRACE_SECONDS", "0")])]
async fn simultaneous_disconnects_are_all_delivered(app: &TestApp) {
    let alice = app.user("alice").await;
    let mut people = Vec::new();
    for number in 0..20 {
        people.push(app.user(&format!("u{number:02}")).await);
    }
    let ids: Vec<&str> = people.iter().map(|user| user.id.as_str()).collect();
    let mut feed = alice.presence_feed(&ids).await;
    let mut seen = BTreeMap::new();
    let mut sockets = Vec::new();
    for user in &people {
        sockets.push(user.socket().await);
    }
    while seen.values().filter(|status| **status == "ONLINE").count() < 20 {
        let event = feed.next().await;
        seen.insert(event["user"]["id"].to_string(), event["status"].clone());
    }
    drop(sockets);
    while seen.values().any(|status| *status == "ONLINE") {
        let event = feed.next().await;
        seen.insert(event["user"]["id"].to_string(), event["status"].clone());
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
    let arrive = |number| {
        let user = format!("u{number}").parse().expect("an id");
        app.app.presence.connect(&organization, &user)
    };
    let crowd: Vec<_> = (1..=5000).map(arrive).collect();
    assert_eq!(alice.fetch_presence("u5000").await["status"], "ONLINE");
    drop(crowd);
    app.advance(6);
    let begun = std::time::Instant::now();
    alice.wait_for_status("u5000", "OFFLINE").await;
    // Long enough to be written and forgotten: what is seen then is the row.
    sleep(Duration::from_millis(1500)).await;
    app.advance(120);
    while known(app, "u5000").last_seen_at.is_some() {
        sleep(Duration::from_millis(50)).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    for id in ["u1", "u2500", "u5000"] {
        assert_ne!(alice.fetch_presence(id).await["lastSeenAt"], json!(null), "{id}");
    }
}
