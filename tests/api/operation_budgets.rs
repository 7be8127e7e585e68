//! The budget of each operation: no mutation and no subscription is without one.

use std::collections::BTreeSet;
use std::time::Duration;

use parlor::domain::buckets::Bucket;
use parlor::domain::ids::ReportId;
use serde_json::{Value, json};
use testkit::calls::sdp;
use testkit::schema::Schema;
use testkit::{Reply, Socket, TestApp, User, engine_test};

/// The rates of this test, whose bursts are smaller than [`ATTEMPTS`].
const RATES: [(&str, &str); 7] = [
    ("PARLOR_SENDS_PER_MINUTE", "4"),
    ("PARLOR_REACTIONS_PER_MINUTE", "4"),
    ("PARLOR_WRITES_PER_MINUTE", "5"),
    ("PARLOR_CHATS_PER_MINUTE", "4"),
    ("PARLOR_SIGNALS_PER_MINUTE", "4"),
    ("PARLOR_CALLS_PER_MINUTE", "4"),
    ("PARLOR_CALL_SIGNALS_PER_MINUTE", "4"),
];
const ATTEMPTS: usize = 6;

// The names of the rate limits in error messages.
const SENDS: &str = "4 messages";
const REACTIONS: &str = "4 reactions";
const WRITES: &str = "5 other changes";
const CHATS: &str = "4 new chats";
const SIGNALS: &str = "4 signals";
const CALLS: &str = "4 calls";
const CALL_SIGNALS: &str = "4 signals of calls";

/// The objects that the inputs name.
///
/// The objects of the deleted chat keep their ids, and nothing can change them.
struct Ids {
    chat: String,
    message: String,
    deleted_chat: String,
    deleted_message: String,
    call: String,
    participant: String,
    connection: String,
    other_participant: String,
    other_connection: String,
}

/// Returns each mutation with the rate limit that it exhausts, and an input that reaches it.
fn mutations(ids: &Ids, token: &str) -> Vec<(&'static str, &'static str, Value)> {
    let Ids { chat, message, deleted_chat, deleted_message, call, participant, connection, .. } = ids;
    let Ids { other_participant, other_connection, .. } = ids;
    let media = json!({ "audio": true, "video": false, "screen": false });
    let offer = sdp("offer", "a");
    let unknown_report = ReportId::new(Bucket::of_organization("demo")).to_string();
    vec![
        ("sendMessage", SENDS, json!({ "chatId": chat, "text": "again" })),
        ("forwardMessage", SENDS, json!({ "messageId": message, "toChatId": chat })),
        ("editMessage", SENDS, json!({ "messageId": message, "text": "again" })),
        ("addReaction", REACTIONS, json!({ "messageId": message, "emoji": "👍" })),
        ("removeReaction", REACTIONS, json!({ "messageId": message, "emoji": "👍" })),
        ("votePoll", REACTIONS, json!({ "messageId": message, "optionIds": [] })),
        ("reportMessage", REACTIONS, json!({ "messageId": message, "reason": "rude" })),
        ("createChat", CHATS, json!({ "kind": "GROUP", "title": "Again", "memberIds": [] })),
        ("openDirectChat", WRITES, json!({ "userId": "bob" })),
        (
            "ensureResourceChat",
            WRITES,
            json!({ "resource": { "type": "t", "id": "1" }, "title": "T", "memberIds": [] }),
        ),
        ("archiveChat", WRITES, json!({ "chatId": deleted_chat, "archived": true })),
        ("deleteChat", WRITES, json!({ "chatId": deleted_chat })),
        ("updateChat", WRITES, json!({ "chatId": deleted_chat, "title": "Again" })),
        ("addMembers", WRITES, json!({ "chatId": deleted_chat, "userIds": ["bob"] })),
        ("removeMember", WRITES, json!({ "chatId": deleted_chat, "userId": "bob" })),
        ("unbanMember", WRITES, json!({ "chatId": deleted_chat, "userId": "bob" })),
        ("leaveChat", WRITES, json!({ "chatId": deleted_chat })),
        ("joinChannel", WRITES, json!({ "chatId": deleted_chat })),
        ("changeMemberRole", WRITES, json!({ "chatId": deleted_chat, "userId": "bob", "role": "MODERATOR" })),
        ("silenceMember", WRITES, json!({ "chatId": deleted_chat, "userId": "bob" })),
        ("updateMyMembership", WRITES, json!({ "chatId": deleted_chat, "draft": "again" })),
        ("pinMessage", WRITES, json!({ "messageId": deleted_message })),
        ("unpinMessage", WRITES, json!({ "messageId": deleted_message })),
        ("deleteMessage", WRITES, json!({ "messageId": deleted_message })),
        ("closePoll", WRITES, json!({ "messageId": deleted_message })),
        ("markRead", WRITES, json!({ "chatId": chat })),
        ("markThreadRead", WRITES, json!({ "threadRootId": message })),
        ("markUnread", WRITES, json!({ "chatId": chat })),
        ("markDelivered", WRITES, json!({ "upTo": [{ "chatId": chat, "messageId": message }] })),
        ("markNotificationsRead", WRITES, json!({})),
        ("resolveReport", WRITES, json!({ "reportId": unknown_report, "resolution": "DISMISSED" })),
        ("blockWords", WRITES, json!({ "words": ["again"], "action": "MASK" })),
        ("unblockWords", WRITES, json!({ "words": ["again"] })),
        ("renewSession", WRITES, json!({ "token": token })),
        ("revokeSessions", WRITES, json!({ "userId": "carol" })),
        ("setTyping", SIGNALS, json!({ "chatId": chat, "typing": true })),
        ("setPresence", SIGNALS, json!({ "status": "AWAY" })),
        ("startCall", CALLS, json!({ "chatId": chat, "kind": "AUDIO", "deviceId": "phone" })),
        ("joinCall", CALLS, json!({ "callId": call, "deviceId": "phone" })),
        ("declineCall", CALL_SIGNALS, json!({ "callId": call })),
        ("updateCallMedia", CALL_SIGNALS, json!({ "callId": call, "participantId": participant, "media": media })),
        (
            "sendSignal",
            CALL_SIGNALS,
            json!({
                "callId": call, "fromConnectionId": connection, "toConnectionId": other_connection,
                "kind": "OFFER", "payload": offer,
            }),
        ),
        (
            "reportCallQuality",
            CALL_SIGNALS,
            json!({
                "callId": call, "participantId": participant,
                "roundTripMs": 1.0, "packetLossPercent": 1.0, "bitrateKbps": 1.0,
            }),
        ),
        ("leaveCall", CALL_SIGNALS, json!({ "callId": call, "participantId": participant })),
        (
            "removeFromCall",
            CALL_SIGNALS,
            json!({ "callId": call, "participantId": other_participant, "forThisCall": true }),
        ),
        ("endCall", CALL_SIGNALS, json!({ "callId": call })),
    ]
}

/// Sends a mutation, over a socket if it needs one.
async fn mutate(user: &User, socket: &mut Socket, field: &str, input: Value) -> Reply {
    if field != "renewSession" {
        return user.mutate(field, input).await;
    }
    let query = "mutation($input: RenewSessionInput!) { renewSession(input: $input) { expiresAt } }";
    socket.subscribe("renewal", query, json!({ "input": input })).await;
    let result = socket.recv().await;
    assert_eq!(socket.recv().await["type"], "complete", "{result}");
    Reply { status: 200, body: result["payload"].clone() }
}

#[engine_test(settings = RATES)]
async fn every_mutation_is_refused_beyond_its_rate_limit(app: &TestApp) {
    app.app.clock.pause();
    let permissions = ["chat.view", "chat.create_group", "chat.manage_group", "chat.delete", "chat.initiate_call"];
    let permissions = [&permissions[..], &["chat.moderate", "organization.admin"]].concat();
    let alice = app.user_in("demo", "alice", Some(&permissions)).await;
    let (bob, _carol) = (app.user("bob").await, app.user("carol").await);
    let deleted_chat = alice.group("Deleted", &[&bob]).await;
    let deleted_message = alice.send(&deleted_chat, "hello").await;
    alice.mutate_ok("deleteChat", json!({ "chatId": deleted_chat })).await;
    app.advance(60);
    let chat = alice.group("Walk", &[&bob]).await;
    let message = alice.send(&chat, "hello").await;
    let own = alice.start_call(&chat).await;
    let other = bob.join_call(&own.call).await;
    let ids = Ids {
        chat,
        message,
        deleted_chat,
        deleted_message,
        call: own.call,
        participant: own.participant,
        connection: own.connection,
        other_participant: other.participant,
        other_connection: other.connection,
    };
    let rows = mutations(&ids, &alice.token);
    let with_budget: BTreeSet<String> = rows.iter().map(|(field, ..)| (*field).to_owned()).collect();
    assert_eq!(with_budget, Schema::read().fields("Mutation").into_iter().collect(), "the mutations with a budget");
    let mut socket = alice.socket().await;
    for (field, limit, input) in rows {
        app.advance(60);
        let mut replies = Vec::new();
        for _ in 0..ATTEMPTS {
            replies.push(mutate(&alice, &mut socket, field, input.clone()).await);
        }
        let is_refused = |reply: &Reply| reply.body["errors"][0]["extensions"]["code"] == "RATE_LIMITED";
        let first_refused = replies.iter().position(is_refused).unwrap_or_else(|| panic!("{field}: {replies:?}"));
        assert!(first_refused > 2, "{field}: {replies:?}");
        let refused = &replies[first_refused];
        let wait = refused.retry_after();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(15), "{field}: {wait:?}");
        let error = refused.body["errors"][0]["message"].as_str().unwrap();
        assert!(error.contains(&format!("at most {limit} per minute")), "{field}: {error}");
    }
}

#[engine_test(settings = [("PARLOR_USER_SUBSCRIPTIONS", "1")])]
async fn every_subscription_is_refused_beyond_the_limit_of_a_user(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let call = alice.start_call(&chat).await;
    let mut feed = alice.feed(&chat, None, None).await;
    feed.expect("FeedCaughtUp").await;
    let schema = Schema::read();
    let rows = [
        ("chatFeed", json!({ "chatId": chat })),
        ("callFeed", json!({ "callId": call.call, "participantId": call.participant })),
        ("inboxFeed", json!({})),
        ("messageAdded", json!({})),
        ("typing", json!({ "chatId": chat })),
        ("presence", json!({ "userIds": ["bob"] })),
    ];
    let with_budget: BTreeSet<String> = rows.iter().map(|(field, _)| (*field).to_owned()).collect();
    assert_eq!(with_budget, schema.fields("Subscription").into_iter().collect(), "the subscriptions with a budget");
    for (field, variables) in rows {
        let mut socket = alice.socket().await;
        socket.subscribe("refused", &schema.operation("Subscription", field), variables).await;
        let refused = socket.recv().await;
        let extensions = &refused["payload"][0]["extensions"];
        assert_eq!(
            (&refused["type"], &extensions["code"]),
            (&json!("error"), &json!("RATE_LIMITED")),
            "{field}: {refused}"
        );
        assert!(extensions["retryAfterMs"].as_u64().is_some_and(|millis| millis > 0), "{field}: {refused}");
    }
}
