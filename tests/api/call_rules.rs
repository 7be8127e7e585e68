//! Rights in calls, the limits of signals, the feeds of calls, and their history and statistics.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};
use testkit::calls::{ActiveCall, JoinedCall, alice_and_bob, sdp};
use testkit::keys::sign_with_secret;
use testkit::{Database, Engine, TestApp, User, engine_test, pluck};

#[engine_test]
async fn call_start_needs_right_and_join_needs_membership(app: &TestApp) {
    let (alice, bob, eve) = (app.user("alice").await, app.user("bob").await, app.user("eve").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let viewer_only = app.user_in("demo", "alice", Some(&["chat.view"])).await;
    viewer_only.try_start_call(&chat, "phone").await.assert_error("FORBIDDEN");
    let policy = json!([{ "action": "START_CALL", "role": "MODERATOR" }]);
    alice.mutate_ok("updateChat", json!({ "chatId": chat, "policy": policy })).await;
    bob.try_start_call(&chat, "phone").await.assert_error("FORBIDDEN");
    let can = bob.fetch_chat(&chat, "viewerCan { action allowed }").await;
    assert!(can["viewerCan"].as_array().unwrap().contains(&json!({ "action": "START_CALL", "allowed": false })));
    let a = alice.start_call(&chat).await;
    // Joining a call needs neither the right nor the permission to start one.
    let bob_viewer_only = app.user_in("demo", "bob", Some(&["chat.view"])).await;
    let b = bob_viewer_only.join_call(&a.call).await;
    eve.try_start_call(&chat, "phone").await.assert_error("NOT_FOUND");
    eve.try_join_call(&a.call, "phone").await.assert_error("NOT_FOUND");
    assert_eq!(eve.fetch_call(&a.call).await, json!(null));
    assert_eq!(eve.watch_call(&a.call).await.error_code().await, "NOT_FOUND");
    assert_eq!(bob.call_feed(&a, None).await.error_code().await, "NOT_FOUND", "a feed of another user's participant");
    for device in ["", " ", &"x".repeat(129), "a\nb"] {
        bob.try_join_call(&a.call, device).await.assert_bad_input("deviceId");
    }
    // A user cannot act for the participant of another user.
    bob.try_leave_call(&a).await.assert_error("NOT_FOUND");
    let input = json!({ "callId": b.call, "participantId": a.participant, "media": { "audio": true, "video": true, "screen": true } });
    bob.mutate("updateCallMedia", input).await.assert_error("NOT_FOUND");
    alice.mutate_ok("archiveChat", json!({ "chatId": chat, "archived": true })).await;
    alice.mutate_ok("endCall", json!({ "callId": a.call })).await;
    alice.try_start_call(&chat, "phone").await.assert_error("FORBIDDEN");
    // Users who have not joined a channel do not see its calls.
    let news = alice.chat("CHANNEL", "News", &[]).await;
    let a = alice.start_call(&news).await;
    assert_eq!(eve.fetch_call(&a.call).await, json!(null));
    assert_eq!(eve.fetch_chat(&news, "activeCall { id }").await["activeCall"], json!(null));
    eve.try_join_call(&a.call, "phone").await.assert_error("NOT_FOUND");
    eve.try_start_call(&news, "phone").await.assert_error("FORBIDDEN");
}

#[engine_test]
async fn removed_chat_member_leaves_call_at_once(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    let a = alice.start_call(&chat).await;
    let (b, c) = (bob.join_call(&a.call).await, carol.join_call(&a.call).await);
    let (mut alice_feed, mut bob_feed) = (alice.caught_up_call_feed(&a).await, bob.caught_up_call_feed(&b).await);
    alice.mutate_ok("removeMember", json!({ "chatId": chat, "userId": "bob" })).await;
    assert_eq!(bob_feed.error_code().await, "FORBIDDEN");
    bob.try_send_signal(&b, &a.connection, "OFFER", sdp("offer", "still here?")).await.assert_error("NOT_FOUND");
    bob.try_join_call(&a.call, "phone").await.assert_error("NOT_FOUND");
    alice_feed.wait_for_participant("bob", "LEFT").await;
    // A call stops ringing for a removed member, and ends when no other member can answer it.
    let other_chat = alice.group("Run", &[&bob]).await;
    let other_call = alice.start_call_on(&other_chat, "laptop").await;
    alice.mutate_ok("removeMember", json!({ "chatId": other_chat, "userId": "bob" })).await;
    assert_eq!(alice.call_status(&other_call.call).await, json!(["ENDED", "MISSED"]));
    let mut carol_feed = carol.caught_up_call_feed(&c).await;
    alice.mutate_ok("deleteChat", json!({ "chatId": chat })).await;
    assert_eq!(carol_feed.error_code().await, "FORBIDDEN");
    assert_eq!(carol.fetch_call(&a.call).await, json!(null));
    assert_eq!(carol.call_history(json!(null)).await, Vec::<Value>::new());
}

#[engine_test(settings = [("PARLOR_CALL_SIGNALS_PER_MINUTE", "5")])]
async fn signal_shape_size_and_rate_are_limited(app: &TestApp) {
    let (alice, bob, chat) = alice_and_bob(app).await;
    let a = alice.start_call(&chat).await;
    bob.try_send_signal(&a, &a.connection, "OFFER", sdp("offer", "")).await.assert_error("NOT_FOUND");
    let b = bob.join_call(&a.call).await;
    for (kind, payload) in [
        ("OFFER", json!({ "type": "offer" })),
        ("OFFER", sdp("answer", "")),
        ("ANSWER", json!("v=0")),
        ("ICE_CANDIDATES", json!([])),
        ("ICE_CANDIDATES", json!(vec![json!({ "candidate": "" }); 51])),
        ("RENEGOTIATE", json!([])),
        ("RENEGOTIATE", json!({ "why": "a\u{0}b" })),
    ] {
        bob.try_send_signal(&b, &a.connection, kind, payload).await.assert_bad_input("payload");
    }
    let large = sdp("offer", &"x".repeat(262_144));
    bob.try_send_signal(&b, &a.connection, "OFFER", large).await.assert_error("PAYLOAD_TOO_LARGE");
    bob.try_send_signal(&b, &b.connection, "OFFER", sdp("offer", "")).await.assert_bad_input("toConnectionId");
    bob.try_send_signal(&b, &chat, "OFFER", sdp("offer", "")).await.assert_error("NOT_FOUND");
    let sent = bob.try_send_signal(&b, &a.connection, "OFFER", sdp("offer", "")).await;
    assert_eq!(sent.at("sendSignal.delivered"), false, "Alice has no open feed yet");
    let _alice_feed = alice.caught_up_call_feed(&a).await;
    let sent = bob.try_send_signal(&b, &a.connection, "OFFER", sdp("offer", "")).await;
    assert_eq!(sent.at("sendSignal.delivered"), true);
    for _ in 0..3 {
        bob.send_signal(&b, &a, "RENEGOTIATE", json!({})).await;
    }
    let wait = bob.try_send_signal(&b, &a.connection, "RENEGOTIATE", json!({})).await.retry_after();
    assert!(wait.as_secs() <= 60);
}

#[engine_test]
async fn call_feed_resumes_from_any_event(app: &TestApp) {
    let ActiveCall { alice, bob, a, b, .. } = ActiveCall::start(app).await;
    // More signals than the feed reads at once.
    for number in 0..120 {
        alice.send_signal(&a, &b, "RENEGOTIATE", json!({ "number": number })).await;
    }
    let mut feed = bob.call_feed(&b, None).await;
    let events = feed.catch_up().await;
    let numbers = |events: &[Value]| -> Vec<i64> {
        events.iter().filter_map(|event| event["signal"]["payload"]["number"].as_i64()).collect()
    };
    assert_eq!(numbers(&events), (0..120).collect::<Vec<_>>());
    for index in [0, 1, 2, 3, 50, events.len() - 1] {
        let mut resumed = bob.call_feed(&b, events[index]["cursor"].as_str()).await;
        let rest = resumed.catch_up().await;
        let delivered = numbers(&events[..=index]).len() as i64;
        assert_eq!(numbers(&rest), (delivered..120).collect::<Vec<_>>(), "after {}", events[index]);
    }
    for cursor in ["", "nonsense", events[0]["cursor"].as_str().unwrap()] {
        let mut feed = alice.call_feed(&a, Some(cursor)).await;
        let first = feed.next().await;
        assert_eq!(first["reason"], "CURSOR_INVALID", "{cursor}: {first}");
        feed.catch_up().await;
    }
}

#[engine_test]
async fn signals_sent_before_rejoin_are_not_delivered(app: &TestApp) {
    let ActiveCall { alice, bob, a, b, .. } = ActiveCall::start(app).await;
    let mut feed = bob.call_feed(&b, None).await;
    let cursor = feed.catch_up().await.last().expect("an event")["cursor"].clone();
    drop(feed);
    alice.send_signal(&a, &b, "OFFER", sdp("offer", "before the rejoin")).await;
    let a = alice.join_call(&a.call).await;
    alice.send_signal(&a, &b, "OFFER", sdp("offer", "after the rejoin")).await;
    let mut feed = bob.call_feed(&b, cursor.as_str()).await;
    assert_eq!(feed.next_signal().await[2], sdp("offer", "after the rejoin"));
}

#[tokio::test(flavor = "multi_thread")]
async fn call_feed_reports_pruned_signals() {
    let app =
        TestApp::sqlite(&[("PARLOR_CALL_SIGNALS_PER_MINUTE", "100000"), ("PARLOR_CALL_LOST_SECONDS", "600")]).await;
    let ActiveCall { alice, bob, a, b, .. } = ActiveCall::start(&app).await;
    let mut bob_feed = bob.call_feed(&b, None).await;
    let cursor = bob_feed.catch_up().await.last().expect("an event")["cursor"].clone();
    drop(bob_feed);
    stream::iter(0..2_600)
        .for_each_concurrent(8, async |_| alice.send_signal(&a, &b, "RENEGOTIATE", json!({})).await)
        .await;
    // A participant without pruned signals gets no reset.
    let mut alice_feed = alice.call_feed(&a, None).await;
    assert!(alice_feed.catch_up().await.iter().all(|event| event["__typename"] != "FeedReset"));
    let mut bob_feed = bob.call_feed(&b, cursor.as_str()).await;
    let events = bob_feed.catch_up().await;
    assert_eq!(events[0]["reason"], "TOO_FAR_BEHIND", "{}", events[0]);
    let retained = events.iter().filter(|event| event["__typename"] == "SignalReceived").count();
    assert!((2_000..2_500).contains(&retained), "{retained}");
    app.stop().await;
}

#[engine_test]
async fn ring_timeout_holds_across_server_restart(engine: Engine) {
    let first = TestApp::start(Database::create(engine).await, &[]).await;
    let (alice, bob, chat) = alice_and_bob(&first).await;
    let answered_chat = alice.group("Walk", &[&bob]).await;
    let (a, answered) = (alice.start_call(&chat).await, alice.start_call_on(&answered_chat, "laptop").await);
    bob.join_call(&answered.call).await;
    let second = TestApp::start(first.shut_down().await, &[]).await;
    let bob = bob.at(second.addr);
    second.advance(46);
    let mut feed = bob.watch_call(&a.call).await;
    assert!(feed.drain().await.iter().any(|event| event["call"]["endReason"] == "MISSED"));
    // The answered call goes on, although no lease could be renewed while no server ran.
    assert_eq!(bob.call_status(&answered.call).await, json!(["ACTIVE", null]));
    second.stop().await;
}

const ICE_SERVERS: [(&str, &str); 4] = [
    ("PARLOR_STUN_URLS", "stun:stun.example.org:3478"),
    ("PARLOR_TURN_URLS", "turn:turn.example.org:3478?transport=udp, turns:turn.example.org:5349"),
    ("PARLOR_TURN_SECRET", "north"),
    ("PARLOR_TURN_SECONDS", "3600"),
];

#[engine_test(settings = ICE_SERVERS)]
async fn ice_servers_carry_expiring_credentials(app: &TestApp) {
    let alice = app.user("alice").await;
    let query = "{ viewer { iceServers { urls username credential expiresAt } } }";
    let reply = alice.ask(query).await;
    let servers = reply.at("viewer.iceServers").as_array().expect("a list");
    let [stun, turn] = &servers[..] else { panic!("{servers:?}") };
    let urls = json!(["stun:stun.example.org:3478"]);
    assert_eq!(stun, &json!({ "urls": urls, "username": null, "credential": null, "expiresAt": null }));
    let urls = json!(["turn:turn.example.org:3478?transport=udp", "turns:turn.example.org:5349"]);
    assert_eq!(turn["urls"], urls);
    let (expires_at, user) = turn["username"].as_str().and_then(|name| name.split_once(':')).expect("a name");
    let valid_seconds = expires_at.parse::<i64>().expect("seconds") - app.app.clock.now().timestamp();
    assert!(user == "alice" && (3_590..=3_600).contains(&valid_seconds), "{turn}");
    assert_eq!(BASE64.decode(turn["credential"].as_str().expect("a password")).expect("base64").len(), 20);
    let chat = alice.group("Walk", &[]).await;
    let input = json!({ "chatId": chat, "kind": "VIDEO", "deviceId": "phone" });
    let started = alice.mutate_returning("startCall", input, "iceServers { urls }").await;
    assert_eq!(started.at("startCall.iceServers").as_array().map(Vec::len), Some(2));
}

#[engine_test(settings = [ICE_SERVERS[0], ICE_SERVERS[1], ICE_SERVERS[2]])]
async fn ice_credentials_last_an_hour_and_no_longer_than_the_token(app: &TestApp) {
    let now = app.app.clock.now().timestamp();
    for (lifetime, expected) in [(600, 600), (7_200, 3_600)] {
        let claims = json!({ "sub": "alice", "org": "demo", "iat": now, "exp": now + lifetime });
        let alice = User::new(app.addr, "alice", sign_with_secret(claims));
        let reply = alice.ask("{ viewer { iceServers { username expiresAt } } }").await;
        let turn = reply.at("viewer.iceServers.1");
        let seconds = turn["username"].as_str().and_then(|name| name.split_once(':')).expect("a name").0;
        let valid_seconds = seconds.parse::<i64>().expect("seconds") - now;
        assert!((expected..=expected + 60).contains(&valid_seconds), "{valid_seconds}");
        assert!(valid_seconds <= lifetime, "the token ends first");
    }
}

#[engine_test(settings = ICE_SERVERS)]
async fn ice_servers_need_rights_in_calls(app: &TestApp) {
    let ask = async |permissions: &[&str]| {
        let bob = app.user_in("demo", "bob", Some(permissions)).await;
        bob.ask("{ viewer { iceServers { urls credential } } }").await
    };
    for missing in [&[][..], &["chat.initiate_call"], &["chat.view"], &["chat.view", "organization.admin"]] {
        let reply = ask(missing).await;
        reply.assert_error("FORBIDDEN");
        assert!(!reply.body.to_string().contains("turn.example.org"), "{}", reply.body);
    }
    let servers = ask(&["chat.view", "chat.initiate_call"]).await;
    assert_eq!(servers.at("viewer.iceServers").as_array().map(Vec::len), Some(2));
    // Users who may not start calls can take part in the calls of others.
    let (alice, bob) = (app.user("alice").await, app.user_in("demo", "bob", Some(&["chat.view"])).await);
    let chat = alice.direct(&bob).await;
    let call = alice.start_call(&chat).await;
    ask(&["chat.view"]).await.data();
    let joined = bob.join_call(&call.call).await;
    ask(&["chat.view"]).await.data();
    bob.try_leave_call(&joined).await.data();
    ask(&["chat.view"]).await.assert_error("FORBIDDEN");
}

#[engine_test]
async fn call_statistics_need_administrator_permission(app: &TestApp) {
    let since = app.time_in(-1);
    let ActiveCall { alice, bob, chat, a, b } = ActiveCall::start(app).await;
    let report = |at: &JoinedCall, rtt: f64, loss: f64, rate: f64| json!({ "callId": at.call, "participantId": at.participant, "roundTripMs": rtt, "packetLossPercent": loss, "bitrateKbps": rate });
    assert_eq!(quality(&alice, &a.call).await, json!(null));
    alice.mutate_ok("reportCallQuality", report(&a, 20.0, 0.0, 300.0)).await;
    bob.mutate_ok("reportCallQuality", report(&b, 40.0, 1.0, 100.0)).await;
    let averages = json!({ "averageRoundTripMs": 30.0, "averagePacketLossPercent": 0.5, "averageBitrateKbps": 200.0, "reports": 2 });
    assert_eq!(quality(&alice, &a.call).await, averages);
    for (field, input) in [
        ("roundTripMs", report(&a, -1.0, 0.0, 0.0)),
        ("packetLossPercent", report(&a, 0.0, 100.5, 0.0)),
        ("bitrateKbps", report(&a, 0.0, 0.0, 1e9)),
    ] {
        alice.mutate("reportCallQuality", input).await.assert_bad_input(field);
    }
    let _feeds = (alice.caught_up_call_feed(&a).await, bob.caught_up_call_feed(&b).await);
    app.advance(90);
    alice.mutate_ok("endCall", json!({ "callId": a.call })).await;
    alice.mutate_ok("reportCallQuality", report(&a, 30.0, 0.5, 200.0)).await;
    app.advance(61);
    alice.mutate("reportCallQuality", report(&a, 30.0, 0.5, 200.0)).await.assert_error("CONFLICT");
    for _ in 0..2 {
        let missed = alice.start_call(&chat).await;
        alice.mutate_ok("endCall", json!({ "callId": missed.call })).await;
    }
    let declined = alice.start_call(&chat).await;
    bob.mutate_ok("declineCall", json!({ "callId": declined.call })).await;

    let query = "query($since: DateTime!, $until: DateTime!, $period: StatisticsPeriod) { viewer { organization {
            callStatistics(since: $since, until: $until, period: $period) { calls answered missed declined minutes }
        } } }";
    let until = app.time_in(3 * 86_400);
    let ask = json!({ "since": since, "until": until });
    alice.ask_with(query, ask.clone()).await.assert_error("FORBIDDEN");
    let admin = app.user_in("demo", "alice", Some(&["chat.view", "organization.admin"])).await;
    let by_day = admin.ask_with(query, ask).await;
    let days = by_day.at("viewer.organization.callStatistics");
    assert_eq!(pluck(days, "calls"), [4, 0, 0, 0]);
    let first = &days[0];
    assert_eq!((&first["answered"], &first["missed"], &first["declined"]), (&json!(1), &json!(2), &json!(1)));
    let minutes = first["minutes"].as_f64().expect("minutes");
    assert!((1.5..1.7).contains(&minutes), "{minutes}");
    let whole = admin.ask_with(query, json!({ "since": since, "until": until, "period": "WHOLE" })).await;
    assert_eq!(pluck(whole.at("viewer.organization.callStatistics"), "calls"), [4]);
    let backwards = json!({ "since": until, "until": since });
    admin.ask_with(query, backwards).await.assert_bad_input("until");
    let long = json!({ "since": "2000-01-01T00:00:00Z", "until": until });
    admin.ask_with(query, long).await.assert_bad_input("until");
    // Calls of other organizations are not counted.
    let other_admin = app.user_in("other", "alice", Some(&["chat.view", "organization.admin"])).await;
    let none = other_admin.ask_with(query, json!({ "since": since, "until": until, "period": "WHOLE" })).await;
    assert_eq!(pluck(none.at("viewer.organization.callStatistics"), "calls"), [0]);
}

async fn quality(user: &testkit::User, call: &str) -> Value {
    let fields = "averageRoundTripMs averagePacketLossPercent averageBitrateKbps reports";
    let query = format!("query($id: ID!) {{ call(id: $id) {{ quality {{ {fields} }} }} }}");
    user.ask_with(&query, json!({ "id": call })).await.at("call.quality").clone()
}

#[engine_test]
async fn call_history_is_paged_and_filtered(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let (direct, group) = (alice.direct(&bob).await, alice.group("Walk", &[&bob, &carol]).await);
    for chat in [&direct, &group, &direct] {
        let a = alice.start_call(chat).await;
        alice.mutate_ok("endCall", json!({ "callId": a.call })).await;
    }
    let now = app.time_in(0);
    app.advance(10);
    let input = json!({ "chatId": group, "kind": "VIDEO", "deviceId": "desk" });
    let call = bob.mutate_returning("startCall", input, "call { id }").await.text("startCall.call.id");
    alice.join_call(&call).await;
    bob.mutate_ok("endCall", json!({ "callId": call })).await;
    let cancelled = json!(["OUTGOING", "CANCELLED"]);
    let own = alice.call_history(json!(null)).await;
    assert_eq!(own, [json!(["INCOMING", "COMPLETED"]), cancelled.clone(), cancelled.clone(), cancelled.clone()]);
    assert_eq!(alice.call_history(json!({ "chatId": group })).await.len(), 2);
    assert_eq!(alice.call_history(json!({ "chatId": "chat_none" })).await.len(), 0);
    assert_eq!(alice.call_history(json!({ "kinds": ["VIDEO"] })).await.len(), 1);
    assert_eq!(alice.call_history(json!({ "kinds": [] })).await.len(), 0);
    assert_eq!(alice.call_history(json!({ "since": now })).await.len(), 1);
    assert_eq!(alice.call_history(json!({ "until": now })).await.len(), 3);
    assert_eq!(
        carol.call_history(json!({ "missedOnly": true })).await.len(),
        2,
        "a cancelled call, and one that the others answered"
    );
    let query = "query($after: String) { calls(first: 3, after: $after) { edges { cursor node { id } } pageInfo { hasNextPage endCursor } } }";
    let first = alice.ask_with(query, json!({})).await;
    assert_eq!(first.at("calls.pageInfo.hasNextPage"), true);
    let next = alice.ask_with(query, json!({ "after": first.at("calls.pageInfo.endCursor") })).await;
    assert_eq!(next.at("calls.edges").as_array().map(Vec::len), Some(1));
    let node = alice.ask(&format!("{{ node(id: \"{call}\") {{ ... on Call {{ id participants {{ id }} }} }} }}")).await;
    let participant = node.text("node.participants.0.id");
    let found =
        alice.ask(&format!("{{ node(id: \"{participant}\") {{ ... on CallParticipant {{ user {{ id }} }} }} }}")).await;
    assert_eq!(found.at("node.user.id"), "bob");
    // The history has no calls of a chat that the user has left.
    carol.mutate_ok("leaveChat", json!({ "chatId": group })).await;
    assert_eq!(carol.call_history(json!(null)).await.len(), 0);
}

#[engine_test]
async fn resumed_inbox_feed_delivers_current_call_state(app: &TestApp) {
    let (alice, bob, chat) = alice_and_bob(app).await;
    let a = alice.start_call(&chat).await;
    let mut feed = bob.inbox_feed(None).await;
    let events = feed.catch_up().await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["call"]["status"], "RINGING", "a new feed starts with the ringing calls");
    let cursor = events[0]["cursor"].as_str().expect("a cursor").to_owned();
    drop(feed);
    alice.mutate_ok("endCall", json!({ "callId": a.call })).await;
    let mut resumed = bob.inbox_feed(Some(&cursor)).await;
    let missed = resumed.catch_up().await;
    let calls: Vec<&Value> = missed.iter().filter(|event| event["__typename"] == "CallUpserted").collect();
    assert_eq!(calls.len(), 1, "{missed:?}");
    assert_eq!(calls[0]["call"]["endReason"], "CANCELLED");
    // A change of media does not concern lists of calls. Events have the order of the changes, so an event about the
    // call would precede the one about the new chat.
    let a = alice.start_call(&chat).await;
    resumed.next_of_type("CallUpserted").await;
    let b = bob.join_call(&a.call).await;
    resumed.next_of_type("CallUpserted").await;
    let media = json!({ "audio": true, "video": true, "screen": false });
    bob.mutate_ok("updateCallMedia", json!({ "callId": b.call, "participantId": b.participant, "media": media })).await;
    alice.group("Marker", &[&bob]).await;
    loop {
        let event = resumed.next().await;
        assert_ne!(event["__typename"], "CallUpserted", "{event}");
        if event["notification"]["kind"] == "ADDED_TO_CHAT" {
            break;
        }
    }
}
