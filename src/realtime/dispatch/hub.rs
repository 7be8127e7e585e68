//! Who listens on this node: an index from chats, and from people, to mailboxes.
//!
//! Events of one chat come from several tasks, and from other nodes, so they may overtake each other
//! by a little. A topic knows how far it was told, and holds what comes too early until the gap is
//! filled, here or by [`super::mender`]: one read for all its listeners instead of one for each.
//!
//! What is the same for many is made once; those who are level are told it without a detour (`lane`), the
//! others find it in their mailboxes.

use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::domain::chat_events::{CallHint, ChatEvent, ChatEventKind};
use crate::domain::ids::{CallId, ChatId, UserId};
use crate::domain::users::UserKey;
use crate::realtime::dispatch::queue::{DeliveryQueue, SharedEvent};
use crate::realtime::dispatch::subscriber::Subscriber;
use crate::realtime::dispatch::topic::Topic;

pub(super) type Subscribers = HashMap<u64, Arc<DeliveryQueue>>;

#[derive(Debug, Default)]
pub struct Hub {
    pub(super) chat_topics: Mutex<HashMap<ChatId, Arc<Topic>>>,
    pub(super) user_subscribers: Mutex<HashMap<UserKey, Subscribers>>,
    /// Those who only hear that a chat is no more.
    pub(super) chat_deletion_subscribers: Mutex<HashMap<ChatId, Subscribers>>,
    /// Those who follow a call.
    pub(super) call_subscribers: Mutex<HashMap<CallId, Subscribers>>,
    next_id: AtomicU64,
    /// Chats with a gap.
    chats_with_gaps: Mutex<HashSet<ChatId>>,
    gap_detected: Notify,
}

impl Hub {
    /// Puts an event into the mailboxes of those whom it concerns. What concerns nobody costs a
    /// look-up.
    pub fn deliver(&self, event: ChatEvent) {
        self.deliver_to_users(&event);
        if matches!(event.kind, ChatEventKind::Deleted) {
            let heard = SharedEvent::new(event.clone(), 1);
            let ends = self.chat_deletion_subscribers.lock();
            ends.get(&event.chat)
                .into_iter()
                .flat_map(HashMap::values)
                .for_each(|mailbox| mailbox.push(std::slice::from_ref(&heard)));
        }
        match &event.kind {
            ChatEventKind::CallChanged(called) => return self.deliver_to_call(called, &event),
            ChatEventKind::NotificationsChanged(_) => return,
            _ => {}
        }
        let topic = self.chat_topics.lock().get(&event.chat).cloned();
        let Some(topic) = topic else { return };
        let chat = event.chat;
        let mut state = topic.0.lock();
        let gap = state.accept(event);
        topic.start_rendering(&mut state);
        drop(state);
        if gap {
            self.chats_with_gaps.lock().insert(chat);
            self.gap_detected.notify_one();
        }
    }

    /// A signal is heard by whom it is for alone.
    fn deliver_to_call(&self, called: &CallHint, event: &ChatEvent) {
        let calls = self.call_subscribers.lock();
        let Some(listeners) = calls.get(&called.call) else { return };
        let heard = SharedEvent::new(event.clone(), 1);
        let concerned =
            |mailbox: &&Arc<DeliveryQueue>| called.signal_recipient.as_ref().is_none_or(|to| *to == mailbox.owner);
        listeners.values().filter(concerned).for_each(|mailbox| mailbox.push(std::slice::from_ref(&heard)));
    }

    /// Tells those who follow a call that they missed something.
    pub fn mark_lagged_call(&self, call: CallId) {
        self.call_subscribers
            .lock()
            .get(&call)
            .into_iter()
            .flat_map(HashMap::values)
            .for_each(|mailbox| mailbox.mark_lagged());
    }

    /// Those who come into the chat or leave it, are notified or called, need not listen to it.
    fn deliver_to_users(&self, event: &ChatEvent) {
        let concerned: Vec<&UserId> = match &event.kind {
            ChatEventKind::NotificationsChanged(notified) => notified.user_ids.iter().collect(),
            ChatEventKind::CallChanged(called) => called.user_ids.iter().collect(),
            _ => event.membership_changes().map(|(user, _)| user).collect(),
        };
        if concerned.is_empty() {
            return;
        }
        let people = self.user_subscribers.lock();
        let mut heard = None;
        for user in concerned {
            let listeners = people.get(&(event.organization.clone(), user.clone()));
            for mailbox in listeners.into_iter().flat_map(HashMap::values) {
                let heard = heard.get_or_insert_with(|| SharedEvent::new(event.clone(), 1));
                mailbox.push(std::slice::from_ref(heard));
            }
        }
    }

    /// Whether anybody here listens to a chat.
    pub fn has_subscribers(&self, chat: ChatId) -> bool {
        self.chat_topics.lock().contains_key(&chat)
    }

    /// The chats that are listened to here, each with how far it was told.
    pub fn topic_versions(&self) -> Vec<(ChatId, Option<i64>)> {
        let topics: Vec<_> = self.chat_topics.lock().iter().map(|(chat, topic)| (*chat, topic.clone())).collect();
        topics.into_iter().map(|(chat, topic)| (chat, topic.0.lock().version)).collect()
    }

    /// Tells those who listen to a chat, or for its end, that they missed something.
    pub fn mark_lagged_chat(&self, chat: ChatId) {
        let topic = self.chat_topics.lock().get(&chat).cloned();
        if let Some(topic) = topic {
            topic.0.lock().subscribers.values().for_each(|mailbox| mailbox.mark_lagged());
        }
        self.chat_deletion_subscribers
            .lock()
            .get(&chat)
            .into_iter()
            .flat_map(HashMap::values)
            .for_each(|mailbox| mailbox.mark_lagged());
    }

    /// Tells those who listen to people that they missed something.
    pub fn mark_lagged_users(&self) {
        self.user_subscribers.lock().values().flat_map(HashMap::values).for_each(|mailbox| mailbox.mark_lagged());
    }

    /// Waits until there are chats with a gap.
    pub async fn wait_for_gap(&self) {
        self.gap_detected.notified().await;
    }

    /// The chats whose gaps are still open, each with how far it was told.
    pub fn take_gaps(&self) -> Vec<(ChatId, Option<i64>)> {
        let chats = std::mem::take(&mut *self.chats_with_gaps.lock());
        let topic = |chat| self.chat_topics.lock().get(&chat).cloned();
        let gap = |chat| {
            let topic = topic(chat)?;
            let state = topic.0.lock();
            (!state.reorder_buffer.is_empty()).then_some((chat, state.version))
        };
        chats.into_iter().filter_map(gap).collect()
    }

    /// Gives up waiting for what is missing: listeners that lack it read it.
    pub fn flush_reorder_buffer(&self, chat: ChatId) {
        if let Some(topic) = self.chat_topics.lock().get(&chat).cloned() {
            let mut state = topic.0.lock();
            state.flush();
            topic.start_rendering(&mut state);
        }
    }

    /// A place to listen from, of this person.
    pub fn subscriber(self: &Arc<Self>, user: &UserId) -> Subscriber {
        Subscriber {
            hub: self.clone(),
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            queue: Arc::new(DeliveryQueue::new(user)),
            chats: HashSet::new(),
            user_key: None,
            deletion_chat: None,
            call: None,
            render_group_id: None,
        }
    }
}

#[cfg(test)]
mod tests;
