//! A send that waits for its commit, in the queue or among the held ones.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::metrics::GaugeGuard;
use crate::service::quotas::QuotaGuard;
use crate::service::send::batch::{SendRequest, SendResult};

/// The maximum number of sends in one transaction.
pub const MAX_BATCH: usize = 256;
/// The time after which a client may send again when the queue was full.
const QUEUE_FULL_RETRY: Duration = Duration::from_millis(250);

/// A send that waits for its commit.
pub struct QueuedSend {
    pub request: SendRequest,
    pub queued_at: Instant,
    pub responder: oneshot::Sender<Result<SendResult>>,
    /// The sender's place in the queue and the organisation's in the lane, until the send is answered.
    pub places: [QuotaGuard; 2],
    /// Counts the send in the metric of waiting ones.
    pub counted: GaugeGuard,
}

impl QueuedSend {
    /// Answers the send.
    pub fn respond(self, result: Result<SendResult>) {
        let Self { responder, places, counted, .. } = self;
        drop((places, counted));
        // A client that has disconnected needs no answer.
        drop(responder.send(result));
    }
}

/// Returns the error of a send for which there is no room.
pub fn queue_full() -> Error {
    Error::Unavailable { message: "too many messages are waiting to be sent", retry_after: QUEUE_FULL_RETRY }
}
