//! The presence states of all known users, their deadlines and their subscribers.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::presence::PresenceStatus;
use crate::domain::users::{User, UserKey};
use crate::realtime::dispatch::render_cache::CachedUpdate;
use crate::realtime::presence::connected_users::RemoteUsers;
use crate::realtime::presence::snapshot::{CachedPresence, PresenceSnapshot};
use crate::realtime::presence::subscribers::PresenceSubscribers;
use crate::realtime::presence::user_state::UserPresence;

/// The maximum number of users who are remembered without a connection.
///
/// Users with the earliest deadline are forgotten first.
pub const MAX_OFFLINE_ENTRIES: usize = 100_000;

/// The presence states of all known users, their deadlines and their subscribers.
#[derive(Debug, Default)]
pub struct PresenceRegistry {
    /// The users who are connected, or who are remembered.
    pub users: HashMap<UserKey, UserPresence>,
    /// The deadlines of the users who are not connected. Each has one entry, which equals `scheduled_at` of its user.
    pub timers: BTreeSet<(DateTime<Utc>, UserKey)>,
    /// The values of `last_seen_at` that have to be written to the database.
    pub unflushed_last_seen: HashMap<UserKey, DateTime<Utc>>,
    /// The subscribers to presence.
    pub subscribers: PresenceSubscribers,
    /// The users about whom other nodes have sent updates, by the name of the node.
    pub remote_users: HashMap<String, RemoteUsers>,
    /// The number of the last change that this node sent to the others.
    pub revision: u64,
}

impl PresenceRegistry {
    /// Returns true while there is a deadline or a value to write.
    pub fn has_pending_work(&self) -> bool {
        !self.timers.is_empty() || !self.unflushed_last_seen.is_empty()
    }

    /// Replaces the deadline of a user.
    pub fn schedule(&mut self, user_key: &UserKey, deadline: Option<DateTime<Utc>>) {
        let Some(state) = self.users.get_mut(user_key) else { return };
        if let Some(previous) = std::mem::replace(&mut state.scheduled_at, deadline) {
            self.timers.remove(&(previous, user_key.clone()));
        }
        self.timers.extend(deadline.map(|at| (at, user_key.clone())));
    }

    /// Handles all deadlines that have passed.
    ///
    /// Users whose grace period is over become offline. Users whose retention is over are forgotten, and so are users
    /// beyond the limit.
    pub fn run_due(&mut self, now: DateTime<Utc>, grace_period: TimeDelta) {
        while let Some((deadline, user_key)) = self.timers.pop_first() {
            if deadline > now {
                self.timers.insert((deadline, user_key));
                break;
            }
            let Some(state) = self.users.get_mut(&user_key) else { continue };
            state.scheduled_at = None;
            if state.is_present() {
                state.mark_offline();
                self.unflushed_last_seen.extend(state.unflushed_last_seen.take().map(|at| (user_key.clone(), at)));
                let next_deadline = state.next_deadline(grace_period);
                self.schedule(&user_key, next_deadline);
                self.notify(&user_key);
            } else {
                self.forget(&user_key);
            }
        }
        self.evict();
    }

    /// Forgets offline users beyond [`MAX_OFFLINE_ENTRIES`]; users within the grace period are kept.
    fn evict(&mut self) {
        let excess = self.timers.len().saturating_sub(MAX_OFFLINE_ENTRIES);
        let is_offline =
            |(_, user_key): &&(DateTime<Utc>, UserKey)| !self.users.get(user_key).is_some_and(UserPresence::is_present);
        let evicted: Vec<_> = self.timers.iter().filter(is_offline).take(excess).cloned().collect();
        for entry in evicted {
            self.forget(&entry.1);
            self.timers.remove(&entry);
        }
    }

    fn forget(&mut self, user_key: &UserKey) {
        self.users.remove(user_key);
        self.remote_users.values_mut().for_each(|users| users.remove(user_key));
    }

    /// Delivers the presence of a user to the subscribers, if its visible part has changed.
    pub fn notify(&mut self, user_key: &UserKey) {
        let Some(state) = self.users.get_mut(user_key) else { return };
        let snapshot = state.visible_state(user_key);
        if state.last_published.event != snapshot {
            state.last_published = Arc::new(CachedUpdate::new(snapshot));
            self.subscribers.deliver(user_key, &state.last_published);
        }
    }

    /// Returns the presence of a user whose row was read.
    pub fn presence_of(&self, user: &User) -> CachedPresence {
        let user_key = (user.organization.clone(), user.id.clone());
        let published = self.users.get(&user_key).map(|state| &state.last_published);
        // The row may have a `last_seen_at` that is not remembered here.
        let is_complete = |published: &&CachedPresence| {
            published.event.status != PresenceStatus::Offline || published.event.last_seen_at.is_some()
        };
        match published.filter(is_complete) {
            Some(published) => published.clone(),
            None => Arc::new(CachedUpdate::new(PresenceSnapshot::offline(&user_key, user.last_seen_at))),
        }
    }
}
