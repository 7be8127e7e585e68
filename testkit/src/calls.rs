//! Calls, as tests start, join and observe them.

use serde_json::{Value, json};

use crate::{Feed, Reply, TestApp, User, wait_until};

/// The fields of a call that tests compare.
pub const CALL: &str = "id status endReason startedBy { id } host { id } answeredAt endedAt durationSeconds ringsUntil
    viewerDirection participants {
        id user { id } deviceId status connection connectionId declineReason joinedAt leftAt
        media { audio video screen } }";

const CALL_FEED: &str = "subscription($call: ID!, $own: ID, $connection: ID, $after: String) {
    callFeed(callId: $call, participantId: $own, connectionId: $connection, after: $after) {
        __typename
        ... on FeedEvent { cursor }
        ... on CallUpserted { call { id status endReason } }
        ... on ParticipantUpserted {
            participant { id user { id } status connection deviceId connectionId joinedAt media { audio video screen } }
            negotiation { offers polite }
        }
        ... on SignalReceived { signal { from { id user { id } } fromConnectionId kind payload } }
        ... on FeedReset { reason }
        ... on CallFeedEnded { endReason: reason }
    } }";

/// The fields of the payload of `startCall` and `joinCall`.
const JOINED: &str = "call { id status } participant { id deviceId connectionId status }";

const INBOX: &str = "subscription($after: String) { inboxFeed(after: $after) {
    __typename
    ... on FeedEvent { cursor }
    ... on CallUpserted { ringing call { id status endReason participants { user { id } status deviceId } } }
    ... on NotificationUpserted { notification { kind call { id } message { system { kind } } } }
    } }";

/// The ids of a call, of one user's participant in it, and of the connection by which they joined.
#[derive(Debug, Clone)]
pub struct JoinedCall {
    pub call: String,
    pub participant: String,
    pub connection: String,
}

impl JoinedCall {
    /// Returns the input of a mutation of the user's participant, with more fields.
    pub fn input(&self, mut fields: Value) -> Value {
        fields["callId"] = json!(self.call);
        fields["participantId"] = json!(self.participant);
        fields["connectionId"] = json!(self.connection);
        fields
    }

    fn from_reply(reply: &Reply, field: &str) -> Self {
        let id = |path: &str| reply.text(&format!("{field}.{path}"));
        Self { call: id("call.id"), participant: id("participant.id"), connection: id("participant.connectionId") }
    }
}

/// Returns Alice, Bob and the id of their direct chat.
pub async fn alice_and_bob(app: &TestApp) -> (User, User, String) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.direct(&bob).await;
    (alice, bob, chat)
}

/// A call in a chat of Alice and Bob, started by Alice and joined by Bob.
pub struct ActiveCall {
    pub alice: User,
    pub bob: User,
    pub chat: String,
    /// Alice's participant.
    pub a: JoinedCall,
    /// Bob's participant.
    pub b: JoinedCall,
}

impl ActiveCall {
    /// Starts and answers a call.
    pub async fn start(app: &TestApp) -> Self {
        let (alice, bob, chat) = alice_and_bob(app).await;
        Self::start_in(alice, bob, chat).await
    }

    /// Starts and answers a call in a group, which goes on when one of them leaves.
    pub async fn start_in_group(app: &TestApp) -> Self {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let chat = alice.group("Walk", &[&bob]).await;
        Self::start_in(alice, bob, chat).await
    }

    async fn start_in(alice: User, bob: User, chat: String) -> Self {
        let a = alice.start_call(&chat).await;
        let b = bob.join_call(&a.call).await;
        Self { alice, bob, chat, a, b }
    }
}

/// Waits until the scheduler has recorded that a participant's call feed is closed.
///
/// From that time on, the participant is disconnected after the timeout.
pub async fn wait_until_feed_is_closed(app: &TestApp, user: &str) {
    let query = format!("SELECT count(*) FROM call_participants WHERE user_id = '{user}' AND NOT listening");
    let is_closed = async || app.database.query_number(&query).await == 1;
    wait_until("the scheduler records the closed call feed", is_closed).await;
}

/// Returns the input of a signal from a user's connection to another connection.
pub fn signal_input(from: &JoinedCall, to: &str, kind: &str, payload: Value) -> Value {
    json!({
        "callId": from.call,
        "fromConnectionId": from.connection,
        "toConnectionId": to,
        "kind": kind,
        "payload": payload,
    })
}

/// Returns a session description as the payload of a signal.
pub fn sdp(kind: &str, text: &str) -> Value {
    json!({ "type": kind, "sdp": format!("v=0\r\n{text}") })
}

impl User {
    /// Starts an audio call from a device, and returns the response.
    pub async fn try_start_call(&self, chat: &str, device: &str) -> Reply {
        let media = json!({ "audio": true, "video": false, "screen": false });
        let input = json!({ "chatId": chat, "kind": "AUDIO", "deviceId": device, "media": media });
        self.mutate_returning("startCall", input, JOINED).await
    }

    /// Starts an audio call from a device.
    pub async fn start_call_on(&self, chat: &str, device: &str) -> JoinedCall {
        JoinedCall::from_reply(&self.try_start_call(chat, device).await, "startCall")
    }

    /// Starts an audio call.
    pub async fn start_call(&self, chat: &str) -> JoinedCall {
        self.start_call_on(chat, "phone").await
    }

    /// Joins a call from a device, and returns the response.
    pub async fn try_join_call(&self, call: &str, device: &str) -> Reply {
        self.mutate_returning("joinCall", json!({ "callId": call, "deviceId": device }), JOINED).await
    }

    /// Moves the user to a device in a call, and returns the response.
    pub async fn try_take_over_call(&self, call: &str, device: &str) -> Reply {
        let input = json!({ "callId": call, "deviceId": device, "takeOver": true });
        self.mutate_returning("joinCall", input, JOINED).await
    }

    /// Moves the user to a device in a call.
    pub async fn take_over_call(&self, call: &str, device: &str) -> JoinedCall {
        JoinedCall::from_reply(&self.try_take_over_call(call, device).await, "joinCall")
    }

    /// Joins a call from a device.
    pub async fn join_call_on(&self, call: &str, device: &str) -> JoinedCall {
        JoinedCall::from_reply(&self.try_join_call(call, device).await, "joinCall")
    }

    /// Joins a call.
    pub async fn join_call(&self, call: &str) -> JoinedCall {
        self.join_call_on(call, "phone").await
    }

    /// Leaves a call, and returns the response.
    pub async fn try_leave_call(&self, joined: &JoinedCall) -> Reply {
        self.mutate("leaveCall", joined.input(json!({}))).await
    }

    /// Returns the fields [`CALL`] of a call.
    pub async fn fetch_call(&self, call: &str) -> Value {
        let query = format!("query($id: ID!) {{ call(id: $id) {{ {CALL} }} }}");
        self.ask_with(&query, json!({ "id": call })).await.at("call").clone()
    }

    /// Returns a user's participant in a call, with the fields in [`CALL`].
    pub async fn fetch_participant(&self, call: &str, user: &str) -> Value {
        let call = self.fetch_call(call).await;
        let participants = call["participants"].as_array().expect("a list");
        let found = participants.iter().find(|participant| participant["user"]["id"] == user);
        found.unwrap_or_else(|| panic!("{user} is not in {call}")).clone()
    }

    /// Returns a call's status and the reason of its end.
    pub async fn call_status(&self, call: &str) -> Value {
        let call = self.fetch_call(call).await;
        json!([call["status"], call["endReason"]])
    }

    /// Subscribes to a call's feed as a participant.
    pub async fn call_feed(&self, joined: &JoinedCall, after: Option<&str>) -> Feed {
        let JoinedCall { call, participant, connection } = joined;
        let variables = json!({ "call": call, "own": participant, "connection": connection, "after": after });
        self.subscribe(CALL_FEED, variables).await
    }

    /// Subscribes to a call's feed from its beginning, and reads it until it has caught up.
    pub async fn caught_up_call_feed(&self, joined: &JoinedCall) -> Feed {
        let mut feed = self.call_feed(joined, None).await;
        feed.catch_up().await;
        feed
    }

    /// Subscribes to a call's feed without being a participant.
    pub async fn watch_call(&self, call: &str) -> Feed {
        self.subscribe(CALL_FEED, json!({ "call": call })).await
    }

    /// Subscribes to the user's inbox.
    pub async fn inbox_feed(&self, after: Option<&str>) -> Feed {
        self.subscribe(INBOX, json!({ "after": after })).await
    }

    /// Sends a signal to a connection, and returns the response.
    pub async fn try_send_signal(&self, from: &JoinedCall, to: &str, kind: &str, payload: Value) -> Reply {
        let input = signal_input(from, to, kind, payload);
        self.mutate_returning("sendSignal", input, "delivered").await
    }

    /// Sends a signal to a participant.
    pub async fn send_signal(&self, from: &JoinedCall, to: &JoinedCall, kind: &str, payload: Value) {
        self.try_send_signal(from, &to.connection, kind, payload).await.data();
    }

    /// Returns the direction and the end reason of each call in the user's history.
    pub async fn call_history(&self, filter: Value) -> Vec<Value> {
        let query = "query($filter: CallFilter) { calls(filter: $filter) { nodes { viewerDirection endReason } } }";
        let reply = self.ask_with(query, json!({ "filter": filter })).await;
        let calls = reply.at("calls.nodes").as_array().expect("a list").clone();
        calls.iter().map(|call| json!([call["viewerDirection"], call["endReason"]])).collect()
    }

    /// Returns the kinds of a chat's system messages about calls.
    pub async fn call_system_messages(&self, chat: &str) -> Vec<Value> {
        let chat = self.fetch_chat(chat, "messages { nodes { system { kind call { id } } } }").await;
        let systems = chat["messages"]["nodes"].as_array().expect("a list").iter().map(|message| &message["system"]);
        systems.filter(|system| !system["call"].is_null()).map(|system| system["kind"].clone()).collect()
    }
}

impl Reply {
    /// Asserts a conflict with a call's state, and returns its `reason` and `endReason`.
    #[track_caller]
    pub fn conflict(&self) -> Value {
        self.assert_error("CONFLICT");
        let extensions = &self.body["errors"][0]["extensions"];
        json!([extensions["reason"], extensions["endReason"]])
    }
}

impl Feed {
    /// Returns the next signal: the sender's id, the kind and the payload.
    pub async fn next_signal(&mut self) -> Value {
        let signal = &self.next_of_type("SignalReceived").await["signal"];
        json!([signal["from"]["user"]["id"], signal["kind"], signal["payload"]])
    }

    /// Waits for the event in which a user's participant has a state of its connection.
    pub async fn wait_for_connection(&mut self, user: &str, connection: &str) -> Value {
        self.wait_for_participant_with(user, "connection", connection).await
    }

    /// Waits for the event in which a user's participant has a status.
    pub async fn wait_for_participant(&mut self, user: &str, status: &str) -> Value {
        self.wait_for_participant_with(user, "status", status).await
    }

    async fn wait_for_participant_with(&mut self, user: &str, field: &str, value: &str) -> Value {
        loop {
            let event = self.next_of_type("ParticipantUpserted").await;
            let participant = &event["participant"];
            if participant["user"]["id"] == user && participant[field] == value {
                return event;
            }
        }
    }

    /// Returns the remaining events of a feed that completes.
    pub async fn drain(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let message = self.socket.recv().await;
            match message["type"].as_str() {
                Some("complete") => return events,
                Some("next") => events.push(message["payload"]["data"]["callFeed"].clone()),
                _ => panic!("{message}"),
            }
        }
    }
}
