//! Bans: users who may not be members of a chat.

use chrono::{DateTime, Utc};

use crate::domain::ids::{ChatId, UserId};
use crate::domain::pagination::PageWindow;
use crate::domain::text;
use crate::error::Result;

/// A ban of a user from a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    pub chat: ChatId,
    pub user: UserId,
    pub banned_by: UserId,
    pub banned_at: DateTime<Utc>,
    pub reason: Option<String>,
}

/// The maximum length of a reason, in characters.
pub const MAX_REASON_CHARS: usize = 500;

/// Returns the reason of a ban without surrounding white space, or `None` if it is blank.
///
/// # Errors
///
/// Returns [`Error::BadUserInput`](crate::error::Error::BadUserInput) if the reason is not one line of at most
/// [`MAX_REASON_CHARS`] characters.
pub fn checked_reason(reason: Option<&str>) -> Result<Option<String>> {
    text::validate_optional_line("reason", reason, MAX_REASON_CHARS)
}

/// The key of lists of bans, newest first: time in microseconds, and user id.
pub type BanKey = (i64, String);

/// Returns a ban's key in a list that is sorted by time.
pub fn ban_key(ban: &Ban) -> BanKey {
    (ban.banned_at.timestamp_micros(), ban.user.to_string())
}

/// A query for one page of a chat's bans.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BansQuery {
    pub chat: ChatId,
    pub window: PageWindow<BanKey>,
}
