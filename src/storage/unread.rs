//! The numbers of messages that members have not read.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use crate::domain::buckets::group_by_bucket;
use crate::domain::ids::{ChatId, MemberId, OrganizationId, UserId};
use crate::domain::members::UnreadCounts;
use crate::error::Result;
use crate::storage::column_types::{TextValue, TimestampValue, UuidValue};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::{chats, members};
use crate::storage::sql::in_bucket::InBucket;
use crate::storage::sql::keys::keys_in;
use crate::storage::threads;

/// Returns the SQL that counts the unread messages of the member in a `members` row.
///
/// The row has to be of the bucket. It counts up to [`UNREAD_CAP`](crate::domain::members::UNREAD_CAP). The number is
/// computed and never stored, so it cannot drift from the messages.
pub fn unread_count(bucket: i32) -> InBucket<BigInt> {
    InBucket::new(
        bucket,
        "(SELECT count(*) FROM (SELECT 1 FROM messages AS unread WHERE unread.bucket = :bucket \
         AND unread.chat_id = members.chat_id AND unread.in_timeline AND unread.seq > members.last_read_seq \
         AND unread.sender_id <> members.user_id AND unread.deleted_at IS NULL LIMIT 1000) AS capped)",
    )
}

/// Returns the SQL that counts the unread messages that mention the member or everyone.
///
/// Messages of the timeline are unread after the read position, and other replies after that of their thread.
fn mention_count(bucket: i32) -> InBucket<BigInt> {
    let in_threads = threads::unread_mentions();
    let text = format!(
        "(SELECT count(*) FROM (SELECT unread.seq FROM mentions JOIN messages AS unread \
         ON unread.bucket = :bucket AND unread.chat_id = mentions.chat_id AND unread.seq = mentions.seq \
         WHERE mentions.bucket = :bucket AND mentions.chat_id = members.chat_id \
         AND mentions.user_id = members.user_id AND mentions.seq > members.last_read_seq AND unread.in_timeline \
         AND unread.sender_id <> members.user_id AND unread.deleted_at IS NULL \
         UNION SELECT unread.seq FROM messages AS unread \
         WHERE unread.bucket = :bucket AND unread.chat_id = members.chat_id \
         AND unread.mentions_everyone AND unread.in_timeline AND unread.seq > members.last_read_seq \
         AND unread.sender_id <> members.user_id AND unread.deleted_at IS NULL \
         UNION {in_threads} LIMIT 1000) AS capped)"
    );
    InBucket::new(bucket, text)
}

/// Returns the unread counts of members.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn counts(conn: &mut Conn, ids: &[MemberId]) -> Result<Vec<(MemberId, UnreadCounts)>> {
    let mut rows: Vec<(UuidValue, TextValue<UserId>, i64, i64)> = Vec::with_capacity(ids.len());
    for (bucket, ids) in group_by_bucket(ids, |id| id.bucket()) {
        let bucket = bucket.number();
        let keys = ids.iter().map(|id| (bucket, UuidValue(id.chat.0), id.user.as_str()));
        let of_bucket: Vec<_> = members::table
            .filter(keys_in((members::bucket, members::chat_id, members::user_id), keys))
            .select((members::chat_id, members::user_id, unread_count(bucket), mention_count(bucket)))
            .load(conn)
            .await?;
        rows.extend(of_bucket);
    }
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
    let bucket = organization.bucket().number();
    let counts: Vec<(bool, i64, i64)> = members::table
        .inner_join(chats::table.on(chats::bucket.eq(members::bucket).and(chats::id.eq(members::chat_id))))
        .filter(members::bucket.eq(bucket))
        .filter(members::organization_id.eq(organization.as_str()))
        .filter(members::user_id.eq(user.as_str()))
        .filter(members::left_at.is_null())
        .filter(chats::archived_at.is_null())
        .filter(members::muted_until.is_null().or(members::muted_until.assume_not_null().le(TimestampValue(now))))
        .filter(members::marked_unread.or(unread_count(bucket).gt(0)).or(mention_count(bucket).gt(0)))
        .select((members::marked_unread, unread_count(bucket), mention_count(bucket)))
        .load(conn)
        .await?;
    let unread = |(is_marked, messages, mentions)| (is_marked || messages > 0, UnreadCounts { messages, mentions });
    Ok(counts.into_iter().map(unread).collect())
}
