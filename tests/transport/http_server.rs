//! What every request passes, whatever it asks: origins, limits, ids, and what a fault shows.

use reqwest::Method;
use serde_json::{Value, json};
use testkit::http::{bearer, get, graphql_body, post, request};
use testkit::{Database, Engine, Socket, TestApp, User, engine_test, postgres_test};

use crate::transport::websocket::init;

#[tokio::test(flavor = "multi_thread")]
async fn cors_allows_configured_origins_only() {
    let (ours, theirs) = ("https://app.example", "https://evil.example");
    let ask = async |app: &TestApp, origin: &str| {
        let asked = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization,content-type,x-apollo-operation-name"),
        ];
        let preflight = request(app, Method::OPTIONS, "/graphql", &asked, "").await;
        let answer = post(app, &[("origin", origin)], graphql_body("{ __typename }", json!({}))).await;
        assert_eq!(answer.status, 200, "it is the browser that keeps the answer from the page");
        let allowed = preflight.header("access-control-allow-origin");
        assert_eq!(answer.header("access-control-allow-origin"), allowed);
        assert_eq!(answer.header("access-control-allow-credentials"), "", "there are no cookies here");
        (allowed, preflight, answer)
    };

    let closed = TestApp::sqlite(&[]).await;
    assert_eq!(ask(&closed, theirs).await.0, "");
    closed.stop().await;

    let named = TestApp::sqlite(&[("PARLOR_CORS_ORIGINS", "https://other.example, https://app.example")]).await;
    let (allowed, preflight, answer) = ask(&named, ours).await;
    assert_eq!((allowed.as_str(), preflight.status), (ours, 200));
    assert_eq!(preflight.header("access-control-allow-headers"), "authorization,content-type,x-apollo-operation-name");
    assert_eq!(preflight.header("access-control-allow-methods"), "GET,POST");
    assert_eq!(preflight.header("access-control-max-age"), "86400");
    assert!(preflight.header("vary").contains("origin"), "caches keep the answers to two origins apart");
    assert_eq!(answer.header("access-control-expose-headers"), "x-request-id");
    for origin in [
        theirs,
        "null",
        "https://app.example.evil.example",
        "http://app.example",
        "https://app.example:8443",
        "https://xapp.example",
    ] {
        assert_eq!(ask(&named, origin).await.0, "", "{origin}");
    }
    named.stop().await;

    let open = TestApp::sqlite(&[("PARLOR_CORS_ORIGINS", "*")]).await;
    assert_eq!(ask(&open, theirs).await.0, "*");
    open.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_response_is_compressed_when_accepted() {
    let app = TestApp::sqlite(&[]).await;
    let alice = bearer(&app.user("alice").await);
    let body = graphql_body("{ __schema { types { name description fields { name description } } } }", json!({}));
    let plain = post(&app, &[("authorization", &alice)], body.clone()).await;
    assert_eq!((plain.status, plain.header("content-encoding").as_str()), (200, ""));
    let packed = post(&app, &[("authorization", &alice), ("accept-encoding", "gzip, br")], body).await;
    assert_eq!((packed.status, packed.header("content-encoding").as_str()), (200, "gzip"));
    assert!(packed.header("vary").contains("accept-encoding"));
    assert_eq!(packed.body[..2], [0x1f, 0x8b], "the mark of gzip");
    assert!(packed.body.len() * 3 < plain.body.len());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn response_carries_request_id() {
    let app = TestApp::sqlite(&[]).await;
    let given = [("x-request-id", "from the host 7")];
    for heard in [
        post(&app, &given, graphql_body("{ __typename }", json!({}))).await,
        post(&app, &given, "nonsense").await,
        request(&app, Method::GET, "/healthz", &given, "").await,
        request(&app, Method::GET, "/nowhere", &given, "").await,
    ] {
        assert_eq!(heard.header("x-request-id"), "from the host 7");
    }
    let [one, other] = [get(&app, &[], &[]).await, get(&app, &[], &[]).await].map(|heard| heard.header("x-request-id"));
    assert_ne!(one, other);
    assert!(uuid::Uuid::parse_str(&one).is_ok(), "{one}");
    app.stop().await;
}

#[engine_test]
async fn internal_error_hides_its_cause(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Faults", &[]).await;
    alice.send(&chat, "hello").await;
    let query = "query($chat: ID!) { chat(id: $chat) { title lastMessage { text } } here: __typename }";
    app.database.execute("ALTER TABLE messages RENAME TO elsewhere").await;
    let headers = [("authorization", bearer(&alice)), ("x-request-id", "the-id".to_owned())];
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let heard = post(app, &headers, graphql_body(query, json!({ "chat": chat }))).await;
    let whole = json!({
        "data": { "chat": { "title": "Faults", "lastMessage": null }, "here": "Query" },
        "errors": [{
            "message": "internal error",
            "path": ["chat", "lastMessage"],
            "locations": [{ "line": 1, "column": 45 }],
            "extensions": { "code": "INTERNAL", "requestId": "the-id" },
        }],
    });
    assert_eq!((heard.status, heard.json()), (200, whole));

    let mut socket = alice.socket().await;
    socket.subscribe("1", query, json!({ "chat": chat })).await;
    let heard = socket.recv().await["payload"]["errors"][0].clone();
    assert_eq!((&heard["message"], &heard["extensions"]["code"]), (&json!("internal error"), &json!("INTERNAL")));
    assert!(heard["extensions"]["requestId"].as_str().is_some_and(|id| uuid::Uuid::parse_str(id).is_ok()), "{heard}");
    let sent =
        alice.mutate_returning("sendMessage", json!({ "chatId": chat, "text": "lost?" }), "message { id }").await;
    sent.assert_error("INTERNAL");

    // Nor does one that comes before any field.
    app.database.execute("ALTER TABLE users RENAME TO nobody").await;
    let newcomer = User::new(app.addr, "eve", app.token("demo", "eve", None));
    let headers = [("authorization", bearer(&newcomer)), ("x-request-id", "the-id".to_owned())];
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let heard = post(app, &headers, graphql_body("{ __typename }", json!({}))).await;
    heard.assert_error(500, "INTERNAL");
    let extensions = json!({ "code": "INTERNAL", "requestId": "the-id" });
    let whole = json!({ "errors": [{ "message": "internal error", "extensions": extensions }] });
    assert_eq!(heard.json(), whole);
    let mut socket = Socket::connect(app.addr).await;
    socket.send(init(&newcomer.token)).await;
    assert_eq!(socket.expect_close().await, (4500, "Internal server error".into()));
    app.database.execute("ALTER TABLE nobody RENAME TO users").await;

    app.database.execute("ALTER TABLE elsewhere RENAME TO messages").await;
    alice.send(&chat, "here again").await;
    assert_eq!(alice.ask_with(query, json!({ "chat": chat })).await.at("chat.lastMessage.text"), "here again");
}

#[engine_test]
async fn health_and_readiness_are_reported(app: &TestApp) {
    for (path, text) in [("/healthz", "alive\n"), ("/readyz", "ready\n")] {
        let heard = request(app, Method::GET, path, &[], "").await;
        assert_eq!((heard.status, &heard.body[..]), (200, text.as_bytes()));
    }
    assert_eq!(request(app, Method::GET, "/nowhere", &[], "").await.status, 404);
}

#[postgres_test]
async fn readiness_fails_while_database_is_unreachable() {
    let app = TestApp::start(Database::create(Engine::Postgres).await, &[("PARLOR_DATABASE_CONNECTIONS", "2")]).await;
    let alice = app.user("alice").await;
    let ready = async || request(&app, Method::GET, "/readyz", &[], "").await.status;
    assert_eq!(ready().await, 200);
    app.database.block_connections().await;
    for _ in 0..3 {
        assert_eq!(ready().await, 503);
    }
    assert_eq!(request(&app, Method::GET, "/healthz", &[], "").await.status, 200, "the process is well");
    let lost = alice.ask("{ chats { nodes { id } } }").await;
    lost.assert_error("UNAVAILABLE");
    assert!(lost.body["errors"][0]["extensions"]["retryAfterMs"].as_u64().is_some_and(|millis| millis > 0));
    app.database.allow_connections().await;
    assert_eq!(ready().await, 200);
    alice.ask("{ chats { nodes { id } } }").await.data();
    app.stop().await;
}

/// Documents one beyond each limit, and what is said of them.
fn beyond_limits() -> Vec<(String, &'static str)> {
    let numbered = |number: usize, text: &dyn Fn(usize) -> String| (0..number).map(text).collect::<String>();
    let deep = format!(
        "{{ viewer {{ user {{ id }} }} chats {{ nodes {} }} }}",
        "{ members { nodes { chat ".repeat(4) + "{ id }" + &"} } }".repeat(4)
    );
    vec![
        (deep, "the operation is 15 levels deep; at most 12 are allowed"),
        ("{ chats(first: 100) { nodes { members(first: 100) { nodes { role joinedAt user { id name avatarUrl } } } } } }".into(), "too complex"),
        (format!("{{ {} }}", numbered(51, &|n| format!("a{n}: __typename "))), "more than 50 aliases"),
        (format!("{{ {} }}", "__typename @skip(if: false) ".repeat(21)), "more than 20 directives"),
        (
            format!("{{ __typename }} {}", numbered(65, &|n| format!("fragment F{n} on Query {{ __typename }} "))),
            "more than 64 fragments",
        ),
        (numbered(17, &|n| format!("query Q{n} {{ __typename }} ")), "more than 16 operations"),
        (format!("{{ {} }}", "a ".repeat(2_000)), "more than 2000 tokens"),
        (format!("{{ __typename }} #{}", " ".repeat(16 * 1024)), "more than 16384 bytes"),
        (format!("{{ {}__typename{} }}", "... { ".repeat(25), " }".repeat(25)), "nests more than 24 brackets"),
        (
            format!("{{ {} }} fragment F on Query {{ {} }}", "...F ".repeat(30), "__typename ".repeat(70)),
            "more than 2000 selections",
        ),
        (
            "{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }".into(),
            "The introspection would list too much",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_answer_alike_on_every_transport() {
    let app = TestApp::sqlite(&[]).await;
    let alice = app.user("alice").await;
    let bearer = bearer(&alice);
    let mut socket = alice.socket().await;
    for (document, said) in beyond_limits() {
        let accept = [("authorization", bearer.as_str()), ("accept", "application/graphql-response+json")];
        let posted = post(&app, &accept, graphql_body(&document, json!({}))).await;
        posted.assert_error(400, "BAD_USER_INPUT");
        assert!(posted.message().contains(said), "{said}: {}", posted.message());
        let got = get(&app, &accept, &[("query", &document)]).await;
        assert_eq!((got.status, got.json()), (400, posted.json()));
        socket.subscribe(said, &document, json!({})).await;
        let heard = socket.recv().await;
        assert_eq!(heard, json!({ "id": said, "type": "error", "payload": posted.json()["errors"] }));
    }
    app.stop().await;

    let app = TestApp::sqlite(&[("PARLOR_MAX_DEPTH", "3"), ("PARLOR_MAX_COMPLEXITY", "100")]).await;
    let alice = app.user("alice").await;
    for (query, within) in [
        ("{ chats(first: 30) { nodes { id } } }", true),
        ("{ chats(first: 40) { nodes { id } } }", true),
        ("{ chats(first: 40) { nodes { id title } } }", false),
        ("{ chats { nodes { createdBy { id } } } }", false),
    ] {
        assert_eq!(alice.ask(query).await.body.get("errors").is_none(), within, "{query}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymous_introspection_is_rejected() {
    let app = TestApp::sqlite(&[]).await;
    let alice = app.user("alice").await;
    for query in
        ["{ __schema { queryType { name } } }", "{ ...F } fragment F on Query { a: __schema { types { name } } }"]
    {
        assert!(alice.ask(query).await.data().to_string().contains("name"));
        let heard = post(&app, &[], graphql_body(query, json!({}))).await;
        assert_eq!((heard.code().as_str(), &heard.json()["data"]), ("UNAUTHENTICATED", &json!(null)));
    }
    let named = "{ __type(name: \"Chat\") { name } }";
    assert_eq!(alice.ask(named).await.at("__type.name"), "Chat");
    assert_eq!(post(&app, &[], graphql_body(named, json!({}))).await.json(), json!({ "data": { "__type": null } }));
    assert_eq!(post(&app, &[], graphql_body("{ __typename }", json!({}))).await.json()["data"]["__typename"], "Query");
    // Nor do they learn names by asking wrong ones.
    let guess = post(&app, &[], graphql_body("{ chatz { id } }", json!({}))).await;
    assert!(!guess.message().contains("chats"), "{}", guess.message());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn graphiql_is_served_in_development_only() {
    let app = TestApp::sqlite(&[]).await;
    for path in ["/", "/graphiql/index.html"] {
        assert_eq!(request(&app, Method::GET, path, &[("host", "localhost")], "").await.status, 404, "{path}");
    }
    app.stop().await;

    let folder = tempfile::tempdir().unwrap();
    let app = TestApp::sqlite(&[("PARLOR_JWT_SECRET", ""), ("PARLOR_DATA", folder.path().to_str().unwrap())]).await;
    for host in ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080"] {
        let page = request(&app, Method::GET, "/", &[("host", host)], "").await;
        assert_eq!((page.status, page.header("cache-control").as_str()), (200, "no-store"), "{host}");
        let text = String::from_utf8_lossy(&page.body);
        let token = text.split('"').flat_map(|word| word.split(' ')).find(|word| word.starts_with("eyJ"));
        let headers = [("authorization", format!("Bearer {}", token.expect("a token in the page")))];
        let viewer = post(
            &app,
            &headers.each_ref().map(|(name, value)| (*name, value.as_str())),
            graphql_body("{ viewer { user { name } organization { id } } }", json!({})),
        )
        .await;
        assert_eq!(
            viewer.json(),
            json!({ "data": { "viewer": { "user": { "name": "Alice" }, "organization": { "id": "org_demo" } } } })
        );
    }
    // A name elsewhere that resolves to this machine gets no token.
    for host in ["evil.example", "localhost.evil.example:8080", "127.0.0.1.evil.example", "127.0.0.1@evil.example"] {
        let page = request(&app, Method::GET, "/", &[("host", host)], "").await;
        assert_eq!(page.status, 421, "{host}");
        assert!(!String::from_utf8_lossy(&page.body).contains("eyJ"));
    }
    for path in ["/graphiql/nothing.js", "/graphiql/../Cargo.toml", "/graphiql/..%2f..%2fCargo.toml"] {
        assert_eq!(request(&app, Method::GET, path, &[], "").await.status, 404, "{path}");
    }
    // There a stranger may read the schema.
    let schema = post(&app, &[], graphql_body("{ __schema { queryType { name } } }", json!({}))).await;
    assert_eq!(schema.json(), json!({ "data": { "__schema": { "queryType": { "name": "Query" } } } }));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn error_kind_has_its_code() {
    let app = TestApp::sqlite(&[]).await;
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Codes", &[&bob]).await;
    let send = |text: &str, nonce: Value| json!({ "chatId": chat, "text": text, "nonce": nonce });
    alice
        .mutate_returning("updateChat", json!({ "chatId": chat, "slowModeSeconds": 3_600 }), "chat { id }")
        .await
        .data();
    bob.mutate_returning("sendMessage", send("hello", json!("n")), "message { id }").await.data();
    for (who, field, input, code) in [
        (&bob, "sendMessage", send("hello again", json!("n")), "CONFLICT"),
        (&bob, "sendMessage", send("hello again", json!("m")), "RATE_LIMITED"),
        (&bob, "updateChat", json!({ "chatId": chat, "title": "Mine" }), "FORBIDDEN"),
        (&bob, "sendMessage", json!({ "chatId": "chat_none", "text": "x" }), "NOT_FOUND"),
    ] {
        let selection = if field == "updateChat" { "chat { id }" } else { "message { id }" };
        let reply = who.mutate_returning(field, input, selection).await;
        reply.assert_error(code);
        let wait = reply.body["errors"][0]["extensions"]["retryAfterMs"].as_u64();
        assert_eq!(wait.is_some_and(|millis| (1..=3_600_000).contains(&millis)), code == "RATE_LIMITED");
    }
    bob.mutate_returning("sendMessage", send(" ", json!(null)), "message { id }").await.assert_bad_input("text");
    app.stop().await;
}
