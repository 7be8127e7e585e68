//! The messages of the protocol graphql-transport-ws.

use serde_json::{Value, json};
use testkit::tungstenite::Message;
use testkit::{Socket, TestApp};

pub const FEED: &str =
    "subscription($chat: ID!) { chatFeed(chatId: $chat) { __typename ... on MessageUpserted { message { text } } } }";
pub const PROTOCOL: (&str, &str) = ("sec-websocket-protocol", "graphql-transport-ws");

/// Receives the next message, without read positions, which a feed publishes later than their causes.
async fn recv_change(socket: &mut Socket) -> Value {
    loop {
        let message = socket.recv().await;
        if message["payload"]["data"]["chatFeed"]["__typename"] != "MemberUpserted" {
            return message;
        }
    }
}

pub fn subscribe(id: &str) -> Value {
    json!({ "type": "subscribe", "id": id, "payload": { "query": "{ __typename }" } })
}

pub fn init(token: &str) -> Value {
    json!({ "type": "connection_init", "payload": { "Authorization": format!("Bearer {token}") } })
}

/// Returns the close code and the reason after these messages.
pub async fn close_after(app: &TestApp, messages: &[Message]) -> (u16, String) {
    let mut socket = Socket::connect(app.addr).await;
    for message in messages {
        socket.send_raw(message.clone()).await;
    }
    socket.expect_close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn protocol_violation_has_its_close_code() {
    let app = TestApp::sqlite(&[]).await;
    let token = app.user("alice").await.token;
    let text = |value: &Value| Message::text(value.to_string());
    let init = text(&init(&token));
    let long = format!("{{\"type\":\"{}\"}}", "ü".repeat(300));
    let deep = format!("{{\"type\":\"ping\",\"payload\":{}1{}}}", "{\"a\":".repeat(500), "}".repeat(500));
    let mut cases = vec![
        (vec![text(&subscribe("1"))], 4401),
        (vec![init.clone(), init.clone()], 4429),
        (vec![init.clone(), text(&json!({ "type": "ping" })), init.clone()], 4429),
        (vec![Message::binary(init.clone().into_data())], 4400),
        (vec![init.clone(), Message::binary(&b"\xff\x00"[..])], 4400),
    ];
    // These are violations before and after the acknowledgement.
    for malformed in [
        "",
        "nonsense",
        "{",
        "[]",
        "[{\"type\":\"ping\"}]",
        "7",
        "null",
        "\"ping\"",
        "{}",
        "{\"type\":null}",
        "{\"type\":7}",
        "{\"type\":\"start\",\"id\":\"1\"}",
        "{\"type\":\"connection_terminate\"}",
        "{\"type\":\"next\",\"id\":\"1\"}",
        "{\"type\":\"connection_ack\"}",
        "{\"type\":\"ping\",\"payload\":\"x\"}",
        "{\"type\":\"ping\",\"payload\":[]}",
        "{\"type\":\"complete\"}",
        "{\"type\":\"complete\",\"id\":\"\"}",
        "{\"type\":\"complete\",\"id\":1}",
        "{\"type\":\"subscribe\",\"payload\":{\"query\":\"{__typename}\"}}",
        long.as_str(),
        deep.as_str(),
    ] {
        cases.push((vec![Message::text(malformed)], 4400));
        cases.push((vec![init.clone(), Message::text(malformed)], 4400));
    }
    for payload in [
        json!(null),
        json!({}),
        json!([]),
        json!("{ __typename }"),
        json!({ "query": null }),
        json!({ "query": 7 }),
        json!({ "query": "{ __typename }", "variables": [] }),
        json!({ "query": "{ __typename }", "operationName": 7 }),
        json!({ "query": "{ __typename }", "extensions": "x" }),
        json!({ "extensions": {} }),
    ] {
        cases.push((vec![init.clone(), text(&json!({ "type": "subscribe", "id": "1", "payload": payload }))], 4400));
    }
    for id in [json!(""), json!(1), json!(null), json!({})] {
        cases.push((
            vec![
                init.clone(),
                text(&json!({ "type": "subscribe", "id": id, "payload": { "query": "{ __typename }" } })),
            ],
            4400,
        ));
    }
    for payload in [json!(7), json!("Bearer"), json!([]), json!(true)] {
        cases.push((vec![text(&json!({ "type": "connection_init", "payload": payload }))], 4400));
    }
    for (messages, code) in cases {
        let (close_code, reason) = close_after(&app, &messages).await;
        assert_eq!(close_code, code, "{reason}: {messages:?}");
        assert!(!reason.is_empty() && reason.len() <= 123);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subprotocol_must_be_negotiated() {
    let app = TestApp::sqlite(&[]).await;
    for (headers, is_accepted) in [
        (vec![PROTOCOL], true),
        (vec![("sec-websocket-protocol", "graphql-ws, graphql-transport-ws")], true),
        (vec![("sec-websocket-protocol", "graphql-ws")], false),
        (vec![("sec-websocket-protocol", "graphql-transport-ws2")], false),
        (vec![], false),
    ] {
        let (head, stream) = Socket::handshake(app.addr, &headers).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let is_selected = head.to_lowercase().contains("sec-websocket-protocol: graphql-transport-ws\r\n");
        assert_eq!(
            (is_selected, head.to_lowercase().contains("sec-websocket-protocol")),
            (is_accepted, is_accepted),
            "{head}"
        );
        let mut socket = Socket::from_stream(stream).await;
        if is_accepted {
            socket.send(json!({ "type": "ping" })).await;
            assert_eq!(socket.recv().await, json!({ "type": "pong" }));
        } else {
            assert_eq!(socket.expect_close().await, (4406, "Subprotocol not acceptable".into()));
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ping_is_answered_at_any_time() {
    let app = TestApp::sqlite(&[]).await;
    let token = app.user("alice").await.token;
    let mut socket = Socket::connect(app.addr).await;
    for is_initialized in [false, true] {
        if is_initialized {
            socket.init(&token).await;
        }
        socket.send(json!({ "type": "ping" })).await;
        assert_eq!(socket.recv().await, json!({ "type": "pong" }));
        socket.send(json!({ "type": "pong", "payload": { "unsolicited": true } })).await;
        socket.send(json!({ "type": "ping", "payload": { "at": [1, null, "ü"] } })).await;
        assert_eq!(socket.recv().await, json!({ "type": "pong", "payload": { "at": [1, null, "ü"] } }));
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_multiplexes_operations_of_every_kind() {
    let app = TestApp::sqlite(&[]).await;
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chats = [alice.group("One", &[&bob]).await, alice.group("Two", &[&bob]).await];
    let mut socket = bob.socket().await;
    for (id, chat) in ["a", "b"].into_iter().zip(&chats) {
        socket.subscribe(id, FEED, json!({ "chat": chat })).await;
        assert_eq!(
            socket.recv().await,
            json!({ "id": id, "type": "next", "payload": { "data": { "chatFeed": { "__typename": "FeedCaughtUp" } } } })
        );
    }
    socket.subscribe("q", "query A { __typename } query B { viewer { user { id } } }", json!({})).await;
    assert_eq!(socket.recv().await["type"], "error", "the operation name is missing");
    let named = json!({ "query": "query A { __typename } query B { viewer { user { id } } }", "operationName": "B", "extensions": {} });
    socket.send(json!({ "type": "subscribe", "id": "q", "payload": named })).await;
    assert_eq!(
        socket.recv().await,
        json!({ "id": "q", "type": "next", "payload": { "data": { "viewer": { "user": { "id": "bob" } } } } })
    );
    assert_eq!(socket.recv().await, json!({ "id": "q", "type": "complete" }));

    let send =
        "mutation($chat: ID!) { sendMessage(input: { chatId: $chat, text: \"by socket\" }) { message { text } } }";
    socket.subscribe("m", send, json!({ "chat": chats[1] })).await;
    let mut messages = [recv_change(&mut socket).await, recv_change(&mut socket).await, recv_change(&mut socket).await];
    messages.sort_by_key(|message| (message["id"].to_string(), message["type"] == "complete"));
    let text = json!({ "message": { "text": "by socket" } });
    assert_eq!(
        messages[0],
        json!({ "id": "b", "type": "next", "payload": { "data": { "chatFeed": { "__typename": "MessageUpserted", "message": { "text": "by socket" } } } } })
    );
    assert_eq!(messages[1], json!({ "id": "m", "type": "next", "payload": { "data": { "sendMessage": text } } }));
    assert_eq!(messages[2], json!({ "id": "m", "type": "complete" }));

    // A failed field leads to a result with data; only a request error leads to an error message.
    socket.subscribe("m", send, json!({ "chat": "chat_none" })).await;
    let message = recv_change(&mut socket).await;
    assert_eq!((&message["type"], &message["payload"]["data"]), (&json!("next"), &json!({ "sendMessage": null })));
    assert_eq!(message["payload"]["errors"][0]["extensions"]["code"], "NOT_FOUND");
    assert_eq!(recv_change(&mut socket).await, json!({ "id": "m", "type": "complete" }));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn request_error_ends_operation_with_one_error() {
    let app = TestApp::sqlite(&[]).await;
    let alice = app.user("alice").await;
    let chat = alice.group("Errors", &[]).await;
    let mut socket = alice.socket().await;
    for (query, variables, expected) in [
        ("{", json!({}), "Syntax Error: Expected Name, found <EOF>."),
        ("{ nonsense }", json!({}), "Unknown field"),
        ("query($a: Int!) { __typename }", json!({}), "was not provided"),
        ("subscription { a: messageAdded { id } b: messageAdded { id } }", json!({}), "only one top level field"),
        ("subscription { __typename }", json!({}), "introspection"),
        ("subscription($s: Boolean!) { messageAdded @skip(if: $s) { id } }", json!({ "s": false }), "@skip"),
        (FEED, json!({ "chat": null }), "must not be null"),
    ] {
        // Each error ends the operation, so the id is available again.
        socket.subscribe("1", query, variables).await;
        let message = socket.recv().await;
        assert_eq!((&message["type"], &message["id"]), (&json!("error"), &json!("1")), "{message}");
        let errors = message["payload"].as_array().expect("a list of errors");
        assert!(errors[0]["message"].as_str().unwrap().contains(expected), "{message}");
        assert_eq!(errors[0]["extensions"]["code"], "BAD_USER_INPUT");
        socket.send(json!({ "type": "ping" })).await;
        assert_eq!(socket.recv().await, json!({ "type": "pong" }), "no message follows the error");
    }
    socket.subscribe("1", FEED, json!({ "chat": chat })).await;
    assert_eq!(socket.recv().await["type"], "next");
    socket.subscribe("1", FEED, json!({ "chat": chat })).await;
    assert_eq!(socket.expect_close().await, (4409, "Subscriber for 1 already exists".into()));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn completed_subscription_receives_no_more_events() {
    let app = TestApp::sqlite(&[("PARLOR_SOCKET_OPERATIONS", "2")]).await;
    let alice = app.user("alice").await;
    let chat = alice.group("Enough", &[]).await;
    let mut socket = alice.socket().await;
    for id in ["active", "completed"] {
        socket.subscribe(id, FEED, json!({ "chat": chat })).await;
        assert_eq!(socket.recv().await["id"], id);
    }
    // The limit is two operations.
    socket.send(subscribe("third")).await;
    let rejection = socket.recv().await;
    assert_eq!((&rejection["type"], &rejection["id"]), (&json!("error"), &json!("third")));
    assert_eq!(rejection["payload"][0]["extensions"], json!({ "code": "RATE_LIMITED", "retryAfterMs": 1_000 }));

    for text in ["one", "two", "three"] {
        socket.send(json!({ "type": "complete", "id": "completed" })).await;
        socket.send(json!({ "type": "complete", "id": "unknown" })).await;
        socket.send(json!({ "type": "ping" })).await;
        while socket.recv().await["type"] != "pong" {}
        alice.send(&chat, text).await;
        let message = recv_change(&mut socket).await;
        assert_eq!(
            (&message["id"], &message["payload"]["data"]["chatFeed"]["message"]["text"]),
            (&json!("active"), &json!(text))
        );
        socket.send(subscribe("third")).await;
        let [next, complete] = [recv_change(&mut socket).await, recv_change(&mut socket).await];
        assert_eq!(
            (&next["id"], &next["type"]),
            (&json!("third"), &json!("next")),
            "the completed subscription sent nothing"
        );
        assert_eq!(complete, json!({ "id": "third", "type": "complete" }));
        // The id is available for another operation.
        socket.subscribe("completed", FEED, json!({ "chat": chat })).await;
        assert_eq!(
            recv_change(&mut socket).await,
            json!({ "id": "completed", "type": "next", "payload": { "data": { "chatFeed": { "__typename": "FeedCaughtUp" } } } })
        );
    }
    app.stop().await;
}
