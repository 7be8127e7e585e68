//! The call feeds that are open on this node, and how much of a call each has received.
//!
//! The call scheduler reads them: a participant with an open feed is present in the call, and a call that a feed
//! follows is compared with the database.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::domain::ids::{CallId, ParticipantId, UserId};

/// The call feeds that are open on this node.
///
/// Each lock protects the collection in it, for one operation at a time. Where both are held, the order is
/// `open_feeds`, then `departed`. None is held at an await point.
#[derive(Debug, Default)]
pub struct CallPresence {
    open_feeds: Mutex<HashMap<u64, OpenFeed>>,
    /// The participants whose feeds have been closed since [`Self::take_departed`] was last called.
    departed: Mutex<Vec<ParticipantId>>,
    next_id: AtomicU64,
    /// Notified when a feed is opened or closed, and by whoever changes a call.
    pub changed: Arc<Notify>,
}

#[derive(Debug)]
struct OpenFeed {
    call: CallId,
    /// The participant on whose behalf the feed is open; `None` for an observer.
    participant: Option<UserId>,
    /// The version of the call up to which the feed has received events. Accesses are relaxed, because an older value
    /// only costs one more read of the database.
    version: Arc<AtomicI64>,
}

impl OpenFeed {
    fn participant_id(&self) -> Option<ParticipantId> {
        Some(ParticipantId { call: self.call, user: self.participant.clone()? })
    }
}

/// The registration of an open call feed, which ends when the guard is dropped.
#[derive(Debug)]
pub struct CallPresenceGuard {
    call_presence: Arc<CallPresence>,
    id: u64,
    version: Arc<AtomicI64>,
}

impl CallPresence {
    /// Registers a feed of a call; `participant` is `None` for the feed of an observer.
    pub fn register(self: &Arc<Self>, call: CallId, participant: Option<UserId>) -> CallPresenceGuard {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        // A feed that has not read the call yet is not behind.
        let version = Arc::new(AtomicI64::new(i64::MAX));
        self.open_feeds.lock().insert(id, OpenFeed { call, participant, version: version.clone() });
        self.changed.notify_one();
        CallPresenceGuard { call_presence: self.clone(), id, version }
    }

    /// Returns true if no feed is open and no departure waits to be handled.
    pub fn is_empty(&self) -> bool {
        self.open_feeds.lock().is_empty() && self.departed.lock().is_empty()
    }

    /// Returns the participants who have an open feed here.
    pub fn present_participants(&self) -> HashSet<ParticipantId> {
        self.open_feeds.lock().values().filter_map(OpenFeed::participant_id).collect()
    }

    /// Returns the calls that have an open feed here, each with the lowest version of its feeds.
    pub fn followed_calls(&self) -> HashMap<CallId, i64> {
        let mut followed = HashMap::new();
        for feed in self.open_feeds.lock().values() {
            let version = feed.version.load(Ordering::Relaxed);
            followed.entry(feed.call).and_modify(|lowest: &mut i64| *lowest = version.min(*lowest)).or_insert(version);
        }
        followed
    }

    /// Removes and returns the participants whose last feed here was closed since the last call.
    pub fn take_departed(&self) -> Vec<ParticipantId> {
        let departed = std::mem::take(&mut *self.departed.lock());
        let present = self.present_participants();
        departed.into_iter().filter(|id| !present.contains(id)).collect()
    }

    /// Adds participants again whose departure could not be written.
    pub fn requeue_departed(&self, departed: Vec<ParticipantId>) {
        self.departed.lock().extend(departed);
    }
}

impl CallPresenceGuard {
    /// Records the version up to which the feed has received events.
    pub fn set_position(&self, version: i64) {
        self.version.store(version, Ordering::Relaxed);
    }
}

impl Drop for CallPresenceGuard {
    fn drop(&mut self) {
        let closed = self.call_presence.open_feeds.lock().remove(&self.id);
        if let Some(participant) = closed.and_then(|feed| feed.participant_id()) {
            self.call_presence.departed.lock().push(participant);
            self.call_presence.changed.notify_one();
        }
    }
}
