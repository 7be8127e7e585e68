//! The users whom this node has authenticated, and the token revocations that it knows.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use quick_cache::sync::Cache;

use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::users::{StoredUser, UserKey, Viewer};
use crate::error::{Error, Result};

/// The number of users whose row is cached.
const CACHE_CAPACITY: usize = 100_000;
/// The maximum number of writes of a user's row by tokens of the same order in a period.
///
/// Neither of two such tokens is newer, so a user who uses them in turn would write at each request.
const MAX_PROFILE_WRITES: u32 = 10;
const PROFILE_WRITES_PERIOD: TimeDelta = TimeDelta::minutes(1);

/// A cache of authenticated users, and the token revocations since this node started.
///
/// A cached row describes the user as their newest token does, so that most requests write nothing to the database.
pub struct KnownUsers {
    users: Cache<UserKey, KnownUser>,
    /// The revocations since this node started.
    ///
    /// They take precedence over cached rows, because a row may have been read just before its revocation. The mutex is
    /// held for one access only, and no other lock is taken under it.
    revocations: Mutex<HashMap<UserKey, DateTime<Utc>>>,
}

#[derive(Debug, Clone)]
struct KnownUser {
    stored: StoredUser,
    /// The number of writes of the row since the time.
    writes: (u32, DateTime<Utc>),
}

/// The relation of a viewer's token to what is known of the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knowledge {
    /// The row need not be written: it equals the token, or a newer token describes the user.
    Current,
    /// The row is not cached, or the token is newer.
    Unknown,
}

impl KnownUsers {
    /// Checks the viewer's token against the cached row.
    ///
    /// If the row is newer, it describes the viewer from then on.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unauthenticated`] if the token was revoked.
    pub fn check_cached(&self, viewer: &mut Viewer, now: DateTime<Utc>) -> Result<Knowledge> {
        let Some(mut known) = self.users.get(&viewer.key()) else { return Ok(Knowledge::Unknown) };
        require_not_revoked(viewer, known.stored.revoked_before)?;
        let order = viewer.token_order();
        if known.stored.user == viewer.user {
            if known.stored.token_order < Some(order) {
                known.stored.token_order = Some(order);
                self.users.insert(viewer.key(), known);
            }
            return Ok(Knowledge::Current);
        }
        let has_written_enough = known.writes.0 >= MAX_PROFILE_WRITES && now - known.writes.1 < PROFILE_WRITES_PERIOD;
        let is_newer = known.stored.token_order < Some(order);
        let is_older = known.stored.token_order > Some(order);
        if is_older || (!is_newer && has_written_enough) {
            viewer.user = known.stored.user;
            return Ok(Knowledge::Current);
        }
        Ok(Knowledge::Unknown)
    }

    /// Caches a user's row, describes the viewer as it does, and checks the viewer's token.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unauthenticated`] if the token was revoked.
    pub fn insert(&self, viewer: &mut Viewer, stored: StoredUser, now: DateTime<Utc>) -> Result<()> {
        let key = viewer.key();
        let earlier = self.users.get(&key).map(|known| known.writes);
        let writes = match earlier {
            Some((count, since)) if now - since < PROFILE_WRITES_PERIOD => (count + 1, since),
            _ => (1, now),
        };
        viewer.user.clone_from(&stored.user);
        let revoked_before = stored.revoked_before;
        self.users.insert(key, KnownUser { stored, writes });
        require_not_revoked(viewer, revoked_before)
    }

    /// Forgets the rows of an organisation's users, which are read again at their next requests.
    pub fn forget_organization(&self, organization: &OrganizationId) {
        self.users.retain(|(known, _), _| known != organization);
    }

    /// Records that the tokens of a user up to a time were revoked.
    pub fn record_revocation(&self, organization: &OrganizationId, user: &UserId, before: DateTime<Utc>) {
        let mut revocations = self.revocations.lock();
        let known = revocations.entry((organization.clone(), user.clone())).or_insert(before);
        *known = before.max(*known);
    }

    /// Checks the viewer's token against the revocations since this node started.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unauthenticated`] if the token was revoked.
    pub fn check_revocation(&self, viewer: &Viewer) -> Result<()> {
        let revoked_before = self.revocations.lock().get(&viewer.key()).copied();
        require_not_revoked(viewer, revoked_before)
    }
}

impl Default for KnownUsers {
    fn default() -> Self {
        Self { users: Cache::new(CACHE_CAPACITY), revocations: Mutex::default() }
    }
}

fn require_not_revoked(viewer: &Viewer, revoked_before: Option<DateTime<Utc>>) -> Result<()> {
    match revoked_before.filter(|before| viewer.is_revoked(*before)) {
        Some(_) => Err(Error::unauthenticated("the token was revoked")),
        None => Ok(()),
    }
}
