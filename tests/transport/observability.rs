//! Observability for operators: metrics and traces.

use std::time::Duration;

use serde_json::json;
use testkit::metrics::metric_value;
use testkit::process::issue_token;
use testkit::{SECRET, ServerProcess, User, http_client, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const KEYS: (&str, &str) = ("PARLOR_JWT_SECRET", SECRET);

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_served_on_separate_address() {
    let folder = tempfile::tempdir().unwrap();
    let server = ServerProcess::start(folder.path(), &[KEYS, ("PARLOR_METRICS_ADDR", "127.0.0.1:0")]);
    let metrics_url = server.next_metrics_url();
    let fetch_metrics = async || {
        let response = http_client().get(&metrics_url).send().await.unwrap();
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
        response.text().await.unwrap()
    };
    let alice = User::new(server.addr, "alice", issue_token(folder.path(), "alice"));
    let chat = alice.group("Walk", &[]).await;
    let (mut first_feed, mut second_feed) = (alice.feed(&chat, None, None).await, alice.feed(&chat, None, None).await);
    for feed in [&mut first_feed, &mut second_feed] {
        feed.expect("FeedCaughtUp").await;
    }
    alice.send(&chat, "hello").await;
    for feed in [&mut first_feed, &mut second_feed] {
        feed.expect("MessageUpserted").await;
    }
    let text = fetch_metrics().await;
    assert!(text.ends_with("# EOF\n"), "{text}");
    assert_eq!(metric_value(&text, r#"parlor_connections{kind="websocket"}"#), 2.0);
    assert_eq!(metric_value(&text, r#"parlor_subscriptions{field="chatFeed"}"#), 2.0);
    assert!(metric_value(&text, "parlor_events_delivered_total") >= 4.0, "{text}");
    assert!(metric_value(&text, r#"parlor_subscription_executions_total{kind="shared"}"#) >= 1.0, "{text}");
    assert_eq!(metric_value(&text, "parlor_send_batch_size_count"), 1.0);
    assert_eq!(metric_value(&text, "parlor_send_lanes"), 1.0, "SQLite has one writer");
    assert_eq!(metric_value(&text, r#"parlor_sends_waiting{lane="0"}"#), 0.0);
    assert!(
        metric_value(&text, r#"parlor_graphql_operation_duration_seconds_count{kind="mutation"}"#) >= 2.0,
        "{text}"
    );
    assert!(metric_value(&text, r#"parlor_db_statement_duration_seconds_count{kind="load"}"#) >= 1.0, "{text}");
    assert_eq!(metric_value(&text, "parlor_redis_connected"), 0.0);
    // The fast path delivers to subscribers as soon as they have caught up.
    let uses_fast_path = async {
        while metric_value(&fetch_metrics().await, "parlor_fast_path_deliveries_total") < 2.0 {
            alice.send(&chat, "again").await;
            for feed in [&mut first_feed, &mut second_feed] {
                feed.expect("MessageUpserted").await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), uses_fast_path).await.expect("deliveries by the fast path");
    let call = alice.start_call(&chat).await;
    alice.mutate_ok("endCall", json!({ "callId": call.call })).await;
    assert_eq!(metric_value(&fetch_metrics().await, r#"parlor_calls_ended_total{kind="completed"}"#), 1.0);
    drop((first_feed, second_feed));
    // The server notices later that the sockets are closed.
    wait_until("closed subscriptions are not counted", async || {
        metric_value(&fetch_metrics().await, r#"parlor_subscriptions{field="chatFeed"}"#) == 0.0
    })
    .await;
    let public = http_client().get(format!("http://{}/metrics", server.addr)).send().await.unwrap();
    assert_eq!(public.status(), 404, "metrics are not public");
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_are_exported_to_configured_collector() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let collected = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut received, mut buffer) = (Vec::new(), [0; 16 * 1024]);
        // The body of the request contains the name of the service.
        while !String::from_utf8_lossy(&received).contains("parlor") {
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0, "the connection is open");
            received.extend_from_slice(&buffer[..read]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        String::from_utf8_lossy(&received).into_owned()
    });
    let folder = tempfile::tempdir().unwrap();
    let mut server = ServerProcess::start(folder.path(), &[KEYS, ("PARLOR_OTLP_ENDPOINT", &endpoint)]);
    let alice = User::new(server.addr, "alice", issue_token(folder.path(), "alice"));
    alice.ask_with("query Me { viewer { user { id } } }", json!({})).await.data();
    // The server exports the remaining spans when it stops.
    server.signal("TERM");
    let request = tokio::time::timeout(Duration::from_secs(60), collected).await.expect("an export").unwrap();
    assert!(request.starts_with("POST /v1/traces HTTP/1.1"), "{request}");
    assert!(request.contains("request"), "{request}");
    assert_eq!(server.wait().await.code(), Some(0));
}
