//! Reads on a streaming replica: which go there, and that they never show less than the requester knows.

use std::cell::RefCell;

use parlor::metrics::{KindLabel, METRICS};
use parlor::storage::replica_reads::allowing_replica;
use serde_json::{Value, json};
use testkit::database::connect_postgres;
use testkit::postgres::PostgresServer;
use testkit::{Database, Reply, SECRET, TcpRelay, TestApp, User, config, pluck, postgres_test, wait_until};
use tokio::sync::{Mutex, MutexGuard};

use crate::consistency::database_conditions::readiness;

/// All permissions that the lists of these tests need.
const ALL: [&str; 6] = [
    "chat.view",
    "chat.create_group",
    "chat.manage_group",
    "chat.moderate",
    "chat.initiate_call",
    "organization.admin",
];

const HISTORY: &str = "query($chat: ID!, $before: String) { chat(id: $chat) {
    messages(last: 2, before: $before) { nodes { text } pageInfo { startCursor endCursor } } } }";
const COUNT: &str = "query($chat: ID!) { chat(id: $chat) { messages(last: 1) { totalCount } } }";
const SEARCH: &str = "query($words: String!) { searchMessages(query: $words) { nodes { text } } }";
const USERS: &str = "{ users { nodes { id } } }";
const REPORTS: &str = "{ reports { nodes { reason } } }";
const CALLS: &str = "{ calls { nodes { id } } }";

/// The tests of this file count the reads of the process, so one of them runs at a time.
static TURN: Mutex<()> = Mutex::const_new(());

/// A server with a primary of its own and a replica of it.
struct Replicated {
    app: TestApp,
    replica: PostgresServer,
    primary: PostgresServer,
    _turn: MutexGuard<'static, ()>,
}

impl Replicated {
    /// Starts the servers, and waits until reads may go to the replica.
    async fn start() -> Self {
        let turn = TURN.lock().await;
        let primary = PostgresServer::start().await;
        let replica = primary.start_replica().await;
        let database = Database::create_postgres(primary.url()).await;
        let read_url = database.url_at(replica.addr());
        let app = TestApp::start(database, &[("DATABASE_READ_URL", &read_url)]).await;
        wait_until("the replica can be used", async || is_usable(&app).await).await;
        Self { app, replica, primary, _turn: turn }
    }

    /// Lets the replica apply nothing more, or everything again.
    async fn set_paused(&self, is_paused: bool) {
        let client = connect_postgres(self.replica.url()).await.expect("the replica answers");
        let change = if is_paused { "pg_wal_replay_pause" } else { "pg_wal_replay_resume" };
        client.batch_execute(&format!("SELECT {change}()")).await.expect("a standby");
        let state = if is_paused { "paused" } else { "not paused" };
        let has_state = async || {
            let row = client.query_one("SELECT pg_get_wal_replay_pause_state()", &[]).await.expect("a standby");
            row.get::<_, String>(0) == state
        };
        wait_until("the replica changes its state", has_state).await;
    }

    /// Waits until the replica has applied everything that was committed.
    async fn wait_until_applied(&self) {
        let primary = connect_postgres(self.primary.url()).await.expect("the primary answers");
        let replica = connect_postgres(self.replica.url()).await.expect("the replica answers");
        let row = primary.query_one("SELECT pg_current_wal_flush_lsn()::text", &[]).await.expect("a position");
        let position: String = row.get(0);
        let applied = format!("SELECT pg_last_wal_replay_lsn() >= '{position}'::pg_lsn");
        let has_applied = async || replica.query_one(&applied, &[]).await.expect("a standby").get(0);
        wait_until("the replica has applied the commits", has_applied).await;
    }

    async fn stop(self) {
        self.app.stop().await;
        self.replica.stop().await;
        self.primary.stop().await;
    }
}

/// Returns whether the server would ask the replica for a query now.
async fn is_usable(app: &TestApp) -> bool {
    allowing_replica(async { app.app.database.has_usable_replica() }).await
}

/// Returns the numbers of reads that the replica served, for which it was behind, and at which it failed.
fn reads() -> [u64; 3] {
    ["served", "behind", "failed"].map(|kind| METRICS.replica_reads.get_or_create(&KindLabel { kind }).get())
}

/// Asks, and returns the response with the numbers of reads that the replica served and for which it was behind.
async fn ask(user: &User, query: &str, variables: Value) -> (Reply, u64, u64) {
    let before = reads();
    let reply = user.ask_with(query, variables).await;
    let after = reads();
    reply.data();
    (reply, after[0] - before[0], after[1] - before[1])
}

/// Asks, and asserts that the replica served exactly one read of the query.
#[track_caller]
fn assert_served((reply, served, behind): (Reply, u64, u64)) -> Reply {
    assert_eq!((served, behind), (1, 0), "{}", reply.body);
    reply
}

/// Asks until the replica has applied the commits before, such as those of the server itself, and serves the read.
async fn ask_until_served(user: &User, query: &str, variables: Value) -> Reply {
    let reply = RefCell::new(None);
    let is_served = async || {
        let (answer, served, _) = ask(user, query, variables.clone()).await;
        reply.replace(Some(answer));
        served == 1
    };
    wait_until("the replica serves the read", is_served).await;
    reply.into_inner().expect("a reply")
}

/// Asserts that the replica was behind for one read of the query, which the primary then served.
#[track_caller]
fn assert_behind((reply, served, behind): (Reply, u64, u64)) -> Reply {
    assert_eq!((served, behind), (0, 1), "{}", reply.body);
    reply
}

/// Asserts that the replica was not asked.
#[track_caller]
fn assert_not_asked((reply, served, behind): (Reply, u64, u64)) -> Reply {
    assert_eq!((served, behind), (0, 0), "{}", reply.body);
    reply
}

/// Sends messages that are two minutes old, and returns the cursor of the last one.
async fn old_history(app: &TestApp, user: &User, chat: &str, texts: &[&str]) -> String {
    for text in texts {
        user.send(chat, text).await;
    }
    app.advance(120);
    let latest = user.ask_with(HISTORY, json!({ "chat": chat, "before": null })).await;
    latest.text("chat.messages.pageInfo.endCursor")
}

#[postgres_test]
async fn replica_serves_search_older_pages_counts_users_reports_and_calls() {
    let servers = Replicated::start().await;
    let app = &servers.app;
    let alice = app.user_in("demo", "alice", Some(&ALL)).await;
    let bob = app.user_in("demo", "bob", Some(&ALL)).await;
    let chat = alice.group("Walk", &[&bob]).await;
    let before = old_history(app, &alice, &chat, &["first", "second", "third"]).await;
    let message = alice.send(&chat, "rude").await;
    bob.mutate_ok("reportMessage", json!({ "messageId": message, "reason": "rude" })).await;
    alice.start_call(&chat).await;
    servers.wait_until_applied().await;

    let page = assert_served(ask(&bob, HISTORY, json!({ "chat": chat, "before": before })).await);
    assert_eq!(pluck(page.at("chat.messages.nodes"), "text"), ["first", "second"]);
    let count = assert_served(ask(&bob, COUNT, json!({ "chat": chat })).await);
    assert!(count.at("chat.messages.totalCount").as_i64().unwrap() >= 4, "{}", count.body);
    let found = ask_until_served(&bob, SEARCH, json!({ "words": "second" })).await;
    assert_eq!(pluck(found.at("searchMessages.nodes"), "text"), ["second"]);
    let users = ask_until_served(&bob, USERS, json!({})).await;
    assert_eq!(pluck(users.at("users.nodes"), "id"), ["alice", "bob"]);
    let reports = ask_until_served(&bob, REPORTS, json!({})).await;
    assert_eq!(pluck(reports.at("reports.nodes"), "reason"), ["rude"]);
    let calls = ask_until_served(&bob, CALLS, json!({})).await;
    assert_eq!(calls.at("calls.nodes").as_array().unwrap().len(), 1, "{}", calls.body);
    let statistics = "query($since: DateTime!, $until: DateTime!) { viewer { organization {
        callStatistics(since: $since, until: $until) { calls } } } }";
    let range = json!({ "since": app.time_in(-600), "until": app.time_in(600) });
    ask_until_served(&alice, statistics, range).await;
    servers.stop().await;
}

#[postgres_test]
async fn page_that_ends_at_a_recent_message_is_read_from_the_primary() {
    let servers = Replicated::start().await;
    let app = &servers.app;
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    for text in ["first", "second", "third"] {
        alice.send(&chat, text).await;
    }
    servers.wait_until_applied().await;
    let latest = assert_not_asked(ask(&alice, HISTORY, json!({ "chat": chat, "before": null })).await);
    let before = json!({ "chat": chat, "before": latest.text("chat.messages.pageInfo.endCursor") });
    let client = connect_postgres(servers.replica.url()).await.expect("the replica answers");
    let pages_read = async || -> i64 {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'parlor/%' \
                     AND query LIKE '%\"messages\".\"text\"%'";
        client.query_one(count, &[]).await.expect("a number").get(0)
    };
    // The replica is asked for the age of the message only.
    let recent = ask(&alice, HISTORY, before.clone()).await.0;
    assert_eq!(pluck(recent.at("chat.messages.nodes"), "text"), ["first", "second"]);
    assert_eq!(pages_read().await, 0);
    app.advance(120);
    let old = assert_served(ask(&alice, HISTORY, before).await);
    assert_eq!(pluck(old.at("chat.messages.nodes"), "text"), ["first", "second"]);
    assert_eq!(pages_read().await, 1);
    servers.stop().await;
}

#[postgres_test]
async fn paused_replica_never_shows_an_older_state_than_the_requester_knows() {
    let servers = Replicated::start().await;
    let app = &servers.app;
    let alice = app.user_in("demo", "alice", Some(&ALL)).await;
    let bob = app.user_in("demo", "bob", Some(&ALL)).await;
    let (chat, quiet) = (alice.group("Walk", &[&bob]).await, alice.group("Quiet", &[&bob]).await);
    let old = alice.send(&chat, "apple").await;
    let before = old_history(app, &alice, &chat, &["second", "third"]).await;
    let quiet_before = old_history(app, &alice, &quiet, &["one", "two", "three"]).await;
    servers.wait_until_applied().await;
    servers.set_paused(true).await;

    alice.mutate_ok("editMessage", json!({ "messageId": old, "text": "banana" })).await;
    let page = assert_behind(ask(&bob, HISTORY, json!({ "chat": chat, "before": before })).await);
    assert_eq!(pluck(page.at("chat.messages.nodes"), "text"), ["banana", "second"]);
    let total = |reply: &Reply| reply.at("chat.messages.totalCount").as_i64().unwrap();
    let count = total(&assert_behind(ask(&alice, COUNT, json!({ "chat": chat })).await));
    alice.send(&chat, "cherry").await;
    assert_eq!(total(&assert_behind(ask(&alice, COUNT, json!({ "chat": chat })).await)), count + 1);
    for (words, found) in [("apple", json!([])), ("banana", json!(["banana"])), ("cherry", json!(["cherry"]))] {
        let reply = assert_behind(ask(&bob, SEARCH, json!({ "words": words })).await);
        assert_eq!(json!(pluck(reply.at("searchMessages.nodes"), "text")), found, "{words}");
    }
    app.user("carol").await;
    let users = assert_behind(ask(&bob, USERS, json!({})).await);
    assert_eq!(pluck(users.at("users.nodes"), "id"), ["alice", "bob", "carol"]);
    bob.mutate_ok("reportMessage", json!({ "messageId": old, "reason": "rude" })).await;
    let reports = assert_behind(ask(&bob, REPORTS, json!({})).await);
    assert_eq!(pluck(reports.at("reports.nodes"), "reason"), ["rude"]);
    let call = alice.start_call(&chat).await;
    let calls = assert_behind(ask(&bob, CALLS, json!({})).await);
    assert_eq!(pluck(calls.at("calls.nodes"), "id"), [json!(call.call)]);

    // Nothing of this chat has changed since the pause, so the replica is not behind for it.
    let page = assert_served(ask(&bob, HISTORY, json!({ "chat": quiet, "before": quiet_before })).await);
    assert_eq!(pluck(page.at("chat.messages.nodes"), "text"), ["one", "two"]);

    // A former member finds nothing, although the replica still has the membership.
    alice.mutate_ok("removeMember", json!({ "chatId": quiet, "userId": "bob" })).await;
    let page = assert_not_asked(ask(&bob, HISTORY, json!({ "chat": quiet, "before": quiet_before })).await);
    assert_eq!(page.at("chat"), &Value::Null);
    let found = assert_behind(ask(&bob, SEARCH, json!({ "words": "two" })).await);
    assert_eq!(found.at("searchMessages.nodes"), &json!([]));

    servers.set_paused(false).await;
    servers.wait_until_applied().await;
    let found = ask_until_served(&bob, SEARCH, json!({ "words": "banana" })).await;
    assert_eq!(pluck(found.at("searchMessages.nodes"), "text"), ["banana"]);
    servers.stop().await;
}

#[postgres_test]
async fn feeds_mutations_and_responses_with_cursors_never_ask_the_replica() {
    let servers = Replicated::start().await;
    let app = &servers.app;
    let alice = app.user_in("demo", "alice", Some(&ALL)).await;
    let bob = app.user_in("demo", "bob", Some(&ALL)).await;
    let chat = alice.group("Walk", &[&bob]).await;
    let before = old_history(app, &alice, &chat, &["first", "second", "third"]).await;
    servers.wait_until_applied().await;
    let reads_before = reads();

    let with_cursor = "query($chat: ID!, $before: String) { chat(id: $chat) {
        feedCursor messages(last: 2, before: $before) { totalCount nodes { text } } } }";
    let page = bob.ask_with(with_cursor, json!({ "chat": chat, "before": before })).await;
    assert_eq!(pluck(page.at("chat.messages.nodes"), "text"), ["first", "second"]);
    let selection = format!("message {{ chat {{ messages(last: 2, before: \"{before}\") {{ totalCount }} }} }}");
    let input = json!({ "chatId": chat, "text": "fourth" });
    alice.mutate_returning("sendMessage", input, &selection).await.data();
    let subscription = "subscription($chat: ID!, $before: String) { chatFeed(chatId: $chat, last: 1) {
        __typename ... on MessageUpserted { message { text chat { messages(last: 2, before: $before) { totalCount } } } } } }";
    let mut feed = bob.subscribe(subscription, json!({ "chat": chat, "before": before })).await;
    while feed.next().await["message"]["text"] != "fourth" {}
    alice.send(&chat, "fifth").await;
    while feed.next().await["message"]["text"] != "fifth" {}
    assert_eq!(reads(), reads_before);
    servers.stop().await;
}

#[postgres_test]
async fn silent_replica_leaves_reads_to_the_primary_until_it_answers_again() {
    let _turn = TURN.lock().await;
    let primary = PostgresServer::start().await;
    let replica = primary.start_replica().await;
    let relay = TcpRelay::start(replica.addr()).await;
    let database = Database::create_postgres(primary.url()).await;
    let read_url = database.url_at(relay.addr());
    let settings = [("DATABASE_READ_URL", &*read_url), ("PARLOR_DATABASE_STATEMENT_SECONDS", "2")];
    let app = TestApp::start(database, &settings).await;
    wait_until("the replica can be used", async || is_usable(&app).await).await;
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    alice.send(&chat, "apple").await;

    relay.hold();
    // The first search may wait for the replica, and the check of the replica may notice it before.
    for _ in 0..3 {
        let found = alice.ask_with(SEARCH, json!({ "words": "apple" })).await;
        assert_eq!(pluck(found.at("searchMessages.nodes"), "text"), ["apple"]);
    }
    assert!(!is_usable(&app).await);
    assert_eq!(readiness(&app).await.0, 200, "a node is ready without its replica");
    relay.release();
    wait_until("the replica can be used again", async || is_usable(&app).await).await;
    let found = ask_until_served(&alice, SEARCH, json!({ "words": "apple" })).await;
    assert_eq!(pluck(found.at("searchMessages.nodes"), "text"), ["apple"]);
    app.stop().await;
    replica.stop().await;
    primary.stop().await;
}

#[postgres_test]
async fn server_that_is_no_replica_of_the_database_is_not_used() {
    let _turn = TURN.lock().await;
    let other = PostgresServer::start().await;
    let replica_of_other = other.start_replica().await;
    let primary = PostgresServer::start().await;
    let database = Database::create_postgres(primary.url()).await;
    let own_url = database.url.clone();
    let database = assert_not_used(database, &own_url).await;
    let database = assert_not_used(database, replica_of_other.url()).await;
    database.drop().await;
    for server in [replica_of_other, other, primary] {
        server.stop().await;
    }
}

/// Asserts that a server on the database does not use another server as its replica.
async fn assert_not_used(database: Database, read_url: &str) -> Database {
    let app = TestApp::start(database, &[("DATABASE_READ_URL", read_url)]).await;
    app.app.database.check_replica().await.expect("the primary answers");
    assert!(!is_usable(&app).await, "{read_url}");
    app.shut_down().await
}

#[test]
fn replica_of_an_sqlite_file_is_refused() {
    let vars = [
        ("DATABASE_URL", "sqlite://parlor.db"),
        ("DATABASE_READ_URL", "postgres://u:hidden@replica/parlor"),
        ("PARLOR_JWT_SECRET", SECRET),
    ];
    let vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let error = parlor::config::Config::from_vars(vars).unwrap_err().to_string();
    assert_eq!(error, "DATABASE_READ_URL: needs a DATABASE_URL of PostgreSQL: an SQLite file has no replicas");
    let valid = config("postgres://u@primary/parlor", &[("DATABASE_READ_URL", "postgres://u@replica/parlor")]);
    assert!(valid.database.replica.is_some());
}
