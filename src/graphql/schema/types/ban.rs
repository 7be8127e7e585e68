//! Bans of users from chats.

use async_graphql::{Context, Object};

use crate::domain::bans;
use crate::error::Result;
use crate::graphql::schema::scalars::{DateTime, Text};
use crate::graphql::schema::types::objects::User;

/// The type `ChatBan`.
pub struct ChatBan(pub bans::Ban);

/// A ban of a user from a chat.
/// The user cannot join the chat, and only users who may ban can add them.
#[Object]
impl ChatBan {
    /// The banned user.
    async fn user(&self, ctx: &Context<'_>) -> Result<User> {
        User::load(ctx, &self.0.user).await
    }

    /// The reason that was given.
    /// Null if none was given.
    async fn reason(&self) -> Option<Text<&str>> {
        self.0.reason.as_deref().map(Text)
    }

    /// The user who banned the user.
    /// Null if unknown.
    async fn by(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        Some(User::load(ctx, &self.0.banned_by).await)
    }

    /// The time of the ban.
    async fn at(&self) -> DateTime {
        DateTime(self.0.banned_at)
    }
}
