//! What is known of one person.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::ids::ChatId;
use crate::domain::presence::PresenceStatus;
use crate::domain::users::Person;
use crate::realtime::dispatch::render_cache::Told;
use crate::realtime::presence::tracker::{News, PresenceNow};

/// How long it is remembered of one who went what they had set by hand.
const KEPT: TimeDelta = TimeDelta::hours(24);
/// How long one who went is remembered at all: a row that was read meanwhile may not know of it.
const FRESH: TimeDelta = TimeDelta::minutes(1);

/// What a person set by hand; the last of several counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    pub status: PresenceStatus,
    pub current_chat: Option<ChatId>,
    pub at: DateTime<Utc>,
}

impl Default for Set {
    fn default() -> Self {
        Self { status: PresenceStatus::Online, current_chat: None, at: DateTime::<Utc>::UNIX_EPOCH }
    }
}

#[derive(Debug)]
pub struct Being {
    /// Connections to this node.
    pub here: usize,
    /// The other nodes to which they are connected.
    pub elsewhere: BTreeSet<String>,
    /// Connected, or so shortly gone that it counts for nothing.
    present: bool,
    /// When the last connection went; for one who came without any, when they last set something.
    /// None while there is one.
    pub left_at: Option<DateTime<Utc>>,
    /// Whether this node is the one to write when they were last there.
    pub is_ours: bool,
    pub set: Set,
    /// When they were last seen to be there, as far as is remembered.
    last_seen_at: Option<DateTime<Utc>>,
    /// The same where it is new, to be written.
    pub unsaved: Option<DateTime<Utc>>,
    /// When they are to be looked at.
    pub scheduled: Option<DateTime<Utc>>,
    /// What others were told last.
    pub told: News,
}

impl Being {
    /// One of whom nothing is known.
    pub fn absent(person: &Person) -> Self {
        Self {
            here: 0,
            elsewhere: BTreeSet::new(),
            present: false,
            left_at: None,
            is_ours: false,
            set: Set::default(),
            last_seen_at: None,
            unsaved: None,
            scheduled: None,
            told: Arc::new(Told::new(PresenceNow::offline(person, None))),
        }
    }

    pub fn is_present(&self) -> bool {
        self.present
    }

    /// Whether they don't want to be seen.
    fn hides(&self) -> bool {
        self.set.status == PresenceStatus::Offline
    }

    /// Takes over what they set. One who hides from now on was last there until now.
    pub fn set(&mut self, set: Set, now: DateTime<Utc>, is_ours: bool) {
        if self.present && set.status == PresenceStatus::Offline && !self.hides() {
            self.last_seen_at = Some(self.left_at.unwrap_or(now));
            self.unsaved = self.last_seen_at.filter(|_| is_ours);
        }
        self.set = set;
        if !self.present {
            self.left_at = Some(now);
        }
    }

    /// Notes whether they are connected at all, after connections came or went.
    pub fn connect(&mut self, now: DateTime<Utc>) {
        if self.here > 0 || !self.elsewhere.is_empty() {
            self.present = true;
            self.left_at = None;
        } else {
            self.left_at.get_or_insert(now);
        }
    }

    /// They did not come back in time. Of one who hides it is not told until when they were there.
    pub fn depart(&mut self) {
        self.present = false;
        self.set.current_chat = None;
        if !self.hides() {
            self.last_seen_at = self.left_at;
            self.unsaved = self.left_at.filter(|_| self.is_ours);
        }
    }

    /// When they were last there, if this node ends now and is the one to say so.
    pub fn closing(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let is_ours = self.here > 0 || self.is_ours;
        let at = if self.here > 0 { now } else { self.left_at? };
        (self.present && is_ours && !self.hides() && self.elsewhere.is_empty()).then_some(at)
    }

    /// When they are to be looked at: at the end of the grace, and then to be forgotten. None while they
    /// are connected.
    pub fn next(&self, grace: TimeDelta) -> Option<DateTime<Utc>> {
        let kept = match self.set.status {
            _ if self.present => grace,
            PresenceStatus::Online => grace + FRESH,
            _ => grace + KEPT,
        };
        Some(self.left_at? + kept)
    }

    /// What others see.
    pub fn shown(&self, (organization, user): &Person) -> PresenceNow {
        let status = if self.present { self.set.status } else { PresenceStatus::Offline };
        let is_seen = status != PresenceStatus::Offline;
        PresenceNow {
            organization: organization.clone(),
            user: user.clone(),
            status,
            last_seen_at: self.last_seen_at.filter(|_| !is_seen),
            current_chat: self.set.current_chat.filter(|_| is_seen),
        }
    }
}
