//! Mutations of polls.

use async_graphql::{Context, ID, InputObject, Object};

use crate::domain::ids::OptionId;
use crate::error::{Error, Result};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::mutation::messages::MessagePayload;
use crate::graphql::schema::mutation::parse_id;
use crate::graphql::schema::types::objects::Message;
use crate::service;

/// The input of `votePoll`.
#[derive(InputObject)]
struct VotePollInput {
    /// The id of the message with the poll.
    message_id: ID,
    /// The ids of all options that the viewer chooses.
    /// They replace an earlier choice; an empty list withdraws it. More than one option requires a poll with multiple
    /// choice.
    option_ids: Vec<ID>,
}

/// The input of `closePoll`.
#[derive(InputObject)]
struct ClosePollInput {
    /// The id of the message with the poll.
    message_id: ID,
}

/// The mutations of this module.
#[derive(Default)]
pub struct PollMutation;

#[Object]
impl PollMutation {
    /// Sets the viewer's choice in a poll.
    /// Fails with `FORBIDDEN` if the poll is closed, the chat is archived, or the viewer is silenced.
    async fn vote_poll(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `votePoll`.")] input: VotePollInput,
    ) -> Option<Result<MessagePayload>> {
        Some(vote(ctx, input).await)
    }

    /// Closes a poll permanently.
    /// Closing a closed poll changes nothing. Fails with `FORBIDDEN` if the viewer neither sent the poll nor may do
    /// `DELETE_OTHERS_MESSAGES`, if the chat is archived, or if the viewer is silenced.
    async fn close_poll(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `closePoll`.")] input: ClosePollInput,
    ) -> Option<Result<MessagePayload>> {
        Some(close(ctx, input).await)
    }
}

async fn vote(ctx: &Context<'_>, input: VotePollInput) -> Result<MessagePayload> {
    let viewer = ctx.viewer()?;
    let message = parse_id(&input.message_id, "message")?;
    let parse_option =
        |id: &ID| id.parse::<OptionId>().map_err(|_| Error::bad_input("optionIds", "must be options of this poll"));
    let options = input.option_ids.iter().map(parse_option).collect::<Result<Vec<_>>>()?;
    let message = service::polls::vote(ctx.app(), viewer, message, &options).await?;
    Ok(MessagePayload { message: Message(message) })
}

async fn close(ctx: &Context<'_>, input: ClosePollInput) -> Result<MessagePayload> {
    let message = parse_id(&input.message_id, "message")?;
    let message = service::polls::close(ctx.app(), ctx.viewer()?, message).await?;
    Ok(MessagePayload { message: Message(message) })
}
