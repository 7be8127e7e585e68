//! Chats: what they are, and the least role that may do an action in them.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

use crate::domain::ids::{ChatId, OrganizationId, UserId};
use crate::domain::members::Role;
use crate::domain::text;
use crate::error::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumIter, EnumString, IntoStaticStr, Serialize, Deserialize)]
#[strum(serialize_all = "snake_case")]
pub enum ChatKind {
    /// Two people, once for each pair.
    Direct,
    /// Invited people.
    Group,
    /// Open to the organisation: anyone may join and leave.
    Channel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumString, IntoStaticStr, Serialize, Deserialize)]
#[strum(serialize_all = "snake_case")]
pub enum GroupCategory {
    Department,
    Operational,
    Custom,
}

/// What a role in a chat may allow.
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
pub enum ChatAction {
    Post,
    MentionEveryone,
    EditDetails,
    AddMembers,
    RemoveMembers,
    SilenceMembers,
    ChangeRoles,
    DeleteOthersMessages,
    Pin,
    StartCall,
    DeleteChat,
}

/// How long it is remembered whose chats were deleted.
pub const REMOVALS_RETAINED: TimeDelta = TimeDelta::days(30);

/// Where a chat departs from the defaults of its kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy(pub BTreeMap<ChatAction, Role>);

impl Policy {
    /// The least role that may do `action` in a chat of this kind.
    pub fn min_role(&self, kind: ChatKind, action: ChatAction) -> Role {
        let set = self.0.get(&action).copied();
        set.unwrap_or_else(|| Self::default_role(kind, action))
    }

    fn default_role(kind: ChatKind, action: ChatAction) -> Role {
        match (kind, action) {
            (ChatKind::Channel, ChatAction::Post | ChatAction::StartCall) => Role::Moderator,
            (ChatKind::Direct, _) | (_, ChatAction::Post | ChatAction::StartCall) => Role::Member,
            (
                _,
                ChatAction::MentionEveryone
                | ChatAction::SilenceMembers
                | ChatAction::DeleteOthersMessages
                | ChatAction::Pin,
            ) => Role::Moderator,
            (_, ChatAction::ChangeRoles | ChatAction::DeleteChat) => Role::Owner,
            (_, ChatAction::EditDetails | ChatAction::AddMembers | ChatAction::RemoveMembers) => Role::Admin,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chat {
    pub id: ChatId,
    pub organization: OrganizationId,
    pub kind: ChatKind,
    pub details: ChatDetails,
    pub created_by: Option<UserId>,
    pub created_at: DateTime<Utc>,
    pub last_activity_at: DateTime<Utc>,
    /// When it last took a version.
    pub changed_at: DateTime<Utc>,
    /// The chat's one counter: the number of its last durable change.
    pub version: i64,
    /// The version of the last change of the chat's own row.
    pub details_version: i64,
    /// The place of the newest message; 0 before the first.
    pub last_seq: i64,
    pub member_count: i32,
    /// Archived chats are read, not written.
    pub archived_at: Option<DateTime<Utc>>,
    pub resource: Option<Resource>,
}

impl Chat {
    /// Takes the next version.
    pub fn next_version(&mut self, now: DateTime<Utc>) -> i64 {
        self.version += 1;
        self.changed_at = now;
        self.version
    }

    /// Whether all are told who read what: not in a chat of more members than `largest`.
    pub fn has_receipts(&self, largest: usize) -> bool {
        self.has_at_most_members(largest)
    }

    /// Whether all are told who is typing: not in a chat of more members than `largest`.
    pub fn has_typing(&self, largest: usize) -> bool {
        self.has_at_most_members(largest)
    }

    fn has_at_most_members(&self, largest: usize) -> bool {
        usize::try_from(self.member_count).is_ok_and(|count| count <= largest)
    }
}

/// The host application's own object that a chat belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    pub kind: String,
    pub id: String,
}

impl Resource {
    /// Longest type and id, in characters.
    pub const MAX_CHARS: usize = 255;

    /// Returns the resource of a type and an id, both without surrounding white space.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadUserInput`] if one of them is not one line of 1 to [`Self::MAX_CHARS`] characters.
    pub fn checked(kind: &str, id: &str) -> Result<Self> {
        Ok(Self {
            kind: text::validate_line("resource.type", kind, Self::MAX_CHARS)?,
            id: text::validate_line("resource.id", id, Self::MAX_CHARS)?,
        })
    }
}

/// What `updateChat` may change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatDetails {
    pub title: Option<String>,
    pub description: Option<String>,
    pub avatar_url: Option<String>,
    pub category: Option<GroupCategory>,
    pub policy: Policy,
    /// Seconds between two messages of one member; 0 is off.
    pub slow_mode_seconds: i32,
}

impl ChatDetails {
    pub const MAX_TITLE_CHARS: usize = 200;
    pub const MAX_DESCRIPTION_CHARS: usize = 2_000;
    /// Six hours.
    pub const MAX_SLOW_MODE_SECONDS: i32 = 21_600;

    /// Returns a chat's title without surrounding white space.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadUserInput`] if the title is not one line of 1 to [`Self::MAX_TITLE_CHARS`] characters.
    pub fn checked_title(title: &str) -> Result<String> {
        text::validate_line("title", title, Self::MAX_TITLE_CHARS)
    }

    /// Returns a chat's description without surrounding white space, or `None` if it is blank.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadUserInput`] if the description is longer than [`Self::MAX_DESCRIPTION_CHARS`] characters.
    pub fn checked_description(description: &str) -> Result<Option<String>> {
        match description.trim() {
            "" => Ok(None),
            text => text::validate_block("description", text, Self::MAX_DESCRIPTION_CHARS).map(Some),
        }
    }

    /// Sets the slow mode; 0 turns it off.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadUserInput`] if the value is not from 0 to [`Self::MAX_SLOW_MODE_SECONDS`].
    pub fn set_slow_mode(&mut self, seconds: i32) -> Result<()> {
        if !(0..=Self::MAX_SLOW_MODE_SECONDS).contains(&seconds) {
            let range = format!("must be from 0 to {}", Self::MAX_SLOW_MODE_SECONDS);
            return Err(Error::bad_input("slowModeSeconds", range));
        }
        self.slow_mode_seconds = seconds;
        Ok(())
    }

    /// The names of what differs, as the API calls it.
    pub fn changed_fields(&self, other: &Self) -> Vec<&'static str> {
        [
            ("title", self.title != other.title),
            ("description", self.description != other.description),
            ("avatarUrl", self.avatar_url != other.avatar_url),
            ("category", self.category != other.category),
            ("policy", self.policy != other.policy),
            ("slowModeSeconds", self.slow_mode_seconds != other.slow_mode_seconds),
        ]
        .into_iter()
        .filter_map(|(name, differs)| differs.then_some(name))
        .collect()
    }
}

/// The name under which a pair of people has its one direct chat, whoever opens it.
pub fn direct_key(one: &UserId, other: &UserId) -> String {
    let (first, second) = (one.min(other).as_str(), one.max(other).as_str());
    // A host id holds no control character, so no two pairs share a key.
    format!("{first}\n{second}")
}

/// Which of the viewer's chats are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ChatFilter {
    pub kinds: Option<Vec<ChatKind>>,
    pub unread_only: bool,
    /// Archived chats, in place of the others.
    pub archived: bool,
    /// Only those that the viewer pinned, or only the others.
    pub pinned: Option<bool>,
    /// Words of the title, or of the other person's name in a direct chat; folded.
    pub search: Option<String>,
    /// Channels that the viewer may join, in place of the viewer's own chats.
    pub joinable: bool,
}

/// The key of lists of chats, newest activity first: time in microseconds, and id.
pub type ActivityKey = (i64, uuid::Uuid);

/// Returns a chat's key in a list that is sorted by activity.
pub fn activity_key(chat: &Chat) -> ActivityKey {
    (chat.last_activity_at.timestamp_micros(), chat.id.0)
}
