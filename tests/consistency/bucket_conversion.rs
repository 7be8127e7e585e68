//! A database from before buckets is converted once, and reverted and converted again without a change.

use std::fs;
use std::path::{Path, PathBuf};

use parlor::bootstrap;
use parlor::storage::settings::MigrationMode;
use serde_json::{Value, json};
use testkit::{Database, Engine, TestApp, User, config, engine_test, wait_until};

/// The migration that moves all rows into tables by bucket.
const BUCKETS: &str = "00000000000016";

/// The tables whose rows are copied.
const COPIED: [&str; 14] = [
    "chats",
    "members",
    "messages",
    "revisions",
    "reactions",
    "mentions",
    "thread_members",
    "votes",
    "notifications",
    "reports",
    "chat_bans",
    "calls",
    "call_participants",
    "call_signals",
];

const PERMISSIONS: [&str; 7] = [
    "chat.view",
    "chat.create_group",
    "chat.manage_group",
    "chat.delete",
    "chat.initiate_call",
    "chat.moderate",
    "organization.admin",
];

/// The ids of the direct chat of Alice and Bob on SQLite and on PostgreSQL.
const OLD_IDS: [&str; 2] = ["chat_AaIfwXDWcPqTf2_Ct4cfGQ", "chat_AaIfwZwJd_Gr0MBsIzxc_w"];

/// Returns the folders of an engine's migrations, the oldest first.
fn migrations(engine: Engine) -> Vec<PathBuf> {
    let folder = match engine {
        Engine::Sqlite => "migrations/sqlite",
        Engine::Postgres => "migrations/postgres",
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(folder).expect("a folder");
    let mut migrations: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    migrations.sort();
    migrations
}

fn version(migration: &Path) -> &str {
    let name = migration.file_name().and_then(|name| name.to_str()).expect("a name");
    name.split_once('_').expect("a version and a name").0
}

/// Creates a database as a server before buckets left it.
async fn development_database(engine: Engine) -> Database {
    let database = match engine {
        Engine::Sqlite => Database::create_sqlite(),
        Engine::Postgres => Database::create_postgres(&testkit::database::postgres_url()).await,
    };
    let recorded = "CREATE TABLE __diesel_schema_migrations \
        (version VARCHAR(50) PRIMARY KEY NOT NULL, run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)";
    database.execute(recorded).await;
    for migration in migrations(engine).iter().filter(|migration| version(migration) < BUCKETS) {
        database.execute(&fs::read_to_string(migration.join("up.sql")).expect("a migration")).await;
        let record = format!("INSERT INTO __diesel_schema_migrations (version) VALUES ('{}')", version(migration));
        database.execute(&record).await;
    }
    let rows = [include_str!("development_database/sqlite.sql"), include_str!("development_database/postgres.sql")];
    database.execute_by_engine(rows[0], rows[1]).await;
    database
}

/// Returns the number of rows of each table.
async fn counts(database: &Database) -> Vec<(&'static str, i64)> {
    let mut counts = Vec::new();
    for table in COPIED {
        counts.push((table, database.query_number(&format!("SELECT count(*) FROM {table}")).await));
    }
    counts
}

async fn migrate(database: &Database) -> Vec<String> {
    let settings = config(&database.url, &[]);
    bootstrap::migrate(&settings.database, MigrationMode::Auto).await.expect("the migrations run")
}

/// Returns everything that a user can read, without ids and times.
async fn everything(user: &User) -> Value {
    user.ask(include_str!("development_database/everything.graphql")).await.data().clone()
}

async fn user(app: &TestApp, organization: &str, id: &str) -> User {
    app.user_in(organization, id, Some(&PERMISSIONS)).await
}

/// Waits until the task that fills the full-text index has come to a message.
async fn wait_until_found(user: &User, query: &str, text: &str) {
    let search = "query($query: String!) { searchMessages(query: $query) { nodes { text } } }";
    let found = async || user.ask_with(search, json!({ "query": query })).await.at("searchMessages.nodes").clone();
    wait_until("a search finds the message", async || found().await == json!([{ "text": text }])).await;
}

#[engine_test]
async fn conversion_copies_every_row(engine: Engine) {
    let database = development_database(engine).await;
    let before = counts(&database).await;
    assert!(before.iter().all(|(_, count)| *count > 0), "{before:?}");
    let epoch = database.query_number("SELECT epoch FROM database_epoch").await;
    assert_eq!(migrate(&database).await.first().map(String::as_str), Some(BUCKETS));
    assert_eq!(counts(&database).await, before);
    assert_ne!(database.query_number("SELECT epoch FROM database_epoch").await, epoch, "cursors have old ids");
    if engine == Engine::Sqlite {
        assert_eq!(database.query_number("SELECT count(*) FROM pragma_foreign_key_check").await, 0);
    }
    for table in ["chats", "members", "notifications", "reports", "chat_bans", "calls", "call_participants"] {
        let misplaced = format!(
            "SELECT count(*) FROM {table} WHERE bucket <> CASE organization_id WHEN 'demo' THEN 1417 ELSE 1313 END"
        );
        assert_eq!(database.query_number(&misplaced).await, 0, "{table}");
    }
    database.drop().await;
}

#[engine_test]
async fn converted_database_answers_as_before(engine: Engine) {
    let database = development_database(engine).await;
    let app = TestApp::start(database, &[]).await;
    let answers: Value = serde_json::from_str(include_str!("development_database/answers.json")).expect("JSON");
    for id in ["alice", "bob"] {
        assert_same(&answers[id], &everything(&user(&app, "demo", id).await).await);
    }
    wait_until_found(&user(&app, "demo", "alice").await, "thread", "in a thread").await;
    wait_until_found(&user(&app, "acme", "ann").await, "organisation", "at another organisation").await;
    app.stop().await;
}

#[engine_test]
async fn converted_chats_are_found_by_their_users_resource_and_nonce(engine: Engine) {
    let app = TestApp::start(development_database(engine).await, &[]).await;
    let (alice, bob) = (user(&app, "demo", "alice").await, user(&app, "demo", "bob").await);
    let ann = user(&app, "acme", "ann").await;
    let chats = app.database.query_number("SELECT count(*) FROM chats").await;
    let direct = alice.direct(&bob).await;
    assert_eq!(bob.direct(&alice).await, direct);
    assert_eq!(alice.fetch_texts(&direct).await, ["between the two", "Hello to all"]);
    let notes = alice.direct(&alice).await;
    assert_eq!(alice.fetch_texts(&notes).await, ["for myself"]);
    let ticket = json!({ "resource": { "type": "ticket", "id": "7" }, "title": "Ticket 7",
        "memberIds": ["alice", "carol"] });
    let ticket = alice.mutate_returning("ensureResourceChat", ticket, "chat { id }").await;
    assert_eq!(alice.fetch_texts(&ticket.text("ensureResourceChat.chat.id")).await, ["about the ticket"]);
    let walk = json!({ "kind": "GROUP", "title": "Walk", "memberIds": ["bob", "carol"], "nonce": "walk" });
    let created = async |user: &User, input: Value| {
        user.mutate_returning("createChat", input, "chat { id }").await.text("createChat.chat.id")
    };
    let walk = created(&alice, walk).await;
    assert_eq!(alice.fetch_texts(&walk).await[0], "Hello to all");
    let input = json!({ "kind": "GROUP", "title": "Walk of Acme", "memberIds": ["ben"], "nonce": "walk" });
    assert_ne!(created(&ann, input).await, walk);
    assert_eq!(app.database.query_number("SELECT count(*) FROM chats").await, chats, "no chat was created");
    // A nonce of a message is known too, and the chat takes new messages.
    alice.send_message(&direct, json!({ "text": "between the two", "nonce": "direct" })).await;
    bob.send(&direct, "after the conversion").await;
    assert_eq!(alice.fetch_texts(&direct).await, ["between the two", "Hello to all", "after the conversion"]);
    app.stop().await;
}

#[engine_test]
async fn id_from_before_the_conversion_is_unknown(engine: Engine) {
    let app = TestApp::start(development_database(engine).await, &[]).await;
    let alice = user(&app, "demo", "alice").await;
    // The id of the direct chat as the API wrote it then.
    let old = match engine {
        Engine::Sqlite => OLD_IDS[0],
        Engine::Postgres => OLD_IDS[1],
    };
    assert_eq!(alice.fetch_chat(old, "id").await, Value::Null);
    alice.try_send_message(old, json!({ "text": "to nobody" })).await.assert_error("NOT_FOUND");
    app.stop().await;
}

#[engine_test]
async fn reverted_migration_and_its_repetition_keep_ids_and_rows(engine: Engine) {
    let app = TestApp::start(development_database(engine).await, &[]).await;
    let (alice, bob) = (user(&app, "demo", "alice").await, user(&app, "demo", "bob").await);
    let ids = "{ chats(first: 10) { nodes { id messages(first: 10) { nodes { id } } } }
                 viewer { notifications(first: 10) { nodes { id message { id } } } }
                 calls(first: 5) { nodes { id } } }";
    // The call that went on ends, because its participants are gone.
    let live = "SELECT count(*) FROM calls WHERE ended_at IS NULL";
    app.advance(24 * 3600);
    wait_until("the call has ended", async || app.database.query_number(live).await == 0).await;
    let before = (bob.ask(ids).await.data().clone(), everything(&alice).await);
    let database = app.shut_down().await;
    let rows = counts(&database).await;
    let migrations = migrations(engine);
    for migration in migrations.iter().rev().filter(|migration| version(migration) >= BUCKETS) {
        database.execute(&fs::read_to_string(migration.join("down.sql")).expect("a migration")).await;
        let forget = format!("DELETE FROM __diesel_schema_migrations WHERE version = '{}'", version(migration));
        database.execute(&forget).await;
    }
    assert_eq!(database.query_number("SELECT count(*) FROM chats WHERE direct_key IS NOT NULL").await, 3);
    assert_eq!(migrate(&database).await.first().map(String::as_str), Some(BUCKETS));
    assert_eq!(counts(&database).await, rows);
    let app = TestApp::start(database, &[]).await;
    let (alice, bob) = (user(&app, "demo", "alice").await, user(&app, "demo", "bob").await);
    assert_eq!((bob.ask(ids).await.data().clone(), everything(&alice).await), before);
    wait_until_found(&alice, "thread", "in a thread").await;
    app.stop().await;
}

/// Asserts that two answers are equal, and names the first difference.
#[track_caller]
fn assert_same(expected: &Value, answered: &Value) {
    let lines = |value: &Value| serde_json::to_string_pretty(value).expect("JSON");
    let (expected, answered) = (lines(expected), lines(answered));
    let difference = expected.lines().zip(answered.lines()).enumerate().find(|(_, (one, other))| one != other);
    assert!(expected == answered, "line {difference:?} of {answered}");
}
