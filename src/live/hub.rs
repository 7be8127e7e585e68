//! Who listens on this node: an index from chats, and from people, to mailboxes.
//!
//! Events of one chat come from several tasks, and from other nodes, so they may overtake each other
//! by a little. A topic knows how far it was told, and holds what comes too early until the gap is
//! filled, here or by [`super::mender`]: one read for all its listeners instead of one for each.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use futures_util::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::memo::Memo;
use crate::domain::changes::{Called, ChatEvent, Happening};
use crate::domain::ids::{CallId, ChatId, OrganizationId, UserId};
use crate::domain::users::Person;
use crate::lock::lock;
use crate::metrics::METRICS;

/// Events that wait in a mailbox. A listener that falls further behind goes on from the database,
/// so that its memory is bounded and nothing is lost.
const MAILBOX: usize = 64;
/// Events that a topic holds for the sake of a gap. Beyond, its listeners read the gap each.
const HELD: usize = 256;

type Listeners = HashMap<u64, Arc<Mailbox>>;

#[derive(Debug, Default)]
pub struct Hub {
    chats: Mutex<HashMap<ChatId, Arc<Topic>>>,
    people: Mutex<HashMap<Person, Listeners>>,
    /// Those who only hear that a chat is no more.
    ends: Mutex<HashMap<ChatId, Listeners>>,
    /// Those who follow a call.
    calls: Mutex<HashMap<CallId, Listeners>>,
    next_id: AtomicU64,
    /// Chats with a gap.
    gaps: Mutex<HashSet<ChatId>>,
    gaping: Notify,
}

/// The listeners of one chat.
#[derive(Debug, Default)]
struct Topic(Mutex<TopicState>);

/// Those listeners of a chat who ask the same.
pub trait Audience: Debug + Send + Sync {
    /// By what they are told from others.
    fn id(&self) -> u64;

    /// Makes what they are told of what was heard, and leaves it there. `version` is that of the chat when
    /// it was heard.
    fn make(&self, heard: Arc<Heard>, version: i64) -> BoxFuture<'static, ()>;
}

/// Longest that listeners wait for what is made for all of them; then each has it made for itself.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
struct TopicState {
    listeners: Listeners,
    /// The last version that was told without a gap; none where nobody knows.
    version: Option<i64>,
    /// What came too early, by its first version.
    held: BTreeMap<i64, ChatEvent>,
    /// Those among the listeners who ask the same, and how many they are.
    audiences: HashMap<u64, (Arc<dyn Audience>, usize)>,
    /// What was heard and is to be made ready for them.
    unmade: Vec<Arc<Heard>>,
    /// Something is being made: what comes now is passed on after it.
    is_making: bool,
}

#[derive(Debug)]
struct Mailbox {
    /// Whose it is.
    owner: UserId,
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
    fn new(event: ChatEvent, listeners: usize) -> Arc<Self> {
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

impl Hub {
    /// Puts an event into the mailboxes of those whom it concerns. What concerns nobody costs a
    /// look-up.
    pub fn deliver(&self, event: ChatEvent) {
        self.deliver_to_people(&event);
        if matches!(event.what, Happening::Deleted) {
            let heard = Heard::new(event.clone(), 1);
            let ends = lock(&self.ends);
            ends.get(&event.chat)
                .into_iter()
                .flat_map(HashMap::values)
                .for_each(|mailbox| mailbox.put(std::slice::from_ref(&heard)));
        }
        match &event.what {
            Happening::Called(called) => return self.deliver_to_call(called, &event),
            Happening::Notified(_) => return,
            _ => {}
        }
        let topic = lock(&self.chats).get(&event.chat).cloned();
        let Some(topic) = topic else { return };
        let chat = event.chat;
        let mut state = lock(&topic.0);
        let gap = state.hear(event);
        topic.make(&mut state);
        drop(state);
        if gap {
            lock(&self.gaps).insert(chat);
            self.gaping.notify_one();
        }
    }

    /// A signal is heard by whom it is for alone.
    fn deliver_to_call(&self, called: &Called, event: &ChatEvent) {
        let calls = lock(&self.calls);
        let Some(listeners) = calls.get(&called.call) else { return };
        let heard = Heard::new(event.clone(), 1);
        let concerned = |mailbox: &&Arc<Mailbox>| called.to.as_ref().is_none_or(|to| *to == mailbox.owner);
        listeners.values().filter(concerned).for_each(|mailbox| mailbox.put(std::slice::from_ref(&heard)));
    }

    /// Tells those who follow a call that they missed something.
    pub fn overflow_call(&self, call: CallId) {
        lock(&self.calls).get(&call).into_iter().flat_map(HashMap::values).for_each(|mailbox| mailbox.overflow());
    }

    /// Those who come into the chat or leave it, are notified or called, need not listen to it.
    fn deliver_to_people(&self, event: &ChatEvent) {
        let concerned: Vec<&UserId> = match &event.what {
            Happening::Notified(notified) => notified.people.iter().collect(),
            Happening::Called(called) => called.people.iter().collect(),
            _ => event.membership().map(|(user, _)| user).collect(),
        };
        if concerned.is_empty() {
            return;
        }
        let people = lock(&self.people);
        let mut heard = None;
        for user in concerned {
            let listeners = people.get(&(event.organization.clone(), user.clone()));
            for mailbox in listeners.into_iter().flat_map(HashMap::values) {
                let heard = heard.get_or_insert_with(|| Heard::new(event.clone(), 1));
                mailbox.put(std::slice::from_ref(heard));
            }
        }
    }

    /// Whether anybody here listens to a chat.
    pub fn is_heard(&self, chat: ChatId) -> bool {
        lock(&self.chats).contains_key(&chat)
    }

    /// The chats that are listened to here, each with how far it was told.
    pub fn topics(&self) -> Vec<(ChatId, Option<i64>)> {
        let topics: Vec<_> = lock(&self.chats).iter().map(|(chat, topic)| (*chat, topic.clone())).collect();
        topics.into_iter().map(|(chat, topic)| (chat, lock(&topic.0).version)).collect()
    }

    /// Tells those who listen to a chat, or for its end, that they missed something.
    pub fn overflow_chat(&self, chat: ChatId) {
        let topic = lock(&self.chats).get(&chat).cloned();
        if let Some(topic) = topic {
            lock(&topic.0).listeners.values().for_each(|mailbox| mailbox.overflow());
        }
        lock(&self.ends).get(&chat).into_iter().flat_map(HashMap::values).for_each(|mailbox| mailbox.overflow());
    }

    /// Tells those who listen to people that they missed something.
    pub fn overflow_people(&self) {
        lock(&self.people).values().flat_map(HashMap::values).for_each(|mailbox| mailbox.overflow());
    }

    /// Waits until there are chats with a gap.
    pub async fn gaping(&self) {
        self.gaping.notified().await;
    }

    /// The chats whose gaps are still open, each with how far it was told.
    pub fn gaps(&self) -> Vec<(ChatId, Option<i64>)> {
        let chats = std::mem::take(&mut *lock(&self.gaps));
        let topic = |chat| lock(&self.chats).get(&chat).cloned();
        let gap = |chat| {
            let topic = topic(chat)?;
            let state = lock(&topic.0);
            (!state.held.is_empty()).then_some((chat, state.version))
        };
        chats.into_iter().filter_map(gap).collect()
    }

    /// Gives up waiting for what is missing: listeners that lack it read it.
    pub fn release(&self, chat: ChatId) {
        if let Some(topic) = lock(&self.chats).get(&chat).cloned() {
            let mut state = lock(&topic.0);
            state.release();
            topic.make(&mut state);
        }
    }

    /// A place to listen from, of this person.
    pub fn listen(self: &Arc<Self>, user: &UserId) -> Listener {
        Listener {
            hub: self.clone(),
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            mailbox: Arc::new(Mailbox { owner: user.clone(), queue: Mutex::default(), waiting: AtomicWaker::new() }),
            chats: HashSet::new(),
            person: None,
            end: None,
            call: None,
            audience: None,
        }
    }
}

/// What was heard and is to be made ready, and for whom.
struct ToMake {
    heard: Vec<Arc<Heard>>,
    audiences: Vec<Arc<dyn Audience>>,
    version: i64,
}

impl Topic {
    /// Makes what waits ready for those who ask the same, all of it at once, and passes it on in its order.
    fn make(self: &Arc<Self>, state: &mut TopicState) {
        if state.is_making || state.unmade.is_empty() {
            return;
        }
        state.is_making = true;
        let topic = self.clone();
        tokio::spawn(async move {
            while let Some(ToMake { heard, audiences, version }) = topic.next_to_make() {
                let making = audiences
                    .iter()
                    .flat_map(|audience| heard.iter().map(|heard| audience.make(heard.clone(), version)));
                // What is late is made by those whom it concerns.
                drop(timeout(PATIENCE, join_all(making)).await);
                lock(&topic.0).listeners.values().for_each(|mailbox| mailbox.put(&heard));
            }
        });
    }

    /// What is to be made, and for whom; none where all is passed on.
    fn next_to_make(&self) -> Option<ToMake> {
        let mut state = lock(&self.0);
        let heard = std::mem::take(&mut state.unmade);
        state.is_making = !heard.is_empty();
        if heard.is_empty() {
            return None;
        }
        let shared = state.audiences.values().filter(|(_, number)| *number > 1);
        let audiences = shared.map(|(audience, _)| audience.clone()).collect();
        Some(ToMake { heard, audiences, version: state.version.unwrap_or_default() })
    }
}

impl TopicState {
    /// Passes an event on, or holds it; true where a gap has opened.
    fn hear(&mut self, event: ChatEvent) -> bool {
        let Some((first, last)) = event.versions() else {
            self.put(event);
            return false;
        };
        if self.version.is_some_and(|version| first > version + 1) {
            let opened = self.held.is_empty();
            self.held.insert(first, event);
            if self.held.len() > HELD {
                self.release();
                return false;
            }
            return opened;
        }
        self.version = self.version.max(Some(last));
        self.put(event);
        while let Some(next) = self.held.first_entry()
            && self.version.is_none_or(|version| *next.key() <= version + 1)
        {
            let event = next.remove();
            self.version = self.version.max(event.versions().map(|(_, last)| last));
            self.put(event);
        }
        false
    }

    fn release(&mut self) {
        for event in std::mem::take(&mut self.held).into_values() {
            self.version = self.version.max(event.versions().map(|(_, last)| last));
            self.put(event);
        }
    }

    /// Passes an event to those who listen, or on to be made ready for them.
    fn put(&mut self, event: ChatEvent) {
        let heard = Heard::new(event, self.listeners.len());
        if let Happening::Moved(moved) = &heard.event.what
            && moved.members.iter().all(|moved| !moved.shown)
        {
            // It is the members' own, and needs no place among what others hear.
            let own = |mailbox: &&Arc<Mailbox>| moved.members.iter().any(|moved| moved.member.user == mailbox.owner);
            self.listeners.values().filter(own).for_each(|mailbox| mailbox.put(std::slice::from_ref(&heard)));
            return;
        }
        if self.is_making || self.audiences.values().any(|(_, number)| *number > 1) {
            self.unmade.push(heard);
        } else {
            self.listeners.values().for_each(|mailbox| mailbox.put(std::slice::from_ref(&heard)));
        }
    }
}

impl Mailbox {
    fn put(&self, heard: &[Arc<Heard>]) {
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

    fn overflow(&self) {
        let mut queue = lock(&self.queue);
        queue.events = VecDeque::new();
        queue.overflown = true;
        drop(queue);
        self.waiting.wake();
    }

    fn take(&self) -> Option<Delivery> {
        let mut queue = lock(&self.queue);
        if std::mem::take(&mut queue.overflown) {
            return Some(Delivery::Overflow);
        }
        queue.events.pop_front().map(Delivery::Event)
    }
}

/// One subscriber's place in the index, which it leaves when dropped.
#[derive(Debug)]
pub struct Listener {
    hub: Arc<Hub>,
    id: u64,
    mailbox: Arc<Mailbox>,
    chats: HashSet<ChatId>,
    person: Option<Person>,
    end: Option<ChatId>,
    call: Option<CallId>,
    /// Those with whom it asks the same of its chats.
    audience: Option<u64>,
}

impl Listener {
    /// Hears of a chat from now on; false where it did already.
    pub fn attach(&mut self, chat: ChatId) -> bool {
        let fresh = self.chats.insert(chat);
        if fresh {
            let mut chats = lock(&self.hub.chats);
            let topic = chats.entry(chat).or_default();
            lock(&topic.0).listeners.insert(self.id, self.mailbox.clone());
        }
        fresh
    }

    /// Asks the same of the chats that it hears as all of this audience.
    pub fn share(&mut self, audience: &Arc<dyn Audience>) {
        if self.audience.replace(audience.id()).is_some() {
            return;
        }
        let chats = lock(&self.hub.chats);
        for topic in self.chats.iter().filter_map(|chat| chats.get(chat)) {
            lock(&topic.0).audiences.entry(audience.id()).or_insert_with(|| (audience.clone(), 0)).1 += 1;
        }
    }

    /// Says that the listener, which began just now, knows a chat up to this version: what comes next
    /// has the one after it.
    pub fn is_level(&self, chat: ChatId, version: i64) {
        let topic = lock(&self.hub.chats).get(&chat).cloned();
        if let Some(topic) = topic {
            let mut state = lock(&topic.0);
            // One who read what is still on its way here must not hide a gap from the others.
            state.version = Some(state.version.map_or(version, |known| known.min(version)));
        }
    }

    pub fn detach(&mut self, chat: ChatId) {
        if self.chats.remove(&chat) {
            self.leave(chat);
        }
    }

    fn leave(&self, chat: ChatId) {
        let mut chats = lock(&self.hub.chats);
        let Some(topic) = chats.get(&chat) else { return };
        let mut state = lock(&topic.0);
        state.listeners.remove(&self.id);
        if let Some(audience) = self.audience
            && let Some((_, number)) = state.audiences.get_mut(&audience)
        {
            *number -= 1;
            if *number == 0 {
                state.audiences.remove(&audience);
            }
        }
        let empty = state.listeners.is_empty();
        drop(state);
        if empty {
            chats.remove(&chat);
        }
    }

    /// Hears from now on of the chats that a person comes into or leaves, and of their notifications.
    pub fn follow(&mut self, organization: &OrganizationId, user: &UserId) {
        let person = (organization.clone(), user.clone());
        lock(&self.hub.people).entry(person.clone()).or_default().insert(self.id, self.mailbox.clone());
        self.person = Some(person);
    }

    /// Hears of one chat that it is no more, and of nothing else that happens there.
    pub fn await_end(&mut self, chat: ChatId) {
        lock(&self.hub.ends).entry(chat).or_default().insert(self.id, self.mailbox.clone());
        self.end = Some(chat);
    }

    /// Hears what happens to a call from now on.
    pub fn follow_call(&mut self, call: CallId) {
        lock(&self.hub.calls).entry(call).or_default().insert(self.id, self.mailbox.clone());
        self.call = Some(call);
    }

    /// The next delivery. Safe to drop and call again: nothing is taken before it is returned.
    pub async fn next(&mut self) -> Delivery {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// What waits here already.
    pub fn take(&mut self) -> Option<Delivery> {
        self.mailbox.take()
    }

    /// The same by hand: what most events pass, and every subscriber.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Delivery> {
        if let Some(delivery) = self.mailbox.take() {
            return Poll::Ready(delivery);
        }
        self.mailbox.waiting.register(cx.waker());
        // What came in between woke nobody.
        self.mailbox.take().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.chats.iter().for_each(|chat| self.leave(*chat));
        if let Some(person) = &self.person {
            leave(&mut lock(&self.hub.people), person, self.id);
        }
        if let Some(chat) = &self.end {
            leave(&mut lock(&self.hub.ends), chat, self.id);
        }
        if let Some(call) = &self.call {
            leave(&mut lock(&self.hub.calls), call, self.id);
        }
    }
}

fn leave<K: Eq + std::hash::Hash>(topics: &mut HashMap<K, Listeners>, topic: &K, id: u64) {
    if let Some(listeners) = topics.get_mut(topic) {
        listeners.remove(&id);
        if listeners.is_empty() {
            topics.remove(topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::domain::changes::{Change, MessageChange, Stretch};
    use crate::domain::ids::MessageId;
    use crate::domain::messages::{Message, Notice, NoticeKind};

    fn event(chat: ChatId, what: Happening) -> ChatEvent {
        ChatEvent { organization: "demo".parse().unwrap(), chat, at: DateTime::UNIX_EPOCH, what }
    }

    fn deleted(chat: ChatId) -> ChatEvent {
        event(chat, Happening::Deleted)
    }

    /// The making of a message with this version.
    fn made(chat: ChatId, seq: i64) -> ChatEvent {
        let notice = Notice { kind: NoticeKind::ChatCreated, actor: None, subject: None, detail: None, call: None };
        let message = Message::notice(MessageId { chat, seq }, notice, DateTime::UNIX_EPOCH);
        let change = Change::Message(Arc::new(message), MessageChange::Added);
        event(chat, Happening::Changed(Stretch::of_commit(vec![change])))
    }

    fn heard(listener: &Listener) -> Vec<i64> {
        let version = |delivery| match delivery {
            Delivery::Event(heard) => heard.event.versions().map_or(0, |(first, _)| first),
            Delivery::Overflow => -1,
        };
        std::iter::from_fn(|| listener.mailbox.take()).map(version).collect()
    }

    #[tokio::test]
    async fn a_listener_hears_its_chats_until_it_leaves() {
        let hub = Arc::new(Hub::default());
        let (here, elsewhere) = (ChatId::new(), ChatId::new());
        let mut listener = hub.listen(&"alice".parse().unwrap());
        listener.attach(here);
        hub.deliver(deleted(elsewhere));
        hub.deliver(deleted(here));
        assert!(matches!(listener.next().await, Delivery::Event(heard) if heard.event.chat == here));
        listener.detach(here);
        hub.deliver(deleted(here));
        assert!(listener.mailbox.take().is_none());
        listener.attach(elsewhere);
        drop(listener);
        assert!(hub.topics().is_empty(), "nothing is left of a listener that has gone");
    }

    #[tokio::test]
    async fn a_slow_listener_is_told_once_that_it_missed_something() {
        let hub = Arc::new(Hub::default());
        let chat = ChatId::new();
        let mut listener = hub.listen(&"alice".parse().unwrap());
        listener.attach(chat);
        for _ in 0..=MAILBOX {
            hub.deliver(deleted(chat));
        }
        assert!(matches!(listener.next().await, Delivery::Overflow));
        assert!(listener.mailbox.take().is_none());
        hub.deliver(deleted(chat));
        assert!(matches!(listener.next().await, Delivery::Event(_)));
    }

    #[test]
    fn what_comes_too_early_waits_for_what_is_missing() {
        let hub = Arc::new(Hub::default());
        let chat = ChatId::new();
        let mut listener = hub.listen(&"alice".parse().unwrap());
        listener.attach(chat);
        listener.is_level(chat, 4);
        for version in [5, 7, 8, 6, 9, 9, 3] {
            hub.deliver(made(chat, version));
        }
        assert_eq!(heard(&listener), [5, 6, 7, 8, 9, 9, 3], "and what is old is for listeners to drop");
        assert!(hub.gaps().is_empty(), "a gap that closed by itself needs no mending");
        hub.deliver(made(chat, 12));
        assert!(heard(&listener).is_empty());
        assert_eq!(hub.gaps(), [(chat, Some(9))]);
        hub.release(chat);
        assert_eq!(heard(&listener), [12]);
        assert_eq!(hub.topics(), [(chat, Some(12))]);
    }

    #[test]
    fn what_is_heard_by_one_alone_is_not_kept_for_others() {
        let hub = Arc::new(Hub::default());
        let chat = ChatId::new();
        let (mut one, mut other) = (hub.listen(&"alice".parse().unwrap()), hub.listen(&"alice".parse().unwrap()));
        one.attach(chat);
        hub.deliver(made(chat, 1));
        other.attach(chat);
        hub.deliver(made(chat, 2));
        let kept =
            |delivery| matches!(delivery, Some(Delivery::Event(heard)) if Origin::new(&heard, 0).memo().is_some());
        assert!(!kept(one.mailbox.take()));
        assert!(kept(one.mailbox.take()) && kept(other.mailbox.take()));
    }
}
