//! A database that gives no answer: stopped, behind a lost network, or behind a pooler with its own rules.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use parlor::bootstrap;
use parlor::domain::clock::Clock;
use serde_json::json;
use testkit::process::issue_token;
use testkit::{
    Database, Engine, Reply, SECRET, ServerProcess, TcpRelay, TestApp, User, config, postgres_test, wait_until,
};

use crate::consistency::database_conditions::readiness;

/// The time in which a read is answered while the database gives no answer.
const MAX_READ_TIME: Duration = Duration::from_secs(5);
/// The time in which a change is answered while the database gives no answer.
const MAX_CHANGE_TIME: Duration = Duration::from_secs(10);
/// The time after which requests succeed again when the database answers.
const RECOVERY_TIME: Duration = Duration::from_secs(2);

const CHATS: &str = "{ chats(first: 5) { nodes { id title } } }";

/// A server whose connections to PostgreSQL lead through a relay.
async fn start_behind_relay(settings: &[(&str, &str)]) -> (TestApp, TcpRelay) {
    let database = Database::create(Engine::Postgres).await;
    let relay = TcpRelay::start(database.postgres_addr()).await;
    let url = database.url_at(relay.addr());
    let settings = [&[("DATABASE_URL", &*url)], settings].concat();
    (TestApp::start(database, &settings).await, relay)
}

async fn timed(request: impl Future<Output = Reply>) -> (Reply, Duration) {
    let started_at = Instant::now();
    (request.await, started_at.elapsed())
}

fn succeeded(reply: &Reply) -> bool {
    reply.body.get("errors").is_none()
}

/// Waits until a read and a send succeed, and returns how long that took.
async fn recovery_time(user: &User, chat: &str) -> Duration {
    let started_at = Instant::now();
    let recovers = async || {
        let (read, send) = futures_util::join!(user.ask(CHATS), user.try_send_message(chat, json!({ "text": "back" })));
        succeeded(&read) && succeeded(&send)
    };
    wait_until("requests succeed again", recovers).await;
    started_at.elapsed()
}

#[postgres_test]
async fn silent_database_is_unavailable_in_time_and_recovers_without_a_restart() {
    let (app, relay) = start_behind_relay(&[]).await;
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    alice.send(&chat, "before").await;
    relay.hold();
    // More of each kind than there are connections and permits, so that some wait for their turn.
    let reads = join_all((0..40).map(|n| timed(if n % 2 == 0 { alice.ask(CHATS) } else { bob.ask(CHATS) })));
    let sends = join_all((0..20).map(|_| timed(alice.try_send_message(&chat, json!({ "text": "during" })))));
    let edits = join_all(
        (0..20).map(|n| timed(alice.mutate("updateChat", json!({ "chatId": chat, "title": format!("Walk {n}") })))),
    );
    let ready = async {
        let started_at = Instant::now();
        let (status, reason) = readiness(&app).await;
        assert_eq!(status, 503, "{reason}");
        assert!(reason.contains("database"), "{reason}");
        started_at.elapsed()
    };
    let (reads, sends, edits, ready_time) = futures_util::join!(reads, sends, edits, ready);
    for (reply, time) in reads {
        reply.assert_unavailable();
        assert!(time < MAX_READ_TIME, "{time:?}");
    }
    for (reply, time) in sends.into_iter().chain(edits) {
        reply.assert_unavailable();
        assert!(time < MAX_CHANGE_TIME, "{time:?}");
    }
    assert!(ready_time < Duration::from_secs(6), "{ready_time:?}");
    relay.release();
    let time = recovery_time(&alice, &chat).await;
    assert!(time < RECOVERY_TIME, "{time:?}");
    assert_eq!(readiness(&app).await.0, 200);
    assert_eq!(app.database.query_number("SELECT count(*) FROM messages WHERE text = 'during'").await, 0);
    app.stop().await;
}

#[postgres_test]
async fn commit_without_an_answer_is_internal_and_its_replay_finds_it() {
    let (app, relay) = start_behind_relay(&[]).await;
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    alice.send(&chat, "before").await;
    let input = json!({ "text": "perhaps", "nonce": "once" });
    relay.hold_after(b"COMMIT\0");
    let (reply, time) = timed(alice.try_send_message(&chat, input.clone())).await;
    reply.assert_error("INTERNAL");
    assert!(time < MAX_CHANGE_TIME, "{time:?}");
    relay.release();
    let time = recovery_time(&alice, &chat).await;
    assert!(time < RECOVERY_TIME, "{time:?}");
    let mut input = input;
    input["chatId"] = chat.as_str().into();
    let replay = alice.mutate_returning("sendMessage", input, "replayed message { text }").await;
    assert_eq!(replay.at("sendMessage.replayed"), &json!(true), "the commit succeeded, only its answer was lost");
    assert_eq!(app.database.query_number("SELECT count(*) FROM messages WHERE text = 'perhaps'").await, 1);
    app.stop().await;
}

#[postgres_test]
async fn outage_is_logged_once_and_when_it_ends() {
    let database = Database::create(Engine::Postgres).await;
    let relay = TcpRelay::start(database.postgres_addr()).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = database.url_at(relay.addr());
    let settings = [("DATABASE_URL", &*url), ("PARLOR_JWT_SECRET", SECRET), ("PARLOR_DATABASE_STATEMENT_SECONDS", "1")];
    let server = ServerProcess::start(folder.path(), &settings);
    let alice = User::new(server.addr, "alice", issue_token(folder.path(), "alice"));
    let chat = alice.group("Walk", &[]).await;
    relay.hold();
    for _ in 0..3 {
        for reply in join_all((0..30).map(|_| alice.ask(CHATS))).await {
            reply.assert_unavailable();
        }
    }
    let lines = |text: &str| server.log().lines().filter(|line| line.contains(text)).count();
    let warnings = lines("WARN");
    assert_eq!(lines("the database doesn't answer"), 1, "{}", server.log());
    assert!(warnings <= 4, "{}", server.log());
    relay.release();
    recovery_time(&alice, &chat).await;
    let is_over = async || {
        alice.ask(CHATS).await;
        lines("it is over that the database doesn't answer") == 1
    };
    wait_until("the end of the outage is logged", is_over).await;
    assert!(lines("WARN") <= warnings + 2, "{}", server.log());
    server.kill();
    database.drop().await;
}

#[postgres_test]
async fn ended_connections_are_unavailable_once_and_replaced() {
    let app = TestApp::start(Database::create(Engine::Postgres).await, &[]).await;
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    app.database.block_connections().await;
    alice.ask(CHATS).await.assert_unavailable();
    alice.try_send_message(&chat, json!({ "text": "during" })).await.assert_unavailable();
    let (status, reason) = readiness(&app).await;
    assert_eq!((status, &*reason), (503, "the database can't be reached\n"));
    app.database.allow_connections().await;
    let time = recovery_time(&alice, &chat).await;
    assert!(time < RECOVERY_TIME, "{time:?}");
    app.stop().await;
}

#[postgres_test]
async fn pooler_that_refuses_options_gets_the_limits_with_each_transaction() {
    let database = Database::create(Engine::Postgres).await;
    // As PgBouncer answers: an error of the class of protocol violations.
    let fields = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0";
    let length = u32::try_from(fields.len() + 4).expect("a short message").to_be_bytes();
    let answer = [b"E", &length[..], fields].concat();
    let relay = TcpRelay::start_refusing(database.postgres_addr(), b"options\0", &answer).await;
    let url = database.url_at(relay.addr());
    let app = TestApp::start(database, &[("DATABASE_URL", &*url)]).await;
    let alice = app.user("alice").await;
    let chat = alice.group("Held", &[]).await;
    let other = app.database.postgres_client().await;
    let lock = "BEGIN; SELECT FROM chats WHERE title = 'Held' FOR UPDATE";
    other.batch_execute(lock).await.expect("the lock");
    let change = alice.mutate("updateChat", json!({ "chatId": chat, "title": "Other" }));
    let send = alice.try_send_message(&chat, json!({ "text": "held" }));
    for (reply, time) in <[_; 2]>::from(futures_util::join!(timed(change), timed(send))) {
        reply.assert_unavailable();
        assert!(time < MAX_READ_TIME, "{time:?}");
    }
    other.batch_execute("COMMIT").await.expect("the lock ends");
    alice.send(&chat, "after the lock").await;
    app.stop().await;
}

#[postgres_test]
async fn connections_are_named_after_the_node_and_limited_by_the_server() {
    let app = TestApp::start(Database::create(Engine::Postgres).await, &[("PARLOR_NODE_NAME", "north")]).await;
    app.user("alice").await;
    let named = "SELECT count(*) FROM pg_stat_activity \
                 WHERE datname = current_database() AND application_name LIKE 'parlor/north%'";
    assert!(app.database.query_number(named).await > 0);
    let mut conn = app.app.database.read().await.expect("a connection");
    for setting in ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"] {
        // Fails unless the server has a limit, and tells so by a division by zero.
        let limit =
            format!("DO $$ BEGIN PERFORM 1 / (SELECT setting::int FROM pg_settings WHERE name = '{setting}'); END $$");
        conn.batch_execute(&limit).await.unwrap_or_else(|error| panic!("{setting}: {error}"));
    }
    drop(conn);
    app.stop().await;
}

#[postgres_test]
async fn server_does_not_start_without_an_answer_of_the_database() {
    let database = Database::create(Engine::Postgres).await;
    let relay = TcpRelay::start(database.postgres_addr()).await;
    relay.hold();
    let started_at = Instant::now();
    let started = bootstrap::start(&config(&database.url_at(relay.addr()), &[]), Clock::system()).await;
    let error = started.map(|_| ()).expect_err("no answer").to_string();
    assert!(error.starts_with("DATABASE_URL"), "{error}");
    assert!(started_at.elapsed() < MAX_READ_TIME, "{:?}", started_at.elapsed());
    database.drop().await;
}
