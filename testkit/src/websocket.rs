//! A client of the graphql-transport-ws protocol, message by message.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::TIMEOUT;

/// A WebSocket that speaks graphql-transport-ws, message by message.
pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub async fn connect(addr: SocketAddr) -> Self {
        Self::connect_with(addr, &[("sec-websocket-protocol", "graphql-transport-ws")]).await.expect("a WebSocket")
    }

    pub async fn connect_with(addr: SocketAddr, headers: &[(&'static str, &str)]) -> Result<Self, Error> {
        let mut request = format!("ws://{addr}/graphql").into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a header"));
        }
        let (socket, _) = timeout(TIMEOUT, connect_async(request)).await.expect("a handshake in time")?;
        Ok(Self(socket))
    }

    /// Asks for the upgrade by hand, as a client does that makes nothing of the answer.
    pub async fn handshake(addr: SocketAddr, headers: &[(&str, &str)]) -> (String, TcpStream) {
        let mut stream = TcpStream::connect(addr).await.expect("a connection");
        let mut request = format!(
            "GET /graphql HTTP/1.1\r\nhost: {addr}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        stream.write_all((request + "\r\n").as_bytes()).await.expect("the server reads");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(TIMEOUT, stream.read_u8()).await.expect("an answer in time").expect("an answer"));
        }
        (String::from_utf8(head).expect("text"), stream)
    }

    /// Goes on with a connection that [`Self::handshake`] made.
    pub async fn from_stream(stream: TcpStream) -> Self {
        Self(WebSocketStream::from_raw_socket(MaybeTlsStream::Plain(stream), Role::Client, None).await)
    }

    pub async fn init(&mut self, token: &str) {
        self.send(json!({ "type": "connection_init", "payload": { "Authorization": format!("Bearer {token}") } }))
            .await;
        assert_eq!(self.recv().await, json!({ "type": "connection_ack" }));
    }

    /// The same on a new connection to a server that may not be there, within a time.
    pub async fn try_connect(addr: SocketAddr, token: &str, within: Duration) -> Option<Self> {
        let joining = async {
            let mut socket =
                Self::connect_with(addr, &[("sec-websocket-protocol", "graphql-transport-ws")]).await.ok()?;
            let payload = json!({ "Authorization": format!("Bearer {token}") });
            socket.try_send(json!({ "type": "connection_init", "payload": payload })).await?;
            let ack = socket.recv_or_close().await.ok()?;
            (ack["type"] == "connection_ack").then_some(socket)
        };
        timeout(within, joining).await.ok()?
    }

    /// None where the server has gone.
    pub async fn try_send(&mut self, message: Value) -> Option<()> {
        self.0.send(Message::text(message.to_string())).await.ok()
    }

    pub async fn subscribe(&mut self, id: &str, query: &str, variables: Value) {
        self.send(json!({ "type": "subscribe", "id": id, "payload": { "query": query, "variables": variables } }))
            .await;
    }

    pub async fn send(&mut self, message: Value) {
        self.send_raw(Message::text(message.to_string())).await;
    }

    pub async fn send_raw(&mut self, message: Message) {
        self.0.send(message).await.expect("the socket takes a message");
    }

    /// The next message.
    pub async fn recv(&mut self) -> Value {
        match self.recv_or_close().await {
            Ok(message) => message,
            Err(frame) => panic!("closed: {frame:?}"),
        }
    }

    /// The code and reason with which the server closes, after whatever it says before.
    pub async fn expect_close(&mut self) -> (u16, String) {
        loop {
            if let Err(frame) = self.recv_or_close().await {
                let frame = frame.expect("a close frame");
                return (frame.code.into(), frame.reason.to_string());
            }
        }
    }

    /// The next message of any kind, pings too.
    pub async fn recv_raw(&mut self) -> Option<Result<Message, Error>> {
        timeout(TIMEOUT, self.0.next()).await.expect("a message in time")
    }

    /// The code and reason with which the server closes while this is still being said to it.
    pub async fn expect_close_while_sending(self, message: Message) -> (u16, String) {
        let (mut say, mut hear) = self.0.split();
        let saying = async {
            drop(say.send(message).await);
            std::future::pending().await
        };
        let hearing = async {
            loop {
                match hear.next().await {
                    Some(Ok(Message::Close(frame))) => break frame.expect("a close frame"),
                    Some(Ok(_)) => {}
                    gone => panic!("gone without a close frame: {gone:?}"),
                }
            }
        };
        tokio::select! {
            frame = timeout(TIMEOUT, hearing) => {
                let frame = frame.expect("an end in time");
                (frame.code.into(), frame.reason.to_string())
            }
            () = saying => unreachable!("it waits for ever"),
        }
    }

    pub async fn recv_or_close(&mut self) -> Result<Value, Option<CloseFrame>> {
        // The server's pings are heard meanwhile, and are no answer.
        let hearing = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).expect("JSON")),
                    Some(Ok(Message::Close(frame))) => return Err(frame),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Err(None),
                }
            }
        };
        timeout(TIMEOUT, hearing).await.expect("a message in time")
    }
}
