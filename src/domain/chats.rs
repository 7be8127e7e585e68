//! Chats, their details, and the policy that sets the minimum role for each action.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

use crate::domain::characters::is_blank;
use crate::domain::ids::{ChatId, Nonce, OrganizationId, UserId};
use crate::domain::members::Role;
use crate::domain::text;
use crate::error::{Error, Result};

/// The kind of a chat, which decides who can join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumIter, EnumString, IntoStaticStr, Serialize, Deserialize)]
#[strum(serialize_all = "snake_case")]
pub enum ChatKind {
    /// A chat of two users, one for each pair, or the notes of one user.
    Direct,
    /// A chat whose members are added by other members.
    Group,
    /// A chat that every user of the organisation may join and leave.
    Channel,
}

/// The purpose of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumString, IntoStaticStr, Serialize, Deserialize)]
#[strum(serialize_all = "snake_case")]
pub enum GroupCategory {
    Department,
    Operational,
    Custom,
}

/// The messages that a user who becomes a member may read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, EnumIter, EnumString, IntoStaticStr, Serialize, Deserialize)]
#[strum(serialize_all = "snake_case")]
pub enum HistoryForNewMembers {
    /// All messages of the chat.
    #[default]
    All,
    /// The messages since the user became a member.
    SinceJoined,
}

/// An action in a chat that requires a minimum role.
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

/// The time for which the users of a deleted chat are stored, so that their clients can remove it.
pub const REMOVALS_RETAINED: TimeDelta = TimeDelta::days(30);

/// The minimum roles of a chat that differ from the defaults of its kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy(pub BTreeMap<ChatAction, Role>);

impl Policy {
    /// Returns the minimum role for an action in a chat of this kind.
    pub fn min_role(&self, kind: ChatKind, action: ChatAction) -> Role {
        let role = self.0.get(&action).copied();
        role.unwrap_or_else(|| Self::default_role(kind, action))
    }

    /// Returns the policy of rules, each for another action.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadUserInput`] if two rules are for the same action.
    pub fn checked(rules: impl IntoIterator<Item = (ChatAction, Role)>) -> Result<Self> {
        let mut policy = BTreeMap::new();
        for (action, role) in rules {
            if policy.insert(action, role).is_some() {
                let name = <&str>::from(action).to_uppercase();
                return Err(Error::bad_input("policy", format!("must name each action once, and names {name} twice")));
            }
        }
        Ok(Self(policy))
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

/// A chat, without its members and messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chat {
    pub id: ChatId,
    pub organization: OrganizationId,
    pub kind: ChatKind,
    pub details: ChatDetails,
    pub created_by: Option<UserId>,
    pub created_at: DateTime<Utc>,
    /// The time of the newest message of a user in the timeline; that of the creation before the first.
    pub last_activity_at: DateTime<Utc>,
    /// The time at which the chat last took a version.
    pub changed_at: DateTime<Utc>,
    /// The number of durable changes in the chat so far, which numbers them.
    pub version: i64,
    /// The version of the last change of the chat's own row.
    pub details_version: i64,
    /// The number of the newest message in the timeline, system messages included; 0 before the first.
    pub last_seq: i64,
    /// The number of the newest message of a user in the timeline; 0 before the first.
    pub last_message_seq: i64,
    pub member_count: i32,
    /// The time since which the chat is archived: it can be read, but not written.
    pub archived_at: Option<DateTime<Utc>>,
    pub resource: Option<Resource>,
}

impl Chat {
    /// Takes the next version and returns it.
    pub fn next_version(&mut self, now: DateTime<Utc>) -> i64 {
        self.version += 1;
        self.changed_at = now;
        self.version
    }

    /// Records a new message of a user in the timeline, by which lists of chats are sorted.
    pub fn record_message(&mut self, seq: i64, now: DateTime<Utc>) {
        self.last_seq = seq;
        self.last_message_seq = seq;
        self.last_activity_at = now;
    }

    /// Returns whether the chat is for the notes of one user: the direct chat with oneself.
    pub fn is_notes(&self) -> bool {
        self.kind == ChatKind::Direct && self.member_count == 1
    }

    /// Returns the number of the message after which a user who becomes a member now may read the chat.
    pub fn history_after_seq(&self) -> i64 {
        match self.details.history_for_new_members {
            HistoryForNewMembers::All => 0,
            HistoryForNewMembers::SinceJoined => self.version,
        }
    }

    /// Returns whether read receipts are published, which they are up to `max_members` members.
    pub fn has_receipts(&self, max_members: usize) -> bool {
        self.has_at_most_members(max_members)
    }

    /// Returns whether typing is published, which it is up to `max_members` members.
    pub fn has_typing(&self, max_members: usize) -> bool {
        self.has_at_most_members(max_members)
    }

    fn has_at_most_members(&self, max_members: usize) -> bool {
        usize::try_from(self.member_count).is_ok_and(|count| count <= max_members)
    }
}

/// The object of the host application that a chat belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    pub kind: String,
    pub id: String,
}

impl Resource {
    /// The maximum length of the type and of the id, in characters.
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

    /// Returns the id of the chat that belongs to the resource.
    pub fn chat_id(&self, organization: &OrganizationId) -> ChatId {
        ChatId::derive(organization, &[b"resource", self.kind.as_bytes(), self.id.as_bytes()])
    }
}

/// The fields of a chat that `updateChat` can change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatDetails {
    pub title: Option<String>,
    pub description: Option<String>,
    pub avatar_url: Option<String>,
    pub category: Option<GroupCategory>,
    pub policy: Policy,
    /// The minimum number of seconds between two messages of one member; 0 turns slow mode off.
    pub slow_mode_seconds: i32,
    pub history_for_new_members: HistoryForNewMembers,
}

impl ChatDetails {
    /// The maximum length of a title, in characters.
    pub const MAX_TITLE_CHARS: usize = 200;
    /// The maximum length of a description, in characters.
    pub const MAX_DESCRIPTION_CHARS: usize = 2_000;
    /// The maximum of `slow_mode_seconds`: six hours.
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
    /// Returns [`Error::BadUserInput`] if the description has invisible characters or more than
    /// [`Self::MAX_DESCRIPTION_CHARS`] characters.
    pub fn checked_description(description: &str) -> Result<Option<String>> {
        if is_blank(description) {
            return Ok(None);
        }
        text::validate_lines("description", description, Self::MAX_DESCRIPTION_CHARS).map(Some)
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

    /// Returns the API's names of the fields that differ.
    pub fn changed_fields(&self, other: &Self) -> Vec<&'static str> {
        [
            ("title", self.title != other.title),
            ("description", self.description != other.description),
            ("avatarUrl", self.avatar_url != other.avatar_url),
            ("category", self.category != other.category),
            ("policy", self.policy != other.policy),
            ("slowModeSeconds", self.slow_mode_seconds != other.slow_mode_seconds),
            ("historyForNewMembers", self.history_for_new_members != other.history_for_new_members),
        ]
        .into_iter()
        .filter_map(|(name, differs)| differs.then_some(name))
        .collect()
    }
}

/// Returns the id of the direct chat of two users, which does not depend on their order.
///
/// With the same user twice, it is the id of the chat for their notes.
pub fn direct_chat_id(organization: &OrganizationId, user: &UserId, other: &UserId) -> ChatId {
    let (first, second) = (user.min(other).as_str(), user.max(other).as_str());
    ChatId::derive(organization, &[b"direct", first.as_bytes(), second.as_bytes()])
}

/// Returns the id of the chat that a user creates with a nonce.
pub fn nonce_chat_id(organization: &OrganizationId, creator: &UserId, nonce: &Nonce) -> ChatId {
    ChatId::derive(organization, &[b"nonce", creator.as_str().as_bytes(), nonce.as_str().as_bytes()])
}

/// The conditions that listed chats meet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ChatFilter {
    pub kinds: Option<Vec<ChatKind>>,
    pub unread_only: bool,
    /// True to list archived chats instead of the others.
    pub archived: bool,
    /// True to list only chats that the viewer has pinned, false to list only the others.
    pub pinned: Option<bool>,
    /// A part of the title, or of the other user's name in a direct chat.
    pub search: Option<String>,
    /// True to list channels that the viewer can join instead of the viewer's chats.
    pub joinable: bool,
}

/// The key of lists of chats, newest activity first: time in microseconds, and id.
pub type ActivityKey = (i64, uuid::Uuid);

/// Returns a chat's key in a list that is sorted by activity.
pub fn activity_key(chat: &Chat) -> ActivityKey {
    (chat.last_activity_at.timestamp_micros(), chat.id.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_names_each_action_once() {
        let rules = [(ChatAction::Post, Role::Admin), (ChatAction::Pin, Role::Owner)];
        assert_eq!(Policy::checked(rules).unwrap().0, BTreeMap::from(rules));
        for twice in [(ChatAction::Post, Role::Member), rules[0]] {
            let error = Policy::checked(rules.into_iter().chain([twice])).unwrap_err();
            assert_eq!(error.to_string(), "policy must name each action once, and names POST twice");
        }
    }

    #[test]
    fn derived_chat_id_never_changes() {
        let organization: OrganizationId = "demo".parse().unwrap();
        let (alice, bob): (UserId, UserId) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let resource = Resource { kind: "ticket".into(), id: "7".into() };
        let ids = [
            (direct_chat_id(&organization, &alice, &bob), "a2c9113a-052d-8589-8ed0-116d37337e9d"),
            (direct_chat_id(&organization, &bob, &alice), "a2c9113a-052d-8589-8ed0-116d37337e9d"),
            (resource.chat_id(&organization), "a228727f-1817-8589-97b9-6e9a032af715"),
            (
                nonce_chat_id(&organization, &alice, &Nonce::parse("n1").unwrap()),
                "2be9ddaf-2c7d-8589-9077-f1bc31da97f4",
            ),
        ];
        for (id, expected) in ids {
            assert_eq!(id.0.to_string(), expected);
        }
    }

    #[test]
    fn derived_chat_ids_differ_between_kinds_and_keys() {
        let organization: OrganizationId = "demo".parse().unwrap();
        let (alice, bob): (UserId, UserId) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let nonce = |text| Nonce::parse(text).unwrap();
        let ids = [
            direct_chat_id(&organization, &alice, &bob),
            direct_chat_id(&organization, &alice, &alice),
            nonce_chat_id(&organization, &alice, &nonce("bob")),
            nonce_chat_id(&organization, &bob, &nonce("alice")),
            Resource { kind: "alice".into(), id: "bob".into() }.chat_id(&organization),
            Resource { kind: "aliceb".into(), id: "ob".into() }.chat_id(&organization),
            direct_chat_id(&"acme".parse().unwrap(), &alice, &bob),
        ];
        assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), ids.len());
    }
}
