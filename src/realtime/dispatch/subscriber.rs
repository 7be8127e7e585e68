//! One subscriber's place.

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::domain::ids::{CallId, ChatId, OrganizationId, UserId};
use crate::domain::users::Person;
use crate::lock::lock;
use crate::realtime::dispatch::fast_path::{Lane, Outlet, Place};
use crate::realtime::dispatch::hub::{Hub, Listeners};
use crate::realtime::dispatch::queue::{Delivery, Mailbox};
use crate::realtime::dispatch::topic::Audience;

/// One subscriber's place in the index, which it leaves when dropped.
#[derive(Debug)]
pub struct Listener {
    pub(super) hub: Arc<Hub>,
    pub(super) id: u64,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) chats: HashSet<ChatId>,
    pub(super) person: Option<Person>,
    pub(super) end: Option<ChatId>,
    pub(super) call: Option<CallId>,
    /// Those with whom it asks the same of its chats.
    pub(super) audience: Option<u64>,
}

impl Listener {
    /// Hears of a chat from now on; false where it did already.
    pub fn attach(&mut self, chat: ChatId) -> bool {
        let fresh = self.chats.insert(chat);
        if fresh {
            let mut chats = lock(&self.hub.chats);
            let topic = chats.entry(chat).or_default();
            lock(&topic.0).enter(self.id, self.mailbox.clone());
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
        if let Some(audience) = self.audience
            && let Some((_, number)) = state.audiences.get_mut(&audience)
        {
            *number -= 1;
            if *number == 0 {
                state.audiences.remove(&audience);
            }
        }
        let empty = state.leave(self.id);
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

    /// Lets what is made for its audience go by this way, until its place is reclaimed: for one who is level in
    /// its one chat, has told all that it was given, and has been woken for nothing more.
    pub fn lend(&self, place: Place, outlet: &Arc<dyn Outlet>) {
        if let Some(audience) = self.audience {
            self.mailbox.lend(Lane { audience, place, outlet: outlet.clone() });
        }
    }

    /// How far it was told by that way; none where it was not lent.
    pub fn reclaim(&self) -> Option<Place> {
        self.mailbox.reclaim()
    }

    /// The same by hand: what most events pass, and every subscriber.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Delivery> {
        self.mailbox.poll(cx)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.mailbox.reclaim();
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
