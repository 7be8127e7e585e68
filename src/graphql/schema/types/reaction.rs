use async_graphql::{Context, Object};

use crate::domain::ids::MessageId;
use crate::domain::message_queries::ReactorsQuery;
use crate::domain::reactions::ReactionCount;
use crate::error::Result;
use crate::graphql::schema::connection::{cost, limit};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::loaders::OwnReactionsKey;
use crate::graphql::schema::types::user::User;

pub struct ReactionGroup {
    pub message: MessageId,
    pub reaction: ReactionCount,
}

/// One emoji on a message, and who gave it.
#[Object]
impl ReactionGroup {
    /// One emoji of the Unicode standard, fully qualified.
    async fn emoji(&self) -> &str {
        &self.reaction.emoji
    }

    /// How many people gave it.
    async fn count(&self) -> i64 {
        self.reaction.count
    }

    /// Who gave it, the earliest first.
    #[graphql(complexity = "cost(first, None, child_complexity)")]
    async fn users(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many, 0 to 100; 30 where left out.")] first: Option<i32>,
    ) -> Result<Vec<User>> {
        let limit = limit(first)?;
        let query = ReactorsQuery { message: self.message, emoji: self.reaction.emoji.clone(), limit };
        let ids = ctx.loaders().load_one(query).await?.unwrap_or_default();
        User::load_all(ctx, ids).await
    }

    /// Whether the viewer gave it.
    async fn viewer_reacted(&self, ctx: &Context<'_>) -> Result<bool> {
        ctx.viewer()?;
        let own = ctx.loaders().load_one(OwnReactionsKey(self.message)).await?;
        Ok(own.is_some_and(|own| own.contains(&self.reaction.emoji)))
    }
}
