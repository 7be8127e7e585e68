use async_graphql::{Context, InputObject, Object, SimpleObject};

use crate::error::Result;
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::types::blocklist::{BlockAction, BlockedWord, blocked_words};
use crate::service;

/// Words to block.
#[derive(InputObject)]
struct BlockWordsInput {
    /// Single words of at most 64 characters, 1 to 1,000. Case and accents make no difference.
    words: Vec<String>,
    /// What becomes of a message with one of them.
    action: BlockAction,
}

/// Words to block no more.
#[derive(InputObject)]
struct UnblockWordsInput {
    /// Words of the list, 1 to 1,000; others make no difference.
    words: Vec<String>,
}

/// The organisation's list after a change.
#[derive(SimpleObject)]
struct BlockedWordsPayload {
    /// All words of the list, in their order.
    blocked_words: Vec<BlockedWord>,
}

#[derive(Default)]
pub struct BlocklistMutation;

#[Object]
impl BlocklistMutation {
    /// Puts words on the organisation's blocklist, or changes what becomes of them; at most 1,000 are on
    /// it. Needs the permission CHAT_MODERATE. Messages that were sent stay as they are.
    async fn block_words(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which words.")] input: BlockWordsInput,
    ) -> Option<Result<BlockedWordsPayload>> {
        Some(block(ctx, input).await)
    }

    /// Takes words off the organisation's blocklist; needs the permission CHAT_MODERATE.
    async fn unblock_words(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which words.")] input: UnblockWordsInput,
    ) -> Option<Result<BlockedWordsPayload>> {
        Some(unblock(ctx, input).await)
    }
}

async fn block(ctx: &Context<'_>, input: BlockWordsInput) -> Result<BlockedWordsPayload> {
    let list = service::blocklist::block(ctx.app(), ctx.viewer()?, &input.words, input.action.into()).await?;
    Ok(BlockedWordsPayload { blocked_words: blocked_words(list) })
}

async fn unblock(ctx: &Context<'_>, input: UnblockWordsInput) -> Result<BlockedWordsPayload> {
    let list = service::blocklist::unblock(ctx.app(), ctx.viewer()?, &input.words).await?;
    Ok(BlockedWordsPayload { blocked_words: blocked_words(list) })
}
