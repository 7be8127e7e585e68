//! Rules for every request: origins, compression, request ids, limits, and internal errors.

use reqwest::Method;
use serde_json::{Value, json};
use testkit::http::{bearer, get, graphql_body, post, request};
use testkit::{Database, Engine, Socket, TestApp, User, engine_test, postgres_test};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::transport::websocket::{PROTOCOL, init};

#[tokio::test(flavor = "multi_thread")]
async fn cors_allows_configured_origins_only() {
    let (allowed_origin, foreign_origin) = ("https://app.example", "https://evil.example");
    let ask = async |app: &TestApp, origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization,content-type,x-apollo-operation-name"),
        ];
        let preflight = request(app, Method::OPTIONS, "/graphql", &headers, "").await;
        let response = post(app, &[("origin", origin)], graphql_body("{ __typename }", json!({}))).await;
        assert_eq!(response.status, 200, "the browser hides the response from the page, not the server");
        let allowed = preflight.header("access-control-allow-origin");
        assert_eq!(response.header("access-control-allow-origin"), allowed);
        assert_eq!(response.header("access-control-allow-credentials"), "", "the server uses no cookies");
        (allowed, preflight, response)
    };

    let closed = TestApp::sqlite(&[]).await;
    assert_eq!(ask(&closed, foreign_origin).await.0, "");
    closed.stop().await;

    let named = TestApp::sqlite(&[("PARLOR_CORS_ORIGINS", "https://other.example, https://app.example")]).await;
    let (allowed, preflight, response) = ask(&named, allowed_origin).await;
    assert_eq!((allowed.as_str(), preflight.status), (allowed_origin, 200));
    assert_eq!(preflight.header("access-control-allow-headers"), "authorization,content-type,x-apollo-operation-name");
    assert_eq!(preflight.header("access-control-allow-methods"), "GET,POST");
    assert_eq!(preflight.header("access-control-max-age"), "86400");
    assert!(preflight.header("vary").contains("origin"), "caches store one response for each origin");
    assert_eq!(response.header("access-control-expose-headers"), "x-request-id");
    for origin in [
        foreign_origin,
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
    assert_eq!(ask(&open, foreign_origin).await.0, "*");
    open.stop().await;
}

/// The address of a front end's development server on the same machine.
const LOCAL_FRONT_END: &str = "http://localhost:5173";

/// Returns whether a server lets a page of an origin call it over HTTP, and whether over WebSockets.
async fn allows_page(app: &TestApp, origin: &str) -> (bool, bool) {
    let headers = [("origin", origin), ("access-control-request-method", "POST")];
    let preflight = request(app, Method::OPTIONS, "/graphql", &headers, "").await;
    let allowed = preflight.header("access-control-allow-origin");
    assert!(allowed.is_empty() || allowed == origin, "{allowed}");
    let (head, _) = Socket::handshake(app.addr, &[PROTOCOL, ("origin", origin)]).await;
    (!allowed.is_empty(), head.starts_with("HTTP/1.1 101 "))
}

#[tokio::test(flavor = "multi_thread")]
async fn development_server_is_open_to_pages_of_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let development = [("PARLOR_JWT_SECRET", ""), ("PARLOR_DATA", folder.path().to_str().unwrap())];
    let app = TestApp::sqlite(&development).await;
    for origin in
        [LOCAL_FRONT_END, "http://127.0.0.1:3000", "http://[::1]:8081", "https://localhost:8443", "http://localhost"]
    {
        assert_eq!(allows_page(&app, origin).await, (true, true), "{origin}");
    }
    for origin in ["https://evil.example", "http://localhost.evil.example:5173", "http://192.168.0.2:5173", "null"] {
        assert!(!allows_page(&app, origin).await.0, "{origin}");
    }
    // The page of GraphiQL contains a token, so it stays closed.
    let page = request(&app, Method::GET, "/", &[("host", "localhost"), ("origin", LOCAL_FRONT_END)], "").await;
    assert_eq!((page.status, page.header("access-control-allow-origin").as_str()), (200, ""));
    app.stop().await;

    let folder = tempfile::tempdir().unwrap();
    let with_list = [
        ("PARLOR_JWT_SECRET", ""),
        ("PARLOR_DATA", folder.path().to_str().unwrap()),
        ("PARLOR_CORS_ORIGINS", "http://localhost:9000"),
    ];
    let app = TestApp::sqlite(&with_list).await;
    assert_eq!(allows_page(&app, LOCAL_FRONT_END).await, (true, true));
    assert_eq!(allows_page(&app, "https://evil.example").await, (false, false));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_with_keys_is_not_open_to_pages_of_the_same_machine() {
    let app = TestApp::sqlite(&[]).await;
    assert!(!allows_page(&app, LOCAL_FRONT_END).await.0);
    app.stop().await;
    let app = TestApp::sqlite(&[("PARLOR_CORS_ORIGINS", "https://app.example")]).await;
    assert_eq!(allows_page(&app, LOCAL_FRONT_END).await, (false, false));
    assert_eq!(allows_page(&app, "https://app.example").await, (true, true));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_response_is_compressed_when_accepted() {
    let app = TestApp::sqlite(&[]).await;
    let alice = bearer(&app.user("alice").await);
    let body = graphql_body("{ __schema { types { name description fields { name description } } } }", json!({}));
    let plain = post(&app, &[("authorization", &alice)], body.clone()).await;
    assert_eq!((plain.status, plain.header("content-encoding").as_str()), (200, ""));
    let compressed = post(&app, &[("authorization", &alice), ("accept-encoding", "gzip, br")], body).await;
    assert_eq!((compressed.status, compressed.header("content-encoding").as_str()), (200, "gzip"));
    assert!(compressed.header("vary").contains("accept-encoding"));
    assert_eq!(compressed.body[..2], [0x1f, 0x8b], "the magic number of gzip");
    assert!(compressed.body.len() * 3 < plain.body.len());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn response_carries_request_id() {
    let app = TestApp::sqlite(&[]).await;
    let given = [("x-request-id", "From_the-host.7")];
    for response in [
        post(&app, &given, graphql_body("{ __typename }", json!({}))).await,
        post(&app, &given, "nonsense").await,
        request(&app, Method::GET, "/healthz", &given, "").await,
        request(&app, Method::GET, "/nowhere", &given, "").await,
    ] {
        assert_eq!(response.header("x-request-id"), "From_the-host.7");
    }
    let (longest, too_long) = ("a".repeat(128), "a".repeat(129));
    assert_eq!(get(&app, &[("x-request-id", &longest)], &[]).await.header("x-request-id"), longest);
    for invalid in ["", "from the host", "a/b", "a\tb", "id;x=1", "<b>", "{}", &too_long, &"b".repeat(10_000)] {
        let id = get(&app, &[("x-request-id", invalid)], &[]).await.header("x-request-id");
        assert!(uuid::Uuid::parse_str(&id).is_ok(), "{invalid:?} is replaced: {id}");
    }
    let repeated = [("x-request-id", "one"), ("x-request-id", "two")];
    let id = get(&app, &repeated, &[]).await.header("x-request-id");
    assert!(uuid::Uuid::parse_str(&id).is_ok(), "an ambiguous id is replaced: {id}");
    let [first, second] =
        [get(&app, &[], &[]).await, get(&app, &[], &[]).await].map(|response| response.header("x-request-id"));
    assert_ne!(first, second);
    assert!(uuid::Uuid::parse_str(&first).is_ok(), "{first}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn response_is_not_stored_or_sniffed_and_varies_by_token() {
    let app = TestApp::sqlite(&[("PARLOR_CORS_ORIGINS", "https://app.example")]).await;
    let bearer = bearer(&app.user("alice").await);
    let body = graphql_body("{ viewer { user { id } } }", json!({}));
    for response in [
        post(&app, &[("authorization", &bearer)], body.clone()).await,
        post(&app, &[("authorization", &bearer), ("origin", "https://app.example")], body.clone()).await,
        post(&app, &[], body.clone()).await,
        post(&app, &[("authorization", "Bearer x")], body.clone()).await,
        post(&app, &[("authorization", &bearer)], "nonsense").await,
        get(&app, &[("authorization", &bearer)], &[("query", "{ __typename }")]).await,
        get(&app, &[("accept", "text/html")], &[("query", "{ __typename }")]).await,
        request(&app, Method::DELETE, "/graphql", &[("authorization", &bearer)], "").await,
    ] {
        assert_eq!(response.header("cache-control"), "no-store", "{}", response.status);
        let vary = response.header("vary");
        for name in ["authorization", "accept", "origin"] {
            assert!(vary.split(", ").any(|entry| entry == name), "{name} is missing: {vary}");
        }
        assert_eq!(response.header("x-content-type-options"), "nosniff");
    }
    for path in ["/healthz", "/readyz", "/nowhere", "/graphql/x"] {
        let response = request(&app, Method::GET, path, &[], "").await;
        assert_eq!(response.header("cache-control"), "no-store", "{path}");
        assert_eq!(response.header("x-content-type-options"), "nosniff", "{path}");
        assert!(response.header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
    }
    app.stop().await;
}

#[engine_test]
async fn internal_error_hides_its_cause(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Faults", &[]).await;
    alice.send(&chat, "hello").await;
    let query = "query($chat: ID!) { chat(id: $chat) { title lastMessage { text } } here: __typename }";
    app.database.execute("ALTER TABLE messages RENAME TO renamed_messages").await;
    let headers = [("authorization", bearer(&alice)), ("x-request-id", "the-id".to_owned())];
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let response = post(app, &headers, graphql_body(query, json!({ "chat": chat }))).await;
    let expected = json!({
        "data": { "chat": { "title": "Faults", "lastMessage": null }, "here": "Query" },
        "errors": [{
            "message": "internal error",
            "path": ["chat", "lastMessage"],
            "locations": [{ "line": 1, "column": 45 }],
            "extensions": { "code": "INTERNAL", "requestId": "the-id" },
        }],
    });
    assert_eq!((response.status, response.json()), (200, expected));

    let mut socket = alice.socket().await;
    socket.subscribe("1", query, json!({ "chat": chat })).await;
    let error = socket.recv().await["payload"]["errors"][0].clone();
    assert_eq!((&error["message"], &error["extensions"]["code"]), (&json!("internal error"), &json!("INTERNAL")));
    assert!(error["extensions"]["requestId"].as_str().is_some_and(|id| uuid::Uuid::parse_str(id).is_ok()), "{error}");
    let sent =
        alice.mutate_returning("sendMessage", json!({ "chatId": chat, "text": "not stored" }), "message { id }").await;
    sent.assert_error("INTERNAL");

    // An error before the execution hides its cause too.
    app.database.execute("ALTER TABLE users RENAME TO renamed_users").await;
    let newcomer = User::new(app.addr, "eve", app.token("demo", "eve", None));
    let headers = [("authorization", bearer(&newcomer)), ("x-request-id", "the-id".to_owned())];
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let response = post(app, &headers, graphql_body("{ __typename }", json!({}))).await;
    response.assert_error(500, "INTERNAL");
    let extensions = json!({ "code": "INTERNAL", "requestId": "the-id" });
    let expected = json!({ "errors": [{ "message": "internal error", "extensions": extensions }] });
    assert_eq!(response.json(), expected);
    let mut socket = Socket::connect(app.addr).await;
    socket.send(init(&newcomer.token)).await;
    assert_eq!(socket.expect_close().await, (4500, "Internal server error".into()));
    app.database.execute("ALTER TABLE renamed_users RENAME TO users").await;

    app.database.execute("ALTER TABLE renamed_messages RENAME TO messages").await;
    alice.send(&chat, "stored again").await;
    assert_eq!(alice.ask_with(query, json!({ "chat": chat })).await.at("chat.lastMessage.text"), "stored again");
}

#[engine_test]
async fn health_and_readiness_are_reported(app: &TestApp) {
    for (path, text) in [("/healthz", "alive\n"), ("/readyz", "ready\n")] {
        let response = request(app, Method::GET, path, &[], "").await;
        assert_eq!((response.status, &response.body[..]), (200, text.as_bytes()));
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
    assert_eq!(request(&app, Method::GET, "/healthz", &[], "").await.status, 200, "the process is alive");
    let reply = alice.ask("{ chats { nodes { id } } }").await;
    reply.assert_error("UNAVAILABLE");
    assert!(reply.body["errors"][0]["extensions"]["retryAfterMs"].as_u64().is_some_and(|millis| millis > 0));
    app.database.allow_connections().await;
    assert_eq!(ready().await, 200);
    alice.ask("{ chats { nodes { id } } }").await.data();
    app.stop().await;
}

/// Returns documents that exceed one limit each, with the expected error messages.
fn beyond_limits() -> Vec<(String, &'static str)> {
    let repeat_numbered = |number: usize, text: &dyn Fn(usize) -> String| (0..number).map(text).collect::<String>();
    let deep = format!(
        "{{ viewer {{ user {{ id }} }} chats {{ nodes {} }} }}",
        "{ members { nodes { chat ".repeat(4) + "{ id }" + &"} } }".repeat(4)
    );
    vec![
        (deep, "the operation is 15 levels deep; at most 12 are allowed"),
        ("{ chats(first: 100) { nodes { members(first: 100) { nodes { role joinedAt user { id name avatarUrl } } } messages(first: 100) { nodes { text html } } } } }".into(), "too complex"),
        (format!("{{ {} }}", repeat_numbered(51, &|n| format!("a{n}: __typename "))), "more than 50 aliases"),
        (format!("{{ {} }}", "__typename @skip(if: false) ".repeat(21)), "more than 20 directives"),
        (
            format!("{{ __typename }} {}", repeat_numbered(65, &|n| format!("fragment F{n} on Query {{ __typename }} "))),
            "more than 64 fragments",
        ),
        (repeat_numbered(17, &|n| format!("query Q{n} {{ __typename }} ")), "more than 16 operations"),
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
    for (document, expected) in beyond_limits() {
        let headers = [("authorization", bearer.as_str()), ("accept", "application/graphql-response+json")];
        let post_response = post(&app, &headers, graphql_body(&document, json!({}))).await;
        post_response.assert_error(400, "BAD_USER_INPUT");
        assert!(post_response.message().contains(expected), "{expected}: {}", post_response.message());
        let get_response = get(&app, &headers, &[("query", &document)]).await;
        // A document of more bytes than allowed does not fit into the first line of a request either.
        match document.len() {
            ..16_384 => assert_eq!((get_response.status, get_response.json()), (400, post_response.json())),
            16_384.. => assert_eq!(get_response.status, 431),
        }
        socket.subscribe(expected, &document, json!({})).await;
        let message = socket.recv().await;
        assert_eq!(message, json!({ "id": expected, "type": "error", "payload": post_response.json()["errors"] }));
    }
    app.stop().await;

    let app = TestApp::sqlite(&[("PARLOR_MAX_DEPTH", "3"), ("PARLOR_MAX_COMPLEXITY", "100")]).await;
    let alice = app.user("alice").await;
    for (query, is_allowed) in [
        ("{ chats(first: 30) { nodes { id } } }", true),
        ("{ chats(first: 40) { nodes { id } } }", true),
        ("{ chats(first: 40) { nodes { id title } } }", false),
        ("{ chats { nodes { createdBy { id } } } }", false),
    ] {
        assert_eq!(alice.ask(query).await.body.get("errors").is_none(), is_allowed, "{query}");
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
        let response = post(&app, &[], graphql_body(query, json!({}))).await;
        assert_eq!((response.code().as_str(), &response.json()["data"]), ("UNAUTHENTICATED", &json!(null)));
    }
    let query = "{ __type(name: \"Chat\") { name } }";
    assert_eq!(alice.ask(query).await.at("__type.name"), "Chat");
    assert_eq!(post(&app, &[], graphql_body(query, json!({}))).await.json(), json!({ "data": { "__type": null } }));
    assert_eq!(post(&app, &[], graphql_body("{ __typename }", json!({}))).await.json()["data"]["__typename"], "Query");
    // Errors suggest no names of fields to anonymous requesters.
    let guess = post(&app, &[], graphql_body("{ chatz { id } }", json!({}))).await;
    assert!(!guess.message().contains("chats"), "{}", guess.message());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn graphiql_is_served_in_development_only() {
    let app = TestApp::sqlite(&[]).await;
    for path in ["/", "/graphiql/cdn", "/graphiql/index.html"] {
        assert_eq!(request(&app, Method::GET, path, &[("host", "localhost")], "").await.status, 404, "{path}");
    }
    app.stop().await;

    let folder = tempfile::tempdir().unwrap();
    let app = TestApp::sqlite(&[("PARLOR_JWT_SECRET", ""), ("PARLOR_DATA", folder.path().to_str().unwrap())]).await;
    for host in ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080"] {
        let page = request(&app, Method::GET, "/", &[("host", host)], "").await;
        assert_eq!((page.status, page.header("cache-control").as_str()), (200, "no-store"), "{host}");
        assert!(page.header("content-security-policy").contains("frame-ancestors 'none'"), "{host}");
        assert!(!page.header("content-security-policy").contains("script-src 'unsafe-inline'"), "{host}");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        let text = String::from_utf8_lossy(&page.body);
        let token = text.split('"').flat_map(|part| part.split(' ')).find(|part| part.starts_with("eyJ"));
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
    // A page under a foreign name that resolves to this machine contains no token.
    for host in ["evil.example", "localhost.evil.example:8080", "127.0.0.1.evil.example", "127.0.0.1@evil.example"] {
        for path in ["/", "/graphiql/cdn"] {
            let page = request(&app, Method::GET, path, &[("host", host)], "").await;
            assert_eq!(page.status, 421, "{host}");
            assert!(!String::from_utf8_lossy(&page.body).contains("eyJ"));
        }
    }
    // The page of a build without Node has the same tabs, and its policy allows its scripts only.
    let page = request(&app, Method::GET, "/graphiql/cdn", &[("host", "localhost")], "").await;
    assert_eq!((page.status, page.header("cache-control").as_str()), (200, "no-store"));
    let policy = page.header("content-security-policy");
    assert!(policy.contains("frame-ancestors 'none'") && policy.matches("'sha256-").count() == 3, "{policy}");
    let text = String::from_utf8_lossy(&page.body);
    for part in ["{\"token\":\"eyJ", "query FirstQuery", "mutation OpenChat", "subscription FirstFeed"] {
        assert!(text.contains(part), "{part}");
    }
    // A proxy on this machine forwards the requests of others, whatever name it uses for this server.
    for (name, value) in [
        ("forwarded", "for=203.0.113.7"),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-host", "chat.example"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-server", "proxy"),
        ("x-real-ip", "203.0.113.7"),
        ("via", "1.1 proxy"),
        ("cf-connecting-ip", "203.0.113.7"),
    ] {
        let page = request(&app, Method::GET, "/", &[("host", "localhost"), (name, value)], "").await;
        assert_eq!(page.status, 421, "{name}");
        assert!(!String::from_utf8_lossy(&page.body).contains("eyJ"), "{name}");
    }
    for (request_line, host) in [("GET / HTTP/1.0", "localhost"), ("GET http://chat.example/ HTTP/1.1", "localhost")] {
        let response =
            raw_response(&app, &format!("{request_line}\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await;
        assert!(response.contains(" 421 ") && !response.contains("eyJ"), "{request_line}: {response}");
    }
    for path in
        ["/graphiql/index.html", "/graphiql/nothing.js", "/graphiql/../Cargo.toml", "/graphiql/..%2f..%2fCargo.toml"]
    {
        assert_eq!(request(&app, Method::GET, path, &[], "").await.status, 404, "{path}");
    }
    // On a development server, anonymous requesters may read the schema.
    let schema = post(&app, &[], graphql_body("{ __schema { queryType { name } } }", json!({}))).await;
    assert_eq!(schema.json(), json!({ "data": { "__schema": { "queryType": { "name": "Query" } } } }));
    app.stop().await;
}

/// Sends a request as it is, and returns everything that the server sends until it closes.
async fn raw_response(app: &TestApp, request: &str) -> String {
    let mut stream = TcpStream::connect(app.addr).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("the server reads the request");
    let mut response = String::new();
    stream.read_to_string(&mut response).await.expect("a response");
    response
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
    for (user, field, input, code) in [
        (&bob, "sendMessage", send("hello again", json!("n")), "CONFLICT"),
        (&bob, "sendMessage", send("hello again", json!("m")), "RATE_LIMITED"),
        (&bob, "updateChat", json!({ "chatId": chat, "title": "Mine" }), "FORBIDDEN"),
        (&bob, "sendMessage", json!({ "chatId": "chat_none", "text": "x" }), "NOT_FOUND"),
    ] {
        let selection = if field == "updateChat" { "chat { id }" } else { "message { id }" };
        let reply = user.mutate_returning(field, input, selection).await;
        reply.assert_error(code);
        let retry_after = reply.body["errors"][0]["extensions"]["retryAfterMs"].as_u64();
        assert_eq!(retry_after.is_some_and(|millis| (1..=3_600_000).contains(&millis)), code == "RATE_LIMITED");
    }
    bob.mutate_returning("sendMessage", send(" ", json!(null)), "message { id }").await.assert_bad_input("text");
    app.stop().await;
}
