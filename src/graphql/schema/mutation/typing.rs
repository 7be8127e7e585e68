//! The mutation of the typing indicator.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use crate::error::Result;
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::mutation::parse_id;
use crate::graphql::schema::scalars::DateTime;
use crate::service;

/// The input of `setTyping`.
#[derive(InputObject)]
struct SetTypingInput {
    /// The id of the chat.
    chat_id: ID,
    /// True shows the viewer as typing for six seconds: repeat it while they type.
    /// False ends it at once, as sending a message does.
    typing: bool,
}

/// The result of `setTyping`.
#[derive(SimpleObject)]
struct SetTypingPayload {
    /// The time at which the typing indicator ends by itself.
    /// Null if it has ended, or if the chat has too many members for typing indicators (more than 256 by default).
    expires_at: Option<DateTime>,
}

/// The mutations of this module.
#[derive(Default)]
pub struct TypingMutation;

#[Object]
impl TypingMutation {
    /// Shows the viewer as typing to the members of a chat, or ends it.
    /// Fails with `FORBIDDEN` if the viewer may not do `POST` in the chat, and with `RATE_LIMITED` in slow mode. Ending
    /// it only requires membership.
    async fn set_typing(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `setTyping`.")] input: SetTypingInput,
    ) -> Option<Result<SetTypingPayload>> {
        Some(set_typing(ctx, input).await)
    }
}

async fn set_typing(ctx: &Context<'_>, input: SetTypingInput) -> Result<SetTypingPayload> {
    let viewer = ctx.viewer()?;
    let chat = parse_id(&input.chat_id, "chat")?;
    let expires_at = service::typing::set(ctx.app(), viewer, chat, input.typing).await?;
    Ok(SetTypingPayload { expires_at: expires_at.map(DateTime) })
}
