//! Reads a chat's log of changes from the database.
//!
//! A client that resumes, a feed that lagged and a chat with a gap all catch up by these reads.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::access::MemberAccess;
use crate::domain::chat_events::{Change, LogSlice, MessageChange};
use crate::domain::chats::Chat;
use crate::domain::ids::{MemberId, MessageId, UserId};
use crate::domain::members::Member;
use crate::domain::messages::Message;
use crate::error::Result;
use crate::storage::connection::Conn;
use crate::storage::{members, messages, threads};

/// The number of changes of each kind that are read together.
const PAGE_SIZE: usize = 100;
/// The size of the texts after which a part of a log ends, in bytes. A feed holds the texts until its client reads.
const MAX_PAGE_BYTES: usize = 1024 * 1024;

/// The number of threads that members marked as read lately whose first messages are delivered again.
const MAX_READ_THREADS: i64 = 100;

/// A part of a chat's log.
pub struct ChangePage {
    /// The chat, from the same snapshot.
    pub chat: Arc<Chat>,
    pub slice: LogSlice,
    /// The slice reaches the chat's current version.
    pub is_last: bool,
}

/// Reads the changes of a chat after a version.
///
/// The chat's row must be of the same snapshot as the read.
///
/// # Errors
///
/// Fails if the database does.
pub async fn read_changes(conn: &mut Conn, chat: Arc<Chat>, after_version: i64) -> Result<ChangePage> {
    let messages = messages::changed_since(conn, chat.id, after_version, PAGE_SIZE as i64).await?;
    let members = members::changed_since(conn, chat.id, after_version, PAGE_SIZE as i64).await?;
    // A full list may lack changes after its last row.
    let complete_to = |length: usize, last: Option<i64>| if length == PAGE_SIZE { last } else { None };
    let ends = [
        complete_to(messages.len(), messages.last().map(|message| message.version)),
        complete_to(members.len(), members.last().map(|member| member.version)),
    ];
    let read_to_version = ends.into_iter().flatten().min().unwrap_or(chat.version);
    let details = (chat.details_version > after_version).then(|| Change::Chat(chat.clone()));
    let mut changes: Vec<Change> = details
        .into_iter()
        .chain(messages.into_iter().map(backfilled_message))
        .chain(members.into_iter().map(|member| Change::Member(Arc::new(member))))
        .filter(|change| change.version() <= read_to_version)
        .collect();
    changes.sort_by_key(Change::version);
    let to_version = truncate_to_bytes(&mut changes, MAX_PAGE_BYTES).unwrap_or(read_to_version);
    let is_last = to_version == chat.version;
    Ok(ChangePage { chat, slice: LogSlice { after_version, changes, to_version }, is_last })
}

/// Drops the changes after the one with which the texts exceed a size.
///
/// Returns the last version that is left, or `None` if it drops nothing. All changes of a version are kept or dropped
/// together.
fn truncate_to_bytes(changes: &mut Vec<Change>, max_bytes: usize) -> Option<i64> {
    let mut bytes = 0;
    let is_full = |change: &Change| {
        bytes += text_bytes(change);
        bytes > max_bytes
    };
    let full = changes.iter().position(is_full)?;
    let last_version = changes[full].version();
    let dropped = changes.iter().position(|change| change.version() > last_version)?;
    changes.truncate(dropped);
    Some(last_version)
}

/// Returns the number of bytes of the texts in a change that can be long.
fn text_bytes(change: &Change) -> usize {
    let text = match change {
        Change::Message(message, _) => &message.text,
        Change::Member(member) => &member.preferences.draft,
        Change::Chat(chat) => &chat.details.description,
    };
    text.as_ref().map_or(0, String::len)
}

/// A message that has not changed since it was sent is delivered as a new one.
fn backfilled_message(message: Message) -> Change {
    let change = if message.is_unchanged() { MessageChange::Added } else { MessageChange::Synced };
    Change::Message(Arc::new(message), change)
}

/// Returns the members whose rows changed without a version since a time.
///
/// Only changes that the viewer may see count: of their own row, and of read positions in a chat with read receipts.
///
/// `access` must be of the same snapshot as the read.
///
/// # Errors
///
/// Fails if the database does.
pub async fn unversioned_changes_since(
    conn: &mut Conn,
    access: &MemberAccess,
    since: DateTime<Utc>,
    max_receipt_members: usize,
) -> Result<Vec<Member>> {
    let MemberAccess { chat, membership: own } = access;
    let own_change = own.private_state_updated_at.filter(|at| *at >= since).map(|_| own.clone());
    let mut changed: Vec<Member> = own_change.into_iter().collect();
    if chat.has_receipts(max_receipt_members) {
        let visible = members::visible_changes_since(conn, chat.id, since).await?;
        changed.extend(visible.into_iter().filter(|member| member.user != own.user));
    }
    Ok(changed)
}

/// Returns the roots of the threads that members marked as read since a time, with the members.
///
/// Of all members together, the latest `MAX_READ_THREADS` are returned.
///
/// # Errors
///
/// Fails if the database does.
pub async fn threads_read_since(
    conn: &mut Conn,
    readers: &[MemberId],
    since: DateTime<Utc>,
) -> Result<Vec<(UserId, Message)>> {
    let read = threads::marked_read_since(conn, readers, since, MAX_READ_THREADS).await?;
    if read.is_empty() {
        return Ok(Vec::new());
    }
    let roots: Vec<MessageId> = read.iter().map(|(_, root)| *root).collect();
    let messages = messages::by_ids(conn, &roots).await?;
    let find = |root: MessageId| messages.iter().find(|message| message.id == root).cloned();
    Ok(read.into_iter().filter_map(|(user, root)| Some((user, find(root)?))).collect())
}

/// Returns whether more than `limit` messages changed after a version.
///
/// # Errors
///
/// Fails if the database does.
pub async fn exceeds_limit(conn: &mut Conn, chat: &Chat, after_version: i64, limit: usize) -> Result<bool> {
    // Each change takes a version, so there are no more changes than versions.
    if chat.version - after_version <= limit as i64 {
        return Ok(false);
    }
    let changed = messages::count_changed_since(conn, chat.id, after_version, limit as i64 + 1).await?;
    Ok(changed > limit as i64)
}

#[cfg(test)]
mod tests {
    use crate::domain::ids::ChatId;
    use crate::domain::messages::{SystemMessage, SystemMessageKind};

    use super::*;

    fn change(version: i64, text: &str) -> Change {
        let kind = SystemMessageKind::ChatCreated;
        let content = SystemMessage::new(kind);
        let id = MessageId { chat: ChatId(uuid::Uuid::nil()), seq: version };
        let message = Message::system(id, content, DateTime::UNIX_EPOCH);
        Change::Message(Arc::new(Message { version, text: Some(text.into()), ..message }), MessageChange::Added)
    }

    #[test]
    fn page_ends_with_the_version_that_exceeds_its_size() {
        for (texts, max_bytes, expected) in [
            (vec![(1, "ab"), (2, "cd")], 4, (2, None)),
            (vec![(1, "ab"), (2, "cd"), (3, "e"), (4, "f")], 3, (2, Some(2))),
            (vec![(1, "ab"), (1, "cd"), (2, "e")], 1, (2, Some(1))),
            (vec![(1, "long")], 1, (1, None)),
            (vec![], 1, (0, None)),
        ] {
            let mut changes: Vec<Change> = texts.iter().map(|(version, text)| change(*version, text)).collect();
            let last_version = truncate_to_bytes(&mut changes, max_bytes);
            assert_eq!((changes.len(), last_version), expected, "{texts:?}");
        }
    }
}
