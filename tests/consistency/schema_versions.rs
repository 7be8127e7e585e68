//! Databases that a newer version of Parlor migrated.

use parlor::bootstrap;
use parlor::domain::clock::Clock;
use testkit::process::run_command;
use testkit::{Database, Engine, TestApp, config, engine_test};

/// A migration that this version does not know.
const NEWER: &str = "INSERT INTO __diesel_schema_migrations (version) VALUES ('00000000000999')";

async fn migrated(engine: Engine) -> Database {
    TestApp::start(Database::create(engine).await, &[]).await.shut_down().await
}

/// Asserts that neither a server nor `parlor migrate` uses the database, and that they say why.
async fn assert_refused(database: &Database, words: &[&str]) {
    for mode in ["auto", "check", "off"] {
        let settings = config(&database.url, &[("PARLOR_MIGRATE", mode)]);
        let error = bootstrap::start(&settings, Clock::system()).await.err().expect("an error").to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{mode}: {error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let output = run_command(folder.path(), &[("DATABASE_URL", &database.url)], &["migrate"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && words.iter().all(|word| error.contains(word)), "{error}");
}

#[engine_test]
async fn migrated_database_records_its_version(engine: Engine) {
    let database = migrated(engine).await;
    let newest = "SELECT max(CAST(version AS BIGINT)) FROM __diesel_schema_migrations";
    assert_eq!(database.query_number("SELECT version FROM schema_version").await, database.query_number(newest).await);
    database.drop().await;
}

#[engine_test]
async fn newer_schema_that_was_only_extended_is_served(engine: Engine) {
    let app = TestApp::start(Database::create(engine).await, &[]).await;
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    alice.send(&chat, "before").await;
    let database = app.shut_down().await;
    // The first step of a change in two releases: a column that may be missing, and a table.
    database.execute("ALTER TABLE messages ADD COLUMN mood text").await;
    database.execute("CREATE TABLE moods (bucket integer NOT NULL, mood text NOT NULL)").await;
    database.execute(NEWER).await;
    database.execute("UPDATE schema_version SET version = 999").await;
    for mode in ["auto", "check", "off"] {
        let settings = config(&database.url, &[("PARLOR_MIGRATE", mode)]);
        bootstrap::start(&settings, Clock::system()).await.expect(mode).database.close();
    }
    let folder = tempfile::tempdir().unwrap();
    let output = run_command(folder.path(), &[("DATABASE_URL", &database.url)], &["migrate"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0 migrations run\n");
    let app = TestApp::start(database, &[]).await;
    let alice = app.user("alice").await;
    alice.send(&chat, "after").await;
    assert_eq!(
        alice.fetch_chat(&chat, "messages(last: 2) { nodes { text } }").await["messages"]["nodes"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let database = app.shut_down().await;
    assert_eq!(database.query_number("SELECT version FROM schema_version").await, 999, "it stays the newer version's");
    database.drop().await;
}

#[engine_test]
async fn newer_schema_is_refused_below_its_oldest_reader_or_writer(engine: Engine) {
    let database = migrated(engine).await;
    database.execute(NEWER).await;
    database.execute("UPDATE schema_version SET version = 999, oldest_writer = 998").await;
    assert_refused(&database, &["the schema 999", "know the schema 998 or newer may write it"]).await;
    database.execute("UPDATE schema_version SET oldest_reader = 997").await;
    assert_refused(&database, &["the schema 999", "know the schema 997 or newer may read it"]).await;
    database.drop().await;
}

#[engine_test]
async fn newer_schema_that_lacks_a_known_migration_is_refused(engine: Engine) {
    let database = migrated(engine).await;
    database.execute(NEWER).await;
    database.execute("DELETE FROM __diesel_schema_migrations WHERE version = '00000000000002'").await;
    assert_refused(&database, &["the database has the schema 00000000000999"]).await;
    database.drop().await;
}
