//! The mutation of the viewer's presence.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use crate::error::Result;
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::mutation::parse_id;
use crate::graphql::schema::types::objects::Presence;
use crate::graphql::schema::types::presence::PresenceStatus;
use crate::service;

/// The input of `setPresence`.
#[derive(InputObject)]
struct SetPresenceInput {
    /// The status to show to other users.
    /// `ONLINE` removes the status that was set before. The other values are kept for 24 hours after the viewer
    /// disconnects, or until the server restarts.
    status: PresenceStatus,
    /// The id of the chat that the viewer has open, of which they must be a member.
    /// Only members of that chat see it. Defaults to none. It is cleared when the viewer disconnects.
    current_chat_id: Option<ID>,
}

/// The result of `setPresence`.
#[derive(SimpleObject)]
struct SetPresencePayload {
    /// The viewer's presence as other users see it.
    /// Stays `OFFLINE` while the viewer is not connected.
    presence: Presence,
}

/// The mutations of this module.
#[derive(Default)]
pub struct PresenceMutation;

#[Object]
impl PresenceMutation {
    /// Sets the viewer's presence on all of their devices.
    /// Fails with `NOT_FOUND` or `FORBIDDEN` if the viewer is not a member of the current chat.
    async fn set_presence(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `setPresence`.")] input: SetPresenceInput,
    ) -> Option<Result<SetPresencePayload>> {
        Some(set_presence(ctx, input).await)
    }
}

async fn set_presence(ctx: &Context<'_>, input: SetPresenceInput) -> Result<SetPresencePayload> {
    let viewer = ctx.viewer()?;
    let current_chat = input.current_chat_id.as_ref().map(|id| parse_id(id, "chat")).transpose()?;
    let presence = service::presence::set(ctx.app(), viewer, input.status.into(), current_chat).await?;
    Ok(SetPresencePayload { presence: Presence(presence) })
}
