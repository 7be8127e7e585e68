use std::sync::Arc;

use async_graphql::{Context, Enum, Object, SimpleObject};

use crate::domain::pagination::{Cursor, PageArgs};
use crate::domain::users;
use crate::error::Result;
use crate::graphql::schema::connection::{Connection, connection, cost};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::types::call::IceServer;
use crate::graphql::schema::types::notification::Notification;
use crate::graphql::schema::types::user::{Organization, User};
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

/// What the viewer has not read. Muted and archived chats are left out.
#[derive(SimpleObject)]
pub struct UnreadTotals {
    /// Chats with anything unread, or marked unread.
    chats: i64,
    /// Unread messages over all chats, each chat counted up to 1,000.
    messages: i64,
    /// Those that mention the viewer, or everyone; each chat counted up to 1,000.
    mentions: i64,
    /// Unread notifications, counted up to 1,000.
    notifications: i64,
}

impl From<service::receipts::UnreadTotals> for UnreadTotals {
    fn from(totals: service::receipts::UnreadTotals) -> Self {
        let service::receipts::UnreadTotals { chats, unread, notifications } = totals;
        Self { chats, messages: unread.messages, mentions: unread.mentions, notifications }
    }
}

pub struct Viewer(pub Arc<users::Viewer>);

/// Who is asking.
#[Object]
impl Viewer {
    /// The person whose token this is.
    async fn user(&self, ctx: &Context<'_>) -> Result<User> {
        // The token says all of a person but when they were last there.
        match ctx.look_ahead().field("presence").exists() {
            true => User::load(ctx, self.0.id()).await,
            false => Ok(User(self.0.user.clone())),
        }
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
        service::receipts::unread_totals(ctx.app(), &self.0).await.map(Into::into)
    }

    /// By which servers the viewer's devices find a way to others in calls; none where the server is set
    /// without. Credentials are made anew each time.
    async fn ice_servers(&self, ctx: &Context<'_>) -> Vec<IceServer> {
        service::calls::ice_servers::servers(ctx.app(), &self.0).into_iter().map(Into::into).collect()
    }

    /// What the viewer is told of across chats, newest first.
    #[graphql(complexity = "cost(first, None, child_complexity)")]
    async fn notifications(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many, 0 to 100; 30 where left out.")] first: Option<i32>,
        #[graphql(desc = "Those after this cursor.")] after: Option<String>,
        #[graphql(desc = "True lists only those that are not read.")] unread_only: Option<bool>,
    ) -> Result<Connection<Notification>> {
        let args = PageArgs { first, after, ..PageArgs::default() };
        let unread_only = unread_only.unwrap_or_default();
        let page = service::notifications::page(ctx.app(), &self.0, unread_only, &args).await?;
        Ok(connection(page, |notification| notification.id.0.encode(), Notification))
    }
}
