//! The queue of sends, which are committed in batches.
//!
//! All sends go through one queue to one task. The task takes all sends that wait and commits them in one transaction
//! with a few multi-row statements. It never waits for a batch to fill: without load, a batch is one message. Each send
//! is answered after its commit, and is committed even if its client has disconnected meanwhile.
//!
//! The task waits for no chat: sends whose chats another transaction has locked go to [`HeldChats`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::domain::messages::MessageDraft;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::service::quotas::Quota;
use crate::service::send::batch::{SendRequest, SendResult};
use crate::service::send::held_chats::HeldChats;
use crate::service::send::queued_send::{MAX_BATCH, QueuedSend, queue_full};
use crate::service::send::worker::SendWorker;

/// The time after which a waiting send is refused with a batch that the database did not answer.
const MAX_WAIT_IN_OUTAGE: Duration = Duration::from_secs(1);

/// The sending half of the queue.
pub struct SendQueue {
    sender: mpsc::Sender<QueuedSend>,
    /// The places of each sender, so that no one takes the places of all others.
    places: Arc<Quota>,
    worker: Arc<SendWorker>,
}

impl SendQueue {
    /// Starts the task that commits the sends, with a queue of at most `capacity` sends.
    ///
    /// The task ends when the `SendQueue` is dropped and all queued sends are answered. A batch that panics fails its
    /// own sends, and the task goes on with the next batch.
    pub fn start(worker: SendWorker, capacity: usize, places: Arc<Quota>) -> Self {
        let (sender, mut receiver) = mpsc::channel(capacity);
        let worker = Arc::new(worker);
        let held_chats = Arc::new(HeldChats::new(worker.clone(), capacity));
        let batch_worker = worker.clone();
        tokio::spawn(async move {
            let mut queued = Vec::with_capacity(MAX_BATCH);
            while !queued.is_empty() || receiver.recv_many(&mut queued, MAX_BATCH).await > 0 {
                let batch = held_chats.add_to_held(std::mem::take(&mut queued));
                if batch.is_empty() {
                    continue;
                }
                let processed = batch_worker.process(batch).await;
                held_chats.hold(processed.held);
                if let Some(outage) = processed.outage {
                    queued.extend(refuse_waiting(&mut receiver, &outage));
                }
            }
        });
        Self { sender, places, worker }
    }

    /// Sends a message and waits for its commit.
    ///
    /// This method is cancel-safe in one sense: a send that is in the queue is committed even if the returned future is
    /// dropped.
    ///
    /// # Errors
    ///
    /// Returns [`Error::RateLimited`] at once if the sender's rate limit is reached or too many of their sends wait.
    /// Returns [`Error::Unavailable`] at once if the queue is full, because waiting would only make it longer, and
    /// after a few seconds if another transaction keeps the chat locked. Returns the error of the send if it is
    /// refused: see [`SendBatch::accept`](crate::service::send::batch::SendBatch::accept).
    pub async fn send(&self, viewer: Arc<Viewer>, draft: MessageDraft) -> Result<SendResult> {
        let place = self.places.acquire(&viewer.key())?;
        self.worker.require_rate_limit(&viewer, &draft).await?;
        let (responder, response) = oneshot::channel();
        let request = SendRequest::new(viewer, draft);
        let queued = QueuedSend { request, queued_at: Instant::now(), responder, place };
        self.sender.try_send(queued).map_err(|error| match error {
            TrySendError::Full(_) => queue_full(),
            TrySendError::Closed(_) => Error::unavailable("the server is stopping"),
        })?;
        response.await.map_err(|_| Error::internal("the batch of a send was aborted"))?
    }
}

/// Refuses the sends that have waited for long while the database gave no answer.
///
/// None of them waits for a second time limit. Returns the first send that has not waited for long, which is taken from
/// the queue as well.
fn refuse_waiting(receiver: &mut mpsc::Receiver<QueuedSend>, outage: &Error) -> Option<QueuedSend> {
    while let Ok(send) = receiver.try_recv() {
        if send.queued_at.elapsed() < MAX_WAIT_IN_OUTAGE {
            return Some(send);
        }
        send.respond(Err(outage.clone()));
    }
    None
}
