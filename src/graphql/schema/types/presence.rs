//! The presence of users.

use async_graphql::{Context, Enum, ID, Object};

use crate::domain::presence;
use crate::error::Result;
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::scalars::DateTime;
use crate::graphql::schema::types::objects::{Presence, User};

/// The availability of a user.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "presence::PresenceStatus")]
pub enum PresenceStatus {
    /// Connected by at least one WebSocket or event stream.
    Online,
    /// Connected, and set to away by the user.
    Away,
    /// Connected, and set to busy by the user.
    Busy,
    /// Not connected, or set to invisible by the user.
    Offline,
}

/// The presence of a user.
#[Object]
impl Presence {
    /// The user.
    async fn user(&self, ctx: &Context<'_>) -> Result<User> {
        User::load(ctx, &self.0.user).await
    }

    /// The availability of the user.
    async fn status(&self) -> PresenceStatus {
        self.0.status.into()
    }

    /// The time at which the user's last connection ended or the user became invisible.
    /// Null while the user is online, and if the user was never online.
    async fn last_seen_at(&self) -> Option<DateTime> {
        self.0.last_seen_at.map(DateTime)
    }

    /// The id of the chat that the user has open, as set by `setPresence`.
    /// Null if there is none, or if the viewer is not a member of that chat.
    async fn current_chat_id(&self, ctx: &Context<'_>) -> Option<Result<ID>> {
        let chat = self.0.current_chat?;
        let access = match ctx.viewer() {
            Ok(_) => ctx.loaders().load_one(chat).await,
            Err(error) => Err(error),
        };
        let is_member = access.map(|access| access.is_some_and(|access| access.active_membership().is_some()));
        is_member.map(|is_member| is_member.then(|| chat.to_string().into())).transpose()
    }
}
