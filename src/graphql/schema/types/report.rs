//! Reports of messages.

use async_graphql::{Context, Enum, ID, Object};

use crate::domain::reports;
use crate::error::Result;
use crate::graphql::schema::scalars::{DateTime, Text};
use crate::graphql::schema::types::objects::{Chat, Message, User};

/// A moderator's decision about a report.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "reports::ReportResolution")]
pub enum ReportResolution {
    /// The message was acceptable.
    Dismissed,
    /// The moderator acted on the report.
    ActionTaken,
}

/// The type `Report`.
pub struct Report(pub reports::Report);

/// A report of a message.
/// Visible to users whose token has `chat.moderate`.
#[Object]
impl Report {
    /// The id of the report.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The id of the reported message.
    async fn message_id(&self) -> ID {
        self.0.message.to_string().into()
    }

    /// The reported message.
    /// Null if the viewer is not a member of its chat.
    async fn message(&self, ctx: &Context<'_>) -> Option<Result<Message>> {
        Message::load(ctx, self.0.message).await.transpose()
    }

    /// The chat of the reported message.
    /// Null if the chat does not exist for the viewer.
    async fn chat(&self, ctx: &Context<'_>) -> Option<Result<Chat>> {
        Chat::find(ctx, self.0.message.chat).await.transpose()
    }

    /// The text of the message, or the question of its poll, at the time of the report.
    /// Null if the message had neither.
    async fn text(&self) -> Option<Text<&str>> {
        self.0.text.as_deref().map(Text)
    }

    /// The user who reported the message.
    async fn reporter(&self, ctx: &Context<'_>) -> Result<User> {
        User::load(ctx, &self.0.reporter).await
    }

    /// The reason that the reporter gave.
    async fn reason(&self) -> Text<&str> {
        Text(&self.0.reason)
    }

    /// The time of the report.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// The time at which the report was resolved.
    /// Null while it is open.
    async fn resolved_at(&self) -> Option<DateTime> {
        self.0.resolved.as_ref().map(|resolved| DateTime(resolved.resolved_at))
    }

    /// The moderator who resolved the report.
    /// Null while it is open.
    async fn resolved_by(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        Some(User::load(ctx, &self.0.resolved.as_ref()?.resolved_by).await)
    }

    /// The moderator's decision.
    /// Null while the report is open.
    async fn resolution(&self) -> Option<ReportResolution> {
        self.0.resolved.as_ref().map(|resolved| resolved.resolution.into())
    }
}
