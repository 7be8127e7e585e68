//! The sends of chats that another transaction has locked.
//!
//! A batch skips such chats, so that one of them does not stop all others. Each held chat has a task of its own, which
//! waits in the database's line for the lock, and commits the sends of its chat in their order. Attempts are short and
//! take turns, because they need connections, of which there are few. After a few seconds a send is refused.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::domain::ids::ChatId;
use crate::error::Error;
use crate::metrics::METRICS;
use crate::service::send::queued_send::{MAX_BATCH, QueuedSend, queue_full};
use crate::service::send::worker::SendWorker;

/// The time after which a send that is held is refused, counted from when it was queued.
const MAX_HELD_TIME: Duration = Duration::from_secs(3);
/// The longest wait for the lock of a chat before another held chat gets its turn.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(250);

/// The held chats of a lane, each with its sends in the order in which they have to be committed.
///
/// The mutex protects the sends; it is never held across an `await`.
pub struct HeldChats {
    worker: Arc<SendWorker>,
    sends: Mutex<HashMap<ChatId, Vec<QueuedSend>>>,
    /// The permit of the attempt that may run beside the lane's own task: each of the two has a connection.
    attempts: Semaphore,
    /// The maximum number of sends that are held.
    capacity: usize,
}

impl HeldChats {
    /// Creates an empty set that holds at most `capacity` sends.
    pub fn new(worker: Arc<SendWorker>, capacity: usize) -> Self {
        Self { worker, sends: Mutex::default(), attempts: Semaphore::new(1), capacity }
    }

    /// Adds the sends whose chats are held, after the earlier sends of these chats, and returns the others.
    pub fn add_to_held(&self, batch: Vec<QueuedSend>) -> Vec<QueuedSend> {
        let mut held = self.sends.lock();
        if held.is_empty() {
            return batch;
        }
        let mut count: usize = held.values().map(Vec::len).sum();
        let mut others = Vec::with_capacity(batch.len());
        for send in batch {
            match held.get_mut(&send.request.draft.chat) {
                None => others.push(send),
                Some(_) if count >= self.capacity => send.respond(Err(queue_full())),
                Some(sends) => {
                    METRICS.sends_held.inc();
                    sends.push(send);
                    count += 1;
                }
            }
        }
        others
    }

    /// Holds the chats of these sends, and starts a task for each of them.
    ///
    /// The task ends when no send of its chat is left, after `MAX_HELD_TIME` at the latest if none is added. A batch
    /// that panics fails its own sends only.
    pub fn hold(self: &Arc<Self>, sends: Vec<QueuedSend>) {
        for send in self.add_to_held(sends) {
            let chat = send.request.draft.chat;
            let mut held = self.sends.lock();
            let is_new = !held.contains_key(&chat);
            held.entry(chat).or_default().push(send);
            drop(held);
            METRICS.sends_held.inc();
            if is_new {
                tokio::spawn(self.clone().commit_chat(chat));
            }
        }
    }

    async fn commit_chat(self: Arc<Self>, chat: ChatId) {
        while let Some(sends) = self.take_sends(chat) {
            let undecided = self.attempt(sends).await;
            self.put_back(chat, undecided);
        }
    }

    /// Takes the next sends of a chat; without any, the chat is not held any longer.
    fn take_sends(&self, chat: ChatId) -> Option<Vec<QueuedSend>> {
        let mut held = self.sends.lock();
        let sends = held.get_mut(&chat)?;
        if sends.is_empty() {
            held.remove(&chat);
            return None;
        }
        Some(sends.drain(..sends.len().min(MAX_BATCH)).collect())
    }

    /// Puts sends back before those that were added meanwhile.
    fn put_back(&self, chat: ChatId, sends: Vec<QueuedSend>) {
        if let Some(later) = self.sends.lock().get_mut(&chat) {
            later.splice(..0, sends);
        }
    }

    /// Tries to commit sends of one chat and returns those that remain undecided.
    async fn attempt(&self, sends: Vec<QueuedSend>) -> Vec<QueuedSend> {
        let sends = refuse_expired(sends);
        let Some(deadline) = sends.first().map(|oldest| oldest.queued_at + MAX_HELD_TIME) else { return Vec::new() };
        let Ok(_permit) = tokio::time::timeout_at(deadline, self.attempts.acquire()).await else { return sends };
        let lock_timeout = ATTEMPT_TIMEOUT.min(deadline.saturating_duration_since(Instant::now()));
        self.worker.process_held(sends, lock_timeout).await.held
    }
}

/// Refuses the sends that have been held for too long, and returns the others.
fn refuse_expired(sends: Vec<QueuedSend>) -> Vec<QueuedSend> {
    let is_expired = |send: &QueuedSend| send.queued_at.elapsed() >= MAX_HELD_TIME;
    let (expired, others): (Vec<_>, Vec<_>) = sends.into_iter().partition(is_expired);
    for send in expired {
        send.respond(Err(Error::unavailable("the chat is busy with another change")));
    }
    others
}
