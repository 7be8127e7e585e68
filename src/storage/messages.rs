//! Messages: written in groups, read by their place.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use diesel::dsl::count_star;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use serde_json::Value;

use crate::domain::chats::Chat;
use crate::domain::ids::{ChatId, MessageId, Nonce, UserId};
use crate::domain::message_queries::{CountKey, MessageList, MessagesQuery, PinnedQuery};
use crate::domain::messages::{Content, Message, Pinned, Revision};
use crate::domain::pagination::{PageEnd, PageWindow};
use crate::error::{Error, Result};
use crate::storage::column_types::{TimestampValue, UuidValue, parse_column};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::{mentions, messages, revisions};
use crate::storage::search;
use crate::storage::sql::fragments;
use crate::storage::sql::fragments::{Conditions, MAX_ROWS, OrderFrom, insert_rows, load_union, pairs_in, union_all};

type Said = (
    messages::chat_id,
    messages::seq,
    messages::version,
    messages::kind,
    messages::sender_id,
    messages::nonce,
    messages::fingerprint,
    messages::text,
    messages::content,
    messages::mentions_everyone,
);
type Thread = (messages::reply_to_seq, messages::thread_root_seq, messages::in_timeline, messages::reply_count);
type Life = (messages::created_at, messages::edited_at, messages::deleted_at, messages::pinned_at, messages::pinned_by);
const COLUMNS: (Said, Thread, Life) = (
    (
        messages::chat_id,
        messages::seq,
        messages::version,
        messages::kind,
        messages::sender_id,
        messages::nonce,
        messages::fingerprint,
        messages::text,
        messages::content,
        messages::mentions_everyone,
    ),
    (messages::reply_to_seq, messages::thread_root_seq, messages::in_timeline, messages::reply_count),
    (messages::created_at, messages::edited_at, messages::deleted_at, messages::pinned_at, messages::pinned_by),
);

type Row = (
    (UuidValue, i64, i64, String, Option<String>, Option<String>, Option<Vec<u8>>, Option<String>, Option<Value>, bool),
    (Option<i64>, Option<i64>, bool, i32),
    (TimestampValue, Option<TimestampValue>, Option<TimestampValue>, Option<TimestampValue>, Option<String>),
);

fn message((said, thread, life): Row) -> Result<Message> {
    let (chat, seq, version, kind, sender, nonce, fingerprint, text, content, mentions_everyone) = said;
    let (reply_to_seq, thread_root_seq, in_timeline, reply_count) = thread;
    let (created_at, edited_at, deleted_at, pinned_at, pinned_by) = life;
    let pinned_by = pinned_by.as_deref().map(parse_column).transpose()?;
    Ok(Message {
        id: MessageId { chat: ChatId(chat.0), seq },
        version,
        kind: parse_column(&kind)?,
        sender: sender.as_deref().map(parse_column).transpose()?,
        nonce: nonce.as_deref().map(Nonce::parse).transpose().map_err(Error::internal)?,
        text,
        content: content.map(serde_json::from_value).transpose().map_err(Error::internal)?.unwrap_or_default(),
        reply_to_seq,
        thread_root_seq,
        in_timeline,
        reply_count,
        mentions_everyone,
        pinned: pinned_at.zip(pinned_by).map(|(at, by)| Pinned { pinned_at: at.0, pinned_by: by }),
        created_at: created_at.0,
        edited_at: edited_at.map(|at| at.0),
        deleted_at: deleted_at.map(|at| at.0),
        fingerprint,
    })
}

/// What is no text, as it is kept: nothing where there is none.
fn content_json(content: &Content) -> Result<Option<Value>> {
    if *content == Content::default() {
        return Ok(None);
    }
    serde_json::to_value(content).map(Some).map_err(Error::internal)
}

/// Adds messages, at least one.
pub async fn insert(conn: &mut Conn, new: &[Arc<Message>]) -> Result<()> {
    let row = |message: &Arc<Message>| {
        Ok((
            (
                messages::chat_id.eq(UuidValue(message.id.chat.0)),
                messages::seq.eq(message.id.seq),
                messages::version.eq(message.version),
                messages::kind.eq(<&str>::from(message.kind)),
                messages::sender_id.eq(message.sender.as_ref().map(|sender| sender.to_string())),
                messages::nonce.eq(message.nonce.as_ref().map(|nonce| nonce.as_str().to_owned())),
                messages::fingerprint.eq(message.fingerprint.clone()),
                messages::text.eq(message.text.clone()),
                messages::content.eq(content_json(&message.content)?),
                messages::mentions_everyone.eq(message.mentions_everyone),
            ),
            (
                messages::reply_to_seq.eq(message.reply_to_seq),
                messages::thread_root_seq.eq(message.thread_root_seq),
                messages::in_timeline.eq(message.in_timeline),
                messages::created_at.eq(TimestampValue(message.created_at)),
            ),
        ))
    };
    let rows: Vec<_> = new.iter().map(row).collect::<Result<_>>()?;
    insert_rows(messages::table, rows).execute(conn).await?;
    let said = new.iter().filter_map(|message| Some((message.id, message.text.as_deref()?)));
    search::index(conn, said).await
}

/// Writes back where chats stand after a group of sends.
pub async fn update_chat_counters(conn: &mut Conn, grown: impl Iterator<Item = &Chat>) -> Result<()> {
    let rows = grown.map(|chat| {
        let (active_at, changed_at) = (TimestampValue(chat.last_activity_at), TimestampValue(chat.changed_at));
        (UuidValue(chat.id.0), chat.version, chat.last_seq, active_at, changed_at)
    });
    fragments::update_chat_counters(rows).execute(conn).await?;
    Ok(())
}

/// Writes back the roots of threads that grew, at least one.
pub async fn update_thread_counts(conn: &mut Conn, roots: &[&Message]) -> Result<()> {
    let row = |root: &&Message| (UuidValue(root.id.chat.0), root.id.seq, root.version, i64::from(root.reply_count));
    fragments::update_thread_counts(roots.iter().map(row)).execute(conn).await?;
    Ok(())
}

/// Writes back what may change in a message.
pub async fn update(conn: &mut Conn, message: &Message) -> Result<()> {
    diesel::update(messages::table.find((UuidValue(message.id.chat.0), message.id.seq)))
        .set((
            messages::version.eq(message.version),
            messages::kind.eq(<&str>::from(message.kind)),
            messages::text.eq(&message.text),
            messages::content.eq(content_json(&message.content)?),
            messages::mentions_everyone.eq(message.mentions_everyone),
            messages::reply_count.eq(message.reply_count),
            messages::pinned_at.eq(message.pinned.as_ref().map(|pinned| TimestampValue(pinned.pinned_at))),
            messages::pinned_by.eq(message.pinned.as_ref().map(|pinned| pinned.pinned_by.as_str())),
            messages::edited_at.eq(message.edited_at.map(TimestampValue)),
            messages::deleted_at.eq(message.deleted_at.map(TimestampValue)),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

pub async fn by_ids(conn: &mut Conn, ids: &[MessageId]) -> Result<Vec<Message>> {
    let keys = ids.iter().map(|id| (UuidValue(id.chat.0), id.seq));
    let rows: Vec<Row> =
        messages::table.filter(pairs_in((messages::chat_id, messages::seq), keys)).select(COLUMNS).load(conn).await?;
    rows.into_iter().map(message).collect()
}

/// Messages that were sent with these nonces, by whomever.
pub async fn by_nonces(conn: &mut Conn, keys: &[(ChatId, Nonce)]) -> Result<Vec<Message>> {
    let keys = keys.iter().map(|(chat, nonce)| (UuidValue(chat.0), nonce.as_str().to_owned()));
    let rows: Vec<Row> = messages::table
        // The words that the index of nonces has of itself: without them SQLite reads the whole chat.
        .filter(messages::nonce.is_not_null())
        .filter(pairs_in((messages::chat_id, messages::nonce.assume_not_null()), keys))
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(message).collect()
}

/// Returns the conditions that select the messages of a list.
fn list_conditions(list: &MessageList) -> Conditions<'static> {
    let in_chat = Conditions::new().and(messages::chat_id.eq(UuidValue(list.chat().0)));
    match list {
        MessageList::Timeline(_) => in_chat.and(messages::in_timeline),
        MessageList::Thread(root) => in_chat.and(messages::thread_root_seq.assume_not_null().eq(root.seq)),
    }
}

/// Messages of many lists in one statement, one more than asked for, each from its window's end: an
/// index range that costs the same anywhere in a chat.
pub async fn pages(conn: &mut Conn, queries: &[MessagesQuery]) -> Result<Vec<Vec<Message>>> {
    let parts = queries.iter().zip(0_i64..).map(|(MessagesQuery { list, window }, number)| {
        let conditions = list_conditions(list)
            .and_option(window.after.map(|after| messages::seq.gt(after)))
            .and_option(window.before.map(|before| messages::seq.lt(before)));
        messages::table
            .filter(conditions)
            .order(OrderFrom::new(window.end, messages::seq))
            .limit(window.fetch_limit())
            .select((number.into_sql::<BigInt>(), COLUMNS))
    });
    let pages = load_union(conn, queries.len(), union_all(parts)).await?;
    pages.into_iter().map(|rows| rows.into_iter().map(message).collect()).collect()
}

/// The message of the chat's own that stands before a place.
pub async fn previous_in_timeline(conn: &mut Conn, id: MessageId) -> Result<Option<Message>> {
    let window = PageWindow { after: None, before: Some(id.seq), end: PageEnd::Last, limit: 0 };
    let query = MessagesQuery { list: MessageList::Timeline(id.chat), window };
    Ok(pages(conn, &[query]).await?.pop().and_then(|mut found| found.pop()))
}

/// Returns the conditions that select the messages to count.
fn count_conditions(key: &CountKey) -> Conditions<'static> {
    match key {
        CountKey::List(list) => list_conditions(list),
        CountKey::Pinned(chat) => {
            Conditions::new().and(messages::chat_id.eq(UuidValue(chat.0))).and(messages::pinned_at.is_not_null())
        }
    }
}

/// The count of one list.
pub async fn count(conn: &mut Conn, counted: CountKey) -> Result<i64> {
    Ok(counts(conn, &[counted]).await?.into_iter().sum())
}

/// Counts of many lists in one statement.
pub async fn counts(conn: &mut Conn, counted: &[CountKey]) -> Result<Vec<i64>> {
    let parts = counted.iter().zip(0_i64..).map(|(counted, number)| {
        messages::table.filter(count_conditions(counted)).select((number.into_sql::<BigInt>(), count_star()))
    });
    let counts: Vec<Vec<i64>> = load_union(conn, counted.len(), union_all(parts)).await?;
    Ok(counts.into_iter().map(|rows| rows.into_iter().sum()).collect())
}

/// The pinned messages of many chats in one statement, one more than asked for, newest pin first.
pub async fn pinned(conn: &mut Conn, queries: &[PinnedQuery]) -> Result<Vec<Vec<Message>>> {
    let pinned_at = messages::pinned_at.assume_not_null();
    let parts = queries.iter().zip(0_i64..).map(|(PinnedQuery { chat, window }, number)| {
        let conditions = Conditions::new().and_option(window.after.map(|(at, seq)| {
            let at = TimestampValue::from_micros_clamped(at);
            pinned_at.lt(at).or(pinned_at.eq(at).and(messages::seq.lt(seq)))
        }));
        messages::table
            .filter(messages::chat_id.eq(UuidValue(chat.0)))
            .filter(messages::pinned_at.is_not_null())
            .filter(conditions)
            .order((messages::pinned_at.desc(), messages::seq.desc()))
            .limit(window.fetch_limit())
            .select((number.into_sql::<BigInt>(), COLUMNS))
    });
    let pages = load_union(conn, queries.len(), union_all(parts)).await?;
    pages.into_iter().map(|rows| rows.into_iter().map(message).collect()).collect()
}

/// The newest of a chat's messages, the oldest of them first.
pub async fn newest(conn: &mut Conn, chat: ChatId, number: usize) -> Result<Vec<Message>> {
    let window = PageWindow { after: None, before: None, end: PageEnd::Last, limit: number };
    let fetched =
        pages(conn, &[MessagesQuery { list: MessageList::Timeline(chat), window: window.clone() }]).await?.pop();
    Ok(window.to_page(fetched.unwrap_or_default()).items)
}

/// The messages whose last change came after a version of the chat's log, in its order.
pub async fn changed_since(conn: &mut Conn, chat: ChatId, after: i64, limit: i64) -> Result<Vec<Message>> {
    let rows: Vec<Row> = messages::table
        .filter(messages::chat_id.eq(UuidValue(chat.0)))
        .filter(messages::version.gt(after))
        .order(messages::version)
        .limit(limit)
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(message).collect()
}

/// How many messages changed after a version, counted up to `limit`.
pub async fn count_changed_since(conn: &mut Conn, chat: ChatId, after: i64, limit: i64) -> Result<i64> {
    let versions: Vec<i64> = messages::table
        .filter(messages::chat_id.eq(UuidValue(chat.0)))
        .filter(messages::version.gt(after))
        .order(messages::version)
        .limit(limit)
        .select(messages::version)
        .load(conn)
        .await?;
    Ok(versions.len() as i64)
}

/// Keeps a text that is about to be replaced.
pub async fn insert_revision(conn: &mut Conn, message: &Message, text: &str, edited_at: DateTime<Utc>) -> Result<()> {
    diesel::insert_into(revisions::table)
        .values((
            revisions::chat_id.eq(UuidValue(message.id.chat.0)),
            revisions::seq.eq(message.id.seq),
            revisions::version.eq(message.version),
            revisions::text.eq(text),
            revisions::edited_at.eq(TimestampValue(edited_at)),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets the former texts of a message that is deleted.
pub async fn delete_revisions(conn: &mut Conn, id: MessageId) -> Result<()> {
    let of_message = revisions::chat_id.eq(UuidValue(id.chat.0)).and(revisions::seq.eq(id.seq));
    diesel::delete(revisions::table.filter(of_message)).execute(conn).await?;
    Ok(())
}

/// The former texts of messages, oldest first.
pub async fn revisions(conn: &mut Conn, ids: &[MessageId]) -> Result<Vec<(MessageId, Revision)>> {
    let keys = ids.iter().map(|id| (UuidValue(id.chat.0), id.seq));
    let rows: Vec<(UuidValue, i64, String, TimestampValue)> = revisions::table
        .filter(pairs_in((revisions::chat_id, revisions::seq), keys))
        .order((revisions::chat_id, revisions::seq, revisions::version))
        .select((revisions::chat_id, revisions::seq, revisions::text, revisions::edited_at))
        .load(conn)
        .await?;
    let revision = |(chat, seq, text, edited_at): (UuidValue, i64, String, TimestampValue)| {
        (MessageId { chat: ChatId(chat.0), seq }, Revision { text, edited_at: edited_at.0 })
    };
    Ok(rows.into_iter().map(revision).collect())
}

/// Notes whom messages mention.
pub async fn insert_mentions(conn: &mut Conn, mentioned: &[(MessageId, UserId)]) -> Result<()> {
    for some in mentioned.chunks(MAX_ROWS) {
        let rows = some.iter().map(|(id, user)| {
            (mentions::chat_id.eq(UuidValue(id.chat.0)), mentions::user_id.eq(user.as_str()), mentions::seq.eq(id.seq))
        });
        insert_rows(mentions::table, rows).execute(conn).await?;
    }
    Ok(())
}

/// Forgets whom a message that is deleted mentioned.
pub async fn delete_mentions(conn: &mut Conn, id: MessageId) -> Result<()> {
    let of_message = mentions::chat_id.eq(UuidValue(id.chat.0)).and(mentions::seq.eq(id.seq));
    diesel::delete(mentions::table.filter(of_message)).execute(conn).await?;
    Ok(())
}

/// Whom messages mention, by user id.
pub async fn mentioned_users(conn: &mut Conn, ids: &[MessageId]) -> Result<Vec<(MessageId, UserId)>> {
    let keys = ids.iter().map(|id| (UuidValue(id.chat.0), id.seq));
    let rows: Vec<(UuidValue, i64, String)> = mentions::table
        .filter(pairs_in((mentions::chat_id, mentions::seq), keys))
        .order(mentions::user_id)
        .select((mentions::chat_id, mentions::seq, mentions::user_id))
        .load(conn)
        .await?;
    rows.into_iter()
        .map(|(chat, seq, user)| Ok((MessageId { chat: ChatId(chat.0), seq }, parse_column(&user)?)))
        .collect()
}
