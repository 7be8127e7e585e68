//! Votes in polls.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::dsl::{count, count_star};
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use crate::domain::ids::{ChatId, MessageId, OptionId, UserId};
use crate::domain::message_queries::VotersQuery;
use crate::domain::polls::PollResults;
use crate::error::Result;
use crate::storage::column_types::{TimestampValue, UuidValue, into_user_ids, message_key};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::votes;
use crate::storage::sql::insert_many::insert_many;
use crate::storage::sql::keys::{keys_in, of_chat};
use crate::storage::sql::union_all::{load_union, union_all};

/// Returns the indexes of the options of one poll that a user voted for, in ascending order.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn options_chosen_by(conn: &mut Conn, poll: MessageId, user: &UserId) -> Result<Vec<u8>> {
    let mut options: Vec<i32> = votes::table
        .filter(of_chat((votes::bucket, votes::chat_id), poll.chat))
        .filter(votes::seq.eq(poll.seq))
        .filter(votes::user_id.eq(user.as_str()))
        .select(votes::option)
        .load(conn)
        .await?;
    options.sort_unstable();
    Ok(options.into_iter().filter_map(|option| u8::try_from(option).ok()).collect())
}

/// Replaces all of a user's votes in a poll.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn replace_votes(
    conn: &mut Conn,
    poll: MessageId,
    user: &UserId,
    options: &[u8],
    now: DateTime<Utc>,
) -> Result<()> {
    let former_votes = votes::table
        .filter(of_chat((votes::bucket, votes::chat_id), poll.chat))
        .filter(votes::seq.eq(poll.seq))
        .filter(votes::user_id.eq(user.as_str()));
    diesel::delete(former_votes).execute(conn).await?;
    if options.is_empty() {
        return Ok(());
    }
    let rows = options.iter().map(|option| {
        (
            votes::bucket.eq(poll.bucket().number()),
            votes::chat_id.eq(UuidValue(poll.chat.0)),
            votes::seq.eq(poll.seq),
            votes::option.eq(i32::from(*option)),
            votes::user_id.eq(user.as_str()),
            votes::created_at.eq(TimestampValue(now)),
        )
    });
    insert_many(votes::table, rows).execute(conn).await?;
    Ok(())
}

/// Deletes all votes in a poll.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn delete_votes(conn: &mut Conn, poll: MessageId) -> Result<()> {
    let of_poll =
        votes::table.filter(of_chat((votes::bucket, votes::chat_id), poll.chat)).filter(votes::seq.eq(poll.seq));
    diesel::delete(of_poll).execute(conn).await?;
    Ok(())
}

/// Returns the results of polls; a poll without votes is left out.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn results(conn: &mut Conn, ids: &[MessageId]) -> Result<HashMap<MessageId, PollResults>> {
    let keys = || ids.iter().map(|id| message_key(*id));
    let options: Vec<(UuidValue, i64, i32, i64)> = votes::table
        .filter(keys_in((votes::bucket, votes::chat_id, votes::seq), keys()))
        .group_by((votes::bucket, votes::chat_id, votes::seq, votes::option))
        .select((votes::chat_id, votes::seq, votes::option, count_star()))
        .load(conn)
        .await?;
    let voters: Vec<(UuidValue, i64, i64)> = votes::table
        .filter(keys_in((votes::bucket, votes::chat_id, votes::seq), keys()))
        .group_by((votes::bucket, votes::chat_id, votes::seq))
        .select((votes::chat_id, votes::seq, count(votes::user_id).aggregate_distinct()))
        .load(conn)
        .await?;
    let mut results: HashMap<MessageId, PollResults> = HashMap::new();
    for (chat, seq, voters) in voters {
        results.entry(MessageId { chat: ChatId(chat.0), seq }).or_default().voter_count = voters;
    }
    for (chat, seq, option, number) in options {
        let votes = &mut results.entry(MessageId { chat: ChatId(chat.0), seq }).or_default().votes;
        let index = usize::try_from(option).unwrap_or_default();
        if votes.len() <= index {
            votes.resize(index + 1, 0);
        }
        votes[index] = number;
    }
    Ok(results)
}

/// Returns the options of several polls that a user voted for.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn votes_by_user(conn: &mut Conn, ids: &[MessageId], user: &UserId) -> Result<Vec<OptionId>> {
    let keys = ids.iter().map(|id| message_key(*id));
    let rows: Vec<(UuidValue, i64, i32)> = votes::table
        .filter(keys_in((votes::bucket, votes::chat_id, votes::seq), keys))
        .filter(votes::user_id.eq(user.as_str()))
        .select((votes::chat_id, votes::seq, votes::option))
        .load(conn)
        .await?;
    let option_id = |(chat, seq, option): (UuidValue, i64, i32)| {
        Some(OptionId { message: MessageId { chat: ChatId(chat.0), seq }, index: u8::try_from(option).ok()? })
    };
    Ok(rows.into_iter().filter_map(option_id).collect())
}

/// Returns the voters of many options in one statement, earliest vote first.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn voters(conn: &mut Conn, queries: &[VotersQuery]) -> Result<Vec<Vec<UserId>>> {
    let parts = queries.iter().zip(0_i64..).map(|(query, number)| {
        votes::table
            .filter(of_chat((votes::bucket, votes::chat_id), query.option.message.chat))
            .filter(votes::seq.eq(query.option.message.seq))
            .filter(votes::option.eq(i32::from(query.option.index)))
            .order((votes::created_at, votes::user_id))
            .limit(query.limit as i64)
            .select((number.into_sql::<BigInt>(), votes::user_id))
    });
    Ok(into_user_ids(load_union(conn, queries.len(), union_all(parts)).await?))
}
