//! Reactions to messages.

use async_graphql::{Context, Object};

use crate::domain::ids::MessageId;
use crate::domain::message_queries::ReactorsQuery;
use crate::domain::reactions::ReactionCount;
use crate::error::Result;
use crate::graphql::schema::connection::limit;
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::loaders::OwnReactionsKey;
use crate::graphql::schema::types::objects::User;

/// The type `ReactionGroup`.
pub struct ReactionGroup {
    pub message: MessageId,
    pub reaction: ReactionCount,
}

/// All reactions to a message with one emoji.
#[Object]
impl ReactionGroup {
    /// One emoji of the Unicode standard in its fully qualified form.
    async fn emoji(&self) -> &str {
        &self.reaction.emoji
    }

    /// The number of users who reacted with the emoji.
    async fn count(&self) -> i64 {
        self.reaction.count
    }

    /// The users who reacted with the emoji, earliest first.
    async fn users(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Returns the first n users, 0 to 100. Defaults to 30.")] first: Option<i32>,
    ) -> Result<Vec<User>> {
        let limit = limit(first)?;
        let query = ReactorsQuery { message: self.message, emoji: self.reaction.emoji.clone(), limit };
        let ids = ctx.loaders().load_one(query).await?.unwrap_or_default();
        User::load_all(ctx, ids).await
    }

    /// True if the viewer reacted with the emoji.
    async fn viewer_reacted(&self, ctx: &Context<'_>) -> Result<bool> {
        ctx.viewer()?;
        let emoji = ctx.loaders().load_one(OwnReactionsKey(self.message)).await?;
        Ok(emoji.is_some_and(|emoji| emoji.contains(&self.reaction.emoji)))
    }
}
