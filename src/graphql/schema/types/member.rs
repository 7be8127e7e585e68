use async_graphql::{Context, Enum, ID, Object};

use crate::domain::members;
use crate::domain::members::UNREAD_CAP;
use crate::error::Result;
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::loaders::UnreadKey;
use crate::graphql::schema::scalars::DateTime;
use crate::graphql::schema::types::chat::Chat;
use crate::graphql::schema::types::message::Message;
use crate::graphql::schema::types::user::User;

/// A member's role in one chat, from least to most.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "members::Role")]
pub enum ChatRole {
    /// Takes part.
    Member,
    /// Keeps order: by default may delete others' messages and pin.
    Moderator,
    /// Runs the chat: by default may change its details and members.
    Admin,
    /// May do everything, roles and deletion of the chat included.
    Owner,
}

/// Of what in a chat a member wants to be notified.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "members::NotificationLevel")]
pub enum NotificationLevel {
    /// Mentions, replies, reactions.
    All,
    /// Mentions alone.
    Mentions,
    /// Nothing.
    None,
}

pub struct ChatMember(pub members::Member);

/// A person's membership of a chat.
#[Object]
impl ChatMember {
    /// Opaque; one for each person and chat.
    pub async fn id(&self) -> ID {
        self.0.id().to_string().into()
    }

    /// The chat.
    async fn chat(&self, ctx: &Context<'_>) -> Result<Chat> {
        Chat::load(ctx, self.0.chat).await
    }

    /// The person.
    async fn user(&self, ctx: &Context<'_>) -> Result<User> {
        User::load(ctx, &self.0.user).await
    }

    /// What the person may do here.
    async fn role(&self) -> ChatRole {
        self.0.role.into()
    }

    /// When the person last came in.
    async fn joined_at(&self) -> DateTime {
        DateTime(self.0.joined_at)
    }

    /// Who brought the person in; null for one who came by themselves.
    async fn added_by(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        Some(User::load(ctx, self.0.added_by.as_ref()?).await)
    }

    /// Read up to and including this message; null where nothing was read, and to all others where
    /// the member keeps it private.
    async fn last_read_message(&self, ctx: &Context<'_>) -> Option<Result<Message>> {
        if let Err(error) = self.shares_receipts_with(ctx).transpose()? {
            return Some(Err(error));
        }
        Message::load(ctx, self.0.last_read()?).await.transpose()
    }

    /// Arrived at one of the member's devices up to and including this message; what is read has
    /// arrived.
    async fn last_delivered_message(&self, ctx: &Context<'_>) -> Option<Result<Message>> {
        Message::load(ctx, self.0.last_delivered()?).await.transpose()
    }

    /// When the read position last moved; null to all others where the member keeps it private.
    async fn last_read_at(&self, ctx: &Context<'_>) -> Option<Result<DateTime>> {
        if let Err(error) = self.shares_receipts_with(ctx).transpose()? {
            return Some(Err(error));
        }
        self.0.read_markers.last_read_at.map(DateTime).map(Ok)
    }

    /// Until when the chat is muted: it counts its unread messages, but not into the viewer's totals,
    /// and notifies of nothing. The viewer's own; null for others.
    async fn muted_until(&self, ctx: &Context<'_>) -> Result<Option<DateTime>> {
        Ok(self.viewer_settings(ctx)?.and_then(|own| own.muted_until).map(DateTime))
    }

    /// Until when the member may say nothing here.
    async fn silenced_until(&self) -> Option<DateTime> {
        self.0.silenced_until.map(DateTime::ceil_to_millis)
    }

    /// Of what the chat notifies. The viewer's own; ALL for others.
    async fn notification_level(&self, ctx: &Context<'_>) -> Result<NotificationLevel> {
        Ok(self.viewer_settings(ctx)?.map(|own| own.notification_level).unwrap_or_default().into())
    }

    /// Whether the chat is to stand above others in a list. The viewer's own; false for others.
    async fn pinned(&self, ctx: &Context<'_>) -> Result<bool> {
        Ok(self.viewer_settings(ctx)?.is_some_and(|own| own.pinned))
    }

    /// Whether the viewer marked the chat as unread, until they read it. False for others.
    async fn marked_unread(&self, ctx: &Context<'_>) -> Result<bool> {
        Ok(self.viewer_settings(ctx)?.is_some_and(|own| own.marked_unread))
    }

    /// Messages after the read position that others sent and nobody deleted, replies of threads left
    /// out: exact below 1,000, which stands for that many or more. The viewer's own; 0 for others.
    async fn unread_count(&self, ctx: &Context<'_>) -> Result<i64> {
        Ok(self.unread(ctx).await?.messages)
    }

    /// Those of the unread messages that mention the viewer, or everyone. 0 for others.
    async fn unread_mention_count(&self, ctx: &Context<'_>) -> Result<i64> {
        Ok(self.unread(ctx).await?.mentions)
    }

    /// What the viewer began to write here. Null for others.
    async fn draft(&self, ctx: &Context<'_>) -> Result<Option<&str>> {
        Ok(self.viewer_settings(ctx)?.and_then(|own| own.draft.as_deref()))
    }
}

impl ChatMember {
    /// What the member set for themselves, for nobody else.
    fn viewer_settings(&self, ctx: &Context<'_>) -> Result<Option<&members::MemberPreferences>> {
        Ok((*ctx.viewer()?.id() == self.0.user).then_some(&self.0.preferences))
    }

    async fn unread(&self, ctx: &Context<'_>) -> Result<members::UnreadCounts> {
        if self.viewer_settings(ctx)?.is_none() {
            return Ok(members::UnreadCounts::default());
        }
        let unread = ctx.loaders().load_one(UnreadKey(self.0.id())).await?.unwrap_or_default();
        Ok(members::UnreadCounts {
            messages: unread.messages.min(UNREAD_CAP),
            mentions: unread.mentions.min(UNREAD_CAP),
        })
    }

    /// Whether the viewer may know what the member reads.
    fn shares_receipts_with(&self, ctx: &Context<'_>) -> Result<Option<()>> {
        if !self.0.read_markers.is_private {
            return Ok(Some(()));
        }
        Ok(self.viewer_settings(ctx)?.map(|_| ()))
    }
}
