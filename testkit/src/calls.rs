//! Calls as stories take part in them.

use serde_json::{Value, json};

use crate::{Feed, Reply, TestApp, User};

pub const CALL: &str = "id status endReason startedBy { id } answeredAt endedAt durationSeconds ringsUntil
    viewerDirection participants { id user { id } deviceId status joinedAt leftAt media { audio video screen } }";

const CALL_FEED: &str = "subscription($call: ID!, $own: ID, $after: String) {
    callFeed(callId: $call, participantId: $own, after: $after) {
        __typename
        ... on FeedEvent { cursor }
        ... on CallUpserted { call { id status endReason } }
        ... on ParticipantUpserted {
            participant { id user { id } status deviceId joinedAt media { audio video screen } }
            negotiation { offers polite }
        }
        ... on SignalReceived { signal { from { id user { id } } kind payload } }
        ... on FeedReset { reason }
    } }";

const INBOX: &str = "subscription($after: String) { inboxFeed(after: $after) {
    __typename
    ... on FeedEvent { cursor }
    ... on CallUpserted { call { id status endReason participants { user { id } status deviceId } } }
    ... on NotificationUpserted { notification { kind call { id } message { system { kind } } } }
    } }";

/// A call as one person has it: its id, and their own part in it.
#[derive(Debug, Clone)]
pub struct JoinedCall {
    pub call: String,
    pub participant: String,
}

impl JoinedCall {
    fn of(reply: &Reply, field: &str) -> Self {
        let id = |path: &str| reply.text(&format!("{field}.{path}.id"));
        Self { call: id("call"), participant: id("participant") }
    }
}

/// Alice and Bob, and the chat of the two.
pub async fn alice_and_bob(app: &TestApp) -> (User, User, String) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.direct(&bob).await;
    (alice, bob, chat)
}

/// Alice and Bob in a call that she began, in the chat of the two.
pub struct ActiveCall {
    pub alice: User,
    pub bob: User,
    pub chat: String,
    /// Alice's part in it.
    pub a: JoinedCall,
    /// Bob's.
    pub b: JoinedCall,
}

impl ActiveCall {
    pub async fn start(app: &TestApp) -> Self {
        let (alice, bob, chat) = alice_and_bob(app).await;
        let a = alice.start_call(&chat).await;
        let b = bob.join_call(&a.call).await;
        Self { alice, bob, chat, a, b }
    }
}

pub fn sdp(kind: &str, text: &str) -> Value {
    json!({ "type": kind, "sdp": format!("v=0\r\n{text}") })
}

impl User {
    pub async fn try_start_call(&self, chat: &str, device: &str) -> Reply {
        let media = json!({ "audio": true, "video": false, "screen": false });
        let input = json!({ "chatId": chat, "kind": "AUDIO", "deviceId": device, "media": media });
        self.mutate_returning("startCall", input, "call { id status } participant { id deviceId status }").await
    }

    pub async fn start_call(&self, chat: &str) -> JoinedCall {
        JoinedCall::of(&self.try_start_call(chat, "phone").await, "startCall")
    }

    pub async fn try_join_call(&self, call: &str, device: &str) -> Reply {
        let input = json!({ "callId": call, "deviceId": device });
        self.mutate_returning("joinCall", input, "call { id status } participant { id deviceId status }").await
    }

    pub async fn join_call(&self, call: &str) -> JoinedCall {
        JoinedCall::of(&self.try_join_call(call, "phone").await, "joinCall")
    }

    pub async fn try_leave_call(&self, at: &JoinedCall) -> Reply {
        self.mutate("leaveCall", json!({ "callId": at.call, "participantId": at.participant })).await
    }

    pub async fn fetch_call(&self, call: &str) -> Value {
        let query = format!("query($id: ID!) {{ call(id: $id) {{ {CALL} }} }}");
        self.ask_with(&query, json!({ "id": call })).await.at("call").clone()
    }

    /// Status, and why it ended.
    pub async fn call_status(&self, call: &str) -> Value {
        let call = self.fetch_call(call).await;
        json!([call["status"], call["endReason"]])
    }

    pub async fn call_feed(&self, at: &JoinedCall, after: Option<&str>) -> Feed {
        self.subscribe(CALL_FEED, json!({ "call": at.call, "own": at.participant, "after": after })).await
    }

    /// A feed of a call from its beginning, which has told all that was.
    pub async fn caught_up_call_feed(&self, at: &JoinedCall) -> Feed {
        let mut feed = self.call_feed(at, None).await;
        feed.catch_up().await;
        feed
    }

    pub async fn watch_call(&self, call: &str) -> Feed {
        self.subscribe(CALL_FEED, json!({ "call": call })).await
    }

    pub async fn inbox_feed(&self, after: Option<&str>) -> Feed {
        self.subscribe(INBOX, json!({ "after": after })).await
    }

    pub async fn try_send_signal(&self, from: &JoinedCall, to: &str, kind: &str, payload: Value) -> Reply {
        let input = json!({
            "callId": from.call, "fromParticipantId": from.participant, "toParticipantId": to, "kind": kind, "payload": payload,
        });
        self.mutate_returning("sendSignal", input, "delivered").await
    }

    pub async fn send_signal(&self, from: &JoinedCall, to: &JoinedCall, kind: &str, payload: Value) {
        self.try_send_signal(from, &to.participant, kind, payload).await.data();
    }

    /// The calls of the viewer's history: which way each went, and how it ended.
    pub async fn call_history(&self, filter: Value) -> Vec<Value> {
        let query = "query($filter: CallFilter) { calls(filter: $filter) { nodes { viewerDirection endReason } } }";
        let reply = self.ask_with(query, json!({ "filter": filter })).await;
        let calls = reply.at("calls.nodes").as_array().expect("a list").clone();
        calls.iter().map(|call| json!([call["viewerDirection"], call["endReason"]])).collect()
    }

    /// What the chat tells of calls.
    pub async fn call_system_messages(&self, chat: &str) -> Vec<Value> {
        let told = self.fetch_chat(chat, "messages { nodes { system { kind call { id } } } }").await;
        let notices = told["messages"]["nodes"].as_array().expect("a list").iter();
        notices.filter(|told| !told["system"]["call"].is_null()).map(|told| told["system"]["kind"].clone()).collect()
    }
}

impl Feed {
    /// Hears all until the feed is level.
    pub async fn catch_up(&mut self) -> Vec<Value> {
        let mut heard = Vec::new();
        loop {
            let event = self.next().await;
            if event["__typename"] == "FeedCaughtUp" {
                return heard;
            }
            heard.push(event);
        }
    }

    /// The next event of this type, of those that concern calls.
    pub async fn next_of_type(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next().await;
            if event["__typename"] == kind {
                return event;
            }
        }
    }

    /// The next signal: its kind and what it says.
    pub async fn next_signal(&mut self) -> Value {
        let signal = &self.next_of_type("SignalReceived").await["signal"];
        json!([signal["from"]["user"]["id"], signal["kind"], signal["payload"]])
    }

    /// Waits until somebody stands so, as the feed tells it.
    pub async fn wait_for_participant(&mut self, user: &str, status: &str) -> Value {
        loop {
            let event = self.next_of_type("ParticipantUpserted").await;
            let participant = &event["participant"];
            if participant["user"]["id"] == user && participant["status"] == status {
                return event;
            }
        }
    }

    /// Hears what is left of a feed that is over.
    pub async fn drain(&mut self) -> Vec<Value> {
        let mut heard = Vec::new();
        loop {
            let message = self.socket.recv().await;
            match message["type"].as_str() {
                Some("complete") => return heard,
                Some("next") => heard.push(message["payload"]["data"]["callFeed"].clone()),
                _ => panic!("{message}"),
            }
        }
    }
}
