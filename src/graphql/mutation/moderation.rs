use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use super::super::context::ContextExt;
use super::super::types::{BlockAction, BlockedWord, Report, ReportResolution, blocked_words};
use super::existing;
use crate::error::Result;
use crate::service;

/// A message to report.
#[derive(InputObject)]
struct ReportMessageInput {
    /// The message.
    message_id: ID,
    /// Why, for the moderators to read: 1 to 1,000 characters.
    reason: String,
}

/// What was reported.
#[derive(SimpleObject)]
struct ReportMessagePayload {
    /// The report's id.
    report_id: ID,
}

/// What to make of a report.
#[derive(InputObject)]
struct ResolveReportInput {
    /// The report.
    report_id: ID,
    /// What was made of it.
    resolution: ReportResolution,
}

/// A report after a change.
#[derive(SimpleObject)]
struct ReportPayload {
    /// The report.
    report: Report,
}

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
pub struct ModerationMutation;

#[Object]
impl ModerationMutation {
    /// Reports a message to the organisation's moderators. Reported again by the same person it is the
    /// first report.
    async fn report_message(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What, and why.")] input: ReportMessageInput,
    ) -> Option<Result<ReportMessagePayload>> {
        Some(report(ctx, input).await)
    }

    /// Notes what was made of a report, once; needs the permission CHAT_MODERATE.
    async fn resolve_report(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which report, and what was made of it.")] input: ResolveReportInput,
    ) -> Option<Result<ReportPayload>> {
        Some(resolve(ctx, input).await)
    }

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

async fn report(ctx: &Context<'_>, input: ReportMessageInput) -> Result<ReportMessagePayload> {
    let viewer = ctx.viewer()?;
    let message = existing(&input.message_id, "message")?;
    let report = service::reports::report(ctx.app(), viewer, message, &input.reason).await?;
    Ok(ReportMessagePayload { report_id: report.to_string().into() })
}

async fn resolve(ctx: &Context<'_>, input: ResolveReportInput) -> Result<ReportPayload> {
    let viewer = ctx.viewer()?;
    let id = existing(&input.report_id, "report")?;
    let report = service::reports::resolve(ctx.app(), viewer, id, input.resolution.into()).await?;
    Ok(ReportPayload { report: Report(report) })
}

async fn block(ctx: &Context<'_>, input: BlockWordsInput) -> Result<BlockedWordsPayload> {
    let list = service::blocklist::block(ctx.app(), ctx.viewer()?, &input.words, input.action.into()).await?;
    Ok(BlockedWordsPayload { blocked_words: blocked_words(list) })
}

async fn unblock(ctx: &Context<'_>, input: UnblockWordsInput) -> Result<BlockedWordsPayload> {
    let list = service::blocklist::unblock(ctx.app(), ctx.viewer()?, &input.words).await?;
    Ok(BlockedWordsPayload { blocked_words: blocked_words(list) })
}
