//! One subscriber's place.

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::domain::ids::{CallId, ChatId, OrganizationId, UserId};
use crate::domain::users::UserKey;
use crate::realtime::dispatch::fast_path::{FastPath, FeedPosition, FrameSink};
use crate::realtime::dispatch::hub::{Hub, Subscribers};
use crate::realtime::dispatch::queue::{Delivery, DeliveryQueue};
use crate::realtime::dispatch::topic::RenderGroup;

/// One subscriber's place in the index, which it leaves when dropped.
#[derive(Debug)]
pub struct Subscriber {
    pub(super) hub: Arc<Hub>,
    pub(super) id: u64,
    pub(super) queue: Arc<DeliveryQueue>,
    pub(super) chats: HashSet<ChatId>,
    pub(super) user_key: Option<UserKey>,
    pub(super) deletion_chat: Option<ChatId>,
    pub(super) call: Option<CallId>,
    /// Those with whom it asks the same of its chats.
    pub(super) render_group_id: Option<u64>,
}

impl Subscriber {
    /// Hears of a chat from now on; false where it did already.
    pub fn subscribe_chat(&mut self, chat: ChatId) -> bool {
        let fresh = self.chats.insert(chat);
        if fresh {
            let mut chats = self.hub.chat_topics.lock();
            let topic = chats.entry(chat).or_default();
            topic.0.lock().join(self.id, self.queue.clone());
        }
        fresh
    }

    /// Asks the same of the chats that it hears as all of this audience.
    pub fn join_render_group(&mut self, audience: &Arc<dyn RenderGroup>) {
        if self.render_group_id.replace(audience.id()).is_some() {
            return;
        }
        let chats = self.hub.chat_topics.lock();
        for topic in self.chats.iter().filter_map(|chat| chats.get(chat)) {
            topic.0.lock().render_groups.entry(audience.id()).or_insert_with(|| (audience.clone(), 0)).1 += 1;
        }
    }

    /// Says that the listener, which began just now, knows a chat up to this version: what comes next
    /// has the one after it.
    pub fn mark_caught_up(&self, chat: ChatId, version: i64) {
        let topic = self.hub.chat_topics.lock().get(&chat).cloned();
        if let Some(topic) = topic {
            let mut state = topic.0.lock();
            // One who read what is still on its way here must not hide a gap from the others.
            state.version = Some(state.version.map_or(version, |known| known.min(version)));
        }
    }

    pub fn unsubscribe_chat(&mut self, chat: ChatId) {
        if self.chats.remove(&chat) {
            self.unsubscribe_topic(chat);
        }
    }

    fn unsubscribe_topic(&self, chat: ChatId) {
        let mut chats = self.hub.chat_topics.lock();
        let Some(topic) = chats.get(&chat) else { return };
        let mut state = topic.0.lock();
        if let Some(audience) = self.render_group_id
            && let Some((_, number)) = state.render_groups.get_mut(&audience)
        {
            *number -= 1;
            if *number == 0 {
                state.render_groups.remove(&audience);
            }
        }
        let empty = state.leave(self.id);
        drop(state);
        if empty {
            chats.remove(&chat);
        }
    }

    /// Hears from now on of the chats that a person comes into or leaves, and of their notifications.
    pub fn subscribe_user(&mut self, organization: &OrganizationId, user: &UserId) {
        let person = (organization.clone(), user.clone());
        self.hub.user_subscribers.lock().entry(person.clone()).or_default().insert(self.id, self.queue.clone());
        self.user_key = Some(person);
    }

    /// Hears of one chat that it is no more, and of nothing else that happens there.
    pub fn subscribe_chat_deletion(&mut self, chat: ChatId) {
        self.hub.chat_deletion_subscribers.lock().entry(chat).or_default().insert(self.id, self.queue.clone());
        self.deletion_chat = Some(chat);
    }

    /// Hears what happens to a call from now on.
    pub fn subscribe_call(&mut self, call: CallId) {
        self.hub.call_subscribers.lock().entry(call).or_default().insert(self.id, self.queue.clone());
        self.call = Some(call);
    }

    /// The next delivery. Safe to drop and call again: nothing is taken before it is returned.
    pub async fn recv(&mut self) -> Delivery {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// What waits here already.
    pub fn try_recv(&mut self) -> Option<Delivery> {
        self.queue.pop()
    }

    /// Lets what is made for its audience go by this way, until its place is reclaimed: for one who is level in
    /// its one chat, has told all that it was given, and has been woken for nothing more.
    pub fn enable_fast_path(&self, place: FeedPosition, outlet: &Arc<dyn FrameSink>) {
        if let Some(audience) = self.render_group_id {
            self.queue.enable_fast_path(FastPath { render_group_id: audience, position: place, sink: outlet.clone() });
        }
    }

    /// How far it was told by that way; none where it was not lent.
    pub fn disable_fast_path(&self) -> Option<FeedPosition> {
        self.queue.disable_fast_path()
    }

    /// The same by hand: what most events pass, and every subscriber.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Delivery> {
        self.queue.poll_recv(cx)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.queue.disable_fast_path();
        self.chats.iter().for_each(|chat| self.unsubscribe_topic(*chat));
        if let Some(person) = &self.user_key {
            unsubscribe(&mut self.hub.user_subscribers.lock(), person, self.id);
        }
        if let Some(chat) = &self.deletion_chat {
            unsubscribe(&mut self.hub.chat_deletion_subscribers.lock(), chat, self.id);
        }
        if let Some(call) = &self.call {
            unsubscribe(&mut self.hub.call_subscribers.lock(), call, self.id);
        }
    }
}

fn unsubscribe<K: Eq + std::hash::Hash>(topics: &mut HashMap<K, Subscribers>, topic: &K, id: u64) {
    if let Some(listeners) = topics.get_mut(topic) {
        listeners.remove(&id);
        if listeners.is_empty() {
            topics.remove(topic);
        }
    }
}
