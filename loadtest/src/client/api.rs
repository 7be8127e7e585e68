//! GraphQL over HTTP with persistent connections.

use std::net::SocketAddr;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Response};
use serde_json::{Value, json};

use crate::tools::{Result, TIMEOUT};

/// An HTTP client whose clones share its connections.
#[derive(Clone)]
pub struct Api {
    client: Client,
    url: String,
}

impl Api {
    /// Creates a client of `/graphql` on a server.
    pub fn new(address: SocketAddr) -> Result<Self> {
        Self::with_path(address, "/graphql")
    }

    /// Creates a client of another path on a server.
    pub fn with_path(address: SocketAddr, path: &str) -> Result<Self> {
        Ok(Self { client: Client::builder().timeout(TIMEOUT).build()?, url: format!("http://{address}{path}") })
    }

    /// Sends an operation and returns its data; an error in the response is an error.
    pub async fn ask(&self, token: &str, query: &str, variables: Value) -> Result<Value> {
        let body = json!({ "query": query, "variables": variables }).to_string();
        let mut response: Value = serde_json::from_str(&self.post(token, body).await?)?;
        match &response["errors"] {
            Value::Null => Ok(response["data"].take()),
            errors => Err(format!("{errors} for {query}").into()),
        }
    }

    /// Sends a request body and returns the response's body.
    pub async fn post(&self, token: &str, body: String) -> Result<String> {
        let response = self.send(token, body).await?;
        let status = response.status();
        let text = response.text().await?;
        if status.is_success() { Ok(text) } else { Err(format!("{status}: {text}").into()) }
    }

    /// Sends a request body and returns the response's body, whatever its status.
    pub async fn exchange(&self, token: &str, body: String) -> Result<String> {
        Ok(self.send(token, body).await?.text().await?)
    }

    async fn send(&self, token: &str, body: String) -> Result<Response> {
        let request = self.client.post(&self.url).bearer_auth(token);
        Ok(request.header(CONTENT_TYPE, "application/json").body(body).send().await?)
    }
}
