//! Presence of users: the status that others see and the status that a user sets manually.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::ids::ChatId;

/// The maximum number of users whose presence one subscription may follow.
pub const MAX_FOLLOWED_USERS: usize = 200;

/// The presence status of a user as others see it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PresenceStatus {
    /// Connected, without a manual status.
    Online,
    /// Connected, and set to away manually.
    Away,
    /// Connected, and set to busy manually.
    Busy,
    /// Not connected, or set to invisible manually.
    #[default]
    Offline,
}

/// A status that a user set manually; among several, the one with the newest `set_at` applies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManualStatus {
    /// The status shown while the user is connected; [`PresenceStatus::Offline`] makes the user invisible.
    pub status: PresenceStatus,
    /// The chat that the user is looking at.
    pub current_chat: Option<ChatId>,
    /// The time of the setting, which decides between settings made on different nodes.
    #[serde(rename = "at")]
    pub set_at: DateTime<Utc>,
}

/// The status of a user who never set one: online while connected, and older than every setting.
impl Default for ManualStatus {
    fn default() -> Self {
        Self { status: PresenceStatus::Online, current_chat: None, set_at: DateTime::<Utc>::UNIX_EPOCH }
    }
}
