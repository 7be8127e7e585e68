use std::sync::Arc;

use async_graphql::{Context, Enum, ID, Object, SimpleObject};

use crate::domain::ids::MessageId;
use crate::domain::member_queries::{ReadersQuery, UserIdKey};
use crate::domain::message_queries::{CountKey, MessageList, MessagesQuery};
use crate::domain::pagination::{Cursor, Page, PageArgs, PageEnd};
use crate::domain::rights::{ChatRights, DenialReason};
use crate::domain::{markdown, messages};
use crate::error::Result;
use crate::graphql::schema::connection::{Connection, connection, connection_with, cost};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::loaders::{MentionsKey, ReactionsKey, RevisionsKey};
use crate::graphql::schema::scalars::DateTime;
use crate::graphql::schema::types::chat::Chat;
use crate::graphql::schema::types::content::{ForwardedFrom, Location, SystemNotice};
use crate::graphql::schema::types::poll::Poll;
use crate::graphql::schema::types::reaction::ReactionGroup;
use crate::graphql::schema::types::user::User;
use crate::service;
use crate::service::receipts::ReceiptQuery;

/// What a message is.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "messages::MessageKind")]
pub enum MessageKind {
    /// A text.
    Text,
    /// A text of emoji alone.
    Emoji,
    /// A place on the map.
    Location,
    /// A poll.
    Poll,
    /// What happened to the chat, told by the server.
    System,
}

/// How far a message has come with the others. In a chat of more than 256 members, where the server
/// is not set otherwise, it stays SENT.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "service::receipts::DeliveryStatus")]
pub enum DeliveryStatus {
    /// The server has it.
    Sent,
    /// It arrived at a device of at least one of the others.
    Delivered,
    /// At least one of the others has read it, and lets others know.
    Read,
}

/// A text that an edit replaced.
#[derive(SimpleObject)]
struct MessageRevision {
    /// The former text.
    text: String,
    /// When it was replaced.
    edited_at: DateTime,
}

pub struct Message(pub Arc<messages::Message>);

impl Message {
    /// A message that the viewer may read.
    pub async fn load(ctx: &Context<'_>, id: MessageId) -> Result<Option<Self>> {
        Ok(ctx.loaders().load_one(id).await?.map(Self))
    }

    async fn viewer_has_right(
        &self,
        ctx: &Context<'_>,
        may: impl Fn(&ChatRights<'_>, &messages::Message) -> Result<(), DenialReason>,
    ) -> Result<bool> {
        let viewer = ctx.viewer()?;
        let access = ctx.loaders().load_one(self.0.id.chat).await?;
        let now = ctx.app().clock.now();
        Ok(access.is_some_and(|access| may(&access.rights(viewer, now), &self.0).is_ok()))
    }
}

/// A message, or what is left of one that was deleted: its place.
#[Object]
impl Message {
    /// Opaque; the message's for ever.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The chat that it was sent in.
    async fn chat(&self, ctx: &Context<'_>) -> Result<Chat> {
        Chat::load(ctx, self.0.id.chat).await
    }

    /// Its place in the chat: rises from message to message, with gaps.
    async fn seq(&self) -> i64 {
        self.0.id.seq
    }

    /// What it is.
    async fn kind(&self) -> MessageKind {
        self.0.kind.into()
    }

    /// Who sent it; null where nobody did.
    async fn sender(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        Some(User::load(ctx, self.0.sender.as_ref()?).await)
    }

    /// What the sender's client called it; a send repeated with the same nonce returns the first
    /// message.
    async fn nonce(&self) -> Option<&str> {
        self.0.nonce.as_ref().map(|nonce| nonce.as_str())
    }

    /// The text as it was written; null once deleted.
    async fn text(&self) -> Option<&str> {
        self.0.text.as_deref()
    }

    /// The text as safe HTML, from a Markdown subset: emphasis, strikethrough, code, links, lists and
    /// quotes. Nothing in it runs or loads anything.
    async fn html(&self) -> Option<String> {
        self.0.text.as_deref().map(markdown::render_html)
    }

    /// The place that it shows.
    async fn location(&self) -> Option<Location> {
        self.0.content.location.clone().map(Location::from)
    }

    /// The poll that it asks.
    async fn poll(&self) -> Option<Poll> {
        let poll = self.0.content.poll.clone()?;
        Some(Poll { message: self.0.id, poll })
    }

    /// What happened to the chat, in a message of the server's own.
    async fn system(&self) -> Option<SystemNotice> {
        self.0.content.system_message.clone().map(SystemNotice)
    }

    /// Whom it mentions: members of the chat when it was sent, by user id.
    async fn mentions(&self, ctx: &Context<'_>) -> Result<Vec<User>> {
        let ids = ctx.loaders().load_one(MentionsKey(self.0.id)).await?.unwrap_or_default();
        User::load_all(ctx, ids).await
    }

    /// Whether it mentions everyone in the chat.
    async fn mentions_everyone(&self) -> bool {
        self.0.mentions_everyone
    }

    /// The message that this one answers.
    async fn reply_to(&self, ctx: &Context<'_>) -> Option<Result<Message>> {
        Message::load(ctx, self.0.reply_to()?).await.transpose()
    }

    /// The message that began the thread in which this one stands.
    async fn thread_root(&self, ctx: &Context<'_>) -> Option<Result<Message>> {
        Message::load(ctx, self.0.thread_root()?).await.transpose()
    }

    /// Replies in the thread that this message began, deleted ones left out.
    async fn reply_count(&self) -> i32 {
        self.0.reply_count
    }

    /// The thread that this message began, in its order; the newest page where no argument says
    /// otherwise.
    #[graphql(complexity = "cost(first, last, child_complexity)")]
    async fn replies(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The oldest so many, 0 to 100.")] first: Option<i32>,
        #[graphql(desc = "Those after this cursor.")] after: Option<String>,
        #[graphql(desc = "The newest so many, 0 to 100; 30 where both are left out.")] last: Option<i32>,
        #[graphql(desc = "Those before this cursor.")] before: Option<String>,
    ) -> Result<Connection<Message, MessageTotals>> {
        let list = MessageList::Thread(self.0.id);
        let window = PageArgs { first, after, last, before }.window::<i64>(PageEnd::Last)?;
        let page = ctx.loaders().load_one(MessagesQuery { list, window }).await?.unwrap_or_else(Page::empty);
        Ok(connection_with(page, MessageTotals(CountKey::List(list)), |message| message.id.seq.encode(), Message))
    }

    /// Where it was forwarded from, as it was then.
    async fn forwarded_from(&self) -> Option<ForwardedFrom> {
        self.0.content.forwarded.clone().map(ForwardedFrom)
    }

    /// How far it has come with the others: with at least one of them.
    async fn status(&self, ctx: &Context<'_>) -> Result<DeliveryStatus> {
        let shown = ReceiptQuery { id: self.0.id, sender: self.0.sender.clone(), sent_at: self.0.created_at };
        let status = ctx.loaders().load_one(shown).await?;
        Ok(status.unwrap_or(service::receipts::DeliveryStatus::Sent).into())
    }

    /// The others who were in when it was sent, have read it, and let others know; by user id. Empty
    /// in a chat of more than 256 members, where the server is not set otherwise.
    #[graphql(complexity = "cost(first, None, child_complexity)")]
    async fn read_by(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many, 0 to 100; 30 where left out.")] first: Option<i32>,
        #[graphql(desc = "Those after this cursor.")] after: Option<String>,
    ) -> Result<Connection<User>> {
        let window = PageArgs { first, after, ..PageArgs::default() }.window::<UserIdKey>(PageEnd::First)?;
        let (message, sender) = (self.0.id, self.0.sender.clone());
        let query = ReadersQuery { message, sent_at: self.0.created_at, sender, window };
        let page = ctx.loaders().load_one(query).await?.unwrap_or_else(Page::empty);
        let items = User::load_all(ctx, page.items).await?;
        let page = Page { items, has_previous: page.has_previous, has_next: page.has_next };
        Ok(connection(page, |user| user.0.id.to_string().encode(), |user| user))
    }

    /// The emoji given to it, the earliest first; at most 20.
    #[graphql(complexity = "1 + 4 * child_complexity")]
    async fn reactions(&self, ctx: &Context<'_>) -> Result<Vec<ReactionGroup>> {
        // As it was made: a reaction would have changed it.
        if self.0.is_unchanged() {
            return Ok(Vec::new());
        }
        let given = ctx.loaders().load_one(ReactionsKey(self.0.id)).await?.unwrap_or_default();
        Ok(given.into_iter().map(|given| ReactionGroup { message: self.0.id, reaction: given }).collect())
    }

    /// When it was sent, by the server's clock.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// When its text was last edited.
    async fn edited_at(&self) -> Option<DateTime> {
        self.0.edited_at.map(DateTime)
    }

    /// The texts that edits replaced, oldest first; none once deleted.
    async fn edit_history(&self, ctx: &Context<'_>) -> Result<Vec<MessageRevision>> {
        if self.0.edited_at.is_none() || self.0.deleted_at.is_some() {
            return Ok(Vec::new());
        }
        let revisions = ctx.loaders().load_one(RevisionsKey(self.0.id)).await?.unwrap_or_default();
        let revision = |revision: messages::Revision| MessageRevision {
            text: revision.text,
            edited_at: DateTime(revision.edited_at),
        };
        Ok(revisions.into_iter().map(revision).collect())
    }

    /// When it was deleted. What it said is gone, its place stays.
    async fn deleted_at(&self) -> Option<DateTime> {
        self.0.deleted_at.map(DateTime)
    }

    /// When it was pinned; null where it isn't.
    async fn pinned_at(&self) -> Option<DateTime> {
        self.0.pinned.as_ref().map(|pinned| DateTime(pinned.pinned_at))
    }

    /// Who pinned it.
    async fn pinned_by(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        Some(User::load(ctx, &self.0.pinned.as_ref()?.pinned_by).await)
    }

    /// Whether the viewer may edit it now.
    async fn viewer_can_edit(&self, ctx: &Context<'_>) -> Result<bool> {
        let has_text = self.0.text.is_some() && self.0.content.forwarded.is_none();
        Ok(has_text && self.viewer_has_right(ctx, |rights, message| rights.can_edit(message)).await?)
    }

    /// Whether the viewer may delete it now; false once it is.
    async fn viewer_can_delete(&self, ctx: &Context<'_>) -> Result<bool> {
        let gone = self.0.deleted_at.is_some();
        Ok(!gone && self.viewer_has_right(ctx, |rights, message| rights.can_delete(message)).await?)
    }
}

/// What a connection of messages tells beside its page.
pub struct MessageTotals(pub CountKey);

#[Object]
impl MessageTotals {
    /// All messages of the list, deleted ones too. Counted only where asked for.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<i64> {
        Ok(ctx.loaders().load_one(self.0).await?.unwrap_or_default())
    }
}
