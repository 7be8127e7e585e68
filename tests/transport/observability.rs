//! What an operator sees: figures, and traces.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use testkit::process::run_command;
use testkit::{SECRET, ServerProcess, User, http_client};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const KEYS: (&str, &str) = ("PARLOR_JWT_SECRET", SECRET);

fn token(folder: &std::path::Path, user: &str) -> String {
    let output = run_command(folder, &[KEYS], &["token", "--user", user]);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The value of one line of the figures.
fn figure(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_served_on_separate_address() {
    let folder = tempfile::tempdir().unwrap();
    let server = ServerProcess::start(folder.path(), &[KEYS, ("PARLOR_METRICS_ADDR", "127.0.0.1:0")]);
    let line = server.next_line();
    let metrics: SocketAddr = line
        .strip_prefix("Metrics are at http://")
        .and_then(|rest| rest.strip_suffix("/metrics"))
        .unwrap()
        .parse()
        .unwrap();
    let read = async || {
        let response = http_client().get(format!("http://{metrics}/metrics")).send().await.unwrap();
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
        response.text().await.unwrap()
    };
    let alice = User::new(server.addr, "alice", token(folder.path(), "alice"));
    let chat = alice.group("Walk", &[]).await;
    let (mut one, mut other) = (alice.feed(&chat, None, None).await, alice.feed(&chat, None, None).await);
    for feed in [&mut one, &mut other] {
        feed.expect("FeedCaughtUp").await;
    }
    alice.send(&chat, "hello").await;
    for feed in [&mut one, &mut other] {
        feed.expect("MessageUpserted").await;
    }
    let text = read().await;
    assert!(text.ends_with("# EOF\n"), "{text}");
    assert_eq!(figure(&text, r#"parlor_connections{kind="websocket"}"#), 2.0);
    assert_eq!(figure(&text, r#"parlor_subscriptions{field="chatFeed"}"#), 2.0);
    assert!(figure(&text, "parlor_events_delivered_total") >= 4.0, "{text}");
    assert!(figure(&text, r#"parlor_subscription_executions_total{kind="shared"}"#) >= 1.0, "{text}");
    assert_eq!(figure(&text, "parlor_send_batch_size_count"), 1.0);
    assert!(figure(&text, r#"parlor_graphql_operation_duration_seconds_count{kind="mutation"}"#) >= 2.0, "{text}");
    assert!(figure(&text, r#"parlor_db_statement_duration_seconds_count{kind="load"}"#) >= 1.0, "{text}");
    assert_eq!(figure(&text, "parlor_redis_connected"), 0.0);
    // Those who are level are told by the short way, as soon as they are.
    let direct = async {
        while figure(&read().await, "parlor_fast_path_deliveries_total") < 2.0 {
            alice.send(&chat, "again").await;
            for feed in [&mut one, &mut other] {
                feed.expect("MessageUpserted").await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), direct).await.expect("messages go straight to the sockets");
    let call = alice.start_call(&chat).await;
    alice.mutate_ok("endCall", json!({ "callId": call.call })).await;
    assert_eq!(figure(&read().await, r#"parlor_calls_ended_total{kind="cancelled"}"#), 1.0);
    drop((one, other));
    // The sockets' ends are noticed a moment later.
    let gone = async {
        while figure(&read().await, r#"parlor_subscriptions{field="chatFeed"}"#) > 0.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("what has gone is counted no more");
    let public = http_client().get(format!("http://{}/metrics", server.addr)).send().await.unwrap();
    assert_eq!(public.status(), 404, "they are the operator's alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_are_exported_to_configured_collector() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let collected = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut heard, mut buffer) = (Vec::new(), [0; 16 * 1024]);
        // Up to the end of a body that names the service.
        while !String::from_utf8_lossy(&heard).contains("parlor") {
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0, "it hung up");
            heard.extend_from_slice(&buffer[..read]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        String::from_utf8_lossy(&heard).into_owned()
    });
    let folder = tempfile::tempdir().unwrap();
    let mut server = ServerProcess::start(folder.path(), &[KEYS, ("PARLOR_OTLP_ENDPOINT", &endpoint)]);
    let alice = User::new(server.addr, "alice", token(folder.path(), "alice"));
    alice.ask_with("query Me { viewer { user { id } } }", json!({})).await.data();
    // What was not sent yet is sent at the end.
    server.signal("TERM");
    let heard = tokio::time::timeout(Duration::from_secs(60), collected).await.expect("in time").unwrap();
    assert!(heard.starts_with("POST /v1/traces HTTP/1.1"), "{heard}");
    assert!(heard.contains("request"), "{heard}");
    assert_eq!(server.wait().await.code(), Some(0));
}
