//! Some of a chat's listeners, who are told by one task.
//!
//! It goes round: whoever's turn it is gets all that was heard since their last, in one write. So the busier
//! the server is the fewer writes it needs, and nobody waits for more than one round.

use parking_lot::Mutex;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::yield_now;

use crate::metrics::METRICS;
use crate::realtime::dispatch::hub::Subscribers;
use crate::realtime::dispatch::queue::{DeliveryQueue, SharedEvent};

/// Listeners of a part where more parts could be had. Fewer are told sooner by one task alone.
const MIN_SHARD_SIZE: usize = 64;
/// Listeners in whose turn nothing else runs: each may be a write to a socket.
const SUBSCRIBERS_PER_YIELD: usize = 16;

#[derive(Debug)]
pub(super) struct SubscriberShard {
    queues: Vec<Arc<DeliveryQueue>>,
    inbox: Mutex<ShardInbox>,
}

#[derive(Debug, Default)]
struct ShardInbox {
    events: Vec<Arc<SharedEvent>>,
    /// A task is telling, and comes back for what is added now.
    is_delivering: bool,
}

impl SubscriberShard {
    /// These listeners, in parts of about the same size: one for each thread that could tell them, if they are
    /// enough.
    pub(super) fn split(listeners: &Subscribers) -> Vec<Arc<Self>> {
        let listeners: Vec<Arc<DeliveryQueue>> = listeners.values().cloned().collect();
        let threads = Handle::current().metrics().num_workers();
        let size = listeners.len().div_ceil(threads).max(MIN_SHARD_SIZE);
        let part = |some: &[Arc<DeliveryQueue>]| Arc::new(Self { queues: some.to_vec(), inbox: Mutex::default() });
        listeners.chunks(size).map(part).collect()
    }

    /// Adds what the listeners are to be told; true where somebody has to call [`Self::tell`].
    pub(super) fn enqueue(&self, heard: &[Arc<SharedEvent>]) -> bool {
        let mut added = self.inbox.lock();
        added.events.extend_from_slice(heard);
        !std::mem::replace(&mut added.is_delivering, true)
    }

    /// Tells the listeners what was added, until all know all.
    pub(super) async fn run(self: Arc<Self>) {
        let turns: Vec<&[Arc<DeliveryQueue>]> = self.queues.chunks(SUBSCRIBERS_PER_YIELD).collect();
        // What some are yet to be told, and how much of it each turn's listeners were.
        let (mut heard, mut told) = (Vec::new(), vec![0; turns.len()]);
        let mut frames = Vec::new();
        while self.discard_delivered(&mut heard, &mut told) {
            for (listeners, told) in turns.iter().zip(&mut told) {
                heard.append(&mut self.inbox.lock().events);
                let news = &heard[*told..];
                if !news.is_empty() {
                    let messages: usize = listeners.iter().map(|mailbox| mailbox.deliver(news, &mut frames)).sum();
                    METRICS.events_delivered.inc_by(messages as u64);
                    METRICS.fast_path_deliveries.inc_by(messages as u64);
                    *told = heard.len();
                    yield_now().await;
                }
            }
        }
    }

    /// Forgets what all were told; false where nothing is left, and who adds something calls for another task.
    fn discard_delivered(&self, heard: &mut Vec<Arc<SharedEvent>>, told: &mut [usize]) -> bool {
        let known = told.iter().copied().min().unwrap_or_default();
        heard.drain(..known);
        told.iter_mut().for_each(|told| *told -= known);
        let mut added = self.inbox.lock();
        added.is_delivering = !heard.is_empty() || !added.events.is_empty();
        added.is_delivering
    }
}
