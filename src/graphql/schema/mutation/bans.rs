//! Mutations of bans. `removeMember` bans a user; it is among the mutations of members.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use crate::error::Result;
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::mutation::parse_id;
use crate::graphql::schema::types::objects::Chat;
use crate::service;

/// The input of `unbanMember`.
#[derive(InputObject)]
struct UnbanMemberInput {
    /// The id of the chat.
    chat_id: ID,
    /// The id of the banned user.
    user_id: ID,
}

/// The result of `unbanMember`.
#[derive(SimpleObject)]
struct UnbanMemberPayload {
    /// The chat.
    chat: Chat,
    /// The id of the user who is no longer banned.
    unbanned_user_id: ID,
}

/// The mutations of this module.
#[derive(Default)]
pub struct BanMutation;

#[Object]
impl BanMutation {
    /// Ends the ban of a user from a chat.
    /// The user does not become a member. Changes nothing if the user is not banned. Fails with `FORBIDDEN` if the
    /// viewer may not do `REMOVE_MEMBERS`.
    async fn unban_member(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `unbanMember`.")] input: UnbanMemberInput,
    ) -> Option<Result<UnbanMemberPayload>> {
        Some(unban(ctx, input).await)
    }
}

async fn unban(ctx: &Context<'_>, input: UnbanMemberInput) -> Result<UnbanMemberPayload> {
    let viewer = ctx.viewer()?;
    let (chat, user) = (parse_id(&input.chat_id, "chat")?, parse_id(&input.user_id, "user")?);
    let chat = service::bans::unban(ctx.app(), viewer, chat, user).await?;
    Ok(UnbanMemberPayload { chat: Chat(chat), unbanned_user_id: input.user_id })
}
