//! One WebSocket.
//!
//! Its operations are streams that the connection itself polls, and only while there is room: what is
//! ready goes out in one flush, and while the other side takes nothing no feed is read. A feed that
//! was not read goes on from its cursor, so a slow socket costs itself time and the server no memory.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::FuturesUnordered;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::graphql::api::{GraphqlRequest, RejectedRequest};
use crate::graphql::operation_stream::OperationStream;
use crate::graphql::schema::context::Requester;
use crate::http::HttpState;
use crate::http::graphql_http::bearer_token;
use crate::http::tcp_stream::SharedTcpWriter;
use crate::http::websocket::operations::Operations;
use crate::http::websocket::protocol::{Action, CloseStatus, Protocol};
use crate::metrics::{GaugeGuard, KindLabel, METRICS};
use crate::realtime::presence::tracker::ConnectionGuard;
use crate::realtime::sessions::{Session, SessionState};
use crate::service;

/// How long the other side gets to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

pub struct Connection {
    state: HttpState,
    socket: WebSocket,
    protocol: Protocol,
    session: Option<Arc<Session>>,
    /// The viewer is there as long as the connection is.
    presence: Option<ConnectionGuard>,
    operations: Operations,
    /// The other side was slow to take what was last written.
    write_blocked: bool,
}

/// What happens beside messages and operations, rarely.
enum ConnectionEvent {
    /// The server stops.
    ShutdownRequested,
    /// It may be time for a ping, or to give up.
    DeadlineReached,
    Authenticated(Result<Arc<Session>>),
    SessionEnded(SessionState),
}

type ConnectionEvents = FuturesUnordered<BoxFuture<'static, ConnectionEvent>>;

/// Why a connection ends.
enum CloseReason {
    /// By our close frame.
    SendClose(CloseStatus),
    /// By our close frame, where nothing more can be read of what the other side says.
    SendCloseUnread(CloseStatus),
    /// By the other side's, which is answered.
    PeerClosed,
    /// The other side has gone, or never will answer.
    Disconnected,
}

impl From<axum::Error> for CloseReason {
    fn from(_: axum::Error) -> Self {
        Self::Disconnected
    }
}

impl Connection {
    pub fn new(state: HttpState, socket: WebSocket, wire: SharedTcpWriter) -> Box<Self> {
        let (protocol, operations) = (Protocol::new(), Operations::new(wire));
        Box::new(Self { state, socket, protocol, session: None, presence: None, operations, write_blocked: false })
    }

    /// Serves the connection to its end. What only the end needs is boxed: an idle connection holds as much as
    /// this future may ever need.
    pub async fn serve(mut self: Box<Self>) {
        let _counted = GaugeGuard::increment(&METRICS.connections.get_or_create(&KindLabel { kind: "websocket" }));
        let end = self.run().await;
        let Self { mut socket, operations, .. } = *self;
        // After a close frame nothing more is told (RFC 6455, section 5.5.1).
        let wire = operations.into_writer();
        match end {
            CloseReason::SendClose(reason) => close(socket, reason).boxed().await,
            CloseReason::SendCloseUnread(reason) => close_unread(socket, reason).boxed().await,
            // The answer was written by who read the frame; it has to go out.
            CloseReason::PeerClosed => {
                let answering = async move {
                    socket.close().await.ok();
                    wire.flush().await.ok();
                };
                timeout(CLOSE_TIMEOUT, answering).boxed().await.ok();
            }
            CloseReason::Disconnected => {}
        }
    }

    async fn run(&mut self) -> CloseReason {
        let http = &self.state.app.config.http;
        let (ping_every, drain) = (http.socket_ping_interval, http.drain_period);
        let init_until = Instant::now() + http.socket_init_timeout;
        let stop = self.state.stop.clone();
        let mut next_ping = Instant::now() + ping_every;
        let mut leave_at: Option<Instant> = None;
        let mut heard = Instant::now();
        let mut signals = ConnectionEvents::new();
        signals.push(next_deadline(init_until.min(next_ping)));
        signals.push(stop.clone().cancelled_owned().map(|()| ConnectionEvent::ShutdownRequested).boxed());
        loop {
            let step = tokio::select! {
                biased;
                () = poll_fn(|cx| self.operations.poll_outbox(&mut self.protocol, self.write_blocked, cx)) => {
                    match self.write_outbox(&stop).await {
                        Ok(()) => Action::Nothing,
                        Err(end) => return end,
                    }
                }
                message = self.socket.recv() => {
                    heard = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => self.protocol.receive(&text),
                        Some(Ok(Message::Binary(_))) => Action::Close(CloseStatus::with_reason(4400, "a message must be text")),
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Action::Nothing,
                        Some(Ok(Message::Close(_))) => return CloseReason::PeerClosed,
                        None => return CloseReason::Disconnected,
                        Some(Err(error)) => return read_error(&error),
                    }
                }
                Some(signal) = signals.next() => match signal {
                    ConnectionEvent::Authenticated(Ok(session)) => {
                        let ending = session.clone();
                        signals.push(async move { ConnectionEvent::SessionEnded(ending.wait_ended().await) }.boxed());
                        let viewer = session.viewer();
                        self.presence = Some(self.state.app.presence.connect(viewer.organization(), viewer.id()));
                        self.session = Some(session);
                        Action::Send(self.protocol.acknowledge())
                    }
                    ConnectionEvent::Authenticated(Err(error)) => Action::Close(rejection(&error)),
                    ConnectionEvent::SessionEnded(SessionState::Revoked) => Action::Close(CloseStatus::TOKEN_REVOKED),
                    ConnectionEvent::SessionEnded(_) => Action::Close(CloseStatus::TOKEN_EXPIRED),
                    ConnectionEvent::ShutdownRequested => {
                        // Not all at once, so that those who come back don't either.
                        let at = Instant::now() + drain.mul_f64(self.state.next_drain_fraction());
                        leave_at = Some(at);
                        signals.push(next_deadline(at));
                        Action::Nothing
                    }
                    ConnectionEvent::DeadlineReached => {
                        let now = Instant::now();
                        if leave_at.is_some_and(|at| at <= now) {
                            return CloseReason::SendClose(CloseStatus::RESTART);
                        }
                        if self.protocol.awaits_init() && init_until <= now {
                            return CloseReason::SendClose(CloseStatus::INITIALISATION_TIMEOUT);
                        }
                        let mut step = Action::Nothing;
                        if next_ping <= now {
                            if heard.elapsed() > ping_every * 2 {
                                return CloseReason::Disconnected;
                            }
                            next_ping = now + ping_every;
                            step = Action::Ping;
                        }
                        // The one that is set for the end of a drain rings by itself.
                        if leave_at.is_none() {
                            let fresh = self.protocol.awaits_init().then_some(init_until);
                            signals.push(next_deadline(fresh.map_or(next_ping, |until| until.min(next_ping))));
                        }
                        step
                    }
                }
            };
            let sent = match step {
                Action::Nothing => Ok(()),
                Action::Send(text) => self.send(Message::Text(text.into()), &stop).await,
                Action::Ping => self.send(Message::Ping(Bytes::new()), &stop).await,
                Action::Authenticate(payload) => {
                    let authenticating = authenticate(self.state.clone(), payload);
                    signals.push(authenticating.map(ConnectionEvent::Authenticated).boxed());
                    Ok(())
                }
                Action::Start { id, number, payload } => {
                    self.start(id, number, payload);
                    Ok(())
                }
                Action::Stop { number } => {
                    self.operations.stop(number);
                    Ok(())
                }
                Action::Close(close) => Err(CloseReason::SendClose(close)),
            };
            if let Err(end) = sent {
                return end;
            }
        }
    }

    /// Starts an operation, which is polled from now on.
    fn start(&mut self, id: String, number: u64, payload: Value) {
        let limit = self.state.app.config.http.max_socket_operations;
        let admitted = if self.protocol.operation_count() > limit {
            Err(RejectedRequest::from(&Error::RateLimited {
                message: format!("at most {limit} operations are under way at once on a socket"),
                retry_after: Duration::from_secs(1),
            }))
        } else {
            GraphqlRequest::from_value(payload)
                .map_err(|error| RejectedRequest::from(&error))
                .and_then(|envelope| self.state.api.admit(envelope))
        };
        let asker = self.session.clone().map_or(Requester::Anonymous, Requester::from_session);
        let running = OperationStream::new(self.state.api.clone(), admitted, asker);
        self.operations.start(id, number, running);
    }

    /// Writes what was gathered, in one flush.
    async fn write_outbox(&mut self, stop: &CancellationToken) -> Result<(), CloseReason> {
        let said = self.operations.drain_outbox();
        METRICS.events_delivered.inc_by(said.len() as u64);
        self.write_with_timeout(stop, async |socket| {
            for text in said {
                socket.feed(Message::Text(text)).await?;
            }
            socket.flush().await
        })
        .await
    }

    async fn send(&mut self, message: Message, stop: &CancellationToken) -> Result<(), CloseReason> {
        self.write_with_timeout(stop, async |socket| socket.send(message).await).await
    }

    /// Writes, as long as the other side takes something now and then.
    async fn write_with_timeout(
        &mut self,
        stop: &CancellationToken,
        write: impl AsyncFnOnce(&mut WebSocket) -> Result<(), axum::Error>,
    ) -> Result<(), CloseReason> {
        let patience = self.state.app.config.http.socket_write_timeout;
        let mut writing = pin!(write(&mut self.socket));
        let written = poll_fn(|cx| Poll::Ready(writing.as_mut().poll(cx))).await;
        self.write_blocked = written.is_pending();
        if let Poll::Ready(written) = written {
            return Ok(written?);
        }
        tokio::select! {
            biased;
            written = writing => Ok(written?),
            () = sleep(patience) => {
                METRICS.slow_sockets_closed.inc();
                Err(CloseReason::SendClose(CloseStatus::TRY_AGAIN))
            }
            () = stop.cancelled() => Err(CloseReason::SendClose(CloseStatus::RESTART)),
        }
    }
}

fn next_deadline(at: Instant) -> BoxFuture<'static, ConnectionEvent> {
    sleep_until(at).map(|()| ConnectionEvent::DeadlineReached).boxed()
}

/// Who the payload of `connection_init` says is there: `Authorization` as a header would have it.
async fn authenticate(state: HttpState, payload: Value) -> Result<Arc<Session>> {
    let named = |name: &str| {
        let fields = payload.as_object().into_iter().flatten();
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).find_map(|(_, value)| value.as_str())
    };
    let token = named("authorization").and_then(bearer_token);
    let token = token.ok_or_else(|| {
        Error::unauthenticated("the payload of connection_init must have Authorization: Bearer and a token")
    })?;
    service::sessions::open(&state.app, token).await
}

/// A token that will never do is told so for good; after the others a client comes back.
fn rejection(error: &Error) -> CloseStatus {
    match error {
        Error::Unauthenticated { message, retryable } => {
            CloseStatus::with_reason(if *retryable { 4403 } else { 4401 }, message.clone())
        }
        Error::Unavailable { .. } => CloseStatus::TRY_AGAIN,
        error => {
            tracing::error!(%error, "a socket could not be authenticated");
            CloseStatus::INTERNAL
        }
    }
}

/// What can't be read ends the connection: told where the frame was sound but too big.
fn read_error(error: &axum::Error) -> CloseReason {
    let text = error.to_string();
    tracing::debug!(error = text, "a socket could not be read");
    if text.contains("too long") || text.contains("too large") || text.contains("big") {
        CloseReason::SendCloseUnread(CloseStatus::TOO_BIG)
    } else if text.contains("UTF-8") || text.contains("utf-8") {
        CloseReason::SendCloseUnread(CloseStatus::with_reason(1007, "text must be UTF-8"))
    } else {
        CloseReason::Disconnected
    }
}

/// Says why, and reads on until the other side has closed too: input left unread would reset the
/// connection before the client has read the reason.
pub async fn close(mut socket: WebSocket, reason: CloseStatus) {
    let closing = async {
        send_close(&mut socket, reason).await?;
        while let Some(Ok(_)) = socket.recv().await {}
        Ok::<_, axum::Error>(())
    };
    drop(timeout(CLOSE_TIMEOUT, closing).await);
}

/// Says why where nothing can be read on: the connection stays for a while, so that the client finds
/// the reason before the reset.
async fn close_unread(mut socket: WebSocket, reason: CloseStatus) {
    if let Ok(Ok(())) = timeout(CLOSE_TIMEOUT, send_close(&mut socket, reason)).await {
        tokio::time::sleep(CLOSE_TIMEOUT).await;
    }
}

async fn send_close(socket: &mut WebSocket, reason: CloseStatus) -> Result<(), axum::Error> {
    tracing::debug!(code = reason.code, reason = %reason.reason, "closing a socket");
    let frame = CloseFrame { code: reason.code, reason: (&*reason.reason).into() };
    socket.send(Message::Close(Some(frame))).await
}
