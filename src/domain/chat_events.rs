//! What a committed transaction changed in a chat.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use serde::{Deserialize, Serialize};

use crate::domain::chats::Chat;
use crate::domain::ids::{CallId, ChatId, OrganizationId, UserId};
use crate::domain::members::Member;
use crate::domain::messages::Message;
use crate::domain::notifications::Notification;
use crate::domain::users::User;

/// One change of a chat's log: the new state of the row that took this version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Change {
    Chat(Arc<Chat>),
    Message(Arc<Message>, MessageChange),
    Member(Arc<Member>),
}

/// What happened to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MessageChange {
    Added,
    Edited,
    Deleted,
    Reactions,
    Pin,
    Poll,
    Thread,
    /// Read back from the log: one or several of the others.
    Synced,
}

impl Change {
    pub fn version(&self) -> i64 {
        match self {
            Self::Chat(chat) => chat.details_version,
            Self::Message(message, _) => message.version,
            Self::Member(member) => member.version,
        }
    }
}

/// What happened to one chat, told after the commit. A hint: the database has the truth, and who
/// misses one reads it there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChatEvent {
    pub organization: OrganizationId,
    pub chat: ChatId,
    /// When it was told: all who hear it stand at the same moment then.
    #[serde(rename = "at")]
    pub published_at: DateTime<Utc>,
    #[serde(rename = "what")]
    pub kind: ChatEventKind,
    /// Those by whom its messages are, where they were at hand: so many listeners need not look them up.
    #[serde(default)]
    #[serde(rename = "people")]
    pub senders: Vec<User>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ChatEventKind {
    /// A part of the chat's log.
    #[serde(rename = "Changed")]
    LogChanges(LogSlice),
    /// Read positions and members' own settings, which take no version: the newest state of each.
    #[serde(rename = "Moved")]
    MembersUpdated(UnversionedMemberUpdates),
    /// The chat is no more.
    Deleted,
    /// Some people's notifications, told to them alone.
    #[serde(rename = "Notified")]
    NotificationsChanged(NotificationBatch),
    /// Something happened to a call, told to those who follow it or have a part in it.
    #[serde(rename = "Called")]
    CallChanged(CallHint),
}

/// A part of a chat's compacted log: the newest state of all that changed within it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogSlice {
    /// It begins after this version.
    #[serde(rename = "after")]
    pub after_version: i64,
    /// By rising version.
    pub changes: Vec<Change>,
    /// It reaches up to and including this version.
    #[serde(rename = "end")]
    pub to_version: i64,
}

impl LogSlice {
    /// What one commit changed: versions without a gap.
    pub fn from_commit(changes: Vec<Change>) -> Self {
        let version = |change: Option<&Change>| change.map_or(0, Change::version);
        Self { after_version: version(changes.first()) - 1, to_version: version(changes.last()), changes }
    }
}

/// Members whose rows moved without a version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnversionedMemberUpdates {
    pub members: Vec<UnversionedMemberUpdate>,
    /// The chat's version when the rows were read: they know all that was told up to it.
    #[serde(rename = "as_of")]
    pub as_of_version: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnversionedMemberUpdate {
    pub member: Arc<Member>,
    /// Whether others may see what moved: they learn nothing of one who reads privately.
    #[serde(rename = "shown")]
    pub visible_to_others: bool,
}

impl UnversionedMemberUpdates {
    /// Those of whom a member may learn, each with its place here: themselves, and what the others show.
    pub fn visible_to<'a>(&'a self, viewer: &'a UserId) -> impl Iterator<Item = (usize, &'a Arc<Member>)> {
        let seen = |moved: &UnversionedMemberUpdate| moved.visible_to_others || moved.member.user == *viewer;
        self.members
            .iter()
            .enumerate()
            .filter(move |(_, moved)| seen(moved))
            .map(|(place, moved)| (place, &moved.member))
    }
}

/// Notifications that are new, or were read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NotificationBatch {
    /// Whose they are.
    #[serde(rename = "people")]
    pub user_ids: Vec<UserId>,
    /// None where there are more than are carried: the database has them.
    pub notifications: Vec<Notification>,
}

impl NotificationBatch {
    /// Most notifications that are carried at once.
    pub const MAX_PER_EVENT: usize = 100;

    /// Notifications of these people, if there are no more than are carried.
    pub fn new(people: Vec<UserId>, notifications: Vec<Notification>) -> Self {
        let notifications = if notifications.len() > Self::MAX_PER_EVENT { Vec::new() } else { notifications };
        Self { user_ids: people, notifications }
    }

    /// Any number of notifications, in as few parts as carry them all.
    pub fn chunked(notifications: &[Notification]) -> impl Iterator<Item = Self> {
        notifications.chunks(Self::MAX_PER_EVENT).map(|some| {
            let people: BTreeSet<&UserId> = some.iter().map(|notification| &notification.user).collect();
            Self { user_ids: people.into_iter().cloned().collect(), notifications: some.to_vec() }
        })
    }
}

/// A hint that a call changed: its row has the rest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallHint {
    pub call: CallId,
    /// Its number after it.
    pub version: i64,
    /// Those whom it concerns beside who follows the call; none by a signal.
    #[serde(rename = "people")]
    pub user_ids: Vec<UserId>,
    /// Whose signal it is: for nobody else.
    #[serde(rename = "to")]
    pub signal_recipient: Option<UserId>,
}

impl ChatEvent {
    /// What happened to a chat, nobody being at hand.
    pub fn new(organization: OrganizationId, chat: ChatId, at: DateTime<Utc>, what: ChatEventKind) -> Self {
        Self { organization, chat, published_at: at, kind: what, senders: Vec::new() }
    }

    /// Those by whom its messages are.
    pub fn sender_ids(&self) -> impl Iterator<Item = &UserId> {
        let changes = match &self.kind {
            ChatEventKind::LogChanges(stretch) => stretch.changes.as_slice(),
            ChatEventKind::MembersUpdated(_)
            | ChatEventKind::Deleted
            | ChatEventKind::NotificationsChanged(_)
            | ChatEventKind::CallChanged(_) => &[],
        };
        changes.iter().filter_map(|change| match change {
            Change::Message(message, _) => message.sender.as_ref(),
            Change::Chat(_) | Change::Member(_) => None,
        })
    }

    /// The first and the last version that it tells of; none where it takes no version.
    pub fn version_range(&self) -> Option<(i64, i64)> {
        match &self.kind {
            ChatEventKind::LogChanges(stretch) => Some((stretch.after_version + 1, stretch.to_version)),
            ChatEventKind::MembersUpdated(_)
            | ChatEventKind::Deleted
            | ChatEventKind::NotificationsChanged(_)
            | ChatEventKind::CallChanged(_) => None,
        }
    }

    /// Those who became or ceased to be members by it.
    pub fn membership_changes(&self) -> impl Iterator<Item = (&UserId, bool)> {
        let changes = match &self.kind {
            ChatEventKind::LogChanges(stretch) => stretch.changes.as_slice(),
            ChatEventKind::MembersUpdated(_)
            | ChatEventKind::Deleted
            | ChatEventKind::NotificationsChanged(_)
            | ChatEventKind::CallChanged(_) => &[],
        };
        changes.iter().filter_map(|change| match change {
            Change::Member(member) => Some((&member.user, member.is_active())),
            _ => None,
        })
    }
}
