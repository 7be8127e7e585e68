//! Rows of earlier versions, which searches find by their old form until they have the present one.

use parlor::domain::ids::OrganizationId;
use parlor::metrics::{KindLabel, METRICS};
use serde_json::{Value, json};
use testkit::process::run_command;
use testkit::{Database, Engine, HeldLock, TestApp, User, engine_test, pluck, postgres_test, wait_until};

const NOTHING: [Value; 0] = [];

async fn found_messages(user: &User, query: &str) -> Vec<Value> {
    let search = "query($query: String!) { searchMessages(query: $query) { nodes { text } } }";
    pluck(user.ask_with(search, json!({ "query": query })).await.at("searchMessages.nodes"), "text")
}

async fn found_users(user: &User, query: &str) -> Vec<Value> {
    let search = "query($query: String!) { users(search: $query) { nodes { id } } }";
    pluck(user.ask_with(search, json!({ "query": query })).await.at("users.nodes"), "id")
}

async fn found_chats(user: &User, query: &str) -> Vec<Value> {
    let search = "query($query: String!) { chats(filter: { search: $query }) { nodes { title } } }";
    pluck(user.ask_with(search, json!({ "query": query })).await.at("chats.nodes"), "title")
}

/// Takes the present form from the names and titles, as a server of an earlier version writes them.
async fn remove_names_and_titles(database: &Database) {
    database.execute("UPDATE users SET name_search = NULL; UPDATE chats SET title_search = NULL").await;
}

/// Gives each message of `demo` the words `old` and `plain` in the index, and starts the reindexing.
async fn replace_words(database: &Database) {
    let sqlite = "INSERT INTO message_words (message_words) VALUES ('delete-all');
        INSERT INTO message_words (rowid, words)
            SELECT pk, 'fskngjold fskngjplain' FROM messages WHERE text IS NOT NULL";
    let postgres = "UPDATE messages SET words = '''fskngjold'':1 ''fskngjplain'':2'::tsvector WHERE text IS NOT NULL";
    database.execute_by_engine(sqlite, postgres).await;
    database.start_reindexing().await;
}

/// Returns what the server's command prints about the rows of earlier versions.
fn printed_backlog(database: &Database) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = run_command(folder.path(), &[("DATABASE_URL", &database.url)], &["search-backlog"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn backlog(names: u32, titles: u32, chats: u32) -> String {
    format!("{names} names of users, {titles} titles of chats and the messages of {chats} chats are left\n")
}

async fn wait_until_complete(app: &TestApp) {
    wait_until("all rows have the present form", async || {
        app.database.query_number("SELECT count(*) FROM search_reindexing").await == 0
    })
    .await;
}

#[engine_test]
async fn rows_of_an_earlier_version_get_the_present_form_while_the_server_serves(engine: Engine) {
    let app = TestApp::start(Database::create(engine).await, &[]).await;
    let (alice, zoe) = (app.user("alice").await, app.user("zoë").await);
    let chat = alice.group("Straße", &[&zoe]).await;
    // More messages than one step indexes.
    for number in 0..230 {
        alice.send(&chat, &format!("plain Łódź {number}")).await;
    }
    wait_until_complete(&app).await;
    let database = app.shut_down().await;
    assert_eq!(printed_backlog(&database), backlog(0, 0, 0));
    remove_names_and_titles(&database).await;
    replace_words(&database).await;
    assert_eq!(printed_backlog(&database), backlog(2, 1, 1));
    let app = TestApp::start(database, &[]).await;
    let alice = app.user("alice").await;
    assert_eq!(found_messages(&alice, "plain").await.len(), 30, "the old form is found until the new one is written");
    assert_eq!(found_users(&alice, "ZOË").await, ["zoë"]);
    assert_eq!(found_chats(&alice, "straße").await, ["Straße"]);
    wait_until_complete(&app).await;
    for query in ["\"lodz 0\"", "\"lodz 229\""] {
        assert_eq!(found_messages(&alice, query).await.len(), 1, "{query}");
    }
    assert_eq!(found_messages(&alice, "old").await, NOTHING, "the new form replaces the old one");
    let indexed = match engine {
        Engine::Sqlite => "SELECT count(*) FROM message_words",
        Engine::Postgres => "SELECT count(*) FROM messages WHERE words IS NOT NULL",
    };
    assert_eq!(app.database.query_number(indexed).await, 230, "each message once");
    assert_eq!(found_users(&alice, "zoe").await, ["zoë"]);
    assert_eq!(found_chats(&alice, "STRASSE").await, ["Straße"]);
    wait_until("the metric shows that nothing is left", async || {
        let left = |kind| METRICS.search_backlog.get_or_create(&KindLabel { kind }).get();
        left("names") + left("titles") + left("chats") == 0
    })
    .await;
    let database = app.shut_down().await;
    assert_eq!(printed_backlog(&database), backlog(0, 0, 0));
    database.drop().await;
}

#[engine_test]
async fn name_and_title_without_present_form_are_found_in_lower_case(app: &TestApp) {
    let alice = app.user("alice").await;
    app.user("zoë").await;
    alice.group("Straße", &[]).await;
    wait_until_complete(app).await;
    remove_names_and_titles(&app.database).await;
    assert_eq!(found_users(&alice, "ZOË").await, ["zoë"]);
    assert_eq!(found_users(&alice, "zoe").await, NOTHING);
    assert_eq!(found_chats(&alice, "STRAß").await, ["Straße"]);
}

#[postgres_test]
async fn reindexing_locks_the_chats_of_one_bucket_at_a_time() {
    let bucket = |organization: &str| organization.parse::<OrganizationId>().unwrap().bucket();
    let later = (0..).map(|number| format!("later{number}")).find(|later| bucket(later) > bucket("demo")).unwrap();
    let app = TestApp::start(Database::create(Engine::Postgres).await, &[]).await;
    let (alice, zoe) = (app.user("alice").await, app.user_in(&later, "zoe", None).await);
    let (chat, later_chat) = (alice.group("Now", &[]).await, zoe.group("Later", &[]).await);
    alice.send(&chat, "plain").await;
    zoe.send(&later_chat, "plain").await;
    wait_until_complete(&app).await;
    let database = app.shut_down().await;
    database.execute("UPDATE messages SET words = NULL").await;
    database.start_reindexing().await;
    let lock = HeldLock::take(&database, "", "BEGIN; SELECT FROM chats WHERE title = 'Later' FOR UPDATE").await;
    let app = TestApp::start(database, &[]).await;
    let (alice, zoe) = (app.user("alice").await, app.user_in(&later, "zoe", None).await);
    // Both messages fit into one step, which would wait for the lock.
    wait_until("the messages of the first bucket are indexed", async || {
        found_messages(&alice, "plain").await == ["plain"]
    })
    .await;
    assert_eq!(found_messages(&zoe, "plain").await, NOTHING);
    lock.release().await;
    wait_until("the messages of the next bucket are indexed", async || {
        found_messages(&zoe, "plain").await == ["plain"]
    })
    .await;
    wait_until_complete(&app).await;
    app.stop().await;
}
