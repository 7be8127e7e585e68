//! Tokens of the host application: their validation, and the users that they identify.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::keys::sign_with_secret;
use testkit::{Database, Engine, Reply, TestApp, User, engine_test};

/// Returns the claims of Alice's token with some of them replaced, or removed by null.
pub fn claims(replaced: Value) -> Value {
    let mut claims = json!({ "sub": "alice", "org": "demo", "name": "Alice", "exp": 4_000_000_000_u64 });
    for (name, value) in replaced.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    claims
}

/// Queries the viewer with a token.
pub async fn fetch_viewer(app: &TestApp, token: String) -> Reply {
    let query = "{ viewer { user { id name avatarUrl } organization { id } permissions } }";
    User::new(app.addr, "any", token).ask(query).await
}

/// Asserts that a token is accepted, and returns the viewer.
pub async fn assert_accepted(app: &TestApp, token: String) -> Value {
    fetch_viewer(app, token).await.at("viewer").clone()
}

/// Asserts that a token is rejected with an error message that contains this reason.
pub async fn assert_rejected(app: &TestApp, token: String, reason: &str) {
    let reply = fetch_viewer(app, token).await;
    reply.assert_error("UNAUTHENTICATED");
    assert_eq!(reply.status, 401, "{reason}");
    let message = reply.body["errors"][0]["message"].as_str().unwrap_or_default();
    assert!(message.contains(reason), "{message:?} does not contain {reason:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn token_is_valid_only_within_its_lifetime() {
    let app = TestApp::sqlite(&[("PARLOR_JWT_LEEWAY_SECONDS", "60")]).await;
    let now = app.app.clock.now().timestamp();
    let token_with = |times: &str| sign_with_secret(format!(r#"{{"sub":"alice","org":"demo"{times}}}"#));
    for (times, reason) in [
        ("", "malformed"),
        (r#","exp":"4000000000""#, "malformed"),
        (r#","exp":null"#, "malformed"),
        (r#","exp":[4000000000]"#, "malformed"),
        (r#","exp":1e400"#, "malformed"),
        (r#","exp":4000000000,"exp":4000000000"#, "malformed"),
        (r#","exp":1e300"#, "exp must be at most 36525 days from now"),
        (&format!(r#","exp":{}"#, now * 1_000), "exp must be at most 36525 days from now"),
        (&format!(r#","exp":{}"#, now + 36_526 * 86_400), "exp must be at most 36525 days from now"),
        (r#","exp":-1"#, "exp must be a NumericDate"),
        (r#","exp":0"#, "expired"),
        (&format!(r#","exp":{}"#, now - 61), "expired"),
        (r#","exp":4000000000,"nbf":"0""#, "malformed"),
        (r#","exp":4000000000,"nbf":-1"#, "nbf must be a NumericDate"),
        (r#","exp":4000000000,"nbf":1e300"#, "not valid yet"),
        (&format!(r#","exp":4000000000,"nbf":{}"#, now + 600), "not valid yet"),
    ] {
        assert_rejected(&app, token_with(times), reason).await;
    }
    for times in [
        r#","exp":4000000000"#,
        r#","exp":4000000000.25"#,
        r#","exp":4000000000,"nbf":0,"iat":0"#,
        &format!(r#","exp":{}"#, now + 36_525 * 86_400),
        &format!(r#","exp":{}"#, now - 20),
        &format!(r#","exp":4000000000,"nbf":{}"#, now + 40),
    ] {
        assert_accepted(&app, token_with(times)).await;
    }

    // These tokens become invalid and valid at the limits of the leeway, by the server's clock.
    let now = app.app.clock.now().timestamp_millis();
    let at = |seconds: i64| format!("{}e-3", now + seconds * 1_000);
    let expiring = token_with(&format!(r#","exp":{}"#, at(60)));
    let not_yet_valid = token_with(&format!(r#","exp":4000000000,"nbf":{}"#, at(180)));
    app.app.clock.advance(Duration::from_secs(80));
    assert_accepted(&app, expiring.clone()).await;
    assert_rejected(&app, not_yet_valid.clone(), "not valid yet").await;
    app.app.clock.advance(Duration::from_secs(40));
    assert_rejected(&app, expiring, "expired").await;
    assert_accepted(&app, not_yet_valid).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn token_lifetime_is_limited_by_setting() {
    let app = TestApp::sqlite(&[("PARLOR_JWT_MAX_DAYS", "1"), ("PARLOR_JWT_LEEWAY_SECONDS", "0")]).await;
    let expiring_in =
        |seconds: i64| sign_with_secret(claims(json!({ "exp": app.app.clock.now().timestamp() + seconds })));
    assert_accepted(&app, expiring_in(86_400)).await;
    let late = expiring_in(86_460);
    assert_rejected(&app, late.clone(), "exp must be at most 1 days from now").await;
    app.advance(61);
    assert_accepted(&app, late).await;
    app.stop().await;
}

#[engine_test(settings = [("PARLOR_JWT_LEEWAY_SECONDS", "60")])]
async fn token_issued_in_the_future_is_rejected(app: &TestApp) {
    let now = app.app.clock.now().timestamp();
    let issued_at = |iat: Value| sign_with_secret(claims(json!({ "iat": iat })));
    for iat in [json!(now + 120), json!(now * 1_000), json!(now * 1_000_000), json!(1e300), json!(now as f64 + 90.5)] {
        assert_rejected(app, issued_at(iat), "iat must not be in the future").await;
    }
    for iat in [json!("now"), json!([now]), json!(-1), json!({}), json!(true)] {
        assert_rejected(app, issued_at(iat), "malformed: iat must be a NumericDate").await;
    }
    // Whatever the token says, a revocation reaches it.
    let valid = [json!(now), json!(now + 30), json!(now as f64 - 0.5), json!(0), Value::Null].map(issued_at);
    for token in &valid {
        assert_accepted(app, token.clone()).await;
    }
    let admin = app.user_in("demo", "admin", Some(&["chat.view", "organization.admin"])).await;
    app.advance(31);
    admin.mutate_ok("revokeSessions", json!({ "userId": "alice" })).await;
    for token in valid {
        assert_rejected(app, token, "revoked").await;
    }
    app.advance(1);
    assert_accepted(app, issued_at(json!(app.app.clock.now().timestamp()))).await;
}

/// Only a missing claim has a default: null and a wrong type are mistakes of the host application.
#[engine_test]
async fn null_or_wrong_type_of_a_claim_is_rejected(app: &TestApp) {
    let with = |claim: &str, value: &Value| {
        let mut claims = claims(json!({}));
        claims[claim] = value.clone();
        sign_with_secret(claims)
    };
    let texts = [Value::Null, json!(7), json!(true), json!(["x"]), json!({ "x": "y" })];
    let lists = [Value::Null, json!("chat.view"), json!({ "chat.view": true }), json!([7]), json!(["chat.view", null])];
    let dates = [Value::Null, json!("4000000000"), json!([1]), json!(true), json!(-1)];
    for (claim, wrong) in [
        ("sub", &texts),
        ("org", &texts),
        ("name", &texts),
        ("picture", &texts),
        ("permissions", &lists),
        ("exp", &dates),
        ("nbf", &dates),
        ("iat", &dates),
    ] {
        for value in wrong {
            let reason = match value {
                // The library that verifies signatures rejects these before Parlor reads the claims.
                Value::Array(_) | Value::Object(_) => "malformed".to_owned(),
                _ => format!("malformed: {claim} must be"),
            };
            assert_rejected(app, with(claim, value), &reason).await;
        }
    }
    assert_accepted(app, sign_with_secret(claims(json!({})))).await;
    assert_eq!(assert_accepted(app, with("permissions", &json!([]))).await["permissions"], json!([]));
}

/// Returns the name by which other users know Alice.
async fn name_of_alice(bob: &User) -> Value {
    bob.ask("{ user(id: \"alice\") { name } }").await.at("user.name").clone()
}

#[engine_test]
async fn newest_token_describes_the_user(app: &TestApp) {
    let bob = app.user("bob").await;
    let now = app.app.clock.now().timestamp();
    let token = |name: &str, iat: i64, exp: i64| {
        sign_with_secret(claims(
            json!({ "name": name, "iat": iat, "exp": exp, "picture": format!("https://host/{name}") }),
        ))
    };
    let (older, newer) = (token("Older", now - 10, now + 900), token("Newer", now - 5, now + 900));
    assert_eq!(assert_accepted(app, older.clone()).await["user"]["name"], "Older");
    for _ in 0..3 {
        assert_eq!(assert_accepted(app, newer.clone()).await["user"]["name"], "Newer");
        let viewer = assert_accepted(app, older.clone()).await;
        assert_eq!(viewer["user"], json!({ "id": "alice", "name": "Newer", "avatarUrl": "https://host/Newer" }));
        assert_eq!(name_of_alice(&bob).await, "Newer");
    }
    // The later expiry decides between tokens of the same time of issue, and no time of issue is the oldest.
    assert_accepted(app, token("Sooner", now - 5, now + 800)).await;
    assert_eq!(name_of_alice(&bob).await, "Newer");
    assert_accepted(app, token("Later", now - 5, now + 1_000)).await;
    assert_eq!(name_of_alice(&bob).await, "Later");
    assert_accepted(app, sign_with_secret(claims(json!({ "name": "Timeless" })))).await;
    assert_eq!(name_of_alice(&bob).await, "Later");
}

#[engine_test]
async fn newest_token_describes_the_user_after_restart(engine: Engine) {
    let app = TestApp::start(Database::create(engine).await, &[]).await;
    let now = app.app.clock.now().timestamp();
    let token = |name: &str, iat: i64| sign_with_secret(claims(json!({ "name": name, "iat": iat })));
    assert_accepted(&app, token("Newer", now - 5)).await;
    let app = TestApp::start(app.shut_down().await, &[]).await;
    let viewer = assert_accepted(&app, token("Older", now - 10)).await;
    assert_eq!(viewer["user"]["name"], "Newer");
    assert_accepted(&app, token("Newest", now - 1)).await;
    assert_eq!(name_of_alice(&app.user("bob").await).await, "Newest");
    app.stop().await;
}

/// Two tokens of the same time change the user in turn, but not at every request.
#[engine_test]
async fn equal_tokens_change_the_user_a_few_times_only(app: &TestApp) {
    let bob = app.user("bob").await;
    let [one, other] = ["One", "Other"].map(|name| sign_with_secret(claims(json!({ "name": name }))));
    for _ in 0..6 {
        assert_accepted(app, one.clone()).await;
        assert_accepted(app, other.clone()).await;
    }
    let kept = name_of_alice(&bob).await;
    for token in [&one, &other, &one] {
        assert_eq!(assert_accepted(app, token.clone()).await["user"]["name"], kept);
        assert_eq!(name_of_alice(&bob).await, kept);
    }
    app.advance(61);
    let changed = if kept == "One" { &other } else { &one };
    assert_accepted(app, changed.clone()).await;
    assert_ne!(name_of_alice(&bob).await, kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn issuer_and_audience_must_match_settings() {
    let table = [
        (json!({ "iss": "https://host", "aud": "chat" }), None),
        (json!({ "iss": "https://host", "aud": ["mail", "chat"] }), None),
        (json!({ "aud": "chat" }), Some("must have the claim iss")),
        (json!({ "iss": "https://host.example", "aud": "chat" }), Some("must be the configured issuer")),
        (json!({ "iss": "", "aud": "chat" }), Some("must be the configured issuer")),
        (json!({ "iss": 7, "aud": "chat" }), Some("")),
        (json!({ "iss": "https://host" }), Some("must have the claim aud")),
        (json!({ "iss": "https://host", "aud": "mail" }), Some("must contain the configured audience")),
        (json!({ "iss": "https://host", "aud": "chat2" }), Some("must contain the configured audience")),
        (json!({ "iss": "https://host", "aud": ["mail", "post"] }), Some("must contain the configured audience")),
        (json!({ "iss": "https://host", "aud": [] }), Some("must contain the configured audience")),
        (json!({ "iss": "https://host", "aud": 7 }), Some("")),
    ];
    let strict_app = TestApp::sqlite(&[("PARLOR_JWT_ISSUER", "https://host"), ("PARLOR_JWT_AUDIENCE", "chat")]).await;
    let lenient_app = TestApp::sqlite(&[]).await;
    for (replaced, reason) in table {
        let token = sign_with_secret(claims(replaced.clone()));
        match reason {
            None => drop(assert_accepted(&strict_app, token.clone()).await),
            Some(reason) => assert_rejected(&strict_app, token.clone(), reason).await,
        }
        if replaced["iss"] != 7 {
            assert_accepted(&lenient_app, token).await;
        }
    }
    // The server accepts the tokens that it issues.
    assert_accepted(&strict_app, strict_app.token("demo", "alice", None)).await;
    strict_app.stop().await;
    lenient_app.stop().await;
}

#[engine_test]
async fn token_subject_and_organization_are_host_ids(app: &TestApp) {
    let longest = "ü".repeat(127) + "x";
    for claim in ["sub", "org"] {
        for invalid in
            [json!(null), json!(""), json!(7), json!(["alice"]), json!("a\0b"), json!("a\nb"), json!("x".repeat(256))]
        {
            let rule = "must have 1 to 255 bytes without control, invisible or surrounding white space characters";
            let reason = if invalid.is_string() { format!("{claim} {rule}") } else { "malformed".into() };
            assert_rejected(app, sign_with_secret(claims(json!({ claim: invalid }))), &reason).await;
        }
        for valid in [longest.as_str(), "auth0|5f7c8ec7", "org_demo", "a b", "'; DROP TABLE users; --", "🦀"] {
            let viewer = assert_accepted(app, sign_with_secret(claims(json!({ claim: valid })))).await;
            let (returned, prefix) =
                if claim == "sub" { (&viewer["user"]["id"], "") } else { (&viewer["organization"]["id"], "org_") };
            assert_eq!(returned, &format!("{prefix}{valid}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn token_permissions_decide_user_rights() {
    let default_permissions =
        json!(["CHAT_VIEW", "CHAT_CREATE_GROUP", "CHAT_MANAGE_GROUP", "CHAT_DELETE", "CHAT_INITIATE_CALL"]);
    let app = TestApp::sqlite(&[]).await;
    for (permissions, expected) in [
        (json!(null), default_permissions),
        (json!([]), json!([])),
        (json!(["chat.view"]), json!(["CHAT_VIEW"])),
        (json!(["chat.fly", "audit.read", "", "CHAT_VIEW", "chat.view "]), json!(["AUDIT_READ"])),
        (json!(["chat.view", "chat.view", "organization.admin"]), json!(["CHAT_VIEW", "ORGANIZATION_ADMIN"])),
    ] {
        assert_eq!(
            assert_accepted(&app, sign_with_secret(claims(json!({ "permissions": permissions })))).await["permissions"],
            expected
        );
    }
    for permissions in [json!("chat.view"), json!({ "chat.view": true }), json!([7])] {
        assert_rejected(&app, sign_with_secret(claims(json!({ "permissions": permissions }))), "malformed").await;
    }
    let user = User::new(app.addr, "alice", sign_with_secret(claims(json!({ "permissions": [] }))));
    user.ask("{ chats { nodes { id } } }").await.assert_error("FORBIDDEN");
    app.stop().await;

    let app = TestApp::sqlite(&[("PARLOR_DEFAULT_PERMISSIONS", "chat.view, support.agent")]).await;
    let viewer = assert_accepted(&app, sign_with_secret(claims(json!({})))).await;
    assert_eq!(viewer["permissions"], json!(["CHAT_VIEW", "SUPPORT_AGENT"]));
    app.stop().await;
}

#[engine_test]
async fn user_profile_follows_latest_token(app: &TestApp) {
    let bob = app.user("bob").await;
    for (replaced, name, picture) in [
        (json!({ "picture": "https://host/a.png" }), "Alice", json!("https://host/a.png")),
        (
            json!({ "name": "Alice Liddell", "picture": "http://host/b.png" }),
            "Alice Liddell",
            json!("http://host/b.png"),
        ),
        (json!({ "name": "  A\0l\ni\u{85}ce  " }), "A l i ce", json!(null)),
        (json!({ "name": " \n ", "picture": "javascript:alert(1)" }), "alice", json!(null)),
        (json!({ "name": null, "picture": "/a.png" }), "alice", json!(null)),
        (
            json!({ "name": "ü".repeat(300), "picture": "https://host/".to_owned() + &"x".repeat(3_000) }),
            &"ü".repeat(200),
            json!(null),
        ),
    ] {
        let profile = json!({ "id": "alice", "name": name, "avatarUrl": picture });
        assert_eq!(assert_accepted(app, sign_with_secret(claims(replaced))).await["user"], profile);
        let reply = bob.ask("{ user(id: \"alice\") { id name avatarUrl } }").await;
        assert_eq!(reply.at("user"), &profile, "other users see the same profile");
    }
}

#[engine_test]
async fn same_user_id_in_two_organizations_is_two_users(app: &TestApp) {
    let red = app.user_in("red", "alice", None).await;
    app.user_in("red", "bob", None).await;
    let blue = User::new(app.addr, "alice", sign_with_secret(claims(json!({ "org": "blue", "name": "Blue Alice" }))));
    let chat = red
        .mutate_returning("openDirectChat", json!({ "userId": "bob" }), "chat { id }")
        .await
        .text("openDirectChat.chat.id");
    let message = red.send(&chat, "for red eyes").await;

    let variables = json!({ "chat": chat, "message": message, "org": "org_red" });
    let query = "query($chat: ID!, $message: ID!, $org: ID!) {
            viewer { user { name } organization { id } unread { chats } }
            chat(id: $chat) { id } message(id: $message) { id } user(id: \"bob\") { id }
            chats { nodes { id } } users { nodes { id name } }
            node(id: $org) { id } nodes(ids: [$chat, $message, $org, \"bob\"]) { id }
        }";
    let reply = blue.ask_with(query, variables.clone()).await;
    assert_eq!(
        reply.data(),
        &json!({
            "viewer": { "user": { "name": "Blue Alice" }, "organization": { "id": "org_blue" }, "unread": { "chats": 0 } },
            "chat": null, "message": null, "user": null,
            "chats": { "nodes": [] }, "users": { "nodes": [{ "id": "alice", "name": "Blue Alice" }] },
            "node": null, "nodes": [null, null, null, null],
        })
    );
    blue.mutate_returning("openDirectChat", json!({ "userId": "bob" }), "chat { id }").await.assert_error("NOT_FOUND");
    blue.mutate_returning("sendMessage", json!({ "chatId": chat, "text": "hi" }), "message { id }")
        .await
        .assert_error("NOT_FOUND");
    assert_eq!(blue.feed(&chat, Some(5), None).await.error_code().await, "NOT_FOUND");

    let reply = red.ask_with(query, variables).await;
    assert_eq!(reply.at("viewer.user.name"), "Alice");
    assert_eq!(reply.at("chat.id"), chat.as_str());
    assert_eq!(reply.at("node.id"), "org_red");
}
