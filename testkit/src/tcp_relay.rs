//! A relay to a TCP server that can become unreachable, as a lost network or a stopped server does.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

use crate::acceptor::Acceptor;

/// The treatment of bytes that arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// They are passed on.
    Open,
    /// They wait, in both directions. Connections are still accepted, as by a stopped server.
    Held,
}

/// A relay that runs until it is dropped.
pub struct TcpRelay {
    acceptor: Acceptor,
    shared: Arc<Shared>,
}

struct Shared {
    target: SocketAddr,
    flow: watch::Sender<Flow>,
    /// Once a client has sent these bytes, they are passed on and everything later is held.
    hold_after: watch::Sender<Option<Vec<u8>>>,
    /// A client whose first bytes contain the first text gets the second one as its answer.
    refusal: Option<(Vec<u8>, Vec<u8>)>,
}

impl TcpRelay {
    /// Starts a relay to a server.
    pub async fn start(target: SocketAddr) -> Self {
        Self::start_with(target, None).await
    }

    /// Starts a relay that refuses clients whose first bytes contain a text, with an answer.
    pub async fn start_refusing(target: SocketAddr, text: &[u8], answer: &[u8]) -> Self {
        Self::start_with(target, Some((text.to_vec(), answer.to_vec()))).await
    }

    async fn start_with(target: SocketAddr, refusal: Option<(Vec<u8>, Vec<u8>)>) -> Self {
        let (flow, hold_after) = (watch::Sender::new(Flow::Open), watch::Sender::new(None));
        let shared = Arc::new(Shared { target, flow, hold_after, refusal });
        let acceptor = Acceptor::start(shared.clone(), relay).await;
        Self { acceptor, shared }
    }

    /// Returns the address at which clients reach the server through the relay.
    pub fn addr(&self) -> SocketAddr {
        self.acceptor.addr
    }

    /// Holds everything that arrives.
    pub fn hold(&self) {
        self.shared.flow.send_replace(Flow::Held);
    }

    /// Holds everything that arrives after a client has sent these bytes, the server's answers included.
    pub fn hold_after(&self, bytes: &[u8]) {
        self.shared.hold_after.send_replace(Some(bytes.to_vec()));
    }

    /// Passes on what was held, and everything later.
    pub fn release(&self) {
        self.shared.hold_after.send_replace(None);
        self.shared.flow.send_replace(Flow::Open);
    }
}

impl Shared {
    async fn wait_until_open(&self) {
        // The sender lives as long as `self`.
        drop(self.flow.subscribe().wait_for(|flow| *flow == Flow::Open).await);
    }

    /// Begins to hold if a client has sent the bytes after which to do so.
    fn look_for_hold(&self, bytes: &[u8]) {
        let hold_after = self.hold_after.borrow().clone();
        if let Some(wanted) = hold_after
            && bytes.windows(wanted.len()).any(|window| window == wanted)
        {
            self.flow.send_replace(Flow::Held);
        }
    }
}

/// Relays one connection until either side closes it.
async fn relay(client: TcpStream, shared: Arc<Shared>) {
    shared.wait_until_open().await;
    let Ok(server) = TcpStream::connect(shared.target).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    if let Some((text, answer)) = &shared.refusal {
        let mut first = vec![0; 4096];
        // Nothing is consumed, so that the connection is relayed from its beginning.
        let length = from_client.peek(&mut first).await.unwrap_or(0);
        if first[..length].windows(text.len()).any(|window| window == text) {
            drop(to_client.write_all(answer).await);
            return;
        }
    }
    let requests = pass_on(from_client, to_server, shared.clone(), true);
    let responses = pass_on(from_server, to_client, shared.clone(), false);
    tokio::select! {
        () = requests => {}
        () = responses => {}
    }
}

async fn pass_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: Arc<Shared>, is_request: bool) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length) = from.read(&mut buffer).await {
        shared.wait_until_open().await;
        if length == 0 || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
        if is_request {
            shared.look_for_hold(&buffer[..length]);
        }
    }
}
