//! Membership of a chat.

use chrono::{DateTime, Utc};
use strum::{EnumIter, EnumString, IntoStaticStr};

use super::ids::{ChatId, MemberId, MessageId, UserId};

/// From least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, EnumIter, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Role {
    Member,
    Moderator,
    Admin,
    Owner,
}

/// A person's place in a chat. The row outlives leaving, so that the log can tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub chat: ChatId,
    pub user: UserId,
    pub role: Role,
    pub joined_at: DateTime<Utc>,
    pub added_by: Option<UserId>,
    pub left_at: Option<DateTime<Utc>>,
    /// The chat's version at the last change of role or membership.
    pub version: i64,
    /// Read up to and including this place; 0 is nothing.
    pub last_read_seq: i64,
    pub last_read_at: Option<DateTime<Utc>>,
    pub last_posted_at: Option<DateTime<Utc>>,
}

impl Member {
    pub fn id(&self) -> MemberId {
        MemberId { chat: self.chat, user: self.user.clone() }
    }

    pub fn is_active(&self) -> bool {
        self.left_at.is_none()
    }

    /// The last message read; none where nothing was.
    pub fn last_read(&self) -> Option<MessageId> {
        (self.last_read_seq > 0).then_some(MessageId { chat: self.chat, seq: self.last_read_seq })
    }
}

/// Unread messages are counted exactly up to this number, which stands for "this many or more".
pub const UNREAD_CAP: i64 = 1_000;
