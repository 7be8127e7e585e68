use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use crate::error::Result;
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::mutation::parse_id;
use crate::graphql::schema::scalars::DateTime;
use crate::service;

/// Whether the viewer is typing.
#[derive(InputObject)]
struct SetTypingInput {
    /// The chat.
    chat_id: ID,
    /// True from now on for six seconds: say it again while it lasts. False ends it at once, as sending
    /// does.
    typing: bool,
}

/// How long the viewer is typing.
#[derive(SimpleObject)]
struct SetTypingPayload {
    /// When it ends by itself; null where it has ended, and where the chat has too many members for it.
    expires_at: Option<DateTime>,
}

#[derive(Default)]
pub struct TypingMutation;

#[Object]
impl TypingMutation {
    /// Tells the members of a chat that the viewer is typing, who has to be allowed to post there.
    async fn set_typing(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whether the viewer is typing.")] input: SetTypingInput,
    ) -> Option<Result<SetTypingPayload>> {
        Some(set_typing(ctx, input).await)
    }
}

async fn set_typing(ctx: &Context<'_>, input: SetTypingInput) -> Result<SetTypingPayload> {
    let viewer = ctx.viewer()?;
    let chat = parse_id(&input.chat_id, "chat")?;
    let until = service::typing::set(ctx.app(), viewer, chat, input.typing).await?;
    Ok(SetTypingPayload { expires_at: until.map(DateTime) })
}
