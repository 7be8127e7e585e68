//! One WebSocket.
//!
//! Each operation is a task that puts what it has to say into the connection's outbox, which is
//! bounded: an operation that finds it full waits, its feed is not read, and goes on from its cursor
//! when there is room. So a slow socket costs its own operations time and the server no memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::parser::types::OperationType;
use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures_util::future::{BoxFuture, FutureExt, OptionFuture};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::super::State;
use super::super::graphql::bearer;
use super::protocol::{Close, Protocol, Step};
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::graphql::execute::{Answer, Envelope, Refused};
use crate::live::presence::Here;
use crate::service;

/// Frames that wait for a socket.
const OUTBOX: usize = 16;
/// A socket that takes nothing for this long is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the other side gets to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What an operation says.
struct Saying {
    id: Arc<str>,
    number: u64,
    text: Utf8Bytes,
    /// The last of this operation.
    last: bool,
}

pub struct Connection {
    state: State,
    socket: WebSocket,
    protocol: Protocol,
    viewer: Option<Arc<Viewer>>,
    /// The viewer is there as long as the connection is.
    here: Option<Here>,
    tasks: HashMap<u64, AbortHandle>,
    outbox: mpsc::Sender<Saying>,
    said: mpsc::Receiver<Saying>,
}

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
    pub fn new(state: State, socket: WebSocket) -> Self {
        let (outbox, said) = mpsc::channel(OUTBOX);
        Self { state, socket, protocol: Protocol::new(), viewer: None, here: None, tasks: HashMap::new(), outbox, said }
    }

    /// Serves the connection to its end.
    pub async fn serve(mut self) {
        let end = self.converse().await;
        for task in self.tasks.values() {
            task.abort();
        }
        match end {
            End::Close(reason) => close(self.socket, reason).await,
            End::Unreadable(reason) => abandon(self.socket, reason).await,
            // The answer was written by who read the frame; it has to go out.
            End::Closed => drop(timeout(CLOSE_TIMEOUT, self.socket.close()).await),
            End::Gone => {}
        }
    }

    async fn converse(&mut self) -> End {
        let ping_every = self.state.app.config.http.socket_ping;
        let init_until = Instant::now() + self.state.app.config.http.socket_init;
        let stop = self.state.stop.clone();
        let mut authentication: OptionFuture<BoxFuture<'static, Result<Viewer>>> = None.into();
        let mut expires = None;
        let mut next_ping = Instant::now() + ping_every;
        let mut heard = Instant::now();
        loop {
            let step = tokio::select! {
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
                Some(saying) = self.said.recv() => {
                    match self.write(saying).await {
                        Ok(()) => Step::Nothing,
                        Err(end) => return end,
                    }
                }
                Some(viewer) = &mut authentication => {
                    authentication = None.into();
                    match viewer {
                        Ok(viewer) => {
                            expires = Some(Instant::now() + self.lifetime(&viewer));
                            self.here = Some(self.state.app.presence.arrive(viewer.organization(), viewer.id()));
                            self.viewer = Some(Arc::new(viewer));
                            Step::Send(self.protocol.acknowledge())
                        }
                        Err(error) => Step::Close(refusal(&error)),
                    }
                }
                () = sleep_until(init_until), if self.protocol.is_fresh() => Step::Close(Close::INITIALISATION_TIMEOUT),
                () = sleep_until(expires.unwrap_or(init_until)), if expires.is_some() => Step::Close(Close::TOKEN_EXPIRED),
                () = sleep_until(next_ping) => {
                    if heard.elapsed() > ping_every * 2 {
                        return End::Gone;
                    }
                    next_ping = Instant::now() + ping_every;
                    if let Err(end) = self.send(Message::Ping(Bytes::new())).await {
                        return end;
                    }
                    Step::Nothing
                }
                () = stop.cancelled() => Step::Close(Close::RESTART),
            };
            match step {
                Step::Nothing => {}
                Step::Send(text) => {
                    if let Err(end) = self.send(Message::Text(text.into())).await {
                        return end;
                    }
                }
                Step::Authenticate(payload) => {
                    authentication = Some(authenticate(self.state.clone(), payload).boxed()).into();
                }
                Step::Start { id, number, payload } => self.start(id.into(), number, payload),
                Step::Stop { number } => {
                    if let Some(task) = self.tasks.remove(&number) {
                        task.abort();
                    }
                }
                Step::Close(close) => return End::Close(close),
            }
        }
    }

    /// Starts an operation; whatever comes of it is said through the outbox.
    fn start(&mut self, id: Arc<str>, number: u64, payload: Value) {
        let limit = self.state.app.config.http.socket_operations;
        let speaker = Speaker { id, number, outbox: self.outbox.clone() };
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
        let (api, viewer) = (self.state.api.clone(), self.viewer.clone());
        // What changes something goes on to its end though nobody waits for it: what it commits has to be told.
        let may_stop = admitted.as_ref().is_ok_and(|admitted| admitted.operation == OperationType::Subscription);
        let task = tokio::spawn(async move {
            match admitted {
                Err(refused) => speaker.error(refused.answer()).await,
                Ok(admitted) => {
                    let request_id = crate::domain::ids::request_id();
                    let mut answers = api.execute_stream(admitted, viewer, request_id);
                    while let Some(answer) = answers.next().await {
                        if !answer.executed {
                            return speaker.error(answer).await;
                        }
                        speaker.next(answer).await;
                    }
                    speaker.complete().await;
                }
            }
        });
        if may_stop {
            self.tasks.insert(number, task.abort_handle());
        }
    }

    /// Writes what operations have said, all that is ready in one flush.
    async fn write(&mut self, first: Saying) -> Result<(), End> {
        let mut saying = Some(first);
        while let Some(Saying { id, number, text, last }) = saying {
            if self.protocol.is_wanted(&id, number) {
                if last {
                    self.protocol.finish(&id, number);
                    self.tasks.remove(&number);
                }
                given_up(timeout(WRITE_TIMEOUT, self.socket.feed(Message::Text(text))).await)?;
            }
            saying = self.said.try_recv().ok();
        }
        given_up(timeout(WRITE_TIMEOUT, self.socket.flush()).await)
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        given_up(timeout(WRITE_TIMEOUT, self.socket.send(message)).await)
    }

    /// How long a token has still to live.
    fn lifetime(&self, viewer: &Viewer) -> Duration {
        // More than a timer can hold is for ever.
        const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
        (viewer.expires_at - self.state.app.clock.now()).to_std().unwrap_or_default().min(LONGEST)
    }
}

fn given_up(written: Result<Result<(), axum::Error>, tokio::time::error::Elapsed>) -> Result<(), End> {
    match written {
        Ok(result) => Ok(result?),
        Err(_) => Err(End::Close(Close::TRY_AGAIN)),
    }
}

/// One operation's way to its connection.
struct Speaker {
    id: Arc<str>,
    number: u64,
    outbox: mpsc::Sender<Saying>,
}

impl Speaker {
    async fn next(&self, answer: Answer) {
        self.say("next", Some(answer), false).await;
    }

    async fn error(&self, answer: Answer) {
        // The payload of an error is the list of errors alone.
        let errors = serde_json::from_slice::<HashMap<&str, &serde_json::value::RawValue>>(&answer.body)
            .ok()
            .and_then(|body| body.get("errors").map(|errors| Bytes::copy_from_slice(errors.get().as_bytes())));
        let body = errors.unwrap_or_else(|| Bytes::from_static(b"[]"));
        self.say("error", Some(Answer { body, executed: false }), true).await;
    }

    async fn complete(&self) {
        self.say("complete", None, true).await;
    }

    async fn say(&self, kind: &str, payload: Option<Answer>, last: bool) {
        let id = Value::from(&*self.id);
        let text = match payload {
            Some(answer) => {
                let payload = String::from_utf8_lossy(&answer.body);
                format!(r#"{{"id":{id},"type":"{kind}","payload":{payload}}}"#)
            }
            None => format!(r#"{{"id":{id},"type":"{kind}"}}"#),
        };
        let saying = Saying { id: self.id.clone(), number: self.number, text: text.into(), last };
        // A connection that has gone wants to hear nothing.
        drop(self.outbox.send(saying).await);
    }
}

/// Who the payload of `connection_init` says is there: `Authorization` as a header would have it.
async fn authenticate(state: State, payload: Value) -> Result<Viewer> {
    let named = |name: &str| {
        let fields = payload.as_object().into_iter().flatten();
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).find_map(|(_, value)| value.as_str())
    };
    let token = named("authorization").and_then(bearer);
    let token = token.ok_or_else(|| {
        Error::unauthenticated("the payload of connection_init must have Authorization: Bearer and a token")
    })?;
    service::users::authenticate(&state.app, token).await
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
