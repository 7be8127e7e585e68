//! Typing as users announce it and see it.

use serde_json::{Value, json};

use crate::{Feed, User, pluck};

const TYPING: &str = "subscription($chat: ID!) { typing(chatId: $chat) { chatId users { id name } } }";

impl User {
    pub async fn typing_feed(&self, chat: &str) -> Feed {
        self.subscribe(TYPING, json!({ "chat": chat })).await
    }

    pub async fn set_typing(&self, chat: &str, typing: bool) -> Value {
        let input = json!({ "chatId": chat, "typing": typing });
        self.mutate_returning("setTyping", input, "expiresAt").await.at("setTyping.expiresAt").clone()
    }

    pub async fn fetch_typing(&self, chat: &str) -> Vec<Value> {
        pluck(&self.fetch_chat(chat, "typing { id }").await["typing"], "id")
    }
}

impl Feed {
    pub async fn next_typing_users(&mut self) -> Vec<Value> {
        pluck(&self.next().await["users"], "id")
    }
}
