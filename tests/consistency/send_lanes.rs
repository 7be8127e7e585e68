//! Lanes of sends: each commits by itself, and keeps the order of its chats.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use parlor::domain::ids::Nonce;
use parlor::domain::messages::{DraftBody, MessageDraft};
use serde_json::json;
use testkit::{Database, Engine, HeldLock, Reply, TestApp, User, engine_test, postgres_test, wait_until};

/// The time in which a send to a locked chat has to be answered.
const MAX_ANSWER_TIME: Duration = Duration::from_secs(5);
/// The time in which a send is answered that needs nothing of what is locked.
const UNDISTURBED: Duration = Duration::from_secs(2);

/// Makes the commit of a message with the text "slow" take two seconds.
const SLOW_MESSAGES: &str = "
    CREATE FUNCTION delay_message() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(2); RETURN NEW; END $$;
    CREATE TRIGGER delay_message BEFORE INSERT ON messages
        FOR EACH ROW WHEN (NEW.text = 'slow') EXECUTE FUNCTION delay_message()";
/// Counts the commits that this delays at the moment.
const DELAYED: &str = "SELECT count(*) FROM pg_stat_activity \
                       WHERE datname = current_database() AND wait_event = 'PgSleep'";

fn lane_of(app: &TestApp, chat: &str) -> usize {
    app.app.send_queue.lane_of(chat.parse().expect("an id"))
}

/// Creates a chat of a user whose sends go through one lane.
async fn chat_in_lane(app: &TestApp, user: &User, title: &str, lane: usize) -> String {
    loop {
        let chat = user.group(title, &[]).await;
        if lane_of(app, &chat) == lane {
            return chat;
        }
        user.mutate_ok("deleteChat", json!({ "chatId": chat })).await;
    }
}

async fn send(user: &User, chat: &str, text: &str) -> Reply {
    user.try_send_message(chat, json!({ "text": text })).await
}

async fn start(lanes: &str, settings: &[(&str, &str)]) -> TestApp {
    let settings = [&[("PARLOR_SEND_LANES", lanes)], settings].concat();
    TestApp::start(Database::create(Engine::Postgres).await, &settings).await
}

/// Begins to send a message that delays its lane, and waits until its commit has begun.
async fn occupy_lane(app: &TestApp, user: &User, chat: &str) -> tokio::task::JoinHandle<Reply> {
    let (user, chat) = (user.clone(), chat.to_owned());
    let slow = tokio::spawn(async move { send(&user, &chat, "slow").await });
    wait_until("the commit has begun", async || app.database.query_number(DELAYED).await == 1).await;
    slow
}

#[postgres_test]
async fn locked_chat_leaves_other_lanes_and_its_own_lane_alone() {
    let app = start("2", &[]).await;
    let alice = app.user("alice").await;
    let held = chat_in_lane(&app, &alice, "Held", 0).await;
    let free = [chat_in_lane(&app, &alice, "Free", 0).await, chat_in_lane(&app, &alice, "Free", 1).await];
    let other = HeldLock::take(&app.database, "", "BEGIN; SELECT FROM chats WHERE title = 'Held' FOR UPDATE").await;
    let timed = async |chat: &str, text: &str| {
        let started_at = Instant::now();
        (send(&alice, chat, text).await, started_at.elapsed())
    };
    let to_held = join_all((0..5).map(|n| timed(&held, if n == 0 { "first" } else { "later" })));
    let to_free = async {
        for _ in 0..5 {
            for (reply, time) in join_all(free.iter().map(|chat| timed(chat, "free"))).await {
                reply.data();
                assert!(time < UNDISTURBED, "{time:?}");
            }
        }
    };
    let (to_held, ()) = futures_util::join!(to_held, to_free);
    for (reply, time) in to_held {
        reply.assert_unavailable();
        assert!(time < MAX_ANSWER_TIME, "{time:?}");
    }
    other.release().await;
    send(&alice, &held, "after the lock").await.data();
    app.stop().await;
}

#[postgres_test]
async fn slow_commit_delays_its_own_lane_only() {
    let app = start("2", &[]).await;
    app.database.execute(SLOW_MESSAGES).await;
    let alice = app.user("alice").await;
    let slow_chat = chat_in_lane(&app, &alice, "Slow", 0).await;
    let same_lane = chat_in_lane(&app, &alice, "Same lane", 0).await;
    let other_lane = chat_in_lane(&app, &alice, "Other lane", 1).await;
    let slow = occupy_lane(&app, &alice, &slow_chat).await;
    let waiting = tokio::spawn({
        let (alice, same_lane) = (alice.clone(), same_lane.clone());
        async move { send(&alice, &same_lane, "waits").await }
    });
    for _ in 0..5 {
        send(&alice, &other_lane, "free").await.data();
    }
    assert_eq!(app.database.query_number(DELAYED).await, 1, "the slow commit lasts");
    assert!(!waiting.is_finished());
    slow.await.expect("no panic").data();
    waiting.await.expect("no panic").data();
    app.stop().await;
}

#[postgres_test]
async fn commits_of_different_lanes_run_at_the_same_time() {
    let app = start("2", &[]).await;
    app.database.execute(SLOW_MESSAGES).await;
    let alice = app.user("alice").await;
    let chats = [chat_in_lane(&app, &alice, "One", 0).await, chat_in_lane(&app, &alice, "Two", 1).await];
    let sends = join_all(chats.iter().map(|chat| send(&alice, chat, "slow")));
    let both = wait_until("both run", async || app.database.query_number(DELAYED).await == 2);
    let (replies, ()) = futures_util::join!(sends, both);
    for reply in replies {
        reply.data();
    }
    app.stop().await;
}

#[postgres_test]
async fn full_lane_refuses_sends_while_another_lane_takes_them() {
    // Each lane has room for one send, besides those that it commits.
    let app = start("2", &[("PARLOR_SEND_QUEUE", "2")]).await;
    app.database.execute(SLOW_MESSAGES).await;
    // One organization cannot fill a lane, so each sender is of another.
    let mut senders = Vec::new();
    for n in 0..4 {
        let sender = app.user_in(&format!("organization{n}"), "alice", None).await;
        let chat = chat_in_lane(&app, &sender, "Walk", 0).await;
        senders.push((sender, chat));
    }
    let other_lane = chat_in_lane(&app, &senders[0].0, "Other lane", 1).await;
    let slow = occupy_lane(&app, &senders[0].0, &senders[0].1).await;
    let sends = join_all(senders[1..].iter().map(|(sender, chat)| send(sender, chat, "text")));
    let (replies, other) = futures_util::join!(sends, send(&senders[0].0, &other_lane, "free"));
    other.data();
    slow.await.expect("no panic").data();
    let (sent, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.body.get("errors").is_none());
    assert_eq!((sent.len(), refused.len()), (1, 2));
    for reply in refused {
        reply.assert_unavailable();
        let error = &reply.body["errors"][0];
        assert_eq!(error["message"], "too many messages are waiting to be sent");
        assert!(error["extensions"]["retryAfterMs"].as_u64() > Some(0), "{error}");
    }
    app.stop().await;
}

#[postgres_test]
async fn organization_leaves_room_in_a_lane_to_others() {
    // Each lane has room for four sends, of which one organization may have three.
    let app = start("2", &[("PARLOR_SEND_QUEUE", "8")]).await;
    app.database.execute(SLOW_MESSAGES).await;
    let (alice, eve) = (app.user("alice").await, app.user_in("other", "eve", None).await);
    let (slow_chat, chat) = (chat_in_lane(&app, &alice, "Slow", 0).await, chat_in_lane(&app, &eve, "Walk", 0).await);
    let slow = occupy_lane(&app, &alice, &slow_chat).await;
    let flood = join_all((0..6).map(|_| send(&alice, &slow_chat, "flood")));
    let (flood, other) = futures_util::join!(flood, send(&eve, &chat, "text"));
    other.data();
    slow.await.expect("no panic").data();
    let refused: Vec<_> = flood.iter().filter(|reply| reply.body.get("errors").is_some()).collect();
    assert_eq!(refused.len(), 4, "two of the flood wait beside the slow send");
    for reply in refused {
        reply.assert_error("RATE_LIMITED");
        let error = &reply.body["errors"][0];
        assert_eq!(error["message"], "an organization can have at most 3 messages waiting in one send lane");
        assert!(error["extensions"]["retryAfterMs"].as_u64() > Some(0), "{error}");
    }
    app.stop().await;
}

#[engine_test(settings = [("PARLOR_SEND_LANES", "4")])]
async fn sends_over_lanes_and_organizations_are_committed_once_and_in_order(app: &TestApp) {
    const CHATS: usize = 8;
    const SENDS: usize = 3;
    let mut chats = Vec::new();
    for n in 0..5 {
        let alice = app.user_in(&format!("organization{n}"), "alice", None).await;
        let viewer = Arc::new(app.app.authenticator.verify(&alice.token).await.expect("a token"));
        for _ in 0..CHATS {
            chats.push((viewer.clone(), alice.group("Walk", &[]).await));
        }
    }
    // Each future enters the queue at its first poll. Every message is sent twice, under one nonce.
    let sends = (0..SENDS * 2).flat_map(|n| chats.iter().map(move |chat| (n / 2, chat)));
    let results = join_all(sends.map(|(n, (viewer, chat))| {
        let draft = MessageDraft::new(chat.parse().expect("an id"), DraftBody::text(format!("{n}")));
        let draft = MessageDraft { nonce: Some(Nonce::parse(&format!("{n}")).expect("a nonce")), ..draft };
        parlor::service::messages::send(&app.app, viewer.clone(), draft)
    }))
    .await;
    let results: Vec<_> = results.into_iter().map(|result| result.expect("sent")).collect();
    for (number, (_, chat)) in chats.iter().enumerate() {
        let of_chat: Vec<_> = results.iter().skip(number).step_by(chats.len()).collect();
        let first = of_chat[0].message.id.seq;
        let seqs: Vec<_> = of_chat.iter().map(|result| result.message.id.seq - first).collect();
        assert_eq!(seqs, [0, 0, 1, 1, 2, 2], "{chat}: in order, once, and without a gap");
        let replayed: Vec<_> = of_chat.iter().map(|result| result.replayed).collect();
        assert_eq!(replayed, [false, true, false, true, false, true]);
    }
    let stored = app.database.query_number("SELECT count(*) FROM messages WHERE nonce IS NOT NULL").await;
    assert_eq!(usize::try_from(stored), Ok(chats.len() * SENDS));
}

#[engine_test]
async fn stop_answers_the_sends_of_all_lanes(engine: Engine) {
    const SENDS: usize = 8;
    let settings = [("PARLOR_SEND_LANES", "4"), ("PARLOR_USER_QUEUED_SENDS", "8"), ("PARLOR_SHUTDOWN_SECONDS", "10")];
    let app = TestApp::start(Database::create(engine).await, &settings).await;
    let alice = app.user("alice").await;
    let chats = [0, 1, 2, 3].map(|lane| lane % app.app.database.send_lanes());
    let chats = join_all(chats.map(|lane| chat_in_lane(&app, &alice, "Walk", lane))).await;
    // SQLite has one connection that writes.
    let writer = app.app.database.write().await.expect("a connection");
    let locked_rows = match engine {
        Engine::Sqlite => None,
        Engine::Postgres => Some(HeldLock::take(&app.database, "", "BEGIN; SELECT FROM chats FOR UPDATE").await),
    };
    let refused = AtomicUsize::new(0);
    // The last of them is refused when all others wait.
    let sends = join_all((0..=SENDS).map(async |n| {
        let reply = send(&alice, &chats[n % chats.len()], "text").await;
        if reply.body.get("errors").is_some() {
            reply.assert_error("RATE_LIMITED");
            refused.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let stopping = async {
        wait_until("all sends wait", async || refused.load(Ordering::Relaxed) == 1).await;
        let release = async {
            drop(writer);
            if let Some(locked_rows) = locked_rows {
                locked_rows.release().await;
            }
        };
        futures_util::join!(app.shut_down(), release).0
    };
    let (_, database) = futures_util::join!(sends, stopping);
    assert_eq!(refused.into_inner(), 1);
    assert_eq!(database.query_number("SELECT count(*) FROM messages WHERE text = 'text'").await, SENDS as i64);
    database.drop().await;
}
