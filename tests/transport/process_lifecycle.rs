//! The life of the server's process: start, signals, readiness, and limits that its supervisor sets.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::http::probe;
use testkit::keys::{HostKey, KeyServer, key_set};
use testkit::process::{ChildProcess, free_addr, issue_token, run_command, server_command};
use testkit::{
    Database, Engine, HeldLock, LOCK_MIGRATIONS, SECRET, ServerProcess, TcpRelay, User, engine_test, http_client,
    postgres_test, wait_until,
};

use crate::transport::tokens::claims;

const KEYS: (&str, &str) = ("PARLOR_JWT_SECRET", SECRET);

fn user(folder: &Path, addr: SocketAddr, id: &str) -> User {
    User::new(addr, id, issue_token(folder, id))
}

/// Starts a server that accepts connections and never answers.
async fn start_hanging_server() -> TcpRelay {
    let relay = TcpRelay::start(free_addr()).await;
    relay.hold();
    relay
}

/// Starts a server that hangs in its start, and checks its health and its end by a signal.
async fn check_start_that_hangs(settings: &[(&str, &str)], step: &str, signal: &str) {
    let folder = tempfile::tempdir().unwrap();
    let addr = free_addr();
    let text = addr.to_string();
    let settings = [settings, &[("PARLOR_ADDR", text.as_str()), ("PARLOR_STOP_DELAY_SECONDS", "600")]].concat();
    let mut server = ChildProcess::start("parlor", &mut server_command(folder.path(), &settings), folder.path());
    let expected = (503, format!("starting: {step}\n"));
    wait_until("the step runs", async || probe(addr, "/readyz").await.as_ref() == Some(&expected)).await;
    assert_eq!(probe(addr, "/healthz").await, Some((200, "alive\n".into())), "a restart would not help");
    let response = http_client().post(format!("http://{addr}/graphql")).body("{}").send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    let body: serde_json::Value = response.json().await.unwrap();
    assert_eq!(body["errors"][0]["extensions"], json!({ "code": "UNAVAILABLE", "retryAfterMs": 1000 }));
    let signalled_at = Instant::now();
    server.signal(signal);
    assert_eq!(server.wait().await.code(), Some(0), "{}", server.log());
    assert!(signalled_at.elapsed() < Duration::from_secs(10), "nothing is served that could be drained");
    assert!(server.log().contains("stopped before the start was complete"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_reported_and_signal_ends_process_while_database_does_not_answer() {
    let server = start_hanging_server().await;
    let url = format!("postgres://parlor@{}/chat?sslmode=disable&connect_timeout=600", server.addr());
    for signal in ["TERM", "INT"] {
        let settings = [KEYS, ("DATABASE_URL", url.as_str())];
        check_start_that_hangs(&settings, "opening the database", signal).await;
    }
}

#[engine_test]
async fn health_is_reported_and_signal_ends_process_while_migration_waits_for_lock(engine: Engine) {
    let database = Database::create(engine).await;
    let sqlite = "PRAGMA journal_mode = WAL; BEGIN IMMEDIATE";
    let lock = HeldLock::take(&database, sqlite, LOCK_MIGRATIONS).await;
    check_start_that_hangs(&[KEYS, ("DATABASE_URL", database.url.as_str())], "migrating the database", "TERM").await;
    drop(lock);
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_reported_and_signal_ends_process_while_keys_are_fetched() {
    let server = start_hanging_server().await;
    let url = format!("http://{}/keys", server.addr());
    check_start_that_hangs(&[("PARLOR_JWKS", url.as_str())], "reading the token keys", "TERM").await;
}

#[engine_test]
async fn stopping_server_is_not_ready_and_still_serves_during_the_delay(engine: Engine) {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::create(engine).await;
    let settings = [KEYS, ("DATABASE_URL", database.url.as_str()), ("PARLOR_STOP_DELAY_SECONDS", "600")];
    let mut server = ServerProcess::start(folder.path(), &settings);
    let alice = user(folder.path(), server.addr, "alice");
    let chat = alice.group("Shutdown", &[]).await;
    let mut feed = alice.feed(&chat, None, None).await;
    feed.expect("FeedCaughtUp").await;
    assert_eq!(probe(server.addr, "/readyz").await, Some((200, "ready\n".into())));
    server.signal("TERM");
    wait_until("the server is not ready", async || {
        probe(server.addr, "/readyz").await == Some((503, "stopping\n".into()))
    })
    .await;
    assert_eq!(probe(server.addr, "/healthz").await, Some((200, "alive\n".into())));
    // Open and new connections are served as before.
    alice.send(&chat, "still here").await;
    feed.expect("MessageUpserted").await;
    let mut late_feed = alice.feed(&chat, None, None).await;
    late_feed.expect("FeedCaughtUp").await;
    // A second signal ends the delay, and the usual stop follows.
    server.signal("TERM");
    assert_eq!(feed.socket.expect_close().await, (1012, "Service restart".into()));
    assert_eq!(late_feed.socket.expect_close().await, (1012, "Service restart".into()));
    assert_eq!(server.wait().await.code(), Some(0));
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_follows_the_delay_without_a_second_signal() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = ServerProcess::start(folder.path(), &[KEYS, ("PARLOR_STOP_DELAY_SECONDS", "1")]);
    let signalled_at = Instant::now();
    server.signal("INT");
    assert_eq!(server.wait().await.code(), Some(0));
    assert!(signalled_at.elapsed() >= Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn hangup_reads_the_key_set_again_and_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (HostKey::ed(0), HostKey::ed(1));
    let file = folder.path().join("keys.json");
    std::fs::write(&file, key_set(&[&old])).unwrap();
    let settings = [("PARLOR_JWKS", "keys.json"), ("PARLOR_JWT_ALGORITHM", "EdDSA")];
    let mut server = ServerProcess::start(folder.path(), &settings);
    let [old_alice, new_alice] = [&old, &new].map(|key| User::new(server.addr, "alice", key.sign(claims(json!({})))));
    old_alice.ask("{ viewer { user { id } } }").await.data();
    std::fs::write(&file, key_set(&[&new])).unwrap();
    server.signal("HUP");
    wait_until("the keys are read again", async || server.log().contains("SIGHUP: read the token keys again")).await;
    new_alice.ask("{ viewer { user { id } } }").await.data();
    assert_eq!(old_alice.ask("{ viewer { user { id } } }").await.code(), "UNAUTHENTICATED", "the key was withdrawn");
    // A set that cannot be read leaves the known keys in use.
    std::fs::write(&file, "no key set").unwrap();
    server.signal("HUP");
    wait_until("the failure is logged", async || server.log().contains("SIGHUP: the token keys cannot be read")).await;
    new_alice.ask("{ viewer { user { id } } }").await.data();
    server.signal("TERM");
    assert_eq!(server.wait().await.code(), Some(0));

    let mut server = ServerProcess::start(folder.path(), &[KEYS]);
    server.signal("HUP");
    wait_until("the signal is logged", async || server.log().contains("SIGHUP: nothing to read again")).await;
    assert_eq!(probe(server.addr, "/readyz").await, Some((200, "ready\n".into())));
    server.signal("TERM");
    assert_eq!(server.wait().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn server_is_not_ready_before_the_first_key_set_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let host = KeyServer::start().await;
    let key = HostKey::ed(0);
    let settings = [("PARLOR_JWKS", host.url.as_str()), ("PARLOR_JWT_ALGORITHM", "EdDSA")];
    let mut server = ServerProcess::start(folder.path(), &settings);
    let expected = (503, "the token keys have not been read yet\n".to_owned());
    assert_eq!(probe(server.addr, "/readyz").await, Some(expected));
    assert_eq!(probe(server.addr, "/healthz").await, Some((200, "alive\n".into())));
    host.publish(&[&key]);
    server.signal("HUP");
    wait_until("the server is ready", async || probe(server.addr, "/readyz").await == Some((200, "ready\n".into())))
        .await;
    // Keys that were read once stay valid while the host cannot be reached.
    host.fail();
    server.signal("HUP");
    wait_until("the failure is logged", async || server.log().contains("SIGHUP: the token keys cannot be read")).await;
    assert_eq!(probe(server.addr, "/readyz").await, Some((200, "ready\n".into())));
    server.signal("TERM");
    server.wait().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn file_size_limit_fails_writes_and_ends_no_process() {
    let folder = tempfile::tempdir().unwrap();
    // The unit is 512 bytes or 1 KiB, by the shell.
    let mut server = ServerProcess::start_limited(folder.path(), &[KEYS], "-f 4000");
    let alice = user(folder.path(), server.addr, "alice");
    let chat = alice.group("Full", &[]).await;
    let text = "x".repeat(8_000);
    wait_until("a send fails", async || {
        let input = json!({ "chatId": chat, "text": text });
        let reply = alice.mutate_returning("sendMessage", input, "message { id }").await;
        reply.body.get("errors").is_some()
    })
    .await;
    // The signal is delivered by the failed write, and also if somebody sends it.
    server.signal("XFSZ");
    wait_until("the signal is logged", async || server.log().contains("a file reached the limit of file size")).await;
    assert!(server.is_running(), "{}", server.log());
    assert_eq!(probe(server.addr, "/healthz").await, Some((200, "alive\n".into())));
    alice.ask("{ chats { nodes { id } } }").await.data();
    server.signal("TERM");
    server.wait().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn service_links_of_kubernetes_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        KEYS,
        ("PARLOR_SERVICE_HOST", "10.0.0.1"),
        ("PARLOR_SERVICE_PORT", "80"),
        ("PARLOR_SERVICE_PORT_HTTP", "80"),
        ("PARLOR_PORT", "tcp://10.0.0.1:80"),
        ("PARLOR_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("PARLOR_PORT_80_TCP_PROTO", "tcp"),
        ("PARLOR_PORT_80_TCP_PORT", "80"),
        ("PARLOR_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("PARLOR_REDIS_MASTER_SERVICE_HOST", "10.0.0.2"),
        ("PARLOR_REDIS_MASTER_SERVICE_PORT_TCP_REDIS", "6379"),
        ("PARLOR_REDIS_MASTER_PORT", "tcp://10.0.0.2:6379"),
        ("PARLOR_REDIS_MASTER_PORT_6379_TCP", "tcp://10.0.0.2:6379"),
    ];
    let mut server = ServerProcess::start(folder.path(), &settings);
    assert_eq!(probe(server.addr, "/readyz").await, Some((200, "ready\n".into())));
    server.signal("TERM");
    server.wait().await;
}

#[test]
fn address_that_is_taken_is_reported_with_its_setting() {
    let folder = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    for (name, other) in [("PARLOR_ADDR", "PARLOR_METRICS_ADDR"), ("PARLOR_METRICS_ADDR", "PARLOR_ADDR")] {
        let settings = [KEYS, ("PARLOR_LOG", "off"), (name, taken.as_str()), (other, "127.0.0.1:0")];
        let output = run_command(folder.path(), &settings, &[]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "nothing is announced: {error}");
        assert!(error.starts_with(&format!("{name}={taken}: ")), "{error}");
    }
}

#[test]
fn development_server_refuses_settings_of_production() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("PARLOR_ADDR", "127.0.0.1:0"),
        ("DATABASE_URL", "postgres://parlor:hush@127.0.0.1:1/chat"),
        ("REDIS_URL", "redis://127.0.0.1:1"),
    ];
    let output = run_command(folder.path(), &settings, &[]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("DATABASE_URL: must be an SQLite file without PARLOR_JWT_SECRET or PARLOR_JWKS"), "{error}");
    assert!(error.contains("REDIS_URL: must not be set without") && !error.contains("hush"), "{error}");
}

#[postgres_test]
async fn migration_command_needs_no_keys() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::create(Engine::Postgres).await;
    let output = run_command(folder.path(), &[("DATABASE_URL", database.url.as_str())], &["migrate"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    database.drop().await;
}
