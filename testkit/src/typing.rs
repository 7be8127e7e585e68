//! Typing indicators, as users set and read them.

use serde_json::{Value, json};

use crate::{Feed, User, pluck};

const TYPING: &str = "subscription($chat: ID!) { typing(chatId: $chat) { chatId users { id name } } }";

impl User {
    /// Subscribes to the typing users of a chat.
    pub async fn typing_feed(&self, chat: &str) -> Feed {
        self.subscribe(TYPING, json!({ "chat": chat })).await
    }

    /// Sets the user's typing indicator, and returns the time at which it expires.
    pub async fn set_typing(&self, chat: &str, typing: bool) -> Value {
        let input = json!({ "chatId": chat, "typing": typing });
        self.mutate_returning("setTyping", input, "expiresAt").await.at("setTyping.expiresAt").clone()
    }

    /// Returns the ids of a chat's typing users.
    pub async fn fetch_typing(&self, chat: &str) -> Vec<Value> {
        pluck(&self.fetch_chat(chat, "typing { id }").await["typing"], "id")
    }
}

impl Feed {
    /// Returns the ids of the typing users in the next event.
    pub async fn next_typing_users(&mut self) -> Vec<Value> {
        pluck(&self.next().await["users"], "id")
    }
}
