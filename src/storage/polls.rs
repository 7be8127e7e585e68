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
use crate::storage::column_types::{TimestampValue, UuidValue, parse_user_ids};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::votes;
use crate::storage::sql::fragments::{insert_rows, load_union, pairs_in, union_all};

/// The options that a person chose, by their places.
pub async fn options_chosen_by(conn: &mut Conn, poll: MessageId, user: &UserId) -> Result<Vec<u8>> {
    let mut options: Vec<i32> = votes::table
        .filter(votes::chat_id.eq(UuidValue(poll.chat.0)))
        .filter(votes::seq.eq(poll.seq))
        .filter(votes::user_id.eq(user.as_str()))
        .select(votes::option)
        .load(conn)
        .await?;
    options.sort_unstable();
    Ok(options.into_iter().filter_map(|option| u8::try_from(option).ok()).collect())
}

/// Puts a person's choice in place of what they chose before.
pub async fn replace_votes(
    conn: &mut Conn,
    poll: MessageId,
    user: &UserId,
    options: &[u8],
    now: DateTime<Utc>,
) -> Result<()> {
    let own =
        votes::chat_id.eq(UuidValue(poll.chat.0)).and(votes::seq.eq(poll.seq)).and(votes::user_id.eq(user.as_str()));
    diesel::delete(votes::table.filter(own)).execute(conn).await?;
    if options.is_empty() {
        return Ok(());
    }
    let rows = options.iter().map(|option| {
        (
            votes::chat_id.eq(UuidValue(poll.chat.0)),
            votes::seq.eq(poll.seq),
            votes::option.eq(i32::from(*option)),
            votes::user_id.eq(user.as_str()),
            votes::created_at.eq(TimestampValue(now)),
        )
    });
    insert_rows(votes::table, rows).execute(conn).await?;
    Ok(())
}

/// Forgets the votes of a poll that is deleted.
pub async fn delete_votes(conn: &mut Conn, poll: MessageId) -> Result<()> {
    let of_poll = votes::chat_id.eq(UuidValue(poll.chat.0)).and(votes::seq.eq(poll.seq));
    diesel::delete(votes::table.filter(of_poll)).execute(conn).await?;
    Ok(())
}

/// How polls stand; one without a vote is left out.
pub async fn results(conn: &mut Conn, ids: &[MessageId]) -> Result<HashMap<MessageId, PollResults>> {
    let keys = || ids.iter().map(|id| (UuidValue(id.chat.0), id.seq));
    let options: Vec<(UuidValue, i64, i32, i64)> = votes::table
        .filter(pairs_in((votes::chat_id, votes::seq), keys()))
        .group_by((votes::chat_id, votes::seq, votes::option))
        .select((votes::chat_id, votes::seq, votes::option, count_star()))
        .load(conn)
        .await?;
    let voters: Vec<(UuidValue, i64, i64)> = votes::table
        .filter(pairs_in((votes::chat_id, votes::seq), keys()))
        .group_by((votes::chat_id, votes::seq))
        .select((votes::chat_id, votes::seq, count(votes::user_id).aggregate_distinct()))
        .load(conn)
        .await?;
    let mut tallies: HashMap<MessageId, PollResults> = HashMap::new();
    for (chat, seq, voters) in voters {
        tallies.entry(MessageId { chat: ChatId(chat.0), seq }).or_default().voter_count = voters;
    }
    for (chat, seq, option, number) in options {
        let votes = &mut tallies.entry(MessageId { chat: ChatId(chat.0), seq }).or_default().votes;
        let place = usize::try_from(option).unwrap_or_default();
        if votes.len() <= place {
            votes.resize(place + 1, 0);
        }
        votes[place] = number;
    }
    Ok(tallies)
}

/// The options that a person chose of each of these polls.
pub async fn votes_by_user(conn: &mut Conn, ids: &[MessageId], user: &UserId) -> Result<Vec<OptionId>> {
    let keys = ids.iter().map(|id| (UuidValue(id.chat.0), id.seq));
    let rows: Vec<(UuidValue, i64, i32)> = votes::table
        .filter(pairs_in((votes::chat_id, votes::seq), keys))
        .filter(votes::user_id.eq(user.as_str()))
        .select((votes::chat_id, votes::seq, votes::option))
        .load(conn)
        .await?;
    let choice = |(chat, seq, option): (UuidValue, i64, i32)| {
        Some(OptionId { message: MessageId { chat: ChatId(chat.0), seq }, index: u8::try_from(option).ok()? })
    };
    Ok(rows.into_iter().filter_map(choice).collect())
}

/// Who chose an option, the earliest first, for many options in one statement.
pub async fn voters(conn: &mut Conn, queries: &[VotersQuery]) -> Result<Vec<Vec<UserId>>> {
    let parts = queries.iter().zip(0_i64..).map(|(query, number)| {
        votes::table
            .filter(votes::chat_id.eq(UuidValue(query.option.message.chat.0)))
            .filter(votes::seq.eq(query.option.message.seq))
            .filter(votes::option.eq(i32::from(query.option.index)))
            .order((votes::created_at, votes::user_id))
            .limit(query.limit as i64)
            .select((number.into_sql::<BigInt>(), votes::user_id))
    });
    parse_user_ids(load_union(conn, queries.len(), union_all(parts)).await?)
}
