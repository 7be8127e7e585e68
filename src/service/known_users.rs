//! The users whom this node has authenticated, and the token revocations that it knows.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use quick_cache::sync::Cache;

use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::users::{User, UserKey, Viewer};
use crate::error::{Error, Result};

/// The number of users whose row is cached.
const CACHE_CAPACITY: usize = 100_000;

/// A cache of authenticated users, and the token revocations since this node started.
///
/// A cached row equals the claims of the user's token, so that a request of the user writes nothing to the database.
pub struct KnownUsers {
    /// The rows, with the time up to which the user's tokens were revoked when the row was read.
    users: Cache<UserKey, (User, Option<DateTime<Utc>>)>,
    /// The revocations since this node started.
    ///
    /// They take precedence over cached rows, because a row may have been read just before its revocation. The mutex is
    /// held for one access only, and no other lock is taken under it.
    revocations: Mutex<HashMap<UserKey, DateTime<Utc>>>,
}

impl KnownUsers {
    /// Checks the viewer's token against the cached row.
    ///
    /// Returns false if there is no cached row that equals the token's claims.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unauthenticated`] if the token was revoked.
    pub fn check_cached(&self, viewer: &Viewer) -> Result<bool> {
        match self.users.get(&viewer.key()).filter(|(user, _)| *user == viewer.user) {
            Some((_, revoked_before)) => require_not_revoked(viewer, revoked_before).map(|()| true),
            None => Ok(false),
        }
    }

    /// Caches the viewer's row and checks the viewer's token.
    ///
    /// The row says that tokens up to `revoked_before` are revoked.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unauthenticated`] if the token was revoked.
    pub fn insert(&self, viewer: &Viewer, revoked_before: Option<DateTime<Utc>>) -> Result<()> {
        self.users.insert(viewer.key(), (viewer.user.clone(), revoked_before));
        require_not_revoked(viewer, revoked_before)
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
