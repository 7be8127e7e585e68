//! Messages.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use diesel::dsl::{count_star, sql};
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::domain::ids::{ChatId, MessageId, Nonce, OrganizationId, UserId};
use crate::domain::members::Member;
use crate::domain::message_queries::{CountKey, MessageList, MessagesQuery, PinnedQuery, Readable};
use crate::domain::messages::{Content, Message, MessageKind, Pinned};
use crate::domain::pagination::{PageEnd, PageWindow};
use crate::domain::search::message_texts::message_tsvector;
use crate::error::{Error, Result};
use crate::storage::column_types::{TextValue, TimestampValue, UuidValue, message_key};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::read_budget::{LargeRow, MAX_LARGE_ROWS, charge_rows, json_text_bytes};
use crate::storage::schema::messages;
use crate::storage::sql::columns::columns;
use crate::storage::sql::conditions::Conditions;
use crate::storage::sql::full_text::NewWords;
use crate::storage::sql::insert_many::insert_many;
use crate::storage::sql::keys::{keys_in, of_chat};
use crate::storage::sql::order::OrderFrom;
use crate::storage::sql::union_all::{load_union, load_union_large, union_all, union_all_large};
use crate::storage::sql::values_statement::ValuesStatement;

/// The columns of a message.
#[derive(Queryable, Selectable)]
#[diesel(table_name = messages, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct MessageRow {
    chat_id: UuidValue,
    seq: i64,
    version: i64,
    kind: TextValue<MessageKind>,
    sender_id: Option<TextValue<UserId>>,
    nonce: Option<String>,
    fingerprint: Option<Vec<u8>>,
    text: Option<String>,
    content: Option<Value>,
    mentions_everyone: bool,
    reply_to_seq: Option<i64>,
    thread_root_seq: Option<i64>,
    in_timeline: bool,
    reply_count: i32,
    created_at: TimestampValue,
    edited_at: Option<TimestampValue>,
    deleted_at: Option<TimestampValue>,
    pinned_at: Option<TimestampValue>,
    pinned_by: Option<TextValue<UserId>>,
}

impl TryFrom<MessageRow> for Message {
    type Error = Error;

    fn try_from(row: MessageRow) -> Result<Self> {
        let content = row.content.map(serde_json::from_value).transpose().map_err(Error::internal)?;
        let pinned = row.pinned_at.zip(row.pinned_by).map(|(at, by)| Pinned { pinned_at: at.0, pinned_by: by.0 });
        Ok(Self {
            id: MessageId { chat: ChatId(row.chat_id.0), seq: row.seq },
            version: row.version,
            kind: row.kind.0,
            sender: row.sender_id.map(|sender| sender.0),
            nonce: row.nonce.as_deref().map(Nonce::parse).transpose().map_err(Error::internal)?,
            text: row.text,
            content: content.unwrap_or_default(),
            reply_to_seq: row.reply_to_seq,
            thread_root_seq: row.thread_root_seq,
            in_timeline: row.in_timeline,
            reply_count: row.reply_count,
            mentions_everyone: row.mentions_everyone,
            pinned,
            created_at: row.created_at.0,
            edited_at: row.edited_at.map(|at| at.0),
            deleted_at: row.deleted_at.map(|at| at.0),
            fingerprint: row.fingerprint,
        })
    }
}

impl LargeRow for MessageRow {
    fn text_bytes(&self) -> usize {
        let text = self.text.as_ref().map_or(0, String::len);
        text + self.content.as_ref().map_or(0, json_text_bytes)
    }
}

fn into_messages(rows: Vec<MessageRow>) -> Result<Vec<Message>> {
    rows.into_iter().map(Message::try_from).collect()
}

/// Returns the JSON of everything in a message but its text, or `None` if there is nothing else.
fn content_json(content: &Content) -> Result<Option<Value>> {
    if *content == Content::default() {
        return Ok(None);
    }
    serde_json::to_value(content).map(Some).map_err(Error::internal)
}

/// Inserts messages of one bucket, at least one, each with the organisation of its chat.
///
/// [`search_index::insert_new`](crate::storage::search_index::insert_new) has to follow.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn insert<'a>(
    conn: &mut Conn,
    new: impl IntoIterator<Item = (&'a OrganizationId, &'a Message)>,
) -> Result<()> {
    let is_postgres = matches!(conn, Conn::Postgres(_));
    let row = |(organization, message): (&OrganizationId, &Message)| {
        Ok((
            (
                messages::bucket.eq(message.id.bucket().number()),
                messages::chat_id.eq(UuidValue(message.id.chat.0)),
                messages::seq.eq(message.id.seq),
                messages::version.eq(message.version),
                messages::kind.eq(<&str>::from(message.kind)),
                messages::sender_id.eq(message.sender.as_ref().map(|sender| sender.to_string())),
                messages::nonce.eq(message.nonce.as_ref().map(|nonce| nonce.as_str().to_owned())),
                messages::nonce_hash.eq(message.nonce.as_ref().map(|nonce| nonce_hash(message.id.chat, nonce))),
                messages::fingerprint.eq(message.fingerprint.clone()),
                messages::text.eq(message.text.clone()),
                messages::content.eq(content_json(&message.content)?),
            ),
            (
                messages::mentions_everyone.eq(message.mentions_everyone),
                messages::reply_to_seq.eq(message.reply_to_seq),
                messages::thread_root_seq.eq(message.thread_root_seq),
                messages::in_timeline.eq(message.in_timeline),
                messages::created_at.eq(TimestampValue(message.created_at)),
                NewWords(is_postgres.then(|| message_tsvector(organization, message)).flatten()),
            ),
        ))
    };
    let rows: Vec<_> = new.into_iter().map(row).collect::<Result<_>>()?;
    insert_many(messages::table, rows).execute(conn).await?;
    Ok(())
}

/// Writes the versions and reply counts of thread roots of one bucket, at least one.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn update_thread_counts(conn: &mut Conn, roots: &[&Message]) -> Result<()> {
    let rows = roots.iter().map(|root| {
        let (bucket, chat, seq) = message_key(root.id);
        vec![bucket.into(), chat.into(), seq.into(), root.version.into(), i64::from(root.reply_count).into()]
    });
    let Some(bucket) = roots.first().map(|root| root.id.bucket()) else { return Ok(()) };
    let update = ValuesStatement::new(
        "UPDATE messages SET version = grown.column4, reply_count = grown.column5 FROM ",
        rows,
        " AS grown WHERE messages.chat_id = grown.column2 AND messages.seq = grown.column3 AND messages.bucket = ",
    );
    update.in_bucket(bucket).execute(conn).await?;
    Ok(())
}

/// Writes everything that can change in a message.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn update(conn: &mut Conn, message: &Message) -> Result<()> {
    diesel::update(messages::table.find(message_key(message.id)))
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

/// Returns the messages with these ids, in no particular order.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn by_ids(conn: &mut Conn, ids: &[MessageId]) -> Result<Vec<Message>> {
    let mut found = Vec::with_capacity(ids.len());
    for chunk in ids.chunks(MAX_LARGE_ROWS) {
        let keys = chunk.iter().map(|id| message_key(*id));
        let rows: Vec<MessageRow> = messages::table
            .filter(keys_in((messages::bucket, messages::chat_id, messages::seq), keys))
            .select(columns::<MessageRow>())
            .load(conn)
            .await?;
        charge_rows(&rows)?;
        found.extend(into_messages(rows)?);
    }
    Ok(found)
}

/// Returns whether all of these messages exist and were created before a time.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn are_older(conn: &mut Conn, ids: &[MessageId], before: DateTime<Utc>) -> Result<bool> {
    let keys = ids.iter().map(|id| message_key(*id));
    let number: i64 = messages::table
        .filter(keys_in((messages::bucket, messages::chat_id, messages::seq), keys))
        .filter(messages::created_at.lt(TimestampValue(before)))
        .count()
        .get_result(conn)
        .await?;
    Ok(usize::try_from(number).is_ok_and(|number| number == ids.len()))
}

/// Returns the messages that any user sent with these nonces.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn by_nonces(conn: &mut Conn, keys: &[(ChatId, Nonce)]) -> Result<Vec<Message>> {
    let hashes = keys.iter().map(|(chat, nonce)| (chat.bucket().number(), nonce_hash(*chat, nonce)));
    let rows: Vec<MessageRow> = messages::table
        // The partial index of nonces has this condition: without it SQLite would read the whole table.
        .filter(messages::nonce_hash.is_not_null())
        .filter(keys_in((messages::bucket, messages::nonce_hash.assume_not_null()), hashes))
        .select(columns::<MessageRow>())
        .load(conn)
        .await?;
    let wanted: HashSet<(ChatId, &str)> = keys.iter().map(|(chat, nonce)| (*chat, nonce.as_str())).collect();
    let mut sent = into_messages(rows)?;
    // Two nonces may have the same hash.
    sent.retain(|message| {
        message.nonce.as_ref().is_some_and(|nonce| wanted.contains(&(message.id.chat, nonce.as_str())))
    });
    Ok(sent)
}

/// Returns the value by which the index finds a nonce of a chat.
pub fn nonce_hash(chat: ChatId, nonce: &Nonce) -> i64 {
    let hash = Sha256::new().chain_update(chat.0.as_bytes()).chain_update(nonce.as_str()).finalize();
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash[..8]);
    i64::from_be_bytes(bytes)
}

/// Returns the conditions that select the messages of a list.
fn list_conditions(list: &MessageList) -> Conditions<'static> {
    let in_chat = Conditions::new().and(of_chat((messages::bucket, messages::chat_id), list.chat()));
    match list {
        MessageList::Timeline(_) => in_chat.and(messages::in_timeline),
        MessageList::Thread(root) => in_chat.and(messages::thread_root_seq.assume_not_null().eq(root.seq)),
    }
}

/// Returns the condition that omits messages that may not be read, or `None` if all may be read.
fn history_condition<Q>(readable: &Readable<Q>) -> Option<diesel::dsl::Gt<messages::seq, i64>> {
    (readable.history_after_seq > 0).then(|| messages::seq.gt(readable.history_after_seq))
}

/// Returns one page for each query, from the end of its window and with one message more than it shows.
///
/// One statement answers many queries of ordinary size. Each query reads an index range, whose cost does not depend on
/// its position in the chat.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn pages(conn: &mut Conn, queries: &[Readable<MessagesQuery>]) -> Result<Vec<Vec<Message>>> {
    let parts = queries.iter().zip(0_i64..).map(|(readable, number)| {
        let MessagesQuery { list, window } = &readable.query;
        let conditions = list_conditions(list)
            .and_option(history_condition(readable))
            .and_option(window.after.map(|after| messages::seq.gt(after)))
            .and_option(window.before.map(|before| messages::seq.lt(before)));
        let page = messages::table
            .filter(conditions)
            .order(OrderFrom::new(window.end, messages::seq))
            .limit(window.fetch_limit())
            .select((number.into_sql::<BigInt>(), columns::<MessageRow>()));
        (window.fetch_limit(), page)
    });
    let pages = load_union_large(conn, queries.len(), union_all_large(parts)).await?;
    pages.into_iter().map(into_messages).collect()
}

/// Returns the last message of a list, whoever may read it.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn last(conn: &mut Conn, list: MessageList) -> Result<Option<Message>> {
    last_before(conn, list, None).await
}

async fn last_before(conn: &mut Conn, list: MessageList, before: Option<i64>) -> Result<Option<Message>> {
    let window = PageWindow { after: None, before, end: PageEnd::Last, limit: 0 };
    let query = MessagesQuery { list, window };
    Ok(pages(conn, &[Readable { query, history_after_seq: 0 }]).await?.pop().and_then(|mut page| page.pop()))
}

/// Returns the last message of a chat's timeline before a message, whoever may read it.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn previous_in_timeline(conn: &mut Conn, id: MessageId) -> Result<Option<Message>> {
    last_before(conn, MessageList::Timeline(id.chat), Some(id.seq)).await
}

/// Returns the conditions that select the messages to count.
fn count_conditions(key: &CountKey) -> Conditions<'static> {
    match key {
        CountKey::List(list) => list_conditions(list),
        CountKey::Pinned(chat) => Conditions::new()
            .and(of_chat((messages::bucket, messages::chat_id), *chat))
            .and(messages::pinned_at.is_not_null()),
    }
}

/// Returns one number of messages, whoever may read them.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn count(conn: &mut Conn, key: CountKey) -> Result<i64> {
    Ok(counts(conn, &[Readable { query: key, history_after_seq: 0 }]).await?.into_iter().sum())
}

/// Returns many numbers of messages in one statement, in the order of their keys.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn counts(conn: &mut Conn, keys: &[Readable<CountKey>]) -> Result<Vec<i64>> {
    let parts = keys.iter().zip(0_i64..).map(|(readable, number)| {
        let conditions = count_conditions(&readable.query).and_option(history_condition(readable));
        messages::table.filter(conditions).select((number.into_sql::<BigInt>(), count_star()))
    });
    let counts: Vec<Vec<i64>> = load_union(conn, keys.len(), union_all(parts)).await?;
    Ok(counts.into_iter().map(|rows| rows.into_iter().sum()).collect())
}

/// Returns pages of the pinned messages of many chats, newest pin first.
///
/// It runs as few statements as possible. Each page has one message more than its window shows, if there are more.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn pinned(conn: &mut Conn, queries: &[Readable<PinnedQuery>]) -> Result<Vec<Vec<Message>>> {
    let pinned_at = messages::pinned_at.assume_not_null();
    let parts = queries.iter().zip(0_i64..).map(|(readable, number)| {
        let PinnedQuery { chat, window } = &readable.query;
        let conditions =
            Conditions::new().and_option(history_condition(readable)).and_option(window.after.map(|(at, seq)| {
                let at = TimestampValue::from_micros_clamped(at);
                pinned_at.lt(at).or(pinned_at.eq(at).and(messages::seq.lt(seq)))
            }));
        let page = messages::table
            .filter(of_chat((messages::bucket, messages::chat_id), *chat))
            .filter(messages::pinned_at.is_not_null())
            .filter(conditions)
            .order((messages::pinned_at.desc(), messages::seq.desc()))
            .limit(window.fetch_limit())
            .select((number.into_sql::<BigInt>(), columns::<MessageRow>()));
        (window.fetch_limit(), page)
    });
    let pages = load_union_large(conn, queries.len(), union_all_large(parts)).await?;
    pages.into_iter().map(into_messages).collect()
}

/// Returns up to `limit` of the newest timeline messages that a member may read, oldest first.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn newest(conn: &mut Conn, member: &Member, limit: usize) -> Result<Vec<Message>> {
    let window = PageWindow { after: None, before: None, end: PageEnd::Last, limit };
    let query = MessagesQuery { list: MessageList::Timeline(member.chat), window: window.clone() };
    let history_after_seq = member.history_after_seq;
    let fetched = pages(conn, &[Readable { query, history_after_seq }]).await?.pop();
    Ok(window.to_page(fetched.unwrap_or_default()).items)
}

/// Returns up to `limit` messages that changed after a version of the chat's log, in the log's order.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn changed_since(conn: &mut Conn, chat: ChatId, after: i64, limit: i64) -> Result<Vec<Message>> {
    let parts = change_conditions(chat, after).map(|(number, conditions, order)| {
        messages::table
            .filter(conditions)
            .order(sql::<BigInt>(order))
            .limit(limit)
            .select((number.into_sql::<BigInt>(), columns::<MessageRow>()))
    });
    let parts: Vec<Vec<MessageRow>> = load_union(conn, parts.len(), union_all(parts)).await?;
    let mut rows: Vec<MessageRow> = parts.into_iter().flatten().collect();
    rows.sort_unstable_by_key(|row| row.version);
    rows.truncate(usize::try_from(limit).unwrap_or(0));
    into_messages(rows)
}

/// Returns the numbers, conditions and orders of two queries that find what changed after a version.
///
/// The first finds the messages that are as they were sent, whose number is their version, by the primary key. The
/// second finds the others by an index, which therefore has no entry for most messages.
fn change_conditions(chat: ChatId, after: i64) -> [(i64, Conditions<'static>, &'static str); 2] {
    let in_chat = || Conditions::new().and(of_chat((messages::bucket, messages::chat_id), chat));
    let sent = in_chat().and(messages::seq.gt(after)).and(messages::version.eq(messages::seq));
    let changed = in_chat().and(messages::version.gt(after)).and(messages::version.gt(messages::seq));
    [(0, sent, "messages.seq"), (1, changed, "messages.version")]
}

/// Returns the number of messages that changed after a version of the chat's log, but at most `limit`.
///
/// It reads about as many rows as it counts: the messages after the number of the version have all changed, and only if
/// they are fewer than `limit` are the earlier ones counted, past their entries in the same index.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn count_changed_since(conn: &mut Conn, chat: ChatId, after: i64, limit: i64) -> Result<i64> {
    let sent: Vec<i64> = messages::table
        .filter(of_chat((messages::bucket, messages::chat_id), chat))
        .filter(messages::seq.gt(after))
        .order(messages::seq)
        .limit(limit)
        .select(messages::seq)
        .load(conn)
        .await?;
    let left = limit - sent.len() as i64;
    if left <= 0 {
        return Ok(limit);
    }
    let changed: Vec<i64> = messages::table
        .filter(of_chat((messages::bucket, messages::chat_id), chat))
        .filter(messages::version.gt(after))
        .filter(messages::version.gt(messages::seq))
        .filter(messages::seq.le(after))
        .order(messages::version)
        .limit(left)
        .select(messages::version)
        .load(conn)
        .await?;
    Ok((sent.len() + changed.len()) as i64)
}
