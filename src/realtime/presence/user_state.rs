//! What is known of one person.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::ids::ChatId;
use crate::domain::presence::PresenceStatus;
use crate::domain::users::UserKey;
use crate::realtime::dispatch::render_cache::CachedUpdate;
use crate::realtime::presence::tracker::{PresenceSnapshot, PresenceUpdates};

/// How long it is remembered of one who went what they had set by hand.
const STATUS_RETENTION: TimeDelta = TimeDelta::hours(24);
/// How long one who went is remembered at all: a row that was read meanwhile may not know of it.
const OFFLINE_RETENTION: TimeDelta = TimeDelta::minutes(1);

/// What a person set by hand; the last of several counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManualStatus {
    pub status: PresenceStatus,
    pub current_chat: Option<ChatId>,
    #[serde(rename = "at")]
    pub set_at: DateTime<Utc>,
}

impl Default for ManualStatus {
    fn default() -> Self {
        Self { status: PresenceStatus::Online, current_chat: None, set_at: DateTime::<Utc>::UNIX_EPOCH }
    }
}

#[derive(Debug)]
pub struct UserPresence {
    /// Connections to this node.
    pub local_connections: usize,
    /// The other nodes to which they are connected.
    pub remote_nodes: BTreeSet<String>,
    /// Connected, or so shortly gone that it counts for nothing.
    present: bool,
    /// When the last connection went; for one who came without any, when they last set something.
    /// None while there is one.
    pub disconnected_at: Option<DateTime<Utc>>,
    /// Whether this node is the one to write when they were last there.
    pub owns_last_seen: bool,
    pub manual_status: ManualStatus,
    /// When they were last seen to be there, as far as is remembered.
    last_seen_at: Option<DateTime<Utc>>,
    /// The same where it is new, to be written.
    pub unflushed_last_seen: Option<DateTime<Utc>>,
    /// When they are to be looked at.
    pub scheduled_at: Option<DateTime<Utc>>,
    /// What others were told last.
    pub last_published: PresenceUpdates,
}

impl UserPresence {
    /// One of whom nothing is known.
    pub fn unknown(person: &UserKey) -> Self {
        Self {
            local_connections: 0,
            remote_nodes: BTreeSet::new(),
            present: false,
            disconnected_at: None,
            owns_last_seen: false,
            manual_status: ManualStatus::default(),
            last_seen_at: None,
            unflushed_last_seen: None,
            scheduled_at: None,
            last_published: Arc::new(CachedUpdate::new(PresenceSnapshot::offline(person, None))),
        }
    }

    pub fn is_present(&self) -> bool {
        self.present
    }

    /// Whether they don't want to be seen.
    fn is_invisible(&self) -> bool {
        self.manual_status.status == PresenceStatus::Offline
    }

    /// Takes over what they set. One who hides from now on was last there until now.
    pub fn apply_manual_status(&mut self, set: ManualStatus, now: DateTime<Utc>, is_ours: bool) {
        if self.present && set.status == PresenceStatus::Offline && !self.is_invisible() {
            self.last_seen_at = Some(self.disconnected_at.unwrap_or(now));
            self.unflushed_last_seen = self.last_seen_at.filter(|_| is_ours);
        }
        self.manual_status = set;
        if !self.present {
            self.disconnected_at = Some(now);
        }
    }

    /// Notes whether they are connected at all, after connections came or went.
    pub fn refresh_connected(&mut self, now: DateTime<Utc>) {
        if self.local_connections > 0 || !self.remote_nodes.is_empty() {
            self.present = true;
            self.disconnected_at = None;
        } else {
            self.disconnected_at.get_or_insert(now);
        }
    }

    /// They did not come back in time. Of one who hides it is not told until when they were there.
    pub fn mark_offline(&mut self) {
        self.present = false;
        self.manual_status.current_chat = None;
        if !self.is_invisible() {
            self.last_seen_at = self.disconnected_at;
            self.unflushed_last_seen = self.disconnected_at.filter(|_| self.owns_last_seen);
        }
    }

    /// When they were last there, if this node ends now and is the one to say so.
    pub fn last_seen_on_shutdown(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let is_ours = self.local_connections > 0 || self.owns_last_seen;
        let at = if self.local_connections > 0 { now } else { self.disconnected_at? };
        (self.present && is_ours && !self.is_invisible() && self.remote_nodes.is_empty()).then_some(at)
    }

    /// When they are to be looked at: at the end of the grace, and then to be forgotten. None while they
    /// are connected.
    pub fn next_deadline(&self, grace: TimeDelta) -> Option<DateTime<Utc>> {
        let kept = match self.manual_status.status {
            _ if self.present => grace,
            PresenceStatus::Online => grace + OFFLINE_RETENTION,
            _ => grace + STATUS_RETENTION,
        };
        Some(self.disconnected_at? + kept)
    }

    /// What others see.
    pub fn visible_state(&self, (organization, user): &UserKey) -> PresenceSnapshot {
        let status = if self.present { self.manual_status.status } else { PresenceStatus::Offline };
        let is_seen = status != PresenceStatus::Offline;
        PresenceSnapshot {
            organization: organization.clone(),
            user: user.clone(),
            status,
            last_seen_at: self.last_seen_at.filter(|_| !is_seen),
            current_chat: self.manual_status.current_chat.filter(|_| is_seen),
        }
    }
}
