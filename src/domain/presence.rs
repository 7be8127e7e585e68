//! Whether people are there.

use serde::{Deserialize, Serialize};

/// What others see of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PresenceStatus {
    Online,
    /// Set by hand.
    Away,
    /// Set by hand.
    Busy,
    /// Not there, or set by hand to seem so.
    #[default]
    Offline,
}

/// People whose presence one subscription may follow.
pub const MAX_FOLLOWED_USERS: usize = 200;
