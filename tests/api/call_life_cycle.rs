//! The rights to end a call and to remove others from it, ringing, and lost connections.

use std::time::{Duration, Instant};

use futures_util::future::join;
use serde_json::{Value, json};
use testkit::calls::{ActiveCall, JoinedCall, alice_and_bob, sdp};
use testkit::{Reply, TestApp, User, engine_test, pluck};

/// The time in which others learn that a client in a call no longer answers.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);

/// Returns a field of a user's participant in a call.
async fn participant(viewer: &User, call: &str, user: &str, field: &str) -> Value {
    viewer.fetch_participant(call, user).await[field].clone()
}

fn removal(call: &str, participant: &str, for_this_call: bool) -> Value {
    json!({ "callId": call, "participantId": participant, "forThisCall": for_this_call })
}

#[engine_test]
async fn participant_reconnects_while_their_feed_is_closed(app: &TestApp) {
    let ActiveCall { alice, bob, a, b, .. } = ActiveCall::start(app).await;
    assert_eq!(participant(&alice, &a.call, "bob", "connection").await, "CONNECTED", "before the first feed");
    let (mut alice_feed, mut bob_feed) = (alice.caught_up_call_feed(&a).await, bob.caught_up_call_feed(&b).await);
    for _ in 0..2 {
        drop(bob_feed);
        alice_feed.wait_for_connection("bob", "RECONNECTING").await;
        let sent = alice.try_send_signal(&a, &b.connection, "OFFER", sdp("offer", "lost")).await;
        assert_eq!(sent.at("sendSignal.delivered"), false);
        bob_feed = bob.caught_up_call_feed(&b).await;
        alice_feed.wait_for_connection("bob", "CONNECTED").await;
        let sent = alice.try_send_signal(&a, &b.connection, "OFFER", sdp("offer", "found")).await;
        assert_eq!(sent.at("sendSignal.delivered"), true);
    }
    drop(bob_feed);
    alice_feed.wait_for_connection("bob", "RECONNECTING").await;
    app.advance(16);
    alice_feed.wait_for_participant("bob", "LEFT").await;
    assert_eq!(participant(&alice, &a.call, "bob", "connection").await, json!(null));
}

#[engine_test]
async fn silent_socket_in_call_is_noticed_within_ten_seconds(app: &TestApp) {
    let ActiveCall { alice, bob, a, b, .. } = ActiveCall::start(app).await;
    let mut alice_feed = alice.caught_up_call_feed(&a).await;
    // The client reads nothing more, so it answers no ping.
    let silent = bob.caught_up_call_feed(&b).await;
    let start = Instant::now();
    alice_feed.wait_for_connection("bob", "RECONNECTING").await;
    let elapsed = start.elapsed();
    assert!(elapsed < SILENCE_TIMEOUT + Duration::from_secs(2), "{elapsed:?}");
    assert!(elapsed > SILENCE_TIMEOUT / 2, "an answer is not due yet: {elapsed:?}");
    let sent = alice.try_send_signal(&a, &b.connection, "OFFER", sdp("offer", "anybody?")).await;
    assert_eq!(sent.at("sendSignal.delivered"), false);
    app.advance(16);
    alice_feed.wait_for_participant("bob", "LEFT").await;
    drop(silent);
    assert_eq!(alice.call_status(&a.call).await, json!(["ACTIVE", null]), "Alice answered all pings");
}

#[engine_test(settings = [("PARLOR_CALL_RING_MEMBERS", "2")])]
async fn call_that_rings_for_nobody_is_active_until_caller_is_alone_too_long(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    let a = alice.start_call(&chat).await;
    assert_eq!(alice.call_status(&a.call).await, json!(["ACTIVE", null]));
    assert_eq!(alice.fetch_call(&a.call).await["ringsUntil"], json!(null));
    let mut feed = alice.caught_up_call_feed(&a).await;
    app.advance(50);
    bob.join_call(&a.call).await;
    feed.wait_for_participant("bob", "JOINED").await;
    assert_eq!(alice.call_status(&a.call).await, json!(["ACTIVE", null]), "it does not end with the ring timeout");
    let b = bob.join_call(&a.call).await;
    bob.try_leave_call(&b).await.data();
    app.advance(61);
    assert!(feed.drain().await.iter().any(|event| event["call"]["endReason"] == "COMPLETED"));
    assert_eq!(alice.call_system_messages(&chat).await, ["CALL_STARTED", "CALL_ENDED"]);
    let alone = alice.group("Nobody else", &[]).await;
    let a = alice.start_call(&alone).await;
    assert_eq!(alice.call_status(&a.call).await, json!(["ACTIVE", null]));
}

#[engine_test]
async fn leaving_direct_call_ends_it_for_both(app: &TestApp) {
    let ActiveCall { alice, bob, chat, a, b } = ActiveCall::start(app).await;
    let mut bob_feed = bob.caught_up_call_feed(&b).await;
    alice.try_leave_call(&a).await.data();
    assert_eq!(alice.call_status(&a.call).await, json!(["ENDED", "COMPLETED"]));
    assert!(bob_feed.drain().await.iter().any(|event| event["call"]["endReason"] == "COMPLETED"));
    assert_eq!(pluck(&bob.fetch_call(&a.call).await["participants"], "status"), ["LEFT", "LEFT"]);
    alice.try_leave_call(&a).await.data();
    let a = alice.start_call(&chat).await;
    alice.try_leave_call(&a).await.data();
    assert_eq!(alice.call_status(&a.call).await, json!(["ENDED", "CANCELLED"]));
    // In a group the others stay.
    let walk = alice.group("Walk", &[&bob]).await;
    let a = alice.start_call(&walk).await;
    bob.join_call(&a.call).await;
    alice.try_leave_call(&a).await.data();
    assert_eq!(bob.call_status(&a.call).await, json!(["ACTIVE", null]));
}

const MANY_CALLS: [(&str, &str); 2] =
    [("PARLOR_CALLS_PER_MINUTE", "10000"), ("PARLOR_CALL_SIGNALS_PER_MINUTE", "10000")];
/// The number of crossings of each kind.
const CROSSINGS: u64 = 40;

/// Runs two requests at the same time, one of them a little later, as the seed says.
async fn cross<A, B>(seed: u64, first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, B) {
    // A multiplicative hash of the seed: the order of the bits looks random and is the same in each run.
    let delay = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58;
    let yields = async |count: u64| {
        for _ in 0..count {
            tokio::task::yield_now().await;
        }
    };
    let (first_delay, second_delay) = if seed.is_multiple_of(2) { (delay, 0) } else { (0, delay) };
    join(
        async {
            yields(first_delay).await;
            first.await
        },
        async {
            yields(second_delay).await;
            second.await
        },
    )
    .await
}

#[engine_test(settings = MANY_CALLS)]
async fn answer_that_crosses_the_callers_departure_has_one_winner(app: &TestApp) {
    let (alice, bob, chat) = alice_and_bob(app).await;
    for seed in 0..CROSSINGS {
        let a = alice.start_call(&chat).await;
        let (left, joined) = cross(seed, alice.try_leave_call(&a), bob.try_join_call(&a.call, "phone")).await;
        left.data();
        let status = alice.call_status(&a.call).await;
        if joined.body["data"]["joinCall"].is_object() {
            assert_eq!(status, json!(["ENDED", "COMPLETED"]), "seed {seed}: answered, and then hung up");
        } else {
            assert_eq!(joined.conflict(), json!(["CALL_ENDED", "CANCELLED"]), "seed {seed}");
            assert_eq!(status, json!(["ENDED", "CANCELLED"]), "seed {seed}");
        }
        assert_eq!(bob.call_status(&a.call).await, status, "seed {seed}");
        let statuses = pluck(&alice.fetch_call(&a.call).await["participants"], "status");
        assert!(!statuses.contains(&json!("JOINED")), "seed {seed}: {statuses:?}");
    }
}

#[engine_test(settings = MANY_CALLS)]
async fn crossings_of_one_call_have_one_winner(app: &TestApp) {
    let (alice, bob, chat) = alice_and_bob(app).await;
    for seed in 0..CROSSINGS {
        let a = alice.start_call(&chat).await;
        let (declined, cancelled) = cross(
            seed,
            bob.mutate("declineCall", json!({ "callId": a.call })),
            alice.mutate("endCall", json!({ "callId": a.call })),
        )
        .await;
        cancelled.data();
        let expected = match declined.body.get("errors") {
            None => json!(["ENDED", "DECLINED"]),
            Some(_) => json!(["ENDED", "CANCELLED"]),
        };
        assert_eq!(alice.call_status(&a.call).await, expected, "seed {seed}");
        // Two devices of one user answer: one of them is in the call.
        let a = alice.start_call(&chat).await;
        let (phone, laptop) =
            cross(seed, bob.try_join_call(&a.call, "phone"), bob.try_join_call(&a.call, "laptop")).await;
        let is_joined = |reply: &Reply| reply.body["data"]["joinCall"].is_object();
        assert!(is_joined(&phone) != is_joined(&laptop), "seed {seed}: {phone:?} {laptop:?}");
        let (lost, device) = if is_joined(&phone) { (&laptop, "phone") } else { (&phone, "laptop") };
        assert_eq!(lost.conflict()[0], "ON_OTHER_DEVICE", "seed {seed}");
        assert_eq!(participant(&bob, &a.call, "bob", "deviceId").await, device, "seed {seed}");
        // Both hang up.
        alice.mutate_ok("endCall", json!({ "callId": a.call })).await;
        assert_eq!(alice.call_status(&a.call).await, json!(["ENDED", "COMPLETED"]), "seed {seed}");
    }
}

#[engine_test]
async fn host_passes_to_whoever_is_in_the_call_for_longest(app: &TestApp) {
    let [alice, bob, carol] = [app.user("alice").await, app.user("bob").await, app.user("carol").await];
    let chat = bob.group("Walk", &[&alice, &carol]).await;
    let host = async |call: &str| bob.fetch_call(call).await["host"]["id"].clone();
    let a = alice.start_call(&chat).await;
    let (c, b) = (carol.join_call(&a.call).await, bob.join_call(&a.call).await);
    assert_eq!(host(&a.call).await, "alice");
    let a = alice.join_call(&a.call).await;
    assert_eq!(host(&a.call).await, "alice", "a device that joins again does not lose the call");
    let mut feed = bob.caught_up_call_feed(&b).await;
    alice.try_leave_call(&a).await.data();
    feed.wait_for_participant("alice", "LEFT").await;
    assert_eq!(host(&a.call).await, "carol");
    alice.join_call(&a.call).await;
    assert_eq!(host(&a.call).await, "carol", "who left is not the host again");
    carol.try_leave_call(&c).await.data();
    assert_eq!(host(&a.call).await, "bob");
}

#[engine_test]
async fn call_is_ended_by_its_host_or_a_moderator_only(app: &TestApp) {
    let [olga, alice, bob] = [app.user("olga").await, app.user("alice").await, app.user("bob").await];
    let chat = olga.group("Walk", &[&alice, &bob]).await;
    let end = async |user: &User, call: &str| user.mutate("endCall", json!({ "callId": call })).await;
    let a = alice.start_call(&chat).await;
    let b = bob.join_call(&a.call).await;
    end(&bob, &a.call).await.assert_error("FORBIDDEN");
    alice.try_leave_call(&a).await.data();
    end(&alice, &a.call).await.assert_error("FORBIDDEN");
    assert_eq!(bob.call_status(&a.call).await, json!(["ACTIVE", null]), "who started it has left");
    end(&bob, &b.call).await.data();
    assert_eq!(bob.call_status(&a.call).await, json!(["ENDED", "COMPLETED"]));
    // A moderator ends a call without being in it.
    let a = alice.start_call(&chat).await;
    bob.join_call(&a.call).await;
    end(&olga, &a.call).await.data();
    assert_eq!(bob.call_status(&a.call).await, json!(["ENDED", "COMPLETED"]));
}

#[engine_test]
async fn moderator_removes_one_participant_from_call(app: &TestApp) {
    let [olga, alice, bob, carol] =
        [app.user("olga").await, app.user("alice").await, app.user("bob").await, app.user("carol").await];
    let chat = olga.group("Walk", &[&alice, &bob, &carol]).await;
    olga.mutate_ok("changeMemberRole", json!({ "chatId": chat, "userId": "carol", "role": "MODERATOR" })).await;
    let a = alice.start_call(&chat).await;
    let (b, o) = (bob.join_call(&a.call).await, olga.join_call(&a.call).await);
    let (mut alice_feed, mut bob_feed) = (alice.caught_up_call_feed(&a).await, bob.caught_up_call_feed(&b).await);
    let remove = async |user: &User, participant: &str, for_this_call: bool| {
        user.mutate("removeFromCall", removal(&a.call, participant, for_this_call)).await
    };
    remove(&alice, &b.participant, false).await.assert_error("FORBIDDEN");
    remove(&carol, &o.participant, false).await.assert_error("FORBIDDEN");
    remove(&olga, &o.participant, false).await.assert_bad_input("participantId");
    app.user("eve")
        .await
        .mutate("removeFromCall", removal(&a.call, &b.participant, false))
        .await
        .assert_error("NOT_FOUND");
    remove(&carol, &b.participant, false).await.data();
    alice_feed.wait_for_participant("bob", "REMOVED").await;
    let ended = bob_feed.drain().await;
    assert_eq!(ended.last().expect("an event")["endReason"], "REMOVED", "{ended:?}");
    assert_eq!(remove(&carol, &b.participant, false).await.conflict()[0], "NOT_IN_CALL");
    assert_eq!(alice.call_status(&a.call).await, json!(["ACTIVE", null]));
    // He may come back, unless he is removed for all of the call.
    let b = bob.join_call(&a.call).await;
    remove(&carol, &b.participant, true).await.data();
    assert_eq!(bob.try_join_call(&a.call, "phone").await.conflict()[0], "REMOVED_FROM_CALL");
    // A call stops ringing for a user who is removed from it.
    let carols = participant(&olga, &a.call, "carol", "id").await;
    remove(&olga, carols.as_str().expect("an id"), false).await.data();
    assert_eq!(participant(&olga, &a.call, "carol", "status").await, "REMOVED");
    let direct = olga.direct(&alice).await;
    let call = olga.try_start_call(&direct, "laptop").await.text("startCall.call.id");
    let alices = participant(&olga, &call, "alice", "id").await;
    let input = removal(&call, alices.as_str().expect("an id"), false);
    olga.mutate("removeFromCall", input).await.assert_error("FORBIDDEN");
}

#[engine_test]
async fn call_of_deleted_chat_ends_before_its_feed_fails(app: &TestApp) {
    let [alice, bob] = [app.user("alice").await, app.user("bob").await];
    let chat = alice.group("Walk", &[&bob]).await;
    let a = alice.start_call(&chat).await;
    let b = bob.join_call(&a.call).await;
    let mut feeds = [bob.caught_up_call_feed(&b).await, bob.watch_call(&a.call).await];
    feeds[1].catch_up().await;
    alice.mutate_ok("deleteChat", json!({ "chatId": chat })).await;
    for feed in &mut feeds {
        let ended = feed.next_of_type("CallUpserted").await;
        assert_eq!(ended["call"]["status"], "ENDED");
        assert_eq!(ended["call"]["endReason"], "CHAT_GONE");
        assert_eq!(feed.next_of_type("CallFeedEnded").await["endReason"], "CALL_ENDED");
        assert_eq!(feed.error_code().await, "FORBIDDEN");
    }
}

#[engine_test]
async fn user_whose_sessions_are_revoked_leaves_calls_at_once(app: &TestApp) {
    let admin = app.user_in("demo", "admin", Some(&["chat.view", "organization.admin"])).await;
    let [alice, bob, carol] = [app.user("alice").await, app.user("bob").await, app.user("carol").await];
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    let a = alice.start_call(&chat).await;
    let b = bob.join_call(&a.call).await;
    let (mut alice_feed, _bob_feed) = (alice.caught_up_call_feed(&a).await, bob.caught_up_call_feed(&b).await);
    app.app.clock.pause();
    admin.mutate_ok("revokeSessions", json!({ "userId": "bob" })).await;
    alice_feed.wait_for_participant("bob", "LEFT").await;
    assert_eq!(alice.call_status(&a.call).await, json!(["ACTIVE", null]));
}

#[engine_test]
async fn silenced_member_starts_no_call_and_only_listens(app: &TestApp) {
    let [alice, bob] = [app.user("alice").await, app.user("bob").await];
    let chat = alice.group("Walk", &[&bob]).await;
    let until = app.time_in(600);
    let silence = json!({ "chatId": chat, "userId": "bob", "until": until });
    let a = alice.start_call(&chat).await;
    let media = json!({ "audio": true, "video": true, "screen": false });
    let join = json!({ "callId": a.call, "deviceId": "phone", "media": media });
    bob.mutate_ok("joinCall", join.clone()).await;
    let mut feed = alice.caught_up_call_feed(&a).await;
    let none = json!({ "audio": false, "video": false, "screen": false });
    alice.mutate_ok("silenceMember", silence.clone()).await;
    let event = feed.wait_for_participant("bob", "JOINED").await;
    assert_eq!(event["participant"]["media"], none, "a member in the call stops sending");
    let b = bob.join_call(&a.call).await;
    bob.mutate("updateCallMedia", b.input(json!({ "media": media }))).await.assert_error("FORBIDDEN");
    bob.mutate_ok("updateCallMedia", b.input(json!({ "media": none }))).await;
    bob.mutate_ok("joinCall", join).await;
    assert_eq!(participant(&alice, &a.call, "bob", "media").await, none, "he joins as a listener");
    alice.mutate_ok("endCall", json!({ "callId": a.call })).await;
    bob.try_start_call(&chat, "phone").await.assert_error("FORBIDDEN");
    let can = bob.fetch_chat(&chat, "viewerCan { action allowed }").await;
    assert!(can["viewerCan"].as_array().unwrap().contains(&json!({ "action": "START_CALL", "allowed": false })));
    app.advance(601);
    bob.try_start_call(&chat, "phone").await.data();
}

#[engine_test]
async fn call_in_archived_chat_cannot_be_joined(app: &TestApp) {
    let [alice, bob] = [app.user("alice").await, app.user("bob").await];
    let chat = alice.group("Walk", &[&bob]).await;
    let a = alice.start_call(&chat).await;
    alice.mutate_ok("archiveChat", json!({ "chatId": chat, "archived": true })).await;
    bob.try_join_call(&a.call, "phone").await.assert_error("FORBIDDEN");
    alice.mutate_ok("archiveChat", json!({ "chatId": chat, "archived": false })).await;
    bob.join_call(&a.call).await;
}

#[engine_test]
async fn call_rings_aloud_unless_the_callee_is_busy_or_wants_no_notifications(app: &TestApp) {
    let (alice, bob, chat) = alice_and_bob(app).await;
    let mut inbox = bob.inbox_feed(None).await;
    inbox.catch_up().await;
    let mut rings = async || {
        let a = alice.start_call(&chat).await;
        let event = inbox.next_of_type("CallUpserted").await;
        assert_eq!(event["call"]["participants"][1]["status"], "RINGING", "it can be answered all the same");
        alice.mutate_ok("endCall", json!({ "callId": a.call })).await;
        let ended = inbox.next_of_type("CallUpserted").await;
        assert_eq!((&ended["ringing"], &ended["call"]["status"]), (&json!(false), &json!("ENDED")));
        event["ringing"].clone()
    };
    assert_eq!(rings().await, true);
    let set = async |field: &str, value: Value| {
        bob.mutate_ok("updateMyMembership", json!({ "chatId": chat, field: value })).await;
    };
    set("mutedUntil", json!(app.time_in(3600))).await;
    assert_eq!(rings().await, true, "a muted chat rings, and leaves a notification of the missed call");
    set("notificationLevel", json!("NONE")).await;
    assert_eq!(rings().await, false);
    set("notificationLevel", json!("MENTIONS")).await;
    assert_eq!(rings().await, true);
    bob.mutate_ok("setPresence", json!({ "status": "BUSY" })).await;
    assert_eq!(rings().await, false);
    bob.mutate_ok("setPresence", json!({ "status": "ONLINE" })).await;
    assert_eq!(rings().await, true);
    // The callee is in another call, on another device.
    let carol = app.user("carol").await;
    let other = carol.direct(&bob).await;
    let c = carol.start_call(&other).await;
    assert_eq!(inbox_event(&bob, &c.call).await, true);
    bob.join_call_on(&c.call, "laptop").await;
    let a = alice.start_call(&chat).await;
    assert_eq!(inbox_event(&bob, &a.call).await, false);
}

/// Returns whether a call rings for a user who connects now.
async fn inbox_event(user: &User, call: &str) -> Value {
    let mut inbox = user.inbox_feed(None).await;
    loop {
        let event = inbox.next_of_type("CallUpserted").await;
        if event["call"]["id"] == call {
            return event["ringing"].clone();
        }
    }
}

#[engine_test]
async fn missed_call_in_muted_chat_leaves_notification(app: &TestApp) {
    let (alice, bob, chat) = alice_and_bob(app).await;
    let missed_calls = async || {
        let a = alice.start_call(&chat).await;
        alice.mutate_ok("endCall", json!({ "callId": a.call })).await;
        bob.ask("{ viewer { notifications { nodes { kind } } } }").await.at("viewer.notifications.nodes").clone()
    };
    let muted = json!({ "chatId": chat, "mutedUntil": app.time_in(3600), "notificationLevel": "MENTIONS" });
    bob.mutate_ok("updateMyMembership", muted).await;
    assert_eq!(missed_calls().await, json!([{ "kind": "MISSED_CALL" }]));
    bob.mutate_ok("updateMyMembership", json!({ "chatId": chat, "notificationLevel": "NONE" })).await;
    assert_eq!(missed_calls().await.as_array().map(Vec::len), Some(1));
}

#[engine_test]
async fn reason_of_decline_is_shown_to_the_caller(app: &TestApp) {
    let [alice, bob, carol] = [app.user("alice").await, app.user("bob").await, app.user("carol").await];
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    let decline = async |user: &User, call: &JoinedCall, reason: Value| {
        user.mutate_ok("declineCall", json!({ "callId": call.call, "reason": reason })).await;
    };
    for (reasons, end_reason) in [
        ([json!("BUSY"), json!("BUSY")], "BUSY"),
        ([json!("BUSY"), json!("DO_NOT_DISTURB")], "DECLINED"),
        ([json!(null), json!("BUSY")], "DECLINED"),
    ] {
        let a = alice.start_call(&chat).await;
        let mut feed = alice.caught_up_call_feed(&a).await;
        decline(&bob, &a, reasons[0].clone()).await;
        feed.wait_for_participant("bob", "DECLINED").await;
        let shown = if reasons[0].is_null() { json!("DECLINED") } else { reasons[0].clone() };
        assert_eq!(participant(&alice, &a.call, "bob", "declineReason").await, shown);
        decline(&carol, &a, reasons[1].clone()).await;
        assert_eq!(alice.call_status(&a.call).await, json!(["ENDED", end_reason]), "{reasons:?}");
    }
    let a = alice.start_call(&chat).await;
    decline(&bob, &a, json!("BUSY")).await;
    bob.join_call(&a.call).await;
    assert_eq!(participant(&alice, &a.call, "bob", "declineReason").await, json!(null));
}
