//! Accepting connections at a free port of this machine.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// Accepts connections at a free port until it is dropped, and runs a task for each.
pub struct Acceptor {
    pub addr: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

impl Acceptor {
    /// Starts to accept connections, each of which is served with what they share.
    pub async fn start<S, F>(shared: Arc<S>, serve: fn(TcpStream, Arc<S>) -> F) -> Self
    where
        S: Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, shared.clone()));
            }
        });
        Self { addr, _accepting: AbortOnDropHandle::new(accepting) }
    }
}
