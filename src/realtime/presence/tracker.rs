//! Who is there: known to the nodes alone, but for when somebody was last there.
//!
//! ```text
//!             arrive                    the last connection goes
//!   absent ───────────► present ─────────────────────────────────► leaving
//!      ▲                   ▲                 arrive                   │
//!      │                   └──────────────────────────────────────────┤
//!      └──────────────────────────────────────── the grace is over ───┘
//! ```
//!
//! One who is leaving counts as present, so that a reload of a page is seen by nobody.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::domain::clock::Clock;
use crate::domain::ids::{ChatId, OrganizationId, UserId};
use crate::domain::presence::PresenceStatus;
use crate::domain::users::{User, UserKey};
use crate::error::Result;
use crate::realtime::cluster::publisher::{ClusterMessage, EventPublisher};
use crate::realtime::dispatch::render_cache::CachedUpdate;
use crate::realtime::feeds::presence::PresenceFeed;
use crate::realtime::presence::registry::PresenceRegistry;
use crate::realtime::presence::user_state::{ManualStatus, UserPresence};
use crate::storage::pool::Database;
use crate::storage::users;

/// How often it is looked at whose time has come, while there is anybody whose will.
const TICK_INTERVAL: Duration = Duration::from_millis(200);

pub(crate) type PresenceUpdates = Arc<CachedUpdate<PresenceSnapshot>>;

/// A person's presence as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceSnapshot {
    pub organization: OrganizationId,
    pub user: UserId,
    pub status: PresenceStatus,
    /// None while they are there, or where they never were.
    pub last_seen_at: Option<DateTime<Utc>>,
    /// For the members of that chat alone.
    pub current_chat: Option<ChatId>,
}

impl PresenceSnapshot {
    pub(crate) fn offline((organization, user): &UserKey, last_seen_at: Option<DateTime<Utc>>) -> Self {
        let (organization, user) = (organization.clone(), user.clone());
        Self { organization, user, status: PresenceStatus::Offline, last_seen_at, current_chat: None }
    }
}

/// What a node tells the others of a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceUpdate {
    pub node: String,
    pub organization: OrganizationId,
    pub user: UserId,
    /// Whether they are connected to that node.
    #[serde(rename = "here")]
    pub is_connected: bool,
    #[serde(rename = "set")]
    manual_status: ManualStatus,
}

/// Who is there, on all nodes.
#[derive(Debug, Clone)]
pub struct PresenceTracker(pub(crate) Arc<TrackerInner>);

#[derive(Debug)]
pub(crate) struct TrackerInner {
    /// This node's name among the others.
    node: String,
    publisher: EventPublisher,
    clock: Clock,
    grace_period: TimeDelta,
    registry: Mutex<PresenceRegistry>,
    wake: Arc<Notify>,
}

/// One connection of a person; they leave when it is dropped.
#[derive(Debug)]
pub struct ConnectionGuard {
    tracker: PresenceTracker,
    user_key: UserKey,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.tracker.disconnect(&self.user_key);
    }
}

impl PresenceTracker {
    pub fn start(node: String, store: Database, bus: EventPublisher, clock: Clock, grace: Duration) -> Self {
        let grace = TimeDelta::from_std(grace).unwrap_or_default();
        let woken = Arc::new(Notify::new());
        let state = Mutex::default();
        let shared = Arc::new(TrackerInner {
            node,
            publisher: bus,
            clock,
            grace_period: grace,
            registry: state,
            wake: woken.clone(),
        });
        tokio::spawn(run_expiry_loop(Arc::downgrade(&shared), woken, store));
        Self(shared)
    }

    /// A person's connection begins.
    pub fn connect(&self, organization: &OrganizationId, user: &UserId) -> ConnectionGuard {
        let person = (organization.clone(), user.clone());
        self.0.update(&person, |being, _| {
            being.local_connections += 1;
            being.local_connections == 1
        });
        ConnectionGuard { tracker: self.clone(), user_key: person }
    }

    fn disconnect(&self, person: &UserKey) {
        self.0.update(person, |being, _| {
            being.local_connections = being.local_connections.saturating_sub(1);
            being.owns_last_seen = true;
            being.local_connections == 0
        });
    }

    /// A person says how they are there. It outlives their connections, the chat doesn't.
    pub fn set_manual_status(
        &self,
        organization: &OrganizationId,
        user: &UserId,
        status: PresenceStatus,
        current_chat: Option<ChatId>,
    ) {
        let person = (organization.clone(), user.clone());
        self.0.update(&person, |being, now| {
            let current_chat = current_chat.filter(|_| being.is_present());
            // Later than whatever was set before, by any clock.
            let at = now.max(being.manual_status.set_at + TimeDelta::microseconds(1));
            being.apply_manual_status(ManualStatus { status, current_chat, set_at: at }, now, true);
            true
        });
    }

    /// A person is no longer in a chat: it isn't where they are.
    pub fn clear_current_chat(&self, organization: &OrganizationId, user: &UserId, chat: ChatId) {
        let person = (organization.clone(), user.clone());
        let is_there = |being: &UserPresence| being.manual_status.current_chat == Some(chat);
        if self.0.lock().users.get(&person).is_some_and(is_there) {
            self.0.update(&person, |being, _| {
                let is_there = is_there(being);
                if is_there {
                    being.manual_status.current_chat = None;
                    being.manual_status.set_at += TimeDelta::microseconds(1);
                }
                is_there
            });
        }
    }

    /// The presence of a person whose row was read.
    pub fn snapshot_of(&self, user: &User) -> PresenceSnapshot {
        self.0.lock().updates_for(user).event.clone()
    }

    /// The presence of these people now, then at each change; their rows were read.
    pub fn subscribe(&self, people: &[User]) -> PresenceFeed {
        PresenceFeed::open(self.clone(), people)
    }

    /// Takes in what another node told.
    pub fn apply_update(&self, word: &PresenceUpdate) {
        if word.node == self.0.node {
            return;
        }
        let person = (word.organization.clone(), word.user.clone());
        self.0.update(&person, |being, now| {
            if word.is_connected {
                being.remote_nodes.insert(word.node.clone());
            } else if being.remote_nodes.remove(&word.node) {
                // That node writes when they were last there.
                being.owns_last_seen = false;
            }
            if word.manual_status.set_at > being.manual_status.set_at {
                being.apply_manual_status(word.manual_status.clone(), now, false);
            }
            false
        });
    }

    /// A node is gone, and with it the connections to it.
    pub fn remove_node(&self, name: &str) {
        let state = self.0.lock();
        let were_there = state.users.iter().filter(|(_, being)| being.remote_nodes.contains(name));
        let people: Vec<UserKey> = were_there.map(|(person, _)| person.clone()).collect();
        drop(state);
        for person in people {
            self.0.update(&person, |being, _| {
                being.remote_nodes.remove(name);
                being.owns_last_seen = true;
                false
            });
        }
    }

    /// There are no nodes but these, and this one.
    pub fn retain_nodes(&self, nodes: &HashSet<&str>) {
        let state = self.0.lock();
        let known: HashSet<String> =
            state.users.values().flat_map(|being| being.remote_nodes.iter().cloned()).collect();
        drop(state);
        known.iter().filter(|node| !nodes.contains(node.as_str())).for_each(|node| self.remove_node(node));
    }

    /// All that this node would tell one that has just joined.
    pub fn local_updates(&self) -> Vec<ClusterMessage> {
        let state = self.0.lock();
        let told = state
            .users
            .iter()
            .filter(|(_, being)| being.local_connections > 0 || being.manual_status != ManualStatus::default());
        told.map(|(person, being)| self.0.to_message(person, being)).collect()
    }

    /// Writes when all were last there who are here or have just gone; for the end of this node.
    pub async fn shutdown(&self, store: &Database) {
        let seen = self.0.pending_last_seen();
        if let Err(error) = flush_last_seen(store, &seen).await {
            tracing::warn!(%error, people = seen.len(), "when people were last there could not be written");
        }
    }
}

impl TrackerInner {
    pub(crate) fn lock(&self) -> MutexGuard<'_, PresenceRegistry> {
        self.registry.lock()
    }

    /// Changes what is known of a person and tells those who listen, and the other nodes where `change`
    /// says that they are to know: under the lock, so that they hear of changes in their order.
    fn update(&self, person: &UserKey, change: impl FnOnce(&mut UserPresence, DateTime<Utc>) -> bool) {
        let now = self.clock.now();
        let mut state = self.lock();
        let being = state.users.entry(person.clone()).or_insert_with(|| UserPresence::unknown(person));
        let is_told = change(being, now);
        being.refresh_connected(now);
        if is_told {
            self.publisher.send_to_peers(self.to_message(person, being));
        }
        let next = being.next_deadline(self.grace_period);
        if let Some(at) = being.unflushed_last_seen.take() {
            state.unflushed_last_seen.insert(person.clone(), at);
        }
        state.schedule(person, next);
        state.notify(person);
        let is_busy = state.has_pending_work();
        drop(state);
        if is_busy {
            self.wake.notify_one();
        }
    }

    fn to_message(&self, (organization, user): &UserKey, being: &UserPresence) -> ClusterMessage {
        let (organization, user) = (organization.clone(), user.clone());
        ClusterMessage::Presence(PresenceUpdate {
            node: self.node.clone(),
            organization,
            user,
            is_connected: being.local_connections > 0,
            manual_status: being.manual_status.clone(),
        })
    }

    /// Looks at all whose time has come. Gives what is to be written; none where nothing is left to
    /// look at.
    fn run_due(&self) -> Option<HashMap<UserKey, DateTime<Utc>>> {
        let now = self.clock.now();
        let mut state = self.lock();
        state.run_due(now, self.grace_period);
        state.has_pending_work().then(|| state.unflushed_last_seen.clone())
    }

    /// What is to be written if this node ends now.
    fn pending_last_seen(&self) -> HashMap<UserKey, DateTime<Utc>> {
        let now = self.clock.now();
        let state = self.lock();
        let closing =
            state.users.iter().filter_map(|(person, being)| Some((person.clone(), being.last_seen_on_shutdown(now)?)));
        closing.chain(state.unflushed_last_seen.clone()).collect()
    }

    /// What was written need not be again.
    fn mark_flushed(&self, written: &HashMap<UserKey, DateTime<Utc>>) {
        self.lock().unflushed_last_seen.retain(|person, at| written.get(person) != Some(at));
    }
}

/// The task that was started ends with what it watches.
impl Drop for TrackerInner {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

/// Looks at people while there is anybody to look at, and writes when they were last there, all of a
/// moment together.
async fn run_expiry_loop(shared: Weak<TrackerInner>, woken: Arc<Notify>, store: Database) {
    loop {
        woken.notified().await;
        loop {
            let Some(unsaved) = shared.upgrade().map(|shared| shared.run_due()) else { return };
            let Some(unsaved) = unsaved else { break };
            let mut pause = TICK_INTERVAL;
            match flush_last_seen(&store, &unsaved).await {
                Ok(()) => drop(shared.upgrade().map(|shared| shared.mark_flushed(&unsaved))),
                Err(error) => {
                    tracing::warn!(%error, people = unsaved.len(), "when people were last there waits to be written");
                    pause = Duration::from_secs(1);
                }
            }
            tokio::time::sleep(pause).await;
        }
    }
}

async fn flush_last_seen(store: &Database, seen: &HashMap<UserKey, DateTime<Utc>>) -> Result<()> {
    if seen.is_empty() {
        return Ok(());
    }
    let row = |((organization, user), at): (&UserKey, &DateTime<Utc>)| (organization.clone(), user.clone(), *at);
    let rows: Vec<_> = seen.iter().map(row).collect();
    store.write().await?.transaction(async move |conn| users::record_last_seen(conn, &rows).await).await
}

#[cfg(test)]
mod tests;
