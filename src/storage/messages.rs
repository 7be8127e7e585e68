//! Messages: written in groups, read by their place.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use super::conn::{Conn, RunQueryDsl};
use super::fragments::{All, Directed, Each, grow_chats, insert_rows, pairs_in};
use super::schema::{messages, revisions};
use super::types::{Key, Time, word};
use crate::domain::ids::{ChatId, MessageId, Nonce, UserId};
use crate::domain::messages::{Message, Revision};
use crate::domain::pages::{End, Window};
use crate::error::{Error, Result};

type Columns = (
    messages::chat_id,
    messages::seq,
    messages::version,
    messages::kind,
    messages::sender_id,
    messages::nonce,
    messages::fingerprint,
    messages::text,
    messages::reply_to_seq,
    messages::created_at,
    messages::edited_at,
    messages::deleted_at,
);
const COLUMNS: Columns = (
    messages::chat_id,
    messages::seq,
    messages::version,
    messages::kind,
    messages::sender_id,
    messages::nonce,
    messages::fingerprint,
    messages::text,
    messages::reply_to_seq,
    messages::created_at,
    messages::edited_at,
    messages::deleted_at,
);

type Row = (
    Key,
    i64,
    i64,
    String,
    Option<String>,
    Option<String>,
    Option<Vec<u8>>,
    Option<String>,
    Option<i64>,
    Time,
    Option<Time>,
    Option<Time>,
);

fn message(row: Row) -> Result<Message> {
    let (chat, seq, version, kind, sender, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at) =
        row;
    Ok(Message {
        id: MessageId { chat: ChatId(chat.0), seq },
        version,
        kind: word(&kind)?,
        sender: sender.as_deref().map(word).transpose()?,
        nonce: nonce.as_deref().map(Nonce::parse).transpose().map_err(Error::internal)?,
        text,
        reply_to_seq,
        created_at: created_at.0,
        edited_at: edited_at.map(|at| at.0),
        deleted_at: deleted_at.map(|at| at.0),
        fingerprint,
    })
}

/// Adds messages and moves the counters of their chats to their newest: `grown` has one row a chat.
pub async fn append(
    conn: &mut Conn,
    new: &[Arc<Message>],
    grown: impl Iterator<Item = (ChatId, i64, DateTime<Utc>)>,
) -> Result<()> {
    let rows = new.iter().map(|message| {
        (
            messages::chat_id.eq(Key(message.id.chat.0)),
            messages::seq.eq(message.id.seq),
            messages::version.eq(message.version),
            messages::kind.eq(<&str>::from(message.kind)),
            messages::sender_id.eq(message.sender.as_ref().map(UserId::as_str)),
            messages::nonce.eq(message.nonce.as_ref().map(Nonce::as_str)),
            messages::fingerprint.eq(&message.fingerprint),
            messages::text.eq(&message.text),
            messages::reply_to_seq.eq(message.reply_to_seq),
            messages::created_at.eq(Time(message.created_at)),
        )
    });
    insert_rows(messages::table, rows).execute(conn).await?;
    grow_chats(grown.map(|(chat, seq, at)| (Key(chat.0), seq, Time(at)))).execute(conn).await?;
    Ok(())
}

/// Writes back what may change in a message: its text, its times and its version.
pub async fn update(conn: &mut Conn, message: &Message) -> Result<()> {
    diesel::update(messages::table.find((Key(message.id.chat.0), message.id.seq)))
        .set((
            messages::version.eq(message.version),
            messages::text.eq(&message.text),
            messages::edited_at.eq(message.edited_at.map(Time)),
            messages::deleted_at.eq(message.deleted_at.map(Time)),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

pub async fn by_ids(conn: &mut Conn, ids: &[MessageId]) -> Result<Vec<Message>> {
    let keys = ids.iter().map(|id| (Key(id.chat.0), id.seq));
    let rows: Vec<Row> =
        messages::table.filter(pairs_in((messages::chat_id, messages::seq), keys)).select(COLUMNS).load(conn).await?;
    rows.into_iter().map(message).collect()
}

/// Messages that were sent with these nonces, by whomever.
pub async fn by_nonces(conn: &mut Conn, keys: &[(ChatId, Nonce)]) -> Result<Vec<Message>> {
    let keys = keys.iter().map(|(chat, nonce)| (Key(chat.0), nonce.as_str().to_owned()));
    let rows: Vec<Row> = messages::table
        // The words that the index of nonces has of itself: without them SQLite reads the whole chat.
        .filter(messages::nonce.is_not_null())
        .filter(pairs_in((messages::chat_id, messages::nonce.assume_not_null()), keys))
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(message).collect()
}

/// Which messages of one chat are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MessagesQuery {
    pub chat: ChatId,
    pub window: Window<i64>,
}

/// Messages of many chats in one statement, one more than asked for, each from its window's end: an
/// index range that costs the same anywhere in a chat.
pub async fn pages(conn: &mut Conn, queries: &[MessagesQuery]) -> Result<Vec<Message>> {
    let parts = queries.iter().map(|MessagesQuery { chat, window }| {
        let conditions = All::new()
            .and_some(window.after.map(|after| messages::seq.gt(after)))
            .and_some(window.before.map(|before| messages::seq.lt(before)));
        messages::table
            .filter(messages::chat_id.eq(Key(chat.0)))
            .filter(conditions)
            .order(Directed::from(window.end, messages::seq))
            .limit(window.fetch())
            .select(COLUMNS)
    });
    let rows: Vec<Row> = Each(parts.collect()).load(conn).await?;
    rows.into_iter().map(message).collect()
}

pub async fn count(conn: &mut Conn, chat: ChatId) -> Result<i64> {
    let count = messages::table.filter(messages::chat_id.eq(Key(chat.0))).count().get_result(conn).await?;
    Ok(count)
}

/// The newest messages of a chat, the oldest of them first.
pub async fn newest(conn: &mut Conn, chat: ChatId, number: usize) -> Result<Vec<Message>> {
    let window = Window { after: None, before: None, end: End::Last, limit: number };
    let fetched = pages(conn, &[MessagesQuery { chat, window: window.clone() }]).await?;
    Ok(window.page(fetched).items)
}

/// The messages whose last change came after a version of the chat's log, in its order.
pub async fn changed(conn: &mut Conn, chat: ChatId, after: i64, limit: i64) -> Result<Vec<Message>> {
    let rows: Vec<Row> = messages::table
        .filter(messages::chat_id.eq(Key(chat.0)))
        .filter(messages::version.gt(after))
        .order(messages::version)
        .limit(limit)
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(message).collect()
}

/// How many messages changed after a version, counted up to `limit`.
pub async fn count_changed(conn: &mut Conn, chat: ChatId, after: i64, limit: i64) -> Result<i64> {
    let versions: Vec<i64> = messages::table
        .filter(messages::chat_id.eq(Key(chat.0)))
        .filter(messages::version.gt(after))
        .order(messages::version)
        .limit(limit)
        .select(messages::version)
        .load(conn)
        .await?;
    Ok(versions.len() as i64)
}

/// Keeps a text that is about to be replaced.
pub async fn keep_revision(conn: &mut Conn, message: &Message, text: &str, edited_at: DateTime<Utc>) -> Result<()> {
    diesel::insert_into(revisions::table)
        .values((
            revisions::chat_id.eq(Key(message.id.chat.0)),
            revisions::seq.eq(message.id.seq),
            revisions::version.eq(message.version),
            revisions::text.eq(text),
            revisions::edited_at.eq(Time(edited_at)),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets the former texts of a message that is deleted.
pub async fn forget_revisions(conn: &mut Conn, id: MessageId) -> Result<()> {
    let of_message = revisions::chat_id.eq(Key(id.chat.0)).and(revisions::seq.eq(id.seq));
    diesel::delete(revisions::table.filter(of_message)).execute(conn).await?;
    Ok(())
}

/// The former texts of messages, oldest first.
pub async fn revisions(conn: &mut Conn, ids: &[MessageId]) -> Result<Vec<(MessageId, Revision)>> {
    let keys = ids.iter().map(|id| (Key(id.chat.0), id.seq));
    let rows: Vec<(Key, i64, String, Time)> = revisions::table
        .filter(pairs_in((revisions::chat_id, revisions::seq), keys))
        .order((revisions::chat_id, revisions::seq, revisions::version))
        .select((revisions::chat_id, revisions::seq, revisions::text, revisions::edited_at))
        .load(conn)
        .await?;
    let revision = |(chat, seq, text, edited_at): (Key, i64, String, Time)| {
        (MessageId { chat: ChatId(chat.0), seq }, Revision { text, edited_at: edited_at.0 })
    };
    Ok(rows.into_iter().map(revision).collect())
}
