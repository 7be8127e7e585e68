//! Mutations of reports.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use crate::error::Result;
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::mutation::parse_id;
use crate::graphql::schema::types::report::{Report, ReportResolution};
use crate::service;

/// The input of `reportMessage`.
#[derive(InputObject)]
struct ReportMessageInput {
    /// The id of the message.
    message_id: ID,
    /// The reason for the moderators to read: 1 to 1,000 characters.
    reason: String,
}

/// The result of `reportMessage`.
#[derive(SimpleObject)]
struct ReportMessagePayload {
    /// The id of the report.
    report_id: ID,
}

/// The input of `resolveReport`.
#[derive(InputObject)]
struct ResolveReportInput {
    /// The id of the report.
    report_id: ID,
    /// The moderator's decision.
    resolution: ReportResolution,
}

/// The report after a mutation.
#[derive(SimpleObject)]
struct ReportPayload {
    /// The report.
    report: Report,
}

/// The mutations of this module.
#[derive(Default)]
pub struct ReportMutation;

#[Object]
impl ReportMutation {
    /// Reports a message to the organisation's moderators.
    /// If the viewer reported the message before, returns the first report and changes nothing. Fails with `FORBIDDEN`
    /// if the message is deleted or a system message.
    async fn report_message(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `reportMessage`.")] input: ReportMessageInput,
    ) -> Option<Result<ReportMessagePayload>> {
        Some(report(ctx, input).await)
    }

    /// Resolves a report.
    /// Resolving it again with the same decision changes nothing. Fails with `FORBIDDEN` if the token lacks
    /// `chat.moderate`, and with `CONFLICT` if the report was resolved differently.
    async fn resolve_report(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `resolveReport`.")] input: ResolveReportInput,
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
    let report = parse_id(&input.report_id, "report")?;
    let report = service::reports::resolve(ctx.app(), viewer, report, input.resolution.into()).await?;
    Ok(ReportPayload { report: Report(report) })
}
