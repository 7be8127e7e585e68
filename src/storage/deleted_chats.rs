//! The last versions of deleted chats that can be made again with the same id.
//!
//! The id of such a chat follows from its users, its resource, or its creator and their nonce. If the chat made again
//! began at version 1, cursors and message ids from before would mean something else.

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use crate::domain::ids::ChatId;
use crate::error::Result;
use crate::storage::column_types::{SqlTimestamp, TimestampValue, chat_key};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::{chats, deleted_chats};
use crate::storage::sql::keys::of_chat;

/// Records the version of a chat that is about to be deleted, if the chat can be made again.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn insert(conn: &mut Conn, chat: ChatId, now: DateTime<Utc>) -> Result<()> {
    let has_derived_id =
        chats::kind.eq("direct").or(chats::resource_type.is_not_null()).or(chats::fingerprint.is_not_null());
    let deleted = chats::table.filter(of_chat((chats::bucket, chats::id), chat)).filter(has_derived_id).select((
        chats::bucket,
        chats::id,
        chats::organization_id,
        chats::version,
        TimestampValue(now).into_sql::<SqlTimestamp>(),
    ));
    diesel::insert_into(deleted_chats::table)
        .values(deleted)
        .into_columns((
            deleted_chats::bucket,
            deleted_chats::chat_id,
            deleted_chats::organization_id,
            deleted_chats::version,
            deleted_chats::deleted_at,
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Removes the record of a chat that is made again, and returns the version that the chat had.
///
/// The chat has been inserted already: its row excludes a deletion at the same time.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn take_version(conn: &mut Conn, chat: ChatId) -> Result<Option<i64>> {
    let versions: Vec<i64> =
        diesel::delete(deleted_chats::table.find(chat_key(chat))).returning(deleted_chats::version).load(conn).await?;
    Ok(versions.first().copied())
}
