//! The former texts of messages.

use std::collections::HashMap;

use crate::domain::ids::MessageId;
use crate::domain::message_queries::RevisionsQuery;
use crate::domain::pagination::Page;
use crate::domain::revisions::{Revision, surplus};
use crate::error::Result;
use crate::service::context::AppContext;
use crate::storage::connection::Conn;
use crate::storage::revisions;

/// Returns pages of the former texts of messages that were shown to the viewer.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn pages(app: &AppContext, queries: &[RevisionsQuery]) -> Result<HashMap<RevisionsQuery, Page<Revision>>> {
    let mut conn = app.database.read().await?;
    let fetched = revisions::pages(&mut conn, queries).await?;
    Ok(queries.iter().zip(fetched).map(|(query, rows)| (query.clone(), query.window.to_page(rows))).collect())
}

/// Drops the former texts of a message beyond its limits.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn drop_surplus(conn: &mut Conn, id: MessageId) -> Result<()> {
    let sizes = revisions::sizes(conn, id).await?;
    let dropped = surplus(&sizes);
    if let (Some(first), Some(last)) = (dropped.first(), dropped.last()) {
        revisions::delete_range(conn, id, first.version, last.version).await?;
    }
    Ok(())
}
