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
use crate::graphql::api::{Admitted, Refused};
use crate::graphql::operation_stream::Running;
use crate::graphql::schema::context::Asker;
use crate::http::State;
use crate::metrics::{Counted, Kind, METRICS};
use crate::realtime::presence::tracker::Here;
use crate::realtime::sessions::{Session, Standing};

/// A line that means nothing, so that proxies and both sides see that the other is there.
const PING: Bytes = Bytes::from_static(b":\n\n");
const COMPLETE: Bytes = Bytes::from_static(b"event: complete\ndata:\n\n");

/// Tells what comes of an operation as events.
pub fn respond(state: &State, admitted: Result<Admitted, Refused>, session: Option<Arc<Session>>) -> Response {
    let asker = session.clone().map_or(Asker::Stranger, Asker::on);
    let here = session.as_ref().map(|session| {
        let viewer = session.viewer();
        state.app.presence.arrive(viewer.organization(), viewer.id())
    });
    let mut pings = interval(state.app.config.http.socket_ping);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let events = Events {
        running: Some(Running::new(state.api.clone(), admitted, asker)),
        end: end(state.clone(), session),
        pings,
        _here: here,
        _counted: Counted::in_gauge(&METRICS.connections.get_or_create(&Kind { kind: "sse" })),
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, Body::from_stream(events)).into_response()
}

/// Waits until the server stops, or the session ends, which is told.
fn end(state: State, session: Option<Arc<Session>>) -> BoxFuture<'static, Option<Bytes>> {
    async move {
        let ended = async {
            match &session {
                Some(session) => session.ended().await,
                None => std::future::pending().await,
            }
        };
        let stopped = async {
            state.stop.cancelled().await;
            // Not all at once, so that those who come back don't either.
            sleep(state.app.config.http.drain.mul_f64(state.next_share())).await;
        };
        tokio::select! {
            standing = ended => {
                let message = match standing {
                    Standing::Revoked => "the token was revoked",
                    _ => "the token has expired",
                };
                let error = Error::Unauthenticated { message: message.into(), retryable: standing != Standing::Revoked };
                Some(next(&Refused::from(&error).answer().body))
            }
            () = stopped => None,
        }
    }
    .boxed()
}

struct Events {
    /// None once it has ended.
    running: Option<Running>,
    end: BoxFuture<'static, Option<Bytes>>,
    pings: Interval,
    _here: Option<Here>,
    _counted: Counted,
}

impl Stream for Events {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(running) = &mut self.running else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(answer) = running.poll_next(cx) {
            return Poll::Ready(Some(Ok(match answer {
                Some(answer) => {
                    METRICS.deliveries.inc();
                    next(&answer.body)
                }
                None => {
                    self.running = None;
                    COMPLETE
                }
            })));
        }
        if let Poll::Ready(why) = self.end.poll_unpin(cx) {
            self.running = None;
            return Poll::Ready(why.map(Ok));
        }
        match self.pings.poll_tick(cx) {
            Poll::Ready(_) => Poll::Ready(Some(Ok(PING))),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// JSON has no line breaks of its own, so it is one line.
fn next(body: &str) -> Bytes {
    let mut event = String::with_capacity(body.len() + 20);
    event.push_str("event: next\ndata: ");
    event.push_str(body);
    event.push_str("\n\n");
    event.into()
}
