//! What a committed transaction changed in a chat.

use std::sync::Arc;

use super::chats::Chat;
use super::ids::{ChatId, OrganizationId, UserId};
use super::members::Member;
use super::messages::Message;

/// One change of a chat's log: the new state of the row that took this version.
#[derive(Debug, Clone)]
pub enum Change {
    Chat(Arc<Chat>),
    Message(Arc<Message>, MessageChange),
    Member(Arc<Member>),
}

/// What happened to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageChange {
    Added,
    Edited,
    Deleted,
    Reactions,
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

/// The changes of one commit to one chat: versions without a gap, rising. A hint: the database has
/// the truth, and who misses one reads it there.
#[derive(Debug, Clone)]
pub struct ChatEvent {
    pub organization: OrganizationId,
    pub chat: ChatId,
    pub changes: Vec<Change>,
}

impl ChatEvent {
    /// Those who became or ceased to be members by it.
    pub fn membership(&self) -> impl Iterator<Item = (&UserId, bool)> {
        self.changes.iter().filter_map(|change| match change {
            Change::Member(member) => Some((&member.user, member.is_active())),
            _ => None,
        })
    }
}
