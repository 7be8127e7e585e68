//! Where what was heard waits for one listener.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use crate::domain::chat_events::{ChatEvent, Happening};
use crate::domain::ids::UserId;
use crate::domain::users::User;
use crate::lock::lock;
use crate::metrics::METRICS;
use crate::realtime::dispatch::fast_path::{Lane, Place, Sheet};
use crate::realtime::dispatch::render_cache::Memo;

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
    /// The short way past it, while its owner is level.
    lane: Option<Lane>,
}

/// An event as all its listeners hold it, with what was made of each of its changes so far.
#[derive(Debug)]
pub struct Heard {
    pub event: ChatEvent,
    memos: Vec<Memo>,
    /// What all of an audience are told of it, by audience, once that is known.
    sheets: OnceLock<HashMap<u64, Sheet>>,
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
        let memos = std::iter::repeat_with(Memo::default).take(kept).collect();
        Arc::new(Self { event, memos, sheets: OnceLock::new() })
    }

    /// Whether what is made of it is kept for others.
    pub(super) fn is_kept(&self) -> bool {
        !self.memos.is_empty()
    }

    /// Whether it is nobody's but some members' own.
    pub(super) fn is_private(&self) -> bool {
        matches!(&self.event.what, Happening::Moved(moved) if moved.members.iter().all(|moved| !moved.shown))
    }

    /// Whether a listener is to hear it.
    pub(super) fn concerns(&self, user: &UserId) -> bool {
        match &self.event.what {
            Happening::Moved(moved) => moved.seen_by(user).next().is_some(),
            _ => true,
        }
    }

    /// Says what audiences are told of it: once, before anybody is.
    pub(super) fn is_told_as(&self, sheets: HashMap<u64, Sheet>) {
        self.sheets.get_or_init(|| sheets);
    }

    /// What all of an audience are told of it, if that is the same.
    pub(super) fn sheet(&self, audience: u64) -> Option<&Sheet> {
        self.sheets.get()?.get(&audience)
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

    /// Those by whom it is, if they were at hand.
    pub fn people(&self) -> &[User] {
        &self.heard.event.people
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

impl Queue {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && !self.overflown
    }

    fn put(&mut self, owner: &UserId, heard: &[Arc<Heard>]) {
        let concerned = || heard.iter().filter(|heard| heard.concerns(owner));
        if self.events.len() + concerned().count() > MAILBOX {
            self.events = VecDeque::new();
            self.overflown = true;
            METRICS.overflows.inc();
        }
        if !self.overflown {
            self.events.extend(concerned().cloned());
        }
    }
}

impl Mailbox {
    pub(super) fn new(owner: &UserId) -> Self {
        Self { owner: owner.clone(), queue: Mutex::default(), waiting: AtomicWaker::new() }
    }

    pub(super) fn put(&self, heard: &[Arc<Heard>]) {
        lock(&self.queue).put(&self.owner, heard);
        self.waiting.wake();
    }

    /// Tells the owner by the short way as much as can be, in so many messages, and puts the rest here.
    /// `frames` is room to write in.
    pub(super) fn deliver(&self, mut heard: &[Arc<Heard>], frames: &mut Vec<u8>) -> usize {
        let mut queue = lock(&self.queue);
        let is_empty = queue.is_empty();
        let mut messages = 0;
        if let Some(lane) = queue.lane.as_mut().filter(|_| is_empty) {
            while !heard.is_empty() {
                let (told, written) = lane.tell(&self.owner, heard, frames);
                if told == 0 {
                    break;
                }
                heard = &heard[told..];
                messages += written;
            }
        }
        if !heard.is_empty() {
            queue.put(&self.owner, heard);
            drop(queue);
            self.waiting.wake();
        }
        messages
    }

    /// Opens the short way, unless something waits here already.
    pub(super) fn lend(&self, lane: Lane) {
        let mut queue = lock(&self.queue);
        if queue.is_empty() {
            queue.lane = Some(lane);
        }
    }

    /// Closes the short way: how far it led.
    pub(super) fn reclaim(&self) -> Option<Place> {
        lock(&self.queue).lane.take().map(|lane| lane.place)
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
