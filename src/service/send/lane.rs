//! A lane of sends: a queue, and the task that commits what waits in it.
//!
//! All sends of a chat go through one lane, in their order. The task takes the sends that wait and commits them in one
//! transaction with a few multi-row statements. It never waits for a batch to fill: without load, a batch is one
//! message. Each send is answered after its commit, and is committed even if its client has disconnected meanwhile.
//!
//! The task waits for no chat: sends whose chats another transaction has locked go to [`HeldChats`]. Each lane has
//! connections of its own, so that it does not wait for another lane either.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::metrics::{GaugeGuard, LaneLabel, METRICS};
use crate::service::quotas::{Quota, QuotaGuard};
use crate::service::send::batch::{SendRequest, SendResult};
use crate::service::send::held_chats::HeldChats;
use crate::service::send::queued_send::{MAX_BATCH, QueuedSend, queue_full};
use crate::service::send::worker::SendWorker;
use crate::service::settings::QuotaLimits;

/// The time after which a waiting send is refused with a batch that the database did not answer.
const MAX_WAIT_IN_OUTAGE: Duration = Duration::from_secs(1);

/// The sending half of a lane.
pub struct Lane {
    number: usize,
    sender: mpsc::Sender<QueuedSend>,
    /// The sends of each organisation, so that none of them takes the room of all others.
    shares: Arc<Quota>,
}

impl Lane {
    /// Starts the task that commits the sends, with a queue of at most `capacity` sends.
    ///
    /// The task ends when the `Lane` is dropped and all queued sends are answered. A batch that panics fails its own
    /// sends, and the task goes on with the next batch.
    pub fn start(worker: Arc<SendWorker>, number: usize, capacity: usize) -> Self {
        let (sender, receiver) = mpsc::channel(capacity);
        let held_chats = Arc::new(HeldChats::new(worker.clone(), capacity));
        let task = LaneTask { receiver, waiting: Vec::with_capacity(MAX_BATCH), worker, held_chats };
        tokio::spawn(task.run());
        let limits = QuotaLimits { per_user: usize::MAX, per_organization: (capacity * 3 / 4).max(1) };
        let shares = Quota::new("queued_sends", "messages waiting in one send lane", limits);
        Self { number, sender, shares }
    }

    /// Puts a send into the queue and returns the channel of its answer.
    ///
    /// # Errors
    ///
    /// Returns [`Error::RateLimited`] if the sender's organisation has too many sends in this lane, and
    /// [`Error::Unavailable`] if the queue is full, because waiting would only make it longer.
    pub fn push(&self, request: SendRequest, place: QuotaGuard) -> Result<oneshot::Receiver<Result<SendResult>>> {
        let share = self.shares.acquire(&request.viewer.key())?;
        let counted = GaugeGuard::increment(&METRICS.sends_waiting.get_or_create(&LaneLabel { lane: self.number }));
        let (responder, response) = oneshot::channel();
        let queued = QueuedSend { request, queued_at: Instant::now(), responder, places: [place, share], counted };
        match self.sender.try_send(queued) {
            Ok(()) => Ok(response),
            Err(TrySendError::Full(_)) => Err(queue_full()),
            Err(TrySendError::Closed(_)) => Err(Error::unavailable("the server is stopping")),
        }
    }
}

/// The task of a lane.
struct LaneTask {
    receiver: mpsc::Receiver<QueuedSend>,
    /// The oldest sends, taken from the queue in their order.
    waiting: Vec<QueuedSend>,
    worker: Arc<SendWorker>,
    held_chats: Arc<HeldChats>,
}

impl LaneTask {
    async fn run(mut self) {
        while self.receive().await {
            let batch = take_batch(&mut self.waiting, self.worker.database.commits_buckets_together());
            let batch = self.held_chats.add_to_held(batch);
            if batch.is_empty() {
                continue;
            }
            let processed = self.worker.process(batch).await;
            self.held_chats.hold(processed.held);
            if let Some(outage) = processed.outage {
                self.refuse_waiting(&outage);
            }
        }
    }

    /// Takes sends from the queue, and waits for one only if there is none to commit.
    ///
    /// Returns false if there is none and the queue is closed.
    async fn receive(&mut self) -> bool {
        if self.waiting.is_empty() {
            return self.receiver.recv_many(&mut self.waiting, MAX_BATCH).await > 0;
        }
        while self.waiting.len() < MAX_BATCH
            && let Ok(send) = self.receiver.try_recv()
        {
            self.waiting.push(send);
        }
        true
    }

    /// Refuses the sends that have waited for long while the database gave no answer.
    ///
    /// None of them waits for a second time limit.
    fn refuse_waiting(&mut self, outage: &Error) {
        let is_overdue = |send: &QueuedSend| send.queued_at.elapsed() >= MAX_WAIT_IN_OUTAGE;
        for send in self.waiting.extract_if(.., |send| is_overdue(send)) {
            send.respond(Err(outage.clone()));
        }
        while let Ok(send) = self.receiver.try_recv() {
            if !is_overdue(&send) {
                self.waiting.push(send);
                break;
            }
            send.respond(Err(outage.clone()));
        }
    }
}

/// Takes the sends that the next transaction commits, in the order of each chat.
///
/// They are all that wait, with those of each bucket side by side, if buckets are committed together. Otherwise they
/// are the oldest send and all others of its bucket.
fn take_batch(waiting: &mut Vec<QueuedSend>, commits_buckets_together: bool) -> Vec<QueuedSend> {
    let Some(oldest) = waiting.first() else { return Vec::new() };
    let bucket = oldest.request.bucket();
    let mut batch: Vec<_> =
        waiting.extract_if(.., |send| commits_buckets_together || send.request.bucket() == bucket).collect();
    batch.sort_by_key(|send| send.request.bucket());
    batch
}
