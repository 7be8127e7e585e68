use async_graphql::{Context, ID, InputObject, Object};

use crate::error::Result;
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::mutation::messages::MessagePayload;
use crate::graphql::schema::mutation::parse_id;
use crate::graphql::schema::types::message::Message;
use crate::service;

/// A reaction.
#[derive(InputObject)]
struct ReactionInput {
    /// To which message.
    message_id: ID,
    /// One emoji of the Unicode standard; at most 20 different ones are on a message.
    emoji: String,
}

#[derive(Default)]
pub struct ReactionMutation;

#[Object]
impl ReactionMutation {
    /// Gives an emoji to a message; once is enough.
    async fn add_reaction(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The reaction.")] input: ReactionInput,
    ) -> Option<Result<MessagePayload>> {
        Some(set_reaction(ctx, input, true).await)
    }

    /// Takes the viewer's emoji back; what was not given changes nothing.
    async fn remove_reaction(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The reaction.")] input: ReactionInput,
    ) -> Option<Result<MessagePayload>> {
        Some(set_reaction(ctx, input, false).await)
    }
}

async fn set_reaction(ctx: &Context<'_>, input: ReactionInput, on: bool) -> Result<MessagePayload> {
    let id = parse_id(&input.message_id, "message")?;
    let message = service::reactions::set(ctx.app(), ctx.viewer()?, id, &input.emoji, on).await?;
    Ok(MessagePayload { message: Message(message) })
}
