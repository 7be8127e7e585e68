//! Members of a chat, their roles, read positions and preferences.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

use crate::domain::characters::is_blank;
use crate::domain::ids::{ChatId, MemberId, MessageId, UserId};
use crate::domain::text;
use crate::error::{Error, Result};

/// The role of a member, ordered from the lowest to the highest.
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

impl Role {
    /// Checks that the role may be given to users who are added to a chat: every role except owner.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadUserInput`] for the role owner, which only a change of role may give.
    pub fn require_below_owner(self) -> Result<()> {
        match self {
            Self::Owner => {
                Err(Error::bad_input("role", "must be below OWNER; changeMemberRole makes a member an owner"))
            }
            Self::Member | Self::Moderator | Self::Admin => Ok(()),
        }
    }
}

/// The events in a chat about which a member is notified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, EnumIter, EnumString, IntoStaticStr, Serialize, Deserialize)]
#[strum(serialize_all = "snake_case")]
pub enum NotificationLevel {
    #[default]
    All,
    Mentions,
    None,
}

/// A user's membership of a chat.
///
/// It is kept after the user has left, so that the change log includes the departure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub chat: ChatId,
    pub user: UserId,
    pub role: Role,
    pub joined_at: DateTime<Utc>,
    pub added_by: Option<UserId>,
    pub left_at: Option<DateTime<Utc>>,
    /// The chat's version at the last change of the role, the silencing or the membership.
    pub version: i64,
    /// The member may read the messages after this number; 0 allows all of them.
    pub history_after_seq: i64,
    /// The time until which the member cannot post.
    pub silenced_until: Option<DateTime<Utc>>,
    /// The time of the last message or edit, from which slow mode counts.
    pub last_posted_at: Option<DateTime<Utc>>,
    #[serde(rename = "read")]
    pub read_markers: ReadMarkers,
    #[serde(rename = "own")]
    pub preferences: MemberPreferences,
    /// The time of the last change of the read markers or preferences, which take no version of the chat.
    #[serde(rename = "moved_at")]
    pub private_state_updated_at: Option<DateTime<Utc>>,
    /// The time of the last of those changes that other members may see.
    #[serde(rename = "shown_at")]
    pub visible_state_updated_at: Option<DateTime<Utc>>,
}

/// The positions up to which a member has received and read messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadMarkers {
    /// The number of the last message read; 0 before the first.
    #[serde(rename = "seq")]
    pub last_read_seq: i64,
    #[serde(rename = "at")]
    pub last_read_at: Option<DateTime<Utc>>,
    /// True if the read position is hidden from other members.
    #[serde(rename = "privately")]
    pub is_private: bool,
    /// The number of the last message delivered to a device; 0 before the first.
    #[serde(rename = "delivered_seq")]
    pub last_delivered_seq: i64,
}

/// A member's private settings for a chat.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberPreferences {
    pub muted_until: Option<DateTime<Utc>>,
    #[serde(rename = "level")]
    pub notification_level: NotificationLevel,
    /// True if the member's list shows the chat above the others.
    pub pinned: bool,
    pub marked_unread: bool,
    pub draft: Option<String>,
}

impl MemberPreferences {
    /// Removes the draft if it is the text that was just sent, be it with other white space around it.
    pub fn clear_sent_draft(&mut self, text: &str) {
        if self.draft.as_deref().is_some_and(|draft| draft.trim() == text.trim()) {
            self.draft = None;
        }
    }

    /// Sets the draft; a blank text removes it.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadUserInput`] if the draft is longer than [`MAX_DRAFT_CHARS`] characters.
    pub fn set_draft(&mut self, draft: Option<String>) -> Result<()> {
        let draft = draft.filter(|draft| !is_blank(draft));
        self.draft = draft.map(|draft| text::validate_block("draft", &draft, MAX_DRAFT_CHARS)).transpose()?;
        Ok(())
    }
}

impl Member {
    /// Returns a member who joins now and has read up to `read_seq`.
    pub fn new_member(chat: ChatId, user: UserId, role: Role, read_seq: i64, now: DateTime<Utc>) -> Self {
        Self {
            chat,
            user,
            role,
            joined_at: now,
            added_by: None,
            left_at: None,
            version: 0,
            history_after_seq: 0,
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

    /// Returns whether the member may read the messages of a number in the chat.
    pub fn may_read(&self, seq: i64) -> bool {
        seq > self.history_after_seq
    }

    /// Returns the last message that the member has read.
    pub fn last_read(&self) -> Option<MessageId> {
        self.message_id(self.read_markers.last_read_seq)
    }

    /// Returns the last message delivered to the member.
    ///
    /// A message that was read counts as delivered, unless the member reads privately.
    pub fn last_delivered(&self) -> Option<MessageId> {
        let read_seq = if self.read_markers.is_private { 0 } else { self.read_markers.last_read_seq };
        self.message_id(self.read_markers.last_delivered_seq.max(read_seq))
    }

    /// Returns the last message read, its time and the last message delivered, as others may see them.
    pub fn visible_read_state(&self) -> (Option<MessageId>, Option<DateTime<Utc>>, Option<MessageId>) {
        let (last_read, last_read_at) = if self.read_markers.is_private {
            (None, None)
        } else {
            (self.last_read(), self.read_markers.last_read_at)
        };
        (last_read, last_read_at, self.last_delivered())
    }

    /// Moves the read position back to a number, unless it is there or before.
    ///
    /// Messages that were read have been delivered, and stay so.
    pub fn move_read_position_back(&mut self, seq: i64, now: DateTime<Utc>) {
        if seq >= self.read_markers.last_read_seq {
            return;
        }
        if let Some(delivered) = self.last_delivered() {
            self.read_markers.last_delivered_seq = delivered.seq;
        }
        self.read_markers.last_read_seq = seq;
        self.read_markers.last_read_at = Some(now);
    }

    fn message_id(&self, seq: i64) -> Option<MessageId> {
        (seq > 0).then_some(MessageId { chat: self.chat, seq })
    }

    pub fn is_muted(&self, now: DateTime<Utc>) -> bool {
        self.preferences.muted_until.is_some_and(|until| now < until)
    }
}

/// The members that the chat of a resource has to have, and the roles that they have to have.
#[derive(Debug, Clone, Default)]
pub struct MemberList(BTreeMap<UserId, Option<Role>>);

impl MemberList {
    /// The maximum number of listed users.
    pub const MAX_USERS: usize = 1_000;

    /// Returns the list of users, some of them with a role.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadUserInput`] if there are more than [`Self::MAX_USERS`] users, or if a role is given twice
    /// for a user or to a user who is not listed.
    pub fn checked(users: Vec<UserId>, roles: Vec<(UserId, Role)>) -> Result<Self> {
        let mut list: BTreeMap<UserId, Option<Role>> = users.into_iter().map(|user| (user, None)).collect();
        if list.len() > Self::MAX_USERS {
            return Err(Error::bad_input("memberIds", format!("must have at most {} users", Self::MAX_USERS)));
        }
        for (user, role) in roles {
            let listed = list.get_mut(&user).filter(|listed| listed.is_none());
            let listed = listed.ok_or_else(|| Error::bad_input("roles", "must have users of memberIds, each once"))?;
            *listed = Some(role);
        }
        Ok(Self(list))
    }

    /// Returns the listed users in ascending order.
    pub fn users(&self) -> impl Iterator<Item = &UserId> {
        self.0.keys()
    }

    pub fn contains(&self, user: &UserId) -> bool {
        self.0.contains_key(user)
    }

    /// Returns the role that the list gives to a user.
    pub fn role(&self, user: &UserId) -> Option<Role> {
        self.0.get(user).copied().flatten()
    }

    /// Returns the members of a new chat.
    ///
    /// Without a role, the user who creates the chat becomes its owner, and every other user a member.
    pub fn members_of_new_chat(&self, creator: &UserId) -> Vec<(UserId, Role)> {
        let default_role = |user: &UserId| if user == creator { Role::Owner } else { Role::Member };
        self.0.iter().map(|(user, role)| (user.clone(), role.unwrap_or_else(|| default_role(user)))).collect()
    }
}

/// The number at which counting unread messages stops.
///
/// It means "this number or more".
pub const UNREAD_CAP: i64 = 1_000;

/// The maximum length of a draft, in characters.
pub const MAX_DRAFT_CHARS: usize = 10_000;

/// The numbers of messages that a user has not read, in one chat or in all chats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnreadCounts {
    pub messages: i64,
    /// The number of those messages that mention the user or everyone.
    pub mentions: i64,
}
