//! The deletion of an organisation's rows.

use crate::domain::ids::OrganizationId;
use crate::domain::organizations::MoveState;
use crate::error::{Error, Result};
use crate::service::organization_moves::export::set_move;
use crate::storage::connection::Conn;
use crate::storage::organization_rows::{count, delete_first};
use crate::storage::organization_tables::organization_tables;
use crate::storage::organizations;
use crate::storage::pool::Database;

/// The number of rows by table.
pub type RowCounts = Vec<(&'static str, u64)>;

/// Returns the number of an organisation's rows in each table.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if there is no such organisation, and an error if the database fails.
pub async fn row_counts(database: &Database, organization: &OrganizationId) -> Result<RowCounts> {
    let mut conn = database.read().await?;
    organizations::find(&mut conn, organization).await?.ok_or(Error::NotFound("organization"))?;
    let mut counts = Vec::new();
    for table in organization_tables() {
        counts.push((table.name, count(&mut conn, table, organization).await?));
    }
    Ok(counts)
}

/// Deletes all rows of an organisation in batches, and returns their number.
///
/// A deletion that is interrupted continues when it is repeated. The organisation itself stays: one that has moved
/// still answers with its address, and any other one is empty and can be used again.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if there is no such organisation, and an error if the database fails.
pub async fn delete(database: &Database, organization: &OrganizationId) -> Result<usize> {
    let mut conn = database.write().await?;
    let (_, current) = organizations::find(&mut conn, organization).await?.ok_or(Error::NotFound("organization"))?;
    let has_moved = current.is_some_and(|current| current.state == MoveState::Moved);
    if !has_moved {
        set_move(&mut conn, organization, Some(MoveState::Deleting), None).await?;
    }
    let mut deleted = 0;
    // Rows that refer to others first.
    for table in organization_tables().iter().rev() {
        loop {
            let organization = organization.clone();
            let batch = conn.transaction(async move |conn: &mut Conn| delete_first(conn, table, &organization).await);
            match batch.await? {
                0 => break,
                rows => deleted += rows,
            }
        }
    }
    if !has_moved {
        set_move(&mut conn, organization, None, None).await?;
    }
    Ok(deleted)
}
