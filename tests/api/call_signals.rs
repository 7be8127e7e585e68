//! The limits of signals in calls, and signals that are sent again.

use parlor::metrics::METRICS;
use serde_json::{Value, json};
use testkit::calls::{ActiveCall, sdp, signal_input};
use testkit::{TestApp, engine_test};

/// Returns a session description whose payload has this many bytes of JSON.
fn sdp_of(bytes: usize) -> Value {
    let empty = sdp("offer", "").to_string().len();
    let description = sdp("offer", &"x".repeat(bytes - empty));
    assert_eq!(description.to_string().len(), bytes);
    description
}

#[engine_test]
async fn signal_of_256_kib_is_delivered_and_a_larger_one_refused(app: &TestApp) {
    const MAX: usize = 256 * 1024;
    let ActiveCall { alice, bob, a, b, .. } = ActiveCall::start(app).await;
    let mut bob_feed = bob.caught_up_call_feed(&b).await;
    alice.send_signal(&a, &b, "OFFER", sdp_of(MAX)).await;
    assert_eq!(bob_feed.next_signal().await[2], sdp_of(MAX));
    // A WebSocket carries the same messages as HTTP.
    let mut socket = bob.socket().await;
    let query = "mutation($input: SendSignalInput!) { sendSignal(input: $input) { delivered } }";
    let send = |bytes: usize| json!({ "input": signal_input(&b, &a.connection, "OFFER", sdp_of(bytes)) });
    let mut alice_feed = alice.caught_up_call_feed(&a).await;
    socket.subscribe("1", query, send(MAX)).await;
    assert_eq!(socket.recv().await["payload"]["data"]["sendSignal"], json!({ "delivered": true }));
    assert_eq!(socket.recv().await["type"], "complete");
    assert_eq!(alice_feed.next_signal().await[2], sdp_of(MAX));
    socket.subscribe("2", query, send(MAX + 1)).await;
    let refused = socket.recv().await["payload"]["errors"][0].clone();
    assert_eq!(refused["extensions"]["code"], "PAYLOAD_TOO_LARGE", "{refused}");
    assert_eq!(refused["message"], "payload must have at most 262144 bytes of JSON");
    alice.try_send_signal(&a, &b.connection, "OFFER", sdp_of(MAX + 1)).await.assert_error("PAYLOAD_TOO_LARGE");
    // Refused signals leave no gap.
    alice.send_signal(&a, &b, "RENEGOTIATE", json!({ "marker": true })).await;
    assert_eq!(bob_feed.next_signal().await[2], json!({ "marker": true }));
}

#[engine_test(settings = [("PARLOR_CALL_SIGNAL_BYTES", "8192"), ("PARLOR_MAX_BODY_BYTES", "12288")])]
async fn signal_size_follows_its_setting(app: &TestApp) {
    let ActiveCall { alice, a, b, .. } = ActiveCall::start(app).await;
    alice.send_signal(&a, &b, "OFFER", sdp_of(8_192)).await;
    alice.try_send_signal(&a, &b.connection, "OFFER", sdp_of(8_193)).await.assert_error("PAYLOAD_TOO_LARGE");
}

#[engine_test]
async fn candidates_are_limited_and_may_end_with_null(app: &TestApp) {
    let ActiveCall { alice, bob, a, b, .. } = ActiveCall::start(app).await;
    let mut bob_feed = bob.caught_up_call_feed(&b).await;
    let ends =
        [json!({ "candidate": null }), json!([{ "candidate": null }]), json!([null]), json!({ "candidates": [null] })];
    for end in ends {
        alice.send_signal(&a, &b, "ICE_CANDIDATES", end.clone()).await;
        assert_eq!(bob_feed.next_signal().await[2], end);
    }
    let candidates = |bytes: usize| {
        let full = json!(vec![json!({ "candidate": "x".repeat(4_000) }); 4]).to_string().len();
        let mut list = vec![json!({ "candidate": "x".repeat(4_000) }); 4];
        list.push(json!({ "candidate": "x".repeat(bytes - full - json!({ "candidate": "" }).to_string().len() - 1) }));
        json!(list)
    };
    assert_eq!(candidates(16_384).to_string().len(), 16_384);
    alice.send_signal(&a, &b, "ICE_CANDIDATES", candidates(16_384)).await;
    let too_large = alice.try_send_signal(&a, &b.connection, "ICE_CANDIDATES", candidates(16_385)).await;
    too_large.assert_error("PAYLOAD_TOO_LARGE");
    assert!(too_large.body["errors"][0]["message"].as_str().unwrap().contains("16384"), "{}", too_large.body);
    // Provisional answers and rollbacks stay on their device.
    for (kind, payload) in [
        ("ANSWER", json!({ "type": "pranswer", "sdp": "v=0\r\n" })),
        ("OFFER", json!({ "type": "rollback" })),
        ("ICE_CANDIDATES", json!({ "candidate": 7 })),
    ] {
        alice.try_send_signal(&a, &b.connection, kind, payload).await.assert_bad_input("payload");
    }
}

#[engine_test(settings = [("PARLOR_CALL_SIGNAL_KIB_PER_MINUTE", "100")])]
async fn signal_bytes_of_a_user_are_limited_per_minute(app: &TestApp) {
    app.app.clock.pause();
    let ActiveCall { alice, bob, a, b, .. } = ActiveCall::start(app).await;
    alice.send_signal(&a, &b, "OFFER", sdp_of(60 * 1024)).await;
    let refused = alice.try_send_signal(&a, &b.connection, "OFFER", sdp_of(60 * 1024)).await;
    let wait = refused.retry_after();
    assert!((11..=13).contains(&wait.as_secs()), "{wait:?}");
    let message = refused.body["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("at most 100 KiB of signals of calls per minute"), "{message}");
    // A small signal still fits, and other users have a budget of their own.
    alice.send_signal(&a, &b, "RENEGOTIATE", json!({})).await;
    bob.send_signal(&b, &a, "ANSWER", sdp("answer", &"x".repeat(60 * 1024))).await;
    app.advance(15);
    alice.send_signal(&a, &b, "OFFER", sdp_of(60 * 1024)).await;
}

#[engine_test(settings = [("PARLOR_CALL_KEPT_SIGNAL_BYTES", "4194304"), ("PARLOR_CALL_LOST_SECONDS", "600")])]
async fn kept_signals_of_a_call_are_limited_in_bytes(app: &TestApp) {
    const KEPT: i64 = 4 * 1024 * 1024;
    let ActiveCall { alice, bob, a, b, .. } = ActiveCall::start(app).await;
    let mut bob_feed = bob.call_feed(&b, None).await;
    let cursor = bob_feed.catch_up().await.last().expect("an event")["cursor"].clone();
    drop(bob_feed);
    let (before, size) = (METRICS.call_signal_bytes.get(), 250 * 1024);
    for _ in 0..20 {
        alice.send_signal(&a, &b, "OFFER", sdp_of(size)).await;
        let kept = app.database.query_number("SELECT CAST(sum(bytes) AS bigint) FROM call_signals").await;
        assert!(kept <= KEPT, "{kept}");
        let counted = app.database.query_number("SELECT CAST(sum(signal_bytes) AS bigint) FROM calls").await;
        assert_eq!(counted, kept);
    }
    assert!(METRICS.call_signal_bytes.get() - before >= 20 * size as u64);
    // A feed that needs the deleted ones is reset, and the newest are kept.
    let mut bob_feed = bob.call_feed(&b, cursor.as_str()).await;
    let events = bob_feed.catch_up().await;
    assert_eq!(events[0]["reason"], "TOO_FAR_BEHIND", "{}", events[0]);
    let kept = events.iter().filter(|event| event["__typename"] == "SignalReceived").count();
    assert!((10..=16).contains(&kept), "{kept}");
    alice.mutate_ok("endCall", json!({ "callId": a.call })).await;
    assert_eq!(app.database.query_number("SELECT CAST(sum(signal_bytes) AS bigint) FROM calls").await, 0);
}

#[engine_test]
async fn signal_with_repeated_nonce_is_delivered_once(app: &TestApp) {
    let ActiveCall { alice, bob, a, b, .. } = ActiveCall::start(app).await;
    let mut bob_feed = bob.caught_up_call_feed(&b).await;
    let with_nonce = |kind: &str, text: &str, nonce: &str| {
        let payload = sdp(if kind == "ANSWER" { "answer" } else { "offer" }, text);
        let mut input = signal_input(&a, &b.connection, kind, payload);
        input["nonce"] = json!(nonce);
        input
    };
    for _ in 0..3 {
        let sent = alice.mutate_returning("sendSignal", with_nonce("ANSWER", "one", "n1"), "delivered").await;
        assert_eq!(sent.at("sendSignal.delivered"), true);
    }
    // The nonce belongs to the signal: other content is refused.
    let other = alice.mutate_returning("sendSignal", with_nonce("ANSWER", "two", "n1"), "delivered").await;
    other.assert_error("CONFLICT");
    let other = alice.mutate_returning("sendSignal", with_nonce("OFFER", "one", "n1"), "delivered").await;
    other.assert_error("CONFLICT");
    alice.mutate_returning("sendSignal", with_nonce("ANSWER", "two", "n2"), "delivered").await.data();
    assert_eq!(bob_feed.next_signal().await[2], sdp("answer", "one"));
    assert_eq!(bob_feed.next_signal().await[2], sdp("answer", "two"), "the repeated signal is not delivered again");
    // Another sender and another join have nonces of their own.
    let mut of_bob = signal_input(&b, &a.connection, "RENEGOTIATE", json!({}));
    of_bob["nonce"] = json!("n1");
    bob.mutate_returning("sendSignal", of_bob, "delivered").await.data();
    let rejoined = alice.join_call(&a.call).await;
    let mut again = with_nonce("ANSWER", "three", "n1");
    again["fromConnectionId"] = json!(rejoined.connection);
    alice.mutate_returning("sendSignal", again, "delivered").await.data();
    assert_eq!(bob_feed.next_signal().await[2], sdp("answer", "three"));
    for nonce in ["", "a\nb", &"x".repeat(129)] {
        let reply = alice.mutate_returning("sendSignal", with_nonce("ANSWER", "four", nonce), "delivered").await;
        reply.assert_bad_input("nonce");
    }
}
