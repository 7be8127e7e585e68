//! Adversarial documents and JSON, sent to a server process.

use std::path::Path;

use serde_json::{Value, json};
use testkit::keys::sign_with_secret;
use testkit::tungstenite::Message;
use testkit::{SECRET, ServerProcess, Socket, User, http_client};

use crate::transport::conformance_corpus::adversarial_documents;

/// Starts a server process whose body limit lets every document reach the document limits.
fn start_process(folder: &Path) -> (ServerProcess, User) {
    let server = ServerProcess::start(folder, &[("PARLOR_JWT_SECRET", SECRET), ("PARLOR_MAX_BODY_BYTES", "4194304")]);
    let token = sign_with_secret(json!({ "sub": "alice", "org": "demo", "exp": 4_000_000_000_u64 }));
    let alice = User::new(server.addr, "alice", token);
    (server, alice)
}

/// Returns whether a request was rejected, with errors of the code `BAD_USER_INPUT` only.
fn is_rejection(errors: &Value) -> bool {
    let errors = errors.as_array().map_or(&[][..], Vec::as_slice);
    !errors.is_empty() && errors.iter().all(|error| error["extensions"]["code"] == "BAD_USER_INPUT")
}

#[tokio::test(flavor = "multi_thread")]
async fn adversarial_document_never_harms_process() {
    let folder = tempfile::tempdir().unwrap();
    let (mut server, alice) = start_process(folder.path());
    let mut socket = alice.socket().await;
    let mut rejected = 0;
    for (name, document) in adversarial_documents() {
        let reply =
            alice.try_ask(&document, json!({})).await.unwrap_or_else(|| panic!("{name}: no reply; {}", server.log()));
        assert_eq!(reply.status, 200, "{name}: {}", reply.body);
        let has_data = reply.body.get("data").is_some();
        assert!(has_data || is_rejection(&reply.body["errors"]), "{name}: {}", reply.body);
        rejected += usize::from(!has_data);

        // A WebSocket returns the same result.
        socket.subscribe(name, &document, json!({})).await;
        let message = socket.recv().await;
        assert_eq!(message["id"], name);
        if has_data {
            assert_eq!((&message["type"], &message["payload"]), (&json!("next"), &reply.body), "{name}");
            assert_eq!(socket.recv().await["type"], "complete", "{name}");
        } else if message["payload"]
            .as_array()
            .is_some_and(|errors| errors[0]["message"] != reply.body["errors"][0]["message"])
        {
            // A subscription over HTTP is rejected for another reason than over a WebSocket.
            assert!(document.starts_with("subscription"), "{name}: {message}");
        } else {
            assert_eq!((&message["type"], &message["payload"]), (&json!("error"), &reply.body["errors"]), "{name}");
        }
        assert!(server.is_running(), "{name}");
    }
    assert!(rejected > 50, "{rejected} rejected");
    assert_eq!(alice.ask("{ viewer { user { id } } }").await.text("viewer.user.id"), "alice");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn adversarial_json_never_harms_process() {
    let folder = tempfile::tempdir().unwrap();
    let (mut server, alice) = start_process(folder.path());
    let nest = |open: &str, close: &str, depth: usize| open.repeat(depth) + "1" + &close.repeat(depth);
    let http = http_client();
    for (json, is_accepted) in [
        (nest("[", "]", 100), true),
        (nest("{\"a\":", "}", 100), true),
        (nest("[", "]", 1_000_000), false),
        (nest("{\"a\":", "}", 500_000), false),
        ("[".repeat(2_000_000), false),
        (format!("[{}1]", "1,".repeat(1_500_000)), true),
        (format!("{{{}\"b\":1}}", (0..200_000).map(|n| format!("\"a{n}\":0,")).collect::<String>()), true),
        (format!("\"{}\"", "\\u0000".repeat(500_000)), true),
        ("\"\\ud800\"".into(), false),
        ("9".repeat(1_000_000), false),
        ("-1e308".into(), true),
        ("1e99999999999".into(), false),
        ("NaN".into(), false),
        ("{\"__proto__\":{\"constructor\":1}}".into(), true),
    ] {
        for field in ["variables", "extensions"] {
            // The operation does not use the value, so it is ignored unless it is rejected.
            let body = format!("{{\"query\":\"{{ __typename }}\",\"{field}\":{{\"x\":{json}}}}}");
            let request = http
                .post(format!("http://{}/graphql", server.addr))
                .bearer_auth(&alice.token)
                .header("content-type", "application/json");
            let response = request.body(body).send().await.unwrap_or_else(|error| panic!("{error}: {}", server.log()));
            let (status, body) = (response.status(), response.json::<Value>().await.expect("JSON"));
            let excerpt = &json[..json.len().min(40)];
            assert_eq!(
                (status.as_u16(), body.get("data").is_some()),
                (if is_accepted { 200 } else { 400 }, is_accepted),
                "{excerpt}: {body}"
            );
            assert!(is_accepted || is_rejection(&body["errors"]), "{excerpt}: {body}");
        }
        let mut socket = Socket::connect(server.addr).await;
        socket.init(&alice.token).await;
        let message = format!("{{\"type\":\"ping\",\"payload\":{{\"x\":{json}}}}}");
        socket.send_raw(Message::text(message)).await;
        match socket.recv_or_close().await {
            Ok(pong) => assert!(is_accepted && pong["type"] == "pong"),
            Err(close_frame) => assert!(!is_accepted && close_frame.is_some_and(|frame| u16::from(frame.code) == 4400)),
        }
        assert!(server.is_running());
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
