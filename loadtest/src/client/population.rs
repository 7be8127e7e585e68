//! The people and chats that a scenario needs, made through the API.

use std::net::SocketAddr;
use std::ops::Range;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use super::api::Api;
use super::parlor::token;
use crate::tools::Result;

/// As many people as the API takes in one call.
const AT_ONCE: usize = 100;
/// Requests under way while people are introduced.
const CONCURRENCY: usize = 32;

pub struct TestPopulation {
    pub api: Api,
    /// One for each person, by their number.
    pub tokens: Vec<String>,
}

impl TestPopulation {
    /// People appear by being seen in a token, so each says hello once.
    pub async fn gather(address: SocketAddr, people: usize) -> Result<Self> {
        let api = Api::new(address)?;
        let tokens: Vec<String> = (0..people).map(|number| token(&user(number))).collect();
        stream::iter(&tokens)
            .map(|token| api.ask(token, "{ viewer { user { id } } }", json!({})))
            .buffer_unordered(CONCURRENCY)
            .try_for_each(async |_| Ok(()))
            .await?;
        Ok(Self { api, tokens })
    }

    /// Follows a server that was started anew.
    pub fn moved_to(&mut self, address: SocketAddr) -> Result<()> {
        self.api = Api::new(address)?;
        Ok(())
    }

    /// A group of everybody, owned by the first.
    pub async fn group(&self, title: &str) -> Result<String> {
        self.group_of(title, 0..self.tokens.len()).await
    }

    /// A group of these people, owned by the first of them.
    pub async fn group_of(&self, title: &str, people: Range<usize>) -> Result<String> {
        const CREATE: &str = "mutation($input: CreateChatInput!) { createChat(input: $input) { chat { id } } }";
        const ADD: &str = "mutation($input: AddMembersInput!) { addMembers(input: $input) { chat { id } } }";
        let owner = &self.tokens[people.start];
        let others: Vec<String> = people.skip(1).map(user).collect();
        let mut others = others.chunks(AT_ONCE);
        let members = others.next().unwrap_or_default();
        let input = json!({ "kind": "GROUP", "title": title, "memberIds": members });
        let data = self.api.ask(owner, CREATE, json!({ "input": input })).await?;
        let chat = data["createChat"]["chat"]["id"].as_str().ok_or("a chat without id")?;
        for members in others {
            let input = json!({ "chatId": chat, "userIds": members });
            self.api.ask(owner, ADD, json!({ "input": input })).await?;
        }
        Ok(chat.into())
    }
}

/// Their id in the host application.
pub fn user(number: usize) -> String {
    format!("user{number}")
}
