use async_graphql::connection::{Edge, EmptyFields};
use async_graphql::{Context, ID, InputObject, Object, SimpleObject};
use std::sync::Arc;

use crate::domain::ids::{ChatId, MessageId, Nonce};
use crate::domain::messages::{Content, DraftBody, Location, MAX_MENTIONS, MessageDraft};
use crate::domain::pagination::Cursor;
use crate::domain::polls::Poll;
use crate::domain::text;
use crate::error::{Error, Result};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::mutation::{parse_id, parse_user_ids};
use crate::graphql::schema::scalars::DateTime;
use crate::graphql::schema::types::message::Message;
use crate::service;
use crate::service::send::queue::SendResult;

/// A message to send.
#[derive(InputObject)]
struct SendMessageInput {
    /// Where.
    chat_id: ID,
    /// A word of the client's, at most 128 characters: a send repeated with it gives the first
    /// message back, and nothing is sent twice.
    nonce: Option<String>,
    /// What to say: not blank, at most 8,000 characters where the server is not set otherwise. Needed
    /// where there is neither a place nor a poll.
    text: Option<String>,
    /// A place to show; not with a poll.
    location: Option<LocationInput>,
    /// A poll to ask; not with a place.
    poll: Option<PollInput>,
    /// Whom to mention: at most 100 members of the chat.
    mention_ids: Option<Vec<ID>>,
    /// True mentions everyone; needs the right to it.
    mentions_everyone: Option<bool>,
    /// The message of this chat that it answers.
    reply_to_id: Option<ID>,
    /// The message of this chat whose thread it stands in; not itself a reply of a thread.
    thread_root_id: Option<ID>,
    /// True lets a reply of a thread stand among the chat's messages too.
    also_in_chat: Option<bool>,
}

/// A place on the earth.
#[derive(InputObject)]
struct LocationInput {
    /// Degrees north of the equator, by WGS 84: -90 to 90.
    latitude: f64,
    /// Degrees east of the prime meridian, by WGS 84: -180 to 180.
    longitude: f64,
    /// What the place is called: at most 500 characters on one line.
    name: Option<String>,
    /// Where it is, for people to read: at most 500 characters on one line.
    address: Option<String>,
}

/// A poll to ask.
#[derive(InputObject)]
struct PollInput {
    /// What is asked: 1 to 300 characters on one line.
    question: String,
    /// What may be chosen: 2 to 20 options that differ, each of 1 to 100 characters on one line.
    options: Vec<String>,
    /// True lets a person choose several options.
    multiple_choice: Option<bool>,
    /// True lets nobody learn who chose what.
    anonymous: Option<bool>,
    /// When it closes by itself, in the future.
    closes_at: Option<DateTime>,
}

/// A message to say again elsewhere.
#[derive(InputObject)]
struct ForwardMessageInput {
    /// The message, which the viewer may read.
    message_id: ID,
    /// The chat to say it in.
    to_chat_id: ID,
    /// A word of the client's, as of a sent message.
    nonce: Option<String>,
}

/// A message to pin or to take off.
#[derive(InputObject)]
struct PinMessageInput {
    /// The message.
    message_id: ID,
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

    /// Says a message again in another chat, or in the same: what it says now, as a message of the
    /// viewer's own. A poll is asked anew.
    async fn forward_message(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What, and where to.")] input: ForwardMessageInput,
    ) -> Option<Result<SendMessagePayload>> {
        Some(forward(ctx, input).await)
    }

    /// Pins a message; a chat has at most 100 pinned ones.
    async fn pin_message(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which message.")] input: PinMessageInput,
    ) -> Option<Result<MessagePayload>> {
        Some(pin(ctx, input, true).await)
    }

    /// Takes a pinned message off.
    async fn unpin_message(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which message.")] input: PinMessageInput,
    ) -> Option<Result<MessagePayload>> {
        Some(pin(ctx, input, false).await)
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
    let chat: ChatId = parse_id(&input.chat_id, "chat")?;
    let longest = ctx.app().config.limits.max_message_characters;
    let text = input.text.as_deref().map(|text| text::validate_block("text", text, longest)).transpose()?;
    let location = input.location.map(LocationInput::validate).transpose()?;
    let poll = input.poll.map(|poll| poll.validate(ctx)).transpose()?;
    if text.is_none() && location.is_none() && poll.is_none() {
        return Err(Error::bad_input("text", "must be given where there is neither a location nor a poll"));
    }
    if location.is_some() && poll.is_some() {
        return Err(Error::bad_input("poll", "can't be combined with a location"));
    }
    let here = |id: &Option<ID>| -> Result<Option<i64>> {
        let message: Option<MessageId> = id.as_ref().map(|id| parse_id(id, "message")).transpose()?;
        match message {
            Some(message) if message.chat != chat => Err(Error::NotFound("message")),
            message => Ok(message.map(|message| message.seq)),
        }
    };
    let thread_root_seq = here(&input.thread_root_id)?;
    let also_in_chat = input.also_in_chat.unwrap_or_default();
    if also_in_chat && thread_root_seq.is_none() {
        return Err(Error::bad_input("alsoInChat", "is for replies of a thread"));
    }
    let mut mentions = parse_user_ids(&input.mention_ids.unwrap_or_default())?;
    mentions.sort();
    mentions.dedup();
    if mentions.len() > MAX_MENTIONS {
        return Err(Error::bad_input("mentionIds", format!("must be at most {MAX_MENTIONS}")));
    }
    let draft = MessageDraft {
        chat,
        nonce: input.nonce.as_deref().map(Nonce::parse).transpose()?,
        body: DraftBody::New { text, content: Box::new(Content { location, poll, ..Content::default() }) },
        reply_to_seq: here(&input.reply_to_id)?,
        thread_root_seq,
        also_in_chat,
        mentions,
        mentions_everyone: input.mentions_everyone.unwrap_or_default(),
    };
    Ok(SendMessagePayload::from_sent(service::messages::send(ctx.app(), viewer, draft).await?))
}

impl SendMessagePayload {
    fn from_sent(sent: SendResult) -> Self {
        Self {
            message_edge: Edge::new(sent.message.id.seq.encode(), Message(sent.message.clone())),
            message: Message(sent.message),
            replayed: sent.replayed,
        }
    }
}

impl LocationInput {
    fn validate(self) -> Result<Location> {
        let within = |field, degrees: f64, most: f64| match degrees.abs() <= most {
            true => Ok(degrees),
            false => Err(Error::bad_input(field, format!("must be from -{most} to {most}"))),
        };
        let line = |field, line: Option<String>| {
            let line = line.filter(|line| !line.trim().is_empty());
            line.map(|line| text::validate_line(field, &line, Location::MAX_TEXT_CHARS)).transpose()
        };
        Ok(Location {
            latitude: within("location.latitude", self.latitude, 90.0)?,
            longitude: within("location.longitude", self.longitude, 180.0)?,
            name: line("location.name", self.name)?,
            address: line("location.address", self.address)?,
        })
    }
}

impl PollInput {
    fn validate(self, ctx: &Context<'_>) -> Result<Poll> {
        let poll = Poll {
            question: self.question,
            options: self.options,
            multiple_choice: self.multiple_choice.unwrap_or_default(),
            anonymous: self.anonymous.unwrap_or_default(),
            closes_at: self.closes_at.map(|at| at.0),
            closed_at: None,
        };
        poll.validate(ctx.app().clock.now())
    }
}

async fn forward(ctx: &Context<'_>, input: ForwardMessageInput) -> Result<SendMessagePayload> {
    let viewer = Arc::clone(ctx.viewer()?);
    let source = parse_id(&input.message_id, "message")?;
    let nonce = input.nonce.as_deref().map(Nonce::parse).transpose()?;
    let draft =
        MessageDraft { nonce, ..MessageDraft::new(parse_id(&input.to_chat_id, "chat")?, DraftBody::Forward(source)) };
    Ok(SendMessagePayload::from_sent(service::messages::send(ctx.app(), viewer, draft).await?))
}

async fn pin(ctx: &Context<'_>, input: PinMessageInput, pinned: bool) -> Result<MessagePayload> {
    let id = parse_id(&input.message_id, "message")?;
    let message = service::messages::set_pinned(ctx.app(), ctx.viewer()?, id, pinned).await?;
    Ok(MessagePayload { message: Message(message) })
}

async fn edit(ctx: &Context<'_>, input: EditMessageInput) -> Result<MessagePayload> {
    let id = parse_id(&input.message_id, "message")?;
    let message = service::messages::edit(ctx.app(), ctx.viewer()?, id, &input.text).await?;
    Ok(MessagePayload { message: Message(message) })
}

async fn delete(ctx: &Context<'_>, input: DeleteMessageInput) -> Result<MessagePayload> {
    let id = parse_id(&input.message_id, "message")?;
    let message = service::messages::delete(ctx.app(), ctx.viewer()?, id).await?;
    Ok(MessagePayload { message: Message(message) })
}
