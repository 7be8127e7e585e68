//! The names of users and the titles of chats in the form by which they are found.
//!
//! Rows from before a change of that form have none, until a task has come to them.

use diesel::prelude::*;

use crate::domain::ids::ChatId;
use crate::domain::search::folding::fold;
use crate::error::Result;
use crate::storage::chats::lock as lock_chats;
use crate::storage::column_types::UuidValue;
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::{chats, search_reindexing, users};
use crate::storage::sql::for_update::for_update;
use crate::storage::sql::keys::all_buckets;
use crate::storage::sql::values_statement::ValuesStatement;

/// The rows that one step writes, which are few, because they are locked meanwhile.
const BATCH: i64 = 100;

/// Gives the next users the form by which they are found, and returns their number.
///
/// It has to run in a transaction, which locks the users.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn fold_names(conn: &mut Conn) -> Result<usize> {
    let missing = users::table
        .filter(users::name_search.is_null())
        .order((users::organization_id, users::id))
        .limit(BATCH)
        .select((users::organization_id, users::id, users::name));
    let missing: Vec<(String, String, String)> = for_update(missing).load(conn).await?;
    if !missing.is_empty() {
        let rows = missing
            .iter()
            .map(|(organization, id, name)| vec![organization.as_str().into(), id.as_str().into(), fold(name).into()]);
        let update = ValuesStatement::new(
            "UPDATE users SET name_search = folded.column3 FROM ",
            rows,
            " AS folded WHERE users.organization_id = folded.column1 AND users.id = folded.column2",
        );
        update.execute(conn).await?;
    }
    Ok(missing.len())
}

/// Gives the next chats the form by which their titles are found, and returns their number.
///
/// It has to run in a transaction. It locks the chats, which are of one bucket, in the order of their ids.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn fold_titles(conn: &mut Conn) -> Result<usize> {
    // It reads every shard, and writes to one.
    let missing: Vec<(i32, UuidValue)> = chats::table
        .filter(all_buckets(chats::bucket))
        .filter(chats::title_search.is_null())
        .filter(chats::title.is_not_null())
        .order((chats::bucket, chats::id))
        .limit(BATCH)
        .select((chats::bucket, chats::id))
        .load(conn)
        .await?;
    let ids: Vec<ChatId> = missing.iter().map(|(_, id)| ChatId(id.0)).collect();
    let Some(ids) = ids.chunk_by(|one, other| one.bucket() == other.bucket()).next() else { return Ok(0) };
    let bucket = ids[0].bucket();
    // Read after the chats were locked, because a title may have changed before.
    let locked = lock_chats(conn, bucket, ids).await?;
    let titles = locked.iter().filter_map(|chat| Some((chat.id, chat.details.title.as_deref()?)));
    let rows: Vec<_> = titles.map(|(id, title)| vec![UuidValue(id.0).into(), fold(title).into()]).collect();
    if !rows.is_empty() {
        let update = ValuesStatement::new(
            "UPDATE chats SET title_search = folded.column2 FROM ",
            rows,
            " AS folded WHERE chats.id = folded.column1 AND chats.bucket = ",
        );
        update.in_bucket(bucket).execute(conn).await?;
    }
    Ok(ids.len())
}

/// The rows that are not yet in the form by which they are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// The names of users.
    pub names: i64,
    /// The titles of chats.
    pub titles: i64,
    /// The chats whose messages are indexed in an earlier form, at least in part.
    pub chats: i64,
}

/// Returns the rows that are not yet in the form by which they are found.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn backlog(conn: &mut Conn) -> Result<Backlog> {
    let names = users::table.filter(users::name_search.is_null()).count();
    // These read every shard.
    let all = || chats::table.filter(all_buckets(chats::bucket));
    let titles = all().filter(chats::title_search.is_null()).filter(chats::title.is_not_null()).count();
    let position: Vec<(i32, UuidValue)> =
        search_reindexing::table.select((search_reindexing::bucket, search_reindexing::chat_id)).load(conn).await?;
    let chats = match position.first() {
        Some(&(bucket, chat)) => {
            let left = chats::bucket.gt(bucket).or(chats::bucket.eq(bucket).and(chats::id.ge(chat)));
            all().filter(left).count().get_result(conn).await?
        }
        None => 0,
    };
    Ok(Backlog { names: names.get_result(conn).await?, titles: titles.get_result(conn).await?, chats })
}
