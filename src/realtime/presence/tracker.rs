//! Tracking of users' presence on all nodes.
//!
//! ```text
//!              connect                  the last connection ends
//!   offline ───────────► connected ─────────────────────────────────► grace period
//!      ▲                     ▲                connect                      │
//!      │                     └─────────────────────────────────────────────┤
//!      └────────────────────────────────────────── the grace period ends ──┘
//! ```
//!
//! A user in the grace period counts as present, so that nobody sees the reload of a page. Nodes exchange presence by
//! messages and keep it in memory. The database stores only the time when a user was last seen.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::domain::clock::Clock;
use crate::domain::ids::{ChatId, OrganizationId, UserId};
use crate::domain::presence::{ManualStatus, PresenceStatus};
use crate::domain::users::{User, UserKey};
use crate::error::Result;
use crate::realtime::cluster::message::{ClusterMessage, PresenceAnnouncement, PresenceDigest, PresenceUpdate};
use crate::realtime::cluster::publisher::EventPublisher;
use crate::realtime::presence::connected_users::{RemoteConnection, bucket_of, digest};
use crate::realtime::presence::registry::PresenceRegistry;
use crate::realtime::presence::snapshot::PresenceSnapshot;
use crate::realtime::presence::subscribers::PresenceQueue;
use crate::realtime::presence::user_state::UserPresence;
use crate::storage::pool::Database;
use crate::storage::users;
use crate::tasks::{TickLoop, Wait, warn_of_failure};

/// The interval of the expiry loop while there are deadlines.
const TICK_INTERVAL: Duration = Duration::from_millis(200);
/// The number of users after which an announcement takes no further bucket.
const ANNOUNCEMENT_SIZE: usize = 500;
/// The pause of the expiry loop after the database could not be written.
const FLUSH_RETRY_DELAY: Duration = Duration::from_secs(1);

/// The presence of users on all nodes.
#[derive(Debug, Clone)]
pub struct PresenceTracker(Arc<TrackerInner>);

/// The state that the clones of a tracker share.
///
/// `registry` protects all presence states and the index of subscribers. While it is held, the queues of subscribers
/// are locked one at a time (order: registry, then queue), and messages are put into the cluster outbox, which never
/// waits. It is not held at an await point.
#[derive(Debug)]
struct TrackerInner {
    /// The name of this node, which is unique among the nodes.
    node: String,
    publisher: EventPublisher,
    clock: Clock,
    grace_period: TimeDelta,
    registry: Mutex<PresenceRegistry>,
    /// Wakes the expiry loop when there is work, and when the tracker is dropped.
    wake: Arc<Notify>,
}

/// One connection of a user, which ends when the guard is dropped.
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
    /// Creates the tracker of the node called `node` and starts its expiry loop.
    ///
    /// The loop ends when the last clone of the tracker is dropped. After a panic in the loop, users stay online who
    /// have disconnected, and the times when users were last seen are written at the shutdown only.
    pub fn start(
        node: String,
        database: Database,
        publisher: EventPublisher,
        clock: Clock,
        grace_period: Duration,
    ) -> Self {
        let inner = Arc::new(TrackerInner {
            node,
            publisher,
            clock,
            grace_period: TimeDelta::from_std(grace_period).unwrap_or_default(),
            registry: Mutex::default(),
            wake: Arc::default(),
        });
        tokio::spawn(run_expiry_loop(TickLoop::new(&inner, inner.wake.clone()), database));
        Self(inner)
    }

    /// Counts a connection of a user, until the returned guard is dropped.
    pub fn connect(&self, organization: &OrganizationId, user: &UserId) -> ConnectionGuard {
        let user_key = (organization.clone(), user.clone());
        self.0.update(&user_key, |state, _| {
            state.local_connections += 1;
            state.local_connections == 1
        });
        ConnectionGuard { tracker: self.clone(), user_key }
    }

    fn disconnect(&self, user_key: &UserKey) {
        self.0.update(user_key, |state, _| {
            state.local_connections = state.local_connections.saturating_sub(1);
            state.owns_last_seen = true;
            state.local_connections == 0
        });
    }

    /// Sets the manual status of a user. The status outlives the user's connections, the current chat doesn't.
    pub fn set_manual_status(
        &self,
        organization: &OrganizationId,
        user: &UserId,
        status: PresenceStatus,
        current_chat: Option<ChatId>,
    ) {
        let user_key = (organization.clone(), user.clone());
        self.0.update(&user_key, |state, now| {
            let current_chat = current_chat.filter(|_| state.is_present());
            // Newer than each earlier status, even if the clock of the node that set it is ahead.
            let set_at = now.max(state.manual_status.set_at + TimeDelta::microseconds(1));
            state.apply_manual_status(ManualStatus { status, current_chat, set_at }, now, true);
            true
        });
    }

    /// Clears the current chat of a user who is no longer a member of that chat.
    pub fn clear_current_chat(&self, organization: &OrganizationId, user: &UserId, chat: ChatId) {
        let user_key = (organization.clone(), user.clone());
        let is_current = |state: &UserPresence| state.manual_status.current_chat == Some(chat);
        if self.0.lock().users.get(&user_key).is_some_and(is_current) {
            self.0.update(&user_key, |state, _| {
                let is_current = is_current(state);
                if is_current {
                    state.manual_status.current_chat = None;
                    state.manual_status.set_at += TimeDelta::microseconds(1);
                }
                is_current
            });
        }
    }

    /// Returns the presence of a user whose row was read.
    pub fn snapshot_of(&self, user: &User) -> PresenceSnapshot {
        self.0.lock().presence_of(user).event.clone()
    }

    /// Adds a subscriber to the presence of users whose rows were read.
    ///
    /// Returns the id of the subscriber and its queue, which starts with the present state of each user. The caller
    /// removes the subscriber by [`remove_subscriber`](Self::remove_subscriber).
    pub fn add_subscriber(&self, users: &[User]) -> (u64, Arc<PresenceQueue>) {
        let user_keys: Vec<UserKey> = users.iter().map(user_key_of).collect();
        let queue = Arc::<PresenceQueue>::default();
        let mut registry = self.0.lock();
        let id = registry.subscribers.add(&user_keys, &queue);
        for (user_key, user) in user_keys.iter().zip(users) {
            queue.push(user_key, &registry.presence_of(user));
        }
        (id, queue)
    }

    /// Removes a subscriber that was added with these users.
    pub fn remove_subscriber(&self, user_keys: &[UserKey], id: u64) {
        self.0.lock().subscribers.remove(user_keys, id);
    }

    /// Applies a message of another node.
    pub fn apply_update(&self, update: &PresenceUpdate) {
        if update.node == self.0.node {
            return;
        }
        let user_key = (update.organization.clone(), update.user.clone());
        let connection = RemoteConnection { is_connected: update.is_connected, revision: update.revision };
        let is_newer = self.0.accept_remote_connection(&update.node, &user_key, connection);
        // Both in one change: a user who connected as invisible must not be shown as present in between.
        self.0.update(&user_key, |state, now| {
            if is_newer {
                state.set_remote_connection(&update.node, update.is_connected);
            }
            if update.manual_status.set_at > state.manual_status.set_at {
                state.apply_manual_status(update.manual_status.clone(), now, false);
            }
            false
        });
    }

    /// Applies the list of all users who are connected to another node, or a part of it.
    pub fn apply_announcement(&self, announcement: &PresenceAnnouncement) {
        let PresenceAnnouncement { node, revision, buckets, users } = announcement;
        if *node == self.0.node {
            return;
        }
        users.iter().for_each(|update| self.apply_update(update));
        let listed: HashSet<(&OrganizationId, &UserId)> =
            users.iter().map(|update| (&update.organization, &update.user)).collect();
        let is_listed = |(organization, user): &UserKey| listed.contains(&(organization, user));
        let registry = self.0.lock();
        let known = registry.remote_users.get(node).into_iter();
        let connected =
            known.flat_map(|known| buckets.iter().flat_map(|bucket| known.connected_in(*bucket, *revision)));
        let gone: Vec<UserKey> = connected.filter(|user_key| !is_listed(user_key)).cloned().collect();
        drop(registry);
        let connection = RemoteConnection { is_connected: false, revision: *revision };
        for user_key in &gone {
            if self.0.accept_remote_connection(node, user_key, connection) {
                self.0.update(user_key, |state, _| {
                    state.set_remote_connection(node, false);
                    false
                });
            }
        }
    }

    /// Returns the buckets in which another node has other users than this node knows.
    pub fn differing_buckets(&self, summary: &PresenceDigest) -> Vec<u8> {
        if summary.node == self.0.node {
            return Vec::new();
        }
        let registry = self.0.lock();
        let known = registry.remote_users.get(&summary.node);
        let known = digest(known.into_iter().flat_map(|users| users.connected()));
        let buckets = (u8::MIN..=u8::MAX).zip(known).zip(&summary.buckets);
        buckets.filter(|((_, known), hash)| known != *hash).map(|((bucket, _), _)| bucket).collect()
    }

    /// Removes another node and the connections to it.
    pub fn remove_node(&self, node: &str) {
        let removed = self.0.lock().remote_users.remove(node);
        let user_keys: Vec<UserKey> = removed.iter().flat_map(|users| users.connected()).cloned().collect();
        for user_key in user_keys {
            self.0.update(&user_key, |state, _| {
                state.remote_nodes.remove(node);
                state.owns_last_seen = true;
                false
            });
        }
    }

    /// Removes all other nodes except these.
    pub fn retain_nodes(&self, nodes: &HashSet<&str>) {
        let registry = self.0.lock();
        let unknown: Vec<String> =
            registry.remote_users.keys().filter(|node| !nodes.contains(node.as_str())).cloned().collect();
        drop(registry);
        unknown.iter().for_each(|node| self.remove_node(node));
    }

    /// Returns the messages that inform the other nodes of all presence on this node, in these buckets.
    ///
    /// Each message has the users of one or several buckets.
    pub fn announcements(&self, buckets: &BTreeSet<u8>) -> Vec<PresenceAnnouncement> {
        let registry = self.0.lock();
        let revision = registry.revision;
        let mut by_bucket: BTreeMap<u8, Vec<PresenceUpdate>> =
            buckets.iter().map(|bucket| (*bucket, Vec::new())).collect();
        let is_announced =
            |state: &UserPresence| state.local_connections > 0 || state.manual_status != ManualStatus::default();
        for (user_key, state) in registry.users.iter().filter(|(_, state)| is_announced(state)) {
            if let Some(users) = by_bucket.get_mut(&bucket_of(user_key)) {
                users.push(self.0.to_update(user_key, state, revision));
            }
        }
        drop(registry);
        let empty =
            || PresenceAnnouncement { node: self.0.node.clone(), revision, buckets: Vec::new(), users: Vec::new() };
        let mut announcements = Vec::new();
        let mut next = empty();
        for (bucket, users) in by_bucket {
            next.buckets.push(bucket);
            next.users.extend(users);
            if next.users.len() >= ANNOUNCEMENT_SIZE {
                announcements.push(std::mem::replace(&mut next, empty()));
            }
        }
        if !next.buckets.is_empty() {
            announcements.push(next);
        }
        announcements
    }

    /// Sends a summary of the users who are connected to this node to the other nodes.
    ///
    /// It is sent under the lock, after all changes that it includes.
    pub fn publish_digest(&self) {
        let registry = self.0.lock();
        let summary = self.0.local_digest(&registry);
        self.0.publisher.send_to_peers(ClusterMessage::PresenceDigest(summary));
    }

    /// Writes when the users of this node were last seen, at the shutdown of the node.
    pub async fn shutdown(&self, database: &Database) {
        let last_seen = self.0.pending_last_seen();
        if let Err(error) = flush_last_seen(database, &last_seen).await {
            warn_of_failure!(error, users = last_seen.len(), "could not write when users were last seen");
        }
    }
}

impl TrackerInner {
    fn lock(&self) -> MutexGuard<'_, PresenceRegistry> {
        self.registry.lock()
    }

    /// Changes the state of a user, and informs subscribers.
    ///
    /// The other nodes are informed if `change` returns true. All of it happens under the lock, so that everybody
    /// receives changes in their order.
    fn update(&self, user_key: &UserKey, change: impl FnOnce(&mut UserPresence, DateTime<Utc>) -> bool) {
        let now = self.clock.now();
        let mut registry = self.lock();
        let PresenceRegistry { users, revision, .. } = &mut *registry;
        let state = users.entry(user_key.clone()).or_insert_with(|| UserPresence::unknown(user_key));
        let concerns_peers = change(state, now);
        state.refresh_connected(now);
        if concerns_peers {
            *revision += 1;
            self.publisher.send_to_peers(ClusterMessage::Presence(self.to_update(user_key, state, *revision)));
        }
        let deadline = state.next_deadline(self.grace_period);
        if let Some(last_seen_at) = state.unflushed_last_seen.take() {
            registry.unflushed_last_seen.insert(user_key.clone(), last_seen_at);
        }
        registry.schedule(user_key, deadline);
        registry.notify(user_key);
        let has_pending_work = registry.has_pending_work();
        drop(registry);
        if has_pending_work {
            self.wake.notify_one();
        }
    }

    /// Records what another node says about a user's connections to it.
    ///
    /// Returns false if something newer is known.
    fn accept_remote_connection(&self, node: &str, user_key: &UserKey, connection: RemoteConnection) -> bool {
        self.lock().remote_users.entry(node.to_owned()).or_default().apply(user_key, connection)
    }

    fn local_digest(&self, registry: &PresenceRegistry) -> PresenceDigest {
        let connected = registry.users.iter().filter(|(_, state)| state.local_connections > 0);
        PresenceDigest { node: self.node.clone(), buckets: digest(connected.map(|(user_key, _)| user_key)) }
    }

    fn to_update(&self, (organization, user): &UserKey, state: &UserPresence, revision: u64) -> PresenceUpdate {
        PresenceUpdate {
            node: self.node.clone(),
            organization: organization.clone(),
            user: user.clone(),
            is_connected: state.local_connections > 0,
            manual_status: state.manual_status.clone(),
            revision,
        }
    }

    /// Handles the deadlines that have passed. Returns the times to write, or `None` when no work is left.
    fn run_due(&self) -> Option<HashMap<UserKey, DateTime<Utc>>> {
        let now = self.clock.now();
        let mut registry = self.lock();
        registry.run_due(now, self.grace_period);
        registry.has_pending_work().then(|| registry.unflushed_last_seen.clone())
    }

    /// Returns the times to write when this node shuts down.
    fn pending_last_seen(&self) -> HashMap<UserKey, DateTime<Utc>> {
        let now = self.clock.now();
        let registry = self.lock();
        let on_shutdown = registry
            .users
            .iter()
            .filter_map(|(user_key, state)| Some((user_key.clone(), state.last_seen_on_shutdown(now)?)));
        on_shutdown.chain(registry.unflushed_last_seen.clone()).collect()
    }

    /// Removes times that have been written, unless newer ones have been added since.
    fn mark_flushed(&self, written: &HashMap<UserKey, DateTime<Utc>>) {
        self.lock().unflushed_last_seen.retain(|user_key, at| written.get(user_key) != Some(at));
    }
}

/// Wakes the expiry loop, so that it ends.
impl Drop for TrackerInner {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

fn user_key_of(user: &User) -> UserKey {
    (user.organization.clone(), user.id.clone())
}

/// Handles deadlines while there are any, and writes in one transaction when users were last seen.
async fn run_expiry_loop(ticks: TickLoop<TrackerInner>, database: Database) {
    let mut wait = Wait::UntilWoken;
    while let Some(tick) = ticks.next(wait).await {
        let Some(last_seen) = tick.owner.run_due() else {
            wait = Wait::UntilWoken;
            continue;
        };
        wait = Wait::For(TICK_INTERVAL);
        match flush_last_seen(&database, &last_seen).await {
            Ok(()) => tick.owner.mark_flushed(&last_seen),
            Err(error) => {
                warn_of_failure!(error, users = last_seen.len(), "could not write when users were last seen; retrying");
                wait = Wait::For(FLUSH_RETRY_DELAY);
            }
        }
    }
}

async fn flush_last_seen(database: &Database, last_seen: &HashMap<UserKey, DateTime<Utc>>) -> Result<()> {
    if last_seen.is_empty() {
        return Ok(());
    }
    let to_row = |((organization, user), at): (&UserKey, &DateTime<Utc>)| (organization.clone(), user.clone(), *at);
    let rows: Vec<_> = last_seen.iter().map(to_row).collect();
    database.write().await?.transaction(async move |conn| users::record_last_seen(conn, &rows).await).await
}

#[cfg(test)]
mod tests;
