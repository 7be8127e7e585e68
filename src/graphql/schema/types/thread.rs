//! Threads, as the viewer sees them.

use async_graphql::{Context, Object};

use crate::domain::ids::MessageId;
use crate::domain::members::UNREAD_CAP;
use crate::domain::threads::ThreadState;
use crate::error::{Error, Result};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::loaders::ThreadKey;
use crate::graphql::schema::scalars::DateTime;
use crate::graphql::schema::types::objects::Message;

/// The type `ChatThread`.
pub struct ChatThread {
    root: MessageId,
    state: ThreadState,
}

impl ChatThread {
    /// Returns the thread that a message started as the viewer sees it.
    ///
    /// # Errors
    ///
    /// Returns the errors of the loader.
    pub async fn load(ctx: &Context<'_>, root: MessageId) -> Result<Option<Self>> {
        ctx.viewer()?;
        Ok(ctx.loaders().load_one(ThreadKey(root)).await?.map(|state| Self { root, state }))
    }
}

/// The replies to a message, with the viewer's read position among them.
#[Object]
impl ChatThread {
    /// The message that started the thread.
    /// It may be deleted.
    async fn root(&self, ctx: &Context<'_>) -> Result<Message> {
        Message::load(ctx, self.root).await?.ok_or(Error::NotFound("message"))
    }

    /// The number of replies after the viewer's read position in the thread.
    /// 0 if the viewer does not follow the thread. Counts replies from other users that are not deleted. Exact below
    /// 1,000, which means that many or more.
    async fn unread_count(&self) -> i64 {
        self.state.unread.messages.min(UNREAD_CAP)
    }

    /// The number of replies after the viewer's read position in the thread that mention the viewer or everyone.
    /// Exact below 1,000, which means that many or more.
    async fn unread_mention_count(&self) -> i64 {
        self.state.unread.mentions.min(UNREAD_CAP)
    }

    /// The time of the newest reply that is not deleted.
    /// Null if all are deleted.
    async fn last_reply_at(&self) -> Option<DateTime> {
        self.state.last_reply_at.map(DateTime)
    }

    /// True if new replies notify the viewer.
    /// That is so if the viewer sent the message that started the thread or a reply, or was mentioned in a reply. A
    /// thread has at most 1,000 followers.
    async fn following(&self) -> bool {
        self.state.is_following
    }

    /// The viewer's read position in the thread: the last reply that the viewer has read.
    /// Null if the viewer has read none.
    async fn last_read_message(&self, ctx: &Context<'_>) -> Option<Result<Message>> {
        Message::load(ctx, self.state.last_read?).await.transpose()
    }
}
