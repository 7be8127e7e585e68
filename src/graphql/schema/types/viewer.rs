//! The authenticated user.

use std::sync::Arc;

use async_graphql::{Context, Enum, Object, SimpleObject};

use crate::domain::cursors::InboxCursor;
use crate::domain::pagination::{Cursor, PageArgs, RootList};
use crate::domain::rights::require_permission;
use crate::domain::users;
use crate::error::Result;
use crate::graphql::schema::connection::{Connection, connection};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::types::call_signaling::IceServer;
use crate::graphql::schema::types::notification::Notification;
use crate::graphql::schema::types::objects::User;
use crate::graphql::schema::types::user::Organization;
use crate::service;

/// A permission that a token grants in the whole organisation.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "users::Permission")]
pub enum Permission {
    /// `chat.view`: see and use chats.
    ChatView,
    /// `chat.create_group`: create groups and channels.
    ChatCreateGroup,
    /// `chat.manage_group`: change details, members and roles of a chat, if the member's role allows it.
    ChatManageGroup,
    /// `chat.delete`: delete chats, if the member's role allows it.
    ChatDelete,
    /// `chat.initiate_call`: start calls, if the member's role allows it.
    ChatInitiateCall,
    /// `chat.moderate`: act as a moderator in one's own chats, resolve reports, and edit the blocklist.
    ChatModerate,
    /// `support.agent`: reserved for support chats.
    SupportAgent,
    /// `audit.read`: reserved for the audit log.
    AuditRead,
    /// `organization.admin`: administer the organisation.
    OrganizationAdmin,
}

/// The viewer's unread totals.
/// Muted and archived chats are not counted.
#[derive(SimpleObject)]
pub struct UnreadTotals {
    /// The number of chats with unread messages, or marked as unread.
    chats: i64,
    /// The number of unread messages in all chats, counted up to 1,000 per chat.
    messages: i64,
    /// The number of unread messages that mention the viewer or everyone, counted up to 1,000 per chat.
    mentions: i64,
    /// The number of unread notifications, counted up to 1,000.
    notifications: i64,
    /// The number of threads with unread replies that the viewer follows, counted up to 1,000.
    threads: i64,
}

impl From<service::unread::UnreadTotals> for UnreadTotals {
    fn from(totals: service::unread::UnreadTotals) -> Self {
        let service::unread::UnreadTotals { chats, unread, notifications, threads } = totals;
        Self { chats, messages: unread.messages, mentions: unread.mentions, notifications, threads }
    }
}

/// The type `Viewer`.
pub struct Viewer(pub Arc<users::Viewer>);

/// The authenticated user.
#[Object]
impl Viewer {
    /// The user that the token belongs to.
    async fn user(&self, ctx: &Context<'_>) -> Result<User> {
        // The token contains everything about the user except the time at which they were last seen.
        match ctx.look_ahead().field("presence").exists() {
            true => User::load(ctx, self.0.id()).await,
            false => Ok(User(self.0.user.clone())),
        }
    }

    /// The organisation that the token belongs to.
    async fn organization(&self) -> Organization {
        Organization(self.0.organization().clone())
    }

    /// The permissions that the token grants: the server's default permissions if the token lists none.
    async fn permissions(&self) -> Vec<Permission> {
        self.0.permissions.iter().copied().map(Permission::from).collect()
    }

    /// The cursor with which `inboxFeed` continues after this response.
    /// All other fields of the query's response show the state at the cursor: pass it as `after`, and the feed delivers
    /// all changes since then. Chats, calls and notifications that changed in the 15 seconds before may be delivered
    /// again, in their current state. Fails with `FORBIDDEN` if the token lacks `chat.view`.
    async fn inbox_cursor(&self, ctx: &Context<'_>) -> Result<String> {
        require_permission(&self.0.permissions, users::Permission::ChatView)?;
        let (organization, user) = (self.0.organization().clone(), self.0.id().clone());
        let as_of = ctx.started_at().unwrap_or_else(|| ctx.app().clock.now());
        Ok(InboxCursor { epoch: ctx.app().epoch, organization, user, as_of }.encode())
    }

    /// The unread totals of all of the viewer's chats.
    /// Fails with `FORBIDDEN` if the token lacks `chat.view`.
    async fn unread(&self, ctx: &Context<'_>) -> Result<UnreadTotals> {
        service::unread::unread_totals(ctx.app(), &self.0).await.map(Into::into)
    }

    /// The STUN and TURN servers for calls.
    /// Empty if the server is configured without them. Each request returns new TURN credentials. Fails with
    /// `FORBIDDEN` if the token lacks `chat.view`, or lacks `chat.initiate_call` while the viewer is in no call.
    async fn ice_servers(&self, ctx: &Context<'_>) -> Result<Vec<IceServer>> {
        let servers = service::calls::ice_servers::for_viewer(ctx.app(), &self.0).await?;
        Ok(servers.into_iter().map(Into::into).collect())
    }

    /// The viewer's notifications from all chats, newest first.
    /// Fails with `FORBIDDEN` if the token lacks `chat.view`.
    async fn notifications(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Returns the first n notifications, 0 to 100. Defaults to 30.")] first: Option<i32>,
        #[graphql(desc = "Returns the notifications after this cursor.")] after: Option<String>,
        #[graphql(desc = "True returns only unread notifications. Defaults to false.")] unread_only: Option<bool>,
    ) -> Result<Connection<Notification>> {
        let args = PageArgs { first, after, ..PageArgs::default() };
        let unread_only = unread_only.unwrap_or_default();
        let page = service::notifications::page(ctx.app(), &self.0, unread_only, &args).await?;
        Ok(connection(page, |notification| (RootList::Notifications, notification.id.0).encode(), Notification))
    }
}
