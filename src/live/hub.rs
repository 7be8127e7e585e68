//! Who listens on this node: an index from chats, and from people, to mailboxes.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::changes::{ChatEvent, Happening};
use crate::domain::ids::{ChatId, OrganizationId, UserId};

/// Events that wait in a mailbox. A listener that falls further behind goes on from the database,
/// so that its memory is bounded and nothing is lost.
const MAILBOX: usize = 64;

type Person = (OrganizationId, UserId);
type Listeners = HashMap<u64, Arc<Mailbox>>;

#[derive(Debug, Default)]
pub struct Hub {
    index: Mutex<Index>,
    next_id: AtomicU64,
}

#[derive(Debug, Default)]
struct Index {
    chats: HashMap<ChatId, Listeners>,
    people: HashMap<Person, Listeners>,
    /// Those who only hear that a chat is no more.
    ends: HashMap<ChatId, Listeners>,
}

#[derive(Debug, Default)]
struct Mailbox {
    queue: Mutex<Queue>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Arc<ChatEvent>>,
    overflown: bool,
}

/// What a listener finds in its mailbox.
#[derive(Debug)]
pub enum Delivery {
    Event(Arc<ChatEvent>),
    /// Events were thrown away: the database has them.
    Overflow,
}

impl Hub {
    /// Puts an event into the mailboxes of those whom it concerns. What concerns nobody costs a
    /// look-up.
    pub fn deliver(&self, event: &Arc<ChatEvent>) {
        let index = lock(&self.index);
        for mailbox in index.chats.get(&event.chat).into_iter().flat_map(HashMap::values) {
            mailbox.put(event);
        }
        for (user, _) in event.membership() {
            let person = (event.organization.clone(), user.clone());
            for mailbox in index.people.get(&person).into_iter().flat_map(HashMap::values) {
                mailbox.put(event);
            }
        }
        if matches!(event.what, Happening::Deleted) {
            for mailbox in index.ends.get(&event.chat).into_iter().flat_map(HashMap::values) {
                mailbox.put(event);
            }
        }
    }

    /// Whether anybody here listens to a chat.
    pub fn is_heard(&self, chat: ChatId) -> bool {
        lock(&self.index).chats.contains_key(&chat)
    }

    pub fn listen(self: &Arc<Self>) -> Listener {
        Listener {
            hub: self.clone(),
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            mailbox: Arc::default(),
            chats: HashSet::new(),
            person: None,
            end: None,
        }
    }
}

impl Mailbox {
    fn put(&self, event: &Arc<ChatEvent>) {
        let mut queue = lock(&self.queue);
        if queue.events.len() == MAILBOX {
            queue.events = VecDeque::new();
            queue.overflown = true;
        }
        if !queue.overflown {
            queue.events.push_back(event.clone());
        }
        drop(queue);
        self.filled.notify_one();
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
}

impl Listener {
    /// Hears of a chat from now on; false where it did already.
    pub fn attach(&mut self, chat: ChatId) -> bool {
        let fresh = self.chats.insert(chat);
        if fresh {
            let mut index = lock(&self.hub.index);
            index.chats.entry(chat).or_default().insert(self.id, self.mailbox.clone());
        }
        fresh
    }

    pub fn detach(&mut self, chat: ChatId) {
        if self.chats.remove(&chat) {
            leave(&mut lock(&self.hub.index).chats, &chat, self.id);
        }
    }

    /// Hears from now on of the chats that a person comes into or leaves.
    pub fn follow(&mut self, organization: &OrganizationId, user: &UserId) {
        let person = (organization.clone(), user.clone());
        let mut index = lock(&self.hub.index);
        index.people.entry(person.clone()).or_default().insert(self.id, self.mailbox.clone());
        self.person = Some(person);
    }

    /// Hears of one chat that it is no more, and of nothing else that happens there.
    pub fn await_end(&mut self, chat: ChatId) {
        let mut index = lock(&self.hub.index);
        index.ends.entry(chat).or_default().insert(self.id, self.mailbox.clone());
        self.end = Some(chat);
    }

    /// The next delivery. Safe to drop and call again: nothing is taken before it is returned.
    pub async fn next(&mut self) -> Delivery {
        loop {
            if let Some(delivery) = self.mailbox.take() {
                return delivery;
            }
            self.mailbox.filled.notified().await;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut index = lock(&self.hub.index);
        for chat in &self.chats {
            leave(&mut index.chats, chat, self.id);
        }
        if let Some(person) = &self.person {
            leave(&mut index.people, person, self.id);
        }
        if let Some(chat) = &self.end {
            leave(&mut index.ends, chat, self.id);
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

/// Nothing under these locks can leave them half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(chat: ChatId) -> Arc<ChatEvent> {
        Arc::new(ChatEvent { organization: "demo".parse().unwrap(), chat, what: Happening::Deleted })
    }

    #[tokio::test]
    async fn a_listener_hears_its_chats_until_it_leaves() {
        let hub = Arc::new(Hub::default());
        let (here, elsewhere) = (ChatId::new(), ChatId::new());
        let mut listener = hub.listen();
        listener.attach(here);
        hub.deliver(&event(elsewhere));
        hub.deliver(&event(here));
        assert!(matches!(listener.next().await, Delivery::Event(event) if event.chat == here));
        listener.detach(here);
        hub.deliver(&event(here));
        assert!(listener.mailbox.take().is_none());
        listener.attach(elsewhere);
        drop(listener);
        assert!(lock(&hub.index).chats.is_empty(), "nothing is left of a listener that has gone");
    }

    #[tokio::test]
    async fn a_slow_listener_is_told_once_that_it_missed_something() {
        let hub = Arc::new(Hub::default());
        let chat = ChatId::new();
        let mut listener = hub.listen();
        listener.attach(chat);
        for _ in 0..=MAILBOX {
            hub.deliver(&event(chat));
        }
        assert!(matches!(listener.next().await, Delivery::Overflow));
        assert!(listener.mailbox.take().is_none());
        hub.deliver(&event(chat));
        assert!(matches!(listener.next().await, Delivery::Event(_)));
    }
}
