//! Reading a stretch of a chat's log from the database: how a resuming, a slow and a gapped
//! listener all get level.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::domain::changes::{Change, MessageChange};
use crate::domain::chats::Chat;
use crate::domain::ids::{ChatId, MemberId};
use crate::domain::members::Member;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::storage::{Conn, chats, members, messages};

/// Changes read at once.
const STRETCH: usize = 100;

/// A stretch of a chat's compacted log: the newest state of all that changed within it.
pub struct Stretch {
    /// By rising version.
    pub changes: Vec<Change>,
    /// The stretch reaches up to and including this version.
    pub end: i64,
    /// Nothing had changed beyond it when it was read.
    pub level: bool,
    standing: Standing,
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

/// What changed in a chat after a version. To be called on a snapshot, so that the chat's counter
/// and its rows are of one moment.
pub async fn after(conn: &mut Conn, viewer: &Viewer, chat: ChatId, version: i64) -> Result<Stretch> {
    let standing = authorised(conn, viewer, chat).await?;
    let chat = &standing.chat;
    let messages = messages::changed(conn, chat.id, version, STRETCH as i64).await?;
    let members = members::changed(conn, chat.id, version, STRETCH as i64).await?;
    // A list that was cut short tells nothing of what lies beyond its last row.
    let cut = |length: usize, last: Option<i64>| if length == STRETCH { last } else { None };
    let ends = [
        cut(messages.len(), messages.last().map(|message| message.version)),
        cut(members.len(), members.last().map(|member| member.version)),
    ];
    let end = ends.into_iter().flatten().min().unwrap_or(chat.version);
    let level = end == chat.version;
    let details = (chat.details_version > version).then(|| Change::Chat(chat.clone()));
    let mut changes: Vec<Change> = details
        .into_iter()
        .chain(messages.into_iter().map(|message| Change::Message(Arc::new(message), MessageChange::Synced)))
        .chain(members.into_iter().map(|member| Change::Member(Arc::new(member))))
        .filter(|change| change.version() <= end)
        .collect();
    changes.sort_by_key(Change::version);
    Ok(Stretch { changes, end, level, standing })
}

/// The members of whom the viewer may learn that something moved since a moment which took no version:
/// on the snapshot of a stretch.
pub async fn moved(
    conn: &mut Conn,
    stretch: &Stretch,
    since: DateTime<Utc>,
    receipt_members: usize,
) -> Result<Vec<Member>> {
    let Standing { chat, own } = &stretch.standing;
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
