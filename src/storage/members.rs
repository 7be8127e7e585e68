//! Memberships, read positions and what they leave unread.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::conn::{Conn, RunQueryDsl};
use super::fragments::{All, Each, insert_rows, note_posts, pairs_in};
use super::schema::members;
use super::types::{Key, Time, word};
use crate::domain::ids::{ChatId, MemberId, OrganizationId, UserId};
use crate::domain::members::{Member, Role};
use crate::domain::pages::Window;
use crate::error::Result;

type Columns = (
    members::chat_id,
    members::user_id,
    members::role,
    members::joined_at,
    members::added_by,
    members::left_at,
    members::version,
    members::last_read_seq,
    members::last_read_at,
    members::last_posted_at,
);
const COLUMNS: Columns = (
    members::chat_id,
    members::user_id,
    members::role,
    members::joined_at,
    members::added_by,
    members::left_at,
    members::version,
    members::last_read_seq,
    members::last_read_at,
    members::last_posted_at,
);

type Row = (Key, String, String, Time, Option<String>, Option<Time>, i64, i64, Option<Time>, Option<Time>);

fn member(row: Row) -> Result<Member> {
    let (chat, user, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at) = row;
    Ok(Member {
        chat: ChatId(chat.0),
        user: word(&user)?,
        role: word(&role)?,
        joined_at: joined_at.0,
        added_by: added_by.as_deref().map(word).transpose()?,
        left_at: left_at.map(|at| at.0),
        version,
        last_read_seq,
        last_read_at: last_read_at.map(|at| at.0),
        last_posted_at: last_posted_at.map(|at| at.0),
    })
}

/// How many messages the member of a `members` row has not read, counted up to
/// [`UNREAD_CAP`](crate::domain::members::UNREAD_CAP). Computed, never stored: it can't drift.
pub fn unread_count() -> SqlLiteral<BigInt> {
    sql("(SELECT count(*) FROM (SELECT 1 FROM messages AS unread WHERE unread.chat_id = members.chat_id \
         AND unread.seq > members.last_read_seq AND unread.sender_id <> members.user_id \
         AND unread.deleted_at IS NULL LIMIT 1000) AS capped)")
}

/// Adds people who never were in the chat.
pub async fn insert(conn: &mut Conn, organization: &OrganizationId, new: &[Member]) -> Result<()> {
    let rows = new.iter().map(|member| {
        (
            members::chat_id.eq(Key(member.chat.0)),
            members::user_id.eq(member.user.as_str()),
            members::organization_id.eq(organization.as_str()),
            members::role.eq(<&str>::from(member.role)),
            members::joined_at.eq(Time(member.joined_at)),
            members::added_by.eq(member.added_by.as_ref().map(UserId::as_str)),
            members::version.eq(member.version),
            members::last_read_seq.eq(member.last_read_seq),
        )
    });
    insert_rows(members::table, rows).execute(conn).await?;
    Ok(())
}

/// Writes back who the member is: role, coming and going, and where they read.
pub async fn update(conn: &mut Conn, member: &Member) -> Result<()> {
    diesel::update(members::table.find((Key(member.chat.0), member.user.as_str())))
        .set((
            members::role.eq(<&str>::from(member.role)),
            members::joined_at.eq(Time(member.joined_at)),
            members::added_by.eq(member.added_by.as_ref().map(UserId::as_str)),
            members::left_at.eq(member.left_at.map(Time)),
            members::version.eq(member.version),
            members::last_read_seq.eq(member.last_read_seq),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Moves a read position, forward only.
pub async fn mark_read(conn: &mut Conn, member: &MemberId, seq: i64, now: DateTime<Utc>) -> Result<()> {
    diesel::update(members::table.find((Key(member.chat.0), member.user.as_str())))
        .filter(members::last_read_seq.lt(seq))
        .set((members::last_read_seq.eq(seq), members::last_read_at.eq(Time(now))))
        .execute(conn)
        .await?;
    Ok(())
}

/// Notes the last message that each member posted: it is read up to, and slow mode counts from it.
pub async fn posted(conn: &mut Conn, posts: impl Iterator<Item = (MemberId, i64, DateTime<Utc>)>) -> Result<()> {
    let rows = posts.map(|(member, seq, at)| (Key(member.chat.0), member.user.to_string(), seq, Time(at)));
    note_posts(rows).execute(conn).await?;
    Ok(())
}

/// Members by their keys, those who left too.
pub async fn by_ids(conn: &mut Conn, ids: &[MemberId]) -> Result<Vec<Member>> {
    let keys = ids.iter().map(|id| (Key(id.chat.0), id.user.as_str()));
    let rows: Vec<Row> =
        members::table.filter(pairs_in((members::chat_id, members::user_id), keys)).select(COLUMNS).load(conn).await?;
    rows.into_iter().map(member).collect()
}

/// The one who takes over a chat that its owner leaves: the highest role, then the longest there.
pub async fn heir(conn: &mut Conn, chat: ChatId, leaving: &UserId) -> Result<Option<Member>> {
    let rank = |role: Role| members::role.eq(<&str>::from(role));
    let rows: Vec<Row> = members::table
        .filter(members::chat_id.eq(Key(chat.0)))
        .filter(members::left_at.is_null())
        .filter(members::user_id.ne(leaving.as_str()))
        .order((
            rank(Role::Owner).desc(),
            rank(Role::Admin).desc(),
            rank(Role::Moderator).desc(),
            members::joined_at,
            members::user_id,
        ))
        .limit(1)
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().next().map(member).transpose()
}

/// The key that members are listed by: their user's id.
pub type ByUser = String;

/// Which members of one chat are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MembersQuery {
    pub chat: ChatId,
    pub roles: Option<Vec<Role>>,
    pub window: Window<ByUser>,
}

/// Members by user id, one more than asked for, of many chats in one statement.
pub async fn pages(conn: &mut Conn, queries: &[MembersQuery]) -> Result<Vec<Member>> {
    let parts = queries.iter().map(|query| {
        let roles = query.roles.as_ref().map(|roles| roles.iter().map(<&str>::from).collect::<Vec<_>>());
        let conditions = All::new()
            .and_some(roles.map(|roles| members::role.eq_any(roles)))
            .and_some(query.window.after.clone().map(|after| members::user_id.gt(after)));
        members::table
            .filter(members::chat_id.eq(Key(query.chat.0)))
            .filter(members::left_at.is_null())
            .filter(conditions)
            .order(members::user_id)
            .limit(query.window.fetch())
            .select(COLUMNS)
    });
    let rows: Vec<Row> = Each(parts.collect()).load(conn).await?;
    rows.into_iter().map(member).collect()
}

/// Unread messages of these members, exact below the cap.
pub async fn unread(conn: &mut Conn, ids: &[MemberId]) -> Result<Vec<(MemberId, i64)>> {
    let keys = ids.iter().map(|id| (Key(id.chat.0), id.user.as_str()));
    let rows: Vec<(Key, String, i64)> = members::table
        .filter(pairs_in((members::chat_id, members::user_id), keys))
        .select((members::chat_id, members::user_id, unread_count()))
        .load(conn)
        .await?;
    rows.into_iter()
        .map(|(chat, user, count)| Ok((MemberId { chat: ChatId(chat.0), user: word(&user)? }, count)))
        .collect()
}

/// The unread messages of each of a person's chats that has any.
pub async fn unread_by_chat(conn: &mut Conn, organization: &OrganizationId, user: &UserId) -> Result<Vec<i64>> {
    let counts = members::table
        .filter(members::organization_id.eq(organization.as_str()))
        .filter(members::user_id.eq(user.as_str()))
        .filter(members::left_at.is_null())
        .filter(unread_count().gt(0))
        .select(unread_count())
        .load(conn)
        .await?;
    Ok(counts)
}

/// The chats that a person is in, for a subscriber to all of them, and where each stands.
pub async fn chats_of(conn: &mut Conn, organization: &OrganizationId, user: &UserId) -> Result<Vec<(ChatId, i64)>> {
    use super::schema::chats;
    let rows: Vec<(Key, i64)> = members::table
        .inner_join(chats::table.on(chats::id.eq(members::chat_id)))
        .filter(members::organization_id.eq(organization.as_str()))
        .filter(members::user_id.eq(user.as_str()))
        .filter(members::left_at.is_null())
        .select((members::chat_id, chats::version))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(|(chat, version)| (ChatId(chat.0), version)).collect())
}

/// The members whose row took a version within a range of the chat's log, in its order.
pub async fn changed(conn: &mut Conn, chat: ChatId, after: i64, limit: i64) -> Result<Vec<Member>> {
    let rows: Vec<Row> = members::table
        .filter(members::chat_id.eq(Key(chat.0)))
        .filter(members::version.gt(after))
        .order(members::version)
        .limit(limit)
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(member).collect()
}
