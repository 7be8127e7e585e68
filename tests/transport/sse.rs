//! GraphQL over Server-Sent Events, which deliver the same feeds where proxies block WebSockets.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::calls::ActiveCall;
use testkit::http::{TextStream, bearer, get, graphql_body, post};
use testkit::keys::sign_with_secret;
use testkit::{TestApp, User, engine_test};

/// The media type by which a client asks for the protocol.
pub const SSE: &str = "text/event-stream";
const ACCEPT: (&str, &str) = ("accept", SSE);
pub const FEED: &str = "subscription($chat: ID!, $after: String) { chatFeed(chatId: $chat, after: $after) {
    __typename ... on FeedEvent { cursor } ... on MessageUpserted { message { text } } } }";

/// A stream of events, as a client reads it.
struct EventStream(TextStream);

impl EventStream {
    async fn open(app: &TestApp, token: &str, query: &str, variables: Value) -> Self {
        let stream = TextStream::open(app, token, &[ACCEPT], query, variables).await;
        let media_type = stream.header("content-type").expect("a type");
        assert!(media_type.starts_with(SSE), "{media_type}");
        Self(stream)
    }

    /// Returns the next event with its data, or `None` if the stream has ended.
    async fn next(&mut self) -> Option<(String, Value)> {
        while self.0.read_until(|text| text.contains("\n\n")).await {
            let end = self.0.text.find("\n\n").expect("an end");
            let event: String = self.0.text.drain(..end + 2).collect();
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            // A comment has no type.
            let Some(kind) = field("event:") else { continue };
            let data = field("data:").filter(|data| !data.is_empty());
            return Some((kind.to_owned(), data.map_or(Value::Null, |data| serde_json::from_str(data).unwrap())));
        }
        None
    }

    /// Waits for a comment, without any event before it.
    async fn expect_heartbeat(&mut self) {
        assert!(self.0.read_until(|text| text.contains("\n\n")).await, "the stream continues");
        assert!(self.0.text.starts_with(":\n\n"), "{}", self.0.text);
        self.0.text.drain(..":\n\n".len());
    }

    async fn expect(&mut self) -> Value {
        let (kind, data) = self.next().await.expect("an event");
        assert_eq!(kind, "next", "{data}");
        data
    }

    /// Asserts that the operation and then the stream end.
    async fn expect_complete(&mut self) {
        assert_eq!(self.next().await, Some(("complete".into(), Value::Null)));
        assert_eq!(self.next().await, None);
    }
}

async fn feed(app: &TestApp, user: &User, chat: &str, after: Option<&str>) -> EventStream {
    EventStream::open(app, &user.token, FEED, json!({ "chat": chat, "after": after })).await
}

#[engine_test]
async fn feed_is_live_and_resumes_over_sse(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let mut events = feed(app, &bob, &chat, None).await;
    assert_eq!(events.expect().await["data"]["chatFeed"]["__typename"], "FeedCaughtUp");
    // A WebSocket has an equal subscription, so both share the execution.
    let mut socket = bob.subscribe(FEED, json!({ "chat": chat })).await;
    socket.expect("FeedCaughtUp").await;
    alice.send(&chat, "one\ntwo").await;
    let event = events.expect().await;
    assert_eq!(event["data"]["chatFeed"]["message"]["text"], "one\ntwo");
    assert_eq!(event["data"]["chatFeed"], socket.expect("MessageUpserted").await);
    let cursor = event["data"]["chatFeed"]["cursor"].as_str().unwrap().to_owned();
    drop(events);
    alice.send(&chat, "three").await;
    let mut resumed = feed(app, &bob, &chat, Some(&cursor)).await;
    let missed = loop {
        let event = resumed.expect().await["data"]["chatFeed"].take();
        if event["__typename"] == "MessageUpserted" {
            break event;
        }
    };
    assert_eq!(missed["message"]["text"], "three");
    // The feed of a removed member ends with an error.
    alice.mutate_returning("removeMember", json!({ "chatId": chat, "userId": "bob" }), "removedUserId").await.data();
    loop {
        let event = resumed.expect().await;
        if event.get("errors").is_some() {
            assert_eq!(event["errors"][0]["extensions"]["code"], "FORBIDDEN");
            break;
        }
    }
    resumed.expect_complete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_kind_runs_over_sse() {
    let app = TestApp::sqlite(&[]).await;
    let alice = app.user("alice").await;
    let mut query = EventStream::open(&app, &alice.token, "{ viewer { user { id } } }", json!({})).await;
    assert_eq!(query.expect().await, json!({ "data": { "viewer": { "user": { "id": "alice" } } } }));
    query.expect_complete().await;
    let create = "mutation { createChat(input: { kind: GROUP, title: \"Run\", memberIds: [] }) { chat { title } } }";
    let mut mutation = EventStream::open(&app, &alice.token, create, json!({})).await;
    assert_eq!(mutation.expect().await["data"]["createChat"]["chat"]["title"], "Run");
    mutation.expect_complete().await;
    // The protocol sends errors as events: a browser would not read a stream of another status.
    for query in ["{ nothing }", "{", "subscription { chatFeed(chatId: \"chat_x\") { __typename } }"] {
        let mut events = EventStream::open(&app, &alice.token, query, json!({})).await;
        let event = events.expect().await;
        assert!(event["errors"][0]["extensions"]["code"].is_string(), "{event}");
        events.expect_complete().await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_sse_request_is_answered_in_json() {
    let app = TestApp::sqlite(&[]).await;
    let alice = app.user("alice").await;
    let authorization = bearer(&alice);
    let forged = [ACCEPT, ("authorization", "Bearer nonsense")];
    post(&app, &forged, graphql_body("{ __typename }", json!({}))).await.assert_error(401, "UNAUTHENTICATED");
    let mutation = [("query", "mutation { leaveChat(input: { chatId: \"chat_x\" }) { removedUserId } }")];
    let get_response = get(&app, &[ACCEPT, ("authorization", &authorization)], &mutation).await;
    get_response.assert_error(405, "BAD_USER_INPUT");
    // A client that also accepts JSON receives JSON, except for a subscription.
    let both_accepted = [("accept", "application/json, text/event-stream"), ("authorization", authorization.as_str())];
    let plain = post(&app, &both_accepted, graphql_body("{ __typename }", json!({}))).await;
    assert_eq!((plain.status, plain.json()), (200, json!({ "data": { "__typename": "Query" } })));
    let headers = [("accept", "application/json"), ("authorization", authorization.as_str())];
    let rejection = post(&app, &headers, graphql_body("subscription { messageAdded { id } }", json!({}))).await;
    assert!(rejection.message().contains("text/event-stream"), "{}", rejection.message());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sse_stream_ends_with_error_when_token_expires() {
    let app = TestApp::sqlite(&[("PARLOR_JWT_LEEWAY_SECONDS", "0")]).await;
    app.user("alice").await;
    let expires_at = app.app.clock.now().timestamp() + 3_600;
    let token =
        sign_with_secret(json!({ "sub": "alice", "org": "demo", "exp": expires_at, "permissions": ["chat.view"] }));
    let mut events = EventStream::open(&app, &token, "subscription { messageAdded { id } }", json!({})).await;
    app.app.clock.advance(Duration::from_secs(3_601));
    let event = events.expect().await;
    assert_eq!(event["errors"][0]["extensions"]["code"], "UNAUTHENTICATED");
    assert_eq!(events.next().await, None, "no `complete`, because the client reconnects with a new token");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sse_stream_ended_by_server_is_resumable() {
    let app = TestApp::sqlite(&[]).await;
    let alice = app.user("alice").await;
    let mut events = EventStream::open(&app, &alice.token, "subscription { messageAdded { id } }", json!({})).await;
    let reading = tokio::spawn(async move { events.next().await });
    app.stop().await;
    assert_eq!(reading.await.unwrap(), None);
}

#[engine_test]
async fn stream_of_participant_in_call_has_frequent_heartbeats(app: &TestApp) {
    let ActiveCall { bob, b, .. } = ActiveCall::start(app).await;
    let query = "subscription($call: ID!, $own: ID) { callFeed(callId: $call, participantId: $own) { __typename } }";
    let mut stream = EventStream::open(app, &bob.token, query, json!({ "call": b.call, "own": b.participant })).await;
    while stream.expect().await["data"]["callFeed"]["__typename"] != "FeedCaughtUp" {}
    stream.expect_heartbeat().await;
    let start = Instant::now();
    for _ in 0..2 {
        stream.expect_heartbeat().await;
    }
    assert!(start.elapsed() < Duration::from_secs(10), "a stream without a call has one in 20 seconds");
}
