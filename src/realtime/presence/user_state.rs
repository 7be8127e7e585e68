//! The presence state of one user.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::presence::{ManualStatus, PresenceStatus};
use crate::domain::users::UserKey;
use crate::realtime::dispatch::render_cache::CachedUpdate;
use crate::realtime::presence::snapshot::{CachedPresence, PresenceSnapshot};

/// The time for which a manual status outlives the user's connections.
const STATUS_RETENTION: TimeDelta = TimeDelta::hours(24);
/// The time for which an offline user without a manual status is remembered. A row that was read before the last
/// flush doesn't have the user's newest `last_seen_at` yet.
const OFFLINE_RETENTION: TimeDelta = TimeDelta::minutes(1);

/// The presence state of one user.
///
/// The user is connected if `local_connections` is positive or `remote_nodes` is not empty. The user is *present*
/// while connected and during the grace period after it, so that nobody sees the reload of a page.
#[derive(Debug)]
pub struct UserPresence {
    /// The number of connections to this node.
    pub local_connections: usize,
    /// The other nodes to which the user is connected.
    pub remote_nodes: BTreeSet<String>,
    is_present: bool,
    /// The time when the last connection ended, or `None` while the user is connected.
    ///
    /// For a user who never connected it is the time of the last manual status.
    pub disconnected_at: Option<DateTime<Utc>>,
    /// True if this node, and no other one, writes the user's `last_seen_at`.
    ///
    /// It does if the last connection ended here, or on a node that was lost.
    pub owns_last_seen: bool,
    /// The newest manual status of all nodes.
    pub manual_status: ManualStatus,
    /// The time when others last saw the user as present, as far as it is remembered.
    last_seen_at: Option<DateTime<Utc>>,
    /// The new value of `last_seen_at` that this node has to write.
    pub unflushed_last_seen: Option<DateTime<Utc>>,
    /// The user's deadline in the registry's timers.
    pub scheduled_at: Option<DateTime<Utc>>,
    /// The newest snapshot that was delivered to subscribers.
    pub last_published: CachedPresence,
}

impl UserPresence {
    /// Returns the state of a user about whom nothing is known.
    pub fn unknown(user_key: &UserKey) -> Self {
        Self {
            local_connections: 0,
            remote_nodes: BTreeSet::new(),
            is_present: false,
            disconnected_at: None,
            owns_last_seen: false,
            manual_status: ManualStatus::default(),
            last_seen_at: None,
            unflushed_last_seen: None,
            scheduled_at: None,
            last_published: Arc::new(CachedUpdate::new(PresenceSnapshot::offline(user_key, None))),
        }
    }

    /// Returns true if the user is connected or was so within the grace period.
    pub fn is_present(&self) -> bool {
        self.is_present
    }

    /// Returns true if the user asked to appear offline.
    fn is_invisible(&self) -> bool {
        self.manual_status.status == PresenceStatus::Offline
    }

    /// Applies a manual status; a user who becomes invisible was last seen now.
    ///
    /// `is_local` is true on the node where the user set the status. That node writes `last_seen_at`.
    pub fn apply_manual_status(&mut self, manual_status: ManualStatus, now: DateTime<Utc>, is_local: bool) {
        if self.is_present && manual_status.status == PresenceStatus::Offline && !self.is_invisible() {
            self.last_seen_at = Some(self.disconnected_at.unwrap_or(now));
            self.unflushed_last_seen = self.last_seen_at.filter(|_| is_local);
        }
        self.manual_status = manual_status;
        if !self.is_present {
            self.disconnected_at = Some(now);
        }
    }

    /// Records whether the user is connected to another node.
    pub fn set_remote_connection(&mut self, node: &str, is_connected: bool) {
        if is_connected {
            self.remote_nodes.insert(node.to_owned());
        } else if self.remote_nodes.remove(node) {
            // The other node writes the time when the user was last seen.
            self.owns_last_seen = false;
        }
    }

    /// Derives whether the user is connected, after connections started or ended.
    pub fn refresh_connected(&mut self, now: DateTime<Utc>) {
        if self.local_connections > 0 || !self.remote_nodes.is_empty() {
            self.is_present = true;
            self.disconnected_at = None;
        } else {
            self.disconnected_at.get_or_insert(now);
        }
    }

    /// Marks the user as offline, at the end of the grace period.
    ///
    /// The `last_seen_at` of an invisible user keeps its value, because the new one would reveal the connection.
    pub fn mark_offline(&mut self) {
        self.is_present = false;
        self.manual_status.current_chat = None;
        if !self.is_invisible() {
            self.last_seen_at = self.disconnected_at;
            self.unflushed_last_seen = self.disconnected_at.filter(|_| self.owns_last_seen);
        }
    }

    /// Returns the `last_seen_at` to write when this node shuts down, if this node is the one to write it.
    pub fn last_seen_on_shutdown(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let is_owner = self.local_connections > 0 || self.owns_last_seen;
        let last_seen_at = if self.local_connections > 0 { now } else { self.disconnected_at? };
        (self.is_present && is_owner && !self.is_invisible() && self.remote_nodes.is_empty()).then_some(last_seen_at)
    }

    /// Returns the end of the grace period or, for an offline user, of the retention.
    ///
    /// A connected user has no deadline.
    pub fn next_deadline(&self, grace_period: TimeDelta) -> Option<DateTime<Utc>> {
        let retention = match self.manual_status.status {
            _ if self.is_present => grace_period,
            PresenceStatus::Online => grace_period + OFFLINE_RETENTION,
            _ => grace_period + STATUS_RETENTION,
        };
        Some(self.disconnected_at? + retention)
    }

    /// Returns the presence as others see it.
    pub fn visible_state(&self, (organization, user): &UserKey) -> PresenceSnapshot {
        let status = if self.is_present { self.manual_status.status } else { PresenceStatus::Offline };
        let is_visible = status != PresenceStatus::Offline;
        PresenceSnapshot {
            organization: organization.clone(),
            user: user.clone(),
            status,
            last_seen_at: self.last_seen_at.filter(|_| !is_visible),
            current_chat: self.manual_status.current_chat.filter(|_| is_visible),
        }
    }
}
