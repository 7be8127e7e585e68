//! The server binary: commands, settings, log and shutdown.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};
use testkit::process::run_command;
use testkit::{Database, Engine, SECRET, ServerProcess, TestApp, User, engine_test, http_client};

const KEYS: (&str, &str) = ("PARLOR_JWT_SECRET", SECRET);

/// Runs a command, asserts that it succeeds, and returns its output.
fn run_ok(folder: &Path, settings: &[(&str, &str)], arguments: &[&str]) -> String {
    let output = run_command(folder, settings, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command, asserts that it fails with status 2 and without output, and returns the error.
fn run_failing(folder: &Path, settings: &[(&str, &str)], arguments: &[&str]) -> String {
    let output = run_command(folder, settings, arguments);
    assert_eq!(output.status.code(), Some(2), "{settings:?} {arguments:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    String::from_utf8(output.stderr).unwrap()
}

fn claims(token: &str) -> Value {
    let claims = token.trim().split('.').nth(1).expect("a token");
    serde_json::from_slice(&BASE64.decode(claims).expect("base64")).expect("JSON")
}

#[test]
fn help_lists_every_command_and_setting() {
    let folder = tempfile::tempdir().unwrap();
    let help = run_ok(folder.path(), &[], &["--help"]);
    for command in ["serve", "migrate", "token", "schema", "settings"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}");
    }
    let document = include_str!("../../docs/SETTINGS.md");
    let settings: Vec<_> = document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert!(settings.len() > 50, "{settings:?}");
    for setting in settings {
        assert!(help.contains(&format!("\n  {setting} ")), "{setting} is missing");
    }
    assert!(run_ok(folder.path(), &[], &["--version"]).starts_with("parlor "));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no file was created");
}

#[test]
fn settings_command_prints_settings_document() {
    let folder = tempfile::tempdir().unwrap();
    let document = include_str!("../../docs/SETTINGS.md");
    assert!(run_ok(folder.path(), &[], &["settings"]) == document, "parlor settings > docs/SETTINGS.md");
    // The command needs no settings, so wrong ones do not matter.
    assert!(run_ok(folder.path(), &[("DATABASE_URL", "x")], &["settings"]) == document);
}

#[test]
fn schema_command_prints_schema_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = include_str!("../../schema.graphql");
    assert!(run_ok(folder.path(), &[], &["schema"]) == file, "parlor schema > schema.graphql");
    // The command needs no settings, so wrong ones do not matter.
    assert!(run_ok(folder.path(), &[("DATABASE_URL", "x")], &["schema"]) == file);
}

#[test]
fn invalid_setting_is_reported_before_listening() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("empty.json"), "{\"keys\":[]}").unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    for (settings, expected) in [
        (vec![("PARLOR_PORT", "80")], "PARLOR_PORT: there is no such setting"),
        (vec![("PARLOR_ADDR", "here")], "PARLOR_ADDR=here"),
        (vec![("PARLOR_ADDR", "0.0.0.0:0")], "PARLOR_ADDR=0.0.0.0:0: without PARLOR_JWT_SECRET or PARLOR_JWKS"),
        (vec![("PARLOR_ADDR", "[::]:0")], "PARLOR_ADDR=[::]:0: without"),
        (vec![("PARLOR_JWT_SECRET", "short")], "PARLOR_JWT_SECRET: must have at least 32 bytes"),
        (vec![KEYS, ("PARLOR_JWKS", "empty.json")], "PARLOR_JWKS: must not be set together with PARLOR_JWT_SECRET"),
        (vec![KEYS, ("PARLOR_JWT_ALGORITHM", "none")], "PARLOR_JWT_ALGORITHM=none"),
        (vec![KEYS, ("PARLOR_JWT_ALGORITHM", "RS256")], "PARLOR_JWT_ALGORITHM=RS256"),
        (vec![("PARLOR_JWKS", "nowhere.json")], "PARLOR_JWKS: nowhere.json"),
        (vec![("PARLOR_JWKS", "file")], "PARLOR_JWKS: file: must be a JSON Web Key Set"),
        (vec![("PARLOR_JWKS", "empty.json")], "PARLOR_JWKS: empty.json: must contain a key for RS256"),
        (vec![KEYS, ("PARLOR_MAX_DEPTH", "0")], "PARLOR_MAX_DEPTH=0: must be a whole number from 3 to 24"),
        (vec![KEYS, ("PARLOR_SOCKET_PING_SECONDS", "1.5")], "PARLOR_SOCKET_PING_SECONDS=1.5"),
        (vec![KEYS, ("PARLOR_DEFAULT_PERMISSIONS", "chat.view,chat.fly")], "\"chat.fly\""),
        (vec![KEYS, ("PARLOR_LOG", "parlor=loud")], "PARLOR_LOG=parlor=loud"),
        (vec![KEYS, ("PARLOR_LOG_FORMAT", "xml")], "PARLOR_LOG_FORMAT=xml"),
        (vec![KEYS, ("DATABASE_URL", "mysql://u:hush@db/chat")], "DATABASE_URL: must begin with"),
        (vec![KEYS, ("DATABASE_URL", "sqlite://file/under/a/file.db")], "DATABASE_URL: "),
        (vec![KEYS, ("DATABASE_URL", "postgres://u:hush@127.0.0.1:1/chat")], "DATABASE_URL: "),
    ] {
        let mut settings = settings;
        if !settings.iter().any(|(name, _)| *name == "PARLOR_ADDR") {
            settings.push(("PARLOR_ADDR", "127.0.0.1:0"));
        }
        let error = run_failing(folder.path(), &settings, &[]);
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(!error.contains("hush") && !error.contains(SECRET), "{error}");
    }
    let errors =
        run_failing(folder.path(), &[("PARLOR_ADDR", "x"), ("PARLOR_MAX_DEPTH", "y"), ("PARLOR_Z", "z")], &["serve"]);
    assert_eq!(errors.lines().count(), 3, "{errors}");

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let error = run_failing(folder.path(), &[KEYS, ("PARLOR_ADDR", &addr), ("PARLOR_LOG", "off")], &[]);
    assert!(error.starts_with(&format!("PARLOR_ADDR={addr}: ")), "{error}");
    for arguments in
        [&["fly"][..], &["token"], &["token", "--user", "alice", "--expires", "soon"], &["serve", "--port", "1"]]
    {
        assert!(!run_failing(folder.path(), &[KEYS], arguments).is_empty(), "{arguments:?}");
    }
}

/// Returns the address of GraphiQL and the two tokens that a development server prints.
fn read_announcement(server: &ServerProcess) -> (String, Vec<String>) {
    let (mut graphiql, mut has_warning, mut tokens) = (String::new(), false, Vec::new());
    while tokens.len() < 2 {
        let line = server.next_line();
        has_warning |= line.contains("DEVELOPMENT SERVER");
        if let Some(address) = line.strip_prefix("GraphiQL:") {
            graphiql = address.trim().to_owned();
        } else if line.starts_with("eyJ") {
            tokens.push(line);
        }
    }
    assert!(has_warning);
    (graphiql, tokens)
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_run_starts_development_server_with_persistent_secret() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = ServerProcess::start(folder.path(), &[]);
    assert!(server.addr.ip().is_loopback());
    let (graphiql, tokens) = read_announcement(&server);
    assert_eq!(graphiql, format!("http://{}/", server.addr));
    assert_eq!(http_client().get(&graphiql).send().await.unwrap().status(), 200);
    let [alice, bob] =
        [("alice", &tokens[0]), ("bob", &tokens[1])].map(|(id, token)| User::new(server.addr, id, token.clone()));
    for (user, name) in [(&alice, "Alice"), (&bob, "Bob")] {
        let viewer = user.ask("{ viewer { user { id name } organization { id } } }").await;
        let expected = json!({ "user": { "id": user.id, "name": name }, "organization": { "id": "org_demo" } });
        assert_eq!(viewer.at("viewer"), &expected);
    }
    let chat = alice.group("First", &[&bob]).await;
    alice.send(&chat, "hello").await;
    let mode = folder.path().join("data/development-secret").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only the owner can read the secret");
    server.signal("TERM");
    assert_eq!(server.wait().await.code(), Some(0));

    let server = ServerProcess::start(folder.path(), &[]);
    let reply = bob
        .at(server.addr)
        .ask_with("query($id: ID!) { chat(id: $id) { lastMessage { text } } }", json!({ "id": chat }))
        .await;
    assert_eq!(reply.at("chat.lastMessage.text"), "hello", "the former token is still valid");
    // A token from the command is signed with the same secret.
    let carol = run_ok(folder.path(), &[], &["token", "--user", "carol"]).trim().to_owned();
    let viewer = User::new(server.addr, "carol", carol).ask("{ viewer { user { id } organization { id } } }").await;
    assert_eq!(viewer.at("viewer"), &json!({ "user": { "id": "carol" }, "organization": { "id": "org_demo" } }));

    // A server with keys creates no secret.
    let other = tempfile::tempdir().unwrap();
    let mut server = ServerProcess::start(other.path(), &[KEYS]);
    server.signal("TERM");
    assert!(server.wait().await.success());
    assert!(!other.path().join("data/development-secret").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn token_command_prints_requested_claims() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [KEYS, ("PARLOR_JWT_ISSUER", "https://host"), ("PARLOR_JWT_AUDIENCE", "chat")];
    let app = TestApp::sqlite(&settings).await;
    let arguments = [
        "token",
        "--org",
        "red",
        "--user",
        "zoë",
        "--name",
        "Zoë Z",
        "--picture",
        "https://cdn.example/Zoë.png",
        "--permission",
        "chat.view",
        "--permission",
        "audit.read",
        "--expires",
        "2h",
    ];
    let token = run_ok(folder.path(), &settings, &arguments);
    assert_eq!(token.lines().count(), 1);
    let token_claims = claims(&token);
    let lifetime = token_claims["exp"].as_i64().expect("whole seconds") - app.app.clock.now().timestamp();
    assert!((7_000..=7_200).contains(&lifetime), "{lifetime}");
    let viewer = User::new(app.addr, "zoë", token.trim().into())
        .ask("{ viewer { user { id name avatarUrl } organization { id } permissions } }")
        .await;
    let expected = json!({ "user": { "id": "zoë", "name": "Zoë Z", "avatarUrl": "https://cdn.example/Zo%C3%AB.png" }, "organization": { "id": "org_red" }, "permissions": ["CHAT_VIEW", "AUDIT_READ"] });
    assert_eq!(viewer.at("viewer"), &expected);
    app.stop().await;

    let default_claims = claims(&run_ok(folder.path(), &[KEYS], &["token", "--user", "bob"]));
    assert_eq!((&default_claims["org"], &default_claims["sub"]), (&json!("demo"), &json!("bob")));
    assert_eq!(
        (default_claims.get("permissions"), default_claims.get("iss"), default_claims.get("aud")),
        (None, None, None),
        "{default_claims}"
    );
    assert_eq!(default_claims.get("picture"), None);
    for (picture, rule) in [
        ("nonsense", "must be an absolute http or https URL"),
        ("javascript:alert(1)", "must be an absolute http or https URL"),
        ("https://user@host/", "must not contain a user name or password"),
    ] {
        let error = run_failing(folder.path(), &[KEYS], &["token", "--user", "bob", "--picture", picture]);
        assert!(error.contains("--picture") && error.contains(rule), "{picture}: {error}");
    }
    for (expires, seconds) in [("90s", 90), ("15m", 900), ("1h", 3_600), ("30d", 2_592_000)] {
        let token_claims = claims(&run_ok(folder.path(), &[KEYS], &["token", "--user", "bob", "--expires", expires]));
        let difference = token_claims["exp"].as_i64().expect("whole seconds")
            - default_claims["exp"].as_i64().expect("whole seconds");
        let lifetime = difference + 3_600;
        assert!((seconds..seconds + 60).contains(&lifetime), "{expires}: {lifetime}");
    }
    for expires in ["", "h", "1", "-1h", "101y", "99999999999999999999d", "1ü"] {
        let error = run_failing(folder.path(), &[KEYS], &["token", "--user", "bob", &format!("--expires={expires}")]);
        assert!(error.contains("--expires"), "{expires}: {error}");
    }
    let error = run_failing(folder.path(), &[KEYS], &["token", "--user", "bob", "--permission", "chat.fly"]);
    assert!(error.contains("--permission chat.fly"), "{error}");
    let error = run_failing(folder.path(), &[("PARLOR_JWKS", "https://host/keys")], &["token", "--user", "bob"]);
    assert!(error.contains("PARLOR_JWKS"), "{error}");
}

#[engine_test]
async fn migrate_command_migrates_database_once(engine: Engine) {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::create(engine).await;
    let settings = [KEYS, ("DATABASE_URL", database.url.as_str())];
    let number = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite")).unwrap().count();
    assert_eq!(run_ok(folder.path(), &settings, &["migrate"]), format!("{number} migrations run\n"));
    assert_eq!(run_ok(folder.path(), &settings, &["migrate"]), "0 migrations run\n");
    let mut server = ServerProcess::start(folder.path(), &settings);
    assert!(!server.log().contains("migrated the database"), "the server finds a migrated database");
    server.signal("TERM");
    server.wait().await;
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signal_stops_server_gracefully_with_open_feeds() {
    for signal in ["TERM", "INT"] {
        let folder = tempfile::tempdir().unwrap();
        let mut server = ServerProcess::start(folder.path(), &[KEYS, ("PARLOR_SHUTDOWN_SECONDS", "2")]);
        let token = run_ok(folder.path(), &[KEYS], &["token", "--user", "alice"]);
        let alice = User::new(server.addr, "alice", token.trim().into());
        let chat = alice.group("Shutdown", &[]).await;
        let mut feed = alice.feed(&chat, None, None).await;
        feed.expect("FeedCaughtUp").await;
        // A client that reads nothing, while the events exceed the socket buffers between it and the server.
        let mut stalled_feed = alice.feed(&chat, None, None).await;
        stalled_feed.expect("FeedCaughtUp").await;
        for _ in 0..250 {
            alice.send(&chat, &"𝒳".repeat(8_000)).await;
        }
        server.signal(signal);
        assert_eq!(feed.socket.expect_close().await, (1012, "Service restart".into()), "{signal}");
        assert_eq!(server.wait().await.code(), Some(0), "{signal}");
        assert!(server.log().contains("stopped"), "{}", server.log());
        assert!(alice.try_ask("{ __typename }", json!({})).await.is_none(), "the port is closed");
        drop((feed, stalled_feed));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_log_hides_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [KEYS, ("PARLOR_LOG_FORMAT", "json"), ("PARLOR_LOG", "parlor=trace,tower_http=trace,info")];
    let mut server = ServerProcess::start(folder.path(), &settings);
    let token = run_ok(folder.path(), &[KEYS], &["token", "--user", "alice"]).trim().to_owned();
    let alice = User::new(server.addr, "alice", token.clone());
    let chat = alice.group("canary-title", &[]).await;
    alice.send(&chat, "canary-text").await;
    let mut socket = alice.socket().await;
    socket
        .subscribe("1", "{ chats(filter: { search: \"canary-search\" }) { nodes { id } } }", json!({ "canary": 1 }))
        .await;
    assert_eq!(socket.recv().await["type"], "next");
    drop(socket);
    let url = format!("http://{}/graphql?query={{__typename}}&variables={{\"canary\":1}}", server.addr);
    let request = http_client().get(url).header("x-request-id", "the-request").bearer_auth(&token);
    assert_eq!(request.send().await.unwrap().status(), 200);
    server.signal("TERM");
    server.wait().await;

    let log = server.log();
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    assert!(
        lines
            .iter()
            .all(|line| line["timestamp"].is_string() && line["level"].is_string() && line["target"].is_string())
    );
    let has_logged = |message: &str| lines.iter().any(|line| line["fields"]["message"] == message);
    assert!(has_logged("listening") && has_logged("stopping") && has_logged("stopped"));
    let request_lines: Vec<_> = lines.iter().filter(|line| line["span"]["id"] == "the-request").collect();
    assert!(!request_lines.is_empty(), "the lines of a request have its id");
    assert!(
        request_lines.iter().all(|line| line["span"]["method"] == "GET" && line["span"]["path"] == "/graphql"),
        "{request_lines:?}"
    );
    let signature = token.rsplit('.').next().expect("a signature");
    for secret in ["canary", SECRET, signature] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}
