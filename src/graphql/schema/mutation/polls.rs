use async_graphql::{Context, ID, InputObject, Object};

use crate::domain::ids::OptionId;
use crate::error::{Error, Result};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::mutation::messages::MessagePayload;
use crate::graphql::schema::mutation::parse_id;
use crate::graphql::schema::types::message::Message;
use crate::service;

/// A choice in a poll.
#[derive(InputObject)]
struct VotePollInput {
    /// The message with the poll.
    message_id: ID,
    /// All that the viewer chooses, in place of what they chose before: one option, or several where
    /// the poll allows it; none takes the choice back.
    option_ids: Vec<ID>,
}

/// A poll to close.
#[derive(InputObject)]
struct ClosePollInput {
    /// The message with the poll: the viewer's own, or one that they may delete.
    message_id: ID,
}

#[derive(Default)]
pub struct PollMutation;

#[Object]
impl PollMutation {
    /// Votes in a poll that is not closed.
    async fn vote_poll(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to choose.")] input: VotePollInput,
    ) -> Option<Result<MessagePayload>> {
        Some(vote(ctx, input).await)
    }

    /// Closes a poll: nobody can vote any more.
    async fn close_poll(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which poll.")] input: ClosePollInput,
    ) -> Option<Result<MessagePayload>> {
        Some(close(ctx, input).await)
    }
}

async fn vote(ctx: &Context<'_>, input: VotePollInput) -> Result<MessagePayload> {
    let viewer = ctx.viewer()?;
    let id = parse_id(&input.message_id, "message")?;
    let option =
        |id: &ID| id.parse::<OptionId>().map_err(|_| Error::bad_input("optionIds", "must be options of this poll"));
    let options = input.option_ids.iter().map(option).collect::<Result<Vec<_>>>()?;
    let message = service::polls::vote(ctx.app(), viewer, id, &options).await?;
    Ok(MessagePayload { message: Message(message) })
}

async fn close(ctx: &Context<'_>, input: ClosePollInput) -> Result<MessagePayload> {
    let id = parse_id(&input.message_id, "message")?;
    let message = service::polls::close(ctx.app(), ctx.viewer()?, id).await?;
    Ok(MessagePayload { message: Message(message) })
}
