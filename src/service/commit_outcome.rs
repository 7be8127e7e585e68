//! The outcome of a committed transaction.

use crate::domain::chat_events::{CallHint, Change, NotificationBatch, UnversionedChange};
use crate::domain::chats::Chat;
use crate::domain::ids::MemberId;

/// The changes of one transaction on a chat, which are published after the commit.
#[must_use = "subscribers learn of a commit only by AppContext::publish_outcome"]
pub struct CommitOutcome {
    /// The chat as the transaction left it.
    pub chat: Chat,
    /// The changes that took versions of the chat, in the order of those versions.
    pub changes: Vec<Change>,
    /// Members with changes that take no version.
    pub unversioned: Vec<(MemberId, UnversionedChange)>,
    /// Notifications that were created or read.
    pub notifications: Vec<NotificationBatch>,
    /// Calls of the chat that changed.
    pub call_hints: Vec<CallHint>,
}
