//! Organisations, and the states of their moves between databases.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Nullable};

use crate::domain::ids::OrganizationId;
use crate::domain::organizations::{MoveState, OrganizationMove};
use crate::error::Result;
use crate::storage::column_types::{TextValue, TimestampValue};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::organizations;

/// The number of earlier changes that are read again.
///
/// A change may be committed after one with a higher number.
const REVISION_MARGIN: i64 = 100;

/// The move of an organisation, with the number of its last change.
pub struct StoredMove {
    pub organization: OrganizationId,
    pub revision: i64,
    /// `None` for an organisation that is served again.
    pub current: Option<OrganizationMove>,
}

type MoveRow = (TextValue<OrganizationId>, Option<i64>, Option<TextValue<MoveState>>, Option<String>);

fn into_stored((organization, revision, state, moved_to): MoveRow) -> StoredMove {
    let current = state.map(|state| OrganizationMove { state: state.0, moved_to });
    StoredMove { organization: organization.0, revision: revision.unwrap_or(0), current }
}

/// Returns the condition that the organisation of a table's row is not on its way to another database.
///
/// Background work changes such rows only.
pub fn is_served(table: &str) -> SqlLiteral<Bool> {
    sql(&format!(
        "NOT EXISTS (SELECT 1 FROM organizations WHERE organizations.id = {table}.organization_id \
         AND organizations.move_state IS NOT NULL)"
    ))
}

/// Returns the moves that changed after a revision, and some that changed shortly before it.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn moves_since(conn: &mut Conn, revision: i64) -> Result<Vec<StoredMove>> {
    let rows: Vec<MoveRow> = organizations::table
        .filter(organizations::move_revision.is_not_null())
        .filter(organizations::move_revision.assume_not_null().gt(revision.saturating_sub(REVISION_MARGIN)))
        .select((organizations::id, organizations::move_revision, organizations::move_state, organizations::moved_to))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(into_stored).collect())
}

/// Returns the time of an organisation's creation and its move; `None` if there is none.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn find(
    conn: &mut Conn,
    organization: &OrganizationId,
) -> Result<Option<(DateTime<Utc>, Option<OrganizationMove>)>> {
    let rows: Vec<(TimestampValue, Option<TextValue<MoveState>>, Option<String>)> = organizations::table
        .find(organization.as_str())
        .select((organizations::created_at, organizations::move_state, organizations::moved_to))
        .load(conn)
        .await?;
    Ok(rows.into_iter().next().map(|(created_at, state, moved_to)| {
        (created_at.0, state.map(|state| OrganizationMove { state: state.0, moved_to }))
    }))
}

/// Inserts an organisation that another database had, in the state of an import.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn insert_importing(conn: &mut Conn, organization: &OrganizationId, created_at: DateTime<Utc>) -> Result<()> {
    diesel::insert_into(organizations::table)
        .values((organizations::id.eq(organization.as_str()), organizations::created_at.eq(TimestampValue(created_at))))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    set_move(conn, organization, Some(MoveState::Importing), None).await
}

/// Sets or ends the move of an organisation, and gives it the next revision.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn set_move(
    conn: &mut Conn,
    organization: &OrganizationId,
    state: Option<MoveState>,
    moved_to: Option<&str>,
) -> Result<()> {
    let next = "(SELECT COALESCE(max(latest.move_revision), 0) + 1 FROM organizations AS latest)";
    diesel::update(organizations::table.find(organization.as_str()))
        .set((
            organizations::move_state.eq(state.map(|state| <&str>::from(state).to_owned())),
            organizations::moved_to.eq(moved_to.map(str::to_owned)),
            organizations::move_revision.eq(sql::<Nullable<BigInt>>(next)),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Deletes the row of an organisation that has no other rows.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn delete(conn: &mut Conn, organization: &OrganizationId) -> Result<()> {
    diesel::delete(organizations::table.find(organization.as_str())).execute(conn).await?;
    Ok(())
}
