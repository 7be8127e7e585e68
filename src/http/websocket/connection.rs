//! One WebSocket connection.
//!
//! The connection polls its operations itself, and only while it has room for their messages: all ready messages
//! go out in one flush, and no feed is read while the client does not read. A feed that was not read resumes from
//! its cursor, so a slow client delays itself and costs the server no memory.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket};
use futures_util::SinkExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::error::{Error, Result};
use crate::graphql::admission::request::{AdmittedRequest, GraphqlRequest, RejectedRequest};
use crate::graphql::execution::requester::Requester;
use crate::graphql::operation_guards::OperationGuards;
use crate::graphql::operation_stream::OperationStream;
use crate::http::bearer::bearer_token;
use crate::http::settings::CALL_PING_INTERVAL;
use crate::http::state::HttpState;
use crate::http::tcp_stream::SharedTcpWriter;
use crate::http::websocket::close::{self, CloseReason};
use crate::http::websocket::close_status::{CloseCode, CloseStatus};
use crate::http::websocket::operations::Operations;
use crate::http::websocket::protocol::{Action, Protocol};
use crate::http::websocket::running_operations::RunningOperations;
use crate::metrics::{GaugeGuard, KindLabel, METRICS};
use crate::realtime::presence::tracker::ConnectionGuard;
use crate::realtime::sessions::{Session, SessionState};
use crate::service;
use crate::service::quotas::QuotaGuard;

/// The state of one connection.
pub struct Connection {
    state: Arc<HttpState>,
    socket: WebSocket,
    protocol: Protocol,
    session: Option<Arc<Session>>,
    /// Counts the viewer as present while the connection lasts.
    presence: Option<ConnectionGuard>,
    /// Counts the connection of the viewer until its end.
    quota: Option<QuotaGuard>,
    operations: Operations,
    /// True if the last write had to wait for the client to read.
    write_blocked: bool,
    /// True if the last step was a write, so that input is next.
    has_written: bool,
    events: ConnectionEvents,
    timers: Timers,
}

/// An event other than a message of the client or of an operation; all of them are rare.
enum ConnectionEvent {
    ShutdownRequested,
    /// A deadline of [`Timers`] was reached.
    DeadlineReached,
    Authenticated(Result<Arc<Session>>),
    SessionEnded(SessionState),
    /// The client opened or closed feeds by which it takes part in calls.
    CallFeedsChanged(watch::Receiver<usize>),
}

/// The next step of a connection.
enum Step {
    Event(ConnectionEvent),
    WriteOutbox,
    Receive(Option<Result<Message, axum::Error>>),
}

type ConnectionEvents = FuturesUnordered<BoxFuture<'static, ConnectionEvent>>;

/// The times at which the connection has to act on its own.
struct Timers {
    ping_interval: Duration,
    /// True while the client takes part in a call, so that its loss is noticed soon.
    is_in_call: bool,
    next_ping: Instant,
    /// The deadline that was scheduled last. Earlier ones that are reached have no successor.
    scheduled: Instant,
    /// The time by which the client has to send `connection_init`.
    init_deadline: Instant,
    /// The time at which the connection closes because the server stops.
    drain_deadline: Option<Instant>,
    last_received: Instant,
}

impl Timers {
    fn new(ping_interval: Duration, init_timeout: Duration) -> Self {
        let now = Instant::now();
        Self {
            ping_interval,
            is_in_call: false,
            next_ping: now + ping_interval,
            scheduled: (now + init_timeout).min(now + ping_interval),
            init_deadline: now + init_timeout,
            drain_deadline: None,
            last_received: now,
        }
    }

    fn ping_interval(&self) -> Duration {
        if self.is_in_call { self.ping_interval.min(CALL_PING_INTERVAL) } else { self.ping_interval }
    }

    /// Returns the time at which the client counts as lost unless it sends something.
    fn silence_deadline(&self) -> Instant {
        self.last_received + self.ping_interval() * 2
    }
}

impl Connection {
    /// Creates a connection that awaits `connection_init`.
    pub fn new(state: Arc<HttpState>, socket: WebSocket, writer: SharedTcpWriter) -> Box<Self> {
        let http = &state.settings;
        let timers = Timers::new(http.socket_ping_interval, http.socket_init_timeout);
        let running = RunningOperations::new(http.max_socket_operations, http.max_socket_operation_bytes);
        let events = ConnectionEvents::new();
        events.push(deadline_event(timers.scheduled));
        events.push(state.stop.clone().cancelled_owned().map(|()| ConnectionEvent::ShutdownRequested).boxed());
        Box::new(Self {
            state,
            socket,
            protocol: Protocol::default(),
            session: None,
            presence: None,
            quota: None,
            operations: Operations::new(writer, running),
            write_blocked: false,
            has_written: false,
            events,
            timers,
        })
    }

    /// Serves the connection to its end.
    pub async fn serve(mut self: Box<Self>) {
        let _gauge = GaugeGuard::increment(&METRICS.connections.get_or_create(&KindLabel { kind: "websocket" }));
        let reason = self.run().await;
        let Self { socket, operations, events, presence, quota, .. } = *self;
        // An authentication may hold a database connection, and nothing polls it during the close handshake.
        drop((events, presence));
        // Boxed, because an idle connection holds as much memory as this future may ever need.
        close::end(socket, operations.into_writer(), reason).boxed().await;
        drop(quota);
    }

    /// Processes messages and events until the connection has to end.
    async fn run(&mut self) -> CloseReason {
        loop {
            let handled = match poll_fn(|cx| self.poll_step(cx)).await {
                Step::Event(event) => self.on_event(event).await,
                Step::WriteOutbox => self.write_outbox().await,
                Step::Receive(message) => self.on_message(message).await,
            };
            if let Err(reason) = handled {
                return reason;
            }
        }
    }

    /// Polls for what to do next.
    ///
    /// The end of the session, a stop and a deadline come first, however much there is to write. Output and input take
    /// turns, so that a client in busy chats can still complete an operation or answer a ping.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if let Poll::Ready(Some(event)) = self.events.poll_next_unpin(cx) {
            return Poll::Ready(Step::Event(event));
        }
        let receives_first = std::mem::take(&mut self.has_written);
        if receives_first && let Poll::Ready(message) = self.poll_receive(cx) {
            return Poll::Ready(Step::Receive(message));
        }
        if self.operations.poll_outbox(&mut self.protocol, self.write_blocked, cx).is_ready() {
            self.has_written = true;
            return Poll::Ready(Step::WriteOutbox);
        }
        if receives_first { Poll::Pending } else { self.poll_receive(cx).map(Step::Receive) }
    }

    /// Polls for the client's next message, unless too many operations run that the client has completed.
    ///
    /// The client's messages wait in the kernel then, until some of the operations have ended.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, axum::Error>>> {
        if self.operations.pauses_input(cx) {
            // A pong waits with the other messages, so the client does not count as silent.
            self.timers.last_received = Instant::now();
            return Poll::Pending;
        }
        self.socket.poll_next_unpin(cx)
    }

    /// Handles a message of the client, or the end of its input.
    async fn on_message(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<(), CloseReason> {
        self.timers.last_received = Instant::now();
        let action = match message {
            Some(Ok(Message::Text(text))) => self.protocol.receive(&text),
            Some(Ok(Message::Binary(_))) => Action::Close(CloseStatus::bad_request("a message must be text")),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Action::Nothing,
            Some(Ok(Message::Close(_))) => return Err(CloseReason::PeerClosed),
            None => return Err(CloseReason::Disconnected),
            Some(Err(error)) => {
                tracing::debug!(%error, "reading from a WebSocket failed");
                return Err(CloseReason::from_read_error(&error));
            }
        };
        self.perform(action).await
    }

    /// Handles an event of the connection itself.
    async fn on_event(&mut self, event: ConnectionEvent) -> Result<(), CloseReason> {
        let action = match event {
            ConnectionEvent::Authenticated(Ok(session)) => self.on_authenticated(session),
            ConnectionEvent::Authenticated(Err(error)) => Action::Close(authentication_close_status(&error)),
            ConnectionEvent::SessionEnded(session_state) => {
                return Err(session_end_reason(self.session.as_deref(), session_state));
            }
            ConnectionEvent::ShutdownRequested => self.on_shutdown_requested(),
            ConnectionEvent::DeadlineReached => self.on_deadline()?,
            ConnectionEvent::CallFeedsChanged(call_feeds) => self.on_call_feeds_changed(call_feeds),
        };
        self.perform(action).await
    }

    /// Accepts the client, and watches for the end of its session.
    fn on_authenticated(&mut self, session: Arc<Session>) -> Action {
        let watched = session.clone();
        self.events.push(call_feeds_event(session.call_feeds()));
        self.events.push(async move { ConnectionEvent::SessionEnded(watched.wait_ended().await) }.boxed());
        let viewer = session.viewer();
        match self.state.app.quotas.websockets.acquire(&viewer.key()) {
            Ok(quota) => self.quota = Some(quota),
            Err(error) => {
                return Action::Close(CloseStatus::with_reason(CloseCode::TryAgainLater, error.to_string()));
            }
        }
        self.presence = Some(self.state.app.presence.connect(viewer.organization(), viewer.id()));
        self.session = Some(session);
        Action::Send(self.protocol.acknowledge())
    }

    /// Schedules the end of the connection within the drain period.
    fn on_shutdown_requested(&mut self) -> Action {
        let drain_period = self.state.settings.drain_period;
        let deadline = Instant::now() + drain_period.mul_f64(self.state.next_drain_fraction());
        self.timers.drain_deadline = Some(deadline);
        self.events.push(deadline_event(deadline));
        Action::Nothing
    }

    /// Pings a client in a call more often, so that others soon learn that it is gone.
    fn on_call_feeds_changed(&mut self, mut call_feeds: watch::Receiver<usize>) -> Action {
        let timers = &mut self.timers;
        let is_in_call = *call_feeds.borrow_and_update() > 0;
        if is_in_call && !timers.is_in_call {
            let now = Instant::now();
            // A client that owed no answer before does not count as silent for the time before.
            timers.last_received = now;
            timers.next_ping = timers.next_ping.min(now + CALL_PING_INTERVAL);
            if timers.next_ping < timers.scheduled && timers.drain_deadline.is_none() {
                timers.scheduled = timers.next_ping;
                self.events.push(deadline_event(timers.scheduled));
            }
        }
        self.timers.is_in_call = is_in_call;
        self.events.push(call_feeds_event(call_feeds));
        Action::Nothing
    }

    /// Closes, gives the client up, or sends a ping, and sets the next deadline.
    fn on_deadline(&mut self) -> Result<Action, CloseReason> {
        let now = Instant::now();
        let timers = &mut self.timers;
        let awaits_init = self.protocol.awaits_init();
        if timers.drain_deadline.is_some_and(|deadline| deadline <= now) {
            return Err(CloseReason::SendClose(CloseStatus::SERVICE_RESTART));
        }
        if awaits_init && timers.init_deadline <= now {
            return Err(CloseReason::SendClose(CloseStatus::INITIALISATION_TIMEOUT));
        }
        if timers.silence_deadline() <= now {
            return Err(CloseReason::Disconnected);
        }
        let mut action = Action::Nothing;
        if timers.next_ping <= now {
            timers.next_ping = now + timers.ping_interval();
            action = Action::Ping;
        }
        // While the server stops, the event of the drain deadline is already scheduled.
        if timers.drain_deadline.is_none() && timers.scheduled <= now {
            let loss = timers.next_ping.min(timers.silence_deadline());
            timers.scheduled = if awaits_init { loss.min(timers.init_deadline) } else { loss };
            self.events.push(deadline_event(timers.scheduled));
        }
        Ok(action)
    }

    /// Performs an action of the protocol.
    async fn perform(&mut self, action: Action) -> Result<(), CloseReason> {
        match action {
            Action::Nothing => Ok(()),
            Action::Send(text) => self.send(Message::Text(text.into())).await,
            Action::Ping => self.send(Message::Ping(Bytes::new())).await,
            Action::Authenticate(payload) => {
                let authentication = authenticate(self.state.clone(), payload);
                self.events.push(authentication.map(ConnectionEvent::Authenticated).boxed());
                Ok(())
            }
            Action::Start { id, number, payload, message_bytes } => {
                self.start(id, number, payload, message_bytes);
                Ok(())
            }
            Action::Stop { number } => {
                self.operations.stop(number);
                Ok(())
            }
            Action::Close(status) => Err(CloseReason::SendClose(status)),
        }
    }

    /// Starts an operation, or one that yields the error of its rejection.
    fn start(&mut self, id: String, number: u64, payload: Value, message_bytes: usize) {
        // The protocol accepts operations only after the authentication.
        let Some(session) = self.session.clone() else { return };
        let requester = Requester::from_session(session.clone());
        let (admitted, guards) = match self.admit(&session, payload, message_bytes) {
            Ok((admitted, guards)) => (Ok(admitted), guards),
            Err(rejected) => (Err(rejected), OperationGuards::default()),
        };
        let stream = OperationStream::new(self.state.api.clone(), admitted, requester, guards);
        self.operations.start(id, number, stream, session);
    }

    /// Admits an operation within the limits of the connection and of its user.
    fn admit(
        &self,
        session: &Session,
        payload: Value,
        message_bytes: usize,
    ) -> Result<(AdmittedRequest, OperationGuards), RejectedRequest> {
        let reject = |error| RejectedRequest::from(&error);
        let running = &self.operations.running;
        running.require_free_place().map_err(reject)?;
        let quota = self.state.app.quotas.operations.acquire(&session.viewer().key()).map_err(reject)?;
        let request = GraphqlRequest::from_value(payload).map_err(reject)?;
        let has_query = request.query.is_some();
        let admitted = self.state.api.admit(request, true)?;
        // The message contains the id, the variables and the document, unless it names the document by its hash.
        let document_bytes = if has_query { 0 } else { admitted.document_bytes() };
        let operation = running.start(message_bytes + document_bytes).map_err(reject)?;
        Ok((admitted, OperationGuards { execution: Some(quota), operation: Some(Arc::new(operation)) }))
    }

    /// Writes the messages of operations in one flush.
    async fn write_outbox(&mut self) -> Result<(), CloseReason> {
        let messages = self.operations.drain_outbox();
        METRICS.events_delivered.inc_by(messages.len() as u64);
        self.write_with_timeout(async |socket| {
            for message in messages {
                socket.feed(Message::Text(message)).await?;
            }
            socket.flush().await
        })
        .await
    }

    async fn send(&mut self, message: Message) -> Result<(), CloseReason> {
        self.write_with_timeout(async |socket| socket.send(message).await).await
    }

    /// Writes, unless the session ends, the server stops, or the client reads nothing for too long.
    async fn write_with_timeout(
        &mut self,
        write: impl AsyncFnOnce(&mut WebSocket) -> Result<(), axum::Error>,
    ) -> Result<(), CloseReason> {
        if let Some(session) = self.session.as_ref().filter(|session| session.has_ended()) {
            return Err(session_end_reason(Some(session), session.wait_ended().await));
        }
        let write_timeout = self.state.settings.socket_write_timeout;
        let mut writing = pin!(write(&mut self.socket));
        // Most writes complete at once; only for the others a timer is worth its cost.
        let first_poll = poll_fn(|cx| Poll::Ready(writing.as_mut().poll(cx))).await;
        self.write_blocked = first_poll.is_pending();
        if let Poll::Ready(written) = first_poll {
            return Ok(written?);
        }
        let session_ended = async {
            match &self.session {
                Some(session) => session.wait_ended().await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            session_state = session_ended => Err(session_end_reason(self.session.as_deref(), session_state)),
            written = writing => Ok(written?),
            () = sleep(write_timeout) => {
                METRICS.slow_sockets_closed.inc();
                Err(CloseReason::SendClose(CloseStatus::TRY_AGAIN_LATER))
            }
            () = self.state.stop.cancelled() => Err(CloseReason::SendClose(CloseStatus::SERVICE_RESTART)),
        }
    }
}

/// Returns the reason for which a connection closes when its session has ended.
fn session_end_reason(session: Option<&Session>, session_state: SessionState) -> CloseReason {
    CloseReason::SendClose(match (session_state, session) {
        (SessionState::Revoked, _) => CloseStatus::TOKEN_REVOKED,
        (SessionState::OrganizationGone, Some(session)) => {
            authentication_close_status(&session.end_error(session_state))
        }
        _ => CloseStatus::TOKEN_EXPIRED,
    })
}

/// Creates the event of a change of the number of a client's feeds of calls.
fn call_feeds_event(mut call_feeds: watch::Receiver<usize>) -> BoxFuture<'static, ConnectionEvent> {
    async move {
        match call_feeds.changed().await {
            Ok(()) => ConnectionEvent::CallFeedsChanged(call_feeds),
            // Unreachable, because the connection holds the session.
            Err(_) => pending().await,
        }
    }
    .boxed()
}

/// Creates the event of a deadline.
fn deadline_event(deadline: Instant) -> BoxFuture<'static, ConnectionEvent> {
    sleep_until(deadline).map(|()| ConnectionEvent::DeadlineReached).boxed()
}

/// Opens a session by the payload of `connection_init`, which has `Authorization` like a header.
async fn authenticate(state: Arc<HttpState>, payload: Value) -> Result<Arc<Session>> {
    let fields = payload.as_object().into_iter().flatten();
    let authorization =
        fields.filter(|(name, _)| name.eq_ignore_ascii_case("authorization")).find_map(|(_, value)| value.as_str());
    let token = authorization.and_then(bearer_token).ok_or_else(|| {
        Error::unauthenticated("the payload of connection_init must have Authorization: Bearer and a token")
    })?;
    service::sessions::open(&state.app, token).await
}

/// Returns the status for a failed authentication.
///
/// Clients reconnect after a failure that a new token or more time can cure, and give up after the others.
fn authentication_close_status(error: &Error) -> CloseStatus {
    match error {
        Error::Unauthenticated { message, retryable } => {
            let code = if *retryable { CloseCode::Forbidden } else { CloseCode::Unauthorized };
            CloseStatus::with_reason(code, message.clone())
        }
        Error::Moved { url } => CloseStatus::moved(url),
        Error::Unavailable { .. } => CloseStatus::TRY_AGAIN_LATER,
        error => {
            tracing::error!(%error, "the authentication of a WebSocket failed");
            CloseStatus::INTERNAL_SERVER_ERROR
        }
    }
}
