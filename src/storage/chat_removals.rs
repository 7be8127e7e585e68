//! Whose chats were deleted.

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use crate::domain::ids::{ChatId, OrganizationId, UserId};
use crate::error::Result;
use crate::storage::column_types::{TimestampValue, UuidValue};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::removals;
use crate::storage::sql::fragments::insert_removals;

/// Keeps whose chat is about to be deleted.
pub async fn insert(conn: &mut Conn, chat: ChatId, now: DateTime<Utc>) -> Result<()> {
    insert_removals([(UuidValue(chat.0), TimestampValue(now))]).execute(conn).await?;
    Ok(())
}

/// Forgets those of before a moment.
pub async fn delete_before(conn: &mut Conn, before: DateTime<Utc>) -> Result<()> {
    diesel::delete(removals::table.filter(removals::removed_at.lt(TimestampValue(before)))).execute(conn).await?;
    Ok(())
}

/// A person's chats that were deleted since a moment, each with when they lost it.
pub async fn removed_since(
    conn: &mut Conn,
    organization: &OrganizationId,
    user: &UserId,
    since: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<(ChatId, DateTime<Utc>)>> {
    let rows: Vec<(UuidValue, TimestampValue)> = removals::table
        .filter(removals::organization_id.eq(organization.as_str()))
        .filter(removals::user_id.eq(user.as_str()))
        .filter(removals::removed_at.ge(TimestampValue(since)))
        .limit(limit)
        .select((removals::chat_id, removals::removed_at))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(|(chat, at)| (ChatId(chat.0), at.0)).collect())
}
