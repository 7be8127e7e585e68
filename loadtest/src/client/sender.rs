//! A user who sends messages, one at a time.

use std::net::SocketAddr;

use serde_json::json;

use super::api::Api;
use super::socket::{Socket, subscribe};
use crate::tools::Result;

/// The mutation, with the fields that a client needs to show a message as sent.
pub const SEND: &str = "mutation Send($input: SendMessageInput!) { sendMessage(input: $input) \
    { message { id seq createdAt } replayed } }";

/// The text of all messages, of a typical length.
pub const TEXT: &str = "The meeting moves to three o'clock, in the small room upstairs, as we agreed.";

/// The placeholders of the nonce, the chat and the text in a prepared request.
const NONCE: &str = "<nonce>";
const CHAT: &str = "<chat>";
const WORDS: &str = "<text>";

/// A user who sends messages over one transport, and waits for each acknowledgement.
pub struct Sender {
    number: usize,
    transport: Transport,
    request: String,
    acknowledged: usize,
}

enum Transport {
    Socket(Box<Socket>),
    Http { api: Api, token: String },
}

impl Sender {
    /// Opens a WebSocket for a sender.
    pub async fn over_socket(number: usize, address: SocketAddr, token: &str) -> Result<Self> {
        Ok(Self {
            number,
            transport: Transport::Socket(Box::new(Socket::open(address, token).await?)),
            // The nonce is also the operation's id.
            request: subscribe(NONCE, SEND, variables()),
            acknowledged: 0,
        })
    }

    /// Creates a sender over HTTP.
    pub fn over_http(number: usize, api: &Api, token: &str) -> Self {
        Self {
            number,
            transport: Transport::Http { api: api.clone(), token: token.into() },
            request: json!({ "query": SEND, "variables": variables() }).to_string(),
            acknowledged: 0,
        }
    }

    /// Returns the number of acknowledged messages.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    /// Sends the next message to one of the chats in turn, and waits for its acknowledgement.
    pub async fn send(&mut self, chats: &[String]) -> Result<()> {
        let chat = &chats[(self.number + self.acknowledged) % chats.len()];
        let transport = match self.transport {
            Transport::Socket(_) => "socket",
            Transport::Http { .. } => "http",
        };
        let nonce = format!("{transport}-{:03}-{:08}", self.number, self.acknowledged);
        self.send_text(chat, &nonce, TEXT).await
    }

    /// Sends a text that needs no escape in JSON, and waits for its acknowledgement.
    pub async fn send_text(&mut self, chat: &str, nonce: &str, text: &str) -> Result<()> {
        let request = self.request.replace(NONCE, nonce).replace(CHAT, chat).replace(WORDS, text);
        match &mut self.transport {
            Transport::Socket(socket) => {
                socket.send(request).await?;
                wait_for_acknowledgement(socket, nonce).await?;
            }
            Transport::Http { api, token } => check_acknowledgement(&api.post(token, request).await?)?,
        }
        self.acknowledged += 1;
        Ok(())
    }
}

fn variables() -> serde_json::Value {
    json!({ "input": { "chatId": CHAT, "nonce": NONCE, "text": WORDS } })
}

async fn wait_for_acknowledgement(socket: &mut Socket, id: &str) -> Result<()> {
    loop {
        let frame = socket.next().await?;
        // The `complete` of the previous send may arrive first.
        if frame.contains(id) && !frame.contains(r#""complete""#) {
            return check_acknowledgement(&frame);
        }
    }
}

fn check_acknowledgement(response: &str) -> Result<()> {
    match response.contains(r#""replayed":false"#) {
        true => Ok(()),
        false => Err(format!("not acknowledged: {response}").into()),
    }
}
