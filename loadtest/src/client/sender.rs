//! Someone who sends messages, one at a time.

use std::net::SocketAddr;

use serde_json::json;

use super::api::Api;
use super::socket::{Socket, subscribe};
use crate::tools::Result;

/// The mutation, asking for what a client needs to show a message as sent.
pub const SEND: &str = "mutation Send($input: SendMessageInput!) { sendMessage(input: $input) \
    { message { id seq createdAt } replayed } }";

/// What everybody says: as long as a usual message.
pub const TEXT: &str = "The meeting moves to three o'clock, in the small room upstairs, as we agreed.";

/// What stands in a prepared request in the place of a nonce, and of a chat.
const NONCE: &str = "<nonce>";
const CHAT: &str = "<chat>";

pub struct Sender {
    number: usize,
    line: Line,
    request: String,
    acknowledged: usize,
}

enum Line {
    Socket(Box<Socket>),
    Http { api: Api, token: String },
}

impl Sender {
    pub async fn on_socket(number: usize, address: SocketAddr, token: &str) -> Result<Self> {
        Ok(Self {
            number,
            line: Line::Socket(Box::new(Socket::open(address, token).await?)),
            // The nonce serves as the operation's id too.
            request: subscribe(NONCE, SEND, variables()),
            acknowledged: 0,
        })
    }

    pub fn over_http(number: usize, api: &Api, token: &str) -> Self {
        Self {
            number,
            line: Line::Http { api: api.clone(), token: token.into() },
            request: json!({ "query": SEND, "variables": variables() }).to_string(),
            acknowledged: 0,
        }
    }

    /// How many of its messages were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    /// Sends its next message, to the chats in turns, and waits until it is acknowledged.
    pub async fn send(&mut self, chats: &[String]) -> Result<()> {
        let chat = &chats[(self.number + self.acknowledged) % chats.len()];
        let over = match self.line {
            Line::Socket(_) => "socket",
            Line::Http { .. } => "http",
        };
        let nonce = format!("{over}-{:03}-{:08}", self.number, self.acknowledged);
        let request = self.request.replace(NONCE, &nonce).replace(CHAT, chat);
        match &mut self.line {
            Line::Socket(socket) => {
                socket.send(request).await?;
                acknowledgement(socket, &nonce).await?;
            }
            Line::Http { api, token } => acknowledged(&api.post(token, request).await?)?,
        }
        self.acknowledged += 1;
        Ok(())
    }
}

fn variables() -> serde_json::Value {
    json!({ "input": { "chatId": CHAT, "nonce": NONCE, "text": TEXT } })
}

async fn acknowledgement(socket: &mut Socket, id: &str) -> Result<()> {
    loop {
        let answer = socket.next().await?;
        // The completion of the send before may still be on its way.
        if answer.contains(id) && !answer.contains(r#""complete""#) {
            return acknowledged(&answer);
        }
    }
}

fn acknowledged(answer: &str) -> Result<()> {
    match answer.contains(r#""replayed":false"#) {
        true => Ok(()),
        false => Err(format!("not acknowledged: {answer}").into()),
    }
}
