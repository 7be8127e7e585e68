//! A database that refuses changes: read-only, without room, or short of resources.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use parlor::bootstrap;
use parlor::domain::clock::Clock;
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use serde_json::json;
use testkit::http::probe;
use testkit::process::{issue_token, server_command};
use testkit::{Database, Engine, SECRET, ServerProcess, TestApp, User, config, engine_test, postgres_test, wait_until};

/// Returns the status and the reason of a server's readiness.
pub async fn readiness(app: &TestApp) -> (u16, String) {
    probe(app.addr, "/readyz").await.expect("the server answers")
}

/// Makes inserting a message fail, on both engines with the error that stands for a condition.
async fn fail_inserts(database: &Database, sqlite_message: &str, sqlstate: &str) {
    let sqlite =
        format!("CREATE TRIGGER failing BEFORE INSERT ON messages BEGIN SELECT RAISE(ABORT, '{sqlite_message}'); END");
    // The text is in another language, as with another `lc_messages`.
    let postgres = format!(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'Meldung des Servers' USING ERRCODE = '{sqlstate}'; END $$; \
         CREATE TRIGGER failing BEFORE INSERT ON messages EXECUTE FUNCTION fail()"
    );
    database.execute_by_engine(&sqlite, &postgres).await;
}

async fn end_failure(database: &Database) {
    let postgres = "DROP TRIGGER failing ON messages; DROP FUNCTION fail";
    database.execute_by_engine("DROP TRIGGER failing", postgres).await;
}

#[engine_test]
async fn full_disk_makes_sends_unavailable_and_the_node_unready_until_it_has_room(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    fail_inserts(&app.database, "database or disk is full", "53100").await;
    for _ in 0..3 {
        alice.try_send_message(&chat, json!({ "text": "no room" })).await.assert_unavailable();
    }
    assert_eq!(alice.fetch_chat(&chat, "title").await["title"], "Walk", "reading needs no room");
    end_failure(&app.database).await;
    // The readiness check commits a change itself, so the node becomes ready without a request.
    wait_until("the node is ready", async || readiness(app).await.0 == 200).await;
    alice.send(&chat, "room").await;
}

#[postgres_test]
async fn failures_follow_from_the_sqlstate_whatever_the_language() {
    let app = TestApp::start(Database::create(Engine::Postgres).await, &[]).await;
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    for sqlstate in ["53200", "53300", "57P01", "57P02", "57P03", "08006", "58030", "40001", "40P01", "55P03", "57014"]
    {
        fail_inserts(&app.database, "", sqlstate).await;
        let reply = alice.try_send_message(&chat, json!({ "text": sqlstate })).await;
        assert_eq!(reply.code(), "UNAVAILABLE", "{sqlstate}: {}", reply.body);
        reply.assert_unavailable();
        end_failure(&app.database).await;
        let recovers = async || {
            let reply = alice.try_send_message(&chat, json!({ "text": "back" })).await;
            reply.body.get("errors").is_none()
        };
        wait_until("a send succeeds", recovers).await;
    }
    fail_inserts(&app.database, "", "22012").await;
    alice.try_send_message(&chat, json!({ "text": "a fault" })).await.assert_error("INTERNAL");
    app.stop().await;
}

#[postgres_test]
async fn read_only_database_is_unavailable_for_changes_and_the_node_unready() {
    let app = TestApp::start(Database::create(Engine::Postgres).await, &[]).await;
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    app.database.set_read_only(true).await;
    let is_read_only = async || {
        let reply = alice.try_send_message(&chat, json!({ "text": "no" })).await;
        reply.assert_unavailable();
        reply.body["errors"][0]["message"] == "the database is read-only"
    };
    wait_until("the connections lead to the read-only database", is_read_only).await;
    alice.mutate("updateChat", json!({ "chatId": chat, "title": "Other" })).await.assert_unavailable();
    assert_eq!(alice.fetch_chat(&chat, "title").await["title"], "Walk");
    assert_eq!(readiness(&app).await, (503, "the database is read-only\n".to_owned()));
    app.database.set_read_only(false).await;
    wait_until("the node is ready", async || readiness(&app).await.0 == 200).await;
    alice.send(&chat, "yes").await;
    app.stop().await;
}

#[postgres_test]
async fn read_only_database_is_refused_at_the_start() {
    let app = TestApp::start(Database::create(Engine::Postgres).await, &[]).await;
    let database = app.shut_down().await;
    database.set_read_only(true).await;
    let started = bootstrap::start(&config(&database.url, &[]), Clock::system()).await;
    let error = started.map(|_| ()).expect_err("the database is read-only").to_string();
    assert!(error.starts_with("DATABASE_URL: the database is read-only"), "{error}");
    database.set_read_only(false).await;
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_sqlite_file_is_refused_at_the_start() {
    let app = TestApp::sqlite(&[]).await;
    let database = app.shut_down().await;
    let path = database.sqlite_path();
    let folder = path.parent().expect("a folder");
    let set_mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("own files");
    };
    set_mode(&path, 0o444);
    set_mode(folder, 0o555);
    let settings = [("DATABASE_URL", &*database.url), ("PARLOR_JWT_SECRET", SECRET), ("PARLOR_ADDR", "127.0.0.1:0")];
    let mut command = server_command(folder, &settings);
    // A thread of its own, because the set of capabilities belongs to the thread.
    let (ended, output) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        if rustix::process::getuid().is_root() {
            // Root may write to every file, whatever its mode. The server inherits the removal.
            remove_capability_from_bounding_set(CapabilitySet::DAC_OVERRIDE).expect("root may give up a capability");
        }
        ended.send(command.output())
    });
    let output = tokio::time::timeout(Duration::from_secs(30), output).await.expect("the server ends");
    let output = output.expect("no panic").expect("the binary runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("DATABASE_URL") && text.contains("read-only"), "{text}");
    set_mode(folder, 0o755);
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_disk_of_a_sqlite_file_makes_sends_unavailable_and_the_node_unready() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = [("PARLOR_JWT_SECRET", SECRET)];
    let server = ServerProcess::start(folder.path(), &settings);
    let alice = User::new(server.addr, "alice", issue_token(folder.path(), "alice"));
    let chat = alice.group("Walk", &[]).await;
    alice.send(&chat, "before").await;
    // No file of the process can grow, as on a full disk.
    server.process.limit_file_size(Some(0));
    for _ in 0..3 {
        alice.try_send_message(&chat, json!({ "text": "no room" })).await.assert_unavailable();
    }
    let ready = async || probe(server.addr, "/readyz").await.expect("an answer");
    let (status, reason) = ready().await;
    assert_eq!(status, 503, "{reason}");
    assert!(reason.contains("disk of the database"), "{reason}");
    assert_eq!(alice.fetch_chat(&chat, "title").await["title"], "Walk", "reading needs no room");
    server.process.limit_file_size(None);
    wait_until("the node is ready", async || ready().await.0 == 200).await;
    alice.send(&chat, "after").await;
    assert_eq!(alice.fetch_texts(&chat).await, ["before", "after"]);
    server.kill();
}
