//! Blocked words.

use std::collections::{HashMap, HashSet};

use diesel::prelude::*;

use crate::domain::blocklist::{BlockAction, Blocklist, normalize_stored};
use crate::domain::ids::OrganizationId;
use crate::error::Result;
use crate::storage::column_types::TextValue;
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::blocked_words;
use crate::storage::sql::in_list::in_list;
use crate::storage::sql::insert_many::insert_many;

/// Returns the blocklists of organisations; an organisation without blocked words is left out.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn by_organizations(
    conn: &mut Conn,
    organizations: &[&OrganizationId],
) -> Result<HashMap<OrganizationId, Blocklist>> {
    let rows: Vec<(TextValue<OrganizationId>, String, TextValue<BlockAction>)> = blocked_words::table
        .filter(in_list(blocked_words::organization_id, organizations.iter().map(|organization| organization.as_str())))
        .select((blocked_words::organization_id, blocked_words::word, blocked_words::action))
        .load(conn)
        .await?;
    let mut lists: HashMap<OrganizationId, Blocklist> = HashMap::new();
    for (organization, word, action) in rows {
        lists.entry(organization.0).or_default().insert_stored(&word, action.0);
    }
    Ok(lists)
}

/// Adds words to a blocklist, or changes the action of words that are on it.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn block(
    conn: &mut Conn,
    organization: &OrganizationId,
    words: &[String],
    action: BlockAction,
) -> Result<()> {
    unblock(conn, organization, words).await?;
    let rows = words.iter().map(|word| {
        (
            blocked_words::organization_id.eq(organization.as_str()),
            blocked_words::word.eq(word.as_str()),
            blocked_words::action.eq(<&str>::from(action)),
        )
    });
    insert_many(blocked_words::table, rows).execute(conn).await?;
    Ok(())
}

/// Removes words from a blocklist.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn unblock(conn: &mut Conn, organization: &OrganizationId, words: &[String]) -> Result<()> {
    let of_organization = blocked_words::organization_id.eq(organization.as_str());
    // A stored word may have the form of an earlier version.
    let stored: Vec<String> =
        blocked_words::table.filter(of_organization).select(blocked_words::word).load(conn).await?;
    let removed: HashSet<&str> = words.iter().map(String::as_str).collect();
    let matching = stored.into_iter().filter(|word| removed.contains(normalize_stored(word).as_str()));
    let matching: Vec<String> = matching.collect();
    if !matching.is_empty() {
        let matching = of_organization.and(blocked_words::word.eq_any(matching));
        diesel::delete(blocked_words::table.filter(matching)).execute(conn).await?;
    }
    Ok(())
}
