//! A chat as one person may see it.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::domain::chats::Chat;
use crate::domain::ids::{ChatId, MemberId, OrganizationId};
use crate::domain::members::Member;
use crate::domain::rights::ChatRights;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::storage::connection::Conn;
use crate::storage::{chats, members};

/// Who reads.
#[derive(Debug, Clone, Copy)]
pub enum ReadScope<'a> {
    Viewer(&'a Viewer),
    /// All members of a chat together: what each of them may see of it.
    ChatMembers(&'a OrganizationId, ChatId),
}

impl<'a> From<&'a Viewer> for ReadScope<'a> {
    fn from(viewer: &'a Viewer) -> Self {
        Self::Viewer(viewer)
    }
}

/// A chat and the viewer's row in it.
#[derive(Debug, Clone)]
pub struct ChatAccess {
    pub chat: Chat,
    /// None for one who never was a member, and for all members together; one who left has a row that is
    /// not active.
    pub membership: Option<Member>,
}

impl ChatAccess {
    /// The chats among these that exist for the viewer.
    pub async fn find_visible(conn: &mut Conn, viewer: &Viewer, ids: &[ChatId]) -> Result<HashMap<ChatId, Self>> {
        if !viewer.permissions.contains(&Permission::ChatView) || ids.is_empty() {
            return Ok(HashMap::new());
        }
        let chats = chats::by_ids(conn, viewer.organization(), ids).await?;
        let own: Vec<_> = chats.iter().map(|chat| MemberId { chat: chat.id, user: viewer.id().clone() }).collect();
        let rows = members::by_ids(conn, &own).await?;
        let mut rows: HashMap<ChatId, Member> = rows.into_iter().map(|row| (row.chat, row)).collect();
        let access = chats.into_iter().map(|chat| Self { membership: rows.remove(&chat.id), chat });
        Ok(access.filter(|access| access.is_visible(viewer)).map(|access| (access.chat.id, access)).collect())
    }

    /// A chat that the viewer is in.
    pub async fn require_member(conn: &mut Conn, viewer: &Viewer, id: ChatId, now: DateTime<Utc>) -> Result<Self> {
        let access = Self::find_visible(conn, viewer, &[id]).await?.remove(&id).ok_or(Error::NotFound("chat"))?;
        access.rights(viewer, now).require_membership()?;
        Ok(access)
    }

    /// What of these is in chats that the reader is in: what is said there is theirs to read.
    pub async fn retain_readable<K: Clone>(
        conn: &mut Conn,
        reader: ReadScope<'_>,
        keys: &[K],
        chat_of: impl Fn(&K) -> ChatId,
    ) -> Result<Vec<K>> {
        let viewer = match reader {
            ReadScope::Viewer(viewer) => viewer,
            ReadScope::ChatMembers(_, chat) => {
                return Ok(keys.iter().filter(|key| chat_of(key) == chat).cloned().collect());
            }
        };
        let mut ids: Vec<ChatId> = keys.iter().map(&chat_of).collect();
        ids.sort();
        ids.dedup();
        let found = Self::find_visible(conn, viewer, &ids).await?;
        let is_open = |key: &&K| found.get(&chat_of(key)).is_some_and(|access| access.active_membership().is_some());
        Ok(keys.iter().filter(is_open).cloned().collect())
    }

    pub fn rights<'a>(&'a self, viewer: &'a Viewer, now: DateTime<Utc>) -> ChatRights<'a> {
        ChatRights { permissions: &viewer.permissions, chat: &self.chat, member: self.active_membership(), now }
    }

    /// The viewer's membership, if they are a member now.
    pub fn active_membership(&self) -> Option<&Member> {
        self.membership.as_ref().filter(|row| row.is_active())
    }

    pub fn is_visible(&self, viewer: &Viewer) -> bool {
        self.rights(viewer, DateTime::<Utc>::UNIX_EPOCH).can_see()
    }
}
