//! The end of a response with the session of its token.
//!
//! hyper polls a body only while it has room for more of it. A client that reads slowly would receive what waits in
//! hyper's buffer, however long ago its token was revoked. A task of its own therefore watches a response that may take
//! long, and aborts its connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::stream::Stream;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::http::tcp_stream::SharedTcpWriter;
use crate::realtime::sessions::Session;
use crate::tasks::spawn_detached;

/// The time after the end of its session in which a client can read what was written before.
const GRACE_PERIOD: Duration = Duration::from_millis(500);
/// The pause between two checks whether the client has read everything.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// The size of the parts of a long body, between which its session is checked.
const CHUNK_BYTES: usize = 64 * 1024;

/// Aborts a response that still waits for its client after its session has ended.
///
/// The watch ends when the client has read the response, after the returned guard of its body was dropped. The task
/// ends with the watch; if it panics, that response is not aborted.
pub fn watch(session: Arc<Session>, writer: SharedTcpWriter) -> DropGuard {
    let body_taken = CancellationToken::new();
    let guard = body_taken.clone().drop_guard();
    let session_ended = async move { session.wait_ended().await };
    drop(spawn_detached(async move {
        let has_been_read = async {
            body_taken.cancelled().await;
            while writer.is_blocked() {
                sleep(CHECK_INTERVAL).await;
            }
        };
        tokio::select! {
            biased;
            _ = session_ended => {}
            () = has_been_read => return Ok(()),
        }
        sleep(GRACE_PERIOD).await;
        if writer.is_blocked() {
            tracing::debug!("aborting a response whose session has ended");
            writer.abort();
        }
        Ok(())
    }));
    guard
}

/// Returns whether a response is so long that its client may still be reading it when its session ends.
pub fn is_long(body: &[u8]) -> bool {
    body.len() > CHUNK_BYTES
}

/// Returns a long body that ends early with its session.
pub fn long_body(body: Bytes, session: Arc<Session>, writer: SharedTcpWriter) -> Body {
    let watch = watch(session.clone(), writer);
    Body::from_stream(LongBody { rest: body, session, _watch: watch })
}

/// The rest of a long body.
struct LongBody {
    rest: Bytes,
    session: Arc<Session>,
    _watch: DropGuard,
}

impl Stream for LongBody {
    type Item = Result<Bytes, SessionEnded>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        if self.session.has_ended() {
            return Poll::Ready(Some(Err(SessionEnded)));
        }
        let length = self.rest.len().min(CHUNK_BYTES);
        Poll::Ready(Some(Ok(self.rest.split_to(length))))
    }
}

/// The error of a body whose session has ended.
#[derive(Debug, thiserror::Error)]
#[error("the session has ended")]
struct SessionEnded;
