//! Mentions of users in messages.

use diesel::prelude::*;

use crate::domain::ids::{ChatId, MessageId, UserId};
use crate::domain::messages::Message;
use crate::error::Result;
use crate::storage::column_types::{TextValue, UuidValue, message_key};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::mentions;
use crate::storage::sql::insert_many::insert_many;
use crate::storage::sql::keys::{keys_in, of_chat};
use crate::storage::sql::statement_cache::MAX_ROWS;

/// Stores which users messages of one bucket mention.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn insert(conn: &mut Conn, mentioned: &[(&Message, &UserId)]) -> Result<()> {
    for chunk in mentioned.chunks(MAX_ROWS) {
        let rows = chunk.iter().map(|(message, user)| {
            (
                mentions::bucket.eq(message.id.bucket().number()),
                mentions::chat_id.eq(UuidValue(message.id.chat.0)),
                mentions::user_id.eq(user.as_str()),
                mentions::seq.eq(message.id.seq),
                mentions::thread_root_seq.eq(message.thread_root_seq.filter(|_| !message.in_timeline)),
            )
        });
        insert_many(mentions::table, rows).execute(conn).await?;
    }
    Ok(())
}

/// Deletes the mentions of a message.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn delete_all(conn: &mut Conn, id: MessageId) -> Result<()> {
    let of_message = mentions::table
        .filter(of_chat((mentions::bucket, mentions::chat_id), id.chat))
        .filter(mentions::seq.eq(id.seq));
    diesel::delete(of_message).execute(conn).await?;
    Ok(())
}

/// Returns the users that messages mention, ordered by user id.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn users(conn: &mut Conn, ids: &[MessageId]) -> Result<Vec<(MessageId, UserId)>> {
    let keys = ids.iter().map(|id| message_key(*id));
    let rows: Vec<(UuidValue, i64, TextValue<UserId>)> = mentions::table
        .filter(keys_in((mentions::bucket, mentions::chat_id, mentions::seq), keys))
        .order(mentions::user_id)
        .select((mentions::chat_id, mentions::seq, mentions::user_id))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(|(chat, seq, user)| (MessageId { chat: ChatId(chat.0), seq }, user.0)).collect())
}
