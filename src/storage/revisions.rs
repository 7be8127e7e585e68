//! The former texts of messages.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use crate::domain::ids::MessageId;
use crate::domain::message_queries::RevisionsQuery;
use crate::domain::messages::Message;
use crate::domain::revisions::{Revision, RevisionSize};
use crate::error::Result;
use crate::storage::column_types::{TimestampValue, UuidValue};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::read_budget::LargeRow;
use crate::storage::schema::revisions;
use crate::storage::sql::conditions::Conditions;
use crate::storage::sql::keys::of_chat;
use crate::storage::sql::order::OrderFrom;
use crate::storage::sql::union_all::{load_union_large, union_all_large};

diesel::define_sql_function! {
    /// The number of bytes of a text.
    fn octet_length(text: Text) -> Integer;
}

type RevisionRow = (i64, String, TimestampValue);

impl LargeRow for RevisionRow {
    fn text_bytes(&self) -> usize {
        self.1.len()
    }
}

/// Stores the text that an edit is about to replace.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn insert(conn: &mut Conn, message: &Message, text: &str, edited_at: DateTime<Utc>) -> Result<()> {
    diesel::insert_into(revisions::table)
        .values((
            revisions::bucket.eq(message.id.bucket().number()),
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

/// Returns the sizes of the former texts of a message, oldest first.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn sizes(conn: &mut Conn, id: MessageId) -> Result<Vec<RevisionSize>> {
    let rows: Vec<(i64, i32)> = revisions::table
        .filter(of_chat((revisions::bucket, revisions::chat_id), id.chat))
        .filter(revisions::seq.eq(id.seq))
        .order(revisions::version)
        .select((revisions::version, octet_length(revisions::text)))
        .load(conn)
        .await?;
    let size = |(version, bytes)| RevisionSize { version, bytes: usize::try_from(bytes).unwrap_or_default() };
    Ok(rows.into_iter().map(size).collect())
}

/// Deletes the former texts of a message in a range of versions, both ends included.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn delete_range(conn: &mut Conn, id: MessageId, first: i64, last: i64) -> Result<()> {
    let in_range = revisions::table
        .filter(of_chat((revisions::bucket, revisions::chat_id), id.chat))
        .filter(revisions::seq.eq(id.seq))
        .filter(revisions::version.ge(first).and(revisions::version.le(last)));
    diesel::delete(in_range).execute(conn).await?;
    Ok(())
}

/// Deletes all former texts of a message.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn delete_all(conn: &mut Conn, id: MessageId) -> Result<()> {
    delete_range(conn, id, i64::MIN, i64::MAX).await
}

/// Returns one page of the former texts of each message.
///
/// A page is read from the end of its window, and has one text more than the window shows.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn pages(conn: &mut Conn, queries: &[RevisionsQuery]) -> Result<Vec<Vec<Revision>>> {
    let parts = queries.iter().zip(0_i64..).map(|(RevisionsQuery { message, window }, number)| {
        let conditions = Conditions::new()
            .and(of_chat((revisions::bucket, revisions::chat_id), message.chat))
            .and(revisions::seq.eq(message.seq))
            .and_option(window.after.map(|after| revisions::version.gt(after)))
            .and_option(window.before.map(|before| revisions::version.lt(before)));
        let page = revisions::table
            .filter(conditions)
            .order(OrderFrom::new(window.end, revisions::version))
            .limit(window.fetch_limit())
            .select((number.into_sql::<BigInt>(), (revisions::version, revisions::text, revisions::edited_at)));
        (window.fetch_limit(), page)
    });
    let pages: Vec<Vec<RevisionRow>> = load_union_large(conn, queries.len(), union_all_large(parts)).await?;
    let revision = |(version, text, edited_at): RevisionRow| Revision { version, text, edited_at: edited_at.0 };
    Ok(pages.into_iter().map(|page| page.into_iter().map(revision).collect()).collect())
}
