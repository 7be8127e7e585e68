//! Mutations of the viewer's read and delivered positions.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use crate::domain::ids::MessageId;
use crate::error::{Error, Result};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::mutation::members::MemberPayload;
use crate::graphql::schema::mutation::parse_id;
use crate::graphql::schema::types::objects::ChatMember;
use crate::service;

/// The input of `markRead`.
#[derive(InputObject)]
struct MarkReadInput {
    /// The id of the chat.
    chat_id: ID,
    /// The id of the last message that was read.
    /// Defaults to the newest message. A reply that is only in a thread stands for the last message of the chat before
    /// it. A message before the read position does not move it, but still removes the mark
    /// of `markUnread`.
    up_to_message_id: Option<ID>,
    /// True hides the viewer's read position in this chat from all other members.
    /// The position stays hidden until the next `markRead` without this field. Defaults to false.
    private: Option<bool>,
}

/// The input of `markUnread`.
#[derive(InputObject)]
struct MarkUnreadInput {
    /// The id of the chat.
    chat_id: ID,
    /// The id of the message from which on all messages become unread.
    /// By default, only the chat is marked.
    from_message_id: Option<ID>,
}

/// The input of `markDelivered`.
#[derive(InputObject)]
struct MarkDeliveredInput {
    /// The newest delivered message of each chat, 1 to 100.
    up_to: Vec<DeliveredUpTo>,
}

/// The newest delivered message of one chat.
#[derive(InputObject)]
struct DeliveredUpTo {
    /// The id of the chat.
    chat_id: ID,
    /// The id of the newest delivered message.
    /// A message before the delivered position changes nothing.
    message_id: ID,
}

/// The result of `markDelivered`.
#[derive(SimpleObject)]
struct MarkDeliveredPayload {
    /// The viewer's membership in each of the chats.
    members: Vec<ChatMember>,
}

/// The mutations of this module.
#[derive(Default)]
pub struct ReceiptMutation;

#[Object]
impl ReceiptMutation {
    /// Moves the viewer's read position in a chat forward.
    /// The notifications of the read messages become read too, except those of replies that are only in threads, which
    /// `markThreadRead` reads. Fails with `FORBIDDEN` if the viewer is not a member.
    async fn mark_read(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `markRead`.")] input: MarkReadInput,
    ) -> Option<Result<MemberPayload>> {
        Some(mark_read(ctx, input).await)
    }

    /// Marks a chat as unread for the viewer and, optionally, moves their read position back.
    /// Fails with `FORBIDDEN` if the viewer is not a member.
    async fn mark_unread(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `markUnread`.")] input: MarkUnreadInput,
    ) -> Option<Result<MemberPayload>> {
        Some(mark_unread(ctx, input).await)
    }

    /// Moves the viewer's delivered positions forward, in all of the chats or in none.
    /// Fails with `NOT_FOUND` if one of the messages does not exist for the viewer.
    async fn mark_delivered(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `markDelivered`.")] input: MarkDeliveredInput,
    ) -> Option<Result<MarkDeliveredPayload>> {
        Some(mark_delivered(ctx, input).await)
    }
}

async fn mark_read(ctx: &Context<'_>, input: MarkReadInput) -> Result<MemberPayload> {
    let viewer = ctx.viewer()?;
    let chat = parse_id(&input.chat_id, "chat")?;
    let up_to = input.up_to_message_id.as_ref().map(|id| parse_id(id, "message")).transpose()?;
    let private = input.private.unwrap_or_default();
    let member = service::receipts::mark_read(ctx.app(), viewer, chat, up_to, private).await?;
    Ok(MemberPayload { member: ChatMember(member) })
}

async fn mark_unread(ctx: &Context<'_>, input: MarkUnreadInput) -> Result<MemberPayload> {
    let viewer = ctx.viewer()?;
    let chat = parse_id(&input.chat_id, "chat")?;
    let from = input.from_message_id.as_ref().map(|id| parse_id(id, "message")).transpose()?;
    let member = service::receipts::mark_unread(ctx.app(), viewer, chat, from).await?;
    Ok(MemberPayload { member: ChatMember(member) })
}

async fn mark_delivered(ctx: &Context<'_>, input: MarkDeliveredInput) -> Result<MarkDeliveredPayload> {
    let viewer = ctx.viewer()?;
    let parse = |delivered: &DeliveredUpTo| {
        let message: MessageId = parse_id(&delivered.message_id, "message")?;
        let chat = parse_id(&delivered.chat_id, "chat")?;
        if message.chat == chat { Ok(message) } else { Err(Error::NotFound("message")) }
    };
    let up_to = input.up_to.iter().map(parse).collect::<Result<Vec<_>>>()?;
    let members = service::receipts::mark_delivered(ctx.app(), viewer, up_to).await?;
    Ok(MarkDeliveredPayload { members: members.into_iter().map(ChatMember).collect() })
}
