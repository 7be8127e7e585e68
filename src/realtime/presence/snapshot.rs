//! The presence of one user as others see it.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::domain::ids::{ChatId, OrganizationId, UserId};
use crate::domain::presence::PresenceStatus;
use crate::domain::users::UserKey;
use crate::realtime::dispatch::render_cache::CachedUpdate;

/// A snapshot as all of its subscribers share it, with the renderings made of it.
pub type CachedPresence = Arc<CachedUpdate<PresenceSnapshot>>;

/// The presence of one user as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceSnapshot {
    /// The organization of the user.
    pub organization: OrganizationId,
    /// The user.
    pub user: UserId,
    /// The status.
    pub status: PresenceStatus,
    /// The time when an offline user was last seen; `None` if that never happened.
    pub last_seen_at: Option<DateTime<Utc>>,
    /// The chat that the user is looking at, which only members of that chat may see.
    pub current_chat: Option<ChatId>,
}

impl PresenceSnapshot {
    /// Returns the snapshot of an offline user.
    pub fn offline((organization, user): &UserKey, last_seen_at: Option<DateTime<Utc>>) -> Self {
        let (organization, user) = (organization.clone(), user.clone());
        Self { organization, user, status: PresenceStatus::Offline, last_seen_at, current_chat: None }
    }
}
