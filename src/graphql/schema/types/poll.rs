use async_graphql::{Context, ID, Object};

use crate::domain::ids::{MessageId, OptionId};
use crate::domain::message_queries::VotersQuery;
use crate::domain::polls;
use crate::error::Result;
use crate::graphql::schema::connection::{cost, limit};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::loaders::{OwnVotesKey, PollResultsKey};
use crate::graphql::schema::scalars::DateTime;
use crate::graphql::schema::types::user::User;

pub struct Poll {
    pub message: MessageId,
    pub poll: polls::Poll,
}

/// A question with options to choose from.
#[Object]
impl Poll {
    /// What is asked.
    async fn question(&self) -> &str {
        &self.poll.question
    }

    /// What may be chosen, in the order of the one who asks; 2 to 20.
    #[graphql(complexity = "1 + 4 * child_complexity")]
    async fn options(&self) -> Vec<PollOption> {
        let option = |(place, text): (u8, &String)| PollOption {
            id: OptionId { message: self.message, index: place },
            text: text.clone(),
            anonymous: self.poll.anonymous,
        };
        (0..).zip(&self.poll.options).map(option).collect()
    }

    /// Whether a person may choose several options.
    async fn multiple_choice(&self) -> bool {
        self.poll.multiple_choice
    }

    /// Whether nobody learns who chose what.
    async fn anonymous(&self) -> bool {
        self.poll.anonymous
    }

    /// When it closes by itself.
    async fn closes_at(&self) -> Option<DateTime> {
        self.poll.closes_at.map(DateTime)
    }

    /// Whether nobody can vote any more: closed by hand, or by its time.
    async fn closed(&self, ctx: &Context<'_>) -> bool {
        self.poll.is_closed(ctx.app().clock.now())
    }

    /// How many people voted, each counted once.
    async fn voter_count(&self, ctx: &Context<'_>) -> Result<i64> {
        let tally = ctx.loaders().load_one(PollResultsKey(self.message)).await?;
        Ok(tally.map_or(0, |tally| tally.voter_count))
    }
}

pub struct PollOption {
    id: OptionId,
    text: String,
    anonymous: bool,
}

/// One option of a poll.
#[Object]
impl PollOption {
    /// Opaque; of this poll alone.
    async fn id(&self) -> ID {
        self.id.to_string().into()
    }

    /// What is chosen with it.
    async fn text(&self) -> &str {
        &self.text
    }

    /// How many people chose it.
    async fn vote_count(&self, ctx: &Context<'_>) -> Result<i64> {
        let tally = ctx.loaders().load_one(PollResultsKey(self.id.message)).await?.unwrap_or_default();
        Ok(tally.votes.get(usize::from(self.id.index)).copied().unwrap_or_default())
    }

    /// Whether the viewer chose it.
    async fn viewer_voted(&self, ctx: &Context<'_>) -> Result<bool> {
        ctx.viewer()?;
        let choices = ctx.loaders().load_one(OwnVotesKey(self.id.message)).await?;
        Ok(choices.is_some_and(|choices| choices.contains(&self.id.index)))
    }

    /// Who chose it, the earliest first; nobody in an anonymous poll.
    #[graphql(complexity = "cost(first, None, child_complexity)")]
    async fn voters(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many, 0 to 100; 30 where left out.")] first: Option<i32>,
    ) -> Result<Vec<User>> {
        let limit = limit(first)?;
        if self.anonymous {
            return Ok(Vec::new());
        }
        let ids = ctx.loaders().load_one(VotersQuery { option: self.id, limit }).await?.unwrap_or_default();
        User::load_all(ctx, ids).await
    }
}
