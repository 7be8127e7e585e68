//! Reports of messages.

use diesel::prelude::*;

use crate::domain::ids::{ChatId, MessageId, OrganizationId, ReportId, UserId};
use crate::domain::pagination::PageWindow;
use crate::domain::reports::{Report, ReportResolution, ReportResolutionRecord};
use crate::error::Result;
use crate::storage::column_types::{TextValue, TimestampValue, UuidValue};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::read_budget::{LargeRow, charge_rows};
use crate::storage::schema::reports;
use crate::storage::sql::columns::columns;
use crate::storage::sql::conditions::Conditions;
use crate::storage::sql::for_update::for_update;
use crate::storage::sql::keys::{keys_in, of_chat};

/// The columns of a report.
#[derive(Queryable, Selectable)]
#[diesel(table_name = reports, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct ReportRow {
    id: UuidValue,
    organization_id: TextValue<OrganizationId>,
    chat_id: UuidValue,
    seq: i64,
    reporter_id: TextValue<UserId>,
    reason: String,
    text: Option<String>,
    created_at: TimestampValue,
    resolved_at: Option<TimestampValue>,
    resolved_by: Option<TextValue<UserId>>,
    resolution: Option<TextValue<ReportResolution>>,
}

impl From<ReportRow> for Report {
    fn from(row: ReportRow) -> Self {
        let resolved = match (row.resolved_at, row.resolved_by, row.resolution) {
            (Some(at), Some(by), Some(resolution)) => {
                Some(ReportResolutionRecord { resolved_at: at.0, resolved_by: by.0, resolution: resolution.0 })
            }
            _ => None,
        };
        Self {
            id: ReportId(row.id.0),
            organization: row.organization_id.0,
            message: MessageId { chat: ChatId(row.chat_id.0), seq: row.seq },
            reporter: row.reporter_id.0,
            reason: row.reason,
            text: row.text,
            created_at: row.created_at.0,
            resolved,
        }
    }
}

impl LargeRow for ReportRow {
    fn text_bytes(&self) -> usize {
        self.reason.len() + self.text.as_ref().map_or(0, String::len)
    }
}

fn into_reports(rows: Vec<ReportRow>) -> Result<Vec<Report>> {
    charge_rows(&rows)?;
    Ok(rows.into_iter().map(Report::from).collect())
}

/// Inserts a report and returns `true`, or returns `false` if the reporter reported the message before.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn insert(conn: &mut Conn, report: &Report) -> Result<bool> {
    let inserted = diesel::insert_into(reports::table)
        .values((
            reports::bucket.eq(report.id.bucket().number()),
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

/// Returns a user's report of a message.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn by_message(conn: &mut Conn, message: MessageId, reporter: &UserId) -> Result<Option<Report>> {
    let rows: Vec<ReportRow> = reports::table
        .filter(of_chat((reports::bucket, reports::chat_id), message.chat))
        .filter(reports::seq.eq(message.seq))
        .filter(reports::reporter_id.eq(reporter.as_str()))
        .select(columns::<ReportRow>())
        .load(conn)
        .await?;
    Ok(rows.into_iter().next().map(Report::from))
}

/// Returns the reports of an organisation with these ids.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn by_ids(conn: &mut Conn, organization: &OrganizationId, ids: &[ReportId]) -> Result<Vec<Report>> {
    let rows: Vec<ReportRow> = reports::table
        .filter(reports::organization_id.eq(organization.as_str()))
        .filter(keys_in((reports::bucket, reports::id), ids.iter().map(|id| (id.bucket().number(), UuidValue(id.0)))))
        .select(columns::<ReportRow>())
        .load(conn)
        .await?;
    into_reports(rows)
}

/// Returns a report, locked until the transaction ends.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn lock(conn: &mut Conn, organization: &OrganizationId, id: ReportId) -> Result<Option<Report>> {
    let query = reports::table
        .filter(reports::bucket.eq(id.bucket().number()))
        .filter(reports::id.eq(UuidValue(id.0)))
        .filter(reports::organization_id.eq(organization.as_str()))
        .select(columns::<ReportRow>());
    let rows: Vec<ReportRow> = for_update(query).load(conn).await?;
    Ok(rows.into_iter().next().map(Report::from))
}

/// Writes how a report was resolved.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn resolve(conn: &mut Conn, id: ReportId, resolution: &ReportResolutionRecord) -> Result<()> {
    diesel::update(reports::table.find((id.bucket().number(), UuidValue(id.0))))
        .set((
            reports::resolved_at.eq(TimestampValue(resolution.resolved_at)),
            reports::resolved_by.eq(resolution.resolved_by.as_str()),
            reports::resolution.eq(<&str>::from(resolution.resolution)),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Returns an organisation's reports, oldest first: the open ones, the resolved ones, or all.
///
/// It returns one report more than the window shows, if there are more.
///
/// # Errors
///
/// Returns an error if the statement fails.
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
    let rows: Vec<ReportRow> = reports::table
        .filter(reports::bucket.eq(organization.bucket().number()))
        .filter(reports::organization_id.eq(organization.as_str()))
        .filter(conditions)
        .order(reports::id)
        .limit(window.fetch_limit())
        .select(columns::<ReportRow>())
        .load(conn)
        .await?;
    into_reports(rows)
}
