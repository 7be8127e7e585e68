//! Following some people: for each who is slow to be told, only the newest.

use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;

use crate::domain::users::{User, UserKey};
use crate::error::Result;
use crate::realtime::presence::tracker::{PresenceTracker, PresenceUpdates};

/// Who follows whom.
#[derive(Debug, Default)]
pub struct PresenceSubscribers {
    by_user: HashMap<UserKey, HashMap<u64, Arc<PresenceQueue>>>,
    next_id: u64,
}

impl PresenceSubscribers {
    pub fn deliver(&self, person: &UserKey, news: &PresenceUpdates) {
        for mailbox in self.by_user.get(person).into_iter().flat_map(HashMap::values) {
            mailbox.push(person, news);
        }
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.by_user.is_empty()
    }

    fn add(&mut self, people: &[UserKey], mailbox: &Arc<PresenceQueue>) -> u64 {
        self.next_id += 1;
        for person in people {
            self.by_user.entry(person.clone()).or_default().insert(self.next_id, mailbox.clone());
        }
        self.next_id
    }

    fn remove(&mut self, people: &[UserKey], id: u64) {
        for person in people {
            if let Some(listeners) = self.by_user.get_mut(person) {
                listeners.remove(&id);
                if listeners.is_empty() {
                    self.by_user.remove(person);
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct PresenceQueue {
    pending: Mutex<PendingUpdates>,
    not_empty: Notify,
}

#[derive(Debug, Default)]
struct PendingUpdates {
    /// Each person once, who changed first.
    order: VecDeque<UserKey>,
    latest: HashMap<UserKey, PresenceUpdates>,
}

impl PresenceQueue {
    fn push(&self, person: &UserKey, news: &PresenceUpdates) {
        let mut waiting = self.pending.lock();
        if waiting.latest.insert(person.clone(), news.clone()).is_none() {
            waiting.order.push_back(person.clone());
        }
        drop(waiting);
        self.not_empty.notify_one();
    }

    fn pop(&self) -> Option<PresenceUpdates> {
        let mut waiting = self.pending.lock();
        let person = waiting.order.pop_front()?;
        waiting.latest.remove(&person)
    }
}

/// The presence of some people now, then each change of it. It ends only by being dropped.
pub struct PresenceFeed {
    tracker: PresenceTracker,
    users: Vec<UserKey>,
    subscriber_id: u64,
    queue: Arc<PresenceQueue>,
}

impl PresenceFeed {
    pub(crate) fn open(presence: PresenceTracker, users: &[User]) -> Self {
        let people: Vec<UserKey> = users.iter().map(|user| (user.organization.clone(), user.id.clone())).collect();
        let mailbox = Arc::<PresenceQueue>::default();
        let mut state = presence.0.lock();
        let id = state.subscribers.add(&people, &mailbox);
        for (person, user) in people.iter().zip(users) {
            mailbox.push(person, &state.updates_for(user));
        }
        drop(state);
        Self { tracker: presence, users: people, subscriber_id: id, queue: mailbox }
    }

    /// The next news. Safe to drop and call again: nothing is taken before it is returned.
    pub async fn recv(&mut self) -> Option<Result<PresenceUpdates>> {
        loop {
            if let Some(news) = self.queue.pop() {
                return Some(Ok(news));
            }
            self.queue.not_empty.notified().await;
        }
    }
}

impl Drop for PresenceFeed {
    fn drop(&mut self) {
        self.tracker.0.lock().subscribers.remove(&self.users, self.subscriber_id);
    }
}
