//! The bounds of connections: time limits of heads, bodies and idle connections, their number, and file descriptors.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use testkit::http::{graphql_body, probe, read_to_end, request};
use testkit::metrics::fetch_metric;
use testkit::process::issue_token;
use testkit::{
    Database, Engine, SECRET, ServerProcess, Socket, TIMEOUT, TestApp, User, engine_test, http_client, wait_until,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const KEYS: (&str, &str) = ("PARLOR_JWT_SECRET", SECRET);

/// Reads one response with a `content-length` from a connection that stays open.
async fn read_response(stream: &mut TcpStream) -> String {
    let mut received = String::new();
    loop {
        if let Some((head, body)) = received.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if length.is_some_and(|length| length.parse() == Ok(body.len())) {
                return received;
            }
        }
        let mut buffer = [0; 4096];
        let length = timeout(TIMEOUT, stream.read(&mut buffer)).await.expect("a response in time").expect("a response");
        assert!(length > 0, "the connection stays open: {received}");
        received.push_str(std::str::from_utf8(&buffer[..length]).expect("text"));
    }
}

#[engine_test]
async fn silent_connections_do_not_stop_service_when_descriptors_are_few(engine: Engine) {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::create(engine).await;
    let settings = [KEYS, ("DATABASE_URL", database.url.as_str()), ("PARLOR_METRICS_ADDR", "127.0.0.1:0")];
    let mut server = ServerProcess::start_limited(folder.path(), &settings, "-n 256");
    let metrics_url = server.next_metrics_url();
    assert!(server.log().contains("the limit of open files allows fewer connections"), "{}", server.log());
    let alice = User::new(server.addr, "alice", issue_token(folder.path(), "alice"));
    let mut socket = alice.socket().await;
    let mut silent = Vec::new();
    for number in 0..300 {
        let mut stream = TcpStream::connect(server.addr).await.expect("a connection");
        if number % 2 == 0 {
            stream.write_all(b"POST /graphql HTTP/1.1\r\nx-unfinished: ").await.expect("the beginning of a head");
        }
        silent.push(stream);
    }
    // New connections are served at once, and the open socket is not closed in their favour.
    for _ in 0..20 {
        let health = http_client().get(format!("http://{}/healthz", server.addr)).send().await.expect("a response");
        assert_eq!(health.status(), 200);
    }
    alice.ask("{ viewer { user { id } } }").await.data();
    socket.subscribe("1", "{ viewer { user { id } } }", json!({})).await;
    assert_eq!(socket.recv().await["type"], "next");
    assert!(fetch_metric(&metrics_url, r#"parlor_connections_closed_total{kind="replaced"}"#).await >= 100.0);
    let logged = server.log().matches("waiting connections are closed in favour of new ones").count();
    assert!((1..30).contains(&logged), "a line per second at most: {logged}");
    assert_eq!(fetch_metric(&metrics_url, "process_max_fds").await, 256.0);
    let open = fetch_metric(&metrics_url, "process_open_fds").await;
    assert!((100.0..256.0).contains(&open), "{open}");
    drop((silent, socket));
    server.signal("TERM");
    server.wait().await;
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exhausted_descriptors_are_logged_and_counted_and_recovered_from() {
    let folder = tempfile::tempdir().unwrap();
    // With so few descriptors, the connections that are always allowed already use up the reserve.
    let settings = [KEYS, ("PARLOR_METRICS_ADDR", "127.0.0.1:0")];
    let mut server = ServerProcess::start_limited(folder.path(), &settings, "-n 48");
    let metrics_url = server.next_metrics_url();
    // The metrics have an address, and connections, of their own.
    let mut metrics_connections = Vec::new();
    for _ in 0..31 {
        metrics_connections
            .push(TcpStream::connect(metrics_url.split('/').nth(2).expect("an address")).await.expect("a connection"));
    }
    let mut silent = Vec::new();
    for _ in 0..30 {
        silent.push(TcpStream::connect(server.addr).await.expect("a connection"));
    }
    wait_until("the server reports that it cannot accept", async || {
        server.log().contains("connections cannot be accepted")
    })
    .await;
    let lines = server.log().matches("connections cannot be accepted").count();
    assert!(lines <= 5, "at most a line per second and listener: {lines}");
    drop((metrics_connections, silent));
    wait_until("the server serves again", async || {
        probe(server.addr, "/readyz").await.is_some_and(|(status, _)| status == 200)
    })
    .await;
    assert!(fetch_metric(&metrics_url, "parlor_accept_errors_total").await >= 1.0);
    assert!(server.is_running());
    server.signal("TERM");
    server.wait().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_head_and_idle_connection_are_closed_after_their_timeouts() {
    let settings = [("PARLOR_HEAD_SECONDS", "1"), ("PARLOR_KEEP_ALIVE_SECONDS", "3")];
    let app = TestApp::sqlite(&settings).await;
    let alice = app.user("alice").await;
    let mut socket = alice.socket().await;
    let started_at = Instant::now();
    let mut connections = Vec::new();
    for head in ["", "\r\n", "GET", "GET /healthz HTTP/1.1\r\nhost: x\r\nx-header: "] {
        let mut stream = TcpStream::connect(app.addr).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        connections.push(stream);
    }
    // A client that sends a byte now and then gets no more time.
    let mut trickling = TcpStream::connect(app.addr).await.unwrap();
    let (mut trickling_reader, mut trickling_writer) = trickling.split();
    let send_bytes = async {
        for byte in b"GET /healthz HTTP/1.1\r\nx-slow: ".iter().cycle() {
            if trickling_writer.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let mut idle = TcpStream::connect(app.addr).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(read_response(&mut idle).await.ends_with("alive\n"));
    for stream in &mut connections {
        assert_eq!(read_to_end(stream).await, "");
    }
    let mut discarded = Vec::new();
    tokio::select! {
        end = timeout(TIMEOUT, trickling_reader.read_to_end(&mut discarded)) => drop(end.expect("the end of the connection")),
        () = send_bytes => {}
    }
    assert!(started_at.elapsed() >= Duration::from_secs(1) && started_at.elapsed() < Duration::from_secs(20));
    // Between two requests there is more time, and the head of a further request has the time of the first one.
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /").await.unwrap();
    assert!(read_response(&mut idle).await.ends_with("alive\n"));
    assert_eq!(read_to_end(&mut idle).await, "");
    assert!(started_at.elapsed() >= Duration::from_secs(3), "the end of the idle time");
    // Sockets are no idle connections.
    socket.subscribe("1", "{ viewer { user { id } } }", json!({})).await;
    assert_eq!(socket.recv().await["type"], "next");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn head_beyond_its_bounds_is_rejected_with_431() {
    let app = TestApp::sqlite(&[]).await;
    let value = |length: usize| "a".repeat(length);
    for (header, expected) in [(value(15_000), 200), (value(16_384), 431), (value(100_000), 431)] {
        let response = request(&app, Method::GET, "/healthz", &[("x-large", &header)], "").await;
        assert_eq!(response.status, expected, "{} bytes", header.len());
    }
    let target = format!("/healthz?{}", value(17_000));
    assert_eq!(request(&app, Method::GET, &target, &[], "").await.status, 431, "the target counts too");
    let names: Vec<_> = (0..101).map(|number| format!("x-header-{number}")).collect();
    let headers: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
    assert_eq!(request(&app, Method::GET, "/healthz", &headers[..90], "").await.status, 200);
    assert_eq!(request(&app, Method::GET, "/healthz", &headers, "").await.status, 431);
    // A head that never ends is not gathered beyond the bound.
    let mut endless = TcpStream::connect(app.addr).await.unwrap();
    let (mut reader, mut writer) = endless.split();
    let sent = async {
        writer.write_all(b"GET /healthz HTTP/1.1\r\nx-large: ").await?;
        for _ in 0..400 {
            writer.write_all(&[b'a'; 1_024]).await?;
        }
        std::io::Result::Ok(())
    };
    let mut response = Vec::new();
    let (_, read) = tokio::join!(sent, timeout(TIMEOUT, reader.read_to_end(&mut response)));
    let _ = read.expect("the server closes the connection");
    assert!(response.is_empty() || response.starts_with(b"HTTP/1.1 431 "), "{:?}", String::from_utf8_lossy(&response));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_body_is_rejected_after_its_timeout() {
    let app = TestApp::sqlite(&[("PARLOR_BODY_SECONDS", "1")]).await;
    let mut stream = TcpStream::connect(app.addr).await.unwrap();
    let head = "POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let response = read_to_end(&mut stream).await;
    assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
    assert!(response.contains("the body took longer than 1 seconds"), "{response}");
    app.stop().await;
}

#[engine_test]
async fn connection_beyond_the_bound_is_refused_with_unavailable(engine: Engine) {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::create(engine).await;
    let settings = [
        KEYS,
        ("DATABASE_URL", database.url.as_str()),
        ("PARLOR_CONNECTIONS", "16"),
        ("PARLOR_METRICS_ADDR", "127.0.0.1:0"),
    ];
    let mut server = ServerProcess::start(folder.path(), &settings);
    let metrics_url = server.next_metrics_url();
    let alice = User::new(server.addr, "alice", issue_token(folder.path(), "alice"));
    let mut sockets = Vec::new();
    for _ in 0..16 {
        sockets.push(alice.socket().await);
    }
    for _ in 0..3 {
        let url = format!("http://{}/graphql", server.addr);
        let response = http_client().post(url).body(graphql_body("{ __typename }", json!({}))).send().await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (503, "1"));
        let body: serde_json::Value = response.json().await.unwrap();
        assert_eq!(body["errors"][0]["extensions"], json!({ "code": "UNAVAILABLE", "retryAfterMs": 1000 }));
    }
    assert!(fetch_metric(&metrics_url, r#"parlor_connections_refused_total{kind="total"}"#).await >= 3.0);
    assert_eq!(fetch_metric(&metrics_url, r#"parlor_connections_refused_total{kind="address"}"#).await, 0.0);
    assert!(server.log().contains("PARLOR_CONNECTIONS"), "{}", server.log());
    drop(sockets.pop());
    wait_until("the place of the closed socket is free", async || {
        probe(server.addr, "/healthz").await.is_some_and(|(status, _)| status == 200)
    })
    .await;
    let mut last = sockets.pop().expect("a socket");
    last.subscribe("1", "{ viewer { user { id } } }", json!({})).await;
    assert_eq!(last.recv().await["type"], "next", "the open sockets are served as before");
    drop((last, sockets));
    server.signal("TERM");
    server.wait().await;
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn address_bound_refuses_connections_unless_the_address_is_a_trusted_proxy() {
    let bound = ("PARLOR_ADDRESS_CONNECTIONS", "2");
    let proxied = TestApp::sqlite(&[bound]).await;
    let sockets = [Socket::connect(proxied.addr).await, Socket::connect(proxied.addr).await];
    drop((Socket::connect(proxied.addr).await, sockets));
    proxied.stop().await;

    let direct = TestApp::sqlite(&[bound, ("PARLOR_TRUSTED_PROXIES", "10.0.0.0/8, ::1")]).await;
    let sockets = [Socket::connect(direct.addr).await, Socket::connect(direct.addr).await];
    let response = request(&direct, Method::GET, "/healthz", &[], "").await;
    response.assert_error(503, "UNAVAILABLE");
    drop(sockets);
    wait_until("the places of the closed sockets are free", async || {
        request(&direct, Method::GET, "/healthz", &[], "").await.status == 200
    })
    .await;
    direct.stop().await;
}
