//! The export of an organisation, its freeze, and the end of its move.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::domain::ids::OrganizationId;
use crate::domain::organizations::MoveState;
use crate::error::{Error, Result};
use crate::service::organization_moves::bundle::Bundle;
use crate::service::organization_moves::ranges::{ChatVersions, ExportedRange};
use crate::storage::connection::Conn;
use crate::storage::organization_rows::{KeyRange, chat_versions, checksum, key_of, read};
use crate::storage::organization_tables::{OrganizationTable, organization_tables};
use crate::storage::pool::Database;
use crate::storage::{database_epoch, organizations, schema_version};

/// The time after which all servers know the state of an organisation.
const NOTICE_TIME: Duration = Duration::from_millis(1_500);
/// The time after which the writes from before a freeze have ended.
const DRAIN_TIME: Duration = Duration::from_millis(3_500);
/// The interval at which a pass records how far it is.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// The outcome of a pass.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExportSummary {
    pub pass: u64,
    /// True if nothing can change after the pass.
    pub is_final: bool,
    /// The rows that the organisation has.
    pub rows: usize,
    /// The rows that the pass read, because they may have changed.
    pub read: usize,
    /// The rows in ranges that were written, because something in them is new.
    pub written: usize,
}

/// Exports what the folder does not have yet, after freezing the organisation if `freeze` is true.
///
/// # Errors
///
/// Returns an error if there is no such organisation or another move of it is under way, if the folder belongs to
/// another export or cannot be written, or if the database fails.
pub async fn export(
    database: &Database,
    organization: &OrganizationId,
    folder: &Path,
    freeze: bool,
) -> Result<ExportSummary> {
    let mut conn = database.write().await?;
    let found = organizations::find(&mut conn, organization).await?;
    let (created_at, current) = found.ok_or(Error::NotFound("organization"))?;
    if let Some(current) = current.filter(|current| current.state != MoveState::Frozen) {
        return Err(Error::Conflict(format!("the organization is {}", <&str>::from(current.state))));
    }
    let (epoch, schema) = (database_epoch::load(&mut conn).await?, schema_version::load(&mut conn).await?);
    let bundle = Bundle::open_or_create(folder, organization, created_at.timestamp_micros(), schema, epoch)?;
    if freeze {
        set_move(&mut conn, organization, Some(MoveState::Frozen), None).await?;
    }
    drop(conn);
    if freeze {
        sleep(DRAIN_TIME).await;
    }
    let organization = organization.clone();
    let pass = async move |conn: &mut Conn| {
        without_time_limits(conn).await?;
        Pass::begin(conn, bundle, organization).await?.run(conn, freeze).await
    };
    database.read().await?.snapshot(pass).await
}

/// Ends the move of an organisation: from now on this database answers with the address of its server.
///
/// The folder records it, so that the next import lets the new database serve the organisation.
///
/// # Errors
///
/// Returns [`Error::Conflict`] if the organisation is not frozen, if the folder is not its final export, or if rows have
/// changed since, and an error if the database fails.
pub async fn finish(database: &Database, organization: &OrganizationId, folder: &Path, url: &str) -> Result<()> {
    let mut conn = database.write().await?;
    let (_, current) = organizations::find(&mut conn, organization).await?.ok_or(Error::NotFound("organization"))?;
    let state = current.map(|current| current.state);
    if !matches!(state, Some(MoveState::Frozen | MoveState::Moved)) {
        return Err(Error::Conflict("the organization is not frozen: export it with --freeze and import it".into()));
    }
    let mut bundle = Bundle::open(folder)?;
    if bundle.organization().as_ref() != Some(organization) || !bundle.manifest.is_final {
        return Err(Error::Conflict("the folder is not the final export of the organization".into()));
    }
    let (organization, url, compared) = (organization.clone(), url.to_owned(), &bundle);
    let finish = async move |conn: &mut Conn| {
        without_time_limits(conn).await?;
        let changed = if state == Some(MoveState::Frozen) {
            changed_tables(conn, compared, &organization).await?
        } else {
            Vec::new()
        };
        if !changed.is_empty() {
            let tables = changed.join(", ");
            let message = format!("rows of {tables} have changed since the export: export and import again");
            return Err(Error::Conflict(message));
        }
        organizations::set_move(conn, &organization, Some(MoveState::Moved), Some(&url)).await
    };
    conn.transaction(finish).await?;
    wait_for_notice().await;
    bundle.complete_move()?;
    Ok(())
}

/// Serves a frozen organisation again.
///
/// # Errors
///
/// Returns [`Error::Conflict`] if the organisation is not frozen, and an error if the database fails.
pub async fn resume(database: &Database, organization: &OrganizationId) -> Result<()> {
    let mut conn = database.write().await?;
    let (_, current) = organizations::find(&mut conn, organization).await?.ok_or(Error::NotFound("organization"))?;
    match current.map(|current| current.state) {
        Some(MoveState::Frozen) => set_move(&mut conn, organization, None, None).await,
        _ => Err(Error::Conflict("the organization is not frozen".into())),
    }
}

/// Changes the state of a move in a transaction of its own, and waits until all servers know it.
///
/// # Errors
///
/// Returns an error if the database fails.
pub async fn set_move(
    conn: &mut Conn,
    organization: &OrganizationId,
    state: Option<MoveState>,
    moved_to: Option<&str>,
) -> Result<()> {
    let (organization, moved_to) = (organization.clone(), moved_to.map(str::to_owned));
    conn.transaction(async move |conn: &mut Conn| {
        organizations::set_move(conn, &organization, state, moved_to.as_deref()).await
    })
    .await?;
    wait_for_notice().await;
    Ok(())
}

/// Waits until all servers have read a state that was just committed.
pub async fn wait_for_notice() {
    sleep(NOTICE_TIME).await;
}

/// Lets a transaction of a command take as long as it needs.
async fn without_time_limits(conn: &mut Conn) -> Result<()> {
    match conn {
        Conn::Postgres(_) => {
            let settings = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0";
            conn.batch_execute(settings).await
        }
        Conn::Sqlite(_) => Ok(()),
    }
}

/// Returns the tables of which an organisation has other rows than its export.
async fn changed_tables(conn: &mut Conn, bundle: &Bundle, organization: &OrganizationId) -> Result<Vec<&'static str>> {
    let mut versions = KnownVersions { now: chat_versions(conn, organization).await?, before: HashMap::new() };
    let mut changed = Vec::new();
    for table in organization_tables() {
        for range in bundle.ranges(table)? {
            if !versions.leave_unchanged(bundle, table, &range)?
                && read_checksum(conn, table, organization, range.keys()).await? != (range.rows, range.checksum)
            {
                changed.push(table.name);
                break;
            }
        }
    }
    Ok(changed)
}

/// Returns the number of an organisation's rows in a range, and their checksum.
async fn read_checksum(
    conn: &mut Conn,
    table: &OrganizationTable,
    organization: &OrganizationId,
    range: KeyRange<'_>,
) -> Result<(usize, String)> {
    let (mut count, mut sum, mut last) = (0, 0_u128, None);
    loop {
        let rest = KeyRange { after: last.as_ref().or(range.after), ..range };
        let rows = read(conn, table, organization, rest, table.batch).await?;
        count += rows.len();
        sum = sum.wrapping_add(checksum(table, &rows));
        match rows.last() {
            Some(row) if rows.len() == table.batch => last = Some(key_of(table, row)),
            _ => return Ok((count, spelled(sum))),
        }
    }
}

/// Returns the spelling of a checksum.
pub fn spelled(checksum: u128) -> String {
    format!("{checksum:032x}")
}

/// The versions of chats now, and when earlier passes began.
struct KnownVersions {
    now: ChatVersions,
    before: HashMap<u64, ChatVersions>,
}

impl KnownVersions {
    /// Returns whether the versions of chats prove that the rows of a range are the exported ones.
    fn leave_unchanged(&mut self, bundle: &Bundle, table: &OrganizationTable, range: &ExportedRange) -> Result<bool> {
        let Some(pass) = range.pass.filter(|_| table.is_versioned) else { return Ok(false) };
        if let Entry::Vacant(entry) = self.before.entry(pass) {
            entry.insert(bundle.versions(pass)?);
        }
        Ok(range.has_same_versions(&self.before[&pass], &self.now))
    }
}

/// One pass over all rows that may have changed since the last one, in one snapshot of the database.
struct Pass {
    bundle: Bundle,
    organization: OrganizationId,
    versions: KnownVersions,
    summary: ExportSummary,
    files: usize,
    saved_at: Instant,
}

impl Pass {
    async fn begin(conn: &mut Conn, mut bundle: Bundle, organization: OrganizationId) -> Result<Self> {
        let now = chat_versions(conn, &organization).await?;
        let pass = bundle.begin_pass(&now)?;
        let versions = KnownVersions { now, before: HashMap::new() };
        let summary = ExportSummary { pass, ..ExportSummary::default() };
        Ok(Self { bundle, organization, versions, summary, files: 0, saved_at: Instant::now() })
    }

    async fn run(mut self, conn: &mut Conn, is_final: bool) -> Result<ExportSummary> {
        for table in organization_tables() {
            self.export_table(conn, table).await?;
        }
        self.bundle.complete_pass(is_final)?;
        Ok(ExportSummary { is_final, ..self.summary })
    }

    async fn export_table(&mut self, conn: &mut Conn, table: &OrganizationTable) -> Result<()> {
        let mut left = VecDeque::from(self.bundle.ranges(table)?);
        let mut done = Vec::new();
        while let Some(range) = left.pop_front() {
            if self.versions.leave_unchanged(&self.bundle, table, &range)? {
                self.summary.rows += range.rows;
                done.push(range);
                continue;
            }
            let (exported, rest) = self.export_batch(conn, table, range).await?;
            done.push(exported);
            if let Some(rest) = rest {
                left.push_front(rest);
            }
            if self.saved_at.elapsed() >= SAVE_INTERVAL {
                let all: Vec<_> = done.iter().chain(&left).cloned().collect();
                self.bundle.save_ranges(table, &all)?;
                self.saved_at = Instant::now();
            }
        }
        self.bundle.save_ranges(table, &done)?;
        self.bundle.remove_unused(table, &done)?;
        Ok(())
    }

    /// Exports the first rows of a range, and returns the range that they make and the rest.
    async fn export_batch(
        &mut self,
        conn: &mut Conn,
        table: &OrganizationTable,
        range: ExportedRange,
    ) -> Result<(ExportedRange, Option<ExportedRange>)> {
        let rows = read(conn, table, &self.organization, range.keys(), table.batch).await?;
        let last = rows.last().filter(|_| rows.len() == table.batch).map(|row| key_of(table, row));
        let last = last.filter(|last| range.until.as_ref() != Some(last));
        let rest = last.clone().map(|after| ExportedRange {
            after: Some(after),
            until: range.until.clone(),
            ..ExportedRange::default()
        });
        let until = last.or_else(|| range.until.clone());
        let checksum = spelled(checksum(table, &rows));
        self.summary.read += rows.len();
        self.summary.rows += rows.len();
        let pass = Some(self.summary.pass);
        if range.equals(range.after.as_ref(), until.as_ref(), &checksum) {
            return Ok((ExportedRange { pass, ..range }, rest));
        }
        self.summary.written += rows.len();
        self.files += 1;
        let file = match rows.is_empty() {
            true => None,
            false => Some(self.bundle.write_rows(table, self.summary.pass, self.files, &rows)?),
        };
        Ok((ExportedRange { after: range.after, until, pass, file, rows: rows.len(), checksum }, rest))
    }
}
