//! Bans of users from chats.

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use crate::domain::bans::{Ban, BansQuery};
use crate::domain::ids::{ChatId, OrganizationId, UserId};
use crate::error::Result;
use crate::storage::column_types::{TextValue, TimestampValue, UuidValue};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::chat_bans;
use crate::storage::sql::columns::columns;
use crate::storage::sql::conditions::Conditions;
use crate::storage::sql::in_list::in_list;
use crate::storage::sql::keys::of_chat;
use crate::storage::sql::statement_cache::MAX_ROWS;
use crate::storage::sql::union_all::{load_union, union_all};

/// The columns of a ban.
#[derive(Queryable, Selectable)]
#[diesel(table_name = chat_bans, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct BanRow {
    chat_id: UuidValue,
    user_id: TextValue<UserId>,
    banned_by: TextValue<UserId>,
    banned_at: TimestampValue,
    reason: Option<String>,
}

impl From<BanRow> for Ban {
    fn from(row: BanRow) -> Self {
        Self {
            chat: ChatId(row.chat_id.0),
            user: row.user_id.0,
            banned_by: row.banned_by.0,
            banned_at: row.banned_at.0,
            reason: row.reason,
        }
    }
}

/// Inserts a ban and returns `true`, or returns `false` if the user is banned already.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn insert(conn: &mut Conn, organization: &OrganizationId, ban: &Ban) -> Result<bool> {
    let inserted = diesel::insert_into(chat_bans::table)
        .values((
            chat_bans::bucket.eq(ban.chat.bucket().number()),
            chat_bans::organization_id.eq(organization.as_str()),
            chat_bans::chat_id.eq(UuidValue(ban.chat.0)),
            chat_bans::user_id.eq(ban.user.as_str()),
            chat_bans::banned_by.eq(ban.banned_by.as_str()),
            chat_bans::banned_at.eq(TimestampValue(ban.banned_at)),
            chat_bans::reason.eq(&ban.reason),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(inserted == 1)
}

/// Returns which of the given users are banned from a chat.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn banned_users(conn: &mut Conn, chat: ChatId, users: &[UserId]) -> Result<Vec<UserId>> {
    let mut banned = Vec::new();
    for chunk in users.chunks(MAX_ROWS) {
        let rows: Vec<TextValue<UserId>> = chat_bans::table
            .filter(of_chat((chat_bans::bucket, chat_bans::chat_id), chat))
            .filter(in_list(chat_bans::user_id, chunk.iter().map(UserId::as_str)))
            .select(chat_bans::user_id)
            .load(conn)
            .await?;
        banned.extend(rows.into_iter().map(|user| user.0));
    }
    Ok(banned)
}

/// Deletes the bans of users from a chat and returns their number.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn delete(conn: &mut Conn, chat: ChatId, users: &[UserId]) -> Result<usize> {
    let mut deleted = 0;
    for chunk in users.chunks(MAX_ROWS) {
        let bans = chat_bans::table
            .filter(of_chat((chat_bans::bucket, chat_bans::chat_id), chat))
            .filter(in_list(chat_bans::user_id, chunk.iter().map(UserId::as_str)));
        deleted += diesel::delete(bans).execute(conn).await?;
    }
    Ok(deleted)
}

/// Returns pages of the bans of many chats in one statement, newest first.
///
/// Each page has one ban more than its window shows, if there are more. The windows have to begin at the lists' start.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn pages(conn: &mut Conn, queries: &[BansQuery]) -> Result<Vec<Vec<Ban>>> {
    let parts = queries.iter().zip(0_i64..).map(|(query, number)| {
        let conditions = Conditions::new().and_option(query.window.after.clone().map(|(at, user)| {
            let at = TimestampValue::from_micros_clamped(at);
            chat_bans::banned_at.lt(at).or(chat_bans::banned_at.eq(at).and(chat_bans::user_id.lt(user)))
        }));
        chat_bans::table
            .filter(of_chat((chat_bans::bucket, chat_bans::chat_id), query.chat))
            .filter(conditions)
            .order((chat_bans::banned_at.desc(), chat_bans::user_id.desc()))
            .limit(query.window.fetch_limit())
            .select((number.into_sql::<BigInt>(), columns::<BanRow>()))
    });
    let pages: Vec<Vec<BanRow>> = load_union(conn, queries.len(), union_all(parts)).await?;
    Ok(pages.into_iter().map(|rows| rows.into_iter().map(Ban::from).collect()).collect())
}
