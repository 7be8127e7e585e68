use async_graphql::{Context, Object};

use super::super::context::ContextExt;
use super::super::loaders::OwnReactionsTo;
use super::User;
use crate::domain::ids::MessageId;
use crate::domain::pages::{DEFAULT_PAGE, MAX_PAGE};
use crate::domain::reactions::ReactionCount;
use crate::error::{Error, Result};
use crate::storage::reactions::ReactorsQuery;

pub struct ReactionGroup {
    pub message: MessageId,
    pub given: ReactionCount,
}

/// One emoji on a message, and who gave it.
#[Object]
impl ReactionGroup {
    /// One emoji of the Unicode standard, fully qualified.
    async fn emoji(&self) -> &str {
        &self.given.emoji
    }

    /// How many people gave it.
    async fn count(&self) -> i64 {
        self.given.count
    }

    /// Who gave it, the earliest first.
    #[graphql(complexity = "super::super::connection::cost(first, None, child_complexity)")]
    async fn users(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many, 0 to 100; 30 where left out.")] first: Option<i32>,
    ) -> Result<Vec<User>> {
        let limit = usize::try_from(first.unwrap_or(DEFAULT_PAGE as i32)).ok().filter(|limit| *limit <= MAX_PAGE);
        let limit = limit.ok_or_else(|| Error::bad_input("first", format!("must be from 0 to {MAX_PAGE}")))?;
        let query = ReactorsQuery { message: self.message, emoji: self.given.emoji.clone(), limit };
        let ids = ctx.loaders().load_one(query).await?.unwrap_or_default();
        let mut users = ctx.loaders().load_many(ids.clone()).await?;
        Ok(ids.into_iter().filter_map(|id| users.remove(&id)).map(User).collect())
    }

    /// Whether the viewer gave it.
    async fn viewer_reacted(&self, ctx: &Context<'_>) -> Result<bool> {
        ctx.viewer()?;
        let own = ctx.loaders().load_one(OwnReactionsTo(self.message)).await?;
        Ok(own.is_some_and(|own| own.contains(&self.given.emoji)))
    }
}
