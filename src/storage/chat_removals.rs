//! Records of the users who lost a chat because it was deleted.

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use crate::domain::ids::{ChatId, OrganizationId, UserId};
use crate::error::Result;
use crate::storage::column_types::{TimestampValue, UuidValue};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::removals;
use crate::storage::sql::keys::all_buckets;
use crate::storage::sql::values_statement::ValuesStatement;

/// Records all members of a chat that is about to be deleted.
///
/// A former member lost the chat at the time of leaving, and a current one now.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn insert(conn: &mut Conn, chat: ChatId, now: DateTime<Utc>) -> Result<()> {
    let insert = ValuesStatement::new(
        "INSERT INTO removals (bucket, organization_id, user_id, removed_at, chat_id) \
         SELECT members.bucket, members.organization_id, members.user_id, COALESCE(members.left_at, gone.column3), \
         members.chat_id FROM members JOIN ",
        [vec![chat.bucket().number().into(), UuidValue(chat.0).into(), TimestampValue(now).into()]],
        " AS gone ON members.bucket = gone.column1 AND members.chat_id = gone.column2",
    );
    insert.execute(conn).await?;
    Ok(())
}

/// Deletes the records from before a time, of one bucket after the other.
///
/// The caller has no open transaction, so that none has rows of two buckets.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn delete_before(conn: &mut Conn, before: DateTime<Utc>) -> Result<()> {
    let is_old = || removals::removed_at.lt(TimestampValue(before));
    // It reads every shard.
    let buckets: Vec<i32> = removals::table
        .filter(all_buckets(removals::bucket))
        .filter(is_old())
        .select(removals::bucket)
        .distinct()
        .load(conn)
        .await?;
    for bucket in buckets {
        diesel::delete(removals::table.filter(removals::bucket.eq(bucket)).filter(is_old())).execute(conn).await?;
    }
    Ok(())
}

/// Returns up to `limit` deleted chats that a user lost since a time, with the time of the loss.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn removed_since(
    conn: &mut Conn,
    organization: &OrganizationId,
    user: &UserId,
    since: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<(ChatId, DateTime<Utc>)>> {
    let rows: Vec<(UuidValue, TimestampValue)> = removals::table
        .filter(removals::bucket.eq(organization.bucket().number()))
        .filter(removals::organization_id.eq(organization.as_str()))
        .filter(removals::user_id.eq(user.as_str()))
        .filter(removals::removed_at.ge(TimestampValue(since)))
        .limit(limit)
        .select((removals::chat_id, removals::removed_at))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(|(chat, at)| (ChatId(chat.0), at.0)).collect())
}
