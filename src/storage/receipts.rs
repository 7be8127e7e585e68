//! The receipts of messages: who has read them, and up to which message members have received their chats.

use std::collections::HashMap;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool};

use crate::domain::ids::{ChatId, UserId};
use crate::domain::member_queries::{ReadersQuery, ReceiptPosition};
use crate::error::Result;
use crate::storage::column_types::{TextValue, TimestampValue, UuidValue, chat_key, into_user_ids};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::erased_sql::EngineSql;
use crate::storage::schema::members;
use crate::storage::sql::columns::columns;
use crate::storage::sql::conditions::Conditions;
use crate::storage::sql::keys::{keys_in, of_chat};
use crate::storage::sql::union_all::{load_union, union_all};

/// Returns pages of the readers of many messages in one statement, ordered by user id.
///
/// Each page has one user more than its window shows, if there are more.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn readers(conn: &mut Conn, queries: &[ReadersQuery]) -> Result<Vec<Vec<UserId>>> {
    let parts = queries.iter().zip(0_i64..).map(|(query, number)| {
        let conditions = Conditions::new()
            .and_option(query.window.after.clone().map(|after| members::user_id.gt(after)))
            .and_option(query.sender.as_ref().map(|sender| members::user_id.ne(sender.as_str())))
            .and(has_read(query));
        members::table
            .filter(of_chat((members::bucket, members::chat_id), query.message.chat))
            .filter(members::left_at.is_null())
            .filter(diesel::dsl::not(members::read_privately))
            // A new member's read position begins at the newest message, which the member has not read.
            .filter(members::joined_at.le(TimestampValue(query.sent_at)))
            .filter(conditions)
            .order(members::user_id)
            .limit(query.window.fetch_limit())
            .select((number.into_sql::<BigInt>(), members::user_id))
    });
    Ok(into_user_ids(load_union(conn, queries.len(), union_all(parts)).await?))
}

/// Returns the condition that a member has read a message in one of its lists.
fn has_read(query: &ReadersQuery) -> impl EngineSql + use<> {
    let seq = query.message.seq;
    let timeline_seq = if query.lists.in_timeline { seq } else { i64::MAX };
    let in_thread = sql::<Bool>(
        "EXISTS (SELECT 1 FROM thread_members WHERE thread_members.bucket = members.bucket \
         AND thread_members.chat_id = members.chat_id AND thread_members.user_id = members.user_id AND thread_members.root_seq = ",
    )
    .bind::<BigInt, _>(query.lists.thread_root_seq.unwrap_or_default())
    .sql(" AND thread_members.last_read_seq >= ")
    .bind::<BigInt, _>(seq)
    .sql(")");
    members::last_read_seq.ge(timeline_seq).or(in_thread)
}

/// The columns that a receipt position is made of.
#[derive(Queryable, Selectable)]
#[diesel(table_name = members, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct ReceiptPositionRow {
    chat_id: UuidValue,
    user_id: TextValue<UserId>,
    joined_at: TimestampValue,
    last_read_seq: i64,
    read_privately: bool,
    last_delivered_seq: i64,
}

/// Returns the receipt positions of all current members of chats.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn positions(conn: &mut Conn, chats: &[ChatId]) -> Result<HashMap<ChatId, Vec<ReceiptPosition>>> {
    let rows: Vec<ReceiptPositionRow> = members::table
        .filter(keys_in((members::bucket, members::chat_id), chats.iter().map(|chat| chat_key(*chat))))
        .filter(members::left_at.is_null())
        .select(columns::<ReceiptPositionRow>())
        .load(conn)
        .await?;
    let mut positions: HashMap<ChatId, Vec<ReceiptPosition>> = HashMap::new();
    for row in rows {
        let read_seq = if row.read_privately { 0 } else { row.last_read_seq };
        let position = ReceiptPosition {
            user: row.user_id.0,
            joined_at: row.joined_at.0,
            read_seq,
            delivered_seq: row.last_delivered_seq.max(read_seq),
        };
        positions.entry(ChatId(row.chat_id.0)).or_default().push(position);
    }
    Ok(positions)
}
