//! GraphQL over Server-Sent Events, in distinct connections mode:
//! <https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md>
//!
//! For clients whose proxies block WebSockets: each operation is a response of its own, over the same
//! feeds. What is wrong with an operation is told as its first event. A stream that ends without
//! `complete` is one to take up again, elsewhere or with a fresh token.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::Stream;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use crate::error::Error;
use crate::graphql::api::{AdmittedRequest, RejectedRequest};
use crate::graphql::operation_stream::OperationStream;
use crate::graphql::schema::context::Requester;
use crate::http::HttpState;
use crate::metrics::{GaugeGuard, KindLabel, METRICS};
use crate::realtime::presence::tracker::ConnectionGuard;
use crate::realtime::sessions::{Session, SessionState};

/// A line that means nothing, so that proxies and both sides see that the other is there.
const KEEP_ALIVE: Bytes = Bytes::from_static(b":\n\n");
const COMPLETE_EVENT: Bytes = Bytes::from_static(b"event: complete\ndata:\n\n");

/// Tells what comes of an operation as events.
pub fn respond(
    state: &HttpState,
    admitted: Result<AdmittedRequest, RejectedRequest>,
    session: Option<Arc<Session>>,
) -> Response {
    let asker = session.clone().map_or(Requester::Anonymous, Requester::from_session);
    let here = session.as_ref().map(|session| {
        let viewer = session.viewer();
        state.app.presence.connect(viewer.organization(), viewer.id())
    });
    let mut pings = interval(state.app.config.http.socket_ping_interval);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let events = SseBody {
        operation: Some(OperationStream::new(state.api.clone(), admitted, asker)),
        end: wait_for_end(state.clone(), session),
        pings,
        _presence: here,
        _gauge: GaugeGuard::increment(&METRICS.connections.get_or_create(&KindLabel { kind: "sse" })),
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, Body::from_stream(events)).into_response()
}

/// Waits until the server stops, or the session ends, which is told.
fn wait_for_end(state: HttpState, session: Option<Arc<Session>>) -> BoxFuture<'static, Option<Bytes>> {
    async move {
        let ended = async {
            match &session {
                Some(session) => session.wait_ended().await,
                None => std::future::pending().await,
            }
        };
        let stopped = async {
            state.stop.cancelled().await;
            // Not all at once, so that those who come back don't either.
            sleep(state.app.config.http.drain_period.mul_f64(state.next_drain_fraction())).await;
        };
        tokio::select! {
            standing = ended => {
                let message = match standing {
                    SessionState::Revoked => "the token was revoked",
                    _ => "the token has expired",
                };
                let error = Error::Unauthenticated { message: message.into(), retryable: standing != SessionState::Revoked };
                Some(encode_next(&RejectedRequest::from(&error).into_graphql_response().body))
            }
            () = stopped => None,
        }
    }
    .boxed()
}

struct SseBody {
    /// None once it has ended.
    operation: Option<OperationStream>,
    end: BoxFuture<'static, Option<Bytes>>,
    pings: Interval,
    _presence: Option<ConnectionGuard>,
    _gauge: GaugeGuard,
}

impl Stream for SseBody {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(running) = &mut self.operation else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(answer) = running.poll_next(cx) {
            return Poll::Ready(Some(Ok(match answer {
                Some(answer) => {
                    METRICS.events_delivered.inc();
                    encode_next(&answer.body)
                }
                None => {
                    self.operation = None;
                    COMPLETE_EVENT
                }
            })));
        }
        if let Poll::Ready(why) = self.end.poll_unpin(cx) {
            self.operation = None;
            return Poll::Ready(why.map(Ok));
        }
        match self.pings.poll_tick(cx) {
            Poll::Ready(_) => Poll::Ready(Some(Ok(KEEP_ALIVE))),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// JSON has no line breaks of its own, so it is one line.
fn encode_next(body: &str) -> Bytes {
    let mut event = String::with_capacity(body.len() + 20);
    event.push_str("event: next\ndata: ");
    event.push_str(body);
    event.push_str("\n\n");
    event.into()
}
