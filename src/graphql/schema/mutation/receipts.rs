use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use crate::domain::ids::MessageId;
use crate::error::{Error, Result};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::mutation::members::MemberPayload;
use crate::graphql::schema::mutation::parse_id;
use crate::graphql::schema::types::member::ChatMember;
use crate::service;

/// What was read.
#[derive(InputObject)]
struct MarkReadInput {
    /// The chat.
    chat_id: ID,
    /// Up to and including; the newest message if left out. An earlier one than before moves nothing,
    /// and the chat is no longer marked unread all the same.
    up_to_message_id: Option<ID>,
    /// True lets nobody else know what the viewer has read here, from now until they mark as read
    /// without it.
    private: Option<bool>,
}

/// What is to be unread.
#[derive(InputObject)]
struct MarkUnreadInput {
    /// The chat.
    chat_id: ID,
    /// From this message on all is unread again; left out, the chat is marked and no message.
    from_message_id: Option<ID>,
}

/// What arrived at a device of the viewer's.
#[derive(InputObject)]
struct MarkDeliveredInput {
    /// The newest message that arrived of each chat; 1 to 100.
    up_to: Vec<DeliveredUpTo>,
}

/// What arrived of one chat.
#[derive(InputObject)]
struct DeliveredUpTo {
    /// The chat.
    chat_id: ID,
    /// Up to and including this message. An earlier one than before changes nothing.
    message_id: ID,
}

/// The viewer's memberships after what arrived.
#[derive(SimpleObject)]
struct MarkDeliveredPayload {
    /// One for each chat.
    members: Vec<ChatMember>,
}

#[derive(Default)]
pub struct ReceiptMutation;

#[Object]
impl ReceiptMutation {
    /// Moves the viewer's read position forward, and marks as read what notifies of it.
    async fn mark_read(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What was read.")] input: MarkReadInput,
    ) -> Option<Result<MemberPayload>> {
        Some(mark_read(ctx, input).await)
    }

    /// Marks a chat as unread for the viewer, or moves their read position back.
    async fn mark_unread(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What is to be unread.")] input: MarkUnreadInput,
    ) -> Option<Result<MemberPayload>> {
        Some(mark_unread(ctx, input).await)
    }

    /// Notes what arrived at a device of the viewer's, of all chats or of none.
    async fn mark_delivered(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What arrived.")] input: MarkDeliveredInput,
    ) -> Option<Result<MarkDeliveredPayload>> {
        Some(mark_delivered(ctx, input).await)
    }
}

async fn mark_read(ctx: &Context<'_>, input: MarkReadInput) -> Result<MemberPayload> {
    let viewer = ctx.viewer()?;
    let chat = parse_id(&input.chat_id, "chat")?;
    let up_to = input.up_to_message_id.as_ref().map(|id| parse_id(id, "message")).transpose()?;
    let privately = input.private.unwrap_or_default();
    let member = service::receipts::mark_read(ctx.app(), viewer, chat, up_to, privately).await?;
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
    let arrived = |one: &DeliveredUpTo| {
        let message: MessageId = parse_id(&one.message_id, "message")?;
        let chat = parse_id(&one.chat_id, "chat")?;
        if message.chat == chat { Ok(message) } else { Err(Error::NotFound("message")) }
    };
    let up_to = input.up_to.iter().map(arrived).collect::<Result<Vec<_>>>()?;
    let members = service::receipts::mark_delivered(ctx.app(), viewer, up_to).await?;
    Ok(MarkDeliveredPayload { members: members.into_iter().map(ChatMember).collect() })
}
