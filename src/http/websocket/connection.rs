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
use crate::graphql::api::{Envelope, Refused};
use crate::graphql::operation_stream::Running;
use crate::graphql::schema::context::Asker;
use crate::http::State;
use crate::http::graphql_http::bearer;
use crate::http::tcp_stream::Wire;
use crate::http::websocket::operations::Operations;
use crate::http::websocket::protocol::{Close, Protocol, Step};
use crate::metrics::{Counted, Kind, METRICS};
use crate::realtime::presence::tracker::Here;
use crate::realtime::sessions::{Session, Standing};
use crate::service;

/// How long the other side gets to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

pub struct Connection {
    state: State,
    socket: WebSocket,
    protocol: Protocol,
    session: Option<Arc<Session>>,
    /// The viewer is there as long as the connection is.
    here: Option<Here>,
    operations: Operations,
    /// The other side was slow to take what was last written.
    blocked: bool,
}

/// What happens beside messages and operations, rarely.
enum Signal {
    /// The server stops.
    Stop,
    /// It may be time for a ping, or to give up.
    Alarm,
    Authenticated(Result<Arc<Session>>),
    SessionEnded(Standing),
}

type Signals = FuturesUnordered<BoxFuture<'static, Signal>>;

/// Why a connection ends.
enum End {
    /// By our close frame.
    Close(Close),
    /// By our close frame, where nothing more can be read of what the other side says.
    Unreadable(Close),
    /// By the other side's, which is answered.
    Closed,
    /// The other side has gone, or never will answer.
    Gone,
}

impl From<axum::Error> for End {
    fn from(_: axum::Error) -> Self {
        Self::Gone
    }
}

impl Connection {
    pub fn new(state: State, socket: WebSocket, wire: Wire) -> Box<Self> {
        let (protocol, operations) = (Protocol::new(), Operations::new(wire));
        Box::new(Self { state, socket, protocol, session: None, here: None, operations, blocked: false })
    }

    /// Serves the connection to its end. What only the end needs is boxed: an idle connection holds as much as
    /// this future may ever need.
    pub async fn serve(mut self: Box<Self>) {
        let _counted = Counted::in_gauge(&METRICS.connections.get_or_create(&Kind { kind: "websocket" }));
        let end = self.converse().await;
        let Self { mut socket, operations, .. } = *self;
        // After a close frame nothing more is told (RFC 6455, section 5.5.1).
        let wire = operations.end();
        match end {
            End::Close(reason) => close(socket, reason).boxed().await,
            End::Unreadable(reason) => abandon(socket, reason).boxed().await,
            // The answer was written by who read the frame; it has to go out.
            End::Closed => {
                let answering = async move {
                    socket.close().await.ok();
                    wire.finish().await.ok();
                };
                timeout(CLOSE_TIMEOUT, answering).boxed().await.ok();
            }
            End::Gone => {}
        }
    }

    async fn converse(&mut self) -> End {
        let http = &self.state.app.config.http;
        let (ping_every, drain) = (http.socket_ping, http.drain);
        let init_until = Instant::now() + http.socket_init;
        let stop = self.state.stop.clone();
        let mut next_ping = Instant::now() + ping_every;
        let mut leave_at: Option<Instant> = None;
        let mut heard = Instant::now();
        let mut signals = Signals::new();
        signals.push(alarm(init_until.min(next_ping)));
        signals.push(stop.clone().cancelled_owned().map(|()| Signal::Stop).boxed());
        loop {
            let step = tokio::select! {
                biased;
                () = poll_fn(|cx| self.operations.poll_said(&mut self.protocol, self.blocked, cx)) => {
                    match self.write(&stop).await {
                        Ok(()) => Step::Nothing,
                        Err(end) => return end,
                    }
                }
                message = self.socket.recv() => {
                    heard = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => self.protocol.receive(&text),
                        Some(Ok(Message::Binary(_))) => Step::Close(Close::with_reason(4400, "a message must be text")),
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Step::Nothing,
                        Some(Ok(Message::Close(_))) => return End::Closed,
                        None => return End::Gone,
                        Some(Err(error)) => return unreadable(&error),
                    }
                }
                Some(signal) = signals.next() => match signal {
                    Signal::Authenticated(Ok(session)) => {
                        let ending = session.clone();
                        signals.push(async move { Signal::SessionEnded(ending.ended().await) }.boxed());
                        let viewer = session.viewer();
                        self.here = Some(self.state.app.presence.arrive(viewer.organization(), viewer.id()));
                        self.session = Some(session);
                        Step::Send(self.protocol.acknowledge())
                    }
                    Signal::Authenticated(Err(error)) => Step::Close(refusal(&error)),
                    Signal::SessionEnded(Standing::Revoked) => Step::Close(Close::TOKEN_REVOKED),
                    Signal::SessionEnded(_) => Step::Close(Close::TOKEN_EXPIRED),
                    Signal::Stop => {
                        // Not all at once, so that those who come back don't either.
                        let at = Instant::now() + drain.mul_f64(self.state.next_share());
                        leave_at = Some(at);
                        signals.push(alarm(at));
                        Step::Nothing
                    }
                    Signal::Alarm => {
                        let now = Instant::now();
                        if leave_at.is_some_and(|at| at <= now) {
                            return End::Close(Close::RESTART);
                        }
                        if self.protocol.is_fresh() && init_until <= now {
                            return End::Close(Close::INITIALISATION_TIMEOUT);
                        }
                        let mut step = Step::Nothing;
                        if next_ping <= now {
                            if heard.elapsed() > ping_every * 2 {
                                return End::Gone;
                            }
                            next_ping = now + ping_every;
                            step = Step::Ping;
                        }
                        // The one that is set for the end of a drain rings by itself.
                        if leave_at.is_none() {
                            let fresh = self.protocol.is_fresh().then_some(init_until);
                            signals.push(alarm(fresh.map_or(next_ping, |until| until.min(next_ping))));
                        }
                        step
                    }
                }
            };
            let sent = match step {
                Step::Nothing => Ok(()),
                Step::Send(text) => self.send(Message::Text(text.into()), &stop).await,
                Step::Ping => self.send(Message::Ping(Bytes::new()), &stop).await,
                Step::Authenticate(payload) => {
                    let authenticating = authenticate(self.state.clone(), payload);
                    signals.push(authenticating.map(Signal::Authenticated).boxed());
                    Ok(())
                }
                Step::Start { id, number, payload } => {
                    self.start(id, number, payload);
                    Ok(())
                }
                Step::Stop { number } => {
                    self.operations.stop(number);
                    Ok(())
                }
                Step::Close(close) => Err(End::Close(close)),
            };
            if let Err(end) = sent {
                return end;
            }
        }
    }

    /// Starts an operation, which is polled from now on.
    fn start(&mut self, id: String, number: u64, payload: Value) {
        let limit = self.state.app.config.http.socket_operations;
        let admitted = if self.protocol.operations() > limit {
            Err(Refused::from(&Error::RateLimited {
                message: format!("at most {limit} operations are under way at once on a socket"),
                retry_after: Duration::from_secs(1),
            }))
        } else {
            Envelope::of(payload)
                .map_err(|error| Refused::from(&error))
                .and_then(|envelope| self.state.api.admit(envelope))
        };
        let asker = self.session.clone().map_or(Asker::Stranger, Asker::on);
        let running = Running::new(self.state.api.clone(), admitted, asker);
        self.operations.start(id, number, running);
    }

    /// Writes what was gathered, in one flush.
    async fn write(&mut self, stop: &CancellationToken) -> Result<(), End> {
        let said = self.operations.take_said();
        METRICS.deliveries.inc_by(said.len() as u64);
        self.patiently(stop, async |socket| {
            for text in said {
                socket.feed(Message::Text(text)).await?;
            }
            socket.flush().await
        })
        .await
    }

    async fn send(&mut self, message: Message, stop: &CancellationToken) -> Result<(), End> {
        self.patiently(stop, async |socket| socket.send(message).await).await
    }

    /// Writes, as long as the other side takes something now and then.
    async fn patiently(
        &mut self,
        stop: &CancellationToken,
        write: impl AsyncFnOnce(&mut WebSocket) -> Result<(), axum::Error>,
    ) -> Result<(), End> {
        let patience = self.state.app.config.http.socket_write;
        let mut writing = pin!(write(&mut self.socket));
        let written = poll_fn(|cx| Poll::Ready(writing.as_mut().poll(cx))).await;
        self.blocked = written.is_pending();
        if let Poll::Ready(written) = written {
            return Ok(written?);
        }
        tokio::select! {
            biased;
            written = writing => Ok(written?),
            () = sleep(patience) => {
                METRICS.stalled.inc();
                Err(End::Close(Close::TRY_AGAIN))
            }
            () = stop.cancelled() => Err(End::Close(Close::RESTART)),
        }
    }
}

fn alarm(at: Instant) -> BoxFuture<'static, Signal> {
    sleep_until(at).map(|()| Signal::Alarm).boxed()
}

/// Who the payload of `connection_init` says is there: `Authorization` as a header would have it.
async fn authenticate(state: State, payload: Value) -> Result<Arc<Session>> {
    let named = |name: &str| {
        let fields = payload.as_object().into_iter().flatten();
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).find_map(|(_, value)| value.as_str())
    };
    let token = named("authorization").and_then(bearer);
    let token = token.ok_or_else(|| {
        Error::unauthenticated("the payload of connection_init must have Authorization: Bearer and a token")
    })?;
    service::sessions::open(&state.app, token).await
}

/// A token that will never do is told so for good; after the others a client comes back.
fn refusal(error: &Error) -> Close {
    match error {
        Error::Unauthenticated { message, retryable } => {
            Close::with_reason(if *retryable { 4403 } else { 4401 }, message.clone())
        }
        Error::Unavailable { .. } => Close::TRY_AGAIN,
        error => {
            tracing::error!(%error, "a socket could not be authenticated");
            Close::INTERNAL
        }
    }
}

/// What can't be read ends the connection: told where the frame was sound but too big.
fn unreadable(error: &axum::Error) -> End {
    let text = error.to_string();
    tracing::debug!(error = text, "a socket could not be read");
    if text.contains("too long") || text.contains("too large") || text.contains("big") {
        End::Unreadable(Close::TOO_BIG)
    } else if text.contains("UTF-8") || text.contains("utf-8") {
        End::Unreadable(Close::with_reason(1007, "text must be UTF-8"))
    } else {
        End::Gone
    }
}

/// Says why, and reads on until the other side has closed too: input left unread would reset the
/// connection before the client has read the reason.
pub async fn close(mut socket: WebSocket, reason: Close) {
    let closing = async {
        say_why(&mut socket, reason).await?;
        while let Some(Ok(_)) = socket.recv().await {}
        Ok::<_, axum::Error>(())
    };
    drop(timeout(CLOSE_TIMEOUT, closing).await);
}

/// Says why where nothing can be read on: the connection stays for a while, so that the client finds
/// the reason before the reset.
async fn abandon(mut socket: WebSocket, reason: Close) {
    if let Ok(Ok(())) = timeout(CLOSE_TIMEOUT, say_why(&mut socket, reason)).await {
        tokio::time::sleep(CLOSE_TIMEOUT).await;
    }
}

async fn say_why(socket: &mut WebSocket, reason: Close) -> Result<(), axum::Error> {
    tracing::debug!(code = reason.code, reason = %reason.reason, "closing a socket");
    let frame = CloseFrame { code: reason.code, reason: (&*reason.reason).into() };
    socket.send(Message::Close(Some(frame))).await
}
