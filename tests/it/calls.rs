//! Calls, from their first ring to what is left of them.

use serde_json::{Value, json};

use crate::support::calls::{InCall, Talk, sdp, two};
use crate::support::{User, each, each_engine, each_engine_with};

/// Waits until the call is so: the server's clock acts by itself, a moment later.
async fn becomes(user: &User, call: &str, status: Value) {
    for _ in 0..100 {
        if user.call_is(call).await == status {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{} is not {status}", user.sees_call(call).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_answered_and_ended() {
    each_engine(async |app| {
        let (alice, bob, chat) = two(app).await;
        let mut bobs = bob.inbox(None).await;
        bobs.level().await;
        let a = alice.calls(&chat).await;
        let rings = bobs.until("CallUpserted").await;
        assert_eq!(rings["call"]["id"], a.call);
        assert_eq!(rings["call"]["status"], "RINGING");
        let people = json!([
            { "user": { "id": "alice" }, "status": "JOINED", "deviceId": "phone" },
            { "user": { "id": "bob" }, "status": "RINGING", "deviceId": "" },
        ]);
        assert_eq!(rings["call"]["participants"], people);
        let mut hers = alice.attends(&a, None).await;
        let begins = each(&Value::from(hers.level().await), "__typename");
        assert_eq!(begins, ["CallUpserted", "ParticipantUpserted", "ParticipantUpserted"]);
        let b = bob.joins(&a.call).await;
        let answered = hers.until("CallUpserted").await;
        assert_eq!(answered["call"]["status"], "ACTIVE");
        let joined = hers.participant("bob", "JOINED").await;
        assert_eq!(joined["negotiation"], json!({ "offers": false, "polite": false }));
        let mut his = bob.attends(&b, None).await;
        let of_alice = his.participant("alice", "JOINED").await;
        assert_eq!(of_alice["negotiation"], json!({ "offers": true, "polite": true }), "who comes later offers");
        assert_eq!(his.participant("bob", "JOINED").await["negotiation"], json!(null));
        his.level().await;
        bob.signals(&b, &a, "OFFER", sdp("offer", "of bob")).await;
        let candidate = json!([{ "candidate": "candidate:1 1 udp 1 127.0.0.1 9 typ host", "sdpMid": "0" }]);
        bob.signals(&b, &a, "ICE_CANDIDATES", candidate.clone()).await;
        alice.signals(&a, &b, "ANSWER", sdp("answer", "of alice")).await;
        assert_eq!(hers.signal().await, json!(["bob", "OFFER", sdp("offer", "of bob")]));
        assert_eq!(hers.signal().await, json!(["bob", "ICE_CANDIDATES", candidate]));
        assert_eq!(his.signal().await, json!(["alice", "ANSWER", sdp("answer", "of alice")]));
        let media = json!({ "audio": false, "video": true, "screen": true });
        bob.does("updateCallMedia", json!({ "callId": a.call, "participantId": b.own, "media": media })).await;
        assert_eq!(hers.participant("bob", "JOINED").await["participant"]["media"], media);
        assert_eq!(alice.sees_chat(&chat, "activeCall { id status }").await["activeCall"]["status"], "ACTIVE");

        app.advance(90);
        alice.does("endCall", json!({ "callId": a.call })).await;
        alice.does("endCall", json!({ "callId": a.call })).await;
        assert!(his.rest().await.iter().any(|event| event["call"]["endReason"] == "COMPLETED"));
        hers.rest().await;
        let ended = bob.sees_call(&a.call).await;
        assert!((90..100).contains(&ended["durationSeconds"].as_i64().unwrap()), "{ended}");
        assert_eq!(each(&ended["participants"], "status"), ["LEFT", "LEFT"]);
        assert_eq!(alice.history(json!(null)).await, [json!(["OUTGOING", "COMPLETED"])]);
        assert_eq!(bob.history(json!(null)).await, [json!(["INCOMING", "COMPLETED"])]);
        assert_eq!(bob.call_notices(&chat).await, ["CALL_STARTED", "CALL_ENDED"]);
        assert_eq!(alice.sees_chat(&chat, "activeCall { id }").await["activeCall"], json!(null));
        bob.try_join(&a.call, "phone").await.refused("CONFLICT");
        bob.try_signal(&b, &a.own, "OFFER", sdp("offer", "late")).await.refused("CONFLICT");
        assert_eq!(alice.history(json!({ "missedOnly": true })).await, Vec::<Value>::new());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_answers_is_missed() {
    each_engine(async |app| {
        let (alice, bob, chat) = two(app).await;
        let mut bobs = bob.inbox(None).await;
        bobs.level().await;
        let a = alice.calls(&chat).await;
        let mut hers = alice.listens(&a).await;
        app.advance(44);
        assert_eq!(alice.call_is(&a.call).await, json!(["RINGING", null]));
        app.advance(2);
        assert!(hers.rest().await.iter().any(|event| event["call"]["endReason"] == "MISSED"));
        let told = bobs.until("NotificationUpserted").await;
        assert_eq!(
            told["notification"],
            json!({ "kind": "MISSED_CALL", "call": { "id": a.call }, "message": { "system": { "kind": "CALL_MISSED" } } })
        );
        assert_eq!(bob.history(json!({ "missedOnly": true })).await, [json!(["INCOMING", "MISSED"])]);
        assert_eq!(alice.history(json!({ "missedOnly": true })).await, Vec::<Value>::new());
        assert_eq!(alice.call_notices(&chat).await, ["CALL_STARTED", "CALL_MISSED"]);
        let own = alice.ask("{ viewer { notifications { nodes { kind } } } }").await;
        assert_eq!(own.at("viewer.notifications.nodes"), &json!([]));
        let call = bob.sees_call(&a.call).await;
        assert_eq!((&call["durationSeconds"], &call["ringsUntil"]), (&json!(null), &json!(null)));
        // Who reads what the chat tells of it has read the notification.
        bob.does("markRead", json!({ "chatId": chat })).await;
        let unread = bob.ask("{ viewer { unread { notifications } } }").await;
        assert_eq!(unread.at("viewer.unread.notifications"), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_declined_or_taken_back() {
    each_engine(async |app| {
        let (alice, bob, chat) = two(app).await;
        let a = alice.calls(&chat).await;
        alice.act("declineCall", json!({ "callId": a.call })).await.refused("CONFLICT");
        for _ in 0..2 {
            bob.does("declineCall", json!({ "callId": a.call })).await;
        }
        assert_eq!(bob.call_is(&a.call).await, json!(["ENDED", "DECLINED"]));
        assert_eq!(bob.call_notices(&chat).await, ["CALL_STARTED", "CALL_ENDED"]);

        let a = alice.calls(&chat).await;
        for _ in 0..2 {
            alice.try_leave(&a).await.data();
        }
        assert_eq!(bob.call_is(&a.call).await, json!(["ENDED", "CANCELLED"]));
        bob.act("declineCall", json!({ "callId": a.call })).await.refused("CONFLICT");
        let a = alice.calls(&chat).await;
        alice.does("endCall", json!({ "callId": a.call })).await;
        assert_eq!(bob.call_is(&a.call).await, json!(["ENDED", "CANCELLED"]));
        let a = alice.calls(&chat).await;
        bob.does("endCall", json!({ "callId": a.call })).await;
        assert_eq!(
            bob.call_is(&a.call).await,
            json!(["ENDED", "DECLINED"]),
            "who ends what rings for them declines it"
        );
        let missed = bob.ask("{ viewer { notifications { nodes { kind } } } }").await;
        let missed = each(missed.at("viewer.notifications.nodes"), "kind");
        assert_eq!(missed, ["MISSED_CALL", "MISSED_CALL"], "what was taken back was missed");

        // In a group it is over when the last declines.
        let carol = app.user("carol").await;
        let walk = alice.group("Walk", &[&bob, &carol]).await;
        let a = alice.calls(&walk).await;
        bob.does("declineCall", json!({ "callId": a.call })).await;
        assert_eq!(bob.call_is(&a.call).await, json!(["RINGING", null]));
        carol.does("declineCall", json!({ "callId": a.call })).await;
        assert_eq!(bob.call_is(&a.call).await, json!(["ENDED", "DECLINED"]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_of_a_persons_devices_wins() {
    each_engine(async |app| {
        let (alice, bob, chat) = two(app).await;
        let mut desk = bob.inbox(None).await;
        desk.level().await;
        let a = alice.calls(&chat).await;
        desk.until("CallUpserted").await;
        let (phone, laptop) = tokio::join!(bob.try_join(&a.call, "phone"), bob.try_join(&a.call, "laptop"));
        let won: Vec<bool> = [&phone, &laptop].map(|reply| reply.body["data"]["joinCall"].is_object()).into();
        assert_eq!(won.iter().filter(|won| **won).count(), 1, "{phone:?} {laptop:?}");
        let (lost, device) = if won[0] { (&laptop, "phone") } else { (&phone, "laptop") };
        lost.refused("CONFLICT");
        let stops = loop {
            let event = desk.until("CallUpserted").await;
            if event["call"]["status"] == "ACTIVE" {
                break event;
            }
        };
        let bobs = stops["call"]["participants"][1].clone();
        assert_eq!(bobs, json!({ "user": { "id": "bob" }, "status": "JOINED", "deviceId": device }));
        // The other may take over when the first is out.
        let own = bob.sees_call(&a.call).await["participants"][1]["id"].as_str().unwrap().to_owned();
        bob.try_leave(&InCall { call: a.call.clone(), own: own.clone() }).await.data();
        let other = bob.try_join(&a.call, "desk").await;
        assert_eq!(other.text("joinCall.participant.id"), own);
        assert_eq!(other.text("joinCall.participant.deviceId"), "desk");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_call_each_other_at_once_meet() {
    each_engine(async |app| {
        let (alice, bob, chat) = two(app).await;
        let (a, b) = tokio::join!(alice.calls(&chat), bob.calls(&chat));
        assert_eq!(a.call, b.call);
        assert_eq!(alice.call_is(&a.call).await, json!(["ACTIVE", null]));
        assert_eq!(alice.call_notices(&chat).await, ["CALL_STARTED"]);
        // Starting again is joining again.
        assert_eq!(alice.calls(&chat).await.call, a.call);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_lost_has_left_and_who_is_alone_stays_a_minute() {
    each_engine(async |app| {
        let Talk { alice, bob, a, b, .. } = Talk::begin(app).await;
        let (mut hers, mut his) = (alice.listens(&a).await, bob.listens(&b).await);
        // One who is cut and comes back in time misses nothing and is missed by nobody.
        alice.signals(&a, &b, "OFFER", sdp("offer", "one")).await;
        let heard = his.until("SignalReceived").await;
        drop(his);
        app.advance(14);
        alice.signals(&a, &b, "OFFER", sdp("offer", "two")).await;
        alice.signals(&a, &b, "RENEGOTIATE", json!({})).await;
        let mut his = bob.attends(&b, heard["cursor"].as_str()).await;
        let missed: Vec<Value> = his.level().await;
        let signals: Vec<&Value> = missed.iter().filter(|event| event["__typename"] == "SignalReceived").collect();
        assert_eq!(signals.len(), 2, "{missed:?}");
        assert_eq!(signals[0]["signal"]["payload"], sdp("offer", "two"));
        // A clock that leaps loses nobody who listens.
        app.advance(100);
        assert_eq!(alice.call_is(&a.call).await, json!(["ACTIVE", null]));
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(alice.call_is(&a.call).await, json!(["ACTIVE", null]));

        drop(his);
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        app.advance(16);
        hers.participant("bob", "LEFT").await;
        assert_eq!(alice.call_is(&a.call).await, json!(["ACTIVE", null]));
        // Their feed says so and is over: they join anew.
        let mut late = bob.attends(&b, heard["cursor"].as_str()).await;
        let rest = late.rest().await;
        let left = rest
            .iter()
            .any(|event| event["participant"]["user"]["id"] == "bob" && event["participant"]["status"] == "LEFT");
        assert!(left, "{rest:?}");
        let back = bob.joins(&a.call).await;
        hers.participant("bob", "JOINED").await;
        let mut his = bob.attends(&back, None).await;
        assert!(his.level().await.iter().all(|event| event["__typename"] != "SignalReceived"), "no signals of before");
        bob.try_leave(&back).await.data();
        assert!(his.rest().await.iter().any(|event| event["participant"]["status"] == "LEFT"));
        app.advance(59);
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        assert_eq!(alice.call_is(&a.call).await, json!(["ACTIVE", null]));
        app.advance(2);
        becomes(&alice, &a.call, json!(["ENDED", "COMPLETED"])).await;
        hers.rest().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_is_lost_fails_the_call() {
    each_engine(async |app| {
        let (alice, bob, chat) = two(app).await;
        let a = alice.calls(&chat).await;
        drop(alice.listens(&a).await);
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        app.advance(16);
        becomes(&bob, &a.call, json!(["ENDED", "FAILED"])).await;
        assert_eq!(bob.history(json!({ "missedOnly": true })).await, [json!(["INCOMING", "FAILED"])]);
        // Who never listened is given longer.
        let a = alice.calls(&chat).await;
        app.advance(40);
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        assert_eq!(bob.call_is(&a.call).await, json!(["RINGING", null]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_meet_each_with_each() {
    each_engine_with(&[("PARLOR_CALL_PARTICIPANTS", "3")], async |app| {
        let alice = app.user("alice").await;
        let mut others = Vec::new();
        for name in ["bob", "carol", "dora"] {
            others.push(app.user(name).await);
        }
        let [bob, carol, dora] = &others[..] else { panic!() };
        let chat = alice.group("Walk", &[bob, carol, dora]).await;
        let a = alice.calls(&chat).await;
        let b = bob.joins(&a.call).await;
        let c = carol.joins(&a.call).await;
        dora.try_join(&a.call, "phone").await.refused("CONFLICT");
        for (user, at, offers) in [(&alice, &a, [false, false]), (bob, &b, [true, false]), (carol, &c, [true, true])] {
            let mut feed = user.attends(at, None).await;
            let heard = feed.level().await;
            let offered: Vec<bool> =
                heard.iter().filter_map(|event| event["negotiation"]["offers"].as_bool()).collect();
            assert_eq!(offered, offers, "of two one offers, and never both");
        }
        // Signals reach one, and nobody else.
        let (mut bobs, mut carols, mut watched) =
            (bob.attends(&b, None).await, carol.attends(&c, None).await, dora.watches(&a.call).await);
        for feed in [&mut bobs, &mut carols, &mut watched] {
            feed.level().await;
        }
        alice.signals(&a, &b, "OFFER", sdp("offer", "for bob")).await;
        assert_eq!(bobs.signal().await[2], sdp("offer", "for bob"));
        carols.is_silent().await;
        watched.is_silent().await;
        // For whom it rings still, it is missed while the others go on.
        app.advance(46);
        watched.participant("dora", "MISSED").await;
        assert_eq!(alice.call_is(&a.call).await, json!(["ACTIVE", null]));
        let told = dora.ask("{ viewer { notifications { nodes { kind call { id } } } } }").await;
        assert_eq!(
            told.at("viewer.notifications.nodes")[0],
            json!({ "kind": "MISSED_CALL", "call": { "id": a.call } })
        );
        carol.try_leave(&c).await.data();
        dora.joins(&a.call).await;
        bob.act("endCall", json!({ "callId": a.call })).await.refused("FORBIDDEN");
        alice.does("endCall", json!({ "callId": a.call })).await;
        assert!(watched.rest().await.iter().any(|event| event["call"]["endReason"] == "COMPLETED"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_large_chat_it_rings_for_nobody() {
    each_engine_with(&[("PARLOR_CALL_RING_MEMBERS", "2")], async |app| {
        let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
        let chat = alice.group("Walk", &[&bob, &carol]).await;
        let mut feed = bob.feed(&chat, None, None).await;
        feed.level().await;
        let a = alice.calls(&chat).await;
        assert_eq!(bob.sees_call(&a.call).await["participants"].as_array().unwrap().len(), 1);
        let told = feed.until("MessageUpserted").await;
        assert_eq!(told["message"]["system"]["kind"], "CALL_STARTED");
        feed.until("ChatUpserted").await;
        bob.joins(&a.call).await;
        assert_eq!(alice.call_is(&a.call).await, json!(["ACTIVE", null]));
        assert_eq!(carol.history(json!(null)).await, Vec::<Value>::new());
        assert_eq!(carol.sees_call(&a.call).await["viewerDirection"], json!(null));
    })
    .await;
}
