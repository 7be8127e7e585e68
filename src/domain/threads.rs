//! Threads: their followers, and the replies that each user has read.

use chrono::{DateTime, Utc};

use crate::domain::ids::{MessageId, UserId};
use crate::domain::members::UnreadCounts;

/// The maximum number of users whom a new reply notifies because they follow the thread.
///
/// Users who take part in a thread with as many followers do not follow it.
pub const MAX_FOLLOWERS: usize = 1_000;

/// A user who begins to follow a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadFollower {
    /// The message that started the thread.
    pub root: MessageId,
    pub user: UserId,
    /// Only replies after this number are unread for the follower.
    pub after_seq: i64,
}

/// A user who has read a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadReader {
    /// The message that started the thread.
    pub root: MessageId,
    pub user: UserId,
    /// True to let the user follow the thread. False changes nothing.
    pub follows: bool,
    /// The number up to which the user has read the replies.
    pub last_read_seq: i64,
}

/// A thread as one user sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadState {
    pub is_following: bool,
    /// The replies that the user has not read. Only followers have others than mentions.
    pub unread: UnreadCounts,
    /// The time of the newest reply that is not deleted.
    pub last_reply_at: Option<DateTime<Utc>>,
    /// The last reply that the user has read.
    pub last_read: Option<MessageId>,
}
