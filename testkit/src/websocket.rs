//! A client of the graphql-transport-ws protocol.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async, connect_async};

use crate::TIMEOUT;

/// The receive buffer of a client that blocks the server soon.
const SMALL_BUFFER_BYTES: u32 = 4 * 1024;

/// Connects with a small receive buffer, so that a client that does not read blocks the server soon.
pub async fn connect_with_small_buffer(addr: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(SMALL_BUFFER_BYTES).expect("a small buffer");
    socket.connect(addr).await.expect("a connection")
}

/// A WebSocket that sends and receives single messages of the graphql-transport-ws protocol.
pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    /// Connects with the protocol's name as the only extra header.
    pub async fn connect(addr: SocketAddr) -> Self {
        Self::connect_with(addr, &[("sec-websocket-protocol", "graphql-transport-ws")]).await.expect("a WebSocket")
    }

    /// Connects with these headers.
    pub async fn connect_with(addr: SocketAddr, headers: &[(&'static str, &str)]) -> Result<Self, Error> {
        let mut request = format!("ws://{addr}/graphql").into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a header"));
        }
        let (socket, _) = timeout(TIMEOUT, connect_async(request)).await.expect("a handshake in time")?;
        Ok(Self(socket))
    }

    /// Opens a WebSocket with a small receive buffer, which the server has acknowledged.
    pub async fn with_small_buffer(addr: SocketAddr, token: &str) -> Self {
        let stream = MaybeTlsStream::Plain(connect_with_small_buffer(addr).await);
        let mut request = format!("ws://{addr}/graphql").into_client_request().expect("a request");
        request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().expect("a header"));
        let (socket, _) =
            timeout(TIMEOUT, client_async(request, stream)).await.expect("a handshake").expect("a socket");
        let mut socket = Self(socket);
        socket.init(token).await;
        socket
    }

    /// Sends an upgrade request without validating the response, and returns its head and the connection.
    pub async fn handshake(addr: SocketAddr, headers: &[(&str, &str)]) -> (String, TcpStream) {
        let mut stream = TcpStream::connect(addr).await.expect("a connection");
        let mut request = format!(
            "GET /graphql HTTP/1.1\r\nhost: {addr}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        stream.write_all((request + "\r\n").as_bytes()).await.expect("the server reads the request");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(TIMEOUT, stream.read_u8()).await.expect("a response in time").expect("a response"));
        }
        (String::from_utf8(head).expect("text"), stream)
    }

    /// Wraps a connection that [`Self::handshake`] returned.
    pub async fn from_stream(stream: TcpStream) -> Self {
        Self(WebSocketStream::from_raw_socket(MaybeTlsStream::Plain(stream), Role::Client, None).await)
    }

    /// Sends `connection_init` with a token, and expects `connection_ack`.
    pub async fn init(&mut self, token: &str) {
        self.send(json!({ "type": "connection_init", "payload": { "Authorization": format!("Bearer {token}") } }))
            .await;
        assert_eq!(self.recv().await, json!({ "type": "connection_ack" }));
    }

    /// Connects and initialises within a time limit; returns `None` if the server is unavailable.
    pub async fn try_connect(addr: SocketAddr, token: &str, within: Duration) -> Option<Self> {
        let connecting = async {
            let mut socket =
                Self::connect_with(addr, &[("sec-websocket-protocol", "graphql-transport-ws")]).await.ok()?;
            let payload = json!({ "Authorization": format!("Bearer {token}") });
            socket.try_send(json!({ "type": "connection_init", "payload": payload })).await?;
            let ack = socket.recv_or_close().await.ok()?;
            (ack["type"] == "connection_ack").then_some(socket)
        };
        timeout(within, connecting).await.ok()?
    }

    /// Sends a message; returns `None` if the connection is broken.
    pub async fn try_send(&mut self, message: Value) -> Option<()> {
        self.0.send(Message::text(message.to_string())).await.ok()
    }

    /// Starts an operation.
    pub async fn subscribe(&mut self, id: &str, query: &str, variables: Value) {
        self.send(json!({ "type": "subscribe", "id": id, "payload": { "query": query, "variables": variables } }))
            .await;
    }

    /// Sends a message of the protocol.
    pub async fn send(&mut self, message: Value) {
        self.send_raw(Message::text(message.to_string())).await;
    }

    /// Sends any WebSocket message.
    pub async fn send_raw(&mut self, message: Message) {
        self.0.send(message).await.expect("an open connection");
    }

    /// Returns the next message of the protocol.
    pub async fn recv(&mut self) -> Value {
        match self.recv_or_close().await {
            Ok(message) => message,
            Err(frame) => panic!("closed: {frame:?}"),
        }
    }

    /// Skips messages until the server closes, and returns the close code and reason.
    pub async fn expect_close(&mut self) -> (u16, String) {
        loop {
            if let Err(frame) = self.recv_or_close().await {
                let frame = frame.expect("a close frame");
                return (frame.code.into(), frame.reason.to_string());
            }
        }
    }

    /// Returns the next WebSocket message, including pings.
    pub async fn recv_raw(&mut self) -> Option<Result<Message, Error>> {
        timeout(TIMEOUT, self.0.next()).await.expect("a message in time")
    }

    /// Returns the close code and reason of a server that closes while a message is being sent.
    pub async fn expect_close_while_sending(self, message: Message) -> (u16, String) {
        let (mut sink, mut stream) = self.0.split();
        let sending = async {
            drop(sink.send(message).await);
            std::future::pending().await
        };
        let receiving = async {
            loop {
                match stream.next().await {
                    Some(Ok(Message::Close(frame))) => break frame.expect("a close frame"),
                    Some(Ok(_)) => {}
                    end => panic!("ended without a close frame: {end:?}"),
                }
            }
        };
        tokio::select! {
            frame = timeout(TIMEOUT, receiving) => {
                let frame = frame.expect("an end in time");
                (frame.code.into(), frame.reason.to_string())
            }
            () = sending => unreachable!("the future never completes"),
        }
    }

    /// Returns the next message of the protocol, or the close frame if the server closes.
    pub async fn recv_or_close(&mut self) -> Result<Value, Option<CloseFrame>> {
        // WebSocket pings are not messages of the protocol.
        let receiving = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).expect("JSON")),
                    Some(Ok(Message::Close(frame))) => return Err(frame),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Err(None),
                }
            }
        };
        timeout(TIMEOUT, receiving).await.expect("a message in time")
    }
}
