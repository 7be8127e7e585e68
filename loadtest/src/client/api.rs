//! GraphQL over HTTP, on connections that are kept.

use std::net::SocketAddr;

use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::tools::{Result, TIMEOUT};

/// A handle, cheap to clone: all clones share the connections.
#[derive(Clone)]
pub struct Api {
    client: Client,
    url: String,
}

impl Api {
    pub fn new(address: SocketAddr) -> Result<Self> {
        Self::at(address, "/graphql")
    }

    /// The same for another path of a server.
    pub fn at(address: SocketAddr, path: &str) -> Result<Self> {
        Ok(Self { client: Client::builder().timeout(TIMEOUT).build()?, url: format!("http://{address}{path}") })
    }

    /// The data of an answer without errors.
    pub async fn ask(&self, token: &str, query: &str, variables: Value) -> Result<Value> {
        let body = json!({ "query": query, "variables": variables }).to_string();
        let mut answer: Value = serde_json::from_str(&self.post(token, body).await?)?;
        match &answer["errors"] {
            Value::Null => Ok(answer["data"].take()),
            errors => Err(format!("{errors} for {query}").into()),
        }
    }

    /// The text of the answer.
    pub async fn post(&self, token: &str, body: String) -> Result<String> {
        let request = self.client.post(&self.url).bearer_auth(token);
        let request = request.header(CONTENT_TYPE, "application/json").body(body);
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        if status.is_success() { Ok(text) } else { Err(format!("{status}: {text}").into()) }
    }
}
