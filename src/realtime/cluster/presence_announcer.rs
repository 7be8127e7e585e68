//! Announces the presence on this node to the others, as fast as they can be sent.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::realtime::cluster::message::ClusterMessage;
use crate::realtime::cluster::outbox::ClusterOutbox;
use crate::realtime::presence::tracker::PresenceTracker;
use crate::tasks::{Tick, TickLoop, Wait};

/// The time for which requests are collected: one announcement serves all nodes that join together.
const COLLECT_WINDOW: Duration = Duration::from_millis(100);

/// The task that announces presence.
///
/// It waits for room in the outbox, so that an announcement of any size drops no message.
#[derive(Debug, Clone)]
pub struct PresenceAnnouncer(Arc<Requests>);

#[derive(Debug, Default)]
struct Requests {
    /// The buckets to announce. The lock is held for single operations only.
    buckets: Mutex<BTreeSet<u8>>,
    /// Wakes the task when there is a request, and when the announcer is dropped.
    wake: Arc<Notify>,
}

/// Wakes the task, so that it ends.
impl Drop for Requests {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

impl PresenceAnnouncer {
    /// Starts the task, which ends when the last clone of the announcer is dropped.
    ///
    /// After a panic in the task, other nodes learn of changes only.
    pub fn start(presence: PresenceTracker, outbox: ClusterOutbox) -> Self {
        let announcer = Self(Arc::default());
        tokio::spawn(run(TickLoop::new(&announcer.0, announcer.0.wake.clone()), presence, outbox));
        announcer
    }

    /// Requests the announcement of all users of some buckets.
    pub fn request(&self, buckets: impl IntoIterator<Item = u8>) {
        self.0.buckets.lock().extend(buckets);
        self.0.wake.notify_one();
    }

    /// Requests the announcement of all users.
    pub fn request_all(&self) {
        self.request(u8::MIN..=u8::MAX);
    }
}

async fn run(ticks: TickLoop<Requests>, presence: PresenceTracker, outbox: ClusterOutbox) {
    while let Some(Tick { owner: requests, .. }) = ticks.next(Wait::UntilWoken).await {
        tokio::time::sleep(COLLECT_WINDOW).await;
        let buckets = std::mem::take(&mut *requests.buckets.lock());
        for announcement in presence.announcements(&buckets) {
            outbox.send_when_room(ClusterMessage::PresenceAnnounced(announcement)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::Clock;
    use crate::domain::ids::UserId;
    use crate::realtime::cluster::publisher::EventPublisher;
    use crate::realtime::dispatch::hub::Hub;
    use crate::realtime::presence::connected_users::BUCKET_COUNT;
    use crate::storage::engine::Engine;
    use crate::storage::pool::Database;
    use crate::storage::settings::DatabaseSettings;

    #[tokio::test]
    async fn announcement_waits_for_room_in_a_full_outbox() {
        let engine = Engine::parse("sqlite:///nowhere/parlor.db").unwrap();
        let database = Database::open(&DatabaseSettings::for_test(engine), "test").unwrap();
        let publisher = EventPublisher::new(Arc::new(Hub::default()), None);
        let presence =
            PresenceTracker::start("local".into(), database, publisher, Clock::adjustable(), Duration::from_secs(5));
        let user = |number: usize| format!("user{number}").parse::<UserId>().unwrap();
        let connections: Vec<_> =
            (0..2_000).map(|number| presence.connect(&"demo".parse().unwrap(), &user(number))).collect();
        let (outbox, mut receiver) = ClusterOutbox::with_capacity(1);
        let announcer = PresenceAnnouncer::start(presence, outbox);
        announcer.request_all();
        let (mut buckets, mut users) = (0, 0);
        while buckets < BUCKET_COUNT {
            let Some(ClusterMessage::PresenceAnnounced(announcement)) = receiver.recv().await else {
                panic!("not an announcement")
            };
            buckets += announcement.buckets.len();
            users += announcement.users.len();
        }
        assert_eq!(users, connections.len());
        assert!(!receiver.take_dropped(), "nothing was dropped");
    }
}
