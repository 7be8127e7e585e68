use async_graphql::{Context, Enum, ID, Object};

use super::super::context::ContextExt;
use super::super::loaders::UnreadOf;
use super::super::scalars::DateTime;
use super::{Chat, Message, User};
use crate::domain::members;
use crate::domain::members::UNREAD_CAP;
use crate::error::Result;

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

    /// Read up to and including this message; null where nothing was read.
    async fn last_read_message(&self, ctx: &Context<'_>) -> Option<Result<Message>> {
        Message::load(ctx, self.0.last_read()?).await.transpose()
    }

    /// When the read position last moved.
    async fn last_read_at(&self) -> Option<DateTime> {
        self.0.last_read_at.map(DateTime)
    }

    /// Messages after the read position that others sent and nobody deleted: exact below 1,000, which
    /// stands for that many or more.
    async fn unread_count(&self, ctx: &Context<'_>) -> Result<i64> {
        let count = ctx.loaders().load_one(UnreadOf(self.0.id())).await?;
        Ok(count.unwrap_or_default().min(UNREAD_CAP))
    }
}
