use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use super::super::context::ContextExt;
use super::super::types::{Chat, ChatMember, ChatRole};
use super::{existing, people};
use crate::domain::members::Role;
use crate::error::{Error, Result};
use crate::service;

/// Whom to bring in.
#[derive(InputObject)]
struct AddMembersInput {
    /// The chat.
    chat_id: ID,
    /// Who, 1 to 100 people; those who are in already stay as they are.
    user_ids: Vec<ID>,
    /// In which role; MEMBER where left out. More needs the right to change roles.
    role: Option<ChatRole>,
}

/// Whom to take out.
#[derive(InputObject)]
struct RemoveMemberInput {
    /// The chat.
    chat_id: ID,
    /// Who; somebody whom the viewer outranks.
    user_id: ID,
}

/// Which chat to leave.
#[derive(InputObject)]
struct LeaveChatInput {
    /// The chat. A last owner's place goes to the highest of the others.
    chat_id: ID,
}

/// Which channel to join.
#[derive(InputObject)]
struct JoinChannelInput {
    /// The channel.
    chat_id: ID,
}

/// What was read.
#[derive(InputObject)]
struct MarkReadInput {
    /// The chat.
    chat_id: ID,
    /// Up to and including; the newest message if left out. An earlier one than before changes
    /// nothing.
    up_to_message_id: Option<ID>,
}

/// The chat, and those who were to be in.
#[derive(SimpleObject)]
struct MembersPayload {
    /// The chat.
    chat: Chat,
    /// Their memberships, by the id of the person.
    members: Vec<ChatMember>,
}

/// A membership after a change.
#[derive(SimpleObject)]
struct MemberPayload {
    /// The membership.
    member: ChatMember,
}

/// Who is no longer in.
#[derive(SimpleObject)]
struct RemoveMemberPayload {
    /// The chat; null for one who has left it.
    chat: Option<Chat>,
    /// Who is no longer in.
    removed_user_id: ID,
}

#[derive(Default)]
pub struct MemberMutation;

#[Object]
impl MemberMutation {
    /// Brings people into a chat.
    async fn add_members(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whom to bring in.")] input: AddMembersInput,
    ) -> Option<Result<MembersPayload>> {
        Some(add(ctx, input).await)
    }

    /// Takes somebody out of a chat. Their feeds of it end.
    async fn remove_member(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whom to take out.")] input: RemoveMemberInput,
    ) -> Option<Result<RemoveMemberPayload>> {
        Some(remove(ctx, input).await)
    }

    /// Leaves a chat. A direct chat can't be left.
    async fn leave_chat(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which chat.")] input: LeaveChatInput,
    ) -> Option<Result<RemoveMemberPayload>> {
        Some(leave(ctx, input).await)
    }

    /// Comes into a channel of the organisation.
    async fn join_channel(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which channel.")] input: JoinChannelInput,
    ) -> Option<Result<MemberPayload>> {
        Some(join(ctx, input).await)
    }

    /// Moves the viewer's read position forward.
    async fn mark_read(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What was read.")] input: MarkReadInput,
    ) -> Option<Result<MemberPayload>> {
        Some(mark_read(ctx, input).await)
    }
}

async fn add(ctx: &Context<'_>, input: AddMembersInput) -> Result<MembersPayload> {
    let viewer = ctx.viewer()?;
    let chat = existing(&input.chat_id, "chat")?;
    let role: Role = input.role.map_or(Role::Member, Into::into);
    if role == Role::Owner {
        return Err(Error::bad_input("role", "must be less than OWNER"));
    }
    let (chat, members) = service::members::add(ctx.app(), viewer, chat, people(&input.user_ids)?, role).await?;
    Ok(MembersPayload { chat: Chat(chat), members: members.into_iter().map(ChatMember).collect() })
}

async fn remove(ctx: &Context<'_>, input: RemoveMemberInput) -> Result<RemoveMemberPayload> {
    let viewer = ctx.viewer()?;
    let chat = existing(&input.chat_id, "chat")?;
    let user = existing(&input.user_id, "member")?;
    let chat = service::members::remove(ctx.app(), viewer, chat, user).await?;
    Ok(RemoveMemberPayload { chat: Some(Chat(chat)), removed_user_id: input.user_id })
}

async fn leave(ctx: &Context<'_>, input: LeaveChatInput) -> Result<RemoveMemberPayload> {
    let viewer = ctx.viewer()?;
    service::members::leave(ctx.app(), viewer, existing(&input.chat_id, "chat")?).await?;
    Ok(RemoveMemberPayload { chat: None, removed_user_id: viewer.id().to_string().into() })
}

async fn join(ctx: &Context<'_>, input: JoinChannelInput) -> Result<MemberPayload> {
    let viewer = ctx.viewer()?;
    let member = service::members::join(ctx.app(), viewer, existing(&input.chat_id, "chat")?).await?;
    Ok(MemberPayload { member: ChatMember(member) })
}

async fn mark_read(ctx: &Context<'_>, input: MarkReadInput) -> Result<MemberPayload> {
    let viewer = ctx.viewer()?;
    let chat = existing(&input.chat_id, "chat")?;
    let up_to = input.up_to_message_id.as_ref().map(|id| existing(id, "message")).transpose()?;
    let member = service::members::mark_read(ctx.app(), viewer, chat, up_to).await?;
    Ok(MemberPayload { member: ChatMember(member) })
}
