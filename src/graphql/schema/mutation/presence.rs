use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use crate::error::Result;
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::mutation::parse_id;
use crate::graphql::schema::types::presence::{Presence, PresenceStatus};
use crate::service;

/// How the viewer is there.
#[derive(InputObject)]
struct SetPresenceInput {
    /// ONLINE takes back what was set before. The others are kept when the viewer's connections go, for
    /// 24 hours or until the server restarts.
    status: PresenceStatus,
    /// The chat that the viewer has before them, which they are in: told to its members while the viewer
    /// is there. None if left out.
    current_chat_id: Option<ID>,
}

/// How the viewer is there now.
#[derive(SimpleObject)]
struct SetPresencePayload {
    /// As others see it: one who is not connected stays OFFLINE.
    presence: Presence,
}

#[derive(Default)]
pub struct PresenceMutation;

#[Object]
impl PresenceMutation {
    /// Sets how the viewer is there, on all of their devices.
    async fn set_presence(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How the viewer is there.")] input: SetPresenceInput,
    ) -> Option<Result<SetPresencePayload>> {
        Some(set_presence(ctx, input).await)
    }
}

async fn set_presence(ctx: &Context<'_>, input: SetPresenceInput) -> Result<SetPresencePayload> {
    let viewer = ctx.viewer()?;
    let chat = input.current_chat_id.as_ref().map(|id| parse_id(id, "chat")).transpose()?;
    let now = service::presence::set(ctx.app(), viewer, input.status.into(), chat).await?;
    Ok(SetPresencePayload { presence: Presence(now) })
}
