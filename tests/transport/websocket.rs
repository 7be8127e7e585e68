//! graphql-transport-ws, message by message, over real sockets.

use serde_json::{Value, json};
use testkit::tungstenite::Message;
use testkit::{Socket, TestApp};

pub const FEED: &str =
    "subscription($chat: ID!) { chatFeed(chatId: $chat) { __typename ... on MessageUpserted { message { text } } } }";
pub const PROTOCOL: (&str, &str) = ("sec-websocket-protocol", "graphql-transport-ws");

/// The next message but for read positions, which a feed tells a moment after what moved them.
async fn hear_change(socket: &mut Socket) -> Value {
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

/// What comes of a message after these others.
pub async fn closed_after(app: &TestApp, messages: &[Message]) -> (u16, String) {
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
    let mut table = vec![
        (vec![text(&subscribe("1"))], 4401),
        (vec![init.clone(), init.clone()], 4429),
        (vec![init.clone(), text(&json!({ "type": "ping" })), init.clone()], 4429),
        (vec![Message::binary(init.clone().into_data())], 4400),
        (vec![init.clone(), Message::binary(&b"\xff\x00"[..])], 4400),
    ];
    // Before and after the acknowledgement alike.
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
        table.push((vec![Message::text(malformed)], 4400));
        table.push((vec![init.clone(), Message::text(malformed)], 4400));
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
        table.push((vec![init.clone(), text(&json!({ "type": "subscribe", "id": "1", "payload": payload }))], 4400));
    }
    for id in [json!(""), json!(1), json!(null), json!({})] {
        table.push((
            vec![
                init.clone(),
                text(&json!({ "type": "subscribe", "id": id, "payload": { "query": "{ __typename }" } })),
            ],
            4400,
        ));
    }
    for payload in [json!(7), json!("Bearer"), json!([]), json!(true)] {
        table.push((vec![text(&json!({ "type": "connection_init", "payload": payload }))], 4400));
    }
    for (messages, code) in table {
        let (closed, reason) = closed_after(&app, &messages).await;
        assert_eq!(closed, code, "{reason}: {messages:?}");
        assert!(!reason.is_empty() && reason.len() <= 123);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subprotocol_must_be_negotiated() {
    let app = TestApp::sqlite(&[]).await;
    for (headers, chosen) in [
        (vec![PROTOCOL], true),
        (vec![("sec-websocket-protocol", "graphql-ws, graphql-transport-ws")], true),
        (vec![("sec-websocket-protocol", "graphql-ws")], false),
        (vec![("sec-websocket-protocol", "graphql-transport-ws2")], false),
        (vec![], false),
    ] {
        let (head, stream) = Socket::handshake(app.addr, &headers).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let says = head.to_lowercase().contains("sec-websocket-protocol: graphql-transport-ws\r\n");
        assert_eq!((says, head.to_lowercase().contains("sec-websocket-protocol")), (chosen, chosen), "{head}");
        let mut socket = Socket::from_stream(stream).await;
        if chosen {
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
    for initialised in [false, true] {
        if initialised {
            socket.init(&token).await;
        }
        socket.send(json!({ "type": "ping" })).await;
        assert_eq!(socket.recv().await, json!({ "type": "pong" }));
        socket.send(json!({ "type": "pong", "payload": { "unasked": true } })).await;
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
    assert_eq!(socket.recv().await["type"], "error", "which of the two?");
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
    let mut heard = [hear_change(&mut socket).await, hear_change(&mut socket).await, hear_change(&mut socket).await];
    heard.sort_by_key(|message| (message["id"].to_string(), message["type"] == "complete"));
    let text = json!({ "message": { "text": "by socket" } });
    assert_eq!(
        heard[0],
        json!({ "id": "b", "type": "next", "payload": { "data": { "chatFeed": { "__typename": "MessageUpserted", "message": { "text": "by socket" } } } } })
    );
    assert_eq!(heard[1], json!({ "id": "m", "type": "next", "payload": { "data": { "sendMessage": text } } }));
    assert_eq!(heard[2], json!({ "id": "m", "type": "complete" }));

    // A field that fails is an answer too, with data; only a request error is an error.
    socket.subscribe("m", send, json!({ "chat": "chat_none" })).await;
    let heard = hear_change(&mut socket).await;
    assert_eq!((&heard["type"], &heard["payload"]["data"]), (&json!("next"), &json!({ "sendMessage": null })));
    assert_eq!(heard["payload"]["errors"][0]["extensions"]["code"], "NOT_FOUND");
    assert_eq!(hear_change(&mut socket).await, json!({ "id": "m", "type": "complete" }));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn request_error_ends_operation_with_one_error() {
    let app = TestApp::sqlite(&[]).await;
    let alice = app.user("alice").await;
    let chat = alice.group("Errors", &[]).await;
    let mut socket = alice.socket().await;
    for (query, variables, said) in [
        ("{", json!({}), "unclosed bracket"),
        ("{ nonsense }", json!({}), "Unknown field"),
        ("query($a: Int!) { __typename }", json!({}), "was not provided"),
        ("subscription { a: messageAdded { id } b: messageAdded { id } }", json!({}), "only one top level field"),
        ("subscription { __typename }", json!({}), "introspection"),
        ("subscription($s: Boolean!) { messageAdded @skip(if: $s) { id } }", json!({ "s": false }), "@skip"),
        (FEED, json!({ "chat": null }), "must not be null"),
    ] {
        // The id is free again at once.
        socket.subscribe("1", query, variables).await;
        let heard = socket.recv().await;
        assert_eq!((&heard["type"], &heard["id"]), (&json!("error"), &json!("1")), "{heard}");
        let errors = heard["payload"].as_array().expect("a list of errors");
        assert!(errors[0]["message"].as_str().unwrap().contains(said), "{heard}");
        assert_eq!(errors[0]["extensions"]["code"], "BAD_USER_INPUT");
        socket.send(json!({ "type": "ping" })).await;
        assert_eq!(socket.recv().await, json!({ "type": "pong" }), "nothing comes after it");
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
    for id in ["stays", "goes"] {
        socket.subscribe(id, FEED, json!({ "chat": chat })).await;
        assert_eq!(socket.recv().await["id"], id);
    }
    // There is room for two.
    socket.send(subscribe("third")).await;
    let refused = socket.recv().await;
    assert_eq!((&refused["type"], &refused["id"]), (&json!("error"), &json!("third")));
    assert_eq!(refused["payload"][0]["extensions"], json!({ "code": "RATE_LIMITED", "retryAfterMs": 1_000 }));

    for text in ["one", "two", "three"] {
        socket.send(json!({ "type": "complete", "id": "goes" })).await;
        socket.send(json!({ "type": "complete", "id": "never was" })).await;
        socket.send(json!({ "type": "ping" })).await;
        while socket.recv().await["type"] != "pong" {}
        alice.send(&chat, text).await;
        let heard = hear_change(&mut socket).await;
        assert_eq!(
            (&heard["id"], &heard["payload"]["data"]["chatFeed"]["message"]["text"]),
            (&json!("stays"), &json!(text))
        );
        socket.send(subscribe("third")).await;
        let [next, complete] = [hear_change(&mut socket).await, hear_change(&mut socket).await];
        assert_eq!(
            (&next["id"], &next["type"]),
            (&json!("third"), &json!("next")),
            "nothing came of the one that was ended"
        );
        assert_eq!(complete, json!({ "id": "third", "type": "complete" }));
        // The id is free for another.
        socket.subscribe("goes", FEED, json!({ "chat": chat })).await;
        assert_eq!(
            hear_change(&mut socket).await,
            json!({ "id": "goes", "type": "next", "payload": { "data": { "chatFeed": { "__typename": "FeedCaughtUp" } } } })
        );
    }
    app.stop().await;
}
