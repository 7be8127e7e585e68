//! GraphQL over a WebSocket with the graphql-transport-ws protocol.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::tools::{Result, TIMEOUT, within};

/// A WebSocket on which the server has acknowledged the connection.
pub struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    /// Connects, authenticates with a token, and waits for the acknowledgement.
    pub async fn open(address: SocketAddr, token: &str) -> Result<Self> {
        within(TIMEOUT, "opening a socket", async {
            let mut request = format!("ws://{address}/graphql").into_client_request()?;
            let protocol = "graphql-transport-ws".parse()?;
            request.headers_mut().insert("sec-websocket-protocol", protocol);
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            // The default buffer of 128 KiB, which is cleared at every read, would make the generator slower than the
            // server that it measures.
            let config = WebSocketConfig::default().read_buffer_size(4_096);
            let (stream, _) = client_async_with_config(request, stream, Some(config)).await?;
            let mut socket = Self(stream);
            let payload = json!({ "Authorization": format!("Bearer {token}") });
            let init = json!({ "type": "connection_init", "payload": payload });
            socket.send(init.to_string()).await?;
            let response = socket.next().await?;
            match response.contains(r#""connection_ack""#) {
                true => Ok(socket),
                false => Err(format!("expected connection_ack, received {response}").into()),
            }
        })
        .await
    }

    /// Sends a text message.
    pub async fn send(&mut self, text: String) -> Result<()> {
        Ok(self.0.send(Message::text(text)).await?)
    }

    /// Returns the next message, and answers the protocol's pings.
    ///
    /// A message may never arrive, so callers limit the wait.
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

/// Checks the length first, so that no large message is searched.
fn is_ping(text: &str) -> bool {
    text.len() < 64 && text.contains(r#""ping""#)
}

/// Returns the message that starts an operation.
pub fn subscribe(id: &str, query: &str, variables: Value) -> String {
    let payload = json!({ "query": query, "variables": variables });
    json!({ "id": id, "type": "subscribe", "payload": payload }).to_string()
}
