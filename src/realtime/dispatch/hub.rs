//! Who listens on this node: an index from chats, and from people, to mailboxes.
//!
//! Events of one chat come from several tasks, and from other nodes, so they may overtake each other
//! by a little. A topic knows how far it was told, and holds what comes too early until the gap is
//! filled, here or by [`super::mender`]: one read for all its listeners instead of one for each.
//!
//! What is the same for many is made once; those who are level are told it without a detour (`lane`), the
//! others find it in their mailboxes.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::domain::chat_events::{Called, ChatEvent, Happening};
use crate::domain::ids::{CallId, ChatId, UserId};
use crate::domain::users::Person;
use crate::lock::lock;
use crate::realtime::dispatch::queue::{Heard, Mailbox};
use crate::realtime::dispatch::subscriber::Listener;
use crate::realtime::dispatch::topic::Topic;

pub(super) type Listeners = HashMap<u64, Arc<Mailbox>>;

#[derive(Debug, Default)]
pub struct Hub {
    pub(super) chats: Mutex<HashMap<ChatId, Arc<Topic>>>,
    pub(super) people: Mutex<HashMap<Person, Listeners>>,
    /// Those who only hear that a chat is no more.
    pub(super) ends: Mutex<HashMap<ChatId, Listeners>>,
    /// Those who follow a call.
    pub(super) calls: Mutex<HashMap<CallId, Listeners>>,
    next_id: AtomicU64,
    /// Chats with a gap.
    gaps: Mutex<HashSet<ChatId>>,
    gaping: Notify,
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
            mailbox: Arc::new(Mailbox::new(user)),
            chats: HashSet::new(),
            person: None,
            end: None,
            call: None,
            audience: None,
        }
    }
}

#[cfg(test)]
mod tests;
