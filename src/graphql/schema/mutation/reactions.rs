//! Mutations of reactions.

use async_graphql::{Context, ID, InputObject, Object};

use crate::error::Result;
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::mutation::messages::MessagePayload;
use crate::graphql::schema::mutation::parse_id;
use crate::graphql::schema::types::objects::Message;
use crate::service;

/// The input of `addReaction` and `removeReaction`.
#[derive(InputObject)]
struct ReactionInput {
    /// The id of the message.
    message_id: ID,
    /// One emoji of the Unicode standard.
    /// A message has at most 20 different emoji.
    emoji: String,
}

/// The mutations of this module.
#[derive(Default)]
pub struct ReactionMutation;

#[Object]
impl ReactionMutation {
    /// Adds a reaction of the viewer to a message.
    /// Adding it again changes nothing. Fails with `FORBIDDEN` if the chat is archived, the viewer is silenced, or the
    /// message is deleted or a system message.
    async fn add_reaction(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `addReaction`.")] input: ReactionInput,
    ) -> Option<Result<MessagePayload>> {
        Some(set_reaction(ctx, input, true).await)
    }

    /// Removes a reaction of the viewer from a message.
    /// Removing it again changes nothing. Fails with `FORBIDDEN` in the same cases as `addReaction`.
    async fn remove_reaction(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `removeReaction`.")] input: ReactionInput,
    ) -> Option<Result<MessagePayload>> {
        Some(set_reaction(ctx, input, false).await)
    }
}

async fn set_reaction(ctx: &Context<'_>, input: ReactionInput, present: bool) -> Result<MessagePayload> {
    let message = parse_id(&input.message_id, "message")?;
    let message = service::reactions::set(ctx.app(), ctx.viewer()?, message, &input.emoji, present).await?;
    Ok(MessagePayload { message: Message(message) })
}
