//! Reads a chat's log of changes from the database.
//!
//! A client that resumes, a feed that lagged and a chat with a gap all catch up by these reads.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::access::MemberAccess;
use crate::domain::chat_events::{Change, LogSlice, MessageChange};
use crate::domain::chats::Chat;
use crate::domain::members::Member;
use crate::domain::messages::Message;
use crate::error::Result;
use crate::storage::connection::Conn;
use crate::storage::{members, messages};

/// The number of changes of each kind that are read together.
const PAGE_SIZE: usize = 100;

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
    let to_version = ends.into_iter().flatten().min().unwrap_or(chat.version);
    let is_last = to_version == chat.version;
    let details = (chat.details_version > after_version).then(|| Change::Chat(chat.clone()));
    let mut changes: Vec<Change> = details
        .into_iter()
        .chain(messages.into_iter().map(backfilled_message))
        .chain(members.into_iter().map(|member| Change::Member(Arc::new(member))))
        .filter(|change| change.version() <= to_version)
        .collect();
    changes.sort_by_key(Change::version);
    Ok(ChangePage { chat, slice: LogSlice { after_version, changes, to_version }, is_last })
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
