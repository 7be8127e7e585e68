//! The feed of users' presence.

use std::sync::Arc;

use crate::domain::users::{User, UserKey};
use crate::error::Result;
use crate::realtime::presence::snapshot::CachedPresence;
use crate::realtime::presence::subscribers::PresenceQueue;
use crate::realtime::presence::tracker::PresenceTracker;

/// The presence of some users: the present state of each, then each change.
///
/// A slow subscriber receives only the newest state of each user. The feed ends only by being dropped.
pub struct PresenceFeed {
    tracker: PresenceTracker,
    user_keys: Vec<UserKey>,
    subscriber_id: u64,
    queue: Arc<PresenceQueue>,
}

impl PresenceFeed {
    /// Subscribes to the presence of users whose rows were read.
    pub fn new(tracker: PresenceTracker, users: &[User]) -> Self {
        let user_keys = users.iter().map(|user| (user.organization.clone(), user.id.clone())).collect();
        let (subscriber_id, queue) = tracker.add_subscriber(users);
        Self { tracker, user_keys, subscriber_id, queue }
    }

    /// Returns the next presence.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel-safe: it removes a presence from the queue only when it returns it.
    pub async fn recv(&mut self) -> Option<Result<CachedPresence>> {
        Some(Ok(self.queue.recv().await))
    }
}

impl Drop for PresenceFeed {
    fn drop(&mut self) {
        self.tracker.remove_subscriber(&self.user_keys, self.subscriber_id);
    }
}
