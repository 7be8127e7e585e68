//! Polls and their options.

use async_graphql::{Context, ID, Object};

use crate::domain::ids::{MessageId, OptionId};
use crate::domain::message_queries::VotersQuery;
use crate::domain::polls;
use crate::error::Result;
use crate::graphql::schema::connection::limit;
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::loaders::{OwnVotesKey, PollResultsKey};
use crate::graphql::schema::scalars::{DateTime, Text};
use crate::graphql::schema::types::objects::User;

/// The type `Poll`: the poll of one message.
pub struct Poll {
    pub message: MessageId,
    pub poll: polls::Poll,
}

/// A poll in a message.
#[Object]
impl Poll {
    /// The question.
    async fn question(&self) -> Text<&str> {
        Text(&self.poll.question)
    }

    /// The 2 to 20 options, in the order that the sender chose.
    async fn options(&self) -> Vec<PollOption> {
        let option = |(index, text): (u8, &String)| PollOption {
            id: OptionId { message: self.message, index },
            text: text.clone(),
            anonymous: self.poll.anonymous,
        };
        (0..).zip(&self.poll.options).map(option).collect()
    }

    /// True if a user may choose several options.
    async fn multiple_choice(&self) -> bool {
        self.poll.multiple_choice
    }

    /// True if the poll hides which user chose which option.
    async fn anonymous(&self) -> bool {
        self.poll.anonymous
    }

    /// The time at which the poll closes by itself.
    /// Null if there is none.
    async fn closes_at(&self) -> Option<DateTime> {
        self.poll.closes_at.map(DateTime)
    }

    /// True if the poll no longer accepts votes, because it was closed or `closesAt` has passed.
    async fn closed(&self, ctx: &Context<'_>) -> bool {
        self.poll.is_closed(ctx.app().clock.now())
    }

    /// The number of users who voted, each counted once.
    async fn voter_count(&self, ctx: &Context<'_>) -> Result<i64> {
        let results = ctx.loaders().load_one(PollResultsKey(self.message)).await?;
        Ok(results.map_or(0, |results| results.voter_count))
    }
}

/// The type `PollOption`.
pub struct PollOption {
    id: OptionId,
    text: String,
    anonymous: bool,
}

/// An option of a poll.
#[Object]
impl PollOption {
    /// The id of the option, for `votePoll`.
    async fn id(&self) -> ID {
        self.id.to_string().into()
    }

    /// The text of the option.
    async fn text(&self) -> Text<&str> {
        Text(&self.text)
    }

    /// The number of users who chose the option.
    async fn vote_count(&self, ctx: &Context<'_>) -> Result<i64> {
        let results = ctx.loaders().load_one(PollResultsKey(self.id.message)).await?.unwrap_or_default();
        Ok(results.votes.get(usize::from(self.id.index)).copied().unwrap_or_default())
    }

    /// True if the viewer chose the option.
    async fn viewer_voted(&self, ctx: &Context<'_>) -> Result<bool> {
        ctx.viewer()?;
        let votes = ctx.loaders().load_one(OwnVotesKey(self.id.message)).await?;
        Ok(votes.is_some_and(|votes| votes.contains(&self.id.index)))
    }

    /// The users who chose the option, earliest vote first.
    /// Empty in an anonymous poll.
    async fn voters(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Returns the first n users, 0 to 100. Defaults to 30.")] first: Option<i32>,
    ) -> Result<Vec<User>> {
        let limit = limit(first)?;
        if self.anonymous {
            return Ok(Vec::new());
        }
        let ids = ctx.loaders().load_one(VotersQuery { option: self.id, limit }).await?.unwrap_or_default();
        User::load_all(ctx, ids).await
    }
}
