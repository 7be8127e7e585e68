//! The course of a call: ringing, joining, signals, disconnects, and the end.

use serde_json::{Value, json};
use testkit::calls::{ActiveCall, alice_and_bob, sdp, wait_until_feed_is_closed};
use testkit::{Feed, TestApp, User, engine_test, pluck, wait_until};

/// Waits until the scheduler has brought a call into a state.
async fn wait_for_call_status(user: &User, call: &str, status: Value) {
    let description = format!("the status of the call {call} is {status}");
    wait_until(&description, async || user.call_status(call).await == status).await;
}

/// A ringing call whose end proves that the scheduler has processed all calls that were due.
///
/// The scheduler processes the due calls of a tick in the order in which their chats were created. The chat of this
/// call is newer than the other chats of the test, so its call is processed last.
struct MarkerCall {
    /// The feed of the caller, which also keeps the caller connected.
    feed: Feed,
}

impl MarkerCall {
    /// Starts a call that is missed after the ring timeout of 45 seconds.
    async fn start(app: &TestApp) -> Self {
        let (carol, dora) = (app.user("carol").await, app.user("dora").await);
        let chat = carol.group("Marker", &[&dora]).await;
        let call = carol.start_call(&chat).await;
        Self { feed: carol.caught_up_call_feed(&call).await }
    }

    async fn wait_until_missed(mut self) {
        assert!(self.feed.drain().await.iter().any(|event| event["call"]["endReason"] == "MISSED"));
    }
}

#[engine_test]
async fn call_is_answered_and_ended(app: &TestApp) {
    let (alice, bob, chat) = alice_and_bob(app).await;
    let mut bob_inbox = bob.inbox_feed(None).await;
    bob_inbox.catch_up().await;
    let a = alice.start_call(&chat).await;
    let ringing = bob_inbox.next_of_type("CallUpserted").await;
    assert_eq!(ringing["call"]["id"], a.call);
    assert_eq!(ringing["call"]["status"], "RINGING");
    let participants = json!([
        { "user": { "id": "alice" }, "status": "JOINED", "deviceId": "" },
        { "user": { "id": "bob" }, "status": "RINGING", "deviceId": "" },
    ]);
    assert_eq!(ringing["call"]["participants"], participants);
    let mut alice_feed = alice.call_feed(&a, None).await;
    let initial_types = pluck(&Value::from(alice_feed.catch_up().await), "__typename");
    assert_eq!(initial_types, ["CallUpserted", "ParticipantUpserted", "ParticipantUpserted"]);
    let b = bob.join_call(&a.call).await;
    let answered = alice_feed.next_of_type("CallUpserted").await;
    assert_eq!(answered["call"]["status"], "ACTIVE");
    let joined = alice_feed.wait_for_participant("bob", "JOINED").await;
    assert_eq!(joined["negotiation"], json!({ "offers": false, "polite": false }));
    let mut bob_feed = bob.call_feed(&b, None).await;
    let alice_joined = bob_feed.wait_for_participant("alice", "JOINED").await;
    assert_eq!(
        alice_joined["negotiation"],
        json!({ "offers": true, "polite": true }),
        "the participant who joined later sends the offer"
    );
    assert_eq!(bob_feed.wait_for_participant("bob", "JOINED").await["negotiation"], json!(null));
    bob_feed.catch_up().await;
    bob.send_signal(&b, &a, "OFFER", sdp("offer", "of bob")).await;
    let candidate = json!([{ "candidate": "candidate:1 1 udp 1 127.0.0.1 9 typ host", "sdpMid": "0" }]);
    bob.send_signal(&b, &a, "ICE_CANDIDATES", candidate.clone()).await;
    alice.send_signal(&a, &b, "ANSWER", sdp("answer", "of alice")).await;
    assert_eq!(alice_feed.next_signal().await, json!(["bob", "OFFER", sdp("offer", "of bob")]));
    assert_eq!(alice_feed.next_signal().await, json!(["bob", "ICE_CANDIDATES", candidate]));
    assert_eq!(bob_feed.next_signal().await, json!(["alice", "ANSWER", sdp("answer", "of alice")]));
    let media = json!({ "audio": false, "video": true, "screen": true });
    bob.mutate_ok("updateCallMedia", json!({ "callId": a.call, "participantId": b.participant, "media": media })).await;
    assert_eq!(alice_feed.wait_for_participant("bob", "JOINED").await["participant"]["media"], media);
    assert_eq!(alice.fetch_chat(&chat, "activeCall { id status }").await["activeCall"]["status"], "ACTIVE");

    app.advance(90);
    alice.mutate_ok("endCall", json!({ "callId": a.call })).await;
    alice.mutate_ok("endCall", json!({ "callId": a.call })).await;
    assert!(bob_feed.drain().await.iter().any(|event| event["call"]["endReason"] == "COMPLETED"));
    alice_feed.drain().await;
    let ended = bob.fetch_call(&a.call).await;
    assert!((90..100).contains(&ended["durationSeconds"].as_i64().unwrap()), "{ended}");
    assert_eq!(pluck(&ended["participants"], "status"), ["LEFT", "LEFT"]);
    assert_eq!(alice.call_history(json!(null)).await, [json!(["OUTGOING", "COMPLETED"])]);
    assert_eq!(bob.call_history(json!(null)).await, [json!(["INCOMING", "COMPLETED"])]);
    assert_eq!(bob.call_system_messages(&chat).await, ["CALL_STARTED", "CALL_ENDED"]);
    assert_eq!(alice.fetch_chat(&chat, "activeCall { id }").await["activeCall"], json!(null));
    bob.try_join_call(&a.call, "phone").await.assert_error("CONFLICT");
    bob.try_send_signal(&b, &a.connection, "OFFER", sdp("offer", "late")).await.assert_error("CONFLICT");
    assert_eq!(alice.call_history(json!({ "missedOnly": true })).await, Vec::<Value>::new());
}

#[engine_test]
async fn unanswered_call_becomes_missed(app: &TestApp) {
    let (alice, bob, chat) = alice_and_bob(app).await;
    let mut bob_inbox = bob.inbox_feed(None).await;
    bob_inbox.catch_up().await;
    let a = alice.start_call(&chat).await;
    let mut alice_feed = alice.caught_up_call_feed(&a).await;
    app.advance(44);
    assert_eq!(alice.call_status(&a.call).await, json!(["RINGING", null]));
    app.advance(2);
    assert!(alice_feed.drain().await.iter().any(|event| event["call"]["endReason"] == "MISSED"));
    let event = bob_inbox.next_of_type("NotificationUpserted").await;
    assert_eq!(
        event["notification"],
        json!({ "kind": "MISSED_CALL", "call": { "id": a.call }, "message": { "system": { "kind": "CALL_MISSED" } } })
    );
    assert_eq!(bob.call_history(json!({ "missedOnly": true })).await, [json!(["INCOMING", "MISSED"])]);
    assert_eq!(alice.call_history(json!({ "missedOnly": true })).await, Vec::<Value>::new());
    assert_eq!(alice.call_system_messages(&chat).await, ["CALL_STARTED", "CALL_MISSED"]);
    let own = alice.ask("{ viewer { notifications { nodes { kind } } } }").await;
    assert_eq!(own.at("viewer.notifications.nodes"), &json!([]));
    let call = bob.fetch_call(&a.call).await;
    assert_eq!((&call["durationSeconds"], &call["ringsUntil"]), (&json!(null), &json!(null)));
    // Reading the system message in the chat also marks the notification as read.
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
        "ending a call that rings for the viewer declines it"
    );
    let missed = bob.ask("{ viewer { notifications { nodes { kind } } } }").await;
    let missed = pluck(missed.at("viewer.notifications.nodes"), "kind");
    assert_eq!(missed, ["MISSED_CALL", "MISSED_CALL"], "cancelled calls count as missed");

    // A call in a group ends when the last called member declines.
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
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let mut bob_inbox = bob.inbox_feed(None).await;
    bob_inbox.catch_up().await;
    let a = alice.start_call(&chat).await;
    bob_inbox.next_of_type("CallUpserted").await;
    let (phone, laptop) = tokio::join!(bob.try_join_call(&a.call, "phone"), bob.try_join_call(&a.call, "laptop"));
    let joined: Vec<bool> = [&phone, &laptop].map(|reply| reply.body["data"]["joinCall"].is_object()).into();
    assert_eq!(joined.iter().filter(|joined| **joined).count(), 1, "{phone:?} {laptop:?}");
    let (lost, device) = if joined[0] { (&laptop, "phone") } else { (&phone, "laptop") };
    lost.assert_error("CONFLICT");
    let answered = loop {
        let event = bob_inbox.next_of_type("CallUpserted").await;
        if event["call"]["status"] == "ACTIVE" {
            break event;
        }
    };
    let participant = answered["call"]["participants"][1].clone();
    assert_eq!(participant, json!({ "user": { "id": "bob" }, "status": "JOINED", "deviceId": device }));
    // Another device can join after the first one has left.
    let participant_id = bob.fetch_call(&a.call).await["participants"][1]["id"].as_str().unwrap().to_owned();
    bob.mutate_ok("leaveCall", json!({ "callId": a.call, "participantId": participant_id })).await;
    let other = bob.try_join_call(&a.call, "desk").await;
    assert_eq!(other.text("joinCall.participant.id"), participant_id);
    assert_eq!(other.text("joinCall.participant.deviceId"), "desk");
}

#[engine_test]
async fn simultaneous_calls_join_one_call(app: &TestApp) {
    let (alice, bob, chat) = alice_and_bob(app).await;
    let (a, b) = tokio::join!(alice.start_call(&chat), bob.start_call(&chat));
    assert_eq!(a.call, b.call);
    assert_eq!(alice.call_status(&a.call).await, json!(["ACTIVE", null]));
    assert_eq!(alice.call_system_messages(&chat).await, ["CALL_STARTED"]);
    // Starting a call while one is active joins the active one.
    assert_eq!(alice.start_call(&chat).await.call, a.call);
}

#[engine_test]
async fn call_drops_lost_participant_and_ends_after_alone_timeout(app: &TestApp) {
    let ActiveCall { alice, bob, a, b, .. } = ActiveCall::start_in_group(app).await;
    let (mut alice_feed, mut bob_feed) = (alice.caught_up_call_feed(&a).await, bob.caught_up_call_feed(&b).await);
    // A participant whose feed resumes before the disconnect timeout stays joined and misses no signal.
    alice.send_signal(&a, &b, "OFFER", sdp("offer", "one")).await;
    let last_event = bob_feed.next_of_type("SignalReceived").await;
    drop(bob_feed);
    app.advance(14);
    alice.send_signal(&a, &b, "OFFER", sdp("offer", "two")).await;
    alice.send_signal(&a, &b, "RENEGOTIATE", json!({})).await;
    let mut bob_feed = bob.call_feed(&b, last_event["cursor"].as_str()).await;
    let missed: Vec<Value> = bob_feed.catch_up().await;
    let signals: Vec<&Value> = missed.iter().filter(|event| event["__typename"] == "SignalReceived").collect();
    assert_eq!(signals.len(), 2, "{missed:?}");
    assert_eq!(signals[0]["signal"]["payload"], sdp("offer", "two"));
    // A jump of the clock disconnects no participant with an open feed.
    let marker = MarkerCall::start(app).await;
    app.advance(100);
    assert_eq!(alice.call_status(&a.call).await, json!(["ACTIVE", null]));
    marker.wait_until_missed().await;
    assert_eq!(alice.call_status(&a.call).await, json!(["ACTIVE", null]));

    drop(bob_feed);
    wait_until_feed_is_closed(app, "bob").await;
    app.advance(16);
    alice_feed.wait_for_participant("bob", "LEFT").await;
    assert_eq!(alice.call_status(&a.call).await, json!(["ACTIVE", null]));
    // The feed of a participant who has left reports that and ends. The user can join again.
    let mut late_feed = bob.call_feed(&b, last_event["cursor"].as_str()).await;
    let events = late_feed.drain().await;
    let left = events
        .iter()
        .any(|event| event["participant"]["user"]["id"] == "bob" && event["participant"]["status"] == "LEFT");
    assert!(left, "{events:?}");
    let rejoined = bob.join_call(&a.call).await;
    alice_feed.wait_for_participant("bob", "JOINED").await;
    let mut bob_feed = bob.call_feed(&rejoined, None).await;
    assert!(
        bob_feed.catch_up().await.iter().all(|event| event["__typename"] != "SignalReceived"),
        "signals from before the rejoin are not delivered"
    );
    let marker = MarkerCall::start(app).await;
    bob.try_leave_call(&rejoined).await.data();
    assert!(bob_feed.drain().await.iter().any(|event| event["participant"]["status"] == "LEFT"));
    app.advance(59);
    marker.wait_until_missed().await;
    assert_eq!(alice.call_status(&a.call).await, json!(["ACTIVE", null]));
    app.advance(2);
    wait_for_call_status(&alice, &a.call, json!(["ENDED", "COMPLETED"])).await;
    alice_feed.drain().await;
}

#[engine_test]
async fn lost_caller_fails_ringing_call(app: &TestApp) {
    let (alice, bob, chat) = alice_and_bob(app).await;
    let a = alice.start_call(&chat).await;
    drop(alice.caught_up_call_feed(&a).await);
    wait_until_feed_is_closed(app, "alice").await;
    app.advance(16);
    wait_for_call_status(&bob, &a.call, json!(["ENDED", "FAILED"])).await;
    assert_eq!(bob.call_history(json!({ "missedOnly": true })).await, [json!(["INCOMING", "FAILED"])]);
    // A participant who has not opened a feed yet has a longer timeout.
    let marker = MarkerCall::start(app).await;
    app.advance(10);
    let a = alice.start_call(&chat).await;
    app.advance(40);
    marker.wait_until_missed().await;
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
        let events = feed.catch_up().await;
        let sent_offers: Vec<bool> =
            events.iter().filter_map(|event| event["negotiation"]["offers"].as_bool()).collect();
        assert_eq!(sent_offers, offers, "exactly one of each two participants sends the offer");
    }
    // Without a feed the host would be lost, and the next participant would be the host.
    let _alice_feed = alice.call_feed(&a, None).await;
    // A signal reaches its recipient only.
    let (mut bob_feed, mut carol_feed, mut observer_feed) =
        (bob.call_feed(&b, None).await, carol.call_feed(&c, None).await, dora.watch_call(&a.call).await);
    for feed in [&mut bob_feed, &mut carol_feed, &mut observer_feed] {
        feed.catch_up().await;
    }
    alice.send_signal(&a, &b, "OFFER", sdp("offer", "for bob")).await;
    assert_eq!(bob_feed.next_signal().await[2], sdp("offer", "for bob"));
    // The other feeds receive a change that follows the signal, and changes of connections before it.
    let media = json!({ "audio": false, "video": false, "screen": false });
    let input = json!({ "callId": a.call, "participantId": a.participant, "media": media });
    alice.mutate_ok("updateCallMedia", input).await;
    for feed in [&mut carol_feed, &mut observer_feed] {
        loop {
            let event = feed.next().await;
            assert_eq!(event["__typename"], "ParticipantUpserted", "{event}");
            if event["participant"]["user"]["id"] == "alice" && event["participant"]["media"] == media {
                break;
            }
        }
    }
    // The member for whom the call still rings misses it; the others stay in it.
    app.advance(46);
    observer_feed.wait_for_participant("dora", "MISSED").await;
    assert_eq!(alice.call_status(&a.call).await, json!(["ACTIVE", null]));
    let reply = dora.ask("{ viewer { notifications { nodes { kind call { id } } } } }").await;
    assert_eq!(reply.at("viewer.notifications.nodes")[0], json!({ "kind": "MISSED_CALL", "call": { "id": a.call } }));
    carol.try_leave_call(&c).await.data();
    dora.join_call(&a.call).await;
    bob.mutate("endCall", json!({ "callId": a.call })).await.assert_error("FORBIDDEN");
    alice.mutate_ok("endCall", json!({ "callId": a.call })).await;
    assert!(observer_feed.drain().await.iter().any(|event| event["call"]["endReason"] == "COMPLETED"));
}

#[engine_test(settings = [("PARLOR_CALL_RING_MEMBERS", "2")])]
async fn call_in_large_chat_rings_for_nobody(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    let mut feed = bob.feed(&chat, None, None).await;
    feed.catch_up().await;
    let a = alice.start_call(&chat).await;
    assert_eq!(bob.fetch_call(&a.call).await["participants"].as_array().unwrap().len(), 1);
    assert_eq!(bob.call_status(&a.call).await, json!(["ACTIVE", null]));
    let event = feed.next_of_type("MessageUpserted").await;
    assert_eq!(event["message"]["system"]["kind"], "CALL_STARTED");
    feed.next_of_type("ChatUpserted").await;
    bob.join_call(&a.call).await;
    assert_eq!(alice.call_status(&a.call).await, json!(["ACTIVE", null]));
    assert_eq!(carol.call_history(json!(null)).await, Vec::<Value>::new());
    assert_eq!(carol.fetch_call(&a.call).await["viewerDirection"], json!(null));
}
