//! Clients that read slowly, or not at all for a while, in a chat with fast clients.

use std::time::Duration;

use futures_util::future::{join_all, join3};
use serde_json::json;
use testkit::keys::sign_with_secret;
use testkit::{Database, Engine, Feed, SECRET, ServerProcess, User, engine_test};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

const MESSAGES: usize = 2_000;
const SENDERS: usize = 8;
const FAST_SUBSCRIBERS: usize = 4;
/// The memory that the server may use for two slow sockets: much less than the size of all events.
const MAX_MEMORY_GROWTH: u64 = 64 * 1024 * 1024;

const TEXTS: &str = "subscription($chat: ID!) { chatFeed(chatId: $chat) { __typename
    ... on MessageUpserted { message { seq text sender { id name } } } } }";

/// Returns the sequence numbers of all messages in the order of their delivery.
async fn receive_all(feed: &mut Feed) -> Vec<i64> {
    let mut seqs = Vec::new();
    while seqs.len() < MESSAGES {
        let event = feed.next().await;
        seqs.extend(event["message"]["seq"].as_i64());
    }
    seqs
}

#[engine_test]
async fn slow_subscriber_delays_nobody_and_loses_nothing(engine: Engine) {
    let database = Database::create(engine).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = [
        ("DATABASE_URL", database.url.as_str()),
        ("PARLOR_JWT_SECRET", SECRET),
        ("PARLOR_SENDS_PER_MINUTE", "1000000"),
        // The server must not close the slow sockets, even on a slow machine.
        ("PARLOR_SOCKET_WRITE_SECONDS", "600"),
        ("PARLOR_SOCKET_PING_SECONDS", "600"),
    ];
    let server = ServerProcess::start(folder.path(), &settings);
    let users = join_all((0..SENDERS).map(|n| {
        let (id, addr) = (format!("user{n}"), server.addr);
        async move {
            let token = sign_with_secret(json!({ "sub": id, "org": "demo", "exp": 4_000_000_000_u64 }));
            let user = User::new(addr, &id, token);
            user.ask("{ viewer { user { id } } }").await.data();
            user
        }
    }))
    .await;
    let chat = users[0].group("Crowd", &users[1..].iter().collect::<Vec<_>>()).await;
    let mut feeds = Vec::new();
    for user in &users[..FAST_SUBSCRIBERS + 2] {
        let mut feed = user.subscribe(TEXTS, json!({ "chat": chat })).await;
        feed.catch_up().await;
        feeds.push(feed);
    }
    let (mut stalled_feed, mut slow_feed) = (feeds.pop().expect("a feed"), feeds.pop().expect("a feed"));
    let before = server.resident_memory();
    let (done_sender, mut done) = watch::channel(false);

    let padding = "x".repeat(1_000);
    let sending = join_all(users.iter().enumerate().map(async |(number, user)| {
        for round in 0..MESSAGES / SENDERS {
            user.send(&chat, &format!("{number} {round} {padding}")).await;
        }
    }));
    let reading = async {
        let received = join_all(feeds.iter_mut().map(receive_all)).await;
        done_sender.send_replace(true);
        received
    };
    let slow_reading = async {
        let mut seqs = Vec::new();
        let mut next_read = Instant::now();
        loop {
            tokio::select! {
                _ = done.wait_for(|is_done| *is_done) => return seqs,
                () = sleep_until(next_read) => {}
            }
            next_read += Duration::from_secs(1);
            seqs.extend(slow_feed.next().await["message"]["seq"].as_i64());
        }
    };
    // The fast clients receive all messages while one client reads slowly and another not at all.
    let (_, received, mut slow_seqs) = join3(sending, reading, slow_reading).await;
    let growth = server.resident_memory().saturating_sub(before);
    assert!(growth < MAX_MEMORY_GROWTH, "the memory grew by {growth} bytes");
    assert!(slow_seqs.len() < MESSAGES / 2, "the slow client received {}", slow_seqs.len());

    let seqs = &received[0];
    assert!(seqs.is_sorted_by(|earlier, later| earlier < later));
    assert!(received.iter().all(|other| other == seqs));
    assert_eq!(&receive_all(&mut stalled_feed).await, seqs);
    while slow_seqs.len() < MESSAGES {
        slow_seqs.extend(slow_feed.next().await["message"]["seq"].as_i64());
    }
    assert_eq!(&slow_seqs, seqs);
    drop(server);
    database.drop().await;
}
