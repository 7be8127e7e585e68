//! A chat as one person may see it.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::domain::chats::Chat;
use crate::domain::ids::{ChatId, MemberId, OrganizationId};
use crate::domain::members::Member;
use crate::domain::rights::Rights;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::storage::connection::Conn;
use crate::storage::{chats, members};

/// Who reads.
#[derive(Debug, Clone, Copy)]
pub enum Reader<'a> {
    One(&'a Viewer),
    /// All members of a chat together: what each of them may see of it.
    Members(&'a OrganizationId, ChatId),
}

impl<'a> From<&'a Viewer> for Reader<'a> {
    fn from(viewer: &'a Viewer) -> Self {
        Self::One(viewer)
    }
}

/// A chat and the viewer's row in it.
#[derive(Debug, Clone)]
pub struct Access {
    pub chat: Chat,
    /// None for one who never was a member, and for all members together; one who left has a row that is
    /// not active.
    pub row: Option<Member>,
}

impl Access {
    /// The chats among these that exist for the viewer.
    pub async fn find(conn: &mut Conn, viewer: &Viewer, ids: &[ChatId]) -> Result<HashMap<ChatId, Self>> {
        if !viewer.permissions.contains(&Permission::ChatView) || ids.is_empty() {
            return Ok(HashMap::new());
        }
        let chats = chats::by_ids(conn, viewer.organization(), ids).await?;
        let own: Vec<_> = chats.iter().map(|chat| MemberId { chat: chat.id, user: viewer.id().clone() }).collect();
        let rows = members::by_ids(conn, &own).await?;
        let mut rows: HashMap<ChatId, Member> = rows.into_iter().map(|row| (row.chat, row)).collect();
        let access = chats.into_iter().map(|chat| Self { row: rows.remove(&chat.id), chat });
        Ok(access.filter(|access| access.is_visible(viewer)).map(|access| (access.chat.id, access)).collect())
    }

    /// A chat that the viewer is in.
    pub async fn of_member(conn: &mut Conn, viewer: &Viewer, id: ChatId, now: DateTime<Utc>) -> Result<Self> {
        let access = Self::find(conn, viewer, &[id]).await?.remove(&id).ok_or(Error::NotFound("chat"))?;
        access.rights(viewer, now).membership()?;
        Ok(access)
    }

    /// What of these is in chats that the reader is in: what is said there is theirs to read.
    pub async fn open<K: Clone>(
        conn: &mut Conn,
        reader: Reader<'_>,
        keys: &[K],
        chat_of: impl Fn(&K) -> ChatId,
    ) -> Result<Vec<K>> {
        let viewer = match reader {
            Reader::One(viewer) => viewer,
            Reader::Members(_, chat) => return Ok(keys.iter().filter(|key| chat_of(key) == chat).cloned().collect()),
        };
        let mut ids: Vec<ChatId> = keys.iter().map(&chat_of).collect();
        ids.sort();
        ids.dedup();
        let found = Self::find(conn, viewer, &ids).await?;
        let is_open = |key: &&K| found.get(&chat_of(key)).is_some_and(|access| access.member().is_some());
        Ok(keys.iter().filter(is_open).cloned().collect())
    }

    pub fn rights<'a>(&'a self, viewer: &'a Viewer, now: DateTime<Utc>) -> Rights<'a> {
        Rights { permissions: &viewer.permissions, chat: &self.chat, member: self.member(), now }
    }

    /// The viewer's membership, if they are a member now.
    pub fn member(&self) -> Option<&Member> {
        self.row.as_ref().filter(|row| row.is_active())
    }

    pub fn is_visible(&self, viewer: &Viewer) -> bool {
        self.rights(viewer, DateTime::<Utc>::UNIX_EPOCH).can_see()
    }
}
