//! Reports of messages.

use diesel::prelude::*;

use crate::domain::ids::{ChatId, MessageId, OrganizationId, ReportId, UserId};
use crate::domain::pagination::PageWindow;
use crate::domain::reports::{Report, ReportResolutionRecord};
use crate::error::Result;
use crate::storage::column_types::{TimestampValue, UuidValue, parse_column};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::reports;
use crate::storage::sql::fragments::{Conditions, ForUpdate};

type Columns = (
    (
        reports::id,
        reports::organization_id,
        reports::chat_id,
        reports::seq,
        reports::reporter_id,
        reports::reason,
        reports::text,
        reports::created_at,
    ),
    (reports::resolved_at, reports::resolved_by, reports::resolution),
);
const COLUMNS: Columns = (
    (
        reports::id,
        reports::organization_id,
        reports::chat_id,
        reports::seq,
        reports::reporter_id,
        reports::reason,
        reports::text,
        reports::created_at,
    ),
    (reports::resolved_at, reports::resolved_by, reports::resolution),
);

type Row = (
    (UuidValue, String, UuidValue, i64, String, String, Option<String>, TimestampValue),
    (Option<TimestampValue>, Option<String>, Option<String>),
);

fn report((report, (at, by, resolution)): Row) -> Result<Report> {
    let (id, organization, chat, seq, reporter, reason, text, created_at) = report;
    let resolved = match (at, by, resolution) {
        (Some(at), Some(by), Some(resolution)) => Some(ReportResolutionRecord {
            resolved_at: at.0,
            resolved_by: parse_column(&by)?,
            resolution: parse_column(&resolution)?,
        }),
        _ => None,
    };
    Ok(Report {
        id: ReportId(id.0),
        organization: parse_column(&organization)?,
        message: MessageId { chat: ChatId(chat.0), seq },
        reporter: parse_column(&reporter)?,
        reason,
        text,
        created_at: created_at.0,
        resolved,
    })
}

/// Adds a report; false where this person reported the message before.
pub async fn insert(conn: &mut Conn, report: &Report) -> Result<bool> {
    let inserted = diesel::insert_into(reports::table)
        .values((
            reports::id.eq(UuidValue(report.id.0)),
            reports::organization_id.eq(report.organization.as_str()),
            reports::chat_id.eq(UuidValue(report.message.chat.0)),
            reports::seq.eq(report.message.seq),
            reports::reporter_id.eq(report.reporter.as_str()),
            reports::reason.eq(&report.reason),
            reports::text.eq(&report.text),
            reports::created_at.eq(TimestampValue(report.created_at)),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(inserted == 1)
}

/// A person's report of a message.
pub async fn by_message(conn: &mut Conn, message: MessageId, reporter: &UserId) -> Result<Option<Report>> {
    let rows: Vec<Row> = reports::table
        .filter(reports::chat_id.eq(UuidValue(message.chat.0)))
        .filter(reports::seq.eq(message.seq))
        .filter(reports::reporter_id.eq(reporter.as_str()))
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().next().map(report).transpose()
}

pub async fn by_ids(conn: &mut Conn, organization: &OrganizationId, ids: &[ReportId]) -> Result<Vec<Report>> {
    let rows: Vec<Row> = reports::table
        .filter(reports::organization_id.eq(organization.as_str()))
        .filter(reports::id.eq_any(ids.iter().map(|id| UuidValue(id.0))))
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(report).collect()
}

/// A report, locked until the transaction ends.
pub async fn lock(conn: &mut Conn, organization: &OrganizationId, id: ReportId) -> Result<Option<Report>> {
    let query = reports::table
        .filter(reports::organization_id.eq(organization.as_str()))
        .filter(reports::id.eq(UuidValue(id.0)))
        .select(COLUMNS);
    let rows: Vec<Row> = ForUpdate(query).load(conn).await?;
    rows.into_iter().next().map(report).transpose()
}

/// Writes back what was made of a report.
pub async fn resolve(conn: &mut Conn, id: ReportId, resolved: &ReportResolutionRecord) -> Result<()> {
    diesel::update(reports::table.find(UuidValue(id.0)))
        .set((
            reports::resolved_at.eq(TimestampValue(resolved.resolved_at)),
            reports::resolved_by.eq(resolved.resolved_by.as_str()),
            reports::resolution.eq(<&str>::from(resolved.resolution)),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Reports of an organisation, the oldest first, one more than asked for: those that are open, those
/// that were resolved, or both.
pub async fn page(
    conn: &mut Conn,
    organization: &OrganizationId,
    resolved: Option<bool>,
    window: &PageWindow<uuid::Uuid>,
) -> Result<Vec<Report>> {
    let conditions = Conditions::new()
        .and_option((resolved == Some(false)).then(|| reports::resolved_at.is_null()))
        .and_option((resolved == Some(true)).then(|| reports::resolved_at.is_not_null()))
        .and_option(window.after.map(|after| reports::id.gt(UuidValue(after))));
    let rows: Vec<Row> = reports::table
        .filter(reports::organization_id.eq(organization.as_str()))
        .filter(conditions)
        .order(reports::id)
        .limit(window.fetch_limit())
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(report).collect()
}
