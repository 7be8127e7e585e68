//! Queries for lists of members, and the cursor key that these lists are sorted by.
//!
//! Each query is a plain value, so that callers can collect many of them and storage can answer them
//! in one statement.

use chrono::{DateTime, Utc};

use crate::domain::ids::{ChatId, MessageId, UserId};
use crate::domain::members::Role;
use crate::domain::messages::Message;
use crate::domain::pagination::PageWindow;

/// The key of lists of members: the id of the member's user.
pub type UserIdKey = String;

/// A query for one page of a chat's members.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MembersQuery {
    pub chat: ChatId,
    /// The roles to include; all roles if `None`.
    pub roles: Option<Vec<Role>>,
    pub window: PageWindow<UserIdKey>,
}

/// The lists that contain a message, each with read positions of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageLists {
    pub in_timeline: bool,
    /// The number of the message whose thread contains the message.
    pub thread_root_seq: Option<i64>,
}

impl From<&Message> for MessageLists {
    fn from(message: &Message) -> Self {
        Self { in_timeline: message.in_timeline, thread_root_seq: message.thread_root_seq }
    }
}

/// A query for one page of the members who have read a message and share their read receipts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReadersQuery {
    pub message: MessageId,
    pub lists: MessageLists,
    /// The time at which the message was sent: members who joined later have not read it.
    pub sent_at: DateTime<Utc>,
    /// The sender, who is not listed among the readers.
    pub sender: Option<UserId>,
    pub window: PageWindow<UserIdKey>,
}

/// A chat of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserChat {
    pub chat: ChatId,
    pub version: i64,
    /// The user may read the messages after this number.
    pub history_after_seq: i64,
}

/// A member's read and delivered positions as other members may see them.
#[derive(Debug, Clone)]
pub struct ReceiptPosition {
    pub user: UserId,
    pub joined_at: DateTime<Utc>,
    /// The last message read; 0 if the member reads privately.
    pub read_seq: i64,
    /// The last message delivered to one of the member's devices.
    pub delivered_seq: i64,
}
