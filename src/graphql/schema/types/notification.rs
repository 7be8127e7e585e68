use async_graphql::{Context, Enum, ID, Object};

use crate::domain::notifications;
use crate::error::Result;
use crate::graphql::schema::scalars::DateTime;
use crate::graphql::schema::types::call::Call;
use crate::graphql::schema::types::chat::Chat;
use crate::graphql::schema::types::message::Message;
use crate::graphql::schema::types::user::User;

/// What a notification is about.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "notifications::NotificationKind")]
pub enum NotificationKind {
    /// A message mentions the viewer, or everyone.
    Mention,
    /// A message answers one of the viewer's, or stands in a thread that they began.
    Reply,
    /// Somebody reacted to a message of the viewer's.
    Reaction,
    /// Somebody brought the viewer into a chat.
    AddedToChat,
    /// A call rang for the viewer until it was over.
    MissedCall,
}

pub struct Notification(pub notifications::Notification);

/// Something that the viewer is told of.
#[Object]
impl Notification {
    /// Opaque; the notification's for ever.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// What it is about.
    async fn kind(&self) -> NotificationKind {
        self.0.kind.into()
    }

    /// The chat; null where the viewer may not see it any more.
    async fn chat(&self, ctx: &Context<'_>) -> Option<Result<Chat>> {
        Chat::find(ctx, self.0.chat).await.transpose()
    }

    /// The message; null where there is none, or the viewer may not read it any more.
    async fn message(&self, ctx: &Context<'_>) -> Option<Result<Message>> {
        Message::load(ctx, self.0.message()?).await.transpose()
    }

    /// The call; null where there is none, or the viewer may not know of it any more.
    async fn call(&self, ctx: &Context<'_>) -> Option<Result<Call>> {
        Call::participant_index(ctx, self.0.call?).await.transpose()
    }

    /// Who did it.
    async fn actor(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        Some(User::load(ctx, self.0.actor.as_ref()?).await)
    }

    /// When it happened.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// When it was read: by hand, or because its message was read or deleted. Null while unread.
    async fn read_at(&self) -> Option<DateTime> {
        self.0.read_at.map(DateTime)
    }
}
