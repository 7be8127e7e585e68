//! Apollo's multipart protocol for subscriptions, which needs nothing but Apollo Client's HTTP link.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::http::{TextStream, bearer, get, graphql_body, post};
use testkit::keys::sign_with_secret;
use testkit::{TestApp, engine_test};

use crate::transport::quotas::MESSAGE_ADDED;
use crate::transport::sse::FEED;

/// The media range by which a client asks for the protocol.
pub const MULTIPART: &str = "multipart/mixed;boundary=graphql;subscriptionSpec=1.0";
/// The header that Apollo Client sends with a subscription.
const APOLLO_ACCEPT: &str =
    "multipart/mixed;boundary=graphql;subscriptionSpec=1.0,application/graphql-response+json,application/json;q=0.9";
const BOUNDARY: &str = "\r\n--graphql";

/// A multipart response, as a client reads it.
struct PartStream(TextStream);

impl PartStream {
    async fn open(app: &TestApp, token: &str, accept: &str, query: &str, variables: Value) -> Self {
        let headers = [("accept", accept), ("accept-encoding", "gzip, deflate, br")];
        let mut stream = TextStream::open(app, token, &headers, query, variables).await;
        assert_eq!(stream.header("content-type"), Some(MULTIPART));
        assert_eq!(stream.header("content-encoding"), None, "a compressor would delay the events");
        stream.read_until(|text| text.starts_with(BOUNDARY)).await;
        stream.text.drain(..BOUNDARY.len());
        Self(stream)
    }

    /// Returns the JSON of the next part that is no heartbeat; `None` if the body ends before.
    ///
    /// A part is read up to the boundary that follows it, so this waits if the boundary comes with the next part only.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if !self.0.read_until(|text| text.contains(BOUNDARY)).await {
                return None;
            }
            let end = self.0.text.find(BOUNDARY).expect("a boundary");
            let part: String = self.0.text.drain(..end + BOUNDARY.len()).collect();
            let (head, json) = part[..end].split_once("\r\n\r\n").expect("a head and a body");
            assert_eq!(head, "\r\nContent-Type: application/json");
            let json: Value = serde_json::from_str(json).expect("JSON");
            if json != json!({}) {
                return Some(json);
            }
        }
    }

    async fn expect(&mut self) -> Value {
        self.next().await.expect("a part")["payload"].take()
    }

    /// Asserts that nothing follows but the end of the boundary, which completes the subscription.
    async fn expect_completion(&mut self) {
        assert!(!self.0.read_until(|_| false).await);
        assert_eq!(self.0.text, "--\r\n");
    }
}

#[engine_test]
async fn feed_is_live_and_resumes_over_multipart(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let open = async |after: Option<&str>| {
        PartStream::open(app, &bob.token, APOLLO_ACCEPT, FEED, json!({ "chat": chat, "after": after })).await
    };
    let mut parts = open(None).await;
    assert_eq!(parts.expect().await["data"]["chatFeed"]["__typename"], "FeedCaughtUp");
    // Each event is complete before there is another one.
    let mut cursor = String::new();
    for text in ["one\r\n--graphql\ntwo", "three"] {
        alice.send(&chat, text).await;
        let event = parts.expect().await["data"]["chatFeed"].take();
        assert_eq!(event["message"]["text"], text.replace("\r\n", "\n"));
        cursor = event["cursor"].as_str().expect("a cursor").to_owned();
    }
    drop(parts);
    alice.send(&chat, "four").await;
    let mut resumed = open(Some(&cursor)).await;
    let missed = loop {
        let event = resumed.expect().await["data"]["chatFeed"].take();
        if event["__typename"] == "MessageUpserted" {
            break event;
        }
    };
    assert_eq!(missed["message"]["text"], "four");
    // The feed of a removed member ends with an error of GraphQL, and the response with it.
    alice.mutate_returning("removeMember", json!({ "chatId": chat, "userId": "bob" }), "removedUserId").await.data();
    loop {
        let payload = resumed.expect().await;
        if payload.get("errors").is_some() {
            assert_eq!(payload["errors"][0]["extensions"]["code"], "FORBIDDEN");
            break;
        }
    }
    resumed.expect_completion().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn multipart_response_begins_with_heartbeat() {
    let app = TestApp::sqlite(&[]).await;
    let alice = app.user("alice").await;
    let mut parts = PartStream::open(&app, &alice.token, APOLLO_ACCEPT, MESSAGE_ADDED, json!({})).await;
    let heartbeat = format!("\r\nContent-Type: application/json\r\n\r\n{{}}{BOUNDARY}");
    assert!(parts.0.read_until(|text| text == heartbeat).await, "{}", parts.0.text);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn request_error_is_payload_if_client_accepts_multipart_only() {
    let app = TestApp::sqlite(&[]).await;
    let alice = app.user("alice").await;
    for query in ["{ nothing }", "{", "subscription { chatFeed(chatId: \"chat_x\") { __typename } }"] {
        let mut parts = PartStream::open(&app, &alice.token, MULTIPART, query, json!({})).await;
        let payload = parts.expect().await;
        assert!(payload["errors"][0]["extensions"]["code"].is_string(), "{payload}");
        parts.expect_completion().await;
    }
    let mut query = PartStream::open(&app, &alice.token, MULTIPART, "{ __typename }", json!({})).await;
    assert_eq!(query.expect().await, json!({ "data": { "__typename": "Query" } }));
    query.expect_completion().await;

    // Apollo Client also accepts JSON, which is the answer to everything but a subscription.
    let authorization = bearer(&alice);
    let headers = [("accept", APOLLO_ACCEPT), ("authorization", authorization.as_str())];
    post(&app, &headers, graphql_body("subscription {", json!({}))).await.assert_error(400, "BAD_USER_INPUT");
    let mut parts = PartStream::open(&app, &alice.token, APOLLO_ACCEPT, "subscription { nothing }", json!({})).await;
    assert_eq!(parts.expect().await["errors"][0]["extensions"]["code"], "BAD_USER_INPUT");
    parts.expect_completion().await;
    let plain = post(&app, &headers, graphql_body("{ __typename }", json!({}))).await;
    assert_eq!(plain.json(), json!({ "data": { "__typename": "Query" } }));
    let forged = [("accept", APOLLO_ACCEPT), ("authorization", "Bearer nonsense")];
    post(&app, &forged, graphql_body(MESSAGE_ADDED, json!({}))).await.assert_error(401, "UNAUTHENTICATED");
    let mutation = [("query", "mutation { leaveChat(input: { chatId: \"chat_x\" }) { removedUserId } }")];
    get(&app, &headers, &mutation).await.assert_error(405, "BAD_USER_INPUT");
    // The media type without the parameter is that of other protocols.
    let incremental = [("accept", "multipart/mixed, application/json"), ("authorization", &authorization)];
    let rejection = post(&app, &incremental, graphql_body(MESSAGE_ADDED, json!({}))).await;
    assert!(rejection.message().contains("subscriptionSpec=1.0"), "{}", rejection.message());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn multipart_subscription_ends_with_error_beside_payload_when_token_expires() {
    let app = TestApp::sqlite(&[("PARLOR_JWT_LEEWAY_SECONDS", "0")]).await;
    app.user("alice").await;
    let expires_at = app.app.clock.now().timestamp() + 3_600;
    let token =
        sign_with_secret(json!({ "sub": "alice", "org": "demo", "exp": expires_at, "permissions": ["chat.view"] }));
    let mut parts = PartStream::open(&app, &token, APOLLO_ACCEPT, MESSAGE_ADDED, json!({})).await;
    app.app.clock.advance(Duration::from_secs(3_601));
    let part = parts.next().await.expect("a part");
    assert_eq!((&part["payload"], part.get("data")), (&Value::Null, None));
    assert_eq!(part["errors"][0]["message"], "the token has expired");
    assert_eq!(part["errors"][0]["extensions"]["code"], "UNAUTHENTICATED");
    parts.expect_completion().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn multipart_subscription_ended_by_server_is_not_completed() {
    let app = TestApp::sqlite(&[]).await;
    let alice = app.user("alice").await;
    let mut parts = PartStream::open(&app, &alice.token, APOLLO_ACCEPT, MESSAGE_ADDED, json!({})).await;
    let reading = tokio::spawn(async move { (parts.next().await, parts.0.text) });
    app.stop().await;
    assert_eq!(reading.await.unwrap(), (None, String::new()), "no `--`, because the client has to subscribe again");
}
