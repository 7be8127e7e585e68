//! Mutations of messages.

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use crate::domain::ids::{ChatId, MessageId, Nonce};
use crate::domain::messages::{DraftBody, Location, MessageDraft};
use crate::domain::polls::Poll;
use crate::domain::text;
use crate::error::{Error, Result};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::mutation::{parse_id, parse_user_ids};
use crate::graphql::schema::scalars::{DateTime, Unchecked};
use crate::graphql::schema::types::message::MessageEdge;
use crate::graphql::schema::types::objects::Message;
use crate::service;
use crate::service::message_edits::MessageEdit;
use crate::service::send::batch::SendResult;

/// The input of `sendMessage`.
#[derive(InputObject)]
struct SendMessageInput {
    /// The id of the chat.
    chat_id: ID,
    /// An idempotency key chosen by the client, at most 128 characters on one line.
    /// A repeated send with the same key and content returns the first message.
    nonce: Option<String>,
    /// The text: not blank, at most 8,000 characters by default.
    /// Required if there is neither a location nor a poll.
    text: Option<String>,
    /// The location to show.
    /// Cannot be combined with a poll.
    location: Option<LocationInput>,
    /// The poll to start.
    /// Cannot be combined with a location.
    poll: Option<PollInput>,
    /// The ids of the users to mention: at most 100 members of the chat.
    mention_ids: Option<Vec<ID>>,
    /// True mentions everyone in the chat, which requires the right to `MENTION_EVERYONE`.
    /// Defaults to false.
    mentions_everyone: Option<bool>,
    /// The id of the message of the same chat that this message replies to.
    reply_to_id: Option<ID>,
    /// The id of the message of the same chat whose thread this message belongs to.
    /// It must not itself be a reply in a thread.
    thread_root_id: Option<ID>,
    /// True shows a reply in a thread among the chat's messages too.
    /// Defaults to false.
    also_in_chat: Option<bool>,
}

/// A geographic location to send.
#[derive(InputObject)]
struct LocationInput {
    /// The latitude in degrees (WGS 84), from -90 to 90.
    /// Positive values are north.
    latitude: f64,
    /// The longitude in degrees (WGS 84), from -180 to 180.
    /// Positive values are east.
    longitude: f64,
    /// The name of the place, at most 500 characters on one line.
    name: Option<String>,
    /// The postal address of the place, at most 500 characters on one line.
    address: Option<String>,
}

/// A poll to send.
#[derive(InputObject)]
struct PollInput {
    /// The question: 1 to 300 characters on one line.
    question: String,
    /// The options: 2 to 20 different texts of 1 to 100 characters on one line.
    options: Vec<String>,
    /// True allows a user to choose several options.
    /// Defaults to false.
    multiple_choice: Option<bool>,
    /// True hides from everyone which user chose which option.
    /// Defaults to false.
    anonymous: Option<bool>,
    /// The time at which the poll closes by itself, in the future.
    /// Defaults to never.
    closes_at: Option<Unchecked<DateTime>>,
}

/// The input of `forwardMessage`.
#[derive(InputObject)]
struct ForwardMessageInput {
    /// The id of the message to forward.
    message_id: ID,
    /// The id of the chat to forward the message to.
    to_chat_id: ID,
    /// An idempotency key chosen by the client, as for `sendMessage`.
    nonce: Option<String>,
}

/// The input of `pinMessage` and `unpinMessage`.
#[derive(InputObject)]
struct PinMessageInput {
    /// The id of the message.
    message_id: ID,
}

/// The input of `editMessage`.
#[derive(InputObject)]
struct EditMessageInput {
    /// The id of a message that the viewer sent.
    message_id: ID,
    /// The new text: not blank, at most 8,000 characters by default.
    text: String,
    /// The ids of all users whom the message mentions from now on: at most 100.
    /// Users whom it did not mention before must be members of the chat. Defaults to the present mentions.
    mention_ids: Option<Vec<ID>>,
    /// True mentions everyone in the chat from now on, false does not.
    /// Beginning to mention everyone requires the right to `MENTION_EVERYONE`. Defaults to the present state.
    mentions_everyone: Option<bool>,
}

/// The input of `deleteMessage`.
#[derive(InputObject)]
struct DeleteMessageInput {
    /// The id of the message.
    message_id: ID,
}

/// The result of `sendMessage` and `forwardMessage`.
#[derive(SimpleObject)]
struct SendMessagePayload {
    /// The message.
    message: Message,
    /// The message with its cursor, for insertion into a connection.
    message_edge: MessageEdge,
    /// True if the nonce was used before and the message is the one that was sent then.
    replayed: bool,
}

/// The message after a mutation.
#[derive(SimpleObject)]
pub struct MessagePayload {
    /// The message.
    pub message: Message,
}

/// The mutations of this module.
#[derive(Default)]
pub struct MessageMutation;

#[Object]
impl MessageMutation {
    /// Sends a message.
    /// The result is returned after the message is stored durably. Fails with `FORBIDDEN` if the viewer may not do
    /// `POST` in the chat, with `RATE_LIMITED` in slow mode, and with `CONFLICT` if the nonce was used for other
    /// content.
    async fn send_message(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `sendMessage`.")] input: SendMessageInput,
    ) -> Option<Result<SendMessagePayload>> {
        Some(send(ctx, input).await)
    }

    /// Sends the current content of a message as a new message of the viewer, to any of their chats.
    /// A forwarded poll starts without votes and without a closing time. Fails with `FORBIDDEN` if the message is
    /// deleted or a system message, and otherwise like `sendMessage`.
    async fn forward_message(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `forwardMessage`.")] input: ForwardMessageInput,
    ) -> Option<Result<SendMessagePayload>> {
        Some(forward(ctx, input).await)
    }

    /// Pins a message.
    /// Pinning it again changes nothing. Fails with `FORBIDDEN` if the viewer may not do `PIN` or the message is
    /// deleted or a system message, and with `BAD_USER_INPUT` if the chat already has 100 pinned messages.
    async fn pin_message(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `pinMessage`.")] input: PinMessageInput,
    ) -> Option<Result<MessagePayload>> {
        Some(set_pinned(ctx, input, true).await)
    }

    /// Unpins a message.
    /// Unpinning it again changes nothing. Fails with `FORBIDDEN` if the viewer may not do `PIN` in the chat.
    async fn unpin_message(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `unpinMessage`.")] input: PinMessageInput,
    ) -> Option<Result<MessagePayload>> {
        Some(set_pinned(ctx, input, false).await)
    }

    /// Replaces the text of a message and, optionally, its mentions.
    /// The previous text is kept in `Message.editHistory`. An edit never notifies anyone. Users whom the message no
    /// longer mentions lose the unread notification of the mention. An edit counts as a message by the rate limit of
    /// `sendMessage`. It counts in slow mode too, in which a member waits between two messages or edits; only the first
    /// edit of the viewer's last message does not. Fails with `FORBIDDEN` if the viewer did not send the message or is
    /// silenced, if the chat is archived, or if the message is deleted, forwarded or without text, and with
    /// `RATE_LIMITED` in slow mode.
    async fn edit_message(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `editMessage`.")] input: EditMessageInput,
    ) -> Option<Result<MessagePayload>> {
        Some(edit(ctx, input).await)
    }

    /// Deletes the content of a message permanently.
    /// The message keeps its position in the chat. Fails with `FORBIDDEN` if the viewer neither sent the message nor
    /// may do `DELETE_OTHERS_MESSAGES`.
    async fn delete_message(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `deleteMessage`.")] input: DeleteMessageInput,
    ) -> Option<Result<MessagePayload>> {
        Some(delete(ctx, input).await)
    }
}

async fn send(ctx: &Context<'_>, input: SendMessageInput) -> Result<SendMessagePayload> {
    let viewer = Arc::clone(ctx.viewer()?);
    let chat: ChatId = parse_id(&input.chat_id, "chat")?;
    let max_chars = ctx.app().settings.limits.max_message_characters;
    let text = input.text.as_deref().map(|text| text::validate_block("text", text, max_chars)).transpose()?;
    let location = input.location.map(LocationInput::validate).transpose()?;
    let poll = input.poll.map(|poll| poll.validate(ctx)).transpose()?;
    let body = DraftBody::checked(text, location, poll)?;
    let seq_in_chat = |id: &Option<ID>| -> Result<Option<i64>> {
        let message: Option<MessageId> = id.as_ref().map(|id| parse_id(id, "message")).transpose()?;
        match message {
            Some(message) if message.chat != chat => Err(Error::NotFound("message")),
            message => Ok(message.map(|message| message.seq)),
        }
    };
    let draft = MessageDraft {
        chat,
        nonce: input.nonce.as_deref().map(Nonce::parse).transpose()?,
        body,
        reply_to_seq: seq_in_chat(&input.reply_to_id)?,
        thread_root_seq: seq_in_chat(&input.thread_root_id)?,
        also_in_chat: input.also_in_chat.unwrap_or_default(),
        mentions: parse_user_ids("mentionIds", &input.mention_ids.unwrap_or_default())?,
        mentions_everyone: input.mentions_everyone.unwrap_or_default(),
    };
    let sent = service::messages::send(ctx.app(), viewer, draft.checked()?).await?;
    Ok(SendMessagePayload::from_sent(sent))
}

impl SendMessagePayload {
    fn from_sent(sent: SendResult) -> Self {
        Self {
            message_edge: Message::edge(sent.message.clone()),
            message: Message(sent.message),
            replayed: sent.replayed,
        }
    }
}

impl LocationInput {
    fn validate(self) -> Result<Location> {
        let Self { latitude, longitude, name, address } = self;
        Location { latitude, longitude, name, address }.checked()
    }
}

impl PollInput {
    fn validate(self, ctx: &Context<'_>) -> Result<Poll> {
        let poll = Poll {
            question: self.question,
            options: self.options,
            multiple_choice: self.multiple_choice.unwrap_or_default(),
            anonymous: self.anonymous.unwrap_or_default(),
            closes_at: self.closes_at.map(|closes_at| closes_at.check("poll.closesAt")).transpose()?,
            closed_at: None,
        };
        poll.validate(ctx.app().clock.now())
    }
}

async fn forward(ctx: &Context<'_>, input: ForwardMessageInput) -> Result<SendMessagePayload> {
    let viewer = Arc::clone(ctx.viewer()?);
    let source = parse_id(&input.message_id, "message")?;
    let nonce = input.nonce.as_deref().map(Nonce::parse).transpose()?;
    let draft = MessageDraft::new(parse_id(&input.to_chat_id, "chat")?, DraftBody::Forward(source));
    let sent = service::messages::send(ctx.app(), viewer, MessageDraft { nonce, ..draft }).await?;
    Ok(SendMessagePayload::from_sent(sent))
}

async fn set_pinned(ctx: &Context<'_>, input: PinMessageInput, pinned: bool) -> Result<MessagePayload> {
    let message = parse_id(&input.message_id, "message")?;
    let message = service::messages::set_pinned(ctx.app(), ctx.viewer()?, message, pinned).await?;
    Ok(MessagePayload { message: Message(message) })
}

async fn edit(ctx: &Context<'_>, input: EditMessageInput) -> Result<MessagePayload> {
    let EditMessageInput { message_id, text, mention_ids, mentions_everyone } = input;
    let message = parse_id(&message_id, "message")?;
    let mentions = mention_ids.map(|ids| parse_user_ids("mentionIds", &ids)).transpose()?;
    let edit = MessageEdit { text, mentions, mentions_everyone };
    let message = service::message_edits::edit(ctx.app(), ctx.viewer()?, message, edit).await?;
    Ok(MessagePayload { message: Message(message) })
}

async fn delete(ctx: &Context<'_>, input: DeleteMessageInput) -> Result<MessagePayload> {
    let message = parse_id(&input.message_id, "message")?;
    let message = service::messages::delete(ctx.app(), ctx.viewer()?, message).await?;
    Ok(MessagePayload { message: Message(message) })
}
