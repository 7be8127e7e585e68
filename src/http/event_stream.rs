//! A response that carries the results of an operation one after the other, as events.
//!
//! This transport is for clients whose proxies block WebSockets. Each operation is an HTTP response of its own,
//! and reads the same feeds as a WebSocket does. An error before the first result of the operation is sent as
//! the first event. If a stream ends without the completion of its format
//! ([`EventFormat`]), the client has to subscribe again, on another node or with a new token.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::Stream;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, interval_at, sleep};
use tokio_util::sync::DropGuard;

use crate::graphql::admission::request::{AdmittedRequest, RejectedRequest};
use crate::graphql::execution::requester::Requester;
use crate::graphql::execution::response::GraphqlResponse;
use crate::graphql::operation_guards::OperationGuards;
use crate::graphql::operation_stream::OperationStream;
use crate::http::event_format::EventFormat;
use crate::http::session_watch;
use crate::http::settings::CALL_PING_INTERVAL;
use crate::http::state::HttpState;
use crate::http::tcp_stream::SharedTcpWriter;
use crate::metrics::{GaugeGuard, KindLabel, METRICS};
use crate::realtime::presence::tracker::ConnectionGuard;
use crate::realtime::sessions::Session;
use crate::service::quotas::QuotaGuard;

/// Responds with the results of an operation as events.
///
/// `quota` counts the event stream until its end.
pub fn respond(
    state: &Arc<HttpState>,
    format: EventFormat,
    admitted: Result<AdmittedRequest, RejectedRequest>,
    session: Option<Arc<Session>>,
    writer: Option<SharedTcpWriter>,
    quota: Option<QuotaGuard>,
    guards: OperationGuards,
) -> Response {
    let requester = session.clone().map_or(Requester::Anonymous, Requester::from_session);
    let presence = session.as_ref().map(|session| {
        let viewer = session.viewer();
        state.app.presence.connect(viewer.organization(), viewer.id())
    });
    let mut heartbeats = interval(state.settings.socket_ping_interval);
    heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watch = session.clone().zip(writer.clone()).map(|(session, writer)| session_watch::watch(session, writer));
    let body = EventStreamBody {
        format,
        opening: format.opening(),
        operation: Some(OperationStream::new(state.api.clone(), admitted, requester, guards)),
        end: wait_for_end(state.clone(), session.clone()),
        heartbeats,
        session,
        writer,
        is_in_call: false,
        _presence: presence,
        _quota: quota,
        _watch: watch,
        _gauge: GaugeGuard::increment(&METRICS.connections.get_or_create(&KindLabel { kind: format.label() })),
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(format.content_type())),
        // nginx buffers responses unless they forbid it, and delays events for many seconds.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, Body::from_stream(body)).into_response()
}

/// Waits until the server stops or the session ends; returns the error of an ended session.
fn wait_for_end(state: Arc<HttpState>, session: Option<Arc<Session>>) -> BoxFuture<'static, Option<GraphqlResponse>> {
    async move {
        let session_ended = async {
            match &session {
                Some(session) => session.end_error(session.wait_ended().await),
                None => std::future::pending().await,
            }
        };
        let drained = async {
            state.stop.cancelled().await;
            sleep(state.settings.drain_period.mul_f64(state.next_drain_fraction())).await;
        };
        tokio::select! {
            session_error = session_ended => Some(RejectedRequest::from(&session_error).into_graphql_response()),
            () = drained => None,
        }
    }
    .boxed()
}

/// The body of a response: the operation's results, with heartbeats while there are none.
struct EventStreamBody {
    format: EventFormat,
    /// The beginning of the stream, until it is written.
    opening: Option<Bytes>,
    /// `None` once the stream has ended.
    operation: Option<OperationStream>,
    end: BoxFuture<'static, Option<GraphqlResponse>>,
    heartbeats: Interval,
    session: Option<Arc<Session>>,
    writer: Option<SharedTcpWriter>,
    /// True once the client takes part in a call by this stream.
    is_in_call: bool,
    _presence: Option<ConnectionGuard>,
    _quota: Option<QuotaGuard>,
    _watch: Option<DropGuard>,
    _gauge: GaugeGuard,
}

impl EventStreamBody {
    /// Has the loss of a client in a call noticed in twice the time between pings of a WebSocket.
    ///
    /// The client answers no heartbeat, but its system acknowledges that it has arrived.
    fn watch_call(&mut self) {
        if self.is_in_call || !self.session.as_ref().is_some_and(|session| session.is_in_call()) {
            return;
        }
        self.is_in_call = true;
        let period = CALL_PING_INTERVAL / 2;
        self.heartbeats = interval_at(Instant::now() + period, period);
        self.heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if let Some(writer) = &self.writer {
            writer.set_acknowledgement_timeout(CALL_PING_INTERVAL * 2 - period);
        }
    }
}

impl Stream for EventStreamBody {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let body = &mut *self;
        let format = body.format;
        if let Some(opening) = body.opening.take() {
            return Poll::Ready(Some(Ok(opening)));
        }
        let Some(operation) = &mut body.operation else {
            return Poll::Ready(None);
        };
        // First: nothing may follow the end of the session, however much there is to write.
        if let Poll::Ready(last_error) = body.end.poll_unpin(cx) {
            body.operation = None;
            return Poll::Ready(last_error.map(|response| Ok(format.encode_last_error(&response.body))));
        }
        if let Poll::Ready(response) = operation.poll_next(cx) {
            return Poll::Ready(Some(Ok(match response {
                Some(response) => {
                    METRICS.events_delivered.inc();
                    format.encode_response(&response.body)
                }
                None => {
                    body.operation = None;
                    format.completion()
                }
            })));
        }
        body.watch_call();
        body.heartbeats.poll_tick(cx).map(|_| Some(Ok(format.heartbeat())))
    }
}
