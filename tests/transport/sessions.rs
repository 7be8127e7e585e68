//! Sessions: renewal on connections that outlive their token, and revocation.

use serde_json::{Value, json};
use testkit::keys::sign_with_secret;
use testkit::{Engine, Socket, TestApp, User, engine_test};

use crate::transport::websocket::{FEED, close_after, init};

/// Tokens expire at exactly their `exp`.
const NO_LEEWAY: [(&str, &str); 1] = [("PARLOR_JWT_LEEWAY_SECONDS", "0")];

const RENEW: &str = "mutation($token: String!) { renewSession(input: { token: $token }) { expiresAt } }";

/// Returns a token of Alice's that expires in this many seconds, with some claims replaced.
fn token(app: &TestApp, seconds: i64, replaced_claims: Value) -> String {
    let now = app.app.clock.now().timestamp();
    let mut claims = json!({ "sub": "alice", "org": "demo", "name": "Alice", "iat": now, "exp": now + seconds });
    for (name, value) in replaced_claims.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    sign_with_secret(claims)
}

/// Runs one operation on a socket, which may have others, and returns its result.
async fn ask(socket: &mut Socket, id: &str, query: &str, variables: Value) -> Value {
    socket.subscribe(id, query, variables).await;
    let mut result = Value::Null;
    loop {
        let message = socket.recv().await;
        if message["id"] == id {
            match message["type"].as_str() {
                Some("complete") => return result,
                Some("error") => return json!({ "errors": message["payload"] }),
                _ => result = message["payload"].clone(),
            }
        }
    }
}

async fn renew(socket: &mut Socket, token: &str) -> Value {
    ask(socket, "renewal", RENEW, json!({ "token": token })).await
}

#[track_caller]
fn assert_rejected(result: &Value, code: &str, field: Option<&str>) {
    let extensions = &result["errors"][0]["extensions"];
    assert_eq!((extensions["code"].as_str(), extensions["field"].as_str()), (Some(code), field), "{result}");
}

/// Asserts that the next message of the feed has this text.
async fn expect_message(socket: &mut Socket, text: &str) {
    loop {
        let message = socket.recv().await;
        if message["payload"]["data"]["chatFeed"]["__typename"] == "MessageUpserted" {
            assert_eq!(message["payload"]["data"]["chatFeed"]["message"]["text"], text, "{message}");
            return;
        }
    }
}

#[engine_test(settings = NO_LEEWAY)]
async fn renewed_session_lasts_until_fresh_token_expires(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = bob.group("Long", &[&alice]).await;
    let mut socket = Socket::connect(app.addr).await;
    socket.init(&token(app, 600, json!({}))).await;
    socket.subscribe("feed", FEED, json!({ "chat": chat })).await;
    assert_eq!(socket.recv().await["payload"]["data"]["chatFeed"]["__typename"], "FeedCaughtUp");
    app.advance(300);
    let renewed = token(app, 3_000, json!({ "permissions": ["chat.view"] }));
    let expected_expiry = app.time_in(3_000);
    let result = renew(&mut socket, &renewed).await;
    let expires_at = result["data"]["renewSession"]["expiresAt"].as_str().expect("a time");
    assert_eq!(expires_at[..19], expected_expiry[..19], "equal seconds");
    // The time passes the expiry of the first token, and stops before that of the second.
    for _ in 0..2 {
        app.advance(1_000);
        bob.with_fresh_token(app).send(&chat, "still connected").await;
        expect_message(&mut socket, "still connected").await;
    }
    // The permissions are those of the renewed token, which has fewer.
    let create = "mutation { createChat(input: { kind: GROUP, title: \"Mine\", memberIds: [] }) { chat { id } } }";
    assert_rejected(&ask(&mut socket, "create", create, json!({})).await, "FORBIDDEN", None);
    app.advance(1_001);
    assert_eq!(socket.expect_close().await.0, 4403);
}

#[engine_test(settings = NO_LEEWAY)]
async fn session_renewal_needs_valid_token_of_same_user(app: &TestApp) {
    let mut socket = Socket::connect(app.addr).await;
    socket.init(&token(app, 600, json!({}))).await;
    for (invalid_token, code, field) in [
        (token(app, 3_000, json!({ "sub": "bob" })), "FORBIDDEN", None),
        (token(app, 3_000, json!({ "org": "other" })), "FORBIDDEN", None),
        (token(app, 3_000, json!({ "permissions": [] })), "FORBIDDEN", None),
        (token(app, -1, json!({})), "BAD_USER_INPUT", Some("token")),
        (token(app, 3_000, json!({})) + "x", "BAD_USER_INPUT", Some("token")),
        (format!("Bearer {}", token(app, 3_000, json!({}))), "BAD_USER_INPUT", Some("token")),
        ("nonsense".into(), "BAD_USER_INPUT", Some("token")),
        (String::new(), "BAD_USER_INPUT", Some("token")),
    ] {
        assert_rejected(&renew(&mut socket, &invalid_token).await, code, field);
    }
    let alice = User::new(app.addr, "alice", token(app, 600, json!({})));
    let renewed = token(app, 3_000, json!({}));
    alice.ask_with(RENEW, json!({ "token": renewed })).await.assert_bad_input("token");
    // None of these attempts changed the expiry of the session.
    app.advance(601);
    assert_eq!(socket.expect_close().await.0, 4403);
    assert_eq!(alice.ask("{ viewer { user { id } } }").await.status, 401);
}

/// Asserts that a socket executes operations.
async fn assert_open(socket: &mut Socket, id: &str) {
    let result = ask(socket, id, "{ viewer { user { id } } }", json!({})).await;
    assert!(result["data"]["viewer"]["user"]["id"].is_string(), "{result}");
}

const ADMIN: [&str; 2] = ["chat.view", "organization.admin"];

#[engine_test(settings = NO_LEEWAY)]
async fn revocation_ends_only_sessions_of_its_user(app: &TestApp) {
    let admin = app.user_in("demo", "admin", Some(&ADMIN)).await;
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let namesake = app.user_in("other", "alice", None).await;
    let chat = bob.group("Long", &[&alice]).await;
    let mut feed = alice.feed(&chat, None, None).await;
    feed.expect("FeedCaughtUp").await;
    let (mut alice_socket, mut bob_socket, mut namesake_socket) =
        (alice.socket().await, bob.socket().await, namesake.socket().await);

    for user in [&alice, &bob] {
        user.mutate("revokeSessions", json!({ "userId": "alice" })).await.assert_error("FORBIDDEN");
    }
    let foreign_admin = app.user_in("other", "admin", Some(&ADMIN)).await;
    foreign_admin.mutate_ok("revokeSessions", json!({ "userId": "bob" })).await;
    assert_open(&mut alice_socket, "before").await;
    assert_open(&mut bob_socket, "before").await;

    let now = app.time_in(0);
    let revoked = admin.mutate_returning("revokeSessions", json!({ "userId": "alice" }), "userId revokedBefore").await;
    assert_eq!(revoked.at("revokeSessions.userId"), "alice");
    assert!(revoked.text("revokeSessions.revokedBefore")[..19] >= now[..19]);
    assert_eq!(feed.socket.expect_close().await.0, 4403);
    assert_eq!(alice_socket.expect_close().await.0, 4403);
    let reply = alice.ask("{ viewer { user { id } } }").await;
    reply.assert_error("UNAUTHENTICATED");
    assert_eq!(reply.status, 401);
    let init = testkit::tungstenite::Message::text(init(&alice.token).to_string());
    assert_eq!(close_after(app, &[init]).await.0, 4401);
    assert_open(&mut bob_socket, "after").await;
    assert_open(&mut namesake_socket, "after").await;
    namesake.ask("{ viewer { user { id } } }").await.data();
    // A token without a valid time of issue may be older than the revocation.
    for issued_at in [json!(null), json!("tomorrow"), json!([4_000_000_000_u64])] {
        let user = User::new(app.addr, "alice", token(app, 600, json!({ "iat": issued_at })));
        user.ask("{ viewer { user { id } } }").await.assert_error("UNAUTHENTICATED");
    }

    app.advance(1);
    let alice = alice.with_fresh_token(app);
    alice.ask("{ viewer { user { id } } }").await.data();
    assert_open(&mut alice.socket().await, "with a new token").await;
    // A revoked token renews no session.
    let mut socket = alice.socket().await;
    let revoked_token = token(app, 600, json!({ "iat": app.app.clock.now().timestamp() - 60 }));
    assert_rejected(&renew(&mut socket, &revoked_token).await, "BAD_USER_INPUT", Some("token"));
    assert_open(&mut socket, "after rejection").await;
}

#[engine_test(settings = NO_LEEWAY)]
async fn unknown_user_can_be_revoked(app: &TestApp) {
    let admin = app.user_in("demo", "admin", Some(&ADMIN)).await;
    let revoked_token = token(app, 600, json!({ "sub": "ghost" }));
    admin.mutate_ok("revokeSessions", json!({ "userId": "ghost" })).await;
    User::new(app.addr, "ghost", revoked_token).ask("{ viewer { user { id } } }").await.assert_error("UNAUTHENTICATED");
    app.advance(1);
    let ghost = User::new(app.addr, "ghost", token(app, 600, json!({ "sub": "ghost", "name": "Ghost" })));
    assert_eq!(ghost.ask("{ viewer { user { name } } }").await.at("viewer.user.name"), "Ghost");
    // A second revocation affects a known user, whose row has changed since the first one.
    admin.with_fresh_token(app).mutate("revokeSessions", json!({ "userId": "ghost" })).await.assert_error("FORBIDDEN");
    admin.mutate_ok("revokeSessions", json!({ "userId": "ghost" })).await;
    ghost.ask("{ viewer { user { id } } }").await.assert_error("UNAUTHENTICATED");
}

#[engine_test]
async fn revocation_survives_server_restart(engine: Engine) {
    let app = TestApp::start(testkit::Database::create(engine).await, &NO_LEEWAY).await;
    let admin = app.user_in("demo", "admin", Some(&ADMIN)).await;
    let alice = app.user("alice").await;
    admin.mutate_ok("revokeSessions", json!({ "userId": "alice" })).await;
    let database = app.shut_down().await;
    let app = TestApp::start(database, &NO_LEEWAY).await;
    alice.at(app.addr).ask("{ viewer { user { id } } }").await.assert_error("UNAUTHENTICATED");
    admin.at(app.addr).ask("{ viewer { user { id } } }").await.data();
    app.stop().await;
}
