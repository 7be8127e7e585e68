//! A listener: accepts connections within their bounds, and serves each on a task of its own.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::io::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::Error;
use crate::graphql::admission::request::RejectedRequest;
use crate::http::connections::{ConnectionTable, Refusal};
use crate::http::http1;
use crate::http::routes::Routes;
use crate::http::tcp_stream::TcpIo;
use crate::metrics::{KindLabel, METRICS};
use crate::rate_limited_log::RateLimitedLog;

/// The pause after a failed attempt to accept a connection.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(50);
/// The maximum number of refused connections that are open until their clients have read the reason.
const MAX_OPEN_REFUSALS: usize = 16;
/// The longest time for which a refused connection stays open.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// A bound address and what is served there.
pub struct HttpListener {
    pub listener: TcpListener,
    pub connections: Arc<ConnectionTable>,
    pub routes: Arc<Routes>,
    /// The longest time for which a client may read nothing that is written.
    pub write_timeout: Duration,
}

/// The means by which the accept loop refuses connections.
struct Refuser {
    permits: Arc<Semaphore>,
    response: Bytes,
    log: RateLimitedLog,
}

impl HttpListener {
    /// Accepts connections until `stop` is cancelled, and then waits until the open ones are done.
    ///
    /// A connection that is open then ends after its request; see [`http1::serve`]. It is cancel-safe, and connections
    /// go on when it is dropped.
    pub async fn serve(self, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let refuser = Refuser::new();
        let accept_log = RateLimitedLog::default();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.recover_from(&error, &accept_log).await;
                    continue;
                }
            };
            match self.connections.admit(address.ip()) {
                Ok(slot) => {
                    let io = TcpIo::new(stream, self.write_timeout);
                    tasks.spawn(http1::serve(io, slot, self.routes.clone(), stop.clone()));
                }
                Err(refusal) => refuser.refuse(stream, address.ip(), refusal, self.connections.max_connections()),
            }
        }
        drop(self.listener);
        tasks.close();
        tasks.wait().await;
    }

    /// Handles a failed `accept`.
    ///
    /// Without a free descriptor no connection can be accepted, so the one that has waited longest is closed. The
    /// pending connection stays in the queue of the system meanwhile.
    async fn recover_from(&self, error: &io::Error, log: &RateLimitedLog) {
        let is_of_one_connection = [Errno::CONNABORTED, Errno::CONNRESET, Errno::INTR, Errno::PROTO]
            .iter()
            .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()));
        if is_of_one_connection {
            return;
        }
        METRICS.accept_errors.inc();
        if let Some(occurrences) = log.occurrences_to_log() {
            tracing::error!(%error, occurrences, "connections cannot be accepted; the longest-waiting ones are closed");
        }
        self.connections.close_longest_waiting();
        sleep(ACCEPT_RETRY_PAUSE).await;
    }
}

impl Refuser {
    fn new() -> Self {
        let error = Error::unavailable("too many connections");
        let body = RejectedRequest::from(&error).into_graphql_response().body;
        let head = format!(
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json; charset=utf-8\r\n\
             cache-control: no-store\r\nx-content-type-options: nosniff\r\nretry-after: 1\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        let response = [head.as_bytes(), body.as_bytes()].concat().into();
        Self { permits: Arc::new(Semaphore::new(MAX_OPEN_REFUSALS)), response, log: RateLimitedLog::default() }
    }

    /// Closes a connection beyond a bound, and responds with the reason if few clients wait for it.
    fn refuse(&self, stream: TcpStream, address: IpAddr, refusal: Refusal, max_connections: usize) {
        let kind = match refusal {
            Refusal::Full => "total",
            Refusal::Address => "address",
        };
        METRICS.connections_refused.get_or_create(&KindLabel { kind }).inc();
        if let Some(occurrences) = self.log.occurrences_to_log() {
            tracing::warn!(bound = refusal.setting(), %address, max_connections, occurrences, "connections are refused");
        }
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            let response = self.response.clone();
            tokio::spawn(async move {
                // An error means that the client is gone already.
                let _ = timeout(REFUSAL_TIMEOUT, send_refusal(stream, &response)).await;
                drop(permit);
            });
        }
    }
}

/// Sends a response once a request begins, and then waits until the client closes the connection.
///
/// Clients do not expect a response before they send a request. A connection that is closed with unread input is reset,
/// and the client might not read the response.
async fn send_refusal(mut stream: TcpStream, response: &[u8]) -> io::Result<()> {
    let mut discarded = [0; 1024];
    if stream.read(&mut discarded).await? == 0 {
        return Ok(());
    }
    stream.write_all(response).await?;
    stream.shutdown().await?;
    while stream.read(&mut discarded).await? > 0 {}
    Ok(())
}
