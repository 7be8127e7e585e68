//! Presence, as users read and set it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{Feed, User};

/// The subscription to the presence of users.
pub const PRESENCE_FEED: &str = "subscription($ids: [ID!]!) {
    presence(userIds: $ids) { user { id } status lastSeenAt currentChatId }
}";

impl User {
    /// Subscribes to the presence of users.
    pub async fn presence_feed(&self, ids: &[&str]) -> Feed {
        self.subscribe(PRESENCE_FEED, json!({ "ids": ids })).await
    }

    /// Returns the presence of a user.
    pub async fn fetch_presence(&self, id: &str) -> Value {
        let query = "query($id: ID!) { user(id: $id) { presence { status lastSeenAt currentChatId } } }";
        self.ask_with(query, json!({ "id": id })).await.at("user.presence").clone()
    }

    /// Sets the user's presence over HTTP, and returns the status that other users see.
    pub async fn set_presence(&self, status: &str, chat: Option<&str>) -> Value {
        let input = json!({ "status": status, "currentChatId": chat });
        self.mutate_returning("setPresence", input, "presence { status }")
            .await
            .at("setPresence.presence.status")
            .clone()
    }

    /// Waits until a user has a status, because the server notices a closed connection with a delay.
    pub async fn wait_for_status(&self, id: &str, status: &str) -> Value {
        for _ in 0..200 {
            let presence = self.fetch_presence(id).await;
            if presence["status"] == status {
                return presence;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("{id} is not {status}: {}", self.fetch_presence(id).await);
    }
}
