//! A server that is killed while it handles requests.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::process::free_addr;
use testkit::{Database, Engine, SECRET, ServerProcess, TestApp, User, engine_test};

/// The number of users, each of whom sends [`MESSAGES_PER_USER`] messages.
const USERS: usize = 16;
const MESSAGES_PER_USER: usize = 400;

/// Starts the server on a database, at a given address.
fn start(folder: &Path, database: &Database, addr: SocketAddr) -> ServerProcess {
    let addr = addr.to_string();
    let settings =
        [("DATABASE_URL", database.url.as_str()), ("PARLOR_ADDR", addr.as_str()), ("PARLOR_JWT_SECRET", SECRET)];
    ServerProcess::start(folder, &settings)
}

/// Sends the messages without an acknowledgement, and records new ones, until the server is killed.
async fn send_all(user: &User, chat: &str, nonces: &[String], acknowledged: &Mutex<BTreeMap<String, String>>) {
    for nonce in nonces {
        if acknowledged.lock().unwrap().contains_key(nonce) {
            continue;
        }
        let query = "mutation($input: SendMessageInput!) { sendMessage(input: $input) { message { id } } }";
        let input = json!({ "input": { "chatId": chat, "text": nonce, "nonce": nonce } });
        let Some(reply) = user.try_ask(query, input).await else { return };
        let id = reply.text("sendMessage.message.id");
        acknowledged.lock().unwrap().insert(nonce.clone(), id);
    }
}

#[engine_test]
async fn acknowledged_sends_survive_kill_exactly_once(engine: Engine) {
    let app = TestApp::start(Database::create(engine).await, &[]).await;
    let mut users = Vec::new();
    for n in 0..USERS {
        users.push(app.user(&format!("user{n}")).await);
    }
    let chat = users[0].group("Crowd", &users[1..].iter().collect::<Vec<_>>()).await;
    let start_cursor = users[0].feed(&chat, None, None).await.expect("FeedCaughtUp").await["cursor"].clone();
    let database = app.shut_down().await;
    let folder = tempfile::tempdir().expect("a temporary folder");

    let acknowledged = Arc::new(Mutex::new(BTreeMap::new()));
    let nonces: Vec<Vec<String>> =
        (0..USERS).map(|user| (0..MESSAGES_PER_USER).map(|n| format!("{user}-{n}")).collect()).collect();
    let (mut events, mut cursor): (Vec<Value>, _) = (Vec::new(), start_cursor.as_str().map(str::to_owned));
    for round in 0..4_u64 {
        let addr = free_addr();
        let server = start(folder.path(), &database, addr);
        let users: Vec<User> = users.iter().map(|user| user.at(addr)).collect();
        let mut feed = users[0].feed(&chat, None, cursor.as_deref()).await;
        let sending =
            join_all(users.iter().zip(&nonces).map(|(user, nonces)| send_all(user, &chat, nonces, &acknowledged)));
        let reading = async {
            while let Ok(message) = feed.socket.recv_or_close().await {
                let event = message["payload"]["data"]["chatFeed"].clone();
                cursor = Some(event["cursor"].as_str().expect("a cursor").to_owned());
                events.push(event);
            }
        };
        let killing = async {
            // The time of the kill is the scenario: in each round, the server dies at another point of its work.
            tokio::time::sleep(Duration::from_millis(150 + 100 * round)).await;
            server.kill();
        };
        futures_util::join!(sending, reading, killing);
    }

    // The last server receives all messages that were not acknowledged.
    let addr = free_addr();
    let server = start(folder.path(), &database, addr);
    let users: Vec<User> = users.iter().map(|user| user.at(addr)).collect();
    let mut feed = users[0].feed(&chat, None, cursor.as_deref()).await;
    let sending = async {
        join_all(users.iter().zip(&nonces).map(|(user, nonces)| send_all(user, &chat, nonces, &acknowledged))).await;
        users[0].send(&chat, "the end").await;
    };
    let reading = async {
        loop {
            let event = feed.next().await;
            let is_end = event["message"]["text"] == "the end";
            events.push(event);
            if is_end {
                break;
            }
        }
    };
    futures_util::join!(sending, reading);
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert_eq!(acknowledged.len(), USERS * MESSAGES_PER_USER);
    let messages =
        events.iter().filter(|event| event["__typename"] == "MessageUpserted").map(|event| &event["message"]);
    let messages: Vec<(i64, &str, &str)> = messages
        .map(|message| {
            (message["seq"].as_i64().unwrap(), message["text"].as_str().unwrap(), message["id"].as_str().unwrap())
        })
        .collect();
    assert!(messages.is_sorted_by(|earlier, later| earlier.0 < later.0), "delivered in order, and none twice");
    assert_eq!(messages.len(), USERS * MESSAGES_PER_USER + 1, "one message for each nonce, and the last one");
    for (_, nonce, id) in &messages[..messages.len() - 1] {
        assert_eq!(acknowledged.get(*nonce).map(String::as_str), Some(*id), "{nonce}");
    }
    server.kill();
    database.drop().await;
}
