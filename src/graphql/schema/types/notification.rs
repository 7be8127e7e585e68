//! The viewer's notifications.

use async_graphql::{Context, Enum, ID, Object};

use crate::domain::notifications;
use crate::error::Result;
use crate::graphql::schema::scalars::DateTime;
use crate::graphql::schema::types::objects::{Call, Chat, Message, User};

/// The reason for a notification.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "notifications::NotificationKind")]
pub enum NotificationKind {
    /// A message mentions the viewer or everyone.
    Mention,
    /// A message replies to a message of the viewer, or is in a thread that the viewer follows.
    Reply,
    /// A user reacted to a message of the viewer.
    Reaction,
    /// A user added the viewer to a chat.
    AddedToChat,
    /// A call rang for the viewer until it was over.
    MissedCall,
}

/// The type `Notification`.
pub struct Notification(pub notifications::Notification);

/// A notification of the viewer.
#[Object]
impl Notification {
    /// The id of the notification.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The reason for the notification.
    async fn kind(&self) -> NotificationKind {
        self.0.kind.into()
    }

    /// The chat that the notification belongs to.
    /// Null if the chat no longer exists for the viewer.
    async fn chat(&self, ctx: &Context<'_>) -> Option<Result<Chat>> {
        Chat::find(ctx, self.0.chat).await.transpose()
    }

    /// The message that caused the notification.
    /// Null if there is none, or if the viewer may no longer read it.
    async fn message(&self, ctx: &Context<'_>) -> Option<Result<Message>> {
        Message::load(ctx, self.0.message()?).await.transpose()
    }

    /// The call that caused the notification.
    /// Null if there is none, or if the viewer may no longer see it.
    async fn call(&self, ctx: &Context<'_>) -> Option<Result<Call>> {
        Call::find(ctx, self.0.call?).await.transpose()
    }

    /// The user whose action caused the notification.
    async fn actor(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        Some(User::load(ctx, self.0.actor.as_ref()?).await)
    }

    /// The time of the action.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// The time at which the notification was read.
    /// Null while it is unread. A notification is also read when its message is read or deleted.
    async fn read_at(&self) -> Option<DateTime> {
        self.0.read_at.map(DateTime)
    }
}
