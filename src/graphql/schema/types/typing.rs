use std::sync::Arc;

use async_graphql::{Context, ID, Object};

use crate::error::Result;
use crate::graphql::schema::types::user::User;
use crate::realtime::dispatch::render_cache::CachedUpdate;
use crate::realtime::typing::TypingSnapshot;

pub struct TypingUpdate(pub Arc<CachedUpdate<TypingSnapshot>>);

/// Everyone who is typing in a chat; it replaces what was told before.
#[Object]
impl TypingUpdate {
    /// The chat.
    async fn chat_id(&self) -> ID {
        self.0.event.chat.to_string().into()
    }

    /// Who is typing, the viewer too, by when they began.
    #[graphql(complexity = "1 + 10 * child_complexity")]
    async fn users(&self, ctx: &Context<'_>) -> Result<Vec<User>> {
        User::load_all(ctx, self.0.event.users.clone()).await
    }
}
