//! GraphQL over Server-Sent Events.
//!
//! It implements the distinct connections mode of
//! <https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md>.
//!
//! This transport is for clients whose proxies block WebSockets. Each operation is an HTTP response of its own,
//! and reads the same feeds as a WebSocket does. An error before the first response of the operation is sent as
//! the first event. If a stream ends without the event `complete`, the client has to subscribe again, on another
//! node or with a new token.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::Stream;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};
use tokio_util::sync::DropGuard;

use crate::error::Error;
use crate::graphql::admission::request::{AdmittedRequest, RejectedRequest};
use crate::graphql::execution::requester::Requester;
use crate::graphql::operation_guards::OperationGuards;
use crate::graphql::operation_stream::OperationStream;
use crate::http::session_watch;
use crate::http::state::HttpState;
use crate::http::tcp_stream::SharedTcpWriter;
use crate::metrics::{GaugeGuard, KindLabel, METRICS};
use crate::realtime::presence::tracker::ConnectionGuard;
use crate::realtime::sessions::{Session, SessionState};
use crate::service::quotas::QuotaGuard;

/// A comment, which clients ignore; it keeps proxies from closing an idle connection.
const KEEP_ALIVE: Bytes = Bytes::from_static(b":\n\n");
const COMPLETE_EVENT: Bytes = Bytes::from_static(b"event: complete\ndata:\n\n");

/// Responds with the results of an operation as events.
///
/// `quota` counts the event stream until its end.
pub fn respond(
    state: &HttpState,
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
    let mut keep_alive = interval(state.settings.socket_ping_interval);
    keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watch = session.clone().zip(writer).map(|(session, writer)| session_watch::watch(session, writer));
    let body = SseBody {
        operation: Some(OperationStream::new(state.api.clone(), admitted, requester, guards)),
        end: wait_for_end(state.clone(), session),
        keep_alive,
        _presence: presence,
        _quota: quota,
        _watch: watch,
        _gauge: GaugeGuard::increment(&METRICS.connections.get_or_create(&KindLabel { kind: "sse" })),
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // nginx buffers responses unless they forbid it, and delays events for many seconds.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, Body::from_stream(body)).into_response()
}

/// Waits until the server stops or the session ends; returns the last event, if any.
fn wait_for_end(state: HttpState, session: Option<Arc<Session>>) -> BoxFuture<'static, Option<Bytes>> {
    async move {
        let session_ended = async {
            match &session {
                Some(session) => session.wait_ended().await,
                None => std::future::pending().await,
            }
        };
        let drained = async {
            state.stop.cancelled().await;
            sleep(state.settings.drain_period.mul_f64(state.next_drain_fraction())).await;
        };
        tokio::select! {
            session_state = session_ended => Some(session_end_event(session_state)),
            () = drained => None,
        }
    }
    .boxed()
}

/// Encodes the error that ends the stream with its session.
fn session_end_event(session_state: SessionState) -> Bytes {
    let is_revoked = session_state == SessionState::Revoked;
    let message = if is_revoked { "the token was revoked" } else { "the token has expired" };
    let error = Error::Unauthenticated { message: message.into(), retryable: !is_revoked };
    encode_next(&RejectedRequest::from(&error).into_graphql_response().body)
}

/// The body of a response: the operation's events, with comments while there are none.
struct SseBody {
    /// `None` once the stream has ended.
    operation: Option<OperationStream>,
    end: BoxFuture<'static, Option<Bytes>>,
    keep_alive: Interval,
    _presence: Option<ConnectionGuard>,
    _quota: Option<QuotaGuard>,
    _watch: Option<DropGuard>,
    _gauge: GaugeGuard,
}

impl Stream for SseBody {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let body = &mut *self;
        let Some(operation) = &mut body.operation else {
            return Poll::Ready(None);
        };
        // First: nothing may follow the end of the session, however much there is to write.
        if let Poll::Ready(last_event) = body.end.poll_unpin(cx) {
            body.operation = None;
            return Poll::Ready(last_event.map(Ok));
        }
        if let Poll::Ready(response) = operation.poll_next(cx) {
            return Poll::Ready(Some(Ok(match response {
                Some(response) => {
                    METRICS.events_delivered.inc();
                    encode_next(&response.body)
                }
                None => {
                    body.operation = None;
                    COMPLETE_EVENT
                }
            })));
        }
        match body.keep_alive.poll_tick(cx) {
            Poll::Ready(_) => Poll::Ready(Some(Ok(KEEP_ALIVE))),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Encodes the event of a response, whose JSON is a single line because it contains no line breaks.
fn encode_next(body: &str) -> Bytes {
    let mut event = String::with_capacity(body.len() + 20);
    event.push_str("event: next\ndata: ");
    event.push_str(body);
    event.push_str("\n\n");
    event.into()
}
