//! Reading a stretch of a chat's log from the database: how a resuming, a slow and a gapped
//! listener all get level.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::domain::chat_events::{Change, LogSlice, MessageChange};
use crate::domain::chats::Chat;
use crate::domain::ids::{ChatId, MemberId};
use crate::domain::members::Member;
use crate::domain::messages::Message;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::storage::connection::Conn;
use crate::storage::{chats, members, messages};

/// Changes read at once.
const PAGE_SIZE: usize = 100;

/// A stretch as it was read.
pub struct ChangePage {
    pub chat: Arc<Chat>,
    pub slice: LogSlice,
    /// Nothing had changed beyond it.
    pub is_last: bool,
}

/// The chat as it stands, for one who may read it: a member now.
pub struct MemberAccess {
    pub chat: Arc<Chat>,
    pub membership: Member,
}

pub async fn require_member(conn: &mut Conn, viewer: &Viewer, chat: ChatId) -> Result<MemberAccess> {
    let lost = || Error::Forbidden("you are not a member of this chat".into());
    let own = members::by_ids(conn, &[MemberId { chat, user: viewer.id().clone() }]).await?.pop();
    let own = own.filter(Member::is_active).ok_or_else(lost)?;
    let chat = chats::by_ids(conn, viewer.organization(), &[chat]).await?.pop().ok_or_else(lost)?;
    Ok(MemberAccess { chat: Arc::new(chat), membership: own })
}

/// What changed in a chat after a version, the chat's row being of the same snapshot.
pub async fn read_changes(conn: &mut Conn, chat: Arc<Chat>, version: i64) -> Result<ChangePage> {
    let messages = messages::changed_since(conn, chat.id, version, PAGE_SIZE as i64).await?;
    let members = members::changed_since(conn, chat.id, version, PAGE_SIZE as i64).await?;
    // A list that was cut short tells nothing of what lies beyond its last row.
    let cut = |length: usize, last: Option<i64>| if length == PAGE_SIZE { last } else { None };
    let ends = [
        cut(messages.len(), messages.last().map(|message| message.version)),
        cut(members.len(), members.last().map(|member| member.version)),
    ];
    let end = ends.into_iter().flatten().min().unwrap_or(chat.version);
    let level = end == chat.version;
    let details = (chat.details_version > version).then(|| Change::Chat(chat.clone()));
    let mut changes: Vec<Change> = details
        .into_iter()
        .chain(messages.into_iter().map(as_backfilled))
        .chain(members.into_iter().map(|member| Change::Member(Arc::new(member))))
        .filter(|change| change.version() <= end)
        .collect();
    changes.sort_by_key(Change::version);
    Ok(ChangePage { chat, slice: LogSlice { after_version: version, changes, to_version: end }, is_last: level })
}

/// A message that still is as it was made, is told as made.
fn as_backfilled(message: Message) -> Change {
    let change = if message.is_unchanged() { MessageChange::Added } else { MessageChange::Synced };
    Change::Message(Arc::new(message), change)
}

/// The members of whom the viewer may learn that something moved since a moment which took no version:
/// on the snapshot of their standing.
pub async fn unversioned_changes_since(
    conn: &mut Conn,
    MemberAccess { chat, membership: own }: &MemberAccess,
    since: DateTime<Utc>,
    receipt_members: usize,
) -> Result<Vec<Member>> {
    let mut moved: Vec<Member> =
        own.private_state_updated_at.filter(|at| *at >= since).map(|_| own.clone()).into_iter().collect();
    if chat.has_receipts(receipt_members) {
        let shown = members::visible_changes_since(conn, chat.id, since).await?;
        moved.extend(shown.into_iter().filter(|member| member.user != own.user));
    }
    Ok(moved)
}

/// Whether more than `limit` rows changed after a version.
pub async fn exceeds_limit(conn: &mut Conn, chat: &Chat, version: i64, limit: usize) -> Result<bool> {
    // Each change took a version, so there can't be more changes than versions.
    if chat.version - version <= limit as i64 {
        return Ok(false);
    }
    let changed = messages::count_changed_since(conn, chat.id, version, limit as i64 + 1).await?;
    Ok(changed > limit as i64)
}
