//! Messages and the receipts, revisions and threads that belong to them.

use std::sync::Arc;

use async_graphql::connection::{Edge, EmptyFields};
use async_graphql::{Context, Enum, ID, Object, SimpleObject};

use crate::domain::ids::{ChatId, MessageId};
use crate::domain::member_queries::{ReadersQuery, UserIdKey};
use crate::domain::message_queries::{CountKey, MessageList, MessagesQuery, RevisionsQuery};
use crate::domain::messages;
use crate::domain::pagination::{Cursor, Page, PageArgs, PageEnd};
use crate::domain::revisions::Revision;
use crate::domain::rights::{ChatRights, DenialReason};
use crate::error::{Error, Result};
use crate::graphql::schema::connection::{Connection, connection, connection_with};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::loaders::{HtmlKey, MentionsKey, ReactionsKey};
use crate::graphql::schema::scalars::{DateTime, Text};
use crate::graphql::schema::types::content::{ForwardedFrom, Location, SystemNotice};
use crate::graphql::schema::types::objects::{Chat, Message, User};
use crate::graphql::schema::types::poll::Poll;
use crate::graphql::schema::types::reaction::ReactionGroup;
use crate::graphql::schema::types::thread::ChatThread;
use crate::service;
use crate::service::receipts::ReceiptQuery;

/// A message with its cursor in a list.
pub type MessageEdge = Edge<String, Message, EmptyFields>;

/// The kind of a message.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "messages::MessageKind")]
pub enum MessageKind {
    /// A message with a text.
    Text,
    /// A message whose text consists of emoji.
    Emoji,
    /// A message with a location and, optionally, a text.
    Location,
    /// A message with a poll and, optionally, a text.
    Poll,
    /// A message written by the server about an event in the chat.
    System,
}

/// The delivery of a message to the other members.
/// In a chat of more than 256 members by default, the status stays `SENT`.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "service::receipts::DeliveryStatus")]
pub enum DeliveryStatus {
    /// The message is stored on the server.
    Sent,
    /// The message arrived at a device of at least one other member.
    Delivered,
    /// At least one other member, who does not read privately, has read the message.
    Read,
}

/// A previous text of a message.
#[derive(SimpleObject)]
pub struct MessageRevision {
    /// The text.
    text: Text<String>,
    /// The time at which an edit replaced the text.
    edited_at: DateTime,
}

impl Message {
    /// Returns the message with the given id if the viewer may read it.
    ///
    /// # Errors
    ///
    /// Returns the errors of the loader.
    pub async fn load(ctx: &Context<'_>, id: MessageId) -> Result<Option<Self>> {
        Ok(ctx.loaders().load_one(id).await?.map(Self))
    }

    /// Returns the edge of a message in the lists that contain it.
    pub fn edge(message: Arc<messages::Message>) -> MessageEdge {
        Edge::new(Self::cursor(&message), Self(message))
    }

    /// Returns the cursor of a message in the lists of its chat: the timeline and the threads.
    pub fn cursor(message: &messages::Message) -> String {
        (message.id.chat, message.id.seq).encode()
    }

    /// Returns whether the viewer now has the right that `check` checks.
    async fn viewer_has_right(
        &self,
        ctx: &Context<'_>,
        check: impl Fn(&ChatRights<'_>, &messages::Message) -> Result<(), DenialReason>,
    ) -> Result<bool> {
        let viewer = ctx.viewer()?;
        let access = ctx.loaders().load_one(self.0.id.chat).await?;
        let now = ctx.app().clock.now();
        Ok(access.is_some_and(|access| check(&access.rights(viewer, now), &self.0).is_ok()))
    }
}

async fn load_html(ctx: &Context<'_>, message: Arc<messages::Message>) -> Result<Text<Arc<str>>> {
    let html = ctx.loaders().load_one(HtmlKey(message)).await?;
    html.map(Text).ok_or_else(|| Error::internal("a message with a text has no HTML"))
}

/// A message.
/// A deleted message keeps its position in the chat and loses its content.
#[Object]
impl Message {
    /// The id of the message.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The chat that the message was sent to.
    async fn chat(&self, ctx: &Context<'_>) -> Result<Chat> {
        Chat::load(ctx, self.0.id.chat).await
    }

    /// The position of the message in the chat: a number that increases from message to message, with gaps.
    async fn seq(&self) -> i64 {
        self.0.id.seq
    }

    /// The version of the chat at the last change of the message.
    /// Of two states of a message, the one with the greater version is newer.
    async fn version(&self) -> i64 {
        self.0.version
    }

    /// True if the message is in `Chat.messages`.
    /// False for a reply that is only in its thread.
    async fn in_chat(&self) -> bool {
        self.0.in_timeline
    }

    /// The kind of the message.
    async fn kind(&self) -> MessageKind {
        self.0.kind.into()
    }

    /// The user who sent the message.
    /// Null for a system message.
    async fn sender(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        Some(User::load(ctx, self.0.sender.as_ref()?).await)
    }

    /// The idempotency key that the sender's client chose.
    /// Null if it chose none.
    async fn nonce(&self) -> Option<&str> {
        self.0.nonce.as_ref().map(|nonce| nonce.as_str())
    }

    /// The text as it was written.
    /// Null if the message has no text or is deleted.
    async fn text(&self) -> Option<Text<&str>> {
        self.0.text.as_deref().map(Text)
    }

    /// The text as safe HTML, without scripts and embedded resources.
    /// Null if there is no text. Rendered from Markdown: emphasis, strikethrough, code, links, lists and quotes. Every
    /// other visible character is text.
    async fn html(&self, ctx: &Context<'_>) -> Option<Result<Text<Arc<str>>>> {
        self.0.text.as_ref()?;
        Some(load_html(ctx, self.0.clone()).await)
    }

    /// The location of a message of kind `LOCATION`.
    /// Null for all other messages and deleted ones.
    async fn location(&self) -> Option<Location> {
        self.0.content.location.clone().map(Location::from)
    }

    /// The poll of a message of kind `POLL`.
    /// Null for all other messages and deleted ones.
    async fn poll(&self) -> Option<Poll> {
        let poll = self.0.content.poll.clone()?;
        Some(Poll { message: self.0.id, poll })
    }

    /// The event that a message of kind `SYSTEM` describes.
    /// Null for all other messages.
    async fn system(&self) -> Option<SystemNotice> {
        self.0.content.system_message.clone().map(SystemNotice)
    }

    /// The users whom the message mentions individually, ordered by user id.
    /// Empty for a deleted message.
    async fn mentions(&self, ctx: &Context<'_>) -> Result<Vec<User>> {
        let ids = ctx.loaders().load_one(MentionsKey(self.0.id)).await?.unwrap_or_default();
        User::load_all(ctx, ids).await
    }

    /// True if the message mentions everyone in the chat.
    async fn mentions_everyone(&self) -> bool {
        self.0.mentions_everyone
    }

    /// The message that this message replies to.
    /// Null if it is not a reply.
    async fn reply_to(&self, ctx: &Context<'_>) -> Option<Result<Message>> {
        Message::load(ctx, self.0.reply_to()?).await.transpose()
    }

    /// The first message of the thread that this message belongs to.
    /// Null if it belongs to none.
    async fn thread_root(&self, ctx: &Context<'_>) -> Option<Result<Message>> {
        Message::load(ctx, self.0.thread_root()?).await.transpose()
    }

    /// The thread that this message started, with the viewer's read position.
    /// Null if the message has no replies.
    async fn thread(&self, ctx: &Context<'_>) -> Option<Result<ChatThread>> {
        match self.0.reply_count {
            0 => None,
            _ => ChatThread::load(ctx, self.0.id).await.transpose(),
        }
    }

    /// The number of replies in the thread that this message started, without deleted replies.
    async fn reply_count(&self) -> i32 {
        self.0.reply_count
    }

    /// The replies in the thread that this message started, oldest first.
    /// Defaults to the latest replies.
    async fn replies(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Returns the first n replies, 0 to 100. Cannot be combined with `last`.")] first: Option<i32>,
        #[graphql(desc = "Returns the replies after this cursor.")] after: Option<String>,
        #[graphql(desc = "Returns the last n replies, 0 to 100. Defaults to 30.")] last: Option<i32>,
        #[graphql(desc = "Returns the replies before this cursor.")] before: Option<String>,
    ) -> Result<Connection<Message, MessageTotals>> {
        let list = MessageList::Thread(self.0.id);
        let args = PageArgs { first, after, last, before };
        let window = args.window::<ChatId, i64>(&self.0.id.chat, PageEnd::Last)?;
        let page = ctx.loaders().load_one(MessagesQuery { list, window }).await?.unwrap_or_else(Page::empty);
        Ok(connection_with(page, MessageTotals(CountKey::List(list)), |message| Message::cursor(message), Message))
    }

    /// The origin of a forwarded message.
    /// Null for all other messages and deleted ones.
    async fn forwarded_from(&self) -> Option<ForwardedFrom> {
        self.0.content.forwarded.clone().map(ForwardedFrom)
    }

    /// The delivery of the message to the members at the time of the send, other than the sender.
    async fn status(&self, ctx: &Context<'_>) -> Result<DeliveryStatus> {
        let (lists, sender) = ((&*self.0).into(), self.0.sender.clone());
        let query = ReceiptQuery { id: self.0.id, lists, sender, sent_at: self.0.created_at };
        let status = ctx.loaders().load_one(query).await?;
        Ok(status.unwrap_or(service::receipts::DeliveryStatus::Sent).into())
    }

    /// The members, other than the sender, who have read the message, ordered by user id.
    /// Contains only users who were members when the message was sent and who do not read privately. Empty in a chat of
    /// more than 256 members by default.
    async fn read_by(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Returns the first n users, 0 to 100. Defaults to 30.")] first: Option<i32>,
        #[graphql(desc = "Returns the users after this cursor.")] after: Option<String>,
    ) -> Result<Connection<User>> {
        let args = PageArgs { first, after, ..PageArgs::default() };
        let window = args.window::<MessageId, UserIdKey>(&self.0.id, PageEnd::First)?;
        let (message, sender) = (self.0.id, self.0.sender.clone());
        let query = ReadersQuery { message, lists: (&*self.0).into(), sent_at: self.0.created_at, sender, window };
        let page = ctx.loaders().load_one(query).await?.unwrap_or_else(Page::empty);
        let items = User::load_all(ctx, page.items).await?;
        let page = Page { items, has_previous: page.has_previous, has_next: page.has_next };
        Ok(connection(page, |user| (self.0.id, user.0.id.to_string()).encode(), |user| user))
    }

    /// The reactions to the message, grouped by emoji, earliest emoji first.
    /// At most 20 groups.
    async fn reactions(&self, ctx: &Context<'_>) -> Result<Vec<ReactionGroup>> {
        // A reaction would have changed the message's version. This saves a load for most messages.
        if self.0.is_unchanged() {
            return Ok(Vec::new());
        }
        let reactions = ctx.loaders().load_one(ReactionsKey(self.0.id)).await?.unwrap_or_default();
        Ok(reactions.into_iter().map(|reaction| ReactionGroup { message: self.0.id, reaction }).collect())
    }

    /// The time at which the message was sent, by the server's clock.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// The time at which the text was last edited.
    /// Null if it was never edited.
    async fn edited_at(&self) -> Option<DateTime> {
        self.0.edited_at.map(DateTime)
    }

    /// The previous texts of the message, oldest first.
    /// Defaults to the oldest texts. Empty for a deleted message. A message keeps its original text and the latest
    /// previous ones, at most 50 texts of 256 KiB together.
    async fn edit_history(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Returns the first n texts, 0 to 100. Defaults to 30. Cannot be combined with `last`.")]
        first: Option<i32>,
        #[graphql(desc = "Returns the texts after this cursor.")] after: Option<String>,
        #[graphql(desc = "Returns the last n texts, 0 to 100.")] last: Option<i32>,
        #[graphql(desc = "Returns the texts before this cursor.")] before: Option<String>,
    ) -> Result<Connection<MessageRevision>> {
        let window = PageArgs { first, after, last, before }.window::<MessageId, i64>(&self.0.id, PageEnd::First)?;
        let page = match self.0.edited_at.is_some() && self.0.deleted_at.is_none() {
            true => ctx.loaders().load_one(RevisionsQuery { message: self.0.id, window }).await?,
            false => None,
        };
        let node =
            |Revision { text, edited_at, .. }| MessageRevision { text: Text(text), edited_at: DateTime(edited_at) };
        Ok(connection(page.unwrap_or_else(Page::empty), |revision| (self.0.id, revision.version).encode(), node))
    }

    /// The time at which the message was deleted.
    /// Null if it is not deleted.
    async fn deleted_at(&self) -> Option<DateTime> {
        self.0.deleted_at.map(DateTime)
    }

    /// The time at which the message was pinned.
    /// Null if it is not pinned.
    async fn pinned_at(&self) -> Option<DateTime> {
        self.0.pinned.as_ref().map(|pinned| DateTime(pinned.pinned_at))
    }

    /// The user who pinned the message.
    /// Null if it is not pinned.
    async fn pinned_by(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        Some(User::load(ctx, &self.0.pinned.as_ref()?.pinned_by).await)
    }

    /// True if the viewer may edit the message now.
    async fn viewer_can_edit(&self, ctx: &Context<'_>) -> Result<bool> {
        let has_text = self.0.text.is_some() && self.0.content.forwarded.is_none();
        Ok(has_text && self.viewer_has_right(ctx, |rights, message| rights.can_edit(message)).await?)
    }

    /// True if the viewer may delete the message now.
    /// False for a deleted message.
    async fn viewer_can_delete(&self, ctx: &Context<'_>) -> Result<bool> {
        let is_deleted = self.0.deleted_at.is_some();
        Ok(!is_deleted && self.viewer_has_right(ctx, |rights, message| rights.can_delete(message)).await?)
    }
}

/// The additional field of a connection of messages.
pub struct MessageTotals(pub CountKey);

#[Object]
impl MessageTotals {
    /// The number of messages in the whole list, including deleted messages.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<i64> {
        Ok(ctx.loaders().load_one(self.0).await?.unwrap_or_default())
    }
}
