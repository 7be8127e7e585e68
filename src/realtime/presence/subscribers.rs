//! The subscribers to users' presence, and the queue of each of them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::domain::users::UserKey;
use crate::realtime::presence::snapshot::CachedPresence;

/// The index from users to the queues of their subscribers.
#[derive(Debug, Default)]
pub struct PresenceSubscribers {
    by_user: HashMap<UserKey, HashMap<u64, Arc<PresenceQueue>>>,
    last_id: u64,
}

impl PresenceSubscribers {
    /// Adds a subscriber to the presence of these users, and returns its id.
    pub fn add(&mut self, user_keys: &[UserKey], queue: &Arc<PresenceQueue>) -> u64 {
        self.last_id += 1;
        for user_key in user_keys {
            self.by_user.entry(user_key.clone()).or_default().insert(self.last_id, queue.clone());
        }
        self.last_id
    }

    /// Removes a subscriber that was added with these users.
    pub fn remove(&mut self, user_keys: &[UserKey], id: u64) {
        for user_key in user_keys {
            if let Some(queues) = self.by_user.get_mut(user_key) {
                queues.remove(&id);
                if queues.is_empty() {
                    self.by_user.remove(user_key);
                }
            }
        }
    }

    /// Delivers the presence of a user to all subscribers.
    pub fn deliver(&self, user_key: &UserKey, presence: &CachedPresence) {
        for queue in self.by_user.get(user_key).into_iter().flat_map(HashMap::values) {
            queue.push(user_key, presence);
        }
    }

    /// Returns true if no user has a subscriber.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.by_user.is_empty()
    }
}

/// The queue of one subscriber.
///
/// It holds only the newest presence of each user, so its length is bounded by the number of users that the subscriber
/// follows, however slow the subscriber is.
///
/// The lock protects the waiting presences. It is the innermost lock: nothing else is locked while it is held.
#[derive(Debug, Default)]
pub struct PresenceQueue {
    pending: Mutex<PendingPresence>,
    not_empty: Notify,
}

#[derive(Debug, Default)]
struct PendingPresence {
    /// The users in `latest`, in the order of their first change since they were last removed.
    order: VecDeque<UserKey>,
    latest: HashMap<UserKey, CachedPresence>,
}

impl PresenceQueue {
    /// Adds the presence of a user, which replaces an older one that still waits.
    pub fn push(&self, user_key: &UserKey, presence: &CachedPresence) {
        let mut pending = self.pending.lock();
        if pending.latest.insert(user_key.clone(), presence.clone()).is_none() {
            pending.order.push_back(user_key.clone());
        }
        drop(pending);
        self.not_empty.notify_one();
    }

    /// Removes and returns the next presence, and waits for one if there is none.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel-safe: it removes a presence only when it returns it.
    pub async fn recv(&self) -> CachedPresence {
        loop {
            if let Some(presence) = self.try_recv() {
                return presence;
            }
            self.not_empty.notified().await;
        }
    }

    fn try_recv(&self) -> Option<CachedPresence> {
        let mut pending = self.pending.lock();
        let user_key = pending.order.pop_front()?;
        pending.latest.remove(&user_key)
    }
}
