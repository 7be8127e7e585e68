//! Upkeep of the full-text index.
//!
//! [`crate::domain::search`] splits texts into words, and not the engines, so that both find the same messages.

use diesel::prelude::*;
use uuid::Uuid;

use crate::domain::buckets::Bucket;
use crate::domain::ids::{ChatId, MessageId, OrganizationId};
use crate::domain::messages::Message;
use crate::domain::search::message_texts::message_words;
use crate::domain::search::terms::TermPrefix;
use crate::error::Result;
use crate::storage::chats;
use crate::storage::column_types::{UuidValue, message_key};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::messages::by_ids;
use crate::storage::schema::{messages, search_reindexing};
use crate::storage::sql::for_update::for_update;
use crate::storage::sql::full_text::{AnyFullText, DeleteFullText, DeleteFullTexts, IndexFullText};
use crate::storage::sql::keys::all_buckets;
use crate::storage::sql::row_after::row_after;

/// Messages that one step of reindexing reads. Their chats are locked meanwhile, so there are not many.
const REINDEX_BATCH: i64 = 200;

/// The id of the only row of `search_reindexing`.
const REINDEXING_ID: i32 = 1;

/// Adds the texts of new messages of one bucket, which have to be stored already, to the index.
///
/// On PostgreSQL [`messages::insert`](crate::storage::messages::insert) has added them.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn insert_new<'a>(
    conn: &mut Conn,
    messages: impl Iterator<Item = (&'a OrganizationId, &'a Message)>,
) -> Result<()> {
    match conn {
        Conn::Postgres(_) => Ok(()),
        Conn::Sqlite(_) => insert(conn, messages).await,
    }
}

/// Adds the texts of messages of one bucket, which have to be stored already, to the index.
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
                (message_key(message.id), spelled)
            })
        })
        .collect();
    let Some(&((bucket, ..), _)) = rows.first() else { return Ok(()) };
    IndexFullText::new(bucket, rows).execute(conn).await?;
    Ok(())
}

/// Removes a message from the index.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn delete(conn: &mut Conn, id: MessageId) -> Result<()> {
    DeleteFullText(message_key(id)).execute(conn).await?;
    Ok(())
}

/// The messages that are indexed already: those of earlier buckets, and of this bucket up to a message.
struct Position {
    bucket: i32,
    chat: UuidValue,
    seq: i64,
}

impl Position {
    /// Returns the position before all messages of a bucket.
    fn before(bucket: i32) -> Self {
        Self { bucket, chat: UuidValue(Uuid::nil()), seq: 0 }
    }
}

/// Starts reindexing if the index is empty while there are messages with a text, and none is under way.
///
/// Such is a database that was restored without its index.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn reindex_if_empty(conn: &mut Conn) -> Result<()> {
    let under_way: Vec<i32> = search_reindexing::table.select(search_reindexing::id).load(conn).await?;
    let indexed: Vec<i32> = if under_way.is_empty() { AnyFullText.load(conn).await? } else { under_way };
    if !indexed.is_empty() {
        return Ok(());
    }
    let texts = messages::table.filter(all_buckets(messages::bucket)).filter(messages::text.is_not_null());
    let texts: Vec<i64> = texts.limit(1).select(messages::seq).load(conn).await?;
    if !texts.is_empty() {
        let Position { bucket, chat, seq } = Position::before(0);
        diesel::insert_into(search_reindexing::table)
            .values((
                search_reindexing::id.eq(REINDEXING_ID),
                search_reindexing::bucket.eq(bucket),
                search_reindexing::chat_id.eq(chat),
                search_reindexing::seq.eq(seq),
            ))
            .on_conflict_do_nothing()
            .execute(conn)
            .await?;
    }
    Ok(())
}

/// Indexes the next messages of one bucket again and returns their number.
///
/// It returns `None` if nothing is left. It has to run in a transaction. It locks the chats of the messages, so that no
/// text changes meanwhile. They are of one bucket, and it locks them in the order of their ids, after the position of
/// the reindexing, which no other transaction locks.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn reindex_batch(conn: &mut Conn) -> Result<Option<usize>> {
    let position = search_reindexing::table.select((
        search_reindexing::bucket,
        search_reindexing::chat_id,
        search_reindexing::seq,
    ));
    let position: Vec<(i32, UuidValue, i64)> = for_update(position).load(conn).await?;
    let Some(&(bucket, chat, seq)) = position.first() else { return Ok(None) };
    let ids = next_messages(conn, Position { bucket, chat, seq }).await?;
    let Some(&last) = ids.last() else {
        diesel::delete(search_reindexing::table).execute(conn).await?;
        return Ok(None);
    };
    let count = reindex(conn, last.bucket(), &ids).await?;
    let (bucket, chat, seq) = message_key(last);
    diesel::update(search_reindexing::table)
        .set((
            search_reindexing::bucket.eq(bucket),
            search_reindexing::chat_id.eq(chat),
            search_reindexing::seq.eq(seq),
        ))
        .execute(conn)
        .await?;
    Ok(Some(count))
}

/// Returns the next messages of users after a position, all of one bucket, in the order of their keys.
async fn next_messages(conn: &mut Conn, position: Position) -> Result<Vec<MessageId>> {
    let bucket = position.bucket;
    let ids = messages_after(conn, position).await?;
    if !ids.is_empty() {
        return Ok(ids);
    }
    // This reads every shard, once for each bucket.
    let next_bucket: Vec<i32> = messages::table
        .filter(all_buckets(messages::bucket))
        .filter(messages::bucket.gt(bucket))
        .filter(messages::kind.ne("system"))
        .order(messages::bucket)
        .limit(1)
        .select(messages::bucket)
        .load(conn)
        .await?;
    match next_bucket.first() {
        Some(&bucket) => messages_after(conn, Position::before(bucket)).await,
        None => Ok(Vec::new()),
    }
}

/// Returns the next messages of users in the bucket of a position.
async fn messages_after(conn: &mut Conn, Position { bucket, chat, seq }: Position) -> Result<Vec<MessageId>> {
    let keys: Vec<(UuidValue, i64)> = messages::table
        .filter(messages::bucket.eq(bucket))
        .filter(row_after((messages::chat_id, messages::seq), (chat, seq)))
        .filter(messages::kind.ne("system"))
        .order((messages::chat_id, messages::seq))
        .limit(REINDEX_BATCH)
        .select((messages::chat_id, messages::seq))
        .load(conn)
        .await?;
    Ok(keys.into_iter().map(|(chat, seq)| MessageId { chat: ChatId(chat.0), seq }).collect())
}

/// Indexes messages of one bucket, at least one, again, and returns how many still exist.
///
/// It has to run in a transaction, and locks their chats.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn reindex(conn: &mut Conn, bucket: Bucket, ids: &[MessageId]) -> Result<usize> {
    let mut chats: Vec<ChatId> = ids.iter().map(|id| id.chat).collect();
    chats.dedup();
    let chats = chats::lock(conn, bucket, &chats).await?;
    DeleteFullTexts::new(bucket.number(), ids.iter().map(|id| message_key(*id))).execute(conn).await?;
    // Read after the chats were locked, because a text may have changed before.
    let batch = by_ids(conn, ids).await?;
    let indexed = batch.iter().filter_map(|message| {
        let chat = chats.iter().find(|locked| locked.id == message.id.chat)?;
        Some((&chat.organization, message))
    });
    insert(conn, indexed).await?;
    Ok(batch.len())
}
