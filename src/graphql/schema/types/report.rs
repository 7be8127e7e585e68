use async_graphql::{Context, Enum, ID, Object};

use crate::domain::reports;
use crate::error::Result;
use crate::graphql::schema::scalars::DateTime;
use crate::graphql::schema::types::chat::Chat;
use crate::graphql::schema::types::message::Message;
use crate::graphql::schema::types::user::User;

/// What a moderator made of a report.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "reports::ReportResolution")]
pub enum ReportResolution {
    /// Nothing was wrong.
    Dismissed,
    /// Something was done about it.
    ActionTaken,
}

pub struct Report(pub reports::Report);

/// A message that somebody reported, for those with the permission CHAT_MODERATE.
#[Object]
impl Report {
    /// Opaque; the report's for ever.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The reported message's id.
    async fn message_id(&self) -> ID {
        self.0.message.to_string().into()
    }

    /// The reported message; null where the viewer is not in its chat.
    async fn message(&self, ctx: &Context<'_>) -> Option<Result<Message>> {
        Message::load(ctx, self.0.message).await.transpose()
    }

    /// The chat; null where the viewer may not see it.
    async fn chat(&self, ctx: &Context<'_>) -> Option<Result<Chat>> {
        Chat::find(ctx, self.0.message.chat).await.transpose()
    }

    /// What the message said when it was reported, though it be edited or deleted since.
    async fn text(&self) -> Option<&str> {
        self.0.text.as_deref()
    }

    /// Who reported it.
    async fn reporter(&self, ctx: &Context<'_>) -> Result<User> {
        User::load(ctx, &self.0.reporter).await
    }

    /// Why, in the reporter's words.
    async fn reason(&self) -> &str {
        &self.0.reason
    }

    /// When it was reported.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// When it was resolved; null while it is open.
    async fn resolved_at(&self) -> Option<DateTime> {
        self.0.resolved.as_ref().map(|resolved| DateTime(resolved.resolved_at))
    }

    /// Who resolved it.
    async fn resolved_by(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        Some(User::load(ctx, &self.0.resolved.as_ref()?.resolved_by).await)
    }

    /// What was made of it.
    async fn resolution(&self) -> Option<ReportResolution> {
        self.0.resolved.as_ref().map(|resolved| resolved.resolution.into())
    }
}
