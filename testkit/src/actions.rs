//! Requests that many tests send.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{Feed, Reply, User};

impl User {
    /// Sends a mutation and selects only its `__typename`.
    pub async fn mutate(&self, field: &str, input: Value) -> Reply {
        self.mutate_returning(field, input, "__typename").await
    }

    /// Sends a mutation like [`Self::mutate`], and asserts that it succeeds.
    pub async fn mutate_ok(&self, field: &str, input: Value) {
        self.mutate(field, input).await.data();
    }

    /// Returns fields of a chat.
    pub async fn fetch_chat(&self, id: &str, selection: &str) -> Value {
        let query = format!("query($id: ID!) {{ chat(id: $id) {{ {selection} }} }}");
        self.ask_with(&query, json!({ "id": id })).await.at("chat").clone()
    }

    /// Returns fields of a message.
    pub async fn fetch_message(&self, id: &str, selection: &str) -> Value {
        let query = format!("query($id: ID!) {{ message(id: $id) {{ {selection} }} }}");
        self.ask_with(&query, json!({ "id": id })).await.at("message").clone()
    }

    /// Returns the texts of the first 100 messages of a chat, without system messages.
    pub async fn fetch_texts(&self, chat: &str) -> Vec<Value> {
        let seen = self.fetch_chat(chat, "messages(first: 100) { nodes { kind text } }").await;
        let nodes = seen["messages"]["nodes"].as_array().expect("a list");
        nodes.iter().filter(|message| message["kind"] != "SYSTEM").map(|message| message["text"].clone()).collect()
    }

    /// Sends a message with any content and returns its id.
    pub async fn send_message(&self, chat: &str, input: Value) -> String {
        self.try_send_message(chat, input).await.text("sendMessage.message.id")
    }

    /// Sends a message with any content and returns the response.
    pub async fn try_send_message(&self, chat: &str, input: Value) -> Reply {
        let mut input = input;
        input["chatId"] = chat.into();
        self.mutate_returning("sendMessage", input, "message { id }").await
    }

    /// Deletes a message.
    pub async fn delete_message(&self, message: &str) {
        self.mutate_ok("deleteMessage", json!({ "messageId": message })).await;
    }

    /// Adds a user to a chat in a role.
    pub async fn add_member(&self, chat: &str, user: &str, role: &str) {
        self.mutate_ok("addMembers", json!({ "chatId": chat, "userIds": [user], "role": role })).await;
    }
}

impl Reply {
    /// Asserts that the server could not process the request, and says when to retry.
    #[track_caller]
    pub fn assert_unavailable(&self) {
        self.assert_error("UNAVAILABLE");
        let millis = self.body["errors"][0]["extensions"]["retryAfterMs"].as_u64();
        assert!(millis.is_some_and(|millis| millis > 0), "{}", self.body);
    }

    /// Asserts that the rate limiter rejected the request, and returns the time after which to retry.
    #[track_caller]
    pub fn retry_after(&self) -> Duration {
        self.assert_error("RATE_LIMITED");
        let millis = self.body["errors"][0]["extensions"]["retryAfterMs"].as_u64();
        Duration::from_millis(millis.unwrap_or_else(|| panic!("no retryAfterMs: {}", self.body)))
    }
}

impl Feed {
    /// Returns the next event other than `MemberUpserted`.
    ///
    /// Read positions are published with a delay, so their place among other events varies.
    pub async fn next_non_member_event(&mut self) -> Value {
        loop {
            let event = self.next().await;
            if event["__typename"] != "MemberUpserted" {
                return event;
            }
        }
    }
}

/// Returns a field of each value in a list.
#[track_caller]
pub fn pluck(values: &Value, name: &str) -> Vec<Value> {
    values.as_array().expect("a list").iter().map(|value| value[name].clone()).collect()
}
