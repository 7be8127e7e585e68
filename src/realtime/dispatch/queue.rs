//! Where what was heard waits for one listener.

use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use crate::domain::chat_events::{ChatEvent, ChatEventKind};
use crate::domain::ids::UserId;
use crate::domain::users::User;
use crate::metrics::METRICS;
use crate::realtime::dispatch::fast_path::{FastPath, FeedPosition, RenderedBatch};
use crate::realtime::dispatch::render_cache::RenderCache;

/// Events that wait in a mailbox. A listener that falls further behind goes on from the database,
/// so that its memory is bounded and nothing is lost.
pub(super) const QUEUE_CAPACITY: usize = 64;

#[derive(Debug)]
pub(super) struct DeliveryQueue {
    /// Whose it is.
    pub(super) owner: UserId,
    state: Mutex<QueueState>,
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct QueueState {
    events: VecDeque<Arc<SharedEvent>>,
    overflowed: bool,
    /// The short way past it, while its owner is level.
    fast_path: Option<FastPath>,
}

/// An event as all its listeners hold it, with what was made of each of its changes so far.
#[derive(Debug)]
pub struct SharedEvent {
    pub event: ChatEvent,
    render_caches: Vec<RenderCache>,
    /// What all of an audience are told of it, by audience, once that is known.
    renderings: OnceLock<HashMap<u64, RenderedBatch>>,
}

impl SharedEvent {
    /// What is made for one listener alone need not be kept for others.
    pub(super) fn new(event: ChatEvent, listeners: usize) -> Arc<Self> {
        let changes = match &event.kind {
            ChatEventKind::LogChanges(stretch) => stretch.changes.len(),
            ChatEventKind::MembersUpdated(moved) => moved.members.len(),
            ChatEventKind::Deleted | ChatEventKind::NotificationsChanged(_) | ChatEventKind::CallChanged(_) => 0,
        };
        let kept = if listeners > 1 { changes } else { 0 };
        let memos = std::iter::repeat_with(RenderCache::default).take(kept).collect();
        Arc::new(Self { event, render_caches: memos, renderings: OnceLock::new() })
    }

    /// Whether what is made of it is kept for others.
    pub(super) fn is_cached(&self) -> bool {
        !self.render_caches.is_empty()
    }

    /// Whether it is nobody's but some members' own.
    pub(super) fn is_private(&self) -> bool {
        matches!(&self.event.kind, ChatEventKind::MembersUpdated(moved) if moved.members.iter().all(|moved| !moved.visible_to_others))
    }

    /// Whether a listener is to hear it.
    pub(super) fn is_visible_to(&self, user: &UserId) -> bool {
        match &self.event.kind {
            ChatEventKind::MembersUpdated(moved) => moved.visible_to(user).next().is_some(),
            _ => true,
        }
    }

    /// Says what audiences are told of it: once, before anybody is.
    pub(super) fn set_renderings(&self, sheets: HashMap<u64, RenderedBatch>) {
        self.renderings.get_or_init(|| sheets);
    }

    /// What all of an audience are told of it, if that is the same.
    pub(super) fn rendering_for(&self, audience: u64) -> Option<&RenderedBatch> {
        self.renderings.get()?.get(&audience)
    }
}

/// Which change of what was heard something comes from.
#[derive(Debug, Clone)]
pub struct EventRef {
    shared_event: Arc<SharedEvent>,
    index: usize,
}

impl EventRef {
    pub fn new(heard: &Arc<SharedEvent>, place: usize) -> Self {
        Self { shared_event: heard.clone(), index: place }
    }

    /// Those by whom it is, if they were at hand.
    pub fn senders(&self) -> &[User] {
        &self.shared_event.event.senders
    }

    /// What was made of it, where more than one heard it.
    pub fn render_cache(&self) -> Option<&RenderCache> {
        self.shared_event.render_caches.get(self.index)
    }
}

/// What a listener finds in its mailbox.
#[derive(Debug)]
pub enum Delivery {
    Event(Arc<SharedEvent>),
    /// Events were thrown away: the database has them.
    Lagged,
}

impl QueueState {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && !self.overflowed
    }

    fn push(&mut self, owner: &UserId, heard: &[Arc<SharedEvent>]) {
        let concerned = || heard.iter().filter(|heard| heard.is_visible_to(owner));
        if self.events.len() + concerned().count() > QUEUE_CAPACITY {
            self.events = VecDeque::new();
            self.overflowed = true;
            METRICS.queue_overflows.inc();
        }
        if !self.overflowed {
            self.events.extend(concerned().cloned());
        }
    }
}

impl DeliveryQueue {
    pub(super) fn new(owner: &UserId) -> Self {
        Self { owner: owner.clone(), state: Mutex::default(), waker: AtomicWaker::new() }
    }

    pub(super) fn push(&self, heard: &[Arc<SharedEvent>]) {
        self.state.lock().push(&self.owner, heard);
        self.waker.wake();
    }

    /// Tells the owner by the short way as much as can be, in so many messages, and puts the rest here.
    /// `frames` is room to write in.
    pub(super) fn deliver(&self, mut heard: &[Arc<SharedEvent>], frames: &mut Vec<u8>) -> usize {
        let mut queue = self.state.lock();
        let is_empty = queue.is_empty();
        let mut messages = 0;
        if let Some(lane) = queue.fast_path.as_mut().filter(|_| is_empty) {
            while !heard.is_empty() {
                let (told, written) = lane.write_through(&self.owner, heard, frames);
                if told == 0 {
                    break;
                }
                heard = &heard[told..];
                messages += written;
            }
        }
        if !heard.is_empty() {
            queue.push(&self.owner, heard);
            drop(queue);
            self.waker.wake();
        }
        messages
    }

    /// Opens the short way, unless something waits here already.
    pub(super) fn enable_fast_path(&self, lane: FastPath) {
        let mut queue = self.state.lock();
        if queue.is_empty() {
            queue.fast_path = Some(lane);
        }
    }

    /// Closes the short way: how far it led.
    pub(super) fn disable_fast_path(&self) -> Option<FeedPosition> {
        self.state.lock().fast_path.take().map(|lane| lane.position)
    }

    pub(super) fn mark_lagged(&self) {
        let mut queue = self.state.lock();
        queue.events = VecDeque::new();
        queue.overflowed = true;
        drop(queue);
        self.waker.wake();
    }

    pub(super) fn pop(&self) -> Option<Delivery> {
        let mut queue = self.state.lock();
        if std::mem::take(&mut queue.overflowed) {
            return Some(Delivery::Lagged);
        }
        queue.events.pop_front().map(Delivery::Event)
    }

    pub(super) fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Delivery> {
        if let Some(delivery) = self.pop() {
            return Poll::Ready(delivery);
        }
        self.waker.register(cx.waker());
        // What came in between woke nobody.
        self.pop().map_or(Poll::Pending, Poll::Ready)
    }
}
