//! What is made to hurt: documents and JSON, against the real process.

use std::path::Path;

use serde_json::{Value, json};
use testkit::keys::sign_with_secret;
use testkit::tungstenite::Message;
use testkit::{SECRET, ServerProcess, Socket, User, http_client};

use crate::transport::conformance_corpus::hostile;

/// The server as a process, which takes bodies so long that all documents reach its guard.
fn process(folder: &Path) -> (ServerProcess, User) {
    let server = ServerProcess::start(folder, &[("PARLOR_JWT_SECRET", SECRET), ("PARLOR_MAX_BODY_BYTES", "4194304")]);
    let token = sign_with_secret(json!({ "sub": "alice", "org": "demo", "exp": 4_000_000_000_u64 }));
    let alice = User::new(server.addr, "alice", token);
    (server, alice)
}

fn is_refusal(errors: &Value) -> bool {
    let errors = errors.as_array().map_or(&[][..], Vec::as_slice);
    !errors.is_empty() && errors.iter().all(|error| error["extensions"]["code"] == "BAD_USER_INPUT")
}

#[tokio::test(flavor = "multi_thread")]
async fn adversarial_document_never_harms_process() {
    let folder = tempfile::tempdir().unwrap();
    let (mut server, alice) = process(folder.path());
    let mut socket = alice.socket().await;
    let mut refused = 0;
    for (name, document) in hostile() {
        let reply =
            alice.try_ask(&document, json!({})).await.unwrap_or_else(|| panic!("{name}: no answer; {}", server.log()));
        assert_eq!(reply.status, 200, "{name}: {}", reply.body);
        let answered = reply.body.get("data").is_some();
        assert!(answered || is_refusal(&reply.body["errors"]), "{name}: {}", reply.body);
        refused += usize::from(!answered);

        // The same of what comes over a socket.
        socket.subscribe(name, &document, json!({})).await;
        let heard = socket.recv().await;
        assert_eq!(heard["id"], name);
        if answered {
            assert_eq!((&heard["type"], &heard["payload"]), (&json!("next"), &reply.body), "{name}");
            assert_eq!(socket.recv().await["type"], "complete", "{name}");
        } else if heard["payload"]
            .as_array()
            .is_some_and(|errors| errors[0]["message"] != reply.body["errors"][0]["message"])
        {
            // A subscription is one thing there and another here.
            assert!(document.starts_with("subscription"), "{name}: {heard}");
        } else {
            assert_eq!((&heard["type"], &heard["payload"]), (&json!("error"), &reply.body["errors"]), "{name}");
        }
        assert!(server.is_running(), "{name}");
    }
    assert!(refused > 50, "{refused} refused");
    assert_eq!(alice.ask("{ viewer { user { id } } }").await.text("viewer.user.id"), "alice");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn adversarial_json_never_harms_process() {
    let folder = tempfile::tempdir().unwrap();
    let (mut server, alice) = process(folder.path());
    let nested = |open: &str, close: &str, depth: usize| open.repeat(depth) + "1" + &close.repeat(depth);
    let http = http_client();
    for (json, takes) in [
        (nested("[", "]", 100), true),
        (nested("{\"a\":", "}", 100), true),
        (nested("[", "]", 1_000_000), false),
        (nested("{\"a\":", "}", 500_000), false),
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
        for place in ["variables", "extensions"] {
            // What is given is of no use to the operation, or refused.
            let body = format!("{{\"query\":\"{{ __typename }}\",\"{place}\":{{\"x\":{json}}}}}");
            let asked = http
                .post(format!("http://{}/graphql", server.addr))
                .bearer_auth(&alice.token)
                .header("content-type", "application/json");
            let answer = asked.body(body).send().await.unwrap_or_else(|error| panic!("{error}: {}", server.log()));
            let (status, body) = (answer.status(), answer.json::<Value>().await.expect("JSON"));
            let shown = &json[..json.len().min(40)];
            assert_eq!(
                (status.as_u16(), body.get("data").is_some()),
                (if takes { 200 } else { 400 }, takes),
                "{shown}: {body}"
            );
            assert!(takes || is_refusal(&body["errors"]), "{shown}: {body}");
        }
        let mut socket = Socket::connect(server.addr).await;
        socket.init(&alice.token).await;
        let message = format!("{{\"type\":\"ping\",\"payload\":{{\"x\":{json}}}}}");
        socket.send_raw(Message::text(message)).await;
        match socket.recv_or_close().await {
            Ok(pong) => assert!(takes && pong["type"] == "pong"),
            Err(closed) => assert!(!takes && closed.is_some_and(|frame| u16::from(frame.code) == 4400)),
        }
        assert!(server.is_running());
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
