//! Reactions.

use chrono::{DateTime, Utc};
use diesel::dsl::{count, count_star, min};
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use crate::domain::ids::{ChatId, MessageId, UserId};
use crate::domain::message_queries::ReactorsQuery;
use crate::domain::reactions::ReactionCount;
use crate::error::Result;
use crate::storage::column_types::{TimestampValue, UuidValue, into_user_ids, message_key};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::reactions;
use crate::storage::sql::keys::{keys_in, of_chat};
use crate::storage::sql::union_all::{load_union, union_all};

/// Inserts a reaction and returns `true`, or returns `false` if it exists.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn insert(
    conn: &mut Conn,
    message: MessageId,
    emoji: &str,
    user: &UserId,
    now: DateTime<Utc>,
) -> Result<bool> {
    let inserted = diesel::insert_into(reactions::table)
        .values((
            reactions::bucket.eq(message.bucket().number()),
            reactions::chat_id.eq(UuidValue(message.chat.0)),
            reactions::seq.eq(message.seq),
            reactions::emoji.eq(emoji),
            reactions::user_id.eq(user.as_str()),
            reactions::created_at.eq(TimestampValue(now)),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(inserted == 1)
}

/// Deletes a reaction and returns whether it existed.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn delete(conn: &mut Conn, message: MessageId, emoji: &str, user: &UserId) -> Result<bool> {
    let (bucket, chat, seq) = message_key(message);
    let key = (bucket, chat, seq, emoji, user.as_str());
    let deleted = diesel::delete(reactions::table.find(key)).execute(conn).await?;
    Ok(deleted == 1)
}

/// Deletes all reactions to a message.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn delete_all(conn: &mut Conn, message: MessageId) -> Result<()> {
    let of_message = reactions::table
        .filter(of_chat((reactions::bucket, reactions::chat_id), message.chat))
        .filter(reactions::seq.eq(message.seq));
    diesel::delete(of_message).execute(conn).await?;
    Ok(())
}

/// Returns the number of reactions by message and emoji, earliest emoji first.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn counts(conn: &mut Conn, ids: &[MessageId]) -> Result<Vec<(MessageId, ReactionCount)>> {
    let keys = ids.iter().map(|id| message_key(*id));
    let rows: Vec<(UuidValue, i64, String, i64)> = reactions::table
        .filter(keys_in((reactions::bucket, reactions::chat_id, reactions::seq), keys))
        .group_by((reactions::bucket, reactions::chat_id, reactions::seq, reactions::emoji))
        .order((min(reactions::created_at), reactions::emoji))
        .select((reactions::chat_id, reactions::seq, reactions::emoji, count_star()))
        .load(conn)
        .await?;
    let reaction_count = |(chat, seq, emoji, count): (UuidValue, i64, String, i64)| {
        (MessageId { chat: ChatId(chat.0), seq }, ReactionCount { emoji, count })
    };
    Ok(rows.into_iter().map(reaction_count).collect())
}

/// Returns the number of different emoji on a message, except one.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn count_other_emoji(conn: &mut Conn, message: MessageId, emoji: &str) -> Result<usize> {
    let number: i64 = reactions::table
        .filter(of_chat((reactions::bucket, reactions::chat_id), message.chat))
        .filter(reactions::seq.eq(message.seq))
        .filter(reactions::emoji.ne(emoji))
        .select(count(reactions::emoji).aggregate_distinct())
        .get_result(conn)
        .await?;
    Ok(usize::try_from(number).unwrap_or(usize::MAX))
}

/// Returns the emoji with which a user reacted to each of several messages.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn by_user(conn: &mut Conn, ids: &[MessageId], user: &UserId) -> Result<Vec<(MessageId, String)>> {
    let keys = ids.iter().map(|id| message_key(*id));
    let rows: Vec<(UuidValue, i64, String)> = reactions::table
        .filter(keys_in((reactions::bucket, reactions::chat_id, reactions::seq), keys))
        .filter(reactions::user_id.eq(user.as_str()))
        .select((reactions::chat_id, reactions::seq, reactions::emoji))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(|(chat, seq, emoji)| (MessageId { chat: ChatId(chat.0), seq }, emoji)).collect())
}

/// Returns the users behind many reactions in one statement, earliest first.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn reactors(conn: &mut Conn, queries: &[ReactorsQuery]) -> Result<Vec<Vec<UserId>>> {
    let parts = queries.iter().zip(0_i64..).map(|(query, number)| {
        reactions::table
            .filter(of_chat((reactions::bucket, reactions::chat_id), query.message.chat))
            .filter(reactions::seq.eq(query.message.seq))
            .filter(reactions::emoji.eq(&query.emoji))
            .order((reactions::created_at, reactions::user_id))
            .limit(query.limit as i64)
            .select((number.into_sql::<BigInt>(), reactions::user_id))
    });
    Ok(into_user_ids(load_union(conn, queries.len(), union_all(parts)).await?))
}
