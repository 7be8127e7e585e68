//! Upkeep of the full-text index.
//!
//! [`crate::domain::search`] splits texts into words, and not the engines, so that both find the same messages.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use uuid::Uuid;

use crate::domain::ids::{ChatId, MessageId, OrganizationId};
use crate::domain::messages::Message;
use crate::domain::search::message_texts::message_words;
use crate::domain::search::terms::TermPrefix;
use crate::error::Result;
use crate::storage::chats;
use crate::storage::column_types::UuidValue;
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::messages::by_ids;
use crate::storage::schema::{messages, search_reindexing};
use crate::storage::sql::conditions::Conditions;
use crate::storage::sql::for_update::for_update;
use crate::storage::sql::full_text::{DeleteFullText, DeleteFullTexts, IndexFullText};

/// Messages that one step of reindexing reads. Their chats are locked meanwhile, so there are not many.
const REINDEX_BATCH: i64 = 200;

/// The id of the only row of `search_reindexing`.
const REINDEXING_ID: i32 = 1;

/// Adds the texts of messages, which have to be stored already, to the index.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn insert<'a>(
    conn: &mut Conn,
    messages: impl Iterator<Item = (&'a OrganizationId, &'a Message)>,
) -> Result<()> {
    let is_postgres = matches!(conn, Conn::Postgres(_));
    let rows: Vec<_> = messages
        .filter_map(|(organization, message)| {
            let words = message_words(message);
            (!words.is_empty()).then(|| {
                let prefix = TermPrefix::new(organization);
                let spelled = if is_postgres { prefix.tsvector(&words) } else { prefix.fts5_text(&words) };
                (UuidValue(message.id.chat.0), message.id.seq, spelled)
            })
        })
        .collect();
    if !rows.is_empty() {
        IndexFullText::new(rows).execute(conn).await?;
    }
    Ok(())
}

/// Removes a message from the index.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn delete(conn: &mut Conn, id: MessageId) -> Result<()> {
    DeleteFullText(UuidValue(id.chat.0), id.seq).execute(conn).await?;
    Ok(())
}

/// Starts reindexing if the index is empty while there are messages with a text, and none is under way.
///
/// Such is a database that was restored without its index.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn reindex_if_empty(conn: &mut Conn) -> Result<()> {
    let texts = messages::table.filter(messages::text.is_not_null());
    let is_index_empty = sql::<Bool>("NOT EXISTS (SELECT 1 FROM message_words)");
    let is_index_empty: Vec<bool> = texts.limit(1).select(is_index_empty).load(conn).await?;
    if is_index_empty == [true] {
        diesel::insert_into(search_reindexing::table)
            .values((
                search_reindexing::id.eq(REINDEXING_ID),
                search_reindexing::chat_id.eq(UuidValue(Uuid::nil())),
                search_reindexing::seq.eq(0),
            ))
            .on_conflict_do_nothing()
            .execute(conn)
            .await?;
    }
    Ok(())
}

/// Indexes the next messages again and returns their number, or `None` if nothing is left.
///
/// It has to run in a transaction. It locks the chats of the messages, so that no text changes meanwhile, and it locks
/// them in the order of their ids, after the position of the reindexing, which no other transaction locks.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn reindex_batch(conn: &mut Conn) -> Result<Option<usize>> {
    let position = search_reindexing::table.select((search_reindexing::chat_id, search_reindexing::seq));
    let position: Vec<(UuidValue, i64)> = for_update(position).load(conn).await?;
    let Some(&(chat, seq)) = position.first() else { return Ok(None) };
    let after = messages::chat_id.gt(chat).or(messages::chat_id.eq(chat).and(messages::seq.gt(seq)));
    let keys: Vec<(UuidValue, i64)> = messages::table
        .filter(Conditions::new().and(after))
        .filter(messages::kind.ne("system"))
        .order((messages::chat_id, messages::seq))
        .limit(REINDEX_BATCH)
        .select((messages::chat_id, messages::seq))
        .load(conn)
        .await?;
    let Some(&(last_chat, last_seq)) = keys.last() else {
        diesel::delete(search_reindexing::table).execute(conn).await?;
        return Ok(None);
    };
    let mut ids: Vec<ChatId> = keys.iter().map(|(chat, _)| ChatId(chat.0)).collect();
    ids.dedup();
    let chats = chats::lock(conn, &ids).await?;
    DeleteFullTexts::new(keys.iter().copied()).execute(conn).await?;
    let ids: Vec<MessageId> = keys.iter().map(|(chat, seq)| MessageId { chat: ChatId(chat.0), seq: *seq }).collect();
    // Read after the chats were locked, because a text may have changed before.
    let batch = by_ids(conn, &ids).await?;
    let indexed = batch.iter().filter_map(|message| {
        let chat = chats.iter().find(|locked| locked.id == message.id.chat)?;
        Some((&chat.organization, message))
    });
    insert(conn, indexed).await?;
    diesel::update(search_reindexing::table)
        .set((search_reindexing::chat_id.eq(last_chat), search_reindexing::seq.eq(last_seq)))
        .execute(conn)
        .await?;
    Ok(Some(batch.len()))
}
