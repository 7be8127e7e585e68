//! Reports of messages.

use diesel::prelude::*;

use crate::domain::ids::{ChatId, MessageId, OrganizationId, ReportId, UserId};
use crate::domain::pagination::Window;
use crate::domain::reports::{Report, Resolved};
use crate::error::Result;
use crate::storage::column_types::{Key, Time, word};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::reports;
use crate::storage::sql::fragments::{All, Locked};

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

type Row =
    ((Key, String, Key, i64, String, String, Option<String>, Time), (Option<Time>, Option<String>, Option<String>));

fn report((report, (at, by, resolution)): Row) -> Result<Report> {
    let (id, organization, chat, seq, reporter, reason, text, created_at) = report;
    let resolved = match (at, by, resolution) {
        (Some(at), Some(by), Some(resolution)) => {
            Some(Resolved { at: at.0, by: word(&by)?, resolution: word(&resolution)? })
        }
        _ => None,
    };
    Ok(Report {
        id: ReportId(id.0),
        organization: word(&organization)?,
        message: MessageId { chat: ChatId(chat.0), seq },
        reporter: word(&reporter)?,
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
            reports::id.eq(Key(report.id.0)),
            reports::organization_id.eq(report.organization.as_str()),
            reports::chat_id.eq(Key(report.message.chat.0)),
            reports::seq.eq(report.message.seq),
            reports::reporter_id.eq(report.reporter.as_str()),
            reports::reason.eq(&report.reason),
            reports::text.eq(&report.text),
            reports::created_at.eq(Time(report.created_at)),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(inserted == 1)
}

/// A person's report of a message.
pub async fn by_message(conn: &mut Conn, message: MessageId, reporter: &UserId) -> Result<Option<Report>> {
    let rows: Vec<Row> = reports::table
        .filter(reports::chat_id.eq(Key(message.chat.0)))
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
        .filter(reports::id.eq_any(ids.iter().map(|id| Key(id.0))))
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(report).collect()
}

/// A report, locked until the transaction ends.
pub async fn lock(conn: &mut Conn, organization: &OrganizationId, id: ReportId) -> Result<Option<Report>> {
    let query = reports::table
        .filter(reports::organization_id.eq(organization.as_str()))
        .filter(reports::id.eq(Key(id.0)))
        .select(COLUMNS);
    let rows: Vec<Row> = Locked(query).load(conn).await?;
    rows.into_iter().next().map(report).transpose()
}

/// Writes back what was made of a report.
pub async fn resolve(conn: &mut Conn, id: ReportId, resolved: &Resolved) -> Result<()> {
    diesel::update(reports::table.find(Key(id.0)))
        .set((
            reports::resolved_at.eq(Time(resolved.at)),
            reports::resolved_by.eq(resolved.by.as_str()),
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
    window: &Window<uuid::Uuid>,
) -> Result<Vec<Report>> {
    let conditions = All::new()
        .and_some((resolved == Some(false)).then(|| reports::resolved_at.is_null()))
        .and_some((resolved == Some(true)).then(|| reports::resolved_at.is_not_null()))
        .and_some(window.after.map(|after| reports::id.gt(Key(after))));
    let rows: Vec<Row> = reports::table
        .filter(reports::organization_id.eq(organization.as_str()))
        .filter(conditions)
        .order(reports::id)
        .limit(window.fetch())
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(report).collect()
}
