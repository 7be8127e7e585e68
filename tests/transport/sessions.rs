//! Connections that outlive their token, and tokens that are revoked.

use serde_json::{Value, json};
use testkit::keys::sign_with_secret;
use testkit::{Engine, Socket, TestApp, User, engine_test};

use crate::transport::websocket::{FEED, closed_after, init};

const EXACT: [(&str, &str); 1] = [("PARLOR_JWT_LEEWAY_SECONDS", "0")];

const RENEW: &str = "mutation($token: String!) { renewSession(input: { token: $token }) { expiresAt } }";

/// A token of Alice's that ends in so many seconds, with what is different.
fn token(app: &TestApp, seconds: i64, different: Value) -> String {
    let now = app.app.clock.now().timestamp();
    let mut claims = json!({ "sub": "alice", "org": "demo", "name": "Alice", "iat": now, "exp": now + seconds });
    for (name, value) in different.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    sign_with_secret(claims)
}

/// The answer to one operation on a socket that may have others.
async fn ask(socket: &mut Socket, id: &str, query: &str, variables: Value) -> Value {
    socket.subscribe(id, query, variables).await;
    let mut answer = Value::Null;
    loop {
        let message = socket.recv().await;
        if message["id"] == id {
            match message["type"].as_str() {
                Some("complete") => return answer,
                Some("error") => return json!({ "errors": message["payload"] }),
                _ => answer = message["payload"].clone(),
            }
        }
    }
}

async fn renew(socket: &mut Socket, token: &str) -> Value {
    ask(socket, "renewal", RENEW, json!({ "token": token })).await
}

#[track_caller]
fn refused(answer: &Value, code: &str, field: Option<&str>) {
    let extensions = &answer["errors"][0]["extensions"];
    assert_eq!((extensions["code"].as_str(), extensions["field"].as_str()), (Some(code), field), "{answer}");
}

/// The next event of the feed, which is a message with this text.
async fn tells(socket: &mut Socket, text: &str) {
    loop {
        let message = socket.recv().await;
        if message["payload"]["data"]["chatFeed"]["__typename"] == "MessageUpserted" {
            assert_eq!(message["payload"]["data"]["chatFeed"]["message"]["text"], text, "{message}");
            return;
        }
    }
}

#[engine_test(settings = EXACT)]
async fn renewed_session_lasts_until_fresh_token_expires(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = bob.group("Long", &[&alice]).await;
    let mut socket = Socket::connect(app.addr).await;
    socket.init(&token(app, 600, json!({}))).await;
    socket.subscribe("feed", FEED, json!({ "chat": chat })).await;
    assert_eq!(socket.recv().await["payload"]["data"]["chatFeed"]["__typename"], "FeedCaughtUp");
    app.advance(300);
    let fresh = token(app, 3_000, json!({ "permissions": ["chat.view"] }));
    let until = app.time_in(3_000);
    let answer = renew(&mut socket, &fresh).await;
    let told = answer["data"]["renewSession"]["expiresAt"].as_str().expect("a moment");
    assert_eq!(told[..19], until[..19], "to the second");
    // Past the end of the first token, and up to a moment before that of the second.
    for _ in 0..2 {
        app.advance(1_000);
        bob.with_fresh_token(app).send(&chat, "still there").await;
        tells(&mut socket, "still there").await;
    }
    // By the newest token, which allows less.
    let make = "mutation { createChat(input: { kind: GROUP, title: \"Mine\", memberIds: [] }) { chat { id } } }";
    refused(&ask(&mut socket, "make", make, json!({})).await, "FORBIDDEN", None);
    app.advance(1_001);
    assert_eq!(socket.expect_close().await.0, 4403);
}

#[engine_test(settings = EXACT)]
async fn session_renewal_needs_valid_token_of_same_user(app: &TestApp) {
    let mut socket = Socket::connect(app.addr).await;
    socket.init(&token(app, 600, json!({}))).await;
    for (wrong, code, field) in [
        (token(app, 3_000, json!({ "sub": "bob" })), "FORBIDDEN", None),
        (token(app, 3_000, json!({ "org": "elsewhere" })), "FORBIDDEN", None),
        (token(app, 3_000, json!({ "permissions": [] })), "FORBIDDEN", None),
        (token(app, -1, json!({})), "BAD_USER_INPUT", Some("token")),
        (token(app, 3_000, json!({})) + "x", "BAD_USER_INPUT", Some("token")),
        (format!("Bearer {}", token(app, 3_000, json!({}))), "BAD_USER_INPUT", Some("token")),
        ("nonsense".into(), "BAD_USER_INPUT", Some("token")),
        (String::new(), "BAD_USER_INPUT", Some("token")),
    ] {
        refused(&renew(&mut socket, &wrong).await, code, field);
    }
    let alice = User::new(app.addr, "alice", token(app, 600, json!({})));
    let fresh = token(app, 3_000, json!({}));
    alice.ask_with(RENEW, json!({ "token": fresh })).await.assert_bad_input("token");
    // Nothing of that moved its end.
    app.advance(601);
    assert_eq!(socket.expect_close().await.0, 4403);
    assert_eq!(alice.ask("{ viewer { user { id } } }").await.status, 401);
}

/// An operation of the viewer's own, on a socket.
async fn lives(socket: &mut Socket, id: &str) {
    let answer = ask(socket, id, "{ viewer { user { id } } }", json!({})).await;
    assert!(answer["data"]["viewer"]["user"]["id"].is_string(), "{answer}");
}

const ADMIN: [&str; 2] = ["chat.view", "organization.admin"];

#[engine_test(settings = EXACT)]
async fn revocation_ends_only_sessions_of_its_user(app: &TestApp) {
    let admin = app.user_in("demo", "admin", Some(&ADMIN)).await;
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let elsewhere = app.user_in("elsewhere", "alice", None).await;
    let chat = bob.group("Long", &[&alice]).await;
    let mut feed = alice.feed(&chat, None, None).await;
    feed.expect("FeedCaughtUp").await;
    let (mut one, mut others, mut foreign) = (alice.socket().await, bob.socket().await, elsewhere.socket().await);

    for powerless in [&alice, &bob] {
        powerless.mutate("revokeSessions", json!({ "userId": "alice" })).await.assert_error("FORBIDDEN");
    }
    let foreign_admin = app.user_in("elsewhere", "admin", Some(&ADMIN)).await;
    foreign_admin.mutate_ok("revokeSessions", json!({ "userId": "bob" })).await;
    lives(&mut one, "before").await;
    lives(&mut others, "before").await;

    let until = app.time_in(0);
    let revoked = admin.mutate_returning("revokeSessions", json!({ "userId": "alice" }), "userId revokedBefore").await;
    assert_eq!(revoked.at("revokeSessions.userId"), "alice");
    assert!(revoked.text("revokeSessions.revokedBefore")[..19] >= until[..19]);
    assert_eq!(feed.socket.expect_close().await.0, 4403);
    assert_eq!(one.expect_close().await.0, 4403);
    let refused = alice.ask("{ viewer { user { id } } }").await;
    refused.assert_error("UNAUTHENTICATED");
    assert_eq!(refused.status, 401);
    let init = testkit::tungstenite::Message::text(init(&alice.token).to_string());
    assert_eq!(closed_after(app, &[init]).await.0, 4401);
    lives(&mut others, "after").await;
    lives(&mut foreign, "after").await;
    elsewhere.ask("{ viewer { user { id } } }").await.data();
    // One that doesn't say when it was made may be of before.
    for undated in [json!(null), json!("tomorrow"), json!([4_000_000_000_u64])] {
        let undated = User::new(app.addr, "alice", token(app, 600, json!({ "iat": undated })));
        undated.ask("{ viewer { user { id } } }").await.assert_error("UNAUTHENTICATED");
    }

    app.advance(1);
    let alice = alice.with_fresh_token(app);
    alice.ask("{ viewer { user { id } } }").await.data();
    lives(&mut alice.socket().await, "anew").await;
    // A revoked token renews nothing either.
    let mut socket = alice.socket().await;
    let old = token(app, 600, json!({ "iat": app.app.clock.now().timestamp() - 60 }));
    self::refused(&renew(&mut socket, &old).await, "BAD_USER_INPUT", Some("token"));
    lives(&mut socket, "still").await;
}

#[engine_test(settings = EXACT)]
async fn unknown_user_can_be_revoked(app: &TestApp) {
    let admin = app.user_in("demo", "admin", Some(&ADMIN)).await;
    let early = token(app, 600, json!({ "sub": "ghost" }));
    admin.mutate_ok("revokeSessions", json!({ "userId": "ghost" })).await;
    User::new(app.addr, "ghost", early).ask("{ viewer { user { id } } }").await.assert_error("UNAUTHENTICATED");
    app.advance(1);
    let late = User::new(app.addr, "ghost", token(app, 600, json!({ "sub": "ghost", "name": "Ghost" })));
    assert_eq!(late.ask("{ viewer { user { name } } }").await.at("viewer.user.name"), "Ghost");
    // Another revocation, of one who is known and whose row was changed since.
    admin.with_fresh_token(app).mutate("revokeSessions", json!({ "userId": "ghost" })).await.assert_error("FORBIDDEN");
    admin.mutate_ok("revokeSessions", json!({ "userId": "ghost" })).await;
    late.ask("{ viewer { user { id } } }").await.assert_error("UNAUTHENTICATED");
}

#[engine_test]
async fn revocation_survives_server_restart(engine: Engine) {
    let app = TestApp::start(testkit::Database::create(engine).await, &EXACT).await;
    let admin = app.user_in("demo", "admin", Some(&ADMIN)).await;
    let alice = app.user("alice").await;
    admin.mutate_ok("revokeSessions", json!({ "userId": "alice" })).await;
    let database = app.shut_down().await;
    let app = TestApp::start(database, &EXACT).await;
    alice.at(app.addr).ask("{ viewer { user { id } } }").await.assert_error("UNAUTHENTICATED");
    admin.at(app.addr).ask("{ viewer { user { id } } }").await.data();
    app.stop().await;
}
