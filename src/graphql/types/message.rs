use std::sync::Arc;

use async_graphql::{Context, Enum, ID, Object, SimpleObject};

use super::super::context::ContextExt;
use super::super::loaders::{ReactionsTo, RevisionsOf};
use super::super::scalars::DateTime;
use super::reaction::ReactionGroup;
use super::{Chat, User};
use crate::domain::ids::{ChatId, MessageId};
use crate::domain::messages;
use crate::domain::rights::{Refusal, Rights};
use crate::error::Result;
use crate::service;

/// What a message is.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "messages::MessageKind")]
pub enum MessageKind {
    /// A text.
    Text,
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

    async fn allowed(
        &self,
        ctx: &Context<'_>,
        may: impl Fn(&Rights<'_>, &messages::Message) -> Result<(), Refusal>,
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

    /// The message that this one answers.
    async fn reply_to(&self, ctx: &Context<'_>) -> Option<Result<Message>> {
        Message::load(ctx, self.0.reply_to()?).await.transpose()
    }

    /// The emoji given to it, the earliest first; at most 20.
    #[graphql(complexity = "1 + 4 * child_complexity")]
    async fn reactions(&self, ctx: &Context<'_>) -> Result<Vec<ReactionGroup>> {
        let given = ctx.loaders().load_one(ReactionsTo(self.0.id)).await?.unwrap_or_default();
        Ok(given.into_iter().map(|given| ReactionGroup { message: self.0.id, given }).collect())
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
        let revisions = ctx.loaders().load_one(RevisionsOf(self.0.id)).await?.unwrap_or_default();
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

    /// Whether the viewer may edit it now.
    async fn viewer_can_edit(&self, ctx: &Context<'_>) -> Result<bool> {
        self.allowed(ctx, |rights, message| rights.can_edit(message)).await
    }

    /// Whether the viewer may delete it now; false once it is.
    async fn viewer_can_delete(&self, ctx: &Context<'_>) -> Result<bool> {
        let gone = self.0.deleted_at.is_some();
        Ok(!gone && self.allowed(ctx, |rights, message| rights.can_delete(message)).await?)
    }
}

/// What a connection of messages tells beside its page.
pub struct MessageTotals(pub ChatId);

#[Object]
impl MessageTotals {
    /// All messages of the chat, deleted ones too. Counted only where asked for.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<i64> {
        service::messages::count(ctx.app(), ctx.viewer()?, self.0).await
    }
}
