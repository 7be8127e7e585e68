//! Calls as stories take part in them.

use serde_json::{Value, json};

use super::{Feed, Reply, TestApp, User};

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
pub struct InCall {
    pub call: String,
    pub own: String,
}

impl InCall {
    fn of(reply: &Reply, field: &str) -> Self {
        let id = |path: &str| reply.text(&format!("{field}.{path}.id"));
        Self { call: id("call"), own: id("participant") }
    }
}

/// Alice and Bob, and the chat of the two.
pub async fn two(app: &TestApp) -> (User, User, String) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.direct(&bob).await;
    (alice, bob, chat)
}

/// Alice and Bob in a call that she began, in the chat of the two.
pub struct Talk {
    pub alice: User,
    pub bob: User,
    pub chat: String,
    /// Alice's part in it.
    pub a: InCall,
    /// Bob's.
    pub b: InCall,
}

impl Talk {
    pub async fn begin(app: &TestApp) -> Self {
        let (alice, bob, chat) = two(app).await;
        let a = alice.calls(&chat).await;
        let b = bob.joins(&a.call).await;
        Self { alice, bob, chat, a, b }
    }
}

pub fn sdp(kind: &str, text: &str) -> Value {
    json!({ "type": kind, "sdp": format!("v=0\r\n{text}") })
}

impl User {
    pub async fn try_call(&self, chat: &str, device: &str) -> Reply {
        let media = json!({ "audio": true, "video": false, "screen": false });
        let input = json!({ "chatId": chat, "kind": "AUDIO", "deviceId": device, "media": media });
        self.mutate("startCall", input, "call { id status } participant { id deviceId status }").await
    }

    pub async fn calls(&self, chat: &str) -> InCall {
        InCall::of(&self.try_call(chat, "phone").await, "startCall")
    }

    pub async fn try_join(&self, call: &str, device: &str) -> Reply {
        let input = json!({ "callId": call, "deviceId": device });
        self.mutate("joinCall", input, "call { id status } participant { id deviceId status }").await
    }

    pub async fn joins(&self, call: &str) -> InCall {
        InCall::of(&self.try_join(call, "phone").await, "joinCall")
    }

    pub async fn try_leave(&self, at: &InCall) -> Reply {
        self.act("leaveCall", json!({ "callId": at.call, "participantId": at.own })).await
    }

    pub async fn sees_call(&self, call: &str) -> Value {
        let query = format!("query($id: ID!) {{ call(id: $id) {{ {CALL} }} }}");
        self.ask_with(&query, json!({ "id": call })).await.at("call").clone()
    }

    /// Status, and why it ended.
    pub async fn call_is(&self, call: &str) -> Value {
        let call = self.sees_call(call).await;
        json!([call["status"], call["endReason"]])
    }

    pub async fn attends(&self, at: &InCall, after: Option<&str>) -> Feed {
        self.subscribe(CALL_FEED, json!({ "call": at.call, "own": at.own, "after": after })).await
    }

    /// A feed of a call from its beginning, which has told all that was.
    pub async fn listens(&self, at: &InCall) -> Feed {
        let mut feed = self.attends(at, None).await;
        feed.level().await;
        feed
    }

    pub async fn watches(&self, call: &str) -> Feed {
        self.subscribe(CALL_FEED, json!({ "call": call })).await
    }

    pub async fn inbox(&self, after: Option<&str>) -> Feed {
        self.subscribe(INBOX, json!({ "after": after })).await
    }

    pub async fn try_signal(&self, from: &InCall, to: &str, kind: &str, payload: Value) -> Reply {
        let input = json!({
            "callId": from.call, "fromParticipantId": from.own, "toParticipantId": to, "kind": kind, "payload": payload,
        });
        self.mutate("sendSignal", input, "delivered").await
    }

    pub async fn signals(&self, from: &InCall, to: &InCall, kind: &str, payload: Value) {
        self.try_signal(from, &to.own, kind, payload).await.data();
    }

    /// The calls of the viewer's history: which way each went, and how it ended.
    pub async fn history(&self, filter: Value) -> Vec<Value> {
        let query = "query($filter: CallFilter) { calls(filter: $filter) { nodes { viewerDirection endReason } } }";
        let reply = self.ask_with(query, json!({ "filter": filter })).await;
        let calls = reply.at("calls.nodes").as_array().expect("a list").clone();
        calls.iter().map(|call| json!([call["viewerDirection"], call["endReason"]])).collect()
    }

    /// What the chat tells of calls.
    pub async fn call_notices(&self, chat: &str) -> Vec<Value> {
        let told = self.sees_chat(chat, "messages { nodes { system { kind call { id } } } }").await;
        let notices = told["messages"]["nodes"].as_array().expect("a list").iter();
        notices.filter(|told| !told["system"]["call"].is_null()).map(|told| told["system"]["kind"].clone()).collect()
    }
}

impl Feed {
    /// Hears all until the feed is level.
    pub async fn level(&mut self) -> Vec<Value> {
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
    pub async fn until(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next().await;
            if event["__typename"] == kind {
                return event;
            }
        }
    }

    /// The next signal: its kind and what it says.
    pub async fn signal(&mut self) -> Value {
        let signal = &self.until("SignalReceived").await["signal"];
        json!([signal["from"]["user"]["id"], signal["kind"], signal["payload"]])
    }

    /// Waits until somebody stands so, as the feed tells it.
    pub async fn participant(&mut self, user: &str, status: &str) -> Value {
        loop {
            let event = self.until("ParticipantUpserted").await;
            let participant = &event["participant"];
            if participant["user"]["id"] == user && participant["status"] == status {
                return event;
            }
        }
    }

    /// Hears what is left of a feed that is over.
    pub async fn rest(&mut self) -> Vec<Value> {
        let mut heard = Vec::new();
        loop {
            let message = self.socket.hear().await;
            match message["type"].as_str() {
                Some("complete") => return heard,
                Some("next") => heard.push(message["payload"]["data"]["callFeed"].clone()),
                _ => panic!("{message}"),
            }
        }
    }
}
