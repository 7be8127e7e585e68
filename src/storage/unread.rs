//! The numbers of messages that members have not read.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use crate::domain::ids::{ChatId, MemberId, OrganizationId, UserId};
use crate::domain::members::UnreadCounts;
use crate::error::Result;
use crate::storage::column_types::{TextValue, TimestampValue, UuidValue};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::{chats, members};
use crate::storage::sql::pairs::pairs_in;
use crate::storage::threads;

/// Returns the SQL that counts the unread messages of the member in a `members` row.
///
/// It counts up to [`UNREAD_CAP`](crate::domain::members::UNREAD_CAP). The number is computed and never stored, so it
/// cannot drift from the messages.
pub fn unread_count() -> SqlLiteral<BigInt> {
    sql("(SELECT count(*) FROM (SELECT 1 FROM messages AS unread WHERE unread.chat_id = members.chat_id \
         AND unread.in_timeline AND unread.seq > members.last_read_seq AND unread.sender_id <> members.user_id \
         AND unread.deleted_at IS NULL LIMIT 1000) AS capped)")
}

/// Returns the SQL that counts the unread messages that mention the member or everyone.
///
/// Messages of the timeline are unread after the read position, and other replies after that of their thread.
fn mention_count() -> SqlLiteral<BigInt> {
    let in_threads = threads::unread_mentions();
    sql(&format!(
        "(SELECT count(*) FROM (SELECT unread.seq FROM mentions JOIN messages AS unread \
         ON unread.chat_id = mentions.chat_id AND unread.seq = mentions.seq WHERE mentions.chat_id = members.chat_id \
         AND mentions.user_id = members.user_id AND mentions.seq > members.last_read_seq AND unread.in_timeline \
         AND unread.sender_id <> members.user_id AND unread.deleted_at IS NULL \
         UNION SELECT unread.seq FROM messages AS unread WHERE unread.chat_id = members.chat_id \
         AND unread.mentions_everyone AND unread.in_timeline AND unread.seq > members.last_read_seq \
         AND unread.sender_id <> members.user_id AND unread.deleted_at IS NULL \
         UNION {in_threads} LIMIT 1000) AS capped)"
    ))
}

/// Returns the unread counts of members.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn counts(conn: &mut Conn, ids: &[MemberId]) -> Result<Vec<(MemberId, UnreadCounts)>> {
    let keys = ids.iter().map(|id| (UuidValue(id.chat.0), id.user.as_str()));
    let rows: Vec<(UuidValue, TextValue<UserId>, i64, i64)> = members::table
        .filter(pairs_in((members::chat_id, members::user_id), keys))
        .select((members::chat_id, members::user_id, unread_count(), mention_count()))
        .load(conn)
        .await?;
    let counts = |(chat, user, messages, mentions): (UuidValue, TextValue<UserId>, i64, i64)| {
        (MemberId { chat: ChatId(chat.0), user: user.0 }, UnreadCounts { messages, mentions })
    };
    Ok(rows.into_iter().map(counts).collect())
}

/// Returns the unread counts of a user's chats that are not completely read.
///
/// The flag of a chat is false if only replies in threads are unread. Muted and archived chats are left out.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn counts_by_chat(
    conn: &mut Conn,
    organization: &OrganizationId,
    user: &UserId,
    now: DateTime<Utc>,
) -> Result<Vec<(bool, UnreadCounts)>> {
    let counts: Vec<(bool, i64, i64)> = members::table
        .inner_join(chats::table.on(chats::id.eq(members::chat_id)))
        .filter(members::organization_id.eq(organization.as_str()))
        .filter(members::user_id.eq(user.as_str()))
        .filter(members::left_at.is_null())
        .filter(chats::archived_at.is_null())
        .filter(members::muted_until.is_null().or(members::muted_until.assume_not_null().le(TimestampValue(now))))
        .filter(members::marked_unread.or(unread_count().gt(0)).or(mention_count().gt(0)))
        .select((members::marked_unread, unread_count(), mention_count()))
        .load(conn)
        .await?;
    let unread = |(is_marked, messages, mentions)| (is_marked || messages > 0, UnreadCounts { messages, mentions });
    Ok(counts.into_iter().map(unread).collect())
}
