//! A server that is killed in the middle of its work.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::process::free_addr;
use testkit::{Database, Engine, SECRET, ServerProcess, TestApp, User, engine_test};

/// Starts the server on a database, at an address known before.
fn start(folder: &Path, database: &Database, addr: SocketAddr) -> ServerProcess {
    let addr = addr.to_string();
    let settings =
        [("DATABASE_URL", database.url.as_str()), ("PARLOR_ADDR", addr.as_str()), ("PARLOR_JWT_SECRET", SECRET)];
    ServerProcess::start(folder, &settings)
}

/// Sends until the server is gone; notes what was acknowledged, and repeats what wasn't.
async fn send_all(who: &User, chat: &str, nonces: &[String], acknowledged: &Mutex<BTreeMap<String, String>>) {
    for nonce in nonces {
        if acknowledged.lock().unwrap().contains_key(nonce) {
            continue;
        }
        let query = "mutation($input: SendMessageInput!) { sendMessage(input: $input) { message { id } } }";
        let input = json!({ "input": { "chatId": chat, "text": nonce, "nonce": nonce } });
        let Some(reply) = who.try_ask(query, input).await else { return };
        let id = reply.text("sendMessage.message.id");
        acknowledged.lock().unwrap().insert(nonce.clone(), id);
    }
}

#[engine_test]
async fn acknowledged_sends_survive_kill_exactly_once(engine: Engine) {
    let app = TestApp::start(Database::create(engine).await, &[]).await;
    let mut people = Vec::new();
    for n in 0..16 {
        people.push(app.user(&format!("user{n}")).await);
    }
    let chat = people[0].group("Crowd", &people[1..].iter().collect::<Vec<_>>()).await;
    let level = people[0].feed(&chat, None, None).await.expect("FeedCaughtUp").await["cursor"].clone();
    let database = app.shut_down().await;
    let folder = tempfile::tempdir().expect("a temporary folder");

    let acknowledged = Arc::new(Mutex::new(BTreeMap::new()));
    let nonces: Vec<Vec<String>> = (0..16).map(|who| (0..400).map(|n| format!("{who}-{n}")).collect()).collect();
    let (mut told, mut cursor): (Vec<Value>, _) = (Vec::new(), level.as_str().map(str::to_owned));
    for round in 0..4_u64 {
        let addr = free_addr();
        let server = start(folder.path(), &database, addr);
        let people: Vec<User> = people.iter().map(|who| who.at(addr)).collect();
        let mut feed = people[0].feed(&chat, None, cursor.as_deref()).await;
        let sends =
            join_all(people.iter().zip(&nonces).map(|(who, nonces)| send_all(who, &chat, nonces, &acknowledged)));
        let reading = async {
            while let Ok(message) = feed.socket.recv_or_close().await {
                let event = message["payload"]["data"]["chatFeed"].clone();
                cursor = Some(event["cursor"].as_str().expect("a cursor").to_owned());
                told.push(event);
            }
        };
        let killing = async {
            tokio::time::sleep(Duration::from_millis(150 + 100 * round)).await;
            server.kill();
        };
        futures_util::join!(sends, reading, killing);
    }

    // A last server, on which all that was not acknowledged is sent again.
    let addr = free_addr();
    let server = start(folder.path(), &database, addr);
    let people: Vec<User> = people.iter().map(|who| who.at(addr)).collect();
    let mut feed = people[0].feed(&chat, None, cursor.as_deref()).await;
    let sending = async {
        join_all(people.iter().zip(&nonces).map(|(who, nonces)| send_all(who, &chat, nonces, &acknowledged))).await;
        people[0].send(&chat, "the end").await;
    };
    let reading = async {
        loop {
            let event = feed.next().await;
            let is_end = event["message"]["text"] == "the end";
            told.push(event);
            if is_end {
                break;
            }
        }
    };
    futures_util::join!(sending, reading);
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert_eq!(acknowledged.len(), 16 * 400);
    let messages = told.iter().filter(|event| event["__typename"] == "MessageUpserted").map(|event| &event["message"]);
    let messages: Vec<(i64, &str, &str)> = messages
        .map(|message| {
            (message["seq"].as_i64().unwrap(), message["text"].as_str().unwrap(), message["id"].as_str().unwrap())
        })
        .collect();
    assert!(messages.is_sorted_by(|one, next| one.0 < next.0), "told in order, and nothing twice");
    assert_eq!(messages.len(), 16 * 400 + 1, "each nonce once, and the end");
    for (_, nonce, id) in &messages[..messages.len() - 1] {
        assert_eq!(acknowledged.get(*nonce).map(String::as_str), Some(*id), "{nonce}");
    }
    server.kill();
    database.drop().await;
}
