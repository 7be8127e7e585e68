//! Who follows which call on this node, and how far they were told.

use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::domain::ids::{CallId, ParticipantId, UserId};

#[derive(Debug, Default)]
pub struct CallPresence {
    open_feeds: Mutex<HashMap<u64, OpenFeed>>,
    /// Participants whose last feed here ended, since they were last asked for.
    departed: Mutex<Vec<ParticipantId>>,
    next_id: AtomicU64,
    pub changed: Notify,
}

#[derive(Debug)]
struct OpenFeed {
    call: CallId,
    participant: Option<UserId>,
    position: Arc<AtomicI64>,
}

impl OpenFeed {
    fn participant_id(&self) -> Option<ParticipantId> {
        Some(ParticipantId { call: self.call, user: self.participant.clone()? })
    }
}

/// A feed's place among those who follow a call, which it leaves when dropped.
#[derive(Debug)]
pub struct CallPresenceGuard {
    call_presence: Arc<CallPresence>,
    id: u64,
    position: Arc<AtomicI64>,
}

impl CallPresence {
    pub fn register(self: &Arc<Self>, call: CallId, participant: Option<UserId>) -> CallPresenceGuard {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let position = Arc::new(AtomicI64::new(i64::MAX));
        self.open_feeds.lock().insert(id, OpenFeed { call, participant, position: position.clone() });
        self.changed.notify_one();
        CallPresenceGuard { call_presence: self.clone(), id, position }
    }

    pub fn is_empty(&self) -> bool {
        self.open_feeds.lock().is_empty() && self.departed.lock().is_empty()
    }

    /// The participants who listen here.
    pub fn present_participants(&self) -> HashSet<ParticipantId> {
        self.open_feeds.lock().values().filter_map(OpenFeed::participant_id).collect()
    }

    /// The calls that are followed here, each with the least that one of its feeds knows.
    pub fn followed_calls(&self) -> HashMap<CallId, i64> {
        let mut followed = HashMap::new();
        for open in self.open_feeds.lock().values() {
            let position = open.position.load(Ordering::Relaxed);
            followed.entry(open.call).and_modify(|least: &mut i64| *least = position.min(*least)).or_insert(position);
        }
        followed
    }

    /// The participants who went since this was last asked, and are not back.
    pub fn take_departed(&self) -> Vec<ParticipantId> {
        let gone = std::mem::take(&mut *self.departed.lock());
        let present = self.present_participants();
        gone.into_iter().filter(|id| !present.contains(id)).collect()
    }

    /// Those could not be noted: they are asked for again.
    pub fn requeue_departed(&self, gone: Vec<ParticipantId>) {
        self.departed.lock().extend(gone);
    }
}

impl CallPresenceGuard {
    /// The feed was told all up to this version.
    pub fn set_position(&self, version: i64) {
        self.position.store(version, Ordering::Relaxed);
    }
}

impl Drop for CallPresenceGuard {
    fn drop(&mut self) {
        let open = self.call_presence.open_feeds.lock().remove(&self.id);
        if let Some(id) = open.and_then(|open| open.participant_id()) {
            self.call_presence.departed.lock().push(id);
            self.call_presence.changed.notify_one();
        }
    }
}
