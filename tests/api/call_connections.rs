//! The identity of joins: signals, feeds and requests belong to one connection, and a device is in one call at a time.

use serde_json::{Value, json};
use testkit::calls::{ActiveCall, JoinedCall, alice_and_bob, sdp, signal_input, wait_until_feed_is_closed};
use testkit::{Feed, Reply, TestApp, User, engine_test, wait_until};

/// Asserts that a call's state did not allow a request, for this reason.
#[track_caller]
fn assert_conflict(reply: &Reply, reason: &str) {
    assert_eq!(reply.conflict()[0], reason, "{}", reply.body);
}

/// Returns the reason of the conflict with which a feed is refused.
async fn feed_conflict(mut feed: Feed) -> Value {
    let error = feed.error().await;
    assert_eq!(error["code"], "CONFLICT", "{error}");
    error["reason"].clone()
}

/// Returns the reason of the end of a feed, whose last event is `CallFeedEnded`.
async fn feed_end(feed: &mut Feed) -> Value {
    let events = feed.drain().await;
    let last = events.last().expect("an event");
    assert_eq!(last["__typename"], "CallFeedEnded", "{events:?}");
    assert!(last["cursor"].is_string(), "{last}");
    last["endReason"].clone()
}

/// Returns the status and the connection of a user's participant.
async fn connection_of(user: &User, call: &str, participant: &str) -> Value {
    let found = user.fetch_participant(call, participant).await;
    json!([found["status"], found["connectionId"]])
}

#[engine_test]
async fn signal_from_or_to_former_connection_is_refused_and_delivered_to_nobody(app: &TestApp) {
    let ActiveCall { alice, bob, a, b: former, .. } = ActiveCall::start(app).await;
    let mut former_feed = bob.caught_up_call_feed(&former).await;
    let mut alice_feed = alice.caught_up_call_feed(&a).await;
    // Bob's device loses its state and joins again; Alice does not know of it yet.
    let b = bob.join_call(&a.call).await;
    assert_ne!(b.connection, former.connection);
    assert_eq!(b.participant, former.participant);
    let mut bob_feed = bob.caught_up_call_feed(&b).await;
    let offer = || sdp("offer", "for the former connection");
    assert_conflict(&alice.try_send_signal(&a, &former.connection, "OFFER", offer()).await, "STALE_CONNECTION");
    assert_conflict(&bob.try_send_signal(&former, &a.connection, "OFFER", offer()).await, "STALE_CONNECTION");
    alice.send_signal(&a, &b, "OFFER", sdp("offer", "present")).await;
    let received = bob_feed.next_of_type("SignalReceived").await["signal"].clone();
    assert_eq!((&received["payload"], &received["fromConnectionId"]), (&sdp("offer", "present"), &json!(a.connection)));
    bob.send_signal(&b, &a, "ANSWER", sdp("answer", "present")).await;
    let answer = alice_feed.next_of_type("SignalReceived").await["signal"].clone();
    assert_eq!((&answer["payload"], &answer["fromConnectionId"]), (&sdp("answer", "present"), &json!(b.connection)));
    let former_events = former_feed.drain().await;
    assert!(former_events.iter().all(|event| event["__typename"] != "SignalReceived"), "{former_events:?}");
    assert_eq!(former_events.last().unwrap()["endReason"], "REPLACED");
    // A connection that names another participant, another call or nothing is unknown.
    for to in [&a.participant, "connection_none"] {
        bob.try_send_signal(&b, to, "RENEGOTIATE", json!({})).await.assert_error("NOT_FOUND");
    }
    let mut named = signal_input(&b, &a.connection, "RENEGOTIATE", json!({}));
    named["toParticipantId"] = json!(b.participant);
    bob.mutate_returning("sendSignal", named.clone(), "delivered").await.assert_error("NOT_FOUND");
    named["toParticipantId"] = json!(a.participant);
    named["fromParticipantId"] = json!(b.participant);
    bob.mutate_returning("sendSignal", named, "delivered").await.data();
    // A participant who has left has no connection.
    alice.try_leave_call(&a).await.data();
    assert_eq!(connection_of(&bob, &a.call, "alice").await[1], json!(null));
}

#[engine_test]
async fn former_device_acts_no_longer_for_participant(app: &TestApp) {
    let alice = app.user("alice").await;
    let (bob, carol) = (app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    let a = alice.start_call(&chat).await;
    carol.join_call(&a.call).await;
    let phone = bob.join_call(&a.call).await;
    bob.try_leave_call(&phone).await.data();
    let laptop = bob.join_call_on(&a.call, "laptop").await;
    let mut laptop_feed = bob.caught_up_call_feed(&laptop).await;
    alice.send_signal(&a, &laptop, "OFFER", sdp("offer", "for the laptop")).await;
    // The phone names its own connection or, like a client from before, none.
    let unnamed = JoinedCall { connection: String::new(), ..phone.clone() };
    for joined in [&phone, &unnamed] {
        let input = |mut fields: Value| {
            fields["callId"] = json!(joined.call);
            fields["participantId"] = json!(joined.participant);
            fields["connectionId"] = match joined.connection.as_str() {
                "" => json!(null),
                connection => json!(connection),
            };
            fields
        };
        let media = json!({ "audio": true, "video": true, "screen": true });
        let quality = json!({ "roundTripMs": 1.0, "packetLossPercent": 1.0, "bitrateKbps": 1.0 });
        for (field, fields) in
            [("leaveCall", json!({})), ("updateCallMedia", json!({ "media": media })), ("reportCallQuality", quality)]
        {
            assert_conflict(&bob.mutate(field, input(fields)).await, "STALE_CONNECTION");
        }
        let query = "subscription($callId: ID!, $participantId: ID, $connectionId: ID) {
            callFeed(callId: $callId, participantId: $participantId, connectionId: $connectionId) { __typename } }";
        assert_eq!(feed_conflict(bob.subscribe(query, input(json!({}))).await).await, "STALE_CONNECTION");
    }
    let signal = bob.try_send_signal(&phone, &a.connection, "RENEGOTIATE", json!({})).await;
    assert_conflict(&signal, "STALE_CONNECTION");
    assert_eq!(connection_of(&alice, &a.call, "bob").await, json!(["JOINED", laptop.connection]));
    assert_eq!(laptop_feed.next_signal().await[2], sdp("offer", "for the laptop"));
    bob.try_leave_call(&laptop).await.data();
    assert_eq!(feed_end(&mut laptop_feed).await, "LEFT");
    assert_eq!(connection_of(&alice, &a.call, "bob").await, json!(["LEFT", null]));
    // A feed of a user for whom the call rings, or who is no participant, has no connection.
    let dora = app.user("dora").await;
    alice.mutate_ok("addMembers", json!({ "chatId": chat, "userIds": ["dora"] })).await;
    let unknown = JoinedCall { participant: phone.participant.clone(), ..phone.clone() };
    assert_eq!(dora.call_feed(&unknown, None).await.error_code().await, "NOT_FOUND");
}

#[engine_test]
async fn requests_need_no_connection_until_participant_joins_again(app: &TestApp) {
    let ActiveCall { alice, bob, a, b, .. } = ActiveCall::start(app).await;
    let own = |joined: &JoinedCall| json!({ "callId": joined.call, "participantId": joined.participant });
    let query = "subscription($callId: ID!, $participantId: ID) {
        callFeed(callId: $callId, participantId: $participantId) { __typename ... on FeedEvent { cursor }
            ... on SignalReceived { signal { from { id user { id } } kind payload } } } }";
    let mut feed = bob.subscribe(query, own(&b)).await;
    feed.catch_up().await;
    alice.send_signal(&a, &b, "OFFER", sdp("offer", "one")).await;
    assert_eq!(feed.next_signal().await[2], sdp("offer", "one"));
    // By the connection alone, the participant is known too.
    let by_connection = "subscription($callId: ID!, $connectionId: ID) {
        callFeed(callId: $callId, connectionId: $connectionId) { __typename ... on FeedEvent { cursor }
            ... on SignalReceived { signal { from { id user { id } } kind payload } } } }";
    let input = json!({ "callId": b.call, "connectionId": b.connection });
    let mut feed = bob.subscribe(by_connection, input).await;
    assert_eq!(feed.next_signal().await[2], sdp("offer", "one"));
    let mismatch = JoinedCall { participant: b.participant.clone(), ..a.clone() };
    assert_eq!(bob.call_feed(&mismatch, None).await.error_code().await, "NOT_FOUND");
    bob.mutate_ok("leaveCall", own(&b)).await;
}

#[engine_test]
async fn take_over_moves_call_to_new_device(app: &TestApp) {
    let ActiveCall { alice, bob, chat, a, b: phone } = ActiveCall::start(app).await;
    let mut alice_feed = alice.caught_up_call_feed(&a).await;
    let mut phone_feed = bob.caught_up_call_feed(&phone).await;
    assert_conflict(&bob.try_join_call(&a.call, "laptop").await, "ON_OTHER_DEVICE");
    assert_conflict(&bob.try_start_call(&chat, "laptop").await, "ON_OTHER_DEVICE");
    let laptop = bob.take_over_call(&a.call, "laptop").await;
    assert_eq!(laptop.participant, phone.participant);
    let mut laptop_feed = bob.caught_up_call_feed(&laptop).await;
    alice.send_signal(&a, &laptop, "OFFER", sdp("offer", "for the laptop")).await;
    assert_eq!(feed_end(&mut phone_feed).await, "REPLACED");
    assert_eq!(laptop_feed.next_signal().await[2], sdp("offer", "for the laptop"));
    // Alice connects to the new device, which makes the offer.
    let moved = alice_feed.wait_for_participant("bob", "JOINED").await;
    assert_eq!(moved["participant"]["connectionId"], json!(laptop.connection));
    assert_eq!(moved["negotiation"], json!({ "offers": false, "polite": false }));
    // The phone can take the call back, and the user keeps their place in a full call.
    let phone = bob.take_over_call(&a.call, "phone").await;
    assert_eq!(feed_end(&mut laptop_feed).await, "REPLACED");
    assert_eq!(connection_of(&alice, &a.call, "bob").await, json!(["JOINED", phone.connection]));
    assert_eq!(alice.call_status(&a.call).await, json!(["ACTIVE", null]));
}

#[engine_test]
async fn former_feed_does_not_keep_participant_in_call(app: &TestApp) {
    let ActiveCall { alice, bob, a, b: phone, .. } = ActiveCall::start(app).await;
    let mut alice_feed = alice.caught_up_call_feed(&a).await;
    // The feed of the phone stays open, because its client does not read the end.
    let _phone_feed = bob.caught_up_call_feed(&phone).await;
    let laptop = bob.take_over_call(&a.call, "laptop").await;
    let laptop_feed = bob.caught_up_call_feed(&laptop).await;
    drop(laptop_feed);
    wait_until_feed_is_closed(app, "bob").await;
    app.advance(16);
    alice_feed.wait_for_participant("bob", "LEFT").await;
}

#[engine_test]
async fn feed_of_call_ends_with_its_reason(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    let a = alice.start_call(&chat).await;
    let mut alice_feed = alice.caught_up_call_feed(&a).await;
    let (b, c) = (bob.join_call(&a.call).await, carol.join_call(&a.call).await);
    let mut bob_feed = bob.caught_up_call_feed(&b).await;
    bob.try_leave_call(&b).await.data();
    assert_eq!(feed_end(&mut bob_feed).await, "LEFT");
    // The same device joins again, as a duplicated tab does.
    let b = bob.join_call(&a.call).await;
    let mut first_tab = bob.caught_up_call_feed(&b).await;
    let b = bob.join_call(&a.call).await;
    let mut bob_feed = bob.call_feed(&b, None).await;
    let cursor = bob_feed.catch_up().await.last().expect("an event")["cursor"].clone();
    assert_eq!(feed_end(&mut first_tab).await, "REPLACED");
    drop(bob_feed);
    wait_until_feed_is_closed(app, "bob").await;
    let _carol_feed = carol.caught_up_call_feed(&c).await;
    app.advance(16);
    let has_left = async || connection_of(&alice, &a.call, "bob").await == json!(["LEFT", null]);
    wait_until("Bob is lost", has_left).await;
    assert_eq!(feed_end(&mut bob.call_feed(&b, cursor.as_str()).await).await, "LOST");
    // A member who is removed from the chat loses access too.
    let b = bob.join_call(&a.call).await;
    let mut bob_feed = bob.caught_up_call_feed(&b).await;
    alice.mutate_ok("removeMember", json!({ "chatId": chat, "userId": "bob" })).await;
    let removed = bob_feed.next_of_type("CallFeedEnded").await;
    assert_eq!(removed["endReason"], "REMOVED");
    assert_eq!(bob_feed.error_code().await, "FORBIDDEN");
    let mut observer = carol.watch_call(&a.call).await;
    observer.catch_up().await;
    alice.mutate_ok("endCall", json!({ "callId": a.call })).await;
    for feed in [&mut alice_feed, &mut observer] {
        assert_eq!(feed_end(feed).await, "CALL_ENDED");
    }
    // A feed that is opened afterwards ends with the same reason.
    assert_eq!(feed_end(&mut carol.call_feed(&c, None).await).await, "CALL_ENDED");
}

#[engine_test(settings = [("PARLOR_CALL_PARTICIPANTS", "2")])]
async fn call_conflict_names_its_reason(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    let a = alice.start_call(&chat).await;
    assert_conflict(&alice.mutate("declineCall", json!({ "callId": a.call })).await, "NOT_RINGING");
    let participants = carol.fetch_call(&a.call).await["participants"].clone();
    let own = json!({ "callId": a.call, "participantId": participants[2]["id"] });
    assert_conflict(&carol.mutate("leaveCall", own.clone()).await, "NOT_IN_CALL");
    let b = bob.join_call(&a.call).await;
    assert_conflict(&carol.try_join_call(&a.call, "phone").await, "CALL_FULL");
    assert_conflict(&carol.try_start_call(&chat, "phone").await, "CALL_FULL");
    assert_conflict(&bob.try_join_call(&a.call, "laptop").await, "ON_OTHER_DEVICE");
    let media = json!({ "audio": true, "video": false, "screen": false });
    let input = json!({ "callId": a.call, "participantId": participants[2]["id"], "media": media });
    assert_conflict(&carol.mutate("updateCallMedia", input).await, "NOT_IN_CALL");
    let query = "subscription($callId: ID!, $participantId: ID) {
        callFeed(callId: $callId, participantId: $participantId) { __typename } }";
    assert_eq!(feed_conflict(carol.subscribe(query, own).await).await, "NOT_IN_CALL");
    bob.try_leave_call(&b).await.data();
    assert_conflict(&bob.try_send_signal(&b, &a.connection, "RENEGOTIATE", json!({})).await, "NOT_IN_CALL");
    assert_conflict(&alice.try_send_signal(&a, &b.connection, "RENEGOTIATE", json!({})).await, "NOT_IN_CALL");
    alice.mutate_ok("endCall", json!({ "callId": a.call })).await;
    for reply in [
        bob.try_join_call(&a.call, "phone").await,
        carol.mutate("declineCall", json!({ "callId": a.call })).await,
        alice.try_send_signal(&a, &b.connection, "RENEGOTIATE", json!({})).await,
        alice.mutate("updateCallMedia", a.input(json!({ "media": media }))).await,
    ] {
        assert_eq!(reply.conflict(), json!(["CALL_ENDED", "COMPLETED"]), "{}", reply.body);
    }
    let cancelled = alice.start_call(&chat).await;
    alice.mutate_ok("endCall", json!({ "callId": cancelled.call })).await;
    let late = bob.try_join_call(&cancelled.call, "phone").await;
    assert_eq!(late.conflict(), json!(["CALL_ENDED", "CANCELLED"]), "{}", late.body);
}

#[engine_test]
async fn device_is_in_one_call_at_a_time(app: &TestApp) {
    let (alice, bob, chat) = alice_and_bob(app).await;
    let walk = alice.group("Walk", &[&bob]).await;
    let run = alice.group("Run", &[&bob]).await;
    let first = alice.start_call(&chat).await;
    assert_conflict(&alice.try_start_call(&walk, "phone").await, "IN_OTHER_CALL");
    assert_eq!(alice.fetch_chat(&walk, "activeCall { id }").await["activeCall"], json!(null));
    let second = bob.start_call(&walk).await;
    assert_conflict(&alice.try_join_call(&second.call, "phone").await, "IN_OTHER_CALL");
    assert_conflict(&alice.try_start_call(&walk, "phone").await, "IN_OTHER_CALL");
    // The first call goes on, and another device of the user may be in another call.
    assert_eq!(connection_of(&alice, &first.call, "alice").await, json!(["JOINED", first.connection]));
    let laptop = alice.join_call_on(&second.call, "laptop").await;
    alice.try_leave_call(&laptop).await.data();
    // With `takeOver` the device leaves its other call.
    let moved = alice.take_over_call(&second.call, "phone").await;
    assert_eq!(connection_of(&alice, &second.call, "alice").await, json!(["JOINED", moved.connection]));
    assert_eq!(connection_of(&alice, &first.call, "alice").await, json!(["LEFT", null]));
    // It leaves none if it cannot join the other.
    assert_conflict(&alice.try_take_over_call(&first.call, "phone").await, "CALL_ENDED");
    assert_eq!(connection_of(&alice, &second.call, "alice").await, json!(["JOINED", moved.connection]));
    alice.mutate_ok("endCall", json!({ "callId": second.call })).await;
    // A device that joins two calls at once is in one of them.
    let (second, third) = (bob.start_call_on(&walk, "one").await, bob.start_call_on(&run, "two").await);
    let (one, two) =
        tokio::join!(alice.try_join_call(&second.call, "phone"), alice.try_join_call(&third.call, "phone"));
    let mut joined = 0;
    for reply in [&one, &two] {
        match reply.body["data"]["joinCall"].is_object() {
            true => joined += 1,
            false => assert_conflict(reply, "IN_OTHER_CALL"),
        }
    }
    assert_eq!(joined, 1, "{} {}", one.body, two.body);
}

#[engine_test]
async fn device_id_is_shown_to_its_own_user_only(app: &TestApp) {
    let ActiveCall { alice, bob, a, b, .. } = ActiveCall::start(app).await;
    let query = "query($id: ID!) { call(id: $id) { participants { user { id } deviceId } } }";
    for (viewer, own) in [(&alice, "alice"), (&bob, "bob")] {
        let reply = viewer.ask_with(query, json!({ "id": a.call })).await;
        for participant in reply.at("call.participants").as_array().expect("a list") {
            let expected = if participant["user"]["id"] == own { "phone" } else { "" };
            assert_eq!(participant["deviceId"], expected, "{}", reply.body);
        }
    }
    let mut feed = alice.call_feed(&a, None).await;
    let events = feed.catch_up().await;
    let devices: Vec<Value> = events
        .iter()
        .filter(|event| event["__typename"] == "ParticipantUpserted")
        .map(|event| json!([event["participant"]["user"]["id"], event["participant"]["deviceId"]]))
        .collect();
    assert_eq!(devices, [json!(["alice", "phone"]), json!(["bob", ""])]);
    let node = "query($id: ID!) { node(id: $id) { ... on CallParticipant { deviceId } } }";
    assert_eq!(alice.ask_with(node, json!({ "id": b.participant })).await.at("node.deviceId"), "");
    assert_eq!(bob.ask_with(node, json!({ "id": b.participant })).await.at("node.deviceId"), "phone");
    // Two devices of different users follow the same call by the same operation.
    let shared = "subscription($call: ID!) { callFeed(callId: $call) { __typename ... on FeedEvent { cursor }
        ... on ParticipantUpserted { participant { user { id } deviceId } } } }";
    let mut alice_feed = alice.subscribe(shared, json!({ "call": a.call })).await;
    let mut bob_feed = bob.subscribe(shared, json!({ "call": a.call })).await;
    for feed in [&mut alice_feed, &mut bob_feed] {
        feed.catch_up().await;
    }
    let media = json!({ "audio": true, "video": true, "screen": false });
    bob.mutate_ok("updateCallMedia", b.input(json!({ "media": media }))).await;
    assert_eq!(alice_feed.next_of_type("ParticipantUpserted").await["participant"]["deviceId"], "");
    assert_eq!(bob_feed.next_of_type("ParticipantUpserted").await["participant"]["deviceId"], "phone");
}
