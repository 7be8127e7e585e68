use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use crate::error::Result;
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::mutation::parse_id;
use crate::graphql::schema::types::report::{Report, ReportResolution};
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

#[derive(Default)]
pub struct ReportMutation;

#[Object]
impl ReportMutation {
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
}

async fn report(ctx: &Context<'_>, input: ReportMessageInput) -> Result<ReportMessagePayload> {
    let viewer = ctx.viewer()?;
    let message = parse_id(&input.message_id, "message")?;
    let report = service::reports::report(ctx.app(), viewer, message, &input.reason).await?;
    Ok(ReportMessagePayload { report_id: report.to_string().into() })
}

async fn resolve(ctx: &Context<'_>, input: ResolveReportInput) -> Result<ReportPayload> {
    let viewer = ctx.viewer()?;
    let id = parse_id(&input.report_id, "report")?;
    let report = service::reports::resolve(ctx.app(), viewer, id, input.resolution.into()).await?;
    Ok(ReportPayload { report: Report(report) })
}
