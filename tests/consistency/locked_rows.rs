//! Rows that another transaction has locked: they hold up what needs them, and nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use parlor::domain::ids::Nonce;
use parlor::domain::messages::{DraftBody, MessageDraft};
use parlor::error::Error;
use serde_json::json;
use testkit::database::open_sqlite;
use testkit::{Database, Engine, Reply, TestApp, User, engine_test, postgres_test, wait_until};
use tokio_postgres::Client;

/// The time in which a request has to be answered, whatever is locked.
const MAX_ANSWER_TIME: Duration = Duration::from_secs(5);
/// The time in which a request is answered that needs nothing of what is locked.
const UNDISTURBED: Duration = Duration::from_secs(2);

/// Locks the chat with the title "Held".
const HELD_CHAT: &str = "SELECT FROM chats WHERE title = 'Held' FOR UPDATE";

async fn try_send(user: &User, chat: &str, text: &str) -> (Reply, Duration) {
    let started_at = Instant::now();
    let reply = user.try_send_message(chat, json!({ "text": text })).await;
    (reply, started_at.elapsed())
}

/// Begins a transaction that locks what a statement selects.
async fn lock(database: &Database, statement: &str) -> Client {
    let client = database.postgres_client().await;
    client.batch_execute(&format!("BEGIN; {statement}")).await.expect(statement);
    client
}

/// Sends to a chat that is held and to a free one, and checks that only the first waits.
async fn assert_only_held_sends_wait(alice: &User, held: &str, free: &str) {
    let sends_to_held = join_all((0..10).map(async |n| try_send(alice, held, &format!("held {n}")).await));
    let sends_to_free = async {
        let mut slowest = Duration::ZERO;
        // One after the other, for longer than a held send waits for its next attempt.
        for n in 0..10 {
            let (reply, time) = try_send(alice, free, &format!("free {n}")).await;
            reply.data();
            slowest = slowest.max(time);
        }
        slowest
    };
    let (held, slowest_free) = futures_util::join!(sends_to_held, sends_to_free);
    for (reply, time) in held {
        reply.assert_unavailable();
        assert!(time < MAX_ANSWER_TIME, "{time:?}");
    }
    assert!(slowest_free < UNDISTURBED, "{slowest_free:?}");
}

#[postgres_test]
async fn locked_chat_does_not_stop_sends_to_other_chats() {
    let app = TestApp::start(Database::create(Engine::Postgres).await, &[]).await;
    let alice = app.user("alice").await;
    let (held, free) = (alice.group("Held", &[]).await, alice.group("Free", &[]).await);
    let other = lock(&app.database, HELD_CHAT).await;
    assert_only_held_sends_wait(&alice, &held, &free).await;
    other.batch_execute("COMMIT").await.expect("the lock ends");
    let (reply, time) = try_send(&alice, &held, "after the lock").await;
    reply.data();
    assert!(time < UNDISTURBED, "{time:?}");
    assert_eq!(app.database.query_number("SELECT count(*) FROM messages WHERE text LIKE 'held%'").await, 0);
    app.stop().await;
}

#[postgres_test]
async fn locked_member_does_not_stop_sends_to_other_chats() {
    let app = TestApp::start(Database::create(Engine::Postgres).await, &[]).await;
    let alice = app.user("alice").await;
    let (held, free) = (alice.group("Held", &[]).await, alice.group("Free", &[]).await);
    // Sends write the position of their sender, without having waited for its row before.
    let other = lock(
        &app.database,
        "SELECT FROM members WHERE chat_id = (SELECT id FROM chats WHERE title = 'Held') FOR UPDATE",
    )
    .await;
    assert_only_held_sends_wait(&alice, &held, &free).await;
    other.batch_execute("COMMIT").await.expect("the lock ends");
    try_send(&alice, &held, "after the lock").await.0.data();
    app.stop().await;
}

#[postgres_test]
async fn many_locked_chats_are_answered_in_time() {
    let app = TestApp::start(Database::create(Engine::Postgres).await, &[]).await;
    let alice = app.user("alice").await;
    let mut chats = Vec::new();
    for n in 0..30 {
        chats.push(alice.group(&format!("Held {n}"), &[]).await);
    }
    let free = alice.group("Free", &[]).await;
    let other = lock(&app.database, "SELECT FROM chats WHERE title <> 'Free' FOR UPDATE").await;
    let sends_to_held = join_all(chats.iter().map(|chat| try_send(&alice, chat, "held")));
    let (replies, (free_reply, free_time)) = futures_util::join!(sends_to_held, try_send(&alice, &free, "free"));
    free_reply.data();
    assert!(free_time < UNDISTURBED, "{free_time:?}");
    for (reply, time) in replies {
        reply.assert_unavailable();
        assert!(time < MAX_ANSWER_TIME, "{time:?}");
    }
    other.batch_execute("COMMIT").await.expect("the lock ends");
    app.stop().await;
}

#[postgres_test]
async fn held_sends_are_committed_once_and_in_their_order() {
    let app = TestApp::start(Database::create(Engine::Postgres).await, &[]).await;
    let alice = app.user("alice").await;
    let chat = alice.group("Held", &[]).await;
    let viewer = Arc::new(app.app.authenticator.verify(&alice.token).await.expect("a token"));
    let other = lock(&app.database, HELD_CHAT).await;
    // Each future enters the queue at its first poll. Every message is sent twice, under one nonce.
    let sends = join_all((0..40).map(|n| {
        let text = format!("{}", n / 2);
        let draft = MessageDraft::new(chat.parse().expect("an id"), DraftBody::text(text.clone()));
        let draft = MessageDraft { nonce: Some(Nonce::parse(&text).expect("a nonce")), ..draft };
        parlor::service::messages::send(&app.app, viewer.clone(), draft)
    }));
    let unlocking = async {
        // The sends wait in the database for the lock.
        let is_waiting = "SELECT count(*) FROM pg_stat_activity \
                          WHERE datname = current_database() AND wait_event_type = 'Lock'";
        wait_until("a send waits for the lock", async || app.database.query_number(is_waiting).await > 0).await;
        other.batch_execute("COMMIT").await.expect("the lock ends");
    };
    let (results, ()) = futures_util::join!(sends, unlocking);
    let results: Vec<_> = results.into_iter().map(|result| result.expect("sent")).collect();
    let seqs: Vec<i64> = results.iter().map(|result| result.message.id.seq).collect();
    let first = seqs[0];
    assert_eq!(seqs, (0..40).map(|n| first + n / 2).collect::<Vec<_>>(), "in order, once, and without a gap");
    assert!(results.iter().enumerate().all(|(n, result)| result.replayed == (n % 2 == 1)));
    app.stop().await;
}

#[postgres_test]
async fn transaction_of_a_paused_node_ends_and_frees_its_chat() {
    let app = TestApp::start(Database::create(Engine::Postgres).await, &[]).await;
    let alice = app.user("alice").await;
    let chat = alice.group("Held", &[]).await;
    let id = chat.parse().expect("an id");
    let mut conn = app.app.database.write().await.expect("a connection");
    let (locked, is_locked) = tokio::sync::oneshot::channel();
    let (resume, resumed) = tokio::sync::oneshot::channel::<()>();
    let paused = tokio::spawn(async move {
        conn.transaction(async move |conn| {
            parlor::storage::chats::lock_one(conn, id).await?;
            locked.send(()).expect("the test waits");
            resumed.await.expect("the test resumes");
            parlor::storage::chats::lock_one(conn, id).await
        })
        .await
    });
    is_locked.await.expect("the chat is locked");
    let started_at = Instant::now();
    let is_sent = async || try_send(&alice, &chat, "after the pause").await.0.body.get("errors").is_none();
    wait_until("the chat is free", is_sent).await;
    assert!(started_at.elapsed() < 2 * MAX_ANSWER_TIME, "{:?}", started_at.elapsed());
    resume.send(()).expect("the transaction is paused");
    let result = paused.await.expect("no panic");
    assert!(matches!(result, Err(Error::Unavailable { .. })), "{result:?}");
    app.stop().await;
}

#[postgres_test]
async fn change_of_a_locked_chat_is_refused_in_time() {
    let app = TestApp::start(Database::create(Engine::Postgres).await, &[]).await;
    let alice = app.user("alice").await;
    let chat = alice.group("Held", &[]).await;
    let other = lock(&app.database, HELD_CHAT).await;
    let started_at = Instant::now();
    let reply = alice.mutate("updateChat", json!({ "chatId": chat, "title": "Other" })).await;
    reply.assert_unavailable();
    assert!(started_at.elapsed() < MAX_ANSWER_TIME, "{:?}", started_at.elapsed());
    assert_eq!(alice.fetch_chat(&chat, "title").await["title"], "Held", "reading needs no lock");
    other.batch_execute("COMMIT").await.expect("the lock ends");
    alice.mutate_ok("updateChat", json!({ "chatId": chat, "title": "Other" })).await;
    app.stop().await;
}

#[postgres_test]
async fn locked_tables_are_answered_in_time_and_leave_no_sessions_behind() {
    let app = TestApp::start(Database::create(Engine::Postgres).await, &[]).await;
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Held", &[&bob]).await;
    let other = lock(&app.database, "LOCK TABLE messages, chats IN ACCESS EXCLUSIVE MODE").await;
    let query = format!("{{ chat(id: \"{chat}\") {{ messages(last: 10) {{ nodes {{ id }} }} }} }}");
    // More requests than there are connections.
    let reads = join_all((0..30).map(|n| {
        let (user, query) = (if n % 2 == 0 { &alice } else { &bob }, &query);
        async move {
            let started_at = Instant::now();
            (user.ask(query).await, started_at.elapsed())
        }
    }));
    let sends = join_all((0..10).map(async |n| try_send(&alice, &chat, &format!("{n}")).await));
    let (reads, sends) = futures_util::join!(reads, sends);
    for (reply, time) in reads.into_iter().chain(sends) {
        reply.assert_unavailable();
        assert!(time < MAX_ANSWER_TIME, "{time:?}");
    }
    let sessions = "SELECT count(*) FROM pg_stat_activity \
                    WHERE datname = current_database() AND application_name LIKE 'parlor/%'";
    assert!(app.database.query_number(sessions).await <= 20);
    other.batch_execute("COMMIT").await.expect("the lock ends");
    let started_at = Instant::now();
    alice.ask(&query).await.data();
    alice.send(&chat, "after the lock").await;
    assert!(started_at.elapsed() < UNDISTURBED, "{:?}", started_at.elapsed());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_sqlite_file_makes_a_whole_batch_unavailable_at_once() {
    use diesel::connection::SimpleConnection;

    let app = TestApp::sqlite(&[]).await;
    let alice = app.user("alice").await;
    let chat = alice.group("Held", &[]).await;
    let mut other = open_sqlite(&app.database.sqlite_path());
    other.batch_execute("BEGIN IMMEDIATE").expect("the lock");
    let sends = join_all((0..40).map(async |n| try_send(&alice, &chat, &format!("{n}")).await)).await;
    for (reply, time) in sends {
        reply.assert_unavailable();
        assert!(time < MAX_ANSWER_TIME, "{time:?}");
    }
    assert_eq!(alice.fetch_chat(&chat, "title").await["title"], "Held", "reading needs no lock");
    other.batch_execute("ROLLBACK").expect("the lock ends");
    alice.send(&chat, "after the lock").await;
    app.stop().await;
}

#[engine_test]
async fn contended_chat_takes_sends_and_other_changes(app: &TestApp) {
    let mut users = Vec::new();
    for n in 0..12 {
        users.push(app.user(&format!("user{n}")).await);
    }
    let chat = users[0].group("Busy", &users[1..].iter().collect::<Vec<_>>()).await;
    let message = users[0].send(&chat, "react to this").await;
    // Reactions lock the chat one after the other, so that it is hardly ever free.
    join_all(users.iter().map(async |user| {
        for emoji in ["👍", "❤️", "🎉"] {
            user.mutate_ok("addReaction", json!({ "messageId": message, "emoji": emoji })).await;
            user.send(&chat, emoji).await;
        }
    }))
    .await;
    let content = users[0].fetch_chat(&chat, "messages(last: 1) { totalCount }").await;
    assert!(content["messages"]["totalCount"].as_i64() >= Some(1 + 12 * 3), "{content}");
}
