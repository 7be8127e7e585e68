//! Membership of a chat.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

use crate::domain::ids::{ChatId, MemberId, MessageId, UserId};

/// From least to most.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    EnumIter,
    EnumString,
    IntoStaticStr,
    Serialize,
    Deserialize,
)]
#[strum(serialize_all = "snake_case")]
pub enum Role {
    Member,
    Moderator,
    Admin,
    Owner,
}

/// Of what in a chat a member wants to be notified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, EnumIter, EnumString, IntoStaticStr, Serialize, Deserialize)]
#[strum(serialize_all = "snake_case")]
pub enum NotificationLevel {
    #[default]
    All,
    Mentions,
    None,
}

/// A person's place in a chat. The row outlives leaving, so that the log can tell of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub chat: ChatId,
    pub user: UserId,
    pub role: Role,
    pub joined_at: DateTime<Utc>,
    pub added_by: Option<UserId>,
    pub left_at: Option<DateTime<Utc>>,
    /// The chat's version at the last change of role, silence or membership.
    pub version: i64,
    /// May not post before this moment.
    pub silenced_until: Option<DateTime<Utc>>,
    pub last_posted_at: Option<DateTime<Utc>>,
    #[serde(rename = "read")]
    pub read_markers: ReadMarkers,
    #[serde(rename = "own")]
    pub preferences: MemberPreferences,
    /// When `read` or `own` last changed: they take no version of the chat.
    #[serde(rename = "moved_at")]
    pub private_state_updated_at: Option<DateTime<Utc>>,
    /// When something of that last changed which others may see.
    #[serde(rename = "shown_at")]
    pub visible_state_updated_at: Option<DateTime<Utc>>,
}

/// How far a member has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadMarkers {
    /// Read up to and including this place; 0 is nothing.
    #[serde(rename = "seq")]
    pub last_read_seq: i64,
    #[serde(rename = "at")]
    pub last_read_at: Option<DateTime<Utc>>,
    /// Others learn nothing of what this member reads.
    #[serde(rename = "privately")]
    pub is_private: bool,
    /// Arrived at a device of theirs up to and including this place.
    #[serde(rename = "delivered_seq")]
    pub last_delivered_seq: i64,
}

/// What a member set for themselves, which nobody else sees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberPreferences {
    pub muted_until: Option<DateTime<Utc>>,
    #[serde(rename = "level")]
    pub notification_level: NotificationLevel,
    /// The chat stands above others in the member's list.
    pub pinned: bool,
    pub marked_unread: bool,
    pub draft: Option<String>,
}

impl Member {
    /// One who comes in now, at the newest message.
    pub fn new_member(chat: ChatId, user: UserId, role: Role, read_seq: i64, now: DateTime<Utc>) -> Self {
        Self {
            chat,
            user,
            role,
            joined_at: now,
            added_by: None,
            left_at: None,
            version: 0,
            silenced_until: None,
            last_posted_at: None,
            read_markers: ReadMarkers { last_read_seq: read_seq, ..ReadMarkers::default() },
            preferences: MemberPreferences::default(),
            private_state_updated_at: None,
            visible_state_updated_at: None,
        }
    }

    pub fn id(&self) -> MemberId {
        MemberId { chat: self.chat, user: self.user.clone() }
    }

    pub fn is_active(&self) -> bool {
        self.left_at.is_none()
    }

    /// The last message read; none where nothing was.
    pub fn last_read(&self) -> Option<MessageId> {
        self.message_id(self.read_markers.last_read_seq)
    }

    /// The last message that arrived: what was read has arrived, unless nobody is to know.
    pub fn last_delivered(&self) -> Option<MessageId> {
        let read = if self.read_markers.is_private { 0 } else { self.read_markers.last_read_seq };
        self.message_id(self.read_markers.last_delivered_seq.max(read))
    }

    /// What others may see of how far the member has come.
    pub fn visible_read_state(&self) -> (Option<MessageId>, Option<DateTime<Utc>>, Option<MessageId>) {
        let read = if self.read_markers.is_private {
            (None, None)
        } else {
            (self.last_read(), self.read_markers.last_read_at)
        };
        (read.0, read.1, self.last_delivered())
    }

    fn message_id(&self, seq: i64) -> Option<MessageId> {
        (seq > 0).then_some(MessageId { chat: self.chat, seq })
    }

    pub fn is_muted(&self, now: DateTime<Utc>) -> bool {
        self.preferences.muted_until.is_some_and(|until| now < until)
    }
}

/// Unread messages are counted exactly up to this number, which stands for "this many or more".
pub const UNREAD_CAP: i64 = 1_000;

/// Longest draft, in characters.
pub const MAX_DRAFT_CHARS: usize = 10_000;

/// What a person has not read: in one chat, or over all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnreadCounts {
    pub messages: i64,
    /// Those among them that mention the member, or everyone.
    pub mentions: i64,
}
