//! GraphQL over one WebSocket, by the graphql-transport-ws protocol.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::tools::{Result, TIMEOUT, within};

pub struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    /// A connection that the server has acknowledged.
    pub async fn open(address: SocketAddr, token: &str) -> Result<Self> {
        within(TIMEOUT, "opening a socket", async {
            let mut request = format!("ws://{address}/graphql").into_client_request()?;
            let protocol = "graphql-transport-ws".parse()?;
            request.headers_mut().insert("sec-websocket-protocol", protocol);
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            // With its usual 128 KiB, which are cleared at every read, the generator would be slower
            // than what it measures.
            let config = WebSocketConfig::default().read_buffer_size(4_096);
            let (stream, _) = client_async_with_config(request, stream, Some(config)).await?;
            let mut socket = Self(stream);
            let payload = json!({ "Authorization": format!("Bearer {token}") });
            let init = json!({ "type": "connection_init", "payload": payload });
            socket.send(init.to_string()).await?;
            let answer = socket.next().await?;
            match answer.contains(r#""connection_ack""#) {
                true => Ok(socket),
                false => Err(format!("no acknowledgement but {answer}").into()),
            }
        })
        .await
    }

    pub async fn send(&mut self, text: String) -> Result<()> {
        Ok(self.0.send(Message::text(text)).await?)
    }

    /// The next message that is no ping. It may never come: callers bound their wait.
    pub async fn next(&mut self) -> Result<Utf8Bytes> {
        loop {
            match self.0.next().await.ok_or("the server ended the connection")?? {
                Message::Text(text) if is_ping(&text) => {
                    self.send(r#"{"type":"pong"}"#.into()).await?;
                }
                Message::Text(text) => return Ok(text),
                Message::Close(frame) => return Err(format!("closed by the server: {frame:?}").into()),
                _ => {}
            }
        }
    }
}

/// Told by length first, so that no large message is searched.
fn is_ping(text: &str) -> bool {
    text.len() < 64 && text.contains(r#""ping""#)
}

/// The message that begins an operation.
pub fn subscribe(id: &str, query: &str, variables: Value) -> String {
    let payload = json!({ "query": query, "variables": variables });
    json!({ "id": id, "type": "subscribe", "payload": payload }).to_string()
}
