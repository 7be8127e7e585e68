//! What is known of all people, and who is to be looked at when.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::presence::PresenceStatus;
use crate::domain::users::{User, UserKey};
use crate::realtime::dispatch::render_cache::CachedUpdate;
use crate::realtime::feeds::presence::PresenceSubscribers;
use crate::realtime::presence::tracker::{PresenceSnapshot, PresenceUpdates};
use crate::realtime::presence::user_state::UserPresence;

/// People remembered who are not there; beyond it, who would be forgotten first is.
pub const MAX_OFFLINE_ENTRIES: usize = 100_000;

#[derive(Debug, Default)]
pub struct PresenceRegistry {
    pub users: HashMap<UserKey, UserPresence>,
    /// Those who are not connected, by when they are to be looked at; each once.
    pub timers: BTreeSet<(DateTime<Utc>, UserKey)>,
    /// When people were last there, to be written.
    pub unflushed_last_seen: HashMap<UserKey, DateTime<Utc>>,
    pub subscribers: PresenceSubscribers,
}

impl PresenceRegistry {
    pub fn has_pending_work(&self) -> bool {
        !self.timers.is_empty() || !self.unflushed_last_seen.is_empty()
    }

    /// A person is to be looked at then, and at no other time.
    pub fn schedule(&mut self, person: &UserKey, next: Option<DateTime<Utc>>) {
        let Some(being) = self.users.get_mut(person) else { return };
        if let Some(before) = std::mem::replace(&mut being.scheduled_at, next) {
            self.timers.remove(&(before, person.clone()));
        }
        self.timers.extend(next.map(|at| (at, person.clone())));
    }

    pub fn run_due(&mut self, now: DateTime<Utc>, grace: TimeDelta) {
        while let Some((at, person)) = self.timers.pop_first() {
            if at > now {
                self.timers.insert((at, person));
                break;
            }
            let Some(being) = self.users.get_mut(&person) else { continue };
            being.scheduled_at = None;
            if being.is_present() {
                being.mark_offline();
                self.unflushed_last_seen.extend(being.unflushed_last_seen.take().map(|at| (person.clone(), at)));
                let next = being.next_deadline(grace);
                self.schedule(&person, next);
                self.notify(&person);
            } else {
                self.users.remove(&person);
            }
        }
        let over = self.timers.len().saturating_sub(MAX_OFFLINE_ENTRIES);
        let is_absent =
            |(_, person): &&(DateTime<Utc>, UserKey)| !self.users.get(person).is_some_and(UserPresence::is_present);
        let forgotten: Vec<_> = self.timers.iter().filter(is_absent).take(over).cloned().collect();
        for entry in forgotten {
            self.users.remove(&entry.1);
            self.timers.remove(&entry);
        }
    }

    /// Tells those who listen to a person, where what others see of them has changed.
    pub fn notify(&mut self, person: &UserKey) {
        let Some(being) = self.users.get_mut(person) else { return };
        let now = being.visible_state(person);
        if being.last_published.event != now {
            being.last_published = Arc::new(CachedUpdate::new(now));
            self.subscribers.deliver(person, &being.last_published);
        }
    }

    /// What there is to tell of a person whose row was read.
    pub fn updates_for(&self, user: &User) -> PresenceUpdates {
        let person = (user.organization.clone(), user.id.clone());
        let told = self.users.get(&person).map(|being| &being.last_published);
        // What is remembered of one who isn't seen to be there may not go as far back as the row.
        let is_known =
            |told: &&PresenceUpdates| told.event.status != PresenceStatus::Offline || told.event.last_seen_at.is_some();
        match told.filter(is_known) {
            Some(told) => told.clone(),
            None => Arc::new(CachedUpdate::new(PresenceSnapshot::offline(&person, user.last_seen_at))),
        }
    }
}
