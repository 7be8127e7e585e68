//! The users and chats of a scenario, created through the API.

use std::net::SocketAddr;
use std::ops::Range;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use super::api::Api;
use super::parlor::{ORGANIZATION, token_in};
use crate::tools::Result;

/// The number of members that the API accepts in one request.
const MEMBERS_PER_REQUEST: usize = 100;
/// The number of concurrent requests while users are registered.
const CONCURRENCY: usize = 32;

/// The users of one organisation, named `user0`, `user1` and so on.
pub struct TestPopulation {
    pub api: Api,
    /// The tokens of the users, by number.
    pub tokens: Vec<String>,
}

impl TestPopulation {
    /// Registers users: the server creates a user at the first request with their token.
    pub async fn create(address: SocketAddr, users: usize) -> Result<Self> {
        Self::create_in(ORGANIZATION, address, users).await
    }

    /// Registers users of another organisation.
    pub async fn create_in(organization: &str, address: SocketAddr, users: usize) -> Result<Self> {
        let api = Api::new(address)?;
        let tokens: Vec<String> = (0..users).map(|number| token_in(organization, &user(number))).collect();
        stream::iter(&tokens)
            .map(|token| api.ask(token, "{ viewer { user { id } } }", json!({})))
            .buffer_unordered(CONCURRENCY)
            .try_for_each(async |_| Ok(()))
            .await?;
        Ok(Self { api, tokens })
    }

    /// Sends further requests to another address, after a restart of the server.
    pub fn set_address(&mut self, address: SocketAddr) -> Result<()> {
        self.api = Api::new(address)?;
        Ok(())
    }

    /// Creates a group of all users, owned by the first, and returns its id.
    pub async fn group(&self, title: &str) -> Result<String> {
        self.group_with(title, 0..self.tokens.len()).await
    }

    /// Creates a group of these users, owned by the first of them, and returns its id.
    pub async fn group_with(&self, title: &str, users: Range<usize>) -> Result<String> {
        const CREATE: &str = "mutation($input: CreateChatInput!) { createChat(input: $input) { chat { id } } }";
        const ADD: &str = "mutation($input: AddMembersInput!) { addMembers(input: $input) { chat { id } } }";
        let owner = &self.tokens[users.start];
        let others: Vec<String> = users.skip(1).map(user).collect();
        let mut others = others.chunks(MEMBERS_PER_REQUEST);
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

/// Returns the id of a user.
pub fn user(number: usize) -> String {
    format!("user{number}")
}
