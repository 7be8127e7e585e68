//! Where what was heard waits for one listener.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use crate::domain::changes::{ChatEvent, Happening};
use crate::domain::ids::UserId;
use crate::live::memo::Memo;
use crate::lock::lock;
use crate::metrics::METRICS;

/// Events that wait in a mailbox. A listener that falls further behind goes on from the database,
/// so that its memory is bounded and nothing is lost.
pub(super) const MAILBOX: usize = 64;

#[derive(Debug)]
pub(super) struct Mailbox {
    /// Whose it is.
    pub(super) owner: UserId,
    queue: Mutex<Queue>,
    waiting: AtomicWaker,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Arc<Heard>>,
    overflown: bool,
}

/// An event as all its listeners hold it, with what was made of each of its changes so far.
#[derive(Debug)]
pub struct Heard {
    pub event: ChatEvent,
    memos: Vec<Memo>,
}

impl Heard {
    /// What is made for one listener alone need not be kept for others.
    pub(super) fn new(event: ChatEvent, listeners: usize) -> Arc<Self> {
        let changes = match &event.what {
            Happening::Changed(stretch) => stretch.changes.len(),
            Happening::Moved(moved) => moved.members.len(),
            Happening::Deleted | Happening::Notified(_) | Happening::Called(_) => 0,
        };
        let kept = if listeners > 1 { changes } else { 0 };
        Arc::new(Self { event, memos: std::iter::repeat_with(Memo::default).take(kept).collect() })
    }
}

/// Which change of what was heard something comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    heard: Arc<Heard>,
    place: usize,
}

impl Origin {
    pub fn new(heard: &Arc<Heard>, place: usize) -> Self {
        Self { heard: heard.clone(), place }
    }

    /// What was made of it, where more than one heard it.
    pub fn memo(&self) -> Option<&Memo> {
        self.heard.memos.get(self.place)
    }
}

/// What a listener finds in its mailbox.
#[derive(Debug)]
pub enum Delivery {
    Event(Arc<Heard>),
    /// Events were thrown away: the database has them.
    Overflow,
}

impl Mailbox {
    pub(super) fn new(owner: &UserId) -> Self {
        Self { owner: owner.clone(), queue: Mutex::default(), waiting: AtomicWaker::new() }
    }

    pub(super) fn put(&self, heard: &[Arc<Heard>]) {
        let mut queue = lock(&self.queue);
        if queue.events.len() + heard.len() > MAILBOX {
            queue.events = VecDeque::new();
            queue.overflown = true;
            METRICS.overflows.inc();
        }
        if !queue.overflown {
            queue.events.extend(heard.iter().cloned());
        }
        drop(queue);
        self.waiting.wake();
    }

    pub(super) fn overflow(&self) {
        let mut queue = lock(&self.queue);
        queue.events = VecDeque::new();
        queue.overflown = true;
        drop(queue);
        self.waiting.wake();
    }

    pub(super) fn take(&self) -> Option<Delivery> {
        let mut queue = lock(&self.queue);
        if std::mem::take(&mut queue.overflown) {
            return Some(Delivery::Overflow);
        }
        queue.events.pop_front().map(Delivery::Event)
    }

    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Delivery> {
        if let Some(delivery) = self.take() {
            return Poll::Ready(delivery);
        }
        self.waiting.register(cx.waker());
        // What came in between woke nobody.
        self.take().map_or(Poll::Pending, Poll::Ready)
    }
}
