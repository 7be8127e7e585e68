//! A chat as one person may see it.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::domain::chats::Chat;
use crate::domain::ids::{ChatId, MemberId};
use crate::domain::members::Member;
use crate::domain::rights::{Rights, require};
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::storage::{Conn, chats, members};

/// A chat and the viewer's row in it.
#[derive(Debug, Clone)]
pub struct Access {
    pub chat: Chat,
    /// None for one who never was a member; one who left has a row that is not active.
    pub row: Option<Member>,
}

impl Access {
    /// The chat, locked until the transaction ends, if it exists for the viewer.
    pub async fn lock(conn: &mut Conn, viewer: &Viewer, chat: ChatId) -> Result<Self> {
        require(&viewer.permissions, Permission::ChatView)?;
        let locked = chats::lock(conn, &[chat]).await?.pop();
        let chat = locked.filter(|chat| chat.organization == *viewer.organization()).ok_or(Error::NotFound("chat"))?;
        let id = MemberId { chat: chat.id, user: viewer.id().clone() };
        let row = members::by_ids(conn, &[id]).await?.pop();
        let access = Self { chat, row };
        if access.is_visible(viewer) { Ok(access) } else { Err(Error::NotFound("chat")) }
    }

    /// The chats among these that exist for the viewer.
    pub async fn find(conn: &mut Conn, viewer: &Viewer, ids: &[ChatId]) -> Result<HashMap<ChatId, Self>> {
        if !viewer.permissions.contains(&Permission::ChatView) {
            return Ok(HashMap::new());
        }
        let chats = chats::by_ids(conn, viewer.organization(), ids).await?;
        let own: Vec<_> = chats.iter().map(|chat| MemberId { chat: chat.id, user: viewer.id().clone() }).collect();
        let rows = members::by_ids(conn, &own).await?;
        let mut rows: HashMap<ChatId, Member> = rows.into_iter().map(|row| (row.chat, row)).collect();
        let access = chats.into_iter().map(|chat| Self { row: rows.remove(&chat.id), chat });
        Ok(access.filter(|access| access.is_visible(viewer)).map(|access| (access.chat.id, access)).collect())
    }

    pub fn rights<'a>(&'a self, viewer: &'a Viewer, now: DateTime<Utc>) -> Rights<'a> {
        Rights { permissions: &viewer.permissions, chat: &self.chat, member: self.member(), now }
    }

    /// The viewer's membership, if they are a member now.
    pub fn member(&self) -> Option<&Member> {
        self.row.as_ref().filter(|row| row.is_active())
    }

    fn is_visible(&self, viewer: &Viewer) -> bool {
        self.rights(viewer, DateTime::<Utc>::UNIX_EPOCH).can_see()
    }

    /// Takes the chat's next version, for a change of the transaction that holds its lock.
    pub fn next_version(&mut self) -> i64 {
        self.chat.version += 1;
        self.chat.version
    }
}
