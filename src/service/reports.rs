//! Reports of messages, and the queue in which moderators read them.

use std::collections::HashMap;

use crate::domain::ids::{MessageId, ReportId};
use crate::domain::pagination::{Page, PageArgs, PageEnd, RootList};
use crate::domain::reports::{MAX_REASON_CHARS, Report, ReportResolution, ReportResolutionRecord};
use crate::domain::rights::{require_permission, require_user_message};
use crate::domain::text;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::service::chat_transaction::ChatTransaction;
use crate::service::context::AppContext;
use crate::storage::connection::Conn;
use crate::storage::replica_reads::Known;
use crate::storage::reports;

/// Reports a message to the organisation's moderators.
///
/// A second report of the message by the same viewer returns the first.
///
/// # Errors
///
/// Returns [`Error::BadUserInput`] if the reason is empty or too long, [`Error::NotFound`] if the viewer may not read
/// the message, [`Error::Forbidden`] if it is a system message or was deleted, and [`Error::RateLimited`] after too
/// many reactions and reports.
pub async fn report(app: &AppContext, viewer: &Viewer, id: MessageId, reason: &str) -> Result<ReportId> {
    let reason = text::validate_lines("reason", reason, MAX_REASON_CHARS)?;
    app.rate_limits.check_reaction(viewer)?;
    let mut conn = app.database.write().await?;
    conn.transaction(async move |conn| {
        let (transaction, message) = ChatTransaction::lock_message(conn, viewer, id, &app.clock).await?;
        if let Some(first) = reports::by_message(conn, id, viewer.id()).await? {
            return Ok(first.id);
        }
        require_user_message(&message)?;
        let report = Report {
            id: ReportId::new(id.bucket()),
            organization: viewer.organization().clone(),
            message: id,
            reporter: viewer.id().clone(),
            reason,
            text: message.text.or_else(|| message.content.poll.map(|poll| poll.question)),
            created_at: transaction.now,
            resolved: None,
        };
        reports::insert(conn, &report).await?;
        Ok(report.id)
    })
    .await
}

/// Returns a page of the organisation's open reports, resolved reports, or both, the oldest first.
///
/// # Errors
///
/// Returns [`Error::Forbidden`] if the viewer is not a moderator, and [`Error::BadUserInput`] if an argument of the
/// page is not valid.
pub async fn page(app: &AppContext, viewer: &Viewer, resolved: Option<bool>, args: &PageArgs) -> Result<Page<Report>> {
    require_permission(&viewer.permissions, Permission::ChatModerate)?;
    let window = args.window::<RootList, uuid::Uuid>(&RootList::Reports, PageEnd::First)?;
    let read = async |conn: &mut Conn| reports::page(conn, viewer.organization(), resolved, &window).await;
    let fetched = app.database.read_from_replica(Known::AllCommits, read).await?;
    Ok(window.to_page(fetched))
}

/// Returns the reports with the given ids, by id; none if the viewer is not a moderator.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn by_ids(app: &AppContext, viewer: &Viewer, ids: &[ReportId]) -> Result<HashMap<ReportId, Report>> {
    if !viewer.permissions.contains(&Permission::ChatModerate) {
        return Ok(HashMap::new());
    }
    let mut conn = app.database.read().await?;
    let found = reports::by_ids(&mut conn, viewer.organization(), ids).await?;
    Ok(found.into_iter().map(|report| (report.id, report)).collect())
}

/// Resolves a report; the same resolution again changes nothing.
///
/// # Errors
///
/// Returns [`Error::Forbidden`] if the viewer is not a moderator, [`Error::NotFound`] if there is no such report, and
/// [`Error::Conflict`] if it already has another resolution.
pub async fn resolve(app: &AppContext, viewer: &Viewer, id: ReportId, resolution: ReportResolution) -> Result<Report> {
    require_permission(&viewer.permissions, Permission::ChatModerate)?;
    app.rate_limits.check_write(viewer)?;
    let mut conn = app.database.write().await?;
    let now = app.clock.now();
    conn.transaction(async move |conn| {
        let report = reports::lock(conn, viewer.organization(), id).await?.ok_or(Error::NotFound("report"))?;
        match &report.resolved {
            Some(resolved) if resolved.resolution == resolution => Ok(report),
            Some(_) => Err(Error::Conflict("the report already has another resolution".into())),
            None => {
                let resolved =
                    ReportResolutionRecord { resolved_at: now, resolved_by: viewer.id().clone(), resolution };
                reports::resolve(conn, id, &resolved).await?;
                Ok(Report { resolved: Some(resolved), ..report })
            }
        }
    })
    .await
}
