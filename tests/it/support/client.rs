//! How people talk to a server: GraphQL over HTTP, and graphql-transport-ws.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::feed::{CHAT_FEED, Feed};

/// Longer than anything here takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client of HTTP. It asks the process for a provider of TLS.
pub fn http() -> reqwest::Client {
    parlor::tls::provide();
    reqwest::Client::new()
}

/// A person with a token.
#[derive(Clone)]
pub struct User {
    pub id: String,
    pub token: String,
    addr: SocketAddr,
    http: reqwest::Client,
}

/// What a request was answered.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: Value,
}

impl User {
    pub fn new(addr: SocketAddr, id: &str, token: String) -> Self {
        Self { id: id.into(), token, addr, http: http() }
    }

    /// The same person at another server.
    pub fn at(&self, addr: SocketAddr) -> Self {
        Self { addr, ..self.clone() }
    }

    /// The same person with a token of now.
    pub fn anew(&self, app: &super::TestApp) -> Self {
        Self { token: app.token("demo", &self.id, None), ..self.clone() }
    }

    pub async fn ask(&self, query: &str) -> Reply {
        self.ask_with(query, json!({})).await
    }

    pub async fn ask_with(&self, query: &str, variables: Value) -> Reply {
        self.try_ask(query, variables).await.expect("the server answers")
    }

    /// None where the server goes away meanwhile.
    pub async fn try_ask(&self, query: &str, variables: Value) -> Option<Reply> {
        let url = format!("http://{}/graphql", self.addr);
        let request =
            self.http.post(url).bearer_auth(&self.token).json(&json!({ "query": query, "variables": variables }));
        let response = timeout(PATIENCE, request.send()).await.expect("an answer in time").ok()?;
        Some(Reply { status: response.status().as_u16(), body: response.json().await.ok()? })
    }

    /// A mutation of this field, whose `input` it is; the selection says what is wanted back.
    pub async fn mutate(&self, field: &str, input: Value, selection: &str) -> Reply {
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

    /// A group of the viewer's with these people in.
    pub async fn group(&self, title: &str, people: &[&User]) -> String {
        self.chat("GROUP", title, people).await
    }

    pub async fn chat(&self, kind: &str, title: &str, people: &[&User]) -> String {
        let ids: Vec<&str> = people.iter().map(|user| user.id.as_str()).collect();
        let input = json!({ "kind": kind, "title": title, "memberIds": ids });
        self.mutate("createChat", input, "chat { id }").await.text("createChat.chat.id")
    }

    /// The viewer's direct chat with somebody: one in which nothing is said before they say it.
    pub async fn direct(&self, other: &User) -> String {
        let input = json!({ "userId": other.id });
        self.mutate("openDirectChat", input, "chat { id }").await.text("openDirectChat.chat.id")
    }

    /// Sends a text and gives the message's id.
    pub async fn send(&self, chat: &str, text: &str) -> String {
        let input = json!({ "chatId": chat, "text": text });
        self.mutate("sendMessage", input, "message { id }").await.text("sendMessage.message.id")
    }

    pub async fn socket(&self) -> Socket {
        let mut socket = Socket::open(self.addr).await;
        socket.init(&self.token).await;
        socket
    }

    /// A subscription on a socket of its own.
    pub async fn subscribe(&self, query: &str, variables: Value) -> Feed {
        let mut socket = self.socket().await;
        socket.subscribe("feed", query, variables).await;
        Feed::new(socket)
    }

    /// The feed of a chat, with what stories look at.
    pub async fn feed(&self, chat: &str, last: Option<i32>, after: Option<&str>) -> Feed {
        let variables = json!({ "chat": chat, "last": last, "after": after });
        self.subscribe(CHAT_FEED, variables).await
    }
}

impl Reply {
    /// The data, of a request in which nothing failed.
    #[track_caller]
    pub fn data(&self) -> &Value {
        assert!(self.body.get("errors").is_none(), "{}", self.body);
        &self.body["data"]
    }

    /// What is at a path of the data, as in `chat.members.nodes.0.role`.
    #[track_caller]
    pub fn at(&self, path: &str) -> &Value {
        path.split('.').fold(self.data(), |value, step| match step.parse::<usize>() {
            Ok(index) => &value[index],
            Err(_) => &value[step],
        })
    }

    #[track_caller]
    pub fn text(&self, path: &str) -> String {
        let value = self.at(path);
        value.as_str().unwrap_or_else(|| panic!("no text at {path}: {}", self.body)).to_owned()
    }

    /// The code of the one error.
    #[track_caller]
    pub fn code(&self) -> &str {
        let errors = self.body["errors"].as_array().unwrap_or_else(|| panic!("no error: {}", self.body));
        assert_eq!(errors.len(), 1, "{}", self.body);
        errors[0]["extensions"]["code"].as_str().unwrap_or_else(|| panic!("no code: {}", self.body))
    }

    #[track_caller]
    pub fn refused(&self, code: &str) {
        assert_eq!(self.code(), code, "{}", self.body);
    }

    /// BAD_USER_INPUT that names this field.
    #[track_caller]
    pub fn bad_input(&self, field: &str) {
        self.refused("BAD_USER_INPUT");
        assert_eq!(self.body["errors"][0]["extensions"]["field"], field, "{}", self.body);
    }
}

/// A WebSocket that speaks graphql-transport-ws, message by message.
pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub async fn open(addr: SocketAddr) -> Self {
        Self::open_with(addr, &[("sec-websocket-protocol", "graphql-transport-ws")]).await.expect("a WebSocket")
    }

    pub async fn open_with(addr: SocketAddr, headers: &[(&'static str, &str)]) -> Result<Self, SocketError> {
        let mut request = format!("ws://{addr}/graphql").into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a header"));
        }
        let (socket, _) = timeout(PATIENCE, connect_async(request)).await.expect("a handshake in time")?;
        Ok(Self(socket))
    }

    /// Asks for the upgrade by hand, as a client does that makes nothing of the answer.
    pub async fn shake_hands(addr: SocketAddr, headers: &[(&str, &str)]) -> (String, TcpStream) {
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
            head.push(timeout(PATIENCE, stream.read_u8()).await.expect("an answer in time").expect("an answer"));
        }
        (String::from_utf8(head).expect("text"), stream)
    }

    /// Goes on with a connection that [`Self::shake_hands`] made.
    pub async fn over(stream: TcpStream) -> Self {
        Self(WebSocketStream::from_raw_socket(MaybeTlsStream::Plain(stream), Role::Client, None).await)
    }

    pub async fn init(&mut self, token: &str) {
        self.say(json!({ "type": "connection_init", "payload": { "Authorization": format!("Bearer {token}") } })).await;
        assert_eq!(self.hear().await, json!({ "type": "connection_ack" }));
    }

    /// The same on a new connection to a server that may not be there, within a time.
    pub async fn try_join(addr: SocketAddr, token: &str, within: Duration) -> Option<Self> {
        let joining = async {
            let mut socket = Self::open_with(addr, &[("sec-websocket-protocol", "graphql-transport-ws")]).await.ok()?;
            let payload = json!({ "Authorization": format!("Bearer {token}") });
            socket.try_say(json!({ "type": "connection_init", "payload": payload })).await?;
            let ack = socket.hear_or_close().await.ok()?;
            (ack["type"] == "connection_ack").then_some(socket)
        };
        timeout(within, joining).await.ok()?
    }

    /// None where the server has gone.
    pub async fn try_say(&mut self, message: Value) -> Option<()> {
        self.0.send(Message::text(message.to_string())).await.ok()
    }

    pub async fn subscribe(&mut self, id: &str, query: &str, variables: Value) {
        self.say(json!({ "type": "subscribe", "id": id, "payload": { "query": query, "variables": variables } })).await;
    }

    pub async fn say(&mut self, message: Value) {
        self.say_raw(Message::text(message.to_string())).await;
    }

    pub async fn say_raw(&mut self, message: Message) {
        self.0.send(message).await.expect("the socket takes a message");
    }

    /// The next message.
    pub async fn hear(&mut self) -> Value {
        match self.hear_or_close().await {
            Ok(message) => message,
            Err(frame) => panic!("closed: {frame:?}"),
        }
    }

    /// The code and reason with which the server closes, after whatever it says before.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            if let Err(frame) = self.hear_or_close().await {
                let frame = frame.expect("a close frame");
                return (frame.code.into(), frame.reason.to_string());
            }
        }
    }

    /// The next message of any kind, pings too.
    pub async fn hear_raw(&mut self) -> Option<Result<Message, SocketError>> {
        timeout(PATIENCE, self.0.next()).await.expect("a message in time")
    }

    /// The code and reason with which the server closes while this is still being said to it.
    pub async fn closed_while(self, message: Message) -> (u16, String) {
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
            frame = timeout(PATIENCE, hearing) => {
                let frame = frame.expect("an end in time");
                (frame.code.into(), frame.reason.to_string())
            }
            () = saying => unreachable!("it waits for ever"),
        }
    }

    pub async fn hear_or_close(&mut self) -> Result<Value, Option<CloseFrame>> {
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
        timeout(PATIENCE, hearing).await.expect("a message in time")
    }
}
