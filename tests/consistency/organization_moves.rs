//! Moves of organisations between databases: nothing is lost, and the old server names the new one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use parlor::storage::organization_tables::{NOT_COPIED, organization_tables};
use serde_json::{Value, json};
use testkit::http::{TextStream, bearer, graphql_body, post};
use testkit::process::{ChildProcess, run_command, server_command};
use testkit::{
    Database, DatabaseDump, Engine, Reply, Socket, TestApp, User, engine_test, postgres_is_available, wait_until,
};

use super::golden::rows::fill;

/// The address of the new server, as the old one names it.
const NEW_ADDRESS: &str = "https://chat-2.example.org/graphql";
const SETTINGS: [(&str, &str); 3] =
    [("PARLOR_CALL_RING_SECONDS", "600"), ("PARLOR_CALL_LOST_SECONDS", "60"), ("PARLOR_SENDS_PER_MINUTE", "1000000")];
/// The content that a user sees, in the order in which both servers list it.
const VIEW: &str = "{ chats(first: 10) { nodes { id title kind lastActivityAt lastMessage { id text }
    members(first: 10) { nodes { user { id name } role version joinedAt lastReadAt unreadCount pinned draft } }
    messages(last: 30) { nodes { id seq version kind text sender { id } mentions { id } replyTo { id } replyCount
        poll { question options { id text } } reactions { emoji count } editedAt deletedAt pinnedAt } } } }
    viewer { notifications(first: 50) { nodes { id kind message { id } actor { id } readAt } } }
    calls(first: 50) { nodes { id } } }";

/// Returns the other engine, if it is available.
fn other(engine: Engine) -> Engine {
    if engine == Engine::Sqlite && postgres_is_available() { Engine::Postgres } else { Engine::Sqlite }
}

async fn start(engine: Engine) -> TestApp {
    TestApp::start(Database::create(engine).await, &SETTINGS).await
}

/// Runs `parlor orgs` on a database; returns its output, or what it says about its failure.
async fn orgs(database: &str, arguments: &[&str]) -> Result<String, String> {
    let (url, arguments) = (database.to_owned(), arguments.iter().map(|&argument| argument.to_owned()));
    let arguments: Vec<String> = ["orgs".to_owned()].into_iter().chain(arguments).collect();
    let run = move || {
        let folder = tempfile::tempdir().unwrap();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run_command(folder.path(), &[("DATABASE_URL", &url)], &arguments)
    };
    let output = tokio::task::spawn_blocking(run).await.expect("no panic");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

async fn export(app: &TestApp, folder: &Path, extra: &[&str]) -> Result<String, String> {
    let arguments = ["export", "--org", "demo", "--dir", folder.to_str().unwrap()];
    orgs(&app.database.url, &[&arguments, extra].concat()).await
}

async fn import(app: &TestApp, folder: &Path) -> Result<String, String> {
    orgs(&app.database.url, &["import", "--dir", folder.to_str().unwrap()]).await
}

async fn finish(app: &TestApp, folder: &Path) -> Result<String, String> {
    let arguments = ["moved", "--org", "demo", "--dir", folder.to_str().unwrap(), "--to", NEW_ADDRESS];
    orgs(&app.database.url, &arguments).await
}

/// Returns the number and the checksum of the exported rows of each table.
fn exported(folder: &Path) -> BTreeMap<&'static str, (u64, u128)> {
    let sums = organization_tables().iter().map(|table| {
        let text = std::fs::read(folder.join("tables").join(format!("{}.json", table.name))).expect(table.name);
        let ranges: Vec<Value> = serde_json::from_slice(&text).expect("ranges");
        let sum = ranges.iter().fold((0, 0_u128), |(rows, sum), range| {
            let checksum = u128::from_str_radix(range["checksum"].as_str().expect("a text"), 16).expect("a number");
            (rows + range["rows"].as_u64().expect("a number"), sum.wrapping_add(checksum))
        });
        (table.name, sum)
    });
    sums.collect()
}

/// Sends messages until the organisation is frozen, counts them, and returns their ids.
async fn send_until_frozen(user: &User, chat: &str, sent: &AtomicUsize) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let text = format!("{} of {}", ids.len(), user.id);
        let reply = user.try_send_message(chat, json!({ "text": text })).await;
        if !reply.body["errors"].is_null() {
            reply.assert_unavailable();
            assert!(reply.body.to_string().contains("being moved"), "{}", reply.body);
            return ids;
        }
        ids.push(reply.text("sendMessage.message.id"));
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until many more messages have been sent.
async fn wait_for_sends(sent: &AtomicUsize) {
    let before = sent.load(Ordering::Relaxed);
    wait_until("more messages are sent", async || sent.load(Ordering::Relaxed) >= before + 20).await;
}

fn assert_moved(reply: &Reply) {
    reply.assert_error("MOVED");
    assert_eq!(reply.status, 421);
    assert_eq!(reply.body["errors"][0]["extensions"]["url"], NEW_ADDRESS, "{}", reply.body);
}

#[engine_test]
async fn organization_moved_to_the_other_engine_under_load_loses_nothing(engine: Engine) {
    let old = start(engine).await;
    fill(&old).await;
    // The scenario has moved the clock, by which tokens are issued.
    let new = TestApp::start_with_clock(Database::create(other(engine)).await, &SETTINGS, old.app.clock.clone()).await;
    let (alice, bob) = (old.user("alice").await, old.user("bob").await);
    let stranger = old.user_in("elsewhere", "alice", None).await;
    let strange_chat = stranger.group("Elsewhere", &[]).await;
    stranger.send(&strange_chat, "stays").await;
    let chat = alice.group("Load", &[&bob]).await;
    let mut feed = alice.feed(&chat, None, None).await;
    let cursor = feed.expect("FeedCaughtUp").await["cursor"].as_str().expect("a cursor").to_owned();
    let (folder, sent) = (tempfile::tempdir().unwrap(), AtomicUsize::new(0));
    let folder = folder.path();
    let moving = async {
        // Two copies while users write, and one of the frozen organisation.
        for pass in 1..=2 {
            wait_for_sends(&sent).await;
            let output = export(&old, folder, &[]).await.unwrap();
            assert!(output.starts_with(&format!("Pass {pass}: ")), "{output}");
            let output = import(&new, folder).await.unwrap();
            assert!(output.contains("not served here yet"), "{output}");
        }
        wait_for_sends(&sent).await;
        export(&old, folder, &["--freeze"]).await.unwrap()
    };
    let (output, by_alice, by_bob) =
        futures_util::join!(moving, send_until_frozen(&alice, &chat, &sent), send_until_frozen(&bob, &chat, &sent));
    assert!(output.contains("is frozen"), "{output}");
    let seen = alice.ask(VIEW).await.data().clone();
    // The new server answers nobody before the old one has stopped to serve the organisation.
    let early = User::new(new.addr, "alice", new.token("demo", "alice", None));
    early.ask("{ viewer { user { id } } }").await.assert_unavailable();
    import(&new, folder).await.unwrap();
    early.ask("{ viewer { user { id } } }").await.assert_unavailable();
    finish(&old, folder).await.unwrap();
    let output = import(&new, folder).await.unwrap();
    assert!(output.contains("of which 0 were written") && output.contains("is served here from now on"), "{output}");

    // Both databases have the same rows, whatever their engines.
    let copy = tempfile::tempdir().unwrap();
    export(&new, copy.path(), &[]).await.unwrap();
    assert_eq!(exported(copy.path()), exported(folder));
    assert!(exported(folder).values().all(|(rows, _)| *rows > 0), "{:?}", exported(folder));
    let alice = alice.at(new.addr);
    assert_eq!(*alice.ask(VIEW).await.data(), seen);
    for id in by_alice.iter().chain(&by_bob) {
        assert_eq!(alice.fetch_message(id, "id").await["id"], **id);
    }
    let search = json!({ "query": "Hello" });
    let found =
        alice.ask_with("query($query: String!) { searchMessages(query: $query, first: 5) { nodes { id } } }", search);
    assert_ne!(*found.await.at("searchMessages.nodes"), json!([]));
    // A cursor of the old database is none of the new one.
    let mut feed = alice.feed(&chat, None, Some(&cursor)).await;
    assert_eq!(feed.expect("FeedReset").await["reason"], "CURSOR_INVALID");
    let next = alice.send(&chat, "on the new server").await;
    assert_eq!(feed.next_of_type("MessageUpserted").await["message"]["text"], "on the new server");
    assert!(!by_alice.contains(&next) && !by_bob.contains(&next), "{next}");
    // The other organisation stays where it is.
    assert_eq!(stranger.fetch_texts(&strange_chat).await, ["stays"]);
    stranger.send(&strange_chat, "goes on").await;
    old.stop().await;
    new.stop().await;
}

#[engine_test]
async fn moved_organization_is_refused_with_its_address_on_every_transport(engine: Engine) {
    let (old, new) = (start(engine).await, start(engine).await);
    let (alice, bob) = (old.user("alice").await, old.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    alice.send(&chat, "Hello").await;
    let mut socket = alice.socket().await;
    let feed = "subscription($chat: ID!) { chatFeed(chatId: $chat) { __typename } }";
    socket.subscribe("1", feed, json!({ "chat": chat })).await;
    assert_eq!(socket.recv().await["payload"]["data"]["chatFeed"]["__typename"], "FeedCaughtUp");
    let accept = [("accept", "text/event-stream")];
    let mut stream = TextStream::open(&old, &bob.token, &accept, feed, json!({ "chat": chat })).await;
    assert!(stream.read_until(|text| text.contains("FeedCaughtUp")).await);
    let folder = tempfile::tempdir().unwrap();
    export(&old, folder.path(), &["--freeze"]).await.unwrap();
    // A frozen organisation is read, by open connections and by new ones.
    alice.mutate("createChat", json!({ "kind": "GROUP", "title": "No", "memberIds": [] })).await.assert_unavailable();
    assert_eq!(alice.fetch_texts(&chat).await, ["Hello"]);
    let newcomer = User::new(old.addr, "newcomer", old.token("demo", "newcomer", None));
    newcomer.ask("{ viewer { user { id } } }").await.assert_unavailable();
    socket.subscribe("2", "{ viewer { user { id } } }", json!({})).await;
    let answer = loop {
        let message = socket.recv().await;
        if message["id"] == "2" {
            break message;
        }
    };
    assert_eq!(answer["payload"]["data"]["viewer"]["user"]["id"], "alice");
    import(&new, folder.path()).await.unwrap();
    finish(&old, folder.path()).await.unwrap();

    let expected = (4421, format!("MOVED {NEW_ADDRESS}"));
    assert_eq!(socket.expect_close().await, expected);
    assert!(!stream.read_until(|text| text.contains("no such text")).await, "the stream ends");
    assert!(stream.text.contains("\"MOVED\"") && stream.text.contains(NEW_ADDRESS), "{}", stream.text);
    assert_moved(&alice.ask("{ viewer { user { id } } }").await);
    assert_moved(&alice.mutate("createChat", json!({ "kind": "GROUP", "title": "No", "memberIds": [] })).await);
    let headers = [("authorization", &*bearer(&bob)), accept[0], ("content-type", "application/json")];
    let response = post(&old, &headers, graphql_body(feed, json!({ "chat": chat }))).await;
    response.assert_error(421, "MOVED");
    let mut socket = Socket::connect(old.addr).await;
    let payload = json!({ "Authorization": format!("Bearer {}", alice.token) });
    socket.send(json!({ "type": "connection_init", "payload": payload })).await;
    assert_eq!(socket.expect_close().await, expected);
    // A server that starts later knows it too.
    let old = TestApp::start(old.shut_down().await, &SETTINGS).await;
    assert_moved(&alice.at(old.addr).ask("{ viewer { user { id } } }").await);
    import(&new, folder.path()).await.unwrap();
    assert_eq!(alice.at(new.addr).fetch_texts(&chat).await, ["Hello"]);
    old.stop().await;
    new.stop().await;
}

#[engine_test]
async fn move_that_is_given_up_lets_the_organization_go_on(engine: Engine) {
    let old = start(engine).await;
    let alice = old.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let resume = ["resume", "--org", "demo"];
    assert!(orgs(&old.database.url, &resume).await.unwrap_err().contains("not frozen"));
    export(&old, folder.path(), &["--freeze"]).await.unwrap();
    alice.try_send_message(&chat, json!({ "text": "no" })).await.assert_unavailable();
    orgs(&old.database.url, &resume).await.unwrap();
    wait_until("the organization can be changed", async || {
        alice.try_send_message(&chat, json!({ "text": "yes" })).await.body["errors"].is_null()
    })
    .await;
    let error = finish(&old, folder.path()).await.unwrap_err();
    assert!(error.contains("not frozen"), "{error}");
    old.stop().await;
}

#[engine_test]
async fn move_is_not_finished_over_rows_that_changed_after_the_last_export(engine: Engine) {
    let (old, new) = (start(engine).await, start(engine).await);
    let alice = old.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    alice.send(&chat, "Hello").await;
    let folder = tempfile::tempdir().unwrap();
    let error = finish(&old, folder.path()).await.unwrap_err();
    assert!(error.contains("not frozen"), "{error}");
    export(&old, folder.path(), &["--freeze"]).await.unwrap();
    import(&new, folder.path()).await.unwrap();
    // As a write would that began before the freeze.
    old.database.execute("UPDATE members SET draft = 'late'").await;
    old.database.execute("UPDATE messages SET text = 'late'").await;
    old.database.execute("UPDATE chats SET version = version + 1").await;
    let error = finish(&old, folder.path()).await.unwrap_err();
    assert!(error.contains("rows of chats, members, messages have changed"), "{error}");
    alice.fetch_chat(&chat, "id").await;
    // The new server has not begun to serve the organisation, so the last steps can be repeated.
    export(&old, folder.path(), &["--freeze"]).await.unwrap();
    import(&new, folder.path()).await.unwrap();
    finish(&old, folder.path()).await.unwrap();
    import(&new, folder.path()).await.unwrap();
    let alice = alice.at(new.addr);
    wait_until("the organization is served", async || {
        alice.ask("{ viewer { user { id } } }").await.body["errors"].is_null()
    })
    .await;
    assert_eq!(alice.fetch_texts(&chat).await, ["late"]);
    old.stop().await;
    new.stop().await;
}

#[engine_test]
async fn import_refuses_what_it_cannot_take(engine: Engine) {
    let (old, new) = (start(engine).await, start(other(engine)).await);
    let alice = old.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    alice.send(&chat, "Hello").await;
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("export");
    let unknown = orgs(&old.database.url, &["export", "--org", "nobody", "--dir", folder.to_str().unwrap()]).await;
    assert!(unknown.unwrap_err().contains("organization not found"));
    assert!(import(&new, &folder).await.unwrap_err().contains("manifest.json"));
    export(&old, &folder, &[]).await.unwrap();
    assert!(import(&old, &folder).await.unwrap_err().contains("from this database"));
    let manifest = folder.join("manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    for (part, replaced, words) in [
        ("\"is_complete\":true", "\"is_complete\":false", "interrupted"),
        ("\"format\":1", "\"format\":2", "the folder has the format 2"),
        ("\"schema\":", "\"schema\":1", "migrate both to one version"),
    ] {
        assert!(text.contains(part), "{text}");
        std::fs::write(&manifest, text.replace(part, replaced)).unwrap();
        let error = import(&new, &folder).await.unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    std::fs::write(&manifest, &text).unwrap();
    // A file that was damaged stops the import; with the right one it continues.
    let rows = std::fs::read_dir(folder.join("rows/messages")).unwrap().next().unwrap().unwrap().path();
    let right = std::fs::read_to_string(&rows).unwrap();
    std::fs::write(&rows, right.replace("Hello", "Hallo")).unwrap();
    let error = import(&new, &folder).await.unwrap_err();
    assert!(error.contains("of messages is damaged"), "{error}");
    std::fs::write(&rows, right).unwrap();
    import(&new, &folder).await.unwrap();
    let again = import(&new, &folder).await.unwrap();
    assert!(again.contains("of which 0 were written"), "{again}");
    let another = orgs(&old.database.url, &["export", "--org", "demo", "--dir", root.path().to_str().unwrap()]).await;
    another.expect("another folder is another export");
    let theirs = new.user_in("elsewhere", "alice", None).await;
    theirs.group("Elsewhere", &[]).await;
    let mixed = orgs(&new.database.url, &["export", "--org", "elsewhere", "--dir", folder.to_str().unwrap()]).await;
    assert!(mixed.unwrap_err().contains("use another folder"));
    old.stop().await;
    new.stop().await;
}

#[engine_test]
async fn organization_that_exists_is_not_imported_over(engine: Engine) {
    let (old, new) = (start(engine).await, start(engine).await);
    old.user("alice").await.group("Walk", &[]).await;
    new.user("alice").await;
    let folder = tempfile::tempdir().unwrap();
    export(&old, folder.path(), &[]).await.unwrap();
    let error = import(&new, folder.path()).await.unwrap_err();
    assert!(error.contains("has the organization already"), "{error}");
    old.stop().await;
    new.stop().await;
}

#[engine_test]
async fn export_that_was_killed_continues(engine: Engine) {
    let (old, new) = (start(engine).await, start(other(engine)).await);
    fill(&old).await;
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("export");
    let mut command = server_command(root.path(), &[("DATABASE_URL", &old.database.url)]);
    let command = command.args(["orgs", "export", "--org", "demo", "--dir", folder.to_str().unwrap()]);
    let process = ChildProcess::start("export", command, root.path());
    // It may be anywhere after its first table when it is killed.
    wait_until("the export has begun", async || folder.join("tables/users.json").exists()).await;
    process.kill();
    export(&old, &folder, &["--freeze"]).await.unwrap();
    import(&new, &folder).await.unwrap();
    finish(&old, &folder).await.unwrap();
    import(&new, &folder).await.unwrap();
    let copy = tempfile::tempdir().unwrap();
    export(&new, copy.path(), &[]).await.unwrap();
    assert_eq!(exported(copy.path()), exported(&folder));
    old.stop().await;
    new.stop().await;
}

#[engine_test]
async fn deleted_organization_leaves_nothing_but_its_name(engine: Engine) {
    let app = start(engine).await;
    fill(&app).await;
    let stranger = app.user_in("elsewhere", "alice", None).await;
    let strange_chat = stranger.group("Elsewhere", &[]).await;
    stranger.send(&strange_chat, "stays").await;
    let url = app.database.url.clone();
    let before = DatabaseDump::take(&app.database).await;
    let error = orgs(&url, &["delete", "--org", "demo"]).await.unwrap_err();
    assert!(error.contains("add --yes"), "{error}");
    let counts = orgs(&url, &["delete", "--org", "demo", "--dry-run"]).await.unwrap();
    assert!(counts.contains("messages: ") && !counts.contains("messages: 0 rows"), "{counts}");
    before.assert_unchanged(&DatabaseDump::take(&app.database).await, "after a dry run");
    orgs(&url, &["delete", "--org", "demo", "--yes"]).await.unwrap();
    let counts = orgs(&url, &["delete", "--org", "demo", "--dry-run"]).await.unwrap();
    assert!(counts.lines().all(|line| line.ends_with(": 0 rows")), "{counts}");
    let found = stranger.ask("{ searchMessages(query: \"stays\", first: 5) { nodes { text } } }").await;
    assert_eq!(*found.at("searchMessages.nodes"), json!([{ "text": "stays" }]));
    // The name can be used again, at once.
    wait_until("the organization can be used", async || {
        let alice = User::new(app.addr, "alice", app.token("demo", "alice", None));
        alice.ask("{ viewer { user { id } } }").await.body["errors"].is_null()
    })
    .await;
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Again", &[&bob]).await;
    bob.send(&chat, "Hello").await;
    app.stop().await;
}

#[engine_test]
async fn organization_can_come_back_after_its_old_rows_were_deleted(engine: Engine) {
    let (first, second) = (start(engine).await, start(other(engine)).await);
    let alice = first.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    alice.send(&chat, "Hello").await;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [there, back] = [folders[0].path(), folders[1].path()];
    export(&first, there, &["--freeze"]).await.unwrap();
    import(&second, there).await.unwrap();
    finish(&first, there).await.unwrap();
    import(&second, there).await.unwrap();
    alice.at(second.addr).send(&chat, "from there").await;
    export(&second, back, &["--freeze"]).await.unwrap();
    assert!(import(&first, back).await.unwrap_err().contains("parlor orgs delete"));
    orgs(&first.database.url, &["delete", "--org", "demo", "--yes"]).await.unwrap();
    assert_moved(&alice.ask("{ viewer { user { id } } }").await);
    import(&first, back).await.unwrap();
    finish(&second, back).await.unwrap();
    import(&first, back).await.unwrap();
    wait_until("the organization is back", async || {
        alice.ask("{ viewer { user { id } } }").await.body["errors"].is_null()
    })
    .await;
    assert_eq!(alice.fetch_texts(&chat).await, ["Hello", "from there"]);
    first.stop().await;
    second.stop().await;
}

#[engine_test]
async fn each_table_of_the_database_moves_with_its_organization_or_is_named(engine: Engine) {
    let database = TestApp::start(Database::create(engine).await, &[]).await.shut_down().await;
    let named = organization_tables().iter().map(|table| table.name).chain(NOT_COPIED);
    let named: BTreeSet<String> = named.map(str::to_owned).collect();
    let is_extra =
        |table: &str| table.starts_with("message_words") || table.starts_with("__") || table.starts_with("sqlite_");
    let tables = DatabaseDump::take(&database).await.tables();
    let tables: BTreeSet<String> = tables.into_iter().filter(|table| !is_extra(table)).collect();
    assert_eq!(tables, named, "a new table belongs into a list of src/storage/organization_tables.rs");
    database.drop().await;
}
