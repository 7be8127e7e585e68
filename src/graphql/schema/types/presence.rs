use async_graphql::{Context, Enum, ID, Object};

use crate::domain::presence;
use crate::error::Result;
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::scalars::DateTime;
use crate::graphql::schema::types::user::User;
use crate::realtime::presence::tracker::PresenceSnapshot;

/// Whether a person is there.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "presence::PresenceStatus")]
pub enum PresenceStatus {
    /// Connected by at least one WebSocket.
    Online,
    /// Connected, and set by hand.
    Away,
    /// Connected, and set by hand.
    Busy,
    /// Not connected, or set by hand to seem so.
    Offline,
}

pub struct Presence(pub PresenceSnapshot);

/// How a person is there.
#[Object]
impl Presence {
    /// The person.
    async fn user(&self, ctx: &Context<'_>) -> Result<User> {
        User::load(ctx, &self.0.user).await
    }

    /// Whether they are there.
    async fn status(&self) -> PresenceStatus {
        self.0.status.into()
    }

    /// When their last connection went, or when they set themselves OFFLINE; null while they are there,
    /// and where they never were.
    async fn last_seen_at(&self) -> Option<DateTime> {
        self.0.last_seen_at.map(DateTime)
    }

    /// The chat that they say they have before them; null to who isn't a member of it.
    async fn current_chat_id(&self, ctx: &Context<'_>) -> Option<Result<ID>> {
        let chat = self.0.current_chat?;
        let access = match ctx.viewer() {
            Ok(_) => ctx.loaders().load_one(chat).await,
            Err(error) => Err(error),
        };
        let is_in = access.map(|access| access.is_some_and(|access| access.active_membership().is_some()));
        is_in.map(|is_in| is_in.then(|| chat.to_string().into())).transpose()
    }
}
