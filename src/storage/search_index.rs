//! Upkeep of the full-text index.
//!
//! [`crate::domain::search`] splits texts into words, and not the engines, so that both find the same messages.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;

use crate::domain::ids::{ChatId, MessageId};
use crate::domain::search::{tsvector, words};
use crate::error::Result;
use crate::storage::column_types::UuidValue;
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::messages;
use crate::storage::sql::conditions::Conditions;
use crate::storage::sql::full_text::{DeleteFullText, IndexFullText};

/// Messages whose texts [`rebuild`] reads at once.
const REBUILD_BATCH: i64 = 1_000;

/// Adds the texts of messages, which have to be stored already, to the index.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn insert(conn: &mut Conn, texts: impl Iterator<Item = (MessageId, &str)>) -> Result<()> {
    let is_postgres = matches!(conn, Conn::Postgres(_));
    let rows: Vec<_> = texts
        .filter_map(|(id, text)| {
            let words = words(text);
            let spelled = if is_postgres { tsvector(&words) } else { words.join(" ") };
            (!words.is_empty()).then_some((UuidValue(id.chat.0), id.seq, spelled))
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

/// Fills an empty index, such as a migration creates, with all messages and returns their number.
///
/// It has to run in a transaction, so that no message is added to the index twice.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn rebuild(conn: &mut Conn) -> Result<usize> {
    let has_words = sql::<Bool>("EXISTS (SELECT 1 FROM message_words)");
    let texts = messages::table.filter(messages::text.is_not_null());
    let filled: Vec<bool> = texts.limit(1).select(has_words).load(conn).await?;
    if filled != [false] {
        return Ok(0);
    }
    let mut indexed = 0;
    let mut last: Option<(UuidValue, i64)> = None;
    loop {
        let after_last = last
            .map(|(chat, seq)| messages::chat_id.gt(chat).or(messages::chat_id.eq(chat).and(messages::seq.gt(seq))));
        let batch: Vec<(UuidValue, i64, Option<String>)> = texts
            .filter(Conditions::new().and_option(after_last))
            .order((messages::chat_id, messages::seq))
            .limit(REBUILD_BATCH)
            .select((messages::chat_id, messages::seq, messages::text))
            .load(conn)
            .await?;
        let Some((chat, seq, _)) = batch.last() else { return Ok(indexed) };
        last = Some((*chat, *seq));
        indexed += batch.len();
        let texts = batch
            .iter()
            .filter_map(|(chat, seq, text)| Some((MessageId { chat: ChatId(chat.0), seq: *seq }, text.as_deref()?)));
        insert(conn, texts).await?;
    }
}
