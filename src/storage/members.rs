//! Memberships, with their read positions and preferences.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use crate::domain::buckets::Bucket;
use crate::domain::ids::{ChatId, MemberId, OrganizationId, UserId};
use crate::domain::member_queries::{MembersQuery, UserChat};
use crate::domain::members::{Member, MemberPreferences, NotificationLevel, ReadMarkers, Role};
use crate::error::Result;
use crate::storage::column_types::{TextValue, TimestampValue, UuidValue, chat_key, member_key};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::read_budget::{LargeRow, MAX_LARGE_ROWS, charge_rows};
use crate::storage::schema::{chats, members};
use crate::storage::sql::columns::columns;
use crate::storage::sql::conditions::Conditions;
use crate::storage::sql::insert_many::insert_many;
use crate::storage::sql::keys::{keys_in, of_chat};
use crate::storage::sql::statement_cache::MAX_ROWS;
use crate::storage::sql::union_all::{load_union_large, union_all_large};
use crate::storage::sql::values_statement::ValuesStatement;

/// The columns of a member.
#[derive(Queryable, Selectable)]
#[diesel(table_name = members, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct MemberRow {
    chat_id: UuidValue,
    user_id: TextValue<UserId>,
    role: TextValue<Role>,
    joined_at: TimestampValue,
    added_by: Option<TextValue<UserId>>,
    left_at: Option<TimestampValue>,
    version: i64,
    silenced_until: Option<TimestampValue>,
    last_posted_at: Option<TimestampValue>,
    moved_at: Option<TimestampValue>,
    shown_at: Option<TimestampValue>,
    last_read_seq: i64,
    last_read_at: Option<TimestampValue>,
    read_privately: bool,
    last_delivered_seq: i64,
    muted_until: Option<TimestampValue>,
    notification_level: TextValue<NotificationLevel>,
    pinned: bool,
    marked_unread: bool,
    draft: Option<String>,
    history_after_seq: i64,
}

impl From<MemberRow> for Member {
    fn from(row: MemberRow) -> Self {
        let time = |value: Option<TimestampValue>| value.map(|at| at.0);
        Self {
            chat: ChatId(row.chat_id.0),
            user: row.user_id.0,
            role: row.role.0,
            joined_at: row.joined_at.0,
            added_by: row.added_by.map(|user| user.0),
            left_at: time(row.left_at),
            version: row.version,
            history_after_seq: row.history_after_seq,
            silenced_until: time(row.silenced_until),
            last_posted_at: time(row.last_posted_at),
            read_markers: ReadMarkers {
                last_read_seq: row.last_read_seq,
                last_read_at: time(row.last_read_at),
                is_private: row.read_privately,
                last_delivered_seq: row.last_delivered_seq,
            },
            preferences: MemberPreferences {
                muted_until: time(row.muted_until),
                notification_level: row.notification_level.0,
                pinned: row.pinned,
                marked_unread: row.marked_unread,
                draft: row.draft,
            },
            private_state_updated_at: time(row.moved_at),
            visible_state_updated_at: time(row.shown_at),
        }
    }
}

impl LargeRow for MemberRow {
    fn text_bytes(&self) -> usize {
        self.draft.as_ref().map_or(0, String::len)
    }
}

fn into_members(rows: Vec<MemberRow>) -> Vec<Member> {
    rows.into_iter().map(Member::from).collect()
}

/// Inserts members who were never in their chat before, at least one and all of one bucket.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn insert(conn: &mut Conn, organization: &OrganizationId, new: &[Member]) -> Result<()> {
    let rows = new.iter().map(|member| {
        (
            members::bucket.eq(member.chat.bucket().number()),
            members::chat_id.eq(UuidValue(member.chat.0)),
            members::user_id.eq(member.user.as_str()),
            members::organization_id.eq(organization.as_str()),
            members::role.eq(<&str>::from(member.role)),
            members::joined_at.eq(TimestampValue(member.joined_at)),
            members::added_by.eq(member.added_by.as_ref().map(UserId::as_str)),
            members::version.eq(member.version),
            members::last_read_seq.eq(member.read_markers.last_read_seq),
            members::history_after_seq.eq(member.history_after_seq),
        )
    });
    insert_many(members::table, rows).execute(conn).await?;
    Ok(())
}

/// Writes everything that can change in a member.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn update(conn: &mut Conn, member: &Member) -> Result<()> {
    let (read_markers, preferences) = (&member.read_markers, &member.preferences);
    diesel::update(members::table.find(member_key(&member.id())))
        .set((
            (
                members::role.eq(<&str>::from(member.role)),
                members::joined_at.eq(TimestampValue(member.joined_at)),
                members::added_by.eq(member.added_by.as_ref().map(UserId::as_str)),
                members::left_at.eq(member.left_at.map(TimestampValue)),
                members::version.eq(member.version),
                members::history_after_seq.eq(member.history_after_seq),
                members::silenced_until.eq(member.silenced_until.map(TimestampValue)),
                members::moved_at.eq(member.private_state_updated_at.map(TimestampValue)),
                members::shown_at.eq(member.visible_state_updated_at.map(TimestampValue)),
            ),
            (
                members::last_read_seq.eq(read_markers.last_read_seq),
                members::last_read_at.eq(read_markers.last_read_at.map(TimestampValue)),
                members::read_privately.eq(read_markers.is_private),
                members::last_delivered_seq.eq(read_markers.last_delivered_seq),
            ),
            (
                members::muted_until.eq(preferences.muted_until.map(TimestampValue)),
                members::notification_level.eq(<&str>::from(preferences.notification_level)),
                members::pinned.eq(preferences.pinned),
                members::marked_unread.eq(preferences.marked_unread),
                members::draft.eq(&preferences.draft),
            ),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Writes the read markers and the times of members who posted, and removes the drafts that they sent.
///
/// Their chats are of one bucket.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn record_posts(conn: &mut Conn, bucket: Bucket, posters: &[&Member]) -> Result<()> {
    let rows = posters.iter().filter_map(|member| {
        let posted_at = TimestampValue(member.last_posted_at?);
        Some(vec![
            UuidValue(member.chat.0).into(),
            member.user.as_str().into(),
            member.read_markers.last_read_seq.into(),
            member.read_markers.last_read_at.map(TimestampValue).into(),
            member.preferences.marked_unread.into(),
            posted_at.into(),
            member.preferences.draft.is_none().into(),
        ])
    });
    let update = ValuesStatement::new(
        "UPDATE members SET last_read_seq = posted.column3, last_read_at = posted.column4, \
         marked_unread = posted.column5, last_posted_at = posted.column6, moved_at = posted.column6, \
         shown_at = posted.column6, draft = CASE WHEN posted.column7 THEN NULL ELSE draft END FROM ",
        rows,
        " AS posted WHERE members.chat_id = posted.column1 AND members.user_id = posted.column2 AND members.bucket = ",
    );
    update.in_bucket(bucket).execute(conn).await?;
    Ok(())
}

/// Stores the time at which a member edited a message, if the edit counts as a post.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn record_edit(conn: &mut Conn, id: &MemberId, at: DateTime<Utc>) -> Result<()> {
    diesel::update(members::table.find(member_key(id)))
        .set(members::last_posted_at.eq(TimestampValue(at)))
        .execute(conn)
        .await?;
    Ok(())
}

/// Returns those of the given chats in which a user is a member.
///
/// Each has the number of the message after which the user may read the chat.
///
/// It decides about access to every list of content, so it reads neither the chats nor the drafts of the member.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn joined_chats(
    conn: &mut Conn,
    organization: &OrganizationId,
    user: &UserId,
    chats: &[ChatId],
) -> Result<HashMap<ChatId, i64>> {
    let mut joined = HashMap::with_capacity(chats.len());
    for chunk in chats.chunks(MAX_ROWS) {
        let rows: Vec<(UuidValue, i64)> = members::table
            .filter(keys_in((members::bucket, members::chat_id), chunk.iter().map(|chat| chat_key(*chat))))
            .filter(members::organization_id.eq(organization.as_str()))
            .filter(members::user_id.eq(user.as_str()))
            .filter(members::left_at.is_null())
            .select((members::chat_id, members::history_after_seq))
            .load(conn)
            .await?;
        joined.extend(rows.into_iter().map(|(chat, history_after_seq)| (ChatId(chat.0), history_after_seq)));
    }
    Ok(joined)
}

/// Returns members by their ids, including former members.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn by_ids(conn: &mut Conn, ids: &[MemberId]) -> Result<Vec<Member>> {
    let mut found = Vec::with_capacity(ids.len());
    for chunk in ids.chunks(MAX_LARGE_ROWS) {
        let keys = keys_in((members::bucket, members::chat_id, members::user_id), chunk.iter().map(member_key));
        let rows: Vec<MemberRow> = members::table.filter(keys).select(columns::<MemberRow>()).load(conn).await?;
        charge_rows(&rows)?;
        found.extend(rows.into_iter().map(Member::from));
    }
    Ok(found)
}

/// Returns the member who becomes the owner of a chat when its owner leaves.
///
/// It is the member with the highest role, and among those the one who joined first.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn next_owner(conn: &mut Conn, chat: ChatId, leaving: &UserId) -> Result<Option<Member>> {
    let rank = |role: Role| members::role.eq(<&str>::from(role));
    let rows: Vec<MemberRow> = members::table
        .filter(of_chat((members::bucket, members::chat_id), chat))
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
        .select(columns::<MemberRow>())
        .load(conn)
        .await?;
    Ok(rows.into_iter().next().map(Member::from))
}

/// Returns pages of the members of many chats, ordered by user id, in as few statements as possible.
///
/// Each page has one member more than its window shows, if there are more.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn pages(conn: &mut Conn, queries: &[MembersQuery]) -> Result<Vec<Vec<Member>>> {
    let parts = queries.iter().zip(0_i64..).map(|(query, number)| {
        let roles = query.roles.as_ref().map(|roles| roles.iter().map(<&str>::from).collect::<Vec<_>>());
        let conditions = Conditions::new()
            .and_option(roles.map(|roles| members::role.eq_any(roles)))
            .and_option(query.window.after.clone().map(|after| members::user_id.gt(after)));
        let page = members::table
            .filter(of_chat((members::bucket, members::chat_id), query.chat))
            .filter(members::left_at.is_null())
            .filter(conditions)
            .order(members::user_id)
            .limit(query.window.fetch_limit())
            .select((number.into_sql::<BigInt>(), columns::<MemberRow>()));
        (query.window.fetch_limit(), page)
    });
    let pages = load_union_large(conn, queries.len(), union_all_large(parts)).await?;
    Ok(pages.into_iter().map(into_members).collect())
}

/// Returns all current members of a chat.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn active_members(conn: &mut Conn, chat: ChatId) -> Result<Vec<Member>> {
    let rows: Vec<MemberRow> = members::table
        .filter(of_chat((members::bucket, members::chat_id), chat))
        .filter(members::left_at.is_null())
        .select(columns::<MemberRow>())
        .load(conn)
        .await?;
    Ok(into_members(rows))
}

/// Returns the number of current members of a chat who have a role.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn count_role(conn: &mut Conn, chat: ChatId, role: Role) -> Result<i64> {
    let count = members::table
        .filter(of_chat((members::bucket, members::chat_id), chat))
        .filter(members::left_at.is_null())
        .filter(members::role.eq(<&str>::from(role)))
        .count()
        .get_result(conn)
        .await?;
    Ok(count)
}

/// Returns the chats that a user is a member of.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn chats_by_user(conn: &mut Conn, organization: &OrganizationId, user: &UserId) -> Result<Vec<UserChat>> {
    let rows: Vec<(UuidValue, i64, i64)> = members::table
        .inner_join(chats::table.on(chats::bucket.eq(members::bucket).and(chats::id.eq(members::chat_id))))
        .filter(members::bucket.eq(organization.bucket().number()))
        .filter(members::organization_id.eq(organization.as_str()))
        .filter(members::user_id.eq(user.as_str()))
        .filter(members::left_at.is_null())
        .select((members::chat_id, chats::version, members::history_after_seq))
        .load(conn)
        .await?;
    let user_chat = |(chat, version, history_after_seq): (UuidValue, i64, i64)| UserChat {
        chat: ChatId(chat.0),
        version,
        history_after_seq,
    };
    Ok(rows.into_iter().map(user_chat).collect())
}

/// Returns up to `limit` of a user's chats that changed since a time, with their last change.
///
/// A change of the user's own membership, read markers or preferences counts too.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn chats_changed_since(
    conn: &mut Conn,
    organization: &OrganizationId,
    user: &UserId,
    since: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<(ChatId, DateTime<Utc>)>> {
    type ChangeTimes = (UuidValue, TimestampValue, TimestampValue, Option<TimestampValue>);
    let since = TimestampValue(since);
    let own_state_changed = members::moved_at.is_not_null().and(members::moved_at.assume_not_null().ge(since));
    let rows: Vec<ChangeTimes> = members::table
        .inner_join(chats::table.on(chats::bucket.eq(members::bucket).and(chats::id.eq(members::chat_id))))
        .filter(members::bucket.eq(organization.bucket().number()))
        .filter(members::organization_id.eq(organization.as_str()))
        .filter(members::user_id.eq(user.as_str()))
        .filter(members::left_at.is_null())
        .filter(chats::changed_at.ge(since).or(members::joined_at.ge(since)).or(own_state_changed))
        .limit(limit)
        .select((members::chat_id, chats::changed_at, members::joined_at, members::moved_at))
        .load(conn)
        .await?;
    let last_change = |(chat, chat_changed, joined, own_changed): ChangeTimes| {
        let own_changed = own_changed.map_or(joined.0, |at| at.0);
        (ChatId(chat.0), chat_changed.0.max(joined.0).max(own_changed))
    };
    Ok(rows.into_iter().map(last_change).collect())
}

/// Returns up to `limit` chats that a user left or was removed from since a time, with that time.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn ended_since(
    conn: &mut Conn,
    organization: &OrganizationId,
    user: &UserId,
    since: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<(ChatId, DateTime<Utc>)>> {
    let left_at = members::left_at.assume_not_null();
    let rows: Vec<(UuidValue, TimestampValue)> = members::table
        .filter(members::bucket.eq(organization.bucket().number()))
        .filter(members::organization_id.eq(organization.as_str()))
        .filter(members::user_id.eq(user.as_str()))
        .filter(left_at.ge(TimestampValue(since)))
        .limit(limit)
        .select((members::chat_id, left_at))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(|(chat, at)| (ChatId(chat.0), at.0)).collect())
}

/// Returns up to `limit` members who changed after a version of the chat's log, in the log's order.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn changed_since(conn: &mut Conn, chat: ChatId, after: i64, limit: i64) -> Result<Vec<Member>> {
    let rows: Vec<MemberRow> = members::table
        .filter(of_chat((members::bucket, members::chat_id), chat))
        .filter(members::version.gt(after))
        .order(members::version)
        .limit(limit)
        .select(columns::<MemberRow>())
        .load(conn)
        .await?;
    Ok(into_members(rows))
}

/// Returns the current members whose state changed since a time in a way that other members may see.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn visible_changes_since(conn: &mut Conn, chat: ChatId, since: DateTime<Utc>) -> Result<Vec<Member>> {
    let rows: Vec<MemberRow> = members::table
        .filter(of_chat((members::bucket, members::chat_id), chat))
        .filter(members::left_at.is_null())
        .filter(members::shown_at.assume_not_null().ge(TimestampValue(since)))
        .select(columns::<MemberRow>())
        .load(conn)
        .await?;
    Ok(into_members(rows))
}

/// Returns the current members of chats whose rows changed without a version since a time.
///
/// The flag of a member tells whether others may see the change.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn unversioned_changes_since(
    conn: &mut Conn,
    chats: &[ChatId],
    since: DateTime<Utc>,
) -> Result<Vec<(MemberId, bool)>> {
    let rows: Vec<(UuidValue, TextValue<UserId>, Option<TimestampValue>)> = members::table
        .filter(keys_in((members::bucket, members::chat_id), chats.iter().map(|chat| chat_key(*chat))))
        .filter(members::left_at.is_null())
        .filter(members::moved_at.assume_not_null().ge(TimestampValue(since)))
        .select((members::chat_id, members::user_id, members::shown_at))
        .load(conn)
        .await?;
    let change = |(chat, user, shown_at): (UuidValue, TextValue<UserId>, Option<TimestampValue>)| {
        let visible_to_others = shown_at.is_some_and(|shown_at| shown_at.0 >= since);
        (MemberId { chat: ChatId(chat.0), user: user.0 }, visible_to_others)
    };
    Ok(rows.into_iter().map(change).collect())
}
