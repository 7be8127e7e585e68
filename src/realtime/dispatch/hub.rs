//! The index of this node's subscribers: from chats, users and calls to the queues of those who follow them.
//!
//! Events of one chat come from several tasks and from other nodes, so they may overtake each other. A topic knows the
//! version that it has delivered and holds back events that come too early until the gap is filled, by the missing
//! event or by [gap repair](crate::realtime::cluster::gap_repair): one read for all subscribers instead of one for
//! each.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::domain::chat_events::{CallHint, ChatEvent, ChatEventKind};
use crate::domain::ids::{CallId, ChatId, UserId};
use crate::domain::users::UserKey;
use crate::realtime::cluster::channels::Channel;
use crate::realtime::cluster::interest::ChannelInterest;
use crate::realtime::dispatch::ports::RenderGroup;
use crate::realtime::dispatch::queue::{DeliveryQueue, Subscribers};
use crate::realtime::dispatch::shared_event::SharedEvent;
use crate::realtime::dispatch::topic::Topic;

/// The subscribers of this node, by what they follow.
///
/// Each lock protects one index. Lock order: `chat_topics`, then the lock of a topic, then the lock of a queue; or one
/// of the other indexes, then the lock of a queue. No two indexes are locked together.
#[derive(Debug)]
pub struct Hub {
    /// The chats with subscribers. A topic joins and leaves the index under this lock.
    chat_topics: Mutex<HashMap<ChatId, Arc<Topic>>>,
    user_subscribers: Mutex<HashMap<UserKey, Subscribers>>,
    /// Subscribers that only follow whether a chat is deleted.
    chat_deletion_subscribers: Mutex<HashMap<ChatId, Subscribers>>,
    call_subscribers: Mutex<HashMap<CallId, Subscribers>>,
    next_subscriber_id: AtomicU64,
    /// Chats in which a gap opened since [`Hub::take_gaps`] was last called.
    chats_with_gaps: Mutex<HashSet<ChatId>>,
    gap_detected: Arc<Notify>,
    /// The time up to which the events of all nodes have arrived, in microseconds since 1970.
    ///
    /// It is [`ALL_COMPLETE`] on a server of one node. It guards no other memory, so its accesses are relaxed.
    complete_until_micros: AtomicI64,
    /// The channels of other nodes' messages that the subscribers need; `None` on a server of one node.
    interest: Option<Arc<ChannelInterest>>,
}

/// The value of `complete_until_micros` on a server of one node, which misses no event.
const ALL_COMPLETE: i64 = i64::MAX;

/// A hub of a server of one node.
impl Default for Hub {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Hub {
    /// Creates a hub whose subscribers receive the events of other nodes by the channels of `interest`.
    pub fn new(interest: Option<Arc<ChannelInterest>>) -> Self {
        Self {
            chat_topics: Mutex::default(),
            user_subscribers: Mutex::default(),
            chat_deletion_subscribers: Mutex::default(),
            call_subscribers: Mutex::default(),
            next_subscriber_id: AtomicU64::default(),
            chats_with_gaps: Mutex::default(),
            gap_detected: Arc::default(),
            complete_until_micros: AtomicI64::new(ALL_COMPLETE),
            interest,
        }
    }

    /// Delivers an event to all its subscribers on this node. Without subscribers it costs a look-up.
    ///
    /// The time of the event becomes that of its subscribers' cursors, so it is limited to the time up to which no
    /// event is missing.
    pub fn deliver(&self, mut event: ChatEvent) {
        self.limit_time(&mut event);
        self.push_to_users(&event);
        self.push_to_chat(event);
    }

    /// Delivers an event of another node to the subscribers of its chat and its call.
    ///
    /// Returns whether there are any. The users whom it names get a part of it, by [`Self::deliver_to_users`].
    pub fn deliver_to_chat(&self, mut event: ChatEvent) -> bool {
        self.limit_time(&mut event);
        self.push_to_chat(event)
    }

    /// Delivers an event of another node to the users whom it names.
    ///
    /// Returns whether any of them subscribes.
    pub fn deliver_to_users(&self, mut event: ChatEvent) -> bool {
        self.limit_time(&mut event);
        self.push_to_users(&event)
    }

    /// Limits the time of an event, and so of cursors, to the time up to which no event is missing.
    fn limit_time(&self, event: &mut ChatEvent) {
        event.published_at = event.published_at.min(self.complete_until());
    }

    fn push_to_chat(&self, event: ChatEvent) -> bool {
        let chat = event.chat;
        let mut is_wanted = false;
        match &event.kind {
            ChatEventKind::CallChanged(hint) => return self.deliver_to_call(hint, &event),
            ChatEventKind::NotificationsChanged(_) => return false,
            ChatEventKind::Deleted { .. } => is_wanted = self.deliver_deletion(&event),
            ChatEventKind::LogChanges(_) | ChatEventKind::MembersUpdated(_) => {}
        }
        let Some(topic) = self.topic(chat) else { return is_wanted };
        if topic.accept(event) {
            self.chats_with_gaps.lock().insert(chat);
            self.gap_detected.notify_one();
        }
        true
    }

    /// Returns the time up to which the events of all nodes have arrived.
    pub fn complete_until(&self) -> DateTime<Utc> {
        let micros = self.complete_until_micros.load(Ordering::Relaxed);
        DateTime::from_timestamp_micros(micros).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// Records that the events of all nodes up to a time have arrived.
    pub fn set_complete_until(&self, time: DateTime<Utc>) {
        self.complete_until_micros.store(time.timestamp_micros(), Ordering::Relaxed);
    }

    /// Delivers a deletion to those who only follow whether the chat is deleted.
    ///
    /// Returns whether there are any.
    fn deliver_deletion(&self, event: &ChatEvent) -> bool {
        let shared = SharedEvent::new(event.clone(), 1);
        let subscribers = self.chat_deletion_subscribers.lock();
        queues_of(&subscribers, &event.chat).for_each(|queue| queue.push(std::slice::from_ref(&shared)));
        subscribers.contains_key(&event.chat)
    }

    /// Delivers a change of a call to its subscribers, or a signal to its recipient.
    ///
    /// Returns whether the call has subscribers.
    fn deliver_to_call(&self, hint: &CallHint, event: &ChatEvent) -> bool {
        let subscribers = self.call_subscribers.lock();
        let Some(queues) = subscribers.get(&hint.call) else { return false };
        let shared = SharedEvent::new(event.clone(), 1);
        let is_recipient =
            |queue: &&Arc<DeliveryQueue>| hint.signal_recipient.as_ref().is_none_or(|user| *user == queue.owner);
        queues.values().filter(is_recipient).for_each(|queue| queue.push(std::slice::from_ref(&shared)));
        true
    }

    /// Delivers an event to the users whom it names: new and former members, and users notified or called.
    ///
    /// Returns whether any of them subscribes.
    fn push_to_users(&self, event: &ChatEvent) -> bool {
        let users: Vec<&UserId> = match &event.kind {
            ChatEventKind::NotificationsChanged(batch) => batch.user_ids.iter().collect(),
            ChatEventKind::CallChanged(hint) => hint.user_ids.iter().collect(),
            _ => event.membership_changes().map(|(user, _)| user).collect(),
        };
        if users.is_empty() {
            return false;
        }
        let subscribers = self.user_subscribers.lock();
        let mut shared = None;
        for user in users {
            for queue in queues_of(&subscribers, &(event.organization.clone(), user.clone())) {
                let shared = shared.get_or_insert_with(|| SharedEvent::new(event.clone(), 1));
                queue.push(std::slice::from_ref(shared));
            }
        }
        shared.is_some()
    }

    /// Returns whether a chat has subscribers on this node.
    pub fn has_subscribers(&self, chat: ChatId) -> bool {
        self.chat_topics.lock().contains_key(&chat)
    }

    /// Returns the chats with subscribers, each with the last version that was delivered without a gap.
    pub fn topic_versions(&self) -> Vec<(ChatId, Option<i64>)> {
        let topics: Vec<_> = self.chat_topics.lock().iter().map(|(chat, topic)| (*chat, topic.clone())).collect();
        topics.into_iter().map(|(chat, topic)| (chat, topic.lock().version())).collect()
    }

    /// Makes the subscribers of a chat and of its deletion read from the database.
    pub fn mark_lagged_chat(&self, chat: ChatId) {
        if let Some(topic) = self.topic(chat) {
            topic.lock().mark_lagged();
        }
        queues_of(&self.chat_deletion_subscribers.lock(), &chat).for_each(|queue| queue.mark_lagged());
    }

    /// Makes the subscribers of all users read from the database.
    pub fn mark_lagged_users(&self) {
        self.user_subscribers.lock().values().flat_map(HashMap::values).for_each(|queue| queue.mark_lagged());
    }

    /// Makes the subscribers of a call read from the database.
    pub fn mark_lagged_call(&self, call: CallId) {
        queues_of(&self.call_subscribers.lock(), &call).for_each(|queue| queue.mark_lagged());
    }

    /// Returns the notification that a gap opened in some chat, or that the hub is dropped.
    pub fn gap_detected(&self) -> Arc<Notify> {
        self.gap_detected.clone()
    }

    /// Takes the chats whose gaps are still open, each with the last version before the gap.
    pub fn take_gaps(&self) -> Vec<(ChatId, Option<i64>)> {
        let chats = std::mem::take(&mut *self.chats_with_gaps.lock());
        let open_gap = |chat| {
            let topic = self.topic(chat)?;
            let state = topic.lock();
            state.has_gap().then_some((chat, state.version()))
        };
        chats.into_iter().filter_map(open_gap).collect()
    }

    /// Delivers the events of a chat that were held back; subscribers that lack earlier ones read them.
    pub fn flush_reorder_buffer(&self, chat: ChatId) {
        if let Some(topic) = self.topic(chat) {
            topic.flush();
        }
    }

    fn topic(&self, chat: ChatId) -> Option<Arc<Topic>> {
        self.chat_topics.lock().get(&chat).cloned()
    }
}

/// Wakes the loop that waits for gaps, so that it ends.
impl Drop for Hub {
    fn drop(&mut self) {
        self.gap_detected.notify_one();
    }
}

/// The operations of [`Subscriber`](super::subscriber::Subscriber).
impl Hub {
    pub(super) fn next_subscriber_id(&self) -> u64 {
        // Only uniqueness matters.
        self.next_subscriber_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Subscribes to a chat. Returns the channel that has to become active before the subscriber reads the database.
    pub(super) fn subscribe_chat(
        &self,
        chat: ChatId,
        subscriber_id: u64,
        queue: &Arc<DeliveryQueue>,
    ) -> Option<Channel> {
        let mut topics = self.chat_topics.lock();
        topics.entry(chat).or_default().lock().join(subscriber_id, queue.clone());
        drop(topics);
        self.follow_chat(chat)
    }

    pub(super) fn unsubscribe_chat(&self, chat: ChatId, subscriber_id: u64, render_group_id: Option<u64>) {
        let mut topics = self.chat_topics.lock();
        let is_empty = topics.get(&chat).is_some_and(|topic| topic.lock().leave(subscriber_id, render_group_id));
        if is_empty {
            topics.remove(&chat);
        }
        drop(topics);
        self.unfollow_chat(chat);
    }

    /// Waits until other nodes' events arrive by these channels.
    pub(super) async fn wait_until_active(&self, channels: &[Channel]) {
        if let Some(interest) = &self.interest {
            interest.wait_until_active(channels).await;
        }
    }

    fn follow_chat(&self, chat: ChatId) -> Option<Channel> {
        self.interest.as_ref().map(|interest| interest.follow_chat(chat))
    }

    fn unfollow_chat(&self, chat: ChatId) {
        if let Some(interest) = &self.interest {
            interest.unfollow_chat(chat);
        }
    }

    pub(super) fn join_render_group(&self, chats: &HashSet<ChatId>, group: &Arc<dyn RenderGroup>) {
        let topics = self.chat_topics.lock();
        chats.iter().filter_map(|chat| topics.get(chat)).for_each(|topic| topic.lock().join_render_group(group));
    }

    pub(super) fn mark_caught_up(&self, chat: ChatId, version: i64) {
        if let Some(topic) = self.topic(chat) {
            topic.lock().mark_caught_up(version);
        }
    }

    /// Subscribes to a user. Returns the channel that has to become active before the subscriber reads the database.
    pub(super) fn subscribe_user(
        &self,
        user: UserKey,
        subscriber_id: u64,
        queue: &Arc<DeliveryQueue>,
    ) -> Option<Channel> {
        let channel = self.interest.as_ref().map(|interest| interest.follow_user(&user.0, &user.1));
        insert(&mut self.user_subscribers.lock(), user, subscriber_id, queue);
        channel
    }

    pub(super) fn unsubscribe_user(&self, user: &UserKey, subscriber_id: u64) {
        remove(&mut self.user_subscribers.lock(), user, subscriber_id);
        if let Some(interest) = &self.interest {
            interest.unfollow_user(&user.0, &user.1);
        }
    }

    /// Subscribes to the deletion of a chat, by the channel that is returned.
    pub(super) fn subscribe_chat_deletion(
        &self,
        chat: ChatId,
        subscriber_id: u64,
        queue: &Arc<DeliveryQueue>,
    ) -> Option<Channel> {
        insert(&mut self.chat_deletion_subscribers.lock(), chat, subscriber_id, queue);
        self.follow_chat(chat)
    }

    pub(super) fn unsubscribe_chat_deletion(&self, chat: ChatId, subscriber_id: u64) {
        remove(&mut self.chat_deletion_subscribers.lock(), &chat, subscriber_id);
        self.unfollow_chat(chat);
    }

    /// Subscribes to a call, by the channel that is returned: that of its chat.
    pub(super) fn subscribe_call(
        &self,
        call: CallId,
        subscriber_id: u64,
        queue: &Arc<DeliveryQueue>,
    ) -> Option<Channel> {
        insert(&mut self.call_subscribers.lock(), call, subscriber_id, queue);
        self.follow_chat(call.chat)
    }

    pub(super) fn unsubscribe_call(&self, call: CallId, subscriber_id: u64) {
        remove(&mut self.call_subscribers.lock(), &call, subscriber_id);
        self.unfollow_chat(call.chat);
    }

    /// Returns whether events are still being rendered or delivered.
    #[cfg(test)]
    pub(super) fn is_busy(&self) -> bool {
        let topics: Vec<_> = self.chat_topics.lock().values().cloned().collect();
        topics.into_iter().any(|topic| topic.lock().is_busy())
    }
}

fn queues_of<'a, K: Eq + Hash>(
    subscribers: &'a HashMap<K, Subscribers>,
    key: &K,
) -> impl Iterator<Item = &'a Arc<DeliveryQueue>> {
    subscribers.get(key).into_iter().flat_map(HashMap::values)
}

fn insert<K: Eq + Hash>(
    subscribers: &mut HashMap<K, Subscribers>,
    key: K,
    subscriber_id: u64,
    queue: &Arc<DeliveryQueue>,
) {
    subscribers.entry(key).or_default().insert(subscriber_id, queue.clone());
}

fn remove<K: Eq + Hash>(subscribers: &mut HashMap<K, Subscribers>, key: &K, subscriber_id: u64) {
    if let Some(queues) = subscribers.get_mut(key) {
        queues.remove(&subscriber_id);
        if queues.is_empty() {
            subscribers.remove(key);
        }
    }
}
