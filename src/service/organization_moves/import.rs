//! The import of an exported organisation.

use std::path::Path;
use std::time::{Duration, Instant};

use chrono::DateTime;

use crate::domain::cursors::DatabaseEpoch;
use crate::domain::ids::{ChatId, MessageId, OrganizationId};
use crate::domain::organizations::MoveState;
use crate::error::{Error, Result};
use crate::service::organization_moves::bundle::{Bundle, Imported};
use crate::service::organization_moves::export::{set_move, spelled, wait_for_notice};
use crate::service::organization_moves::ranges::ExportedRange;
use crate::storage::connection::Conn;
use crate::storage::organization_rows::{Values, checksum, count, delete_others, read, upsert};
use crate::storage::organization_tables::{OrganizationTable, organization_tables};
use crate::storage::pool::Database;
use crate::storage::{database_epoch, organizations, schema_version, search_index};

/// The interval at which an import records how far it is.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// The outcome of an import.
#[derive(Debug, Clone, Copy, Default)]
pub struct ImportSummary {
    /// The rows that the organisation has.
    pub rows: usize,
    /// The rows in ranges that were written.
    pub written: usize,
    /// True if the organisation is served from now on.
    ///
    /// The old database must have stopped serving it.
    pub is_served: bool,
}

/// Imports the rows of an exported organisation that a database does not have yet.
///
/// The organisation is served then if the old database serves it no more.
///
/// # Errors
///
/// Returns [`Error::Conflict`] if the export is not complete, damaged, of another schema or from this database, if the
/// database has the organisation already, or if it does not have the exported rows afterwards. Fails if the folder or
/// the database does.
pub async fn import(database: &Database, folder: &Path) -> Result<ImportSummary> {
    let bundle = Bundle::open(folder)?;
    if !bundle.manifest.is_complete {
        return Err(Error::Conflict("the export was interrupted: export again, which continues it".into()));
    }
    let organization = bundle.organization().ok_or_else(|| Error::Conflict("the export has no organization".into()))?;
    let mut conn = database.write().await?;
    let (epoch, schema) = (database_epoch::load(&mut conn).await?, schema_version::load(&mut conn).await?);
    if epoch.0 == bundle.manifest.epoch {
        return Err(Error::Conflict("the export is from this database".into()));
    }
    if schema != bundle.manifest.schema {
        let exported = bundle.manifest.schema;
        let message =
            format!("the export has the schema {exported}, and the database {schema}: migrate both to one version");
        return Err(Error::Conflict(message));
    }
    let is_continued = begin(&mut conn, &bundle, &organization).await?;
    let mut progress = Progress {
        imported: if is_continued { bundle.imported(epoch)? } else { Imported::new() },
        summary: ImportSummary::default(),
        saved_at: Instant::now(),
    };
    let applied = progress.apply_all(&mut conn, &bundle, epoch, &organization).await;
    // After a failure too, so that the next import continues there.
    bundle.save_imported(epoch, &progress.imported)?;
    applied?;
    require_counts(&mut conn, &bundle, &organization).await?;
    if bundle.manifest.is_moved {
        set_move(&mut conn, &organization, None, None).await?;
        progress.summary.is_served = true;
    }
    Ok(progress.summary)
}

/// The progress of an import.
struct Progress {
    imported: Imported,
    summary: ImportSummary,
    saved_at: Instant,
}

impl Progress {
    /// Applies all ranges that the database does not have.
    async fn apply_all(
        &mut self,
        conn: &mut Conn,
        bundle: &Bundle,
        epoch: DatabaseEpoch,
        organization: &OrganizationId,
    ) -> Result<()> {
        for table in organization_tables() {
            for range in bundle.ranges(table)? {
                self.summary.rows += range.rows;
                let bounds = format!("{} {}", table.name, serde_json::json!([range.after, range.until]));
                if self.imported.get(&bounds) == Some(&range.checksum) {
                    continue;
                }
                self.summary.written += range.rows;
                let (rows, checksum) = (bundle.read_rows(table, &range)?, range.checksum.clone());
                apply(conn, table, organization, range, rows).await?;
                self.imported.insert(bounds, checksum);
                if self.saved_at.elapsed() >= SAVE_INTERVAL {
                    bundle.save_imported(epoch, &self.imported)?;
                    self.saved_at = Instant::now();
                }
            }
        }
        Ok(())
    }
}

/// Marks the organisation as one that is being imported; returns whether it was marked already.
async fn begin(conn: &mut Conn, bundle: &Bundle, organization: &OrganizationId) -> Result<bool> {
    let state = match organizations::find(conn, organization).await? {
        Some((_, Some(current))) => Some(current.state),
        Some((_, None)) => return Err(Error::Conflict("the database has the organization already".into())),
        None => None,
    };
    match state {
        Some(MoveState::Importing) => return Ok(true),
        None => {}
        // One that was moved away may come back after its rows were deleted.
        Some(MoveState::Moved) => {
            for table in organization_tables() {
                if count(conn, table, organization).await? > 0 {
                    let message = format!("the database still has {}: parlor orgs delete removes them", table.name);
                    return Err(Error::Conflict(message));
                }
            }
        }
        Some(state) => return Err(Error::Conflict(format!("the organization is {}", <&str>::from(state)))),
    }
    let created_at = DateTime::from_timestamp_micros(bundle.manifest.created_at).unwrap_or_default();
    let organization = organization.clone();
    conn.transaction(async move |conn: &mut Conn| {
        organizations::insert_importing(conn, &organization, created_at).await
    })
    .await?;
    wait_for_notice().await;
    Ok(false)
}

/// Makes the rows of a range those of the export, and checks that they are.
async fn apply(
    conn: &mut Conn,
    table: &'static OrganizationTable,
    organization: &OrganizationId,
    range: ExportedRange,
    rows: Vec<Values>,
) -> Result<()> {
    if (rows.len(), spelled(checksum(table, &rows))) != (range.rows, range.checksum.clone()) {
        let file = range.file.unwrap_or_default();
        return Err(Error::Conflict(format!(
            "the file {file} of {} is damaged: export into another folder",
            table.name
        )));
    }
    let organization = organization.clone();
    conn.transaction(async move |conn: &mut Conn| {
        upsert(conn, table, &rows).await?;
        delete_others(conn, table, &organization, range.keys(), &rows).await?;
        if table.name == "messages" {
            let ids: Vec<MessageId> = rows.iter().filter_map(|row| indexed_message(table, row)).collect();
            if !ids.is_empty() {
                search_index::reindex(conn, organization.bucket(), &ids).await?;
            }
        }
        let stored = read(conn, table, &organization, range.keys(), rows.len() + 1).await?;
        match (stored.len(), spelled(checksum(table, &stored))) == (range.rows, range.checksum) {
            true => Ok(()),
            false => Err(Error::Conflict(format!("rows of {} are not stored as they were exported", table.name))),
        }
    })
    .await
}

/// Returns the id of a message that searches find; `None` for a system message.
fn indexed_message(table: &OrganizationTable, row: &Values) -> Option<MessageId> {
    let value = |name: &str| table.columns.iter().position(|column| column.name == name).map(|at| &row[at]);
    let chat = value("chat_id")?.as_str()?.parse().ok()?;
    let seq = value("seq")?.as_i64()?;
    (value("kind")? != "system").then_some(MessageId { chat: ChatId(chat), seq })
}

/// Checks that the database has as many rows of each table as the export.
async fn require_counts(conn: &mut Conn, bundle: &Bundle, organization: &OrganizationId) -> Result<()> {
    for table in organization_tables() {
        let expected: usize = bundle.ranges(table)?.iter().map(|range| range.rows).sum();
        let found = count(conn, table, organization).await?;
        if found != expected as u64 {
            let message = format!("the database has {found} rows of {}, and the export {expected}", table.name);
            return Err(Error::Conflict(message));
        }
    }
    Ok(())
}
