//! Whose chats were deleted.

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use crate::domain::ids::{ChatId, OrganizationId, UserId};
use crate::error::Result;
use crate::storage::column_types::{Key, Time};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::removals;
use crate::storage::sql::fragments::keep_removals;

/// Keeps whose chat is about to be deleted.
pub async fn keep(conn: &mut Conn, chat: ChatId, now: DateTime<Utc>) -> Result<()> {
    keep_removals([(Key(chat.0), Time(now))]).execute(conn).await?;
    Ok(())
}

/// Forgets those of before a moment.
pub async fn forget(conn: &mut Conn, before: DateTime<Utc>) -> Result<()> {
    diesel::delete(removals::table.filter(removals::removed_at.lt(Time(before)))).execute(conn).await?;
    Ok(())
}

/// A person's chats that were deleted since a moment, each with when they lost it.
pub async fn since(
    conn: &mut Conn,
    organization: &OrganizationId,
    user: &UserId,
    since: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<(ChatId, DateTime<Utc>)>> {
    let rows: Vec<(Key, Time)> = removals::table
        .filter(removals::organization_id.eq(organization.as_str()))
        .filter(removals::user_id.eq(user.as_str()))
        .filter(removals::removed_at.ge(Time(since)))
        .limit(limit)
        .select((removals::chat_id, removals::removed_at))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(|(chat, at)| (ChatId(chat.0), at.0)).collect())
}
