//! Quotas of users, organisations and WebSockets, over all transports.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use parlor::domain::ids::ChatId;
use parlor::storage::chats;
use serde_json::{Value, json};
use testkit::http::graphql_body;
use testkit::tungstenite::Message;
use testkit::{Socket, TestApp, User, engine_test, http_client, wait_until};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::transport::multipart::MULTIPART;
use crate::transport::sse::SSE;
use crate::transport::websocket::{FEED, close_after, init, subscribe};

const VIEWER: &str = "{ viewer { user { id } } }";
const SEND: &str = "mutation($chat: ID!) { sendMessage(input: { chatId: $chat, text: \"hello\" }) { message { id } } }";

/// A transaction that holds a chat, so that no send in it commits until the lock is released.
struct ChatLock {
    release: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl ChatLock {
    async fn acquire(app: &TestApp, chat: &str) -> Self {
        let (database, chat) = (app.app.database.clone(), chat.parse::<ChatId>().expect("an id"));
        let (release, released) = oneshot::channel::<()>();
        let (report_locked, locked) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut conn = database.write().await.expect("a connection");
            let holding = conn.transaction(async move |conn| {
                chats::lock_one(conn, chat).await?;
                report_locked.send(()).expect("a test that waits");
                released.await.ok();
                Ok(())
            });
            holding.await.expect("a transaction");
        });
        locked.await.expect("a lock");
        Self { release, task }
    }

    async fn release(self) {
        self.release.send(()).expect("a transaction");
        self.task.await.expect("an end");
    }
}

/// Starts an operation and completes it at once.
async fn start_and_complete(socket: &mut Socket, id: &str, chat: &str) {
    socket.subscribe(id, SEND, json!({ "chat": chat })).await;
    socket.send(json!({ "type": "complete", "id": id })).await;
}

async fn count_messages(user: &User, chat: &str) -> usize {
    let messages = user.fetch_chat(chat, "messages(last: 100) { nodes { text } }").await;
    let nodes = messages["messages"]["nodes"].as_array().expect("a list");
    nodes.iter().filter(|message| message["text"] == "hello").count()
}

#[engine_test(settings = [("PARLOR_USER_OPERATIONS", "2")])]
async fn completed_mutation_counts_until_it_ends(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Busy", &[&bob]).await;
    let (mut socket, mut other_socket) = (alice.socket().await, alice.socket().await);
    let lock = ChatLock::acquire(app, &chat).await;
    for id in ["1", "2"] {
        start_and_complete(&mut socket, id, &chat).await;
    }
    // The answer shows that the messages before were processed.
    socket.send(json!({ "type": "ping" })).await;
    assert_eq!(socket.recv().await, json!({ "type": "pong" }));
    let rejection = alice.ask(VIEWER).await;
    assert_eq!((rejection.status, rejection.retry_after().as_millis()), (429, 1_000));
    for socket in [&mut socket, &mut other_socket] {
        socket.send(subscribe("3")).await;
        let message = socket.recv().await;
        assert_eq!((&message["id"], &message["type"]), (&json!("3"), &json!("error")));
        assert_eq!(message["payload"][0]["extensions"], json!({ "code": "RATE_LIMITED", "retryAfterMs": 1_000 }));
        assert_eq!(message["payload"][0]["message"], "a user can have at most 2 running operations");
    }
    bob.ask(VIEWER).await.data();
    lock.release().await;
    wait_until("the mutations have ended", async || alice.ask(VIEWER).await.status == 200).await;
    wait_until("both messages are sent", async || count_messages(&bob, &chat).await == 2).await;
}

#[engine_test(settings = [("PARLOR_SOCKET_OPERATIONS", "2")])]
async fn socket_is_not_read_while_its_completed_mutations_run(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Busy", &[]).await;
    let mut socket = alice.socket().await;
    let lock = ChatLock::acquire(app, &chat).await;
    for number in 0..20 {
        start_and_complete(&mut socket, &number.to_string(), &chat).await;
    }
    lock.release().await;
    // A mutation that began beyond the limit would have been rejected.
    wait_until("all messages are sent", async || count_messages(&alice, &chat).await == 20).await;
    socket.send(json!({ "type": "ping" })).await;
    loop {
        let message = socket.recv().await;
        match message["type"].as_str() {
            Some("pong") => break,
            // The first mutations may end before the server has read that the client completed them.
            kind => assert_ne!(kind, Some("error"), "an operation was rejected: {message}"),
        }
    }
}

#[engine_test(settings = [("PARLOR_SEND_QUEUE", "16"), ("PARLOR_SEND_LANES", "1"), ("PARLOR_USER_QUEUED_SENDS", "4")])]
async fn flood_of_one_sender_leaves_the_send_queue_to_others(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Busy", &[&bob]).await;
    let lock = ChatLock::acquire(app, &chat).await;
    let rejected = AtomicUsize::new(0);
    let flood = join_all((0..20).map(async |_| {
        let reply = alice.ask_with(SEND, json!({ "chat": chat })).await;
        if reply.body.get("errors").is_some() {
            reply.retry_after();
            rejected.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let others = async {
        wait_until("the flood is limited", async || rejected.load(Ordering::Relaxed) == 16).await;
        // Each of them has a place, so none is UNAVAILABLE.
        let sends = join_all((0..4).map(|_| bob.ask_with(SEND, json!({ "chat": chat }))));
        tokio::join!(sends, lock.release()).0
    };
    let (_, others) = tokio::join!(flood, others);
    for reply in others {
        reply.data();
    }
    assert_eq!(rejected.into_inner(), 16);
}

#[engine_test(settings = [("PARLOR_SENDS_PER_MINUTE", "1")])]
async fn limited_sender_is_rejected_before_the_send_queue(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Busy", &[&bob]).await;
    alice.send(&chat, "first").await;
    alice.try_send_message(&chat, json!({ "text": "second" })).await.retry_after();
    let lock = ChatLock::acquire(app, &chat).await;
    // The send worker waits for the lock, so these are not answered by it.
    let occupied = tokio::spawn({
        let (bob, chat) = (bob.clone(), chat.clone());
        async move { bob.send(&chat, "waits").await }
    });
    alice.try_send_message(&chat, json!({ "text": "third" })).await.retry_after();
    alice.try_send_message(&chat, json!({ "text": "fourth", "nonce": "new" })).await.retry_after();
    lock.release().await;
    occupied.await.expect("a message");
}

/// Opens a further WebSocket, or returns the close code and the reason of its refusal.
async fn try_connect(user: &User, app: &TestApp) -> Result<Socket, (u16, String)> {
    let mut socket = Socket::connect(app.addr).await;
    socket.send(init(&user.token)).await;
    match socket.recv_or_close().await {
        Ok(message) => {
            assert_eq!(message, json!({ "type": "connection_ack" }));
            Ok(socket)
        }
        Err(frame) => {
            let frame = frame.expect("a close frame");
            Err((frame.code.into(), frame.reason.to_string()))
        }
    }
}

const SOCKET_LIMITS: [(&str, &str); 2] = [("PARLOR_USER_WEBSOCKETS", "2"), ("PARLOR_ORGANIZATION_WEBSOCKETS", "3")];

#[engine_test(settings = SOCKET_LIMITS)]
async fn open_websockets_are_limited_per_user_and_organization(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let namesake = app.user_in("other", "alice", None).await;
    let first = alice.socket().await;
    let _second = alice.socket().await;
    let rejected = try_connect(&alice, app).await.err();
    assert_eq!(rejected, Some((1013, "a user can have at most 2 open WebSockets".into())));
    let _third = bob.socket().await;
    let rejected = try_connect(&bob, app).await.err();
    assert_eq!(rejected, Some((1013, "an organization can have at most 3 open WebSockets".into())));
    let _other = namesake.socket().await;
    drop(first);
    wait_until("the place is free", async || try_connect(&bob, app).await.is_ok()).await;
}

/// Opens an event stream, and returns the response.
pub async fn open_stream(app: &TestApp, user: &User, accept: &str, query: &str) -> reqwest::Response {
    let request = http_client().post(app.url("/graphql")).bearer_auth(&user.token);
    let request = request.header("accept", accept).header("content-type", "application/json");
    request.body(graphql_body(query, json!({}))).send().await.expect("a response")
}

pub const MESSAGE_ADDED: &str = "subscription { messageAdded { id } }";

#[engine_test(settings = [("PARLOR_USER_EVENT_STREAMS", "2")])]
async fn open_event_streams_are_limited_per_user(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let first = open_stream(app, &alice, SSE, MESSAGE_ADDED).await;
    let _second = open_stream(app, &alice, MULTIPART, MESSAGE_ADDED).await;
    for accept in [SSE, MULTIPART] {
        let rejected = open_stream(app, &alice, accept, MESSAGE_ADDED).await;
        assert_eq!((rejected.status().as_u16(), rejected.headers()["retry-after"].to_str().unwrap()), (429, "1"));
        let body: Value = rejected.json().await.expect("JSON");
        assert_eq!(body["errors"][0]["extensions"], json!({ "code": "RATE_LIMITED", "retryAfterMs": 1_000 }));
        assert_eq!(open_stream(app, &bob, accept, MESSAGE_ADDED).await.status(), 200);
    }
    drop(first);
    let is_open = async || open_stream(app, &alice, MULTIPART, MESSAGE_ADDED).await.status() == 200;
    wait_until("the place is free", is_open).await;
}

#[engine_test(settings = [("PARLOR_USER_SUBSCRIPTIONS", "2")])]
async fn open_subscriptions_are_limited_per_user_over_all_transports(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Busy", &[&bob]).await;
    let feed = FEED.replace("$chat: ID!", &format!("$chat: ID = \"{chat}\""));
    let mut stream = open_stream(app, &alice, MULTIPART, &feed).await;
    // Heartbeats come before the first event.
    while !stream.chunk().await.expect("a chunk").expect("an event").windows(8).any(|bytes| bytes == b"CaughtUp") {}
    let mut socket = alice.socket().await;
    socket.subscribe("1", FEED, json!({ "chat": chat })).await;
    assert_eq!(socket.recv().await["payload"]["data"]["chatFeed"]["__typename"], "FeedCaughtUp");
    socket.subscribe("2", FEED, json!({ "chat": chat })).await;
    let message = socket.recv().await;
    assert_eq!((&message["id"], &message["type"]), (&json!("2"), &json!("error")), "{message}");
    assert_eq!(message["payload"][0]["extensions"], json!({ "code": "RATE_LIMITED", "retryAfterMs": 1_000 }));
    bob.subscribe(FEED, json!({ "chat": chat })).await.expect("FeedCaughtUp").await;
    socket.send(json!({ "type": "complete", "id": "1" })).await;
    socket.subscribe("3", FEED, json!({ "chat": chat })).await;
    assert_eq!(socket.recv().await["payload"]["data"]["chatFeed"]["__typename"], "FeedCaughtUp");
}

#[tokio::test(flavor = "multi_thread")]
async fn operation_id_over_256_bytes_closes_socket() {
    let app = TestApp::sqlite(&[]).await;
    let alice = app.user("alice").await;
    let mut socket = alice.socket().await;
    socket.send(subscribe(&"x".repeat(256))).await;
    assert_eq!(socket.recv().await["type"], "next");
    for id in ["x".repeat(257), "ü".repeat(129), "x".repeat(126_000)] {
        let messages = [Message::text(init(&alice.token).to_string()), Message::text(subscribe(&id).to_string())];
        assert_eq!(close_after(&app, &messages).await, (4400, "id must have at most 256 bytes".into()));
    }
    app.stop().await;
}

#[engine_test(settings = [("PARLOR_SOCKET_OPERATION_BYTES", "10000")])]
async fn operations_of_a_socket_are_limited_in_bytes(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Busy", &[]).await;
    let padded = format!("{FEED} #{}", "x".repeat(4_500));
    let mut socket = alice.socket().await;
    for id in ["1", "2"] {
        socket.subscribe(id, &padded, json!({ "chat": chat })).await;
        assert_eq!(socket.recv().await["payload"]["data"]["chatFeed"]["__typename"], "FeedCaughtUp");
    }
    socket.subscribe("3", &padded, json!({ "chat": chat })).await;
    let message = socket.recv().await;
    assert_eq!((&message["id"], &message["type"]), (&json!("3"), &json!("error")), "{message}");
    assert_eq!(message["payload"][0]["extensions"], json!({ "code": "RATE_LIMITED", "retryAfterMs": 1_000 }));
    let limit = "the operations of a WebSocket can have at most 10000 bytes together";
    assert_eq!(message["payload"][0]["message"], limit);
    socket.send(json!({ "type": "complete", "id": "1" })).await;
    socket.subscribe("4", &padded, json!({ "chat": chat })).await;
    assert_eq!(socket.recv().await["payload"]["data"]["chatFeed"]["__typename"], "FeedCaughtUp");
    // Each socket has a budget of its own.
    alice.subscribe(&padded, json!({ "chat": chat })).await.expect("FeedCaughtUp").await;
}
