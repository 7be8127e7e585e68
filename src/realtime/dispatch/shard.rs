//! A part of a chat's subscribers, to whom one task delivers.
//!
//! The task goes round its subscribers and gives each all events since their last turn in one write. The busier the
//! server is, the fewer writes it needs, and no subscriber waits for more than one round.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::yield_now;

use crate::metrics::METRICS;
use crate::realtime::dispatch::queue::{DeliveryQueue, Subscribers};
use crate::realtime::dispatch::shared_event::SharedEvent;

/// The smallest number of subscribers that is worth a task of its own.
///
/// Fewer subscribers are served sooner by one task.
const MIN_SHARD_SIZE: usize = 64;
/// The number of subscribers after which the task yields: each of them may take a write to a socket.
const SUBSCRIBERS_PER_YIELD: usize = 16;

/// A fixed set of subscribers and the events that one task delivers to them.
#[derive(Debug)]
pub(super) struct SubscriberShard {
    queues: Vec<Arc<DeliveryQueue>>,
    /// Held for moments only, and never together with another lock.
    inbox: Mutex<ShardInbox>,
}

#[derive(Debug, Default)]
struct ShardInbox {
    events: Vec<Arc<SharedEvent>>,
    /// A task is delivering and will also deliver what is added now.
    is_delivering: bool,
}

impl SubscriberShard {
    /// Splits subscribers into shards of about the same size, at most one for each worker thread.
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime.
    pub(super) fn split(subscribers: &Subscribers) -> Vec<Arc<Self>> {
        let queues: Vec<Arc<DeliveryQueue>> = subscribers.values().cloned().collect();
        let threads = Handle::current().metrics().num_workers();
        let size = queues.len().div_ceil(threads).max(MIN_SHARD_SIZE);
        let shard = |queues: &[Arc<DeliveryQueue>]| Arc::new(Self { queues: queues.to_vec(), inbox: Mutex::default() });
        queues.chunks(size).map(shard).collect()
    }

    /// Adds events and returns whether the caller must start [`Self::run`].
    pub(super) fn enqueue(&self, events: &[Arc<SharedEvent>]) -> bool {
        let mut inbox = self.inbox.lock();
        inbox.events.extend_from_slice(events);
        !std::mem::replace(&mut inbox.is_delivering, true)
    }

    /// Delivers the added events until every subscriber has them all.
    pub(super) async fn run(self: Arc<Self>) {
        let turns: Vec<&[Arc<DeliveryQueue>]> = self.queues.chunks(SUBSCRIBERS_PER_YIELD).collect();
        // The events that some subscribers lack, and how many of them the subscribers of each turn have.
        let (mut events, mut delivered) = (Vec::new(), vec![0; turns.len()]);
        let mut frames = Vec::new();
        while self.discard_delivered(&mut events, &mut delivered) {
            for (queues, delivered) in turns.iter().zip(&mut delivered) {
                events.append(&mut self.inbox.lock().events);
                let missing = &events[*delivered..];
                if !missing.is_empty() {
                    let messages: usize = queues.iter().map(|queue| queue.deliver(missing, &mut frames)).sum();
                    METRICS.events_delivered.inc_by(messages as u64);
                    METRICS.fast_path_deliveries.inc_by(messages as u64);
                    *delivered = events.len();
                    yield_now().await;
                }
            }
        }
    }

    /// Discards the events that all subscribers have, and returns whether any event is left.
    ///
    /// If none is left, the task ends, and the next call of [`Self::enqueue`] asks for another one.
    fn discard_delivered(&self, events: &mut Vec<Arc<SharedEvent>>, delivered: &mut [usize]) -> bool {
        let delivered_to_all = delivered.iter().copied().min().unwrap_or_default();
        events.drain(..delivered_to_all);
        delivered.iter_mut().for_each(|count| *count -= delivered_to_all);
        let mut inbox = self.inbox.lock();
        inbox.is_delivering = !events.is_empty() || !inbox.events.is_empty();
        inbox.is_delivering
    }
}
