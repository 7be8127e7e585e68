//! Calls, from their first ring to what is left of them.

use serde_json::{Value, json};
use testkit::calls::{ActiveCall, JoinedCall, alice_and_bob, sdp};
use testkit::{TestApp, User, engine_test, pluck};

/// Waits until the call is so: the server's clock acts by itself, a moment later.
async fn becomes(user: &User, call: &str, status: Value) {
    for _ in 0..100 {
        if user.call_status(call).await == status {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{} is not {status}", user.fetch_call(call).await);
}

#[engine_test]
async fn call_is_answered_and_ended(app: &TestApp) {
    let (alice, bob, chat) = alice_and_bob(app).await;
    let mut bobs = bob.inbox_feed(None).await;
    bobs.catch_up().await;
    let a = alice.start_call(&chat).await;
    let rings = bobs.next_of_type("CallUpserted").await;
    assert_eq!(rings["call"]["id"], a.call);
    assert_eq!(rings["call"]["status"], "RINGING");
    let people = json!([
        { "user": { "id": "alice" }, "status": "JOINED", "deviceId": "phone" },
        { "user": { "id": "bob" }, "status": "RINGING", "deviceId": "" },
    ]);
    assert_eq!(rings["call"]["participants"], people);
    let mut hers = alice.call_feed(&a, None).await;
    let begins = pluck(&Value::from(hers.catch_up().await), "__typename");
    assert_eq!(begins, ["CallUpserted", "ParticipantUpserted", "ParticipantUpserted"]);
    let b = bob.join_call(&a.call).await;
    let answered = hers.next_of_type("CallUpserted").await;
    assert_eq!(answered["call"]["status"], "ACTIVE");
    let joined = hers.wait_for_participant("bob", "JOINED").await;
    assert_eq!(joined["negotiation"], json!({ "offers": false, "polite": false }));
    let mut his = bob.call_feed(&b, None).await;
    let of_alice = his.wait_for_participant("alice", "JOINED").await;
    assert_eq!(of_alice["negotiation"], json!({ "offers": true, "polite": true }), "who comes later offers");
    assert_eq!(his.wait_for_participant("bob", "JOINED").await["negotiation"], json!(null));
    his.catch_up().await;
    bob.send_signal(&b, &a, "OFFER", sdp("offer", "of bob")).await;
    let candidate = json!([{ "candidate": "candidate:1 1 udp 1 127.0.0.1 9 typ host", "sdpMid": "0" }]);
    bob.send_signal(&b, &a, "ICE_CANDIDATES", candidate.clone()).await;
    alice.send_signal(&a, &b, "ANSWER", sdp("answer", "of alice")).await;
    assert_eq!(hers.next_signal().await, json!(["bob", "OFFER", sdp("offer", "of bob")]));
    assert_eq!(hers.next_signal().await, json!(["bob", "ICE_CANDIDATES", candidate]));
    assert_eq!(his.next_signal().await, json!(["alice", "ANSWER", sdp("answer", "of alice")]));
    let media = json!({ "audio": false, "video": true, "screen": true });
    bob.mutate_ok("updateCallMedia", json!({ "callId": a.call, "participantId": b.participant, "media": media })).await;
    assert_eq!(hers.wait_for_participant("bob", "JOINED").await["participant"]["media"], media);
    assert_eq!(alice.fetch_chat(&chat, "activeCall { id status }").await["activeCall"]["status"], "ACTIVE");

    app.advance(90);
    alice.mutate_ok("endCall", json!({ "callId": a.call })).await;
    alice.mutate_ok("endCall", json!({ "callId": a.call })).await;
    assert!(his.drain().await.iter().any(|event| event["call"]["endReason"] == "COMPLETED"));
    hers.drain().await;
    let ended = bob.fetch_call(&a.call).await;
    assert!((90..100).contains(&ended["durationSeconds"].as_i64().unwrap()), "{ended}");
    assert_eq!(pluck(&ended["participants"], "status"), ["LEFT", "LEFT"]);
    assert_eq!(alice.call_history(json!(null)).await, [json!(["OUTGOING", "COMPLETED"])]);
    assert_eq!(bob.call_history(json!(null)).await, [json!(["INCOMING", "COMPLETED"])]);
    assert_eq!(bob.call_system_messages(&chat).await, ["CALL_STARTED", "CALL_ENDED"]);
    assert_eq!(alice.fetch_chat(&chat, "activeCall { id }").await["activeCall"], json!(null));
    bob.try_join_call(&a.call, "phone").await.assert_error("CONFLICT");
    bob.try_send_signal(&b, &a.participant, "OFFER", sdp("offer", "late")).await.assert_error("CONFLICT");
    assert_eq!(alice.call_history(json!({ "missedOnly": true })).await, Vec::<Value>::new());
}

#[engine_test]
async fn unanswered_call_becomes_missed(app: &TestApp) {
    let (alice, bob, chat) = alice_and_bob(app).await;
    let mut bobs = bob.inbox_feed(None).await;
    bobs.catch_up().await;
    let a = alice.start_call(&chat).await;
    let mut hers = alice.caught_up_call_feed(&a).await;
    app.advance(44);
    assert_eq!(alice.call_status(&a.call).await, json!(["RINGING", null]));
    app.advance(2);
    assert!(hers.drain().await.iter().any(|event| event["call"]["endReason"] == "MISSED"));
    let told = bobs.next_of_type("NotificationUpserted").await;
    assert_eq!(
        told["notification"],
        json!({ "kind": "MISSED_CALL", "call": { "id": a.call }, "message": { "system": { "kind": "CALL_MISSED" } } })
    );
    assert_eq!(bob.call_history(json!({ "missedOnly": true })).await, [json!(["INCOMING", "MISSED"])]);
    assert_eq!(alice.call_history(json!({ "missedOnly": true })).await, Vec::<Value>::new());
    assert_eq!(alice.call_system_messages(&chat).await, ["CALL_STARTED", "CALL_MISSED"]);
    let own = alice.ask("{ viewer { notifications { nodes { kind } } } }").await;
    assert_eq!(own.at("viewer.notifications.nodes"), &json!([]));
    let call = bob.fetch_call(&a.call).await;
    assert_eq!((&call["durationSeconds"], &call["ringsUntil"]), (&json!(null), &json!(null)));
    // Who reads what the chat tells of it has read the notification.
    bob.mutate_ok("markRead", json!({ "chatId": chat })).await;
    let unread = bob.ask("{ viewer { unread { notifications } } }").await;
    assert_eq!(unread.at("viewer.unread.notifications"), 0);
}

#[engine_test]
async fn call_is_declined_or_cancelled(app: &TestApp) {
    let (alice, bob, chat) = alice_and_bob(app).await;
    let a = alice.start_call(&chat).await;
    alice.mutate("declineCall", json!({ "callId": a.call })).await.assert_error("CONFLICT");
    for _ in 0..2 {
        bob.mutate_ok("declineCall", json!({ "callId": a.call })).await;
    }
    assert_eq!(bob.call_status(&a.call).await, json!(["ENDED", "DECLINED"]));
    assert_eq!(bob.call_system_messages(&chat).await, ["CALL_STARTED", "CALL_ENDED"]);

    let a = alice.start_call(&chat).await;
    for _ in 0..2 {
        alice.try_leave_call(&a).await.data();
    }
    assert_eq!(bob.call_status(&a.call).await, json!(["ENDED", "CANCELLED"]));
    bob.mutate("declineCall", json!({ "callId": a.call })).await.assert_error("CONFLICT");
    let a = alice.start_call(&chat).await;
    alice.mutate_ok("endCall", json!({ "callId": a.call })).await;
    assert_eq!(bob.call_status(&a.call).await, json!(["ENDED", "CANCELLED"]));
    let a = alice.start_call(&chat).await;
    bob.mutate_ok("endCall", json!({ "callId": a.call })).await;
    assert_eq!(
        bob.call_status(&a.call).await,
        json!(["ENDED", "DECLINED"]),
        "who ends what rings for them declines it"
    );
    let missed = bob.ask("{ viewer { notifications { nodes { kind } } } }").await;
    let missed = pluck(missed.at("viewer.notifications.nodes"), "kind");
    assert_eq!(missed, ["MISSED_CALL", "MISSED_CALL"], "what was taken back was missed");

    // In a group it is over when the last declines.
    let carol = app.user("carol").await;
    let walk = alice.group("Walk", &[&bob, &carol]).await;
    let a = alice.start_call(&walk).await;
    bob.mutate_ok("declineCall", json!({ "callId": a.call })).await;
    assert_eq!(bob.call_status(&a.call).await, json!(["RINGING", null]));
    carol.mutate_ok("declineCall", json!({ "callId": a.call })).await;
    assert_eq!(bob.call_status(&a.call).await, json!(["ENDED", "DECLINED"]));
}

#[engine_test]
async fn first_answering_device_wins(app: &TestApp) {
    let (alice, bob, chat) = alice_and_bob(app).await;
    let mut desk = bob.inbox_feed(None).await;
    desk.catch_up().await;
    let a = alice.start_call(&chat).await;
    desk.next_of_type("CallUpserted").await;
    let (phone, laptop) = tokio::join!(bob.try_join_call(&a.call, "phone"), bob.try_join_call(&a.call, "laptop"));
    let won: Vec<bool> = [&phone, &laptop].map(|reply| reply.body["data"]["joinCall"].is_object()).into();
    assert_eq!(won.iter().filter(|won| **won).count(), 1, "{phone:?} {laptop:?}");
    let (lost, device) = if won[0] { (&laptop, "phone") } else { (&phone, "laptop") };
    lost.assert_error("CONFLICT");
    let stops = loop {
        let event = desk.next_of_type("CallUpserted").await;
        if event["call"]["status"] == "ACTIVE" {
            break event;
        }
    };
    let bobs = stops["call"]["participants"][1].clone();
    assert_eq!(bobs, json!({ "user": { "id": "bob" }, "status": "JOINED", "deviceId": device }));
    // The other may take over when the first is out.
    let own = bob.fetch_call(&a.call).await["participants"][1]["id"].as_str().unwrap().to_owned();
    bob.try_leave_call(&JoinedCall { call: a.call.clone(), participant: own.clone() }).await.data();
    let other = bob.try_join_call(&a.call, "desk").await;
    assert_eq!(other.text("joinCall.participant.id"), own);
    assert_eq!(other.text("joinCall.participant.deviceId"), "desk");
}

#[engine_test]
async fn simultaneous_calls_join_one_call(app: &TestApp) {
    let (alice, bob, chat) = alice_and_bob(app).await;
    let (a, b) = tokio::join!(alice.start_call(&chat), bob.start_call(&chat));
    assert_eq!(a.call, b.call);
    assert_eq!(alice.call_status(&a.call).await, json!(["ACTIVE", null]));
    assert_eq!(alice.call_system_messages(&chat).await, ["CALL_STARTED"]);
    // Starting again is joining again.
    assert_eq!(alice.start_call(&chat).await.call, a.call);
}

#[engine_test]
async fn call_drops_lost_participant_and_ends_after_alone_timeout(app: &TestApp) {
    let ActiveCall { alice, bob, a, b, .. } = ActiveCall::start(app).await;
    let (mut hers, mut his) = (alice.caught_up_call_feed(&a).await, bob.caught_up_call_feed(&b).await);
    // One who is cut and comes back in time misses nothing and is missed by nobody.
    alice.send_signal(&a, &b, "OFFER", sdp("offer", "one")).await;
    let heard = his.next_of_type("SignalReceived").await;
    drop(his);
    app.advance(14);
    alice.send_signal(&a, &b, "OFFER", sdp("offer", "two")).await;
    alice.send_signal(&a, &b, "RENEGOTIATE", json!({})).await;
    let mut his = bob.call_feed(&b, heard["cursor"].as_str()).await;
    let missed: Vec<Value> = his.catch_up().await;
    let signals: Vec<&Value> = missed.iter().filter(|event| event["__typename"] == "SignalReceived").collect();
    assert_eq!(signals.len(), 2, "{missed:?}");
    assert_eq!(signals[0]["signal"]["payload"], sdp("offer", "two"));
    // A clock that leaps loses nobody who listens.
    app.advance(100);
    assert_eq!(alice.call_status(&a.call).await, json!(["ACTIVE", null]));
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(alice.call_status(&a.call).await, json!(["ACTIVE", null]));

    drop(his);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    app.advance(16);
    hers.wait_for_participant("bob", "LEFT").await;
    assert_eq!(alice.call_status(&a.call).await, json!(["ACTIVE", null]));
    // Their feed says so and is over: they join anew.
    let mut late = bob.call_feed(&b, heard["cursor"].as_str()).await;
    let rest = late.drain().await;
    let left = rest
        .iter()
        .any(|event| event["participant"]["user"]["id"] == "bob" && event["participant"]["status"] == "LEFT");
    assert!(left, "{rest:?}");
    let back = bob.join_call(&a.call).await;
    hers.wait_for_participant("bob", "JOINED").await;
    let mut his = bob.call_feed(&back, None).await;
    assert!(his.catch_up().await.iter().all(|event| event["__typename"] != "SignalReceived"), "no signals of before");
    bob.try_leave_call(&back).await.data();
    assert!(his.drain().await.iter().any(|event| event["participant"]["status"] == "LEFT"));
    app.advance(59);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(alice.call_status(&a.call).await, json!(["ACTIVE", null]));
    app.advance(2);
    becomes(&alice, &a.call, json!(["ENDED", "COMPLETED"])).await;
    hers.drain().await;
}

#[engine_test]
async fn lost_caller_fails_ringing_call(app: &TestApp) {
    let (alice, bob, chat) = alice_and_bob(app).await;
    let a = alice.start_call(&chat).await;
    drop(alice.caught_up_call_feed(&a).await);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    app.advance(16);
    becomes(&bob, &a.call, json!(["ENDED", "FAILED"])).await;
    assert_eq!(bob.call_history(json!({ "missedOnly": true })).await, [json!(["INCOMING", "FAILED"])]);
    // Who never listened is given longer.
    let a = alice.start_call(&chat).await;
    app.advance(40);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(bob.call_status(&a.call).await, json!(["RINGING", null]));
}

#[engine_test(settings = [("PARLOR_CALL_PARTICIPANTS", "3")])]
async fn group_call_connects_every_pair(app: &TestApp) {
    let alice = app.user("alice").await;
    let mut others = Vec::new();
    for name in ["bob", "carol", "dora"] {
        others.push(app.user(name).await);
    }
    let [bob, carol, dora] = &others[..] else { panic!() };
    let chat = alice.group("Walk", &[bob, carol, dora]).await;
    let a = alice.start_call(&chat).await;
    let b = bob.join_call(&a.call).await;
    let c = carol.join_call(&a.call).await;
    dora.try_join_call(&a.call, "phone").await.assert_error("CONFLICT");
    for (user, at, offers) in [(&alice, &a, [false, false]), (bob, &b, [true, false]), (carol, &c, [true, true])] {
        let mut feed = user.call_feed(at, None).await;
        let heard = feed.catch_up().await;
        let offered: Vec<bool> = heard.iter().filter_map(|event| event["negotiation"]["offers"].as_bool()).collect();
        assert_eq!(offered, offers, "of two one offers, and never both");
    }
    // Signals reach one, and nobody else.
    let (mut bobs, mut carols, mut watched) =
        (bob.call_feed(&b, None).await, carol.call_feed(&c, None).await, dora.watch_call(&a.call).await);
    for feed in [&mut bobs, &mut carols, &mut watched] {
        feed.catch_up().await;
    }
    alice.send_signal(&a, &b, "OFFER", sdp("offer", "for bob")).await;
    assert_eq!(bobs.next_signal().await[2], sdp("offer", "for bob"));
    // The next event of the others is one that follows the signal.
    let media = json!({ "audio": false, "video": false, "screen": false });
    let input = json!({ "callId": a.call, "participantId": a.participant, "media": media });
    alice.mutate_ok("updateCallMedia", input).await;
    for feed in [&mut carols, &mut watched] {
        let event = feed.next().await;
        assert_eq!((&event["participant"]["user"]["id"], &event["participant"]["media"]), (&json!("alice"), &media));
    }
    // For whom it rings still, it is missed while the others go on.
    app.advance(46);
    watched.wait_for_participant("dora", "MISSED").await;
    assert_eq!(alice.call_status(&a.call).await, json!(["ACTIVE", null]));
    let told = dora.ask("{ viewer { notifications { nodes { kind call { id } } } } }").await;
    assert_eq!(told.at("viewer.notifications.nodes")[0], json!({ "kind": "MISSED_CALL", "call": { "id": a.call } }));
    carol.try_leave_call(&c).await.data();
    dora.join_call(&a.call).await;
    bob.mutate("endCall", json!({ "callId": a.call })).await.assert_error("FORBIDDEN");
    alice.mutate_ok("endCall", json!({ "callId": a.call })).await;
    assert!(watched.drain().await.iter().any(|event| event["call"]["endReason"] == "COMPLETED"));
}

#[engine_test(settings = [("PARLOR_CALL_RING_MEMBERS", "2")])]
async fn call_in_large_chat_rings_for_nobody(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    let mut feed = bob.feed(&chat, None, None).await;
    feed.catch_up().await;
    let a = alice.start_call(&chat).await;
    assert_eq!(bob.fetch_call(&a.call).await["participants"].as_array().unwrap().len(), 1);
    let told = feed.next_of_type("MessageUpserted").await;
    assert_eq!(told["message"]["system"]["kind"], "CALL_STARTED");
    feed.next_of_type("ChatUpserted").await;
    bob.join_call(&a.call).await;
    assert_eq!(alice.call_status(&a.call).await, json!(["ACTIVE", null]));
    assert_eq!(carol.call_history(json!(null)).await, Vec::<Value>::new());
    assert_eq!(carol.fetch_call(&a.call).await["viewerDirection"], json!(null));
}
