//! Migrations: servers that start at once, locks of other processes, restores.

use std::process::Stdio;
use std::time::Duration;

use futures_util::future::join_all;
use parlor::bootstrap;
use parlor::domain::clock::Clock;
use parlor::storage::settings::MigrationMode;
use serde_json::{Value, json};
use testkit::process::{ChildProcess, run_command, server_command};
use testkit::{
    Database, Engine, HeldLock, LOCK_MIGRATIONS, TestApp, config, engine_test, pluck, postgres_test, wait_until,
};

/// The number of servers that start at once.
const SERVERS: usize = 6;

/// Starts servers on one database at once in this process, and stops them.
async fn start_at_once(database: &Database) {
    let shared_config = config(&database.url, &[]);
    let starts = (0..SERVERS).map(|_| bootstrap::start(&shared_config, Clock::system()));
    for started in join_all(starts).await {
        started.map(|app| app.database.close()).expect("each server starts");
    }
}

#[engine_test]
async fn servers_started_at_once_on_a_new_database_all_start(engine: Engine) {
    let database = Database::create(engine).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = [("DATABASE_URL", database.url.as_str())];
    let migrate = || {
        let mut command = server_command(folder.path(), &settings);
        command.arg("migrate").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    // Processes, because connections of one process to a file know of each other.
    let processes: Vec<_> = (0..SERVERS).map(|_| migrate()).collect();
    let outputs: Vec<_> = processes.into_iter().map(|process| process.wait_with_output().unwrap()).collect();
    for output in &outputs {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let migrated = outputs.iter().filter(|output| output.stdout != b"0 migrations run\n").count();
    assert_eq!(migrated, 1, "one of them runs all migrations");
    start_at_once(&database).await;
    database.drop().await;
}

#[engine_test]
async fn servers_started_at_once_in_one_process_all_start(engine: Engine) {
    let database = Database::create(engine).await;
    start_at_once(&database).await;
    database.drop().await;
}

#[engine_test]
async fn migrations_run_as_the_setting_says(engine: Engine) {
    let database = Database::create(engine).await;
    let settings = |mode| config(&database.url, &[("PARLOR_MIGRATE", mode)]);
    let error = bootstrap::start(&settings("check"), Clock::system()).await.err().expect("an error").to_string();
    assert!(error.contains("lacks the migrations 00000000000001, ") && error.contains("parlor migrate"), "{error}");
    bootstrap::migrate(&settings("off").database, MigrationMode::Off).await.expect("nothing to do");
    let tables = match engine {
        Engine::Sqlite => "SELECT count(*) FROM sqlite_schema",
        Engine::Postgres => "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'",
    };
    assert_eq!(database.query_number(tables).await, 0, "a check creates nothing");
    // The command migrates whatever the setting says.
    let folder = tempfile::tempdir().unwrap();
    let environment = [("DATABASE_URL", database.url.as_str()), ("PARLOR_MIGRATE", "check")];
    let output = run_command(folder.path(), &environment, &["migrate"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for mode in ["check", "off", "auto"] {
        let app = bootstrap::start(&settings(mode), Clock::system()).await.expect(mode);
        app.database.close();
    }
    database.drop().await;
}

#[engine_test]
async fn start_on_migrated_database_waits_for_no_lock(engine: Engine) {
    let database = TestApp::start(Database::create(engine).await, &[]).await.shut_down().await;
    let settings = config(&database.url, &[]);
    // Another process writes to the file, or a pooler has left a lock behind.
    let lock = HeldLock::take(&database, "BEGIN IMMEDIATE", LOCK_MIGRATIONS).await;
    for mode in [MigrationMode::Auto, MigrationMode::Check] {
        let migration = bootstrap::migrate(&settings.database, mode);
        let migrated = tokio::time::timeout(Duration::from_secs(20), migration).await.expect("no wait");
        assert!(migrated.expect("the schema is up to date").is_empty());
    }
    drop(lock);
    database.drop().await;
}

#[engine_test]
async fn waiting_migration_is_logged_with_the_process_that_it_waits_for(engine: Engine) {
    let database = Database::create(engine).await;
    let hold = format!("SET application_name = 'the holder'; {LOCK_MIGRATIONS}");
    let lock = HeldLock::take(&database, "BEGIN EXCLUSIVE", &hold).await;
    let folder = tempfile::tempdir().unwrap();
    let mut command = server_command(folder.path(), &[("DATABASE_URL", &database.url)]);
    let process = ChildProcess::start("migrate", command.arg("migrate"), folder.path());
    let expected = match engine {
        Engine::Sqlite => "the database is locked by a process",
        Engine::Postgres => "'the holder'",
    };
    wait_until("the log names the holder", async || {
        let log = process.log();
        log.contains("the migrations wait for another process") && log.contains(expected)
    })
    .await;
    drop(lock);
    process.finish().await;
    let app = TestApp::start(database, &[]).await;
    app.stop().await;
}

#[postgres_test]
async fn migration_behind_a_table_lock_lets_other_statements_pass() {
    let database = TestApp::start(Database::create(Engine::Postgres).await, &[]).await.shut_down().await;
    // As if the migrations since the eighth, which empties this table, had not been run.
    database
        .execute(
            "CREATE TABLE message_words (); DROP TABLE search_reindexing; \
             DELETE FROM __diesel_schema_migrations WHERE version = '00000000000008'",
        )
        .await;
    let session = database.postgres_client().await;
    session.batch_execute("BEGIN; LOCK TABLE message_words IN ACCESS SHARE MODE").await.unwrap();
    let settings = config(&database.url, &[]);
    let mut migration = std::pin::pin!(bootstrap::migrate(&settings.database, MigrationMode::Auto));
    // The migration's lock request queues, and this statement behind it, until the migration gives up for a moment.
    let other = async {
        let waits = "SELECT count(*) FROM pg_locks WHERE relation = 'message_words'::regclass AND NOT granted";
        wait_until("the migration waits for the table", async || database.query_number(waits).await > 0).await;
        database.query_number("SELECT count(*) FROM message_words").await
    };
    let passed = tokio::select! {
        migrated = &mut migration => panic!("the migration did not wait: {migrated:?}"),
        count = other => count,
    };
    assert_eq!(passed, 0);
    session.batch_execute("COMMIT").await.unwrap();
    assert_eq!(migration.await.expect("the lock is free"), ["00000000000008"]);
    database.drop().await;
}

#[engine_test]
async fn cursors_from_before_a_restore_reset_every_feed(engine: Engine) {
    let app = TestApp::start(Database::create(engine).await, &[]).await;
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    alice.send(&chat, "before the backup").await;
    let call = alice.start_call(&chat).await.call;
    let feeds = [
        ("callFeed", "($id: ID!, $after: String)", "(callId: $id, after: $after)", json!({ "id": call })),
        ("chatFeed", "($id: ID!, $after: String)", "(chatId: $id, after: $after)", json!({ "id": chat })),
        ("inboxFeed", "($after: String)", "(after: $after)", json!({})),
    ];
    // Returns the first event of each feed that is a reset or the end of a catch-up, after these cursors.
    let resume = async |app: &TestApp, cursors: &[Value]| {
        let bob = app.user("bob").await;
        let mut ends = Vec::new();
        for ((field, variables, arguments, values), cursor) in feeds.iter().zip(cursors) {
            let events = "__typename ... on FeedCaughtUp { cursor } ... on FeedReset { cursor reason }";
            let feed = format!("subscription{variables} {{ {field}{arguments} {{ {events} }} }}");
            let mut values = values.clone();
            values["after"] = cursor.clone();
            let mut socket = bob.socket().await;
            socket.subscribe("1", &feed, values).await;
            ends.push(loop {
                let event = socket.recv().await["payload"]["data"][field].clone();
                if ["FeedCaughtUp", "FeedReset"].map(Value::from).contains(&event["__typename"]) {
                    break event;
                }
            });
        }
        ends
    };
    let cursors = pluck(&Value::from(resume(&app, &[Value::Null, Value::Null, Value::Null]).await), "cursor");
    let database = app.shut_down().await;
    let app = TestApp::start(database, &[]).await;
    let resumed = resume(&app, &cursors).await;
    assert_eq!(pluck(&Value::from(resumed), "__typename"), ["FeedCaughtUp"; 3], "a restart resets no feed");
    let database = app.shut_down().await;
    let folder = tempfile::tempdir().unwrap();
    let output = run_command(folder.path(), &[("DATABASE_URL", &database.url)], &["restored"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let app = TestApp::start(database, &[]).await;
    let alice = app.user("alice").await;
    // New messages take the versions that the cursors may be from.
    alice.send(&chat, "after the restore").await;
    let reset = resume(&app, &cursors).await;
    assert_eq!(pluck(&Value::from(reset.clone()), "reason"), ["CURSOR_INVALID"; 3], "{reset:?}");
    let cursors = pluck(&Value::from(reset), "cursor");
    let resumed = resume(&app, &cursors).await;
    assert_eq!(pluck(&Value::from(resumed), "__typename"), ["FeedCaughtUp"; 3], "the cursor of a reset is valid");
    app.stop().await;
}

#[engine_test]
async fn migration_finds_the_newest_message_that_a_user_wrote(engine: Engine) {
    let app = TestApp::start(Database::create(engine).await, &[]).await;
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let walk = alice.group("Walk", &[&bob]).await;
    alice.group("Silent", &[]).await;
    let root = alice.send(&walk, "first").await;
    bob.send(&walk, "the newest").await;
    bob.send_message(&walk, json!({ "text": "only in the thread", "threadRootId": root })).await;
    bob.mutate_ok("leaveChat", json!({ "chatId": walk })).await;
    let chats = async |app: &TestApp| {
        let list = "{ chats { nodes { title lastActivityAt lastMessage { text } lastEntry { kind }
                    historyForNewMembers viewerMembership { unreadCount } } } }";
        app.user("alice").await.ask(list).await.at("chats.nodes").clone()
    };
    let expected = chats(&app).await;
    assert_eq!(pluck(&expected, "title"), ["Walk", "Silent"]);
    assert_eq!(pluck(&expected, "lastMessage"), [json!({ "text": "the newest" }), Value::Null]);
    let database = app.shut_down().await;
    // As before the migration, when system messages counted as activity.
    database.execute(include_str!("../../migrations/sqlite/00000000000011_history/down.sql")).await;
    database.execute("UPDATE chats SET last_activity_at = changed_at").await;
    database.execute("DELETE FROM __diesel_schema_migrations WHERE version = '00000000000011'").await;
    let app = TestApp::start(database, &[]).await;
    assert_eq!(chats(&app).await, expected);
    app.stop().await;
}
