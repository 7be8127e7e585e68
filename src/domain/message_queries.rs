//! Queries for lists of messages, and the cursor keys that these lists are sorted by.
//!
//! Each query is a plain value, so that callers can collect many of them and storage can answer them
//! in one statement.

use chrono::{DateTime, Utc};

use crate::domain::ids::{ChatId, MessageId, OptionId, UserId};
use crate::domain::messages::{Message, MessageKind};
use crate::domain::pagination::PageWindow;
use crate::domain::search::SearchQuery;

/// A list of messages in the order of their sequence numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageList {
    /// All messages of a chat, except replies that appear only in a thread.
    Timeline(ChatId),
    /// The replies of a thread.
    Thread(MessageId),
}

impl MessageList {
    /// Returns the chat that the list belongs to.
    pub fn chat(&self) -> ChatId {
        match self {
            Self::Timeline(chat) => *chat,
            Self::Thread(root) => root.chat,
        }
    }
}

/// A query, and the part of the chat's history that its result may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readable<Q> {
    pub query: Q,
    /// Only messages after this number may be read; 0 allows all of them.
    pub history_after_seq: i64,
}

impl Readable<MessageId> {
    /// Returns the id if the message may be read.
    pub fn into_id(self) -> Option<MessageId> {
        (self.query.seq > self.history_after_seq).then_some(self.query)
    }
}

/// A query for one page of a message list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MessagesQuery {
    pub list: MessageList,
    pub window: PageWindow<i64>,
}

/// A query for one page of the former texts of a message, by the version at which the message got them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RevisionsQuery {
    pub message: MessageId,
    pub window: PageWindow<i64>,
}

/// A set of messages that can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CountKey {
    /// All messages of a list, including deleted ones.
    List(MessageList),
    /// The pinned messages of a chat.
    Pinned(ChatId),
}

impl CountKey {
    /// Returns the chat that the counted messages belong to.
    pub fn chat(&self) -> ChatId {
        match self {
            Self::List(list) => list.chat(),
            Self::Pinned(chat) => *chat,
        }
    }
}

/// The key of pinned messages, newest pin first: pin time in microseconds, and sequence number.
pub type PinnedAtKey = (i64, i64);

/// Returns a message's key in a list of pinned messages.
pub fn pinned_at_key(message: &Message) -> PinnedAtKey {
    let pinned_at = message.pinned.as_ref().map_or(0, |pinned| pinned.pinned_at.timestamp_micros());
    (pinned_at, message.id.seq)
}

/// A query for one page of a chat's pinned messages.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PinnedQuery {
    pub chat: ChatId,
    pub window: PageWindow<PinnedAtKey>,
}

/// A query for the users who gave one emoji to one message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReactorsQuery {
    pub message: MessageId,
    pub emoji: String,
    /// The maximum number of users to return.
    pub limit: usize,
}

/// A query for the users who voted for one option of a poll.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VotersQuery {
    pub option: OptionId,
    /// The maximum number of users to return.
    pub limit: usize,
}

/// A full-text search with its filters.
#[derive(Debug, Clone)]
pub struct MessageSearch {
    pub query: SearchQuery,
    pub chat: Option<ChatId>,
    pub sender: Option<UserId>,
    pub kinds: Option<Vec<MessageKind>>,
    pub has_attachment: Option<bool>,
    /// True if only messages that mention the viewer match.
    pub mentions_viewer: bool,
    /// The earliest time of creation, inclusive.
    pub since: Option<DateTime<Utc>>,
    /// The latest time of creation, exclusive.
    pub until: Option<DateTime<Utc>>,
}

/// The key of search results, newest first: creation time in microseconds, chat, and sequence number.
pub type CreatedAtKey = (i64, uuid::Uuid, i64);

/// Returns a message's key in a list of search results.
pub fn created_at_key(message: &Message) -> CreatedAtKey {
    (message.created_at.timestamp_micros(), message.id.chat.0, message.id.seq)
}
