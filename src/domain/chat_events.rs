//! Changes of a chat and the events that publish them after a commit.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::calls::Call;
use crate::domain::chats::Chat;
use crate::domain::ids::{CallId, ChatId, NotificationId, OrganizationId, UserId};
use crate::domain::members::Member;
use crate::domain::messages::Message;
use crate::domain::notifications::Notification;
use crate::domain::users::User;

/// A change in a chat's change log: the new state of the row that took the version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Change {
    Chat(Arc<Chat>),
    Message(Arc<Message>, MessageChange),
    Member(Arc<Member>),
}

/// The kind of a change of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MessageChange {
    Added,
    Edited,
    Deleted,
    Reactions,
    Pin,
    Poll,
    Thread,
    /// Read from the database, where one or several other kinds may have been merged.
    Synced,
}

impl Change {
    /// Returns the version that the change took.
    pub fn version(&self) -> i64 {
        match self {
            Self::Chat(chat) => chat.details_version,
            Self::Message(message, _) => message.version,
            Self::Member(member) => member.version,
        }
    }
}

/// An event in one chat, published after the commit.
///
/// It is a hint that may be lost: subscribers that miss it read the changes from the database.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChatEvent {
    pub organization: OrganizationId,
    pub chat: ChatId,
    /// The time of publication, so that all subscribers have the same time in their cursors afterwards.
    #[serde(rename = "at")]
    pub published_at: DateTime<Utc>,
    #[serde(rename = "what")]
    pub kind: ChatEventKind,
    /// The senders of its messages, if they were in memory, so that subscribers need not load them.
    #[serde(default, rename = "people")]
    pub senders: Vec<User>,
}

/// The content of an event in a chat.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ChatEventKind {
    /// Durable changes: a part of the chat's change log.
    #[serde(rename = "Changed")]
    LogChanges(LogSlice),
    /// Changes of read positions and preferences of members, which take no version.
    ///
    /// It is never sent to other nodes, where it could arrive after newer state: each node reads the rows itself.
    #[serde(skip)]
    MembersUpdated(UnversionedMemberUpdates),
    /// The chat was deleted when it had this version.
    ///
    /// A chat that was made again under the same id has greater versions, and is not deleted by it.
    Deleted { version: i64 },
    /// Notifications changed; it is published to their users only, who read them.
    #[serde(rename = "Notified")]
    NotificationsChanged(NotificationBatch),
    /// A change of a call, published to its subscribers and to the users it concerns.
    #[serde(rename = "Called")]
    CallChanged(CallHint),
}

/// A range of versions in a chat's change log, with the newest state of each row that changed in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogSlice {
    /// The version before the range.
    #[serde(rename = "after")]
    pub after_version: i64,
    /// The changes in the order of their versions.
    pub changes: Vec<Change>,
    /// The last version of the range.
    #[serde(rename = "end")]
    pub to_version: i64,
}

impl LogSlice {
    /// Returns the range of the changes of one commit, whose versions have no gap.
    pub fn from_commit(changes: Vec<Change>) -> Self {
        let version = |change: Option<&Change>| change.map_or(0, Change::version);
        Self { after_version: version(changes.first()) - 1, to_version: version(changes.last()), changes }
    }
}

/// A change of a member that takes no version, without the new state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnversionedChange {
    /// True if other members may see the change.
    #[serde(rename = "shown")]
    pub visible_to_others: bool,
    /// True if the member may have marked threads as read.
    #[serde(rename = "threads", default, skip_serializing_if = "std::ops::Not::not")]
    pub read_threads: bool,
}

/// Members whose rows changed without taking a version.
#[derive(Debug, Clone)]
pub struct UnversionedMemberUpdates {
    pub members: Vec<UnversionedMemberUpdate>,
    /// The chat's version when the rows were read: they include all changes up to it, and none after it.
    pub as_of_version: i64,
}

/// The newest state of a member whose row changed without taking a version.
#[derive(Debug, Clone)]
pub struct UnversionedMemberUpdate {
    pub member: Arc<Member>,
    /// True if other members may see the change.
    ///
    /// They can't if the member reads privately.
    pub visible_to_others: bool,
    /// The messages that started the threads which the member has marked as read lately.
    ///
    /// Only the member receives them.
    pub read_threads: Vec<Arc<Message>>,
}

impl UnversionedMemberUpdates {
    /// Returns the members whose change a viewer may see, with their indices.
    pub fn visible_to<'a>(&'a self, viewer: &'a UserId) -> impl Iterator<Item = (usize, &'a Arc<Member>)> {
        self.members
            .iter()
            .enumerate()
            .filter(|(_, update)| update.visible_to_others || update.member.user == *viewer)
            .map(|(index, update)| (index, &update.member))
    }

    /// Returns the messages that started the threads which a viewer has marked as read lately.
    pub fn threads_read_by<'a>(&'a self, viewer: &'a UserId) -> impl Iterator<Item = &'a Arc<Message>> {
        self.members.iter().filter(|update| update.member.user == *viewer).flat_map(|update| &update.read_threads)
    }
}

/// New notifications, or notifications that were read: a hint to read them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NotificationBatch {
    /// The users whose notifications changed.
    #[serde(rename = "people")]
    pub user_ids: Vec<UserId>,
    /// The notifications.
    ///
    /// Empty if there are too many for one event; subscribers then read all that changed.
    pub notifications: Vec<NotificationRef>,
}

/// The id of a notification, and its user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationRef {
    pub id: NotificationId,
    pub user: UserId,
}

impl From<&Notification> for NotificationRef {
    fn from(notification: &Notification) -> Self {
        Self { id: notification.id, user: notification.user.clone() }
    }
}

impl NotificationBatch {
    /// The maximum number of notifications in one event.
    pub const MAX_PER_EVENT: usize = 100;

    /// Returns the event for these users, with their notifications unless there are too many.
    pub fn new(user_ids: Vec<UserId>, notifications: &[Notification]) -> Self {
        let notifications = if notifications.len() > Self::MAX_PER_EVENT { &[][..] } else { notifications };
        Self { user_ids, notifications: notifications.iter().map(NotificationRef::from).collect() }
    }

    /// Returns the events that have all these notifications, as few as possible.
    pub fn chunked(notifications: &[Notification]) -> impl Iterator<Item = Self> {
        notifications.chunks(Self::MAX_PER_EVENT).map(|chunk| {
            let user_ids: BTreeSet<&UserId> = chunk.iter().map(|notification| &notification.user).collect();
            Self::new(user_ids.into_iter().cloned().collect(), chunk)
        })
    }
}

/// A hint that a call changed.
///
/// Subscribers read the change from the database.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallHint {
    pub call: CallId,
    /// The call's version after the change.
    pub version: i64,
    /// The users that the change concerns, besides the subscribers of the call.
    ///
    /// Empty for a signal.
    #[serde(rename = "people")]
    pub user_ids: Vec<UserId>,
    /// The only user who receives a signal.
    ///
    /// `None` if the change is not a signal.
    #[serde(rename = "to")]
    pub signal_recipient: Option<UserId>,
}

impl ChatEvent {
    /// Returns an event without senders.
    pub fn new(organization: OrganizationId, chat: ChatId, published_at: DateTime<Utc>, kind: ChatEventKind) -> Self {
        Self { organization, chat, published_at, kind, senders: Vec::new() }
    }

    /// Returns the ids of the senders of the event's messages.
    pub fn sender_ids(&self) -> impl Iterator<Item = &UserId> {
        self.log_changes().iter().filter_map(|change| match change {
            Change::Message(message, _) => message.sender.as_ref(),
            Change::Chat(_) | Change::Member(_) => None,
        })
    }

    /// Returns the first and the last version of the event, or `None` if it takes no version.
    pub fn version_range(&self) -> Option<(i64, i64)> {
        match &self.kind {
            ChatEventKind::LogChanges(slice) => Some((slice.after_version + 1, slice.to_version)),
            ChatEventKind::MembersUpdated(_)
            | ChatEventKind::Deleted { .. }
            | ChatEventKind::NotificationsChanged(_)
            | ChatEventKind::CallChanged(_) => None,
        }
    }

    /// Returns the chat's version at which the event's rows were read, if the event takes no version.
    pub fn read_at_version(&self) -> Option<i64> {
        match &self.kind {
            ChatEventKind::MembersUpdated(updates) => Some(updates.as_of_version),
            ChatEventKind::LogChanges(_)
            | ChatEventKind::Deleted { .. }
            | ChatEventKind::NotificationsChanged(_)
            | ChatEventKind::CallChanged(_) => None,
        }
    }

    /// Returns the users whose membership the event changed, and whether each is a member now.
    pub fn membership_changes(&self) -> impl Iterator<Item = (&UserId, bool)> {
        self.log_changes().iter().filter_map(|change| match change {
            Change::Member(member) => Some((&member.user, member.is_active())),
            Change::Chat(_) | Change::Message(..) => None,
        })
    }

    fn log_changes(&self) -> &[Change] {
        match &self.kind {
            ChatEventKind::LogChanges(slice) => &slice.changes,
            ChatEventKind::MembersUpdated(_)
            | ChatEventKind::Deleted { .. }
            | ChatEventKind::NotificationsChanged(_)
            | ChatEventKind::CallChanged(_) => &[],
        }
    }
}

impl From<&Call> for CallHint {
    fn from(call: &Call) -> Self {
        let user_ids = call.participants.iter().map(|participant| participant.user.clone()).collect();
        Self { call: call.id, version: call.version, user_ids, signal_recipient: None }
    }
}
