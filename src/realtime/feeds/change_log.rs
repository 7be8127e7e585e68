//! Reading a stretch of a chat's log from the database: how a resuming, a slow and a gapped
//! listener all get level.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::domain::chat_events::{Change, MessageChange, Stretch};
use crate::domain::chats::Chat;
use crate::domain::ids::{ChatId, MemberId};
use crate::domain::members::Member;
use crate::domain::messages::Message;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::storage::connection::Conn;
use crate::storage::{chats, members, messages};

/// Changes read at once.
const LENGTH: usize = 100;

/// A stretch as it was read.
pub struct Read {
    pub chat: Arc<Chat>,
    pub stretch: Stretch,
    /// Nothing had changed beyond it.
    pub level: bool,
}

/// The chat as it stands, for one who may read it: a member now.
pub struct Standing {
    pub chat: Arc<Chat>,
    pub own: Member,
}

pub async fn authorised(conn: &mut Conn, viewer: &Viewer, chat: ChatId) -> Result<Standing> {
    let lost = || Error::Forbidden("you are not a member of this chat".into());
    let own = members::by_ids(conn, &[MemberId { chat, user: viewer.id().clone() }]).await?.pop();
    let own = own.filter(Member::is_active).ok_or_else(lost)?;
    let chat = chats::by_ids(conn, viewer.organization(), &[chat]).await?.pop().ok_or_else(lost)?;
    Ok(Standing { chat: Arc::new(chat), own })
}

/// What changed in a chat after a version, the chat's row being of the same snapshot.
pub async fn read(conn: &mut Conn, chat: Arc<Chat>, version: i64) -> Result<Read> {
    let messages = messages::changed(conn, chat.id, version, LENGTH as i64).await?;
    let members = members::changed(conn, chat.id, version, LENGTH as i64).await?;
    // A list that was cut short tells nothing of what lies beyond its last row.
    let cut = |length: usize, last: Option<i64>| if length == LENGTH { last } else { None };
    let ends = [
        cut(messages.len(), messages.last().map(|message| message.version)),
        cut(members.len(), members.last().map(|member| member.version)),
    ];
    let end = ends.into_iter().flatten().min().unwrap_or(chat.version);
    let level = end == chat.version;
    let details = (chat.details_version > version).then(|| Change::Chat(chat.clone()));
    let mut changes: Vec<Change> = details
        .into_iter()
        .chain(messages.into_iter().map(read_back))
        .chain(members.into_iter().map(|member| Change::Member(Arc::new(member))))
        .filter(|change| change.version() <= end)
        .collect();
    changes.sort_by_key(Change::version);
    Ok(Read { chat, stretch: Stretch { after: version, changes, end }, level })
}

/// A message that still is as it was made, is told as made.
fn read_back(message: Message) -> Change {
    let change = if message.is_unchanged() { MessageChange::Added } else { MessageChange::Synced };
    Change::Message(Arc::new(message), change)
}

/// The members of whom the viewer may learn that something moved since a moment which took no version:
/// on the snapshot of their standing.
pub async fn moved(
    conn: &mut Conn,
    Standing { chat, own }: &Standing,
    since: DateTime<Utc>,
    receipt_members: usize,
) -> Result<Vec<Member>> {
    let mut moved: Vec<Member> = own.moved_at.filter(|at| *at >= since).map(|_| own.clone()).into_iter().collect();
    if chat.has_receipts(receipt_members) {
        let shown = members::shown_since(conn, chat.id, since).await?;
        moved.extend(shown.into_iter().filter(|member| member.user != own.user));
    }
    Ok(moved)
}

/// Whether more than `limit` rows changed after a version.
pub async fn is_beyond(conn: &mut Conn, chat: &Chat, version: i64, limit: usize) -> Result<bool> {
    // Each change took a version, so there can't be more changes than versions.
    if chat.version - version <= limit as i64 {
        return Ok(false);
    }
    let changed = messages::count_changed(conn, chat.id, version, limit as i64 + 1).await?;
    Ok(changed > limit as i64)
}
