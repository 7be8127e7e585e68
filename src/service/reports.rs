//! Reports of messages, and the queue in which moderators read them.

use std::collections::HashMap;

use crate::domain::ids::{MessageId, ReportId};
use crate::domain::pagination::{Page, PageArgs, PageEnd};
use crate::domain::reports::{MAX_REASON_CHARS, Report, ReportResolution, ReportResolutionRecord};
use crate::domain::rights::{require_permission, require_user_message};
use crate::domain::text;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::service::chat_transaction::ChatTransaction;
use crate::service::context::AppContext;
use crate::storage::reports;

/// Reports a message to the organisation's moderators. Once is enough: again gives the first report.
pub async fn report(app: &AppContext, viewer: &Viewer, id: MessageId, reason: &str) -> Result<ReportId> {
    let reason = text::validate_block("reason", reason, MAX_REASON_CHARS)?;
    app.rate_limits.check_reaction(viewer)?;
    let mut conn = app.database.write().await?;
    conn.transaction(async move |conn| {
        let (writing, message) = ChatTransaction::lock_message(conn, app, viewer, id).await?;
        if let Some(first) = reports::by_message(conn, id, viewer.id()).await? {
            return Ok(first.id);
        }
        require_user_message(&message)?;
        let report = Report {
            id: ReportId::new(),
            organization: viewer.organization().clone(),
            message: id,
            reporter: viewer.id().clone(),
            reason,
            text: message.text.or_else(|| message.content.poll.map(|poll| poll.question)),
            created_at: writing.now,
            resolved: None,
        };
        reports::insert(conn, &report).await?;
        Ok(report.id)
    })
    .await
}

/// The organisation's reports, the oldest first: those that are open, those resolved, or both.
pub async fn page(app: &AppContext, viewer: &Viewer, resolved: Option<bool>, args: &PageArgs) -> Result<Page<Report>> {
    require_permission(&viewer.permissions, Permission::ChatModerate)?;
    let window = args.window::<uuid::Uuid>(PageEnd::First)?;
    let mut conn = app.database.read().await?;
    let fetched = reports::page(&mut conn, viewer.organization(), resolved, &window).await?;
    Ok(window.to_page(fetched))
}

/// Those among these that the viewer may read.
pub async fn by_ids(app: &AppContext, viewer: &Viewer, ids: &[ReportId]) -> Result<HashMap<ReportId, Report>> {
    if !viewer.permissions.contains(&Permission::ChatModerate) {
        return Ok(HashMap::new());
    }
    let mut conn = app.database.read().await?;
    let found = reports::by_ids(&mut conn, viewer.organization(), ids).await?;
    Ok(found.into_iter().map(|report| (report.id, report)).collect())
}

/// Notes what was made of a report. It is made once: what another moderator made of it stays.
pub async fn resolve(app: &AppContext, viewer: &Viewer, id: ReportId, resolution: ReportResolution) -> Result<Report> {
    require_permission(&viewer.permissions, Permission::ChatModerate)?;
    let mut conn = app.database.write().await?;
    let now = app.clock.now();
    conn.transaction(async move |conn| {
        let report = reports::lock(conn, viewer.organization(), id).await?.ok_or(Error::NotFound("report"))?;
        match &report.resolved {
            Some(resolved) if resolved.resolution == resolution => Ok(report),
            Some(_) => Err(Error::Conflict("the report was resolved otherwise before".into())),
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
