//! Tokens of the host application: who is let in, and as whom.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::keys::sign_with_secret;
use testkit::{Reply, TestApp, User, engine_test};

/// What Alice's token says, with what is to be different; null takes a claim away.
pub fn claims(different: Value) -> Value {
    let mut claims = json!({ "sub": "alice", "org": "demo", "name": "Alice", "exp": 4_000_000_000_u64 });
    for (name, value) in different.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    claims
}

pub async fn show(app: &TestApp, token: String) -> Reply {
    let query = "{ viewer { user { id name avatarUrl } organization { id } permissions } }";
    User::new(app.addr, "whoever", token).ask(query).await
}

pub async fn accepted(app: &TestApp, token: String) -> Value {
    show(app, token).await.at("viewer").clone()
}

pub async fn refused(app: &TestApp, token: String, why: &str) {
    let reply = show(app, token).await;
    reply.assert_error("UNAUTHENTICATED");
    assert_eq!(reply.status, 401, "{why}");
    let message = reply.body["errors"][0]["message"].as_str().unwrap_or_default();
    assert!(message.contains(why), "{message:?} says nothing of {why:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn token_is_valid_only_within_its_lifetime() {
    let app = TestApp::sqlite(&[("PARLOR_JWT_LEEWAY_SECONDS", "60")]).await;
    let now = app.app.clock.now().timestamp();
    let with = |times: &str| sign_with_secret(format!(r#"{{"sub":"alice","org":"demo"{times}}}"#));
    for (times, why) in [
        ("", "malformed"),
        (r#","exp":"4000000000""#, "malformed"),
        (r#","exp":null"#, "malformed"),
        (r#","exp":[4000000000]"#, "malformed"),
        (r#","exp":1e400"#, "malformed"),
        (r#","exp":4000000000,"exp":4000000000"#, "malformed"),
        (r#","exp":-1"#, "exp must be a NumericDate"),
        (r#","exp":0"#, "expired"),
        (&format!(r#","exp":{}"#, now - 61), "expired"),
        (r#","exp":4000000000,"nbf":"0""#, "malformed"),
        (r#","exp":4000000000,"nbf":-1"#, "nbf must be a NumericDate"),
        (r#","exp":4000000000,"nbf":1e300"#, "not valid yet"),
        (&format!(r#","exp":4000000000,"nbf":{}"#, now + 600), "not valid yet"),
    ] {
        refused(&app, with(times), why).await;
    }
    for times in [
        r#","exp":4000000000"#,
        r#","exp":4000000000.25"#,
        r#","exp":1e300"#,
        r#","exp":4000000000,"nbf":0,"iat":"whatever""#,
        &format!(r#","exp":{}"#, now - 20),
        &format!(r#","exp":4000000000,"nbf":{}"#, now + 40),
    ] {
        accepted(&app, with(times)).await;
    }

    // At the very ends of the leeway, by the server's own clock.
    let now = app.app.clock.now().timestamp_millis();
    let at = |seconds: i64| format!("{}e-3", now + seconds * 1_000);
    let ending = with(&format!(r#","exp":{}"#, at(60)));
    let beginning = with(&format!(r#","exp":4000000000,"nbf":{}"#, at(180)));
    app.app.clock.advance(Duration::from_secs(80));
    accepted(&app, ending.clone()).await;
    refused(&app, beginning.clone(), "not valid yet").await;
    app.app.clock.advance(Duration::from_secs(40));
    refused(&app, ending, "expired").await;
    accepted(&app, beginning).await;
    app.stop().await;
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
    let held = TestApp::sqlite(&[("PARLOR_JWT_ISSUER", "https://host"), ("PARLOR_JWT_AUDIENCE", "chat")]).await;
    let free = TestApp::sqlite(&[]).await;
    for (said, why) in table {
        let token = sign_with_secret(claims(said.clone()));
        match why {
            None => drop(accepted(&held, token.clone()).await),
            Some(why) => refused(&held, token.clone(), why).await,
        }
        if said["iss"] != 7 {
            accepted(&free, token).await;
        }
    }
    // What the server issues by itself it takes too.
    accepted(&held, held.token("demo", "alice", None)).await;
    held.stop().await;
    free.stop().await;
}

#[engine_test]
async fn token_subject_and_organization_are_host_ids(app: &TestApp) {
    let longest = "ü".repeat(127) + "x";
    for claim in ["sub", "org"] {
        for bad in
            [json!(null), json!(""), json!(7), json!(["alice"]), json!("a\0b"), json!("a\nb"), json!("x".repeat(256))]
        {
            let why = if bad.is_string() { format!("{claim} must have 1 to 255 bytes") } else { "malformed".into() };
            refused(app, sign_with_secret(claims(json!({ claim: bad }))), &why).await;
        }
        for good in [longest.as_str(), "auth0|5f7c8ec7", "org_demo", "a b", "'; DROP TABLE users; --", "🦀"] {
            let viewer = accepted(app, sign_with_secret(claims(json!({ claim: good })))).await;
            let (shown, prefix) =
                if claim == "sub" { (&viewer["user"]["id"], "") } else { (&viewer["organization"]["id"], "org_") };
            assert_eq!(shown, &format!("{prefix}{good}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn token_permissions_decide_user_rights() {
    let everyone = json!(["CHAT_VIEW", "CHAT_CREATE_GROUP", "CHAT_MANAGE_GROUP", "CHAT_DELETE", "CHAT_INITIATE_CALL"]);
    let app = TestApp::sqlite(&[]).await;
    for (said, meant) in [
        (json!(null), everyone),
        (json!([]), json!([])),
        (json!(["chat.view"]), json!(["CHAT_VIEW"])),
        (json!(["chat.fly", "audit.read", "", "CHAT_VIEW", "chat.view "]), json!(["AUDIT_READ"])),
        (json!(["chat.view", "chat.view", "organization.admin"]), json!(["CHAT_VIEW", "ORGANIZATION_ADMIN"])),
    ] {
        assert_eq!(
            accepted(&app, sign_with_secret(claims(json!({ "permissions": said })))).await["permissions"],
            meant
        );
    }
    for said in [json!("chat.view"), json!({ "chat.view": true }), json!([7])] {
        refused(&app, sign_with_secret(claims(json!({ "permissions": said }))), "malformed").await;
    }
    let powerless = User::new(app.addr, "alice", sign_with_secret(claims(json!({ "permissions": [] }))));
    powerless.ask("{ chats { nodes { id } } }").await.assert_error("FORBIDDEN");
    app.stop().await;

    let app = TestApp::sqlite(&[("PARLOR_DEFAULT_PERMISSIONS", "chat.view, support.agent")]).await;
    let viewer = accepted(&app, sign_with_secret(claims(json!({})))).await;
    assert_eq!(viewer["permissions"], json!(["CHAT_VIEW", "SUPPORT_AGENT"]));
    app.stop().await;
}

#[engine_test]
async fn user_profile_follows_latest_token(app: &TestApp) {
    let bob = app.user("bob").await;
    for (said, name, picture) in [
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
        let shown = json!({ "id": "alice", "name": name, "avatarUrl": picture });
        assert_eq!(accepted(app, sign_with_secret(claims(said))).await["user"], shown);
        let seen = bob.ask("{ user(id: \"alice\") { id name avatarUrl } }").await;
        assert_eq!(seen.at("user"), &shown, "to others too");
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

    let everything = json!({ "chat": chat, "message": message, "org": "org_red" });
    let query = "query($chat: ID!, $message: ID!, $org: ID!) {
            viewer { user { name } organization { id } unread { chats } }
            chat(id: $chat) { id } message(id: $message) { id } user(id: \"bob\") { id }
            chats { nodes { id } } users { nodes { id name } }
            node(id: $org) { id } nodes(ids: [$chat, $message, $org, \"bob\"]) { id }
        }";
    let seen = blue.ask_with(query, everything.clone()).await;
    assert_eq!(
        seen.data(),
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

    let own = red.ask_with(query, everything).await;
    assert_eq!(own.at("viewer.user.name"), "Alice");
    assert_eq!(own.at("chat.id"), chat.as_str());
    assert_eq!(own.at("node.id"), "org_red");
}
