use async_graphql::connection::{Edge, EmptyFields};
use async_graphql::{Context, ID, InputObject, Object, SimpleObject};
use std::sync::Arc;

use super::super::context::ContextExt;
use super::super::types::Message;
use super::existing;
use crate::domain::ids::{ChatId, MessageId, Nonce};
use crate::domain::messages::MessageDraft;
use crate::domain::pages::Cursor;
use crate::domain::text;
use crate::error::{Error, Result};
use crate::service;

/// A message to send.
#[derive(InputObject)]
struct SendMessageInput {
    /// Where.
    chat_id: ID,
    /// A word of the client's, at most 128 characters: a send repeated with it gives the first
    /// message back, and nothing is sent twice.
    nonce: Option<String>,
    /// What to say: not blank, at most 8,000 characters where the server is not set otherwise.
    text: Option<String>,
    /// The message of this chat that it answers.
    reply_to_id: Option<ID>,
}

/// A new text.
#[derive(InputObject)]
struct EditMessageInput {
    /// The viewer's own message.
    message_id: ID,
    /// Its new text, within the limits of a sent one.
    text: String,
}

/// What to delete.
#[derive(InputObject)]
struct DeleteMessageInput {
    /// The message.
    message_id: ID,
}

/// A sent message.
#[derive(SimpleObject)]
struct SendMessagePayload {
    /// The message.
    message: Message,
    /// The same with its cursor, to put into a list of messages.
    message_edge: Edge<String, Message, EmptyFields>,
    /// This nonce was sent before, and the message is the one made then.
    replayed: bool,
}

/// A message after a change.
#[derive(SimpleObject)]
pub struct MessagePayload {
    /// The message.
    pub message: Message,
}

#[derive(Default)]
pub struct MessageMutation;

#[Object]
impl MessageMutation {
    /// Sends a message. It is answered once it is kept for good.
    async fn send_message(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to send.")] input: SendMessageInput,
    ) -> Option<Result<SendMessagePayload>> {
        Some(send(ctx, input).await)
    }

    /// Replaces the text of the viewer's own message; the former one is kept in its history.
    async fn edit_message(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The new text.")] input: EditMessageInput,
    ) -> Option<Result<MessagePayload>> {
        Some(edit(ctx, input).await)
    }

    /// Deletes a message: what it said is gone, its place stays.
    async fn delete_message(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to delete.")] input: DeleteMessageInput,
    ) -> Option<Result<MessagePayload>> {
        Some(delete(ctx, input).await)
    }
}

async fn send(ctx: &Context<'_>, input: SendMessageInput) -> Result<SendMessagePayload> {
    let viewer = Arc::clone(ctx.viewer()?);
    let chat: ChatId = existing(&input.chat_id, "chat")?;
    let text = input.text.ok_or_else(|| Error::bad_input("text", "must be given"))?;
    let reply_to: Option<MessageId> = input.reply_to_id.as_ref().map(|id| existing(id, "message")).transpose()?;
    if reply_to.is_some_and(|message| message.chat != chat) {
        return Err(Error::NotFound("message"));
    }
    let draft = MessageDraft {
        chat,
        nonce: input.nonce.as_deref().map(Nonce::parse).transpose()?,
        text: text::block("text", &text, ctx.app().config.limits.message_characters)?,
        reply_to_seq: reply_to.map(|message| message.seq),
    };
    let sent = service::messages::send(ctx.app(), viewer, draft).await?;
    Ok(SendMessagePayload {
        message_edge: Edge::new(sent.message.id.seq.encode(), Message(sent.message.clone())),
        message: Message(sent.message),
        replayed: sent.replayed,
    })
}

async fn edit(ctx: &Context<'_>, input: EditMessageInput) -> Result<MessagePayload> {
    let id = existing(&input.message_id, "message")?;
    let message = service::messages::edit(ctx.app(), ctx.viewer()?, id, &input.text).await?;
    Ok(MessagePayload { message: Message(message) })
}

async fn delete(ctx: &Context<'_>, input: DeleteMessageInput) -> Result<MessagePayload> {
    let id = existing(&input.message_id, "message")?;
    let message = service::messages::delete(ctx.app(), ctx.viewer()?, id).await?;
    Ok(MessagePayload { message: Message(message) })
}
