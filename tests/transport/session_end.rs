//! The end of a session while there is more to deliver than its client reads.

use serde_json::{Value, json};
use testkit::http::{graphql_body, read_to_end};
use testkit::keys::sign_with_secret;
use testkit::{Socket, TIMEOUT, TestApp, User, connect_with_small_buffer, engine_test, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::transport::multipart::MULTIPART;
use crate::transport::quotas::{MESSAGE_ADDED, open_stream};
use crate::transport::sse::SSE;

/// Tokens expire at exactly their `exp`, and a test may send as much as it wants.
const SETTINGS: [(&str, &str); 4] = [
    ("PARLOR_JWT_LEEWAY_SECONDS", "0"),
    ("PARLOR_SENDS_PER_MINUTE", "1000000"),
    ("PARLOR_USER_EVENT_STREAMS", "1"),
    ("PARLOR_SHUTDOWN_SECONDS", "10"),
];
pub const FEED: &str = "subscription($chat: ID!) { chatFeed(chatId: $chat) { __typename
    ... on MessageUpserted { message { text } } } }";
/// The number of messages after which a client that does not read has blocked the server.
pub const EARLY_MESSAGES: usize = 40;
/// The number of messages after which hyper accepts nothing more of an event stream either.
const EARLY_EVENTS: usize = 160;
const ADMIN: [&str; 2] = ["chat.view", "organization.admin"];

/// Returns a text that begins with a word and is as long as a message can be.
pub fn long_text(word: &str) -> String {
    format!("{word} {}", "x".repeat(7_900))
}

/// Returns Bob's token, which expires in ten minutes.
fn expiring_token(app: &TestApp) -> String {
    let now = app.app.clock.now().timestamp();
    sign_with_secret(json!({ "sub": "bob", "org": "demo", "name": "Bob", "iat": now, "exp": now + 600 }))
}

/// The ways in which Bob's session ends.
#[derive(Clone, Copy)]
enum End {
    Revoked,
    Expired,
}

impl End {
    /// Ends the sessions of Bob's token, and waits until that of a client that reads has ended.
    async fn happen(self, app: &TestApp, mut witness: Socket) {
        match self {
            Self::Revoked => {
                let admin = app.user_in("demo", "admin", Some(&ADMIN)).await;
                admin.mutate_ok("revokeSessions", json!({ "userId": "bob" })).await;
            }
            Self::Expired => app.advance(601),
        }
        assert_eq!(witness.expect_close().await.0, 4403);
    }
}

/// Opens a WebSocket with a token.
async fn open_socket(app: &TestApp, token: &str) -> Socket {
    let mut socket = Socket::connect(app.addr).await;
    socket.init(token).await;
    socket
}

/// Sends messages that begin with a word.
async fn send_all(app: &TestApp, sender: &User, chat: &str, word: &str, count: usize) {
    // The time of a session's end may have passed the expiry of the sender's token.
    let sender = sender.with_fresh_token(app);
    for _ in 0..count {
        sender.send(chat, &long_text(word)).await;
    }
}

/// Creates a chat of Alice and Bob, and returns Alice and the chat.
async fn busy_chat(app: &TestApp) -> (User, String) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Busy", &[&bob]).await;
    (alice, chat)
}

/// Reads until the end of the session closes a socket, and returns the number of earlier messages.
///
/// There are no late ones.
pub async fn receive_until_session_ends(socket: &mut Socket) -> usize {
    let mut received = 0;
    let close = loop {
        match socket.recv_or_close().await {
            Ok(message) => {
                let text = message["payload"]["data"]["chatFeed"]["message"]["text"].as_str().unwrap_or_default();
                assert!(!text.starts_with("late"), "a message from after the end was delivered");
                received += usize::from(text.starts_with("early"));
            }
            Err(close) => break close,
        }
    };
    assert_eq!(close.map(|frame| frame.code.into()), Some(4403_u16));
    received
}

async fn assert_socket_receives_nothing_after(app: &TestApp, end: End) {
    let (alice, chat) = busy_chat(app).await;
    // Alice's subscription is the same, so that its events take the fast path to both sockets.
    let mut shared = alice.subscribe(FEED, json!({ "chat": chat })).await;
    shared.expect("FeedCaughtUp").await;
    let token = expiring_token(app);
    let witness = open_socket(app, &token).await;
    let mut socket = Socket::with_small_buffer(app.addr, &token).await;
    socket.subscribe("feed", FEED, json!({ "chat": chat })).await;
    assert_eq!(socket.recv().await["payload"]["data"]["chatFeed"]["__typename"], "FeedCaughtUp");
    send_all(app, &alice, &chat, "early", EARLY_MESSAGES).await;
    end.happen(app, witness).await;
    send_all(app, &alice, &chat, "late", 10).await;
    let received = receive_until_session_ends(&mut socket).await;
    assert!(received < EARLY_MESSAGES, "what waits for the client is discarded");
}

#[engine_test(settings = SETTINGS)]
async fn revoked_session_receives_nothing_more_while_output_is_ready(app: &TestApp) {
    assert_socket_receives_nothing_after(app, End::Revoked).await;
}

#[engine_test(settings = SETTINGS)]
async fn expired_session_receives_nothing_more_while_output_is_ready(app: &TestApp) {
    assert_socket_receives_nothing_after(app, End::Expired).await;
}

/// Sends a GraphQL request on a connection whose client does not read yet.
async fn send_request(app: &TestApp, token: &str, accept: &str, query: &str, variables: Value) -> TcpStream {
    let mut stream = connect_with_small_buffer(app.addr).await;
    let body = graphql_body(query, variables);
    let request = format!(
        "POST /graphql HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\naccept: {accept}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        app.addr,
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("the server reads the request");
    stream
}

/// Reads until a text has arrived, and returns everything up to it.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut received = Vec::new();
    while !String::from_utf8_lossy(&received).contains(text) {
        received.push(timeout(TIMEOUT, stream.read_u8()).await.expect("a response in time").expect("a response"));
    }
    String::from_utf8(received).expect("text")
}

/// Waits until Bob has no event stream, as he may have one only.
async fn wait_until_stream_is_gone(app: &TestApp) {
    // A token of the second of a revocation is revoked too.
    app.advance(1);
    let bob = app.user("bob").await;
    let is_gone = async || open_stream(app, &bob, SSE, MESSAGE_ADDED).await.status() == 200;
    wait_until("the event stream is gone", is_gone).await;
}

async fn assert_stream_receives_nothing_after(app: &TestApp, accept: &str, end: End) {
    let (alice, chat) = busy_chat(app).await;
    let token = expiring_token(app);
    let witness = open_socket(app, &token).await;
    let mut stream = send_request(app, &token, accept, FEED, json!({ "chat": chat })).await;
    read_until(&mut stream, "FeedCaughtUp").await;
    send_all(app, &alice, &chat, "early", EARLY_EVENTS).await;
    end.happen(app, witness).await;
    send_all(app, &alice, &chat, "late", 10).await;
    // The connection is aborted although its client reads nothing.
    wait_until_stream_is_gone(app).await;
    let rest = read_to_end(&mut stream).await;
    assert!(!rest.contains("\"late "), "a message from after the end was delivered");
    let received = rest.matches("\"early ").count();
    assert!(received < EARLY_EVENTS / 2, "{received} messages: what waits for the client is discarded");
}

#[engine_test(settings = SETTINGS)]
async fn revoked_event_stream_receives_nothing_more_while_output_is_ready(app: &TestApp) {
    assert_stream_receives_nothing_after(app, SSE, End::Revoked).await;
}

#[engine_test(settings = SETTINGS)]
async fn expired_event_stream_receives_nothing_more_while_output_is_ready(app: &TestApp) {
    assert_stream_receives_nothing_after(app, SSE, End::Expired).await;
}

#[engine_test(settings = SETTINGS)]
async fn revoked_multipart_response_receives_nothing_more_while_output_is_ready(app: &TestApp) {
    assert_stream_receives_nothing_after(app, MULTIPART, End::Revoked).await;
}

#[engine_test(settings = SETTINGS)]
async fn long_response_breaks_off_when_session_ends(app: &TestApp) {
    let (alice, chat) = busy_chat(app).await;
    send_all(app, &alice, &chat, "early", 100).await;
    let query = "query($id: ID!) { chat(id: $id) { messages(last: 100) { nodes { text } } } }";
    let token = expiring_token(app);
    let witness = open_socket(app, &token).await;
    let mut stream = send_request(app, &token, "application/json", query, json!({ "id": chat })).await;
    let head = read_until(&mut stream, "\r\n\r\n").await;
    let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let length: usize = length.expect("a length");
    assert!(length > 700_000, "{length}");
    End::Revoked.happen(app, witness).await;
    let received = read_to_end(&mut stream).await.len();
    assert!(received < length, "the response was complete");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_server_closes_socket_whose_client_does_not_read() {
    let app = TestApp::sqlite(&SETTINGS).await;
    let (alice, chat) = busy_chat(&app).await;
    let mut socket = Socket::with_small_buffer(app.addr, &expiring_token(&app)).await;
    socket.subscribe("feed", FEED, json!({ "chat": chat })).await;
    socket.recv().await;
    send_all(&app, &alice, &chat, "early", EARLY_MESSAGES).await;
    let (database, closed) = tokio::join!(app.shut_down(), socket.expect_close());
    assert_eq!(closed, (1012, "Service restart".into()));
    database.drop().await;
}
