//! Blocked words.

use std::collections::HashMap;

use diesel::prelude::*;

use crate::domain::blocklist::{BlockAction, Blocklist};
use crate::domain::ids::OrganizationId;
use crate::error::Result;
use crate::storage::column_types::parse_column;
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::blocked_words;
use crate::storage::sql::fragments::{in_list, insert_rows};

/// The lists of these organisations; one without words is left out.
pub async fn by_organizations(
    conn: &mut Conn,
    organizations: &[&OrganizationId],
) -> Result<HashMap<OrganizationId, Blocklist>> {
    let rows: Vec<(String, String, String)> = blocked_words::table
        .filter(in_list(blocked_words::organization_id, organizations.iter().map(|organization| organization.as_str())))
        .select((blocked_words::organization_id, blocked_words::word, blocked_words::action))
        .load(conn)
        .await?;
    let mut lists: HashMap<OrganizationId, Blocklist> = HashMap::new();
    for (organization, blocked, action) in rows {
        lists.entry(parse_column(&organization)?).or_default().0.insert(blocked, parse_column(&action)?);
    }
    Ok(lists)
}

/// Puts words on a list, or changes what becomes of them.
pub async fn block(
    conn: &mut Conn,
    organization: &OrganizationId,
    words: &[String],
    action: BlockAction,
) -> Result<()> {
    unblock(conn, organization, words).await?;
    let rows = words.iter().map(|blocked| {
        (
            blocked_words::organization_id.eq(organization.as_str()),
            blocked_words::word.eq(blocked.as_str()),
            blocked_words::action.eq(<&str>::from(action)),
        )
    });
    insert_rows(blocked_words::table, rows).execute(conn).await?;
    Ok(())
}

/// Takes words off a list.
pub async fn unblock(conn: &mut Conn, organization: &OrganizationId, words: &[String]) -> Result<()> {
    let these = blocked_words::organization_id
        .eq(organization.as_str())
        .and(blocked_words::word.eq_any(words.iter().map(String::as_str)));
    diesel::delete(blocked_words::table.filter(these)).execute(conn).await?;
    Ok(())
}
