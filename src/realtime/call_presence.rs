//! Who follows which call on this node, and how far they were told.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::domain::ids::{CallId, ParticipantId, UserId};
use crate::lock::lock;

#[derive(Debug, Default)]
pub struct Attendance {
    open: Mutex<HashMap<u64, Open>>,
    /// Participants whose last feed here ended, since they were last asked for.
    gone: Mutex<Vec<ParticipantId>>,
    next_id: AtomicU64,
    pub changed: Notify,
}

#[derive(Debug)]
struct Open {
    call: CallId,
    participant: Option<UserId>,
    position: Arc<AtomicI64>,
}

impl Open {
    fn id(&self) -> Option<ParticipantId> {
        Some(ParticipantId { call: self.call, user: self.participant.clone()? })
    }
}

/// A feed's place among those who follow a call, which it leaves when dropped.
#[derive(Debug)]
pub struct Attending {
    attendance: Arc<Attendance>,
    id: u64,
    position: Arc<AtomicI64>,
}

impl Attendance {
    pub fn enter(self: &Arc<Self>, call: CallId, participant: Option<UserId>) -> Attending {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let position = Arc::new(AtomicI64::new(i64::MAX));
        lock(&self.open).insert(id, Open { call, participant, position: position.clone() });
        self.changed.notify_one();
        Attending { attendance: self.clone(), id, position }
    }

    pub fn is_empty(&self) -> bool {
        lock(&self.open).is_empty() && lock(&self.gone).is_empty()
    }

    /// The participants who listen here.
    pub fn present(&self) -> HashSet<ParticipantId> {
        lock(&self.open).values().filter_map(Open::id).collect()
    }

    /// The calls that are followed here, each with the least that one of its feeds knows.
    pub fn followed(&self) -> HashMap<CallId, i64> {
        let mut followed = HashMap::new();
        for open in lock(&self.open).values() {
            let position = open.position.load(Ordering::Relaxed);
            followed.entry(open.call).and_modify(|least: &mut i64| *least = position.min(*least)).or_insert(position);
        }
        followed
    }

    /// The participants who went since this was last asked, and are not back.
    pub fn take_gone(&self) -> Vec<ParticipantId> {
        let gone = std::mem::take(&mut *lock(&self.gone));
        let present = self.present();
        gone.into_iter().filter(|id| !present.contains(id)).collect()
    }

    /// Those could not be noted: they are asked for again.
    pub fn give_back(&self, gone: Vec<ParticipantId>) {
        lock(&self.gone).extend(gone);
    }
}

impl Attending {
    /// The feed was told all up to this version.
    pub fn is_at(&self, version: i64) {
        self.position.store(version, Ordering::Relaxed);
    }
}

impl Drop for Attending {
    fn drop(&mut self) {
        let open = lock(&self.attendance.open).remove(&self.id);
        if let Some(id) = open.and_then(|open| open.id()) {
            lock(&self.attendance.gone).push(id);
            self.attendance.changed.notify_one();
        }
    }
}
