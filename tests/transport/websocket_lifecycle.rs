//! The lifecycle of WebSockets: authentication, origins, timeouts, limits and close codes.

use std::time::Duration;

use serde_json::json;
use testkit::keys::sign_with_secret;
use testkit::tungstenite::Message;
use testkit::tungstenite::protocol::frame::Frame;
use testkit::tungstenite::protocol::frame::coding::{Data, OpCode};
use testkit::{Socket, TestApp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::transport::websocket::{FEED, PROTOCOL, close_after, init, subscribe};

#[tokio::test(flavor = "multi_thread")]
async fn rejected_connection_closes_with_final_or_retryable_code() {
    let app = TestApp::sqlite(&[("PARLOR_JWT_LEEWAY_SECONDS", "0")]).await;
    let alice = app.user("alice").await;
    let forged = sign_with_secret(json!({ "sub": "alice", "org": "demo", "exp": 4_000_000_000_u64 })) + "x";
    for payload in [
        json!(null),
        json!({}),
        json!({ "Authorization": null }),
        json!({ "Authorization": alice.token }),
        json!({ "Authorization": format!("Basic {}", alice.token) }),
        json!({ "Authorization": "Bearer nonsense" }),
        json!({ "Authorization": format!("Bearer {forged}") }),
        json!({ "Authorization": format!("Bearer {}", "x".repeat(100_000)) }),
        json!({ "token": format!("Bearer {}", alice.token) }),
    ] {
        let message = Message::text(json!({ "type": "connection_init", "payload": payload }).to_string());
        assert_eq!(close_after(&app, &[message]).await.0, 4401, "{payload}");
    }
    let without_payload = Message::text(json!({ "type": "connection_init" }).to_string());
    assert_eq!(close_after(&app, &[without_payload]).await.0, 4401);

    // The name of the field and the scheme are not case-sensitive.
    let mut socket = Socket::connect(app.addr).await;
    socket.send(json!({ "type": "connection_init", "payload": { "authorization": format!("bearer {}", alice.token), "x": 1 } })).await;
    assert_eq!(socket.recv().await, json!({ "type": "connection_ack" }));

    // A client can replace an expired token, so the close code 4403 lets it reconnect.
    app.app.clock.advance(Duration::from_secs(31 * 24 * 3_600));
    assert_eq!(close_after(&app, &[Message::text(init(&alice.token).to_string())]).await.0, 4403);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_closes_when_token_expires() {
    let app = TestApp::sqlite(&[("PARLOR_JWT_LEEWAY_SECONDS", "0")]).await;
    let alice = app.user("alice").await;
    let chat = alice.group("Short", &[]).await;
    let expires_at = app.app.clock.now().timestamp() + 5;
    let mut socket = Socket::connect(app.addr).await;
    socket.init(&sign_with_secret(json!({ "sub": "alice", "org": "demo", "exp": expires_at }))).await;
    socket.subscribe("1", FEED, json!({ "chat": chat })).await;
    assert_eq!(socket.recv().await["payload"]["data"]["chatFeed"]["__typename"], "FeedCaughtUp");
    assert_eq!(socket.recv_or_close().await.unwrap_err().map(|frame| frame.code.into()), Some(4403_u16));
    let now = app.app.clock.now().timestamp();
    assert!(now >= expires_at, "closed {} seconds too early", expires_at - now);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_must_init_before_timeout() {
    let app = TestApp::sqlite(&[("PARLOR_SOCKET_INIT_SECONDS", "1")]).await;
    let alice = app.user("alice").await;
    let mut initialized = alice.socket().await;
    let mut silent = Socket::connect(app.addr).await;
    silent.send(json!({ "type": "ping" })).await;
    assert_eq!(silent.recv().await, json!({ "type": "pong" }), "a ping does not extend the timeout");
    assert_eq!(silent.expect_close().await, (4408, "Connection initialisation timeout".into()));
    initialized.send(subscribe("1")).await;
    assert_eq!(initialized.recv().await["type"], "next", "an initialized socket stays open");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_websocket_message_closes_socket() {
    let app = TestApp::sqlite(&[("PARLOR_MAX_BODY_BYTES", "20000"), ("PARLOR_CALL_SIGNAL_BYTES", "8192")]).await;
    let token = app.user("alice").await.token;
    let padded = |length: usize| {
        let message = json!({ "type": "ping" }).to_string();
        message.clone() + &" ".repeat(length - message.len())
    };
    let mut socket = Socket::connect(app.addr).await;
    socket.init(&token).await;
    socket.send_raw(Message::text(padded(20_000))).await;
    assert_eq!(socket.recv().await, json!({ "type": "pong" }));
    // The limit applies to the sum of a message's fragments.
    let fragments = |text: &str| {
        let (first, second) = text.as_bytes().split_at(text.len() / 2);
        let frame = |data: &[u8], kind, last| Message::Frame(Frame::message(data.to_vec(), OpCode::Data(kind), last));
        [frame(first, Data::Text, false), frame(second, Data::Continue, true)]
    };
    for fragment in fragments(&padded(20_000)) {
        socket.send_raw(fragment).await;
    }
    assert_eq!(socket.recv().await, json!({ "type": "pong" }));
    for fragment in fragments(&padded(20_001)) {
        socket.send_raw(fragment).await;
    }
    assert_eq!(socket.expect_close().await.0, 1009);
    for length in [20_001, 200_000, 5_000_000] {
        let closed = Socket::connect(app.addr).await.expect_close_while_sending(Message::text(padded(length))).await;
        assert_eq!(closed, (1009, "Message too big".into()), "{length}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_utf8_closes_websocket() {
    let app = TestApp::sqlite(&[]).await;
    let (_, mut stream) = Socket::handshake(app.addr, &[PROTOCOL]).await;
    // A text frame of two bytes, masked with zeros.
    stream.write_all(&[0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe]).await.unwrap();
    assert_eq!(Socket::from_stream(stream).await.expect_close().await.0, 1007);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_origin_must_be_allowed_when_configured() {
    let named = TestApp::sqlite(&[("PARLOR_CORS_ORIGINS", "https://app.example,http://localhost:3000")]).await;
    for (origin, status) in [
        (None, 101),
        (Some("https://app.example"), 101),
        (Some("http://localhost:3000"), 101),
        (Some("https://evil.example"), 403),
        (Some("https://app.example.evil.example"), 403),
        (Some("https://xapp.example"), 403),
        (Some("http://app.example"), 403),
        (Some("https://app.example:8443"), 403),
        (Some("http://localhost"), 403),
        (Some("null"), 403),
        (Some(""), 403),
    ] {
        let headers: Vec<_> = [PROTOCOL].into_iter().chain(origin.map(|origin| ("origin", origin))).collect();
        let (head, _) = Socket::handshake(named.addr, &headers).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{origin:?}: {head}");
    }
    named.stop().await;
    for settings in [&[][..], &[("PARLOR_CORS_ORIGINS", "*")]] {
        let open = TestApp::sqlite(settings).await;
        let (head, _) = Socket::handshake(open.addr, &[PROTOCOL, ("origin", "https://any.example")]).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        open.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn server_stop_closes_sockets_with_retryable_code() {
    let app = TestApp::sqlite(&[]).await;
    let alice = app.user("alice").await;
    let chat = alice.group("Restart", &[]).await;
    let mut feed = alice.feed(&chat, None, None).await;
    feed.expect("FeedCaughtUp").await;
    let mut idle = alice.socket().await;
    let mut fresh = Socket::connect(app.addr).await;
    let (database, feed, idle, fresh) =
        tokio::join!(app.shut_down(), feed.socket.expect_close(), idle.expect_close(), fresh.expect_close());
    for closed in [feed, idle, fresh] {
        assert_eq!(closed, (1012, "Service restart".into()));
    }
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_closes_when_pings_stay_unanswered() {
    let app = TestApp::sqlite(&[("PARLOR_SOCKET_PING_SECONDS", "1"), ("PARLOR_SOCKET_INIT_SECONDS", "60")]).await;
    let alice = app.user("alice").await;
    let mut alive = alice.socket().await;
    let answering = async {
        // This takes longer than the timeout of the silent client. The client library answers each ping.
        for _ in 0..4 {
            let message = alive.recv_raw().await.expect("an open socket").expect("a message");
            assert_eq!(message, Message::Ping(Default::default()));
        }
        alive.send(subscribe("1")).await;
        assert_eq!(alive.recv().await["type"], "next");
    };
    let (_, mut silent) = Socket::handshake(app.addr, &[PROTOCOL]).await;
    let not_answering = async {
        let mut received = Vec::new();
        tokio::time::timeout(Duration::from_secs(60), silent.read_to_end(&mut received))
            .await
            .expect("an end")
            .expect("an orderly end");
        assert!(
            !received.is_empty() && received.chunks(2).all(|frame| frame == [0x89, 0]),
            "pings, and no close frame: {received:x?}"
        );
    };
    tokio::join!(answering, not_answering);
    app.stop().await;
}
