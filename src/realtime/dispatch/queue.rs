//! The bounded queue of the events that wait for one subscriber.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use crate::domain::ids::UserId;
use crate::metrics::METRICS;
use crate::realtime::dispatch::fast_path::FastPath;
use crate::realtime::dispatch::ports::FeedPosition;
use crate::realtime::dispatch::shared_event::SharedEvent;

/// The number of events that wait in a queue.
///
/// A subscriber that falls further behind continues from the database, so that its memory is bounded and no event is
/// lost.
pub(super) const QUEUE_CAPACITY: usize = 64;

/// Queues of subscribers, by the id of the subscriber.
pub(super) type Subscribers = HashMap<u64, Arc<DeliveryQueue>>;

/// An entry that a subscriber takes from its queue.
#[derive(Debug)]
pub enum Delivery {
    Event(Arc<SharedEvent>),
    /// Events were dropped from the queue: the subscriber reads them from the database.
    Lagged,
}

/// The events that wait for one subscriber, and the fast path past them.
///
/// `state` is the innermost lock of this folder: it is taken while locks of the hub, of a topic or of a shard are held,
/// and under it only the socket is written to.
#[derive(Debug)]
pub(super) struct DeliveryQueue {
    /// The user to whom events are delivered.
    pub(super) owner: UserId,
    state: Mutex<QueueState>,
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct QueueState {
    /// At most [`QUEUE_CAPACITY`] events, and none while `overflowed` is set.
    events: VecDeque<Arc<SharedEvent>>,
    /// Events were dropped and the subscriber does not know yet.
    overflowed: bool,
    /// The fast path, while the feed has enabled it. It is used only while no event waits.
    fast_path: Option<FastPath>,
}

impl QueueState {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && !self.overflowed
    }

    fn push(&mut self, owner: &UserId, events: &[Arc<SharedEvent>]) {
        let visible = || events.iter().filter(|event| event.is_visible_to(owner));
        if self.events.len() + visible().count() > QUEUE_CAPACITY {
            self.events = VecDeque::new();
            self.overflowed = true;
            METRICS.queue_overflows.inc();
        }
        if !self.overflowed {
            self.events.extend(visible().cloned());
        }
    }
}

impl DeliveryQueue {
    pub(super) fn new(owner: &UserId) -> Self {
        Self { owner: owner.clone(), state: Mutex::default(), waker: AtomicWaker::new() }
    }

    /// Queues those of the events that the owner receives, and wakes the subscriber.
    pub(super) fn push(&self, events: &[Arc<SharedEvent>]) {
        self.state.lock().push(&self.owner, events);
        self.waker.wake();
    }

    /// Writes as many of the events as possible by the fast path and queues the rest.
    ///
    /// Returns the number of messages that were written. `frames` is a buffer to encode into.
    pub(super) fn deliver(&self, mut events: &[Arc<SharedEvent>], frames: &mut Vec<u8>) -> usize {
        let mut state = self.state.lock();
        let is_empty = state.is_empty();
        let mut messages = 0;
        if let Some(fast_path) = state.fast_path.as_mut().filter(|_| is_empty) {
            while !events.is_empty() {
                let written = fast_path.write_through(&self.owner, events, frames);
                if written.events == 0 {
                    break;
                }
                events = &events[written.events..];
                messages += written.messages;
            }
        }
        if !events.is_empty() {
            state.push(&self.owner, events);
            drop(state);
            self.waker.wake();
        }
        messages
    }

    /// Opens the fast path, unless events wait in the queue already.
    pub(super) fn enable_fast_path(&self, fast_path: FastPath) {
        let mut state = self.state.lock();
        if state.is_empty() {
            state.fast_path = Some(fast_path);
        }
    }

    /// Closes the fast path and returns the position that it reached.
    pub(super) fn disable_fast_path(&self) -> Option<FeedPosition> {
        self.state.lock().fast_path.take().map(|fast_path| fast_path.position)
    }

    /// Drops all queued events, so that the subscriber reads from the database.
    pub(super) fn mark_lagged(&self) {
        let mut state = self.state.lock();
        state.events = VecDeque::new();
        state.overflowed = true;
        drop(state);
        self.waker.wake();
    }

    /// Takes the next entry, if one waits.
    pub(super) fn pop(&self) -> Option<Delivery> {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.overflowed) {
            return Some(Delivery::Lagged);
        }
        state.events.pop_front().map(Delivery::Event)
    }

    /// Takes the next entry, or registers the task to be woken for it.
    pub(super) fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Delivery> {
        if let Some(delivery) = self.pop() {
            return Poll::Ready(delivery);
        }
        self.waker.register(cx.waker());
        // An event that was queued before the registration did not wake the task.
        self.pop().map_or(Poll::Pending, Poll::Ready)
    }
}
