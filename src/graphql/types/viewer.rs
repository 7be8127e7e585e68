use std::sync::Arc;

use async_graphql::{Context, Enum, Object, SimpleObject};

use super::super::context::ContextExt;
use super::{Organization, User};
use crate::domain::users;
use crate::error::Result;
use crate::service;

/// What a token allows across the organisation.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "users::Permission")]
pub enum Permission {
    /// `chat.view`: see and use chats at all.
    ChatView,
    /// `chat.create_group`: make groups and channels.
    ChatCreateGroup,
    /// `chat.manage_group`: change details, members and roles where one's role allows it.
    ChatManageGroup,
    /// `chat.delete`: delete chats where one's role allows it.
    ChatDelete,
    /// `chat.initiate_call`: start calls where one's role allows it.
    ChatInitiateCall,
    /// `chat.moderate`: act as at least a moderator in the chats that one is in.
    ChatModerate,
    /// `support.agent`: take support chats.
    SupportAgent,
    /// `audit.read`: read the audit log.
    AuditRead,
    /// `organization.admin`: administer the organisation.
    OrganizationAdmin,
}

/// What the viewer has not read.
#[derive(SimpleObject)]
struct UnreadTotals {
    /// Chats with anything unread.
    chats: i64,
    /// Unread messages over all chats, each chat counted up to 1,000.
    messages: i64,
}

pub struct Viewer(pub Arc<users::Viewer>);

/// Who is asking.
#[Object]
impl Viewer {
    /// The person whose token this is.
    async fn user(&self) -> User {
        User(self.0.user.clone())
    }

    /// The organisation of the token.
    async fn organization(&self) -> Organization {
        Organization(self.0.organization().clone())
    }

    /// What the token allows; the server's default where it says nothing.
    async fn permissions(&self) -> Vec<Permission> {
        self.0.permissions.iter().copied().map(Permission::from).collect()
    }

    /// What is unread, over all of the viewer's chats.
    async fn unread(&self, ctx: &Context<'_>) -> Result<UnreadTotals> {
        let totals = service::members::unread_totals(ctx.app(), &self.0).await?;
        Ok(UnreadTotals { chats: totals.chats, messages: totals.messages })
    }
}
