//! A user who sends GraphQL over HTTP and opens WebSockets.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::feed::CHAT_FEED;
use crate::{Feed, Socket, TIMEOUT, TestApp};

/// Returns an HTTP client.
pub fn http_client() -> reqwest::Client {
    provide_tls();
    reqwest::Client::new()
}

/// Installs the TLS provider that every HTTP client of the process needs.
pub fn provide_tls() {
    parlor::crypto_provider::install_crypto_provider();
}

/// A user with a token.
#[derive(Clone)]
pub struct User {
    pub id: String,
    pub token: String,
    addr: SocketAddr,
    http: reqwest::Client,
}

/// The response to a GraphQL request.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: Value,
}

impl User {
    /// Creates a client of the server at this address.
    pub fn new(addr: SocketAddr, id: &str, token: String) -> Self {
        Self { id: id.into(), token, addr, http: http_client() }
    }

    /// Returns a client of another server for the same user.
    pub fn at(&self, addr: SocketAddr) -> Self {
        Self { addr, ..self.clone() }
    }

    /// Returns the same client with another token.
    pub fn with_token(&self, token: String) -> Self {
        Self { token, ..self.clone() }
    }

    /// Returns a client for the same user with a token that is issued now.
    pub fn with_fresh_token(&self, app: &TestApp) -> Self {
        Self { token: app.token("demo", &self.id, None), ..self.clone() }
    }

    /// Sends an operation without variables.
    pub async fn ask(&self, query: &str) -> Reply {
        self.ask_with(query, json!({})).await
    }

    /// Sends an operation.
    pub async fn ask_with(&self, query: &str, variables: Value) -> Reply {
        self.try_ask(query, variables).await.expect("the server answers")
    }

    /// Sends an operation, and returns `None` if the connection fails.
    pub async fn try_ask(&self, query: &str, variables: Value) -> Option<Reply> {
        let url = format!("http://{}/graphql", self.addr);
        let request =
            self.http.post(url).bearer_auth(&self.token).json(&json!({ "query": query, "variables": variables }));
        let response = timeout(TIMEOUT, request.send()).await.expect("an answer in time").ok()?;
        Some(Reply { status: response.status().as_u16(), body: response.json().await.ok()? })
    }

    /// Sends a mutation of one field with this input and selection.
    pub async fn mutate_returning(&self, field: &str, input: Value, selection: &str) -> Reply {
        let kind = format!(
            "{}Input!",
            match field {
                "addReaction" | "removeReaction" => "Reaction".to_owned(),
                "unpinMessage" => "PinMessage".to_owned(),
                field => field[..1].to_uppercase() + &field[1..],
            }
        );
        self.ask_with(
            &format!("mutation($input: {kind}) {{ {field}(input: $input) {{ {selection} }} }}"),
            json!({ "input": input }),
        )
        .await
    }

    /// Creates a group with these members, and returns its id.
    pub async fn group(&self, title: &str, members: &[&User]) -> String {
        self.chat("GROUP", title, members).await
    }

    /// Creates a chat of this kind with these members, and returns its id.
    pub async fn chat(&self, kind: &str, title: &str, members: &[&User]) -> String {
        let ids: Vec<&str> = members.iter().map(|user| user.id.as_str()).collect();
        let input = json!({ "kind": kind, "title": title, "memberIds": ids });
        self.mutate_returning("createChat", input, "chat { id }").await.text("createChat.chat.id")
    }

    /// Opens the direct chat with another user, and returns its id.
    pub async fn direct(&self, other: &User) -> String {
        let input = json!({ "userId": other.id });
        self.mutate_returning("openDirectChat", input, "chat { id }").await.text("openDirectChat.chat.id")
    }

    /// Sends a text message and returns its id.
    pub async fn send(&self, chat: &str, text: &str) -> String {
        let input = json!({ "chatId": chat, "text": text });
        self.mutate_returning("sendMessage", input, "message { id }").await.text("sendMessage.message.id")
    }

    /// Opens a WebSocket that the server has acknowledged.
    pub async fn socket(&self) -> Socket {
        let mut socket = Socket::connect(self.addr).await;
        socket.init(&self.token).await;
        socket
    }

    /// Starts a subscription on its own WebSocket.
    pub async fn subscribe(&self, query: &str, variables: Value) -> Feed {
        let mut socket = self.socket().await;
        socket.subscribe("feed", query, variables).await;
        Feed::new(socket)
    }

    /// Subscribes to a chat's feed with the selection `CHAT_FEED`.
    pub async fn feed(&self, chat: &str, last: Option<i32>, after: Option<&str>) -> Feed {
        let variables = json!({ "chat": chat, "last": last, "after": after });
        self.subscribe(CHAT_FEED, variables).await
    }
}

impl Reply {
    /// Asserts that the response has no errors, and returns its data.
    #[track_caller]
    pub fn data(&self) -> &Value {
        assert!(self.body.get("errors").is_none(), "{}", self.body);
        &self.body["data"]
    }

    /// Returns the value at a path of the data, such as `chat.members.nodes.0.role`.
    #[track_caller]
    pub fn at(&self, path: &str) -> &Value {
        path.split('.').fold(self.data(), |value, step| match step.parse::<usize>() {
            Ok(index) => &value[index],
            Err(_) => &value[step],
        })
    }

    /// Returns the string at a path of the data.
    #[track_caller]
    pub fn text(&self, path: &str) -> String {
        let value = self.at(path);
        value.as_str().unwrap_or_else(|| panic!("no text at {path}: {}", self.body)).to_owned()
    }

    /// Asserts that the response has exactly one error, and returns its code.
    #[track_caller]
    pub fn code(&self) -> &str {
        let errors = self.body["errors"].as_array().unwrap_or_else(|| panic!("no error: {}", self.body));
        assert_eq!(errors.len(), 1, "{}", self.body);
        errors[0]["extensions"]["code"].as_str().unwrap_or_else(|| panic!("no code: {}", self.body))
    }

    /// Asserts that the response has exactly one error, with this code.
    #[track_caller]
    pub fn assert_error(&self, code: &str) {
        assert_eq!(self.code(), code, "{}", self.body);
    }

    /// Asserts that the response has exactly one error, `BAD_USER_INPUT` for this field.
    #[track_caller]
    pub fn assert_bad_input(&self, field: &str) {
        self.assert_error("BAD_USER_INPUT");
        assert_eq!(self.body["errors"][0]["extensions"]["field"], field, "{}", self.body);
    }
}
