//! Typing indicators.

use std::sync::Arc;

use async_graphql::{Context, ID, Object};

use crate::error::Result;
use crate::graphql::schema::types::objects::User;
use crate::realtime::dispatch::render_cache::CachedUpdate;
use crate::realtime::typing::TypingSnapshot;

/// The type `TypingUpdate`.
pub struct TypingUpdate(pub Arc<CachedUpdate<TypingSnapshot>>);

/// The users who are typing in a chat.
/// Replaces the previous update.
#[Object]
impl TypingUpdate {
    /// The id of the chat.
    async fn chat_id(&self) -> ID {
        self.0.event.chat.to_string().into()
    }

    /// The users who are typing, in the order in which they started.
    /// Includes the viewer.
    async fn users(&self, ctx: &Context<'_>) -> Result<Vec<User>> {
        User::load_all(ctx, self.0.event.users.clone()).await
    }
}
