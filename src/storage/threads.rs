//! Followers of threads, and what users have read in them.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::dsl::{not, sql};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Nullable};

use crate::domain::buckets::group_by_bucket;
use crate::domain::ids::{ChatId, MemberId, MessageId, OrganizationId, UserId};
use crate::domain::members::UnreadCounts;
use crate::domain::threads::{ThreadFollower, ThreadReader, ThreadState};
use crate::error::Result;
use crate::storage::column_types::{SqlTimestamp, TextValue, TimestampValue, UuidValue, message_key};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::{chats, members, messages, thread_members};
use crate::storage::sql::in_bucket::InBucket;
use crate::storage::sql::keys::{keys_in, of_chat};
use crate::storage::sql::statement_cache::MAX_ROWS;
use crate::storage::sql::values_statement::ValuesStatement;

/// The condition that a message, called `reply`, can be unread for the member of a `members` row.
const IS_FROM_OTHERS: &str = "reply.sender_id <> members.user_id AND reply.deleted_at IS NULL \
    AND reply.seq > members.history_after_seq AND reply.created_at >= members.joined_at";

/// The replies, called `reply`, of the thread of a `messages` row, as text of an [`InBucket`].
const REPLIES: &str = "FROM messages AS reply WHERE reply.bucket = :bucket \
    AND reply.chat_id = messages.chat_id AND reply.thread_root_seq = messages.seq";

/// Returns the users who follow threads.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn followers(conn: &mut Conn, roots: &[MessageId]) -> Result<Vec<(MessageId, UserId)>> {
    let keys = roots.iter().map(|root| message_key(*root));
    let rows: Vec<(UuidValue, i64, TextValue<UserId>)> = thread_members::table
        .filter(keys_in((thread_members::bucket, thread_members::chat_id, thread_members::root_seq), keys))
        .filter(thread_members::is_following)
        .select((thread_members::chat_id, thread_members::root_seq, thread_members::user_id))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(|(chat, seq, user)| (message_id(chat, seq), user.0)).collect())
}

/// Makes users follow threads of one bucket, each thread at most once.
///
/// A reply is unread for a new follower only after the number that comes with the follower.
///
/// The read positions stay as they are, so that earlier mentions of everyone stay unread.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn follow(conn: &mut Conn, new: &[ThreadFollower]) -> Result<()> {
    let after = " AS followers WHERE TRUE ON CONFLICT (bucket, chat_id, root_seq, user_id) DO UPDATE SET \
         is_following = TRUE, follows_after_seq = excluded.follows_after_seq";
    for chunk in new.chunks(MAX_ROWS) {
        let rows = chunk.iter().map(|ThreadFollower { root, user, after_seq }| {
            let (bucket, chat, seq) = message_key(*root);
            vec![bucket.into(), chat.into(), seq.into(), user.as_str().into(), (*after_seq).into()]
        });
        let before = "INSERT INTO thread_members (bucket, chat_id, root_seq, user_id, is_following, last_read_seq, \
                      follows_after_seq) SELECT column1, column2, column3, column4, TRUE, 0, column5 FROM ";
        ValuesStatement::new(before, rows, after).execute(conn).await?;
    }
    Ok(())
}

/// Moves the read positions of users in threads of one bucket forward.
///
/// A user occurs at most once for each thread.
///
/// `marked_read_at` is the time at which they marked the threads as read, or `None` if they sent a reply.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn record_reads(
    conn: &mut Conn,
    readers: &[ThreadReader],
    marked_read_at: Option<DateTime<Utc>>,
) -> Result<()> {
    let after = " AS readers WHERE TRUE ON CONFLICT (bucket, chat_id, root_seq, user_id) DO UPDATE SET \
         is_following = (thread_members.is_following OR excluded.is_following), \
         last_read_seq = CASE WHEN excluded.last_read_seq > thread_members.last_read_seq \
         THEN excluded.last_read_seq ELSE thread_members.last_read_seq END, \
         marked_read_at = COALESCE(excluded.marked_read_at, thread_members.marked_read_at)";
    for chunk in readers.chunks(MAX_ROWS) {
        let rows = chunk.iter().map(|ThreadReader { root, user, follows, last_read_seq }| {
            let (bucket, chat, seq) = message_key(*root);
            vec![
                bucket.into(),
                chat.into(),
                seq.into(),
                user.as_str().into(),
                (*follows).into(),
                (*last_read_seq).into(),
                marked_read_at.map(TimestampValue).into(),
            ]
        });
        let before = "INSERT INTO thread_members (bucket, chat_id, root_seq, user_id, is_following, last_read_seq, \
                      follows_after_seq, marked_read_at) \
                      SELECT column1, column2, column3, column4, column5, column6, column6, column7 FROM ";
        ValuesStatement::new(before, rows, after).execute(conn).await?;
    }
    Ok(())
}

/// Returns the number up to which a user has read the replies of a thread, or 0.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn last_read_seq(conn: &mut Conn, root: MessageId, user: &UserId) -> Result<i64> {
    let rows: Vec<i64> = thread_members::table
        .filter(of_chat((thread_members::bucket, thread_members::chat_id), root.chat))
        .filter(thread_members::root_seq.eq(root.seq))
        .filter(thread_members::user_id.eq(user.as_str()))
        .select(thread_members::last_read_seq)
        .load(conn)
        .await?;
    Ok(rows.into_iter().sum())
}

/// Returns the numbers up to which the current members who do not read privately have read threads.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn read_positions(conn: &mut Conn, roots: &[MessageId]) -> Result<HashMap<(MessageId, UserId), i64>> {
    let of_member = members::bucket
        .eq(thread_members::bucket)
        .and(members::chat_id.eq(thread_members::chat_id))
        .and(members::user_id.eq(thread_members::user_id));
    let keys = roots.iter().map(|root| message_key(*root));
    let rows: Vec<(UuidValue, i64, TextValue<UserId>, i64)> = thread_members::table
        .inner_join(members::table.on(of_member))
        .filter(keys_in((thread_members::bucket, thread_members::chat_id, thread_members::root_seq), keys))
        .filter(members::left_at.is_null())
        .filter(not(members::read_privately))
        .select((
            thread_members::chat_id,
            thread_members::root_seq,
            thread_members::user_id,
            thread_members::last_read_seq,
        ))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(|(chat, root, user, seq)| ((message_id(chat, root), user.0), seq)).collect())
}

/// Returns threads as a member of their chats sees them.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn states(conn: &mut Conn, viewer: &UserId, roots: &[MessageId]) -> Result<Vec<(MessageId, ThreadState)>> {
    type Row = (UuidValue, i64, Option<bool>, i64, i64, Option<TimestampValue>, Option<i64>);
    let of_viewer = members::bucket
        .eq(messages::bucket)
        .and(members::chat_id.eq(messages::chat_id))
        .and(members::user_id.eq(viewer.as_str()));
    let in_thread = thread_members::bucket
        .eq(messages::bucket)
        .and(thread_members::chat_id.eq(messages::chat_id))
        .and(thread_members::root_seq.eq(messages::seq))
        .and(thread_members::user_id.eq(members::user_id));
    let mut rows: Vec<Row> = Vec::with_capacity(roots.len());
    for (bucket, roots) in group_by_bucket(roots.iter().copied(), |root| root.bucket()) {
        let bucket = bucket.number();
        let keys = roots.into_iter().map(message_key);
        let of_bucket: Vec<Row> = messages::table
            .inner_join(members::table.on(of_viewer))
            .left_join(thread_members::table.on(in_thread))
            .filter(keys_in((messages::bucket, messages::chat_id, messages::seq), keys))
            .filter(members::left_at.is_null())
            .select((
                messages::chat_id,
                messages::seq,
                thread_members::is_following.nullable(),
                unread_count(bucket),
                mention_count(bucket),
                InBucket::<Nullable<SqlTimestamp>>::new(bucket, format!(
                    "(SELECT reply.created_at {REPLIES} AND reply.deleted_at IS NULL ORDER BY reply.seq DESC LIMIT 1)"
                )),
                InBucket::<Nullable<BigInt>>::new(bucket, format!(
                    "(SELECT max(reply.seq) {REPLIES} AND reply.seq <= thread_members.last_read_seq)"
                )),
            ))
            .load(conn)
            .await?;
        rows.extend(of_bucket);
    }
    let state = |(chat, seq, is_following, messages, mentions, last_reply_at, last_read): Row| {
        let state = ThreadState {
            is_following: is_following.unwrap_or_default(),
            unread: UnreadCounts { messages, mentions },
            last_reply_at: last_reply_at.map(|at| at.0),
            last_read: last_read.map(|seq| message_id(chat, seq)),
        };
        (message_id(chat, seq), state)
    };
    Ok(rows.into_iter().map(state).collect())
}

/// Returns the SQL that counts the replies that a follower has not read.
fn unread_count(bucket: i32) -> InBucket<BigInt> {
    let text = format!(
        "(SELECT count(*) FROM (SELECT 1 {REPLIES} AND thread_members.is_following \
         AND reply.seq > thread_members.last_read_seq AND reply.seq > thread_members.follows_after_seq \
         AND {IS_FROM_OTHERS} LIMIT 1000) AS capped)"
    );
    InBucket::new(bucket, text)
}

/// Returns the SQL that counts the unread replies that mention the member or everyone.
fn mention_count(bucket: i32) -> InBucket<BigInt> {
    let text = format!(
        "(SELECT count(*) FROM (SELECT 1 {REPLIES} AND reply.seq > COALESCE(thread_members.last_read_seq, 0) \
         AND (reply.mentions_everyone OR EXISTS (SELECT 1 FROM mentions WHERE mentions.bucket = :bucket \
         AND mentions.chat_id = reply.chat_id AND mentions.user_id = members.user_id AND mentions.seq = reply.seq)) \
         AND {IS_FROM_OTHERS} LIMIT 1000) AS capped)"
    );
    InBucket::new(bucket, text)
}

/// Returns the text of an `InBucket` that selects the unread replies that mention a member.
///
/// The member is that of a `members` row. Only replies that are not in the timeline count, and of them the newest 1,000
/// that mention the member, and the newest 1,000 that mention everyone.
pub fn unread_mentions() -> String {
    let position = "COALESCE((SELECT thread_members.last_read_seq FROM thread_members \
        WHERE thread_members.bucket = :bucket AND thread_members.chat_id = members.chat_id \
        AND thread_members.root_seq = reply.thread_root_seq AND thread_members.user_id = members.user_id), 0)";
    format!(
        "SELECT reply.seq FROM (SELECT mentions.seq FROM mentions WHERE mentions.bucket = :bucket \
         AND mentions.chat_id = members.chat_id AND mentions.user_id = members.user_id \
         AND mentions.thread_root_seq IS NOT NULL ORDER BY mentions.seq DESC LIMIT 1000) AS mentioned \
         JOIN messages AS reply ON reply.bucket = :bucket AND reply.chat_id = members.chat_id \
         AND reply.seq = mentioned.seq \
         WHERE {IS_FROM_OTHERS} AND reply.seq > {position} \
         UNION SELECT reply.seq FROM (SELECT newest.seq FROM messages AS newest \
         WHERE newest.bucket = :bucket AND newest.chat_id = members.chat_id AND newest.mentions_everyone \
         AND NOT newest.in_timeline ORDER BY newest.seq DESC LIMIT 1000) AS mentioned \
         JOIN messages AS reply ON reply.bucket = :bucket AND reply.chat_id = members.chat_id \
         AND reply.seq = mentioned.seq \
         WHERE {IS_FROM_OTHERS} AND reply.seq > {position}"
    )
}

/// Returns the number of threads with unread replies that a user follows, but at most `limit`.
///
/// Muted and archived chats are left out.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn count_unread(
    conn: &mut Conn,
    organization: &OrganizationId,
    user: &UserId,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<i64> {
    let of_member = thread_members::bucket
        .eq(members::bucket)
        .and(thread_members::chat_id.eq(members::chat_id))
        .and(thread_members::user_id.eq(members::user_id));
    let has_unread = format!(
        "EXISTS (SELECT 1 FROM messages AS reply WHERE reply.bucket = thread_members.bucket \
         AND reply.chat_id = thread_members.chat_id AND reply.thread_root_seq = thread_members.root_seq \
         AND reply.seq > thread_members.last_read_seq AND reply.seq > thread_members.follows_after_seq \
         AND {IS_FROM_OTHERS})"
    );
    let unread: Vec<i64> = members::table
        .inner_join(chats::table.on(chats::bucket.eq(members::bucket).and(chats::id.eq(members::chat_id))))
        .inner_join(thread_members::table.on(of_member))
        .filter(members::bucket.eq(organization.bucket().number()))
        .filter(members::organization_id.eq(organization.as_str()))
        .filter(members::user_id.eq(user.as_str()))
        .filter(members::left_at.is_null())
        .filter(chats::archived_at.is_null())
        .filter(members::muted_until.is_null().or(members::muted_until.assume_not_null().le(TimestampValue(now))))
        .filter(thread_members::is_following)
        .filter(sql::<Bool>(&has_unread))
        .limit(limit)
        .select(thread_members::root_seq)
        .load(conn)
        .await?;
    Ok(unread.len() as i64)
}

/// Returns the threads that members marked as read since a time, the latest first, but at most `limit`.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn marked_read_since(
    conn: &mut Conn,
    readers: &[MemberId],
    since: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<(UserId, MessageId)>> {
    let keys = readers.iter().map(|member| (member.bucket().number(), UuidValue(member.chat.0), member.user.as_str()));
    let marked_read_at = thread_members::marked_read_at.assume_not_null();
    let rows: Vec<(UuidValue, i64, TextValue<UserId>)> = thread_members::table
        .filter(keys_in((thread_members::bucket, thread_members::chat_id, thread_members::user_id), keys))
        .filter(marked_read_at.ge(TimestampValue(since)))
        .order(marked_read_at.desc())
        .limit(limit)
        .select((thread_members::chat_id, thread_members::root_seq, thread_members::user_id))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(|(chat, seq, user)| (user.0, message_id(chat, seq))).collect())
}

fn message_id(chat: UuidValue, seq: i64) -> MessageId {
    MessageId { chat: ChatId(chat.0), seq }
}
