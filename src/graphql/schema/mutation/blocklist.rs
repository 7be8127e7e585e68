//! Mutations of an organisation's blocklist.

use async_graphql::{Context, InputObject, Object, SimpleObject};

use crate::error::Result;
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::types::blocklist::{BlockAction, BlockedWord, blocked_words};
use crate::service;

/// The input of `blockWords`.
#[derive(InputObject)]
struct BlockWordsInput {
    /// The words to block: 1 to 1,000 single words of letters, digits and emoji, of at most 64 characters.
    /// Case, accents and invisible characters are ignored. In scripts without spaces, a word is blocked inside text.
    words: Vec<String>,
    /// The action for messages that contain one of the words.
    action: BlockAction,
}

/// The input of `unblockWords`.
#[derive(InputObject)]
struct UnblockWordsInput {
    /// The words to remove from the blocklist, 1 to 1,000.
    /// Words that are not on it are ignored.
    words: Vec<String>,
}

/// The organisation's blocklist after a mutation.
#[derive(SimpleObject)]
struct BlockedWordsPayload {
    /// All blocked words, ordered by word.
    blocked_words: Vec<BlockedWord>,
}

/// The mutations of this module.
#[derive(Default)]
pub struct BlocklistMutation;

#[Object]
impl BlocklistMutation {
    /// Adds words to the organisation's blocklist, or changes the action of words that are already on it.
    /// The blocklist has at most 1,000 words. Existing messages are not changed. Fails with `FORBIDDEN` if the token
    /// lacks `chat.moderate`.
    async fn block_words(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `blockWords`.")] input: BlockWordsInput,
    ) -> Option<Result<BlockedWordsPayload>> {
        Some(block(ctx, input).await)
    }

    /// Removes words from the organisation's blocklist.
    /// Fails with `FORBIDDEN` if the token lacks `chat.moderate`.
    async fn unblock_words(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `unblockWords`.")] input: UnblockWordsInput,
    ) -> Option<Result<BlockedWordsPayload>> {
        Some(unblock(ctx, input).await)
    }
}

async fn block(ctx: &Context<'_>, input: BlockWordsInput) -> Result<BlockedWordsPayload> {
    let blocklist = service::blocklist::block(ctx.app(), ctx.viewer()?, &input.words, input.action.into()).await?;
    Ok(BlockedWordsPayload { blocked_words: blocked_words(blocklist) })
}

async fn unblock(ctx: &Context<'_>, input: UnblockWordsInput) -> Result<BlockedWordsPayload> {
    let blocklist = service::blocklist::unblock(ctx.app(), ctx.viewer()?, &input.words).await?;
    Ok(BlockedWordsPayload { blocked_words: blocked_words(blocklist) })
}
