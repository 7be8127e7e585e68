//! Access to chats: the one module that joins chats, memberships and permissions.
//!
//! Use cases, loaders and live feeds decide here whether a viewer may read a chat, so that a new rule is written once.
//! [`ChatRights`], which [`ChatAccess::rights`] builds, decide which changes a member may make.
//!
//! There are three levels of access:
//!
//! - **The chat exists for the viewer** ([`ChatAccess::find_visible`]): their token has the permission `chat.view`, and
//!   they are a member or the chat is a channel of their organisation.
//! - **A request may read the chat's content** ([`ChatAccess::require_member`], [`ChatAccess::retain_readable`]): the
//!   chat exists for the viewer and they are a member. [`ChatAccess::retain_with_history`] leaves out the messages from
//!   before their membership if the chat kept them from new members.
//! - **An open feed may continue** ([`MemberAccess::require`], [`MemberAccess::find`]): the same rule as for a request.
//!
//! Requests and feeds report a violation differently. To a request, a chat that the viewer cannot see does not exist
//! (`NOT_FOUND`). The viewer of a feed knew the chat when the feed started, so a feed ends with `FORBIDDEN` when the
//! membership, the chat or the permission is lost.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};

use crate::domain::chats::Chat;
use crate::domain::ids::{ChatId, MemberId, OrganizationId};
use crate::domain::members::Member;
use crate::domain::message_queries::Readable;
use crate::domain::rights::{ChatRights, DenialReason, can_see, require_permission};
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::storage::connection::Conn;
use crate::storage::{chats, members};

/// The point of view from which data is read.
#[derive(Debug, Clone, Copy)]
pub enum ReadScope<'a> {
    /// One viewer, with their own permissions and memberships.
    Viewer(&'a Viewer),
    /// A viewer to whom an event of one of their chats is delivered.
    EventRecipient(&'a Viewer, &'a EventAccess),
    /// All members of a chat: the data of that chat which every member may read.
    ///
    /// Members who may not read the whole history of the chat receive nothing that was read in this scope.
    ChatMembers(&'a OrganizationId, ChatId),
}

impl<'a> From<&'a Viewer> for ReadScope<'a> {
    fn from(viewer: &'a Viewer) -> Self {
        Self::Viewer(viewer)
    }
}

/// The membership by which an event is delivered, and whether it turned out to have ended.
///
/// An event is authorised before its fields are read. If the membership ends in between, the fields would be null where
/// the member could read them, so such an event is not delivered.
#[derive(Debug)]
pub struct EventAccess {
    chat: ChatId,
    is_lost: AtomicBool,
}

impl EventAccess {
    /// Creates the access of an event's recipient, who was a member when the event was authorised.
    pub fn new(chat: ChatId) -> Self {
        Self { chat, is_lost: AtomicBool::new(false) }
    }

    /// Returns whether a read found that the recipient is no longer a member.
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    /// Records what a read of the given chats found.
    fn observe(&self, ids: &[ChatId], is_member: impl Fn(&ChatId) -> bool) {
        if ids.contains(&self.chat) && !is_member(&self.chat) {
            self.is_lost.store(true, Ordering::Relaxed);
        }
    }
}

/// A chat and the viewer's membership in it.
#[derive(Debug, Clone)]
pub struct ChatAccess {
    pub chat: Chat,
    /// The viewer's membership, which is inactive after they left.
    ///
    /// `None` if the viewer was never a member, or if the chat was read for all its members.
    pub membership: Option<Member>,
}

impl ChatAccess {
    /// Returns those of the given chats that exist for the viewer, by id.
    ///
    /// Without the permission `chat.view` no chat exists.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn find_visible(conn: &mut Conn, viewer: &Viewer, ids: &[ChatId]) -> Result<HashMap<ChatId, Self>> {
        if !viewer.permissions.contains(&Permission::ChatView) || ids.is_empty() {
            return Ok(HashMap::new());
        }
        let found = Self::find_all(conn, viewer, ids).await?;
        Ok(found.into_iter().filter(Self::is_visible).map(|access| (access.chat.id, access)).collect())
    }

    /// Returns those of the given chats that exist in a scope, by id.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn find_in_scope(conn: &mut Conn, scope: ReadScope<'_>, ids: &[ChatId]) -> Result<HashMap<ChatId, Self>> {
        match scope {
            ReadScope::Viewer(viewer) => Self::find_visible(conn, viewer, ids).await,
            ReadScope::EventRecipient(viewer, event_access) => {
                let visible = Self::find_visible(conn, viewer, ids).await?;
                let is_member = |access: &Self| access.active_membership().is_some();
                event_access.observe(ids, |id| visible.get(id).is_some_and(is_member));
                Ok(visible)
            }
            ReadScope::ChatMembers(organization, chat) => {
                let ids: Vec<ChatId> = ids.iter().copied().filter(|id| *id == chat).collect();
                let chats = chats::by_ids(conn, organization, &ids).await?;
                Ok(chats.into_iter().map(|chat| (chat.id, Self { chat, membership: None })).collect())
            }
        }
    }

    /// Returns those of the given chats from which the viewer may ban users at the time `now`.
    ///
    /// The host's service need not see a chat of one of its resources.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn find_moderated(
        conn: &mut Conn,
        viewer: &Viewer,
        ids: &[ChatId],
        now: DateTime<Utc>,
    ) -> Result<HashSet<ChatId>> {
        let found = Self::find_all(conn, viewer, ids).await?;
        let moderated = found.iter().filter(|access| access.rights(viewer, now).can_ban().is_ok());
        Ok(moderated.map(|access| access.chat.id).collect())
    }

    /// Returns those of the given chats that belong to the viewer's organisation, visible or not.
    async fn find_all(conn: &mut Conn, viewer: &Viewer, ids: &[ChatId]) -> Result<Vec<Self>> {
        let chats = chats::by_ids(conn, viewer.organization(), ids).await?;
        let member_ids: Vec<_> =
            chats.iter().map(|chat| MemberId { chat: chat.id, user: viewer.id().clone() }).collect();
        let memberships = members::by_ids(conn, &member_ids).await?;
        let mut memberships: HashMap<ChatId, Member> =
            memberships.into_iter().map(|member| (member.chat, member)).collect();
        Ok(chats.into_iter().map(|chat| Self { membership: memberships.remove(&chat.id), chat }).collect())
    }

    /// Returns a chat in which the viewer is a member.
    ///
    /// # Errors
    ///
    /// Returns [`Error::NotFound`] if the chat does not exist for the viewer, [`Error::Forbidden`] if they see the chat
    /// (a channel) but are not a member, and the database's errors.
    pub async fn require_member(conn: &mut Conn, viewer: &Viewer, id: ChatId) -> Result<Self> {
        let access = Self::find_visible(conn, viewer, &[id]).await?.remove(&id).ok_or(Error::NotFound("chat"))?;
        if access.active_membership().is_none() {
            return Err(DenialReason::NotAMember.into());
        }
        Ok(access)
    }

    /// Returns those keys whose chat has content that `scope` may read, for content other than messages.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn retain_readable<K: Clone>(
        conn: &mut Conn,
        scope: ReadScope<'_>,
        keys: &[K],
        chat_of: impl Fn(&K) -> ChatId,
    ) -> Result<Vec<K>> {
        let readable = Self::retain_with_history(conn, scope, keys, chat_of).await?;
        Ok(readable.into_iter().map(|readable| readable.query).collect())
    }

    /// Returns those queries for messages whose chat `scope` may read, each with its part of the history.
    ///
    /// A chat exists for each of its members ([`can_see`]), so only the membership is read.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn retain_with_history<Q: Clone>(
        conn: &mut Conn,
        scope: ReadScope<'_>,
        queries: &[Q],
        chat_of: impl Fn(&Q) -> ChatId,
    ) -> Result<Vec<Readable<Q>>> {
        let (viewer, event_access) = match scope {
            ReadScope::Viewer(viewer) => (viewer, None),
            ReadScope::EventRecipient(viewer, event_access) => (viewer, Some(event_access)),
            ReadScope::ChatMembers(_, chat) => {
                let of_chat = queries.iter().filter(|query| chat_of(query) == chat);
                return Ok(of_chat.map(|query| Readable { query: query.clone(), history_after_seq: 0 }).collect());
            }
        };
        let mut ids: Vec<ChatId> = queries.iter().map(&chat_of).collect();
        ids.sort();
        ids.dedup();
        let joined = match viewer.permissions.contains(&Permission::ChatView) {
            true => members::joined_chats(conn, viewer.organization(), viewer.id(), &ids).await?,
            false => HashMap::new(),
        };
        if let Some(event_access) = event_access {
            event_access.observe(&ids, |id| joined.contains_key(id));
        }
        let readable = |query: &Q| {
            let history_after_seq = *joined.get(&chat_of(query))?;
            Some(Readable { query: query.clone(), history_after_seq })
        };
        Ok(queries.iter().filter_map(readable).collect())
    }

    /// Returns the viewer's rights in the chat at the time `now`.
    pub fn rights<'a>(&'a self, viewer: &'a Viewer, now: DateTime<Utc>) -> ChatRights<'a> {
        ChatRights { permissions: &viewer.permissions, chat: &self.chat, member: self.active_membership(), now }
    }

    /// Returns the viewer's membership if it is active.
    pub fn active_membership(&self) -> Option<&Member> {
        self.membership.as_ref().filter(|member| member.is_active())
    }

    /// Returns whether the chat exists for a viewer who may view chats.
    pub fn is_visible(&self) -> bool {
        can_see(&self.chat, self.active_membership())
    }
}

/// A chat and the viewer's active membership in it, as an open feed reads them.
#[derive(Debug, Clone)]
pub struct MemberAccess {
    pub chat: Arc<Chat>,
    pub membership: Member,
}

impl MemberAccess {
    /// Returns those of the given chats in which the viewer is a member, by id.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Forbidden`] if the viewer's token lacks the permission `chat.view`, and the database's errors.
    pub async fn find(conn: &mut Conn, viewer: &Viewer, ids: &[ChatId]) -> Result<HashMap<ChatId, Self>> {
        require_permission(&viewer.permissions, Permission::ChatView)?;
        let visible = ChatAccess::find_visible(conn, viewer, ids).await?;
        let joined = visible.into_iter().filter_map(|(id, ChatAccess { chat, membership })| {
            let membership = membership.filter(Member::is_active)?;
            Some((id, Self { chat: Arc::new(chat), membership }))
        });
        Ok(joined.collect())
    }

    /// Returns a chat in which the viewer is still a member.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Forbidden`] if the chat was deleted, if the viewer is no longer a member, or if their token
    /// lacks the permission `chat.view`, and the database's errors.
    pub async fn require(conn: &mut Conn, viewer: &Viewer, id: ChatId) -> Result<Self> {
        let access = Self::find(conn, viewer, &[id]).await?.remove(&id);
        access.ok_or_else(|| DenialReason::NotAMember.into())
    }
}
