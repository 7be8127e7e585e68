//! A client that reads slowly, or not for a while, among fast ones.

use std::time::Duration;

use futures_util::future::{join_all, join3};
use serde_json::json;
use testkit::keys::sign_with_secret;
use testkit::{Database, Engine, Feed, SECRET, ServerProcess, User, engine_test};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

const MESSAGES: usize = 2_000;
const SENDERS: usize = 8;
const FAST: usize = 4;
/// What the server may keep for two sockets that take nothing: far less than all that was sent.
const MORE_MEMORY: u64 = 64 * 1024 * 1024;

const TEXTS: &str = "subscription($chat: ID!) { chatFeed(chatId: $chat) { __typename
    ... on MessageUpserted { message { seq text sender { id name } } } } }";

/// The places of all messages, as a feed tells them.
async fn read_all(feed: &mut Feed) -> Vec<i64> {
    let mut places = Vec::new();
    while places.len() < MESSAGES {
        let event = feed.next().await;
        places.extend(event["message"]["seq"].as_i64());
    }
    places
}

#[engine_test]
async fn slow_subscriber_delays_nobody_and_loses_nothing(engine: Engine) {
    let database = Database::create(engine).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = [
        ("DATABASE_URL", database.url.as_str()),
        ("PARLOR_JWT_SECRET", SECRET),
        ("PARLOR_SENDS_PER_MINUTE", "1000000"),
        // However slow the machine, the slow are not given up.
        ("PARLOR_SOCKET_WRITE_SECONDS", "600"),
        ("PARLOR_SOCKET_PING_SECONDS", "600"),
    ];
    let server = ServerProcess::start(folder.path(), &settings);
    let people = join_all((0..SENDERS).map(|n| {
        let (id, addr) = (format!("person{n}"), server.addr);
        async move {
            let token = sign_with_secret(json!({ "sub": id, "org": "demo", "exp": 4_000_000_000_u64 }));
            let person = User::new(addr, &id, token);
            person.ask("{ viewer { user { id } } }").await.data();
            person
        }
    }))
    .await;
    let chat = people[0].group("Crowd", &people[1..].iter().collect::<Vec<_>>()).await;
    let mut feeds = Vec::new();
    for who in &people[..FAST + 2] {
        let mut feed = who.subscribe(TEXTS, json!({ "chat": chat })).await;
        while feed.next().await["__typename"] != "FeedCaughtUp" {}
        feeds.push(feed);
    }
    let (mut stuck, mut sipping) = (feeds.pop().expect("a feed"), feeds.pop().expect("a feed"));
    let before = server.resident_memory();
    let (done, mut is_done) = watch::channel(false);

    let padding = "x".repeat(1_000);
    let sending = join_all(people.iter().enumerate().map(async |(number, who)| {
        for round in 0..MESSAGES / SENDERS {
            who.send(&chat, &format!("{number} {round} {padding}")).await;
        }
    }));
    let reading = async {
        let told = join_all(feeds.iter_mut().map(read_all)).await;
        done.send_replace(true);
        told
    };
    let sip = async {
        let mut places = Vec::new();
        let mut next = Instant::now();
        loop {
            tokio::select! {
                _ = is_done.wait_for(|is| *is) => return places,
                () = sleep_until(next) => {}
            }
            next += Duration::from_secs(1);
            places.extend(sipping.next().await["message"]["seq"].as_i64());
        }
    };
    // The fast ones come to the end while one reads nothing at all.
    let (_, told, mut sipped) = join3(sending, reading, sip).await;
    let grown = server.resident_memory().saturating_sub(before);
    assert!(grown < MORE_MEMORY, "{grown} bytes more");
    assert!(sipped.len() < MESSAGES / 2, "it was slow: {}", sipped.len());

    let places = &told[0];
    assert!(places.is_sorted_by(|one, next| one < next));
    assert!(told.iter().all(|other| other == places));
    assert_eq!(&read_all(&mut stuck).await, places);
    while sipped.len() < MESSAGES {
        sipped.extend(sipping.next().await["message"]["seq"].as_i64());
    }
    assert_eq!(&sipped, places);
    drop(server);
    database.drop().await;
}
