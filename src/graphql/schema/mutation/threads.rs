//! Mutations of the viewer's read positions in threads.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use crate::error::{Error, Result};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::mutation::parse_id;
use crate::graphql::schema::types::objects::ChatMember;
use crate::graphql::schema::types::thread::ChatThread;
use crate::service;

/// The input of `markThreadRead`.
#[derive(InputObject)]
struct MarkThreadReadInput {
    /// The id of the message that started the thread.
    thread_root_id: ID,
    /// The id of the last reply that was read.
    /// Defaults to the newest reply. A reply before the read position does not move it.
    up_to_message_id: Option<ID>,
}

/// The result of `markThreadRead`.
#[derive(SimpleObject)]
struct MarkThreadReadPayload {
    /// The thread.
    thread: ChatThread,
    /// The viewer's membership in the chat.
    member: ChatMember,
}

/// The mutations of this module.
#[derive(Default)]
pub struct ThreadMutation;

#[Object]
impl ThreadMutation {
    /// Moves the viewer's read position in a thread forward.
    /// The notifications of the read replies become read too. Fails with `NOT_FOUND` if the message has no replies.
    async fn mark_thread_read(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `markThreadRead`.")] input: MarkThreadReadInput,
    ) -> Option<Result<MarkThreadReadPayload>> {
        Some(mark_thread_read(ctx, input).await)
    }
}

async fn mark_thread_read(ctx: &Context<'_>, input: MarkThreadReadInput) -> Result<MarkThreadReadPayload> {
    let root = parse_id(&input.thread_root_id, "message")?;
    let up_to = input.up_to_message_id.as_ref().map(|id| parse_id(id, "message")).transpose()?;
    let (root, member) = service::threads::mark_read(ctx.app(), ctx.viewer()?, root, up_to).await?;
    let thread = ChatThread::load(ctx, root.id).await?.ok_or(Error::NotFound("message"))?;
    Ok(MarkThreadReadPayload { thread, member: ChatMember(member) })
}
