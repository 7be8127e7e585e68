//! Memberships, read positions and what they leave unread.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use crate::domain::ids::{ChatId, MemberId, OrganizationId, UserId};
use crate::domain::member_queries::{MembersQuery, ReadersQuery, ReceiptPosition};
use crate::domain::members::{Member, MemberPreferences, ReadMarkers, Role, UnreadCounts};
use crate::error::Result;
use crate::storage::column_types::{TimestampValue, UuidValue, parse_column, parse_user_ids};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::members;
use crate::storage::sql::fragments::{
    Conditions, MAX_ROWS, insert_rows, load_union, pairs_in, union_all, update_last_posts,
};

type Place = (
    members::chat_id,
    members::user_id,
    members::role,
    members::joined_at,
    members::added_by,
    members::left_at,
    members::version,
    members::silenced_until,
    members::last_posted_at,
    members::moved_at,
    members::shown_at,
);
type Reading = (members::last_read_seq, members::last_read_at, members::read_privately, members::last_delivered_seq);
type Own = (members::muted_until, members::notification_level, members::pinned, members::marked_unread, members::draft);
const COLUMNS: (Place, Reading, Own) = (
    (
        members::chat_id,
        members::user_id,
        members::role,
        members::joined_at,
        members::added_by,
        members::left_at,
        members::version,
        members::silenced_until,
        members::last_posted_at,
        members::moved_at,
        members::shown_at,
    ),
    (members::last_read_seq, members::last_read_at, members::read_privately, members::last_delivered_seq),
    (members::muted_until, members::notification_level, members::pinned, members::marked_unread, members::draft),
);

type Row = (
    (
        UuidValue,
        String,
        String,
        TimestampValue,
        Option<String>,
        Option<TimestampValue>,
        i64,
        Option<TimestampValue>,
        Option<TimestampValue>,
        Option<TimestampValue>,
        Option<TimestampValue>,
    ),
    (i64, Option<TimestampValue>, bool, i64),
    (Option<TimestampValue>, String, bool, bool, Option<String>),
);

fn member((place, reading, own): Row) -> Result<Member> {
    let (chat, user, role, joined_at, added_by, left_at, version, silenced_until, last_posted_at, moved_at, shown_at) =
        place;
    let (seq, read_at, privately, delivered_seq) = reading;
    let (muted_until, level, pinned, marked_unread, draft) = own;
    let moment = |time: Option<TimestampValue>| time.map(|at| at.0);
    Ok(Member {
        chat: ChatId(chat.0),
        user: parse_column(&user)?,
        role: parse_column(&role)?,
        joined_at: joined_at.0,
        added_by: added_by.as_deref().map(parse_column).transpose()?,
        left_at: moment(left_at),
        version,
        silenced_until: moment(silenced_until),
        last_posted_at: moment(last_posted_at),
        read_markers: ReadMarkers {
            last_read_seq: seq,
            last_read_at: moment(read_at),
            is_private: privately,
            last_delivered_seq: delivered_seq,
        },
        preferences: MemberPreferences {
            muted_until: moment(muted_until),
            notification_level: parse_column(&level)?,
            pinned,
            marked_unread,
            draft,
        },
        private_state_updated_at: moment(moved_at),
        visible_state_updated_at: moment(shown_at),
    })
}

/// How many messages the member of a `members` row has not read, counted up to
/// [`UNREAD_CAP`](crate::domain::members::UNREAD_CAP). Computed, never stored: it can't drift.
pub fn unread_count() -> SqlLiteral<BigInt> {
    sql("(SELECT count(*) FROM (SELECT 1 FROM messages AS unread WHERE unread.chat_id = members.chat_id \
         AND unread.in_timeline AND unread.seq > members.last_read_seq AND unread.sender_id <> members.user_id \
         AND unread.deleted_at IS NULL LIMIT 1000) AS capped)")
}

/// How many of them mention the member, by name or with everyone.
fn mention_count() -> SqlLiteral<BigInt> {
    sql("(SELECT count(*) FROM (SELECT unread.seq FROM mentions JOIN messages AS unread \
         ON unread.chat_id = mentions.chat_id AND unread.seq = mentions.seq WHERE mentions.chat_id = members.chat_id \
         AND mentions.user_id = members.user_id AND mentions.seq > members.last_read_seq AND unread.in_timeline \
         AND unread.sender_id <> members.user_id AND unread.deleted_at IS NULL \
         UNION SELECT unread.seq FROM messages AS unread WHERE unread.chat_id = members.chat_id \
         AND unread.mentions_everyone AND unread.in_timeline AND unread.seq > members.last_read_seq \
         AND unread.sender_id <> members.user_id AND unread.deleted_at IS NULL LIMIT 1000) AS capped)")
}

/// Adds people who never were in the chat.
pub async fn insert(conn: &mut Conn, organization: &OrganizationId, new: &[Member]) -> Result<()> {
    let rows = new.iter().map(|member| {
        (
            members::chat_id.eq(UuidValue(member.chat.0)),
            members::user_id.eq(member.user.as_str()),
            members::organization_id.eq(organization.as_str()),
            members::role.eq(<&str>::from(member.role)),
            members::joined_at.eq(TimestampValue(member.joined_at)),
            members::added_by.eq(member.added_by.as_ref().map(UserId::as_str)),
            members::version.eq(member.version),
            members::last_read_seq.eq(member.read_markers.last_read_seq),
        )
    });
    insert_rows(members::table, rows).execute(conn).await?;
    Ok(())
}

/// Writes a member's row back.
pub async fn update(conn: &mut Conn, member: &Member) -> Result<()> {
    let (read, own) = (&member.read_markers, &member.preferences);
    diesel::update(members::table.find((UuidValue(member.chat.0), member.user.as_str())))
        .set((
            (
                members::role.eq(<&str>::from(member.role)),
                members::joined_at.eq(TimestampValue(member.joined_at)),
                members::added_by.eq(member.added_by.as_ref().map(UserId::as_str)),
                members::left_at.eq(member.left_at.map(TimestampValue)),
                members::version.eq(member.version),
                members::silenced_until.eq(member.silenced_until.map(TimestampValue)),
                members::moved_at.eq(member.private_state_updated_at.map(TimestampValue)),
                members::shown_at.eq(member.visible_state_updated_at.map(TimestampValue)),
            ),
            (
                members::last_read_seq.eq(read.last_read_seq),
                members::last_read_at.eq(read.last_read_at.map(TimestampValue)),
                members::read_privately.eq(read.is_private),
                members::last_delivered_seq.eq(read.last_delivered_seq),
            ),
            (
                members::muted_until.eq(own.muted_until.map(TimestampValue)),
                members::notification_level.eq(<&str>::from(own.notification_level)),
                members::pinned.eq(own.pinned),
                members::marked_unread.eq(own.marked_unread),
                members::draft.eq(&own.draft),
            ),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Writes back where those stand who posted: what they read, and when they did.
pub async fn record_posts(conn: &mut Conn, posters: &[&Member]) -> Result<()> {
    let rows = posters.iter().filter_map(|member| {
        let read_at = member.read_markers.last_read_at.map(TimestampValue);
        let posted_at = TimestampValue(member.last_posted_at?);
        let user = member.user.to_string();
        Some((
            UuidValue(member.chat.0),
            user,
            member.read_markers.last_read_seq,
            read_at,
            member.preferences.marked_unread,
            posted_at,
        ))
    });
    update_last_posts(rows).execute(conn).await?;
    Ok(())
}

/// Members by their keys, those who left too.
pub async fn by_ids(conn: &mut Conn, ids: &[MemberId]) -> Result<Vec<Member>> {
    let mut found = Vec::with_capacity(ids.len());
    for some in ids.chunks(MAX_ROWS) {
        let keys = pairs_in(
            (members::chat_id, members::user_id),
            some.iter().map(|id| (UuidValue(id.chat.0), id.user.as_str())),
        );
        let rows: Vec<Row> = members::table.filter(keys).select(COLUMNS).load(conn).await?;
        found.extend(rows.into_iter().map(member).collect::<Result<Vec<_>>>()?);
    }
    Ok(found)
}

/// The one who takes over a chat that its owner leaves: the highest role, then the longest there.
pub async fn next_owner(conn: &mut Conn, chat: ChatId, leaving: &UserId) -> Result<Option<Member>> {
    let rank = |role: Role| members::role.eq(<&str>::from(role));
    let rows: Vec<Row> = members::table
        .filter(members::chat_id.eq(UuidValue(chat.0)))
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

/// Members by user id, one more than asked for, of many chats in one statement.
pub async fn pages(conn: &mut Conn, queries: &[MembersQuery]) -> Result<Vec<Vec<Member>>> {
    let parts = queries.iter().zip(0_i64..).map(|(query, number)| {
        let roles = query.roles.as_ref().map(|roles| roles.iter().map(<&str>::from).collect::<Vec<_>>());
        let conditions = Conditions::new()
            .and_option(roles.map(|roles| members::role.eq_any(roles)))
            .and_option(query.window.after.clone().map(|after| members::user_id.gt(after)));
        members::table
            .filter(members::chat_id.eq(UuidValue(query.chat.0)))
            .filter(members::left_at.is_null())
            .filter(conditions)
            .order(members::user_id)
            .limit(query.window.fetch_limit())
            .select((number.into_sql::<BigInt>(), COLUMNS))
    });
    let pages = load_union(conn, queries.len(), union_all(parts)).await?;
    pages.into_iter().map(|rows| rows.into_iter().map(member).collect()).collect()
}

/// Everyone who is in.
pub async fn active_members(conn: &mut Conn, chat: ChatId) -> Result<Vec<Member>> {
    let rows: Vec<Row> = members::table
        .filter(members::chat_id.eq(UuidValue(chat.0)))
        .filter(members::left_at.is_null())
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(member).collect()
}

/// The number of those who are in, in a role.
pub async fn count_role(conn: &mut Conn, chat: ChatId, role: Role) -> Result<i64> {
    let count = members::table
        .filter(members::chat_id.eq(UuidValue(chat.0)))
        .filter(members::left_at.is_null())
        .filter(members::role.eq(<&str>::from(role)))
        .count()
        .get_result(conn)
        .await?;
    Ok(count)
}

/// Unread messages of these members, exact below the cap.
pub async fn unread_counts(conn: &mut Conn, ids: &[MemberId]) -> Result<Vec<(MemberId, UnreadCounts)>> {
    let keys = ids.iter().map(|id| (UuidValue(id.chat.0), id.user.as_str()));
    let rows: Vec<(UuidValue, String, i64, i64)> = members::table
        .filter(pairs_in((members::chat_id, members::user_id), keys))
        .select((members::chat_id, members::user_id, unread_count(), mention_count()))
        .load(conn)
        .await?;
    rows.into_iter()
        .map(|(chat, user, messages, mentions)| {
            Ok((MemberId { chat: ChatId(chat.0), user: parse_column(&user)? }, UnreadCounts { messages, mentions }))
        })
        .collect()
}

/// What is unread in each of a person's chats that are neither muted nor archived, where anything is
/// or was marked so.
pub async fn unread_counts_by_chat(
    conn: &mut Conn,
    organization: &OrganizationId,
    user: &UserId,
    now: DateTime<Utc>,
) -> Result<Vec<UnreadCounts>> {
    use crate::storage::schema::chats;
    let counts: Vec<(i64, i64)> = members::table
        .inner_join(chats::table.on(chats::id.eq(members::chat_id)))
        .filter(members::organization_id.eq(organization.as_str()))
        .filter(members::user_id.eq(user.as_str()))
        .filter(members::left_at.is_null())
        .filter(chats::archived_at.is_null())
        .filter(members::muted_until.is_null().or(members::muted_until.assume_not_null().le(TimestampValue(now))))
        .filter(members::marked_unread.or(unread_count().gt(0)))
        .select((unread_count(), mention_count()))
        .load(conn)
        .await?;
    Ok(counts.into_iter().map(|(messages, mentions)| UnreadCounts { messages, mentions }).collect())
}

/// The chats that a person is in, for a subscriber to all of them, and where each stands.
pub async fn chat_versions_by_user(
    conn: &mut Conn,
    organization: &OrganizationId,
    user: &UserId,
) -> Result<Vec<(ChatId, i64)>> {
    use crate::storage::schema::chats;
    let rows: Vec<(UuidValue, i64)> = members::table
        .inner_join(chats::table.on(chats::id.eq(members::chat_id)))
        .filter(members::organization_id.eq(organization.as_str()))
        .filter(members::user_id.eq(user.as_str()))
        .filter(members::left_at.is_null())
        .select((members::chat_id, chats::version))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(|(chat, version)| (ChatId(chat.0), version)).collect())
}

/// The chats that a person is in and that changed since a moment, or in which something of theirs moved:
/// each with when it last did.
pub async fn chats_changed_since(
    conn: &mut Conn,
    organization: &OrganizationId,
    user: &UserId,
    since: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<(ChatId, DateTime<Utc>)>> {
    use crate::storage::schema::chats;
    let since = TimestampValue(since);
    let moved = members::moved_at.is_not_null().and(members::moved_at.assume_not_null().ge(since));
    let rows: Vec<(UuidValue, TimestampValue, TimestampValue, Option<TimestampValue>)> = members::table
        .inner_join(chats::table.on(chats::id.eq(members::chat_id)))
        .filter(members::organization_id.eq(organization.as_str()))
        .filter(members::user_id.eq(user.as_str()))
        .filter(members::left_at.is_null())
        .filter(chats::changed_at.ge(since).or(members::joined_at.ge(since)).or(moved))
        .limit(limit)
        .select((members::chat_id, chats::changed_at, members::joined_at, members::moved_at))
        .load(conn)
        .await?;
    let last = |(chat, changed, joined, moved): (UuidValue, TimestampValue, TimestampValue, Option<TimestampValue>)| {
        let moved = moved.map_or(joined.0, |moved| moved.0);
        (ChatId(chat.0), changed.0.max(joined.0).max(moved))
    };
    Ok(rows.into_iter().map(last).collect())
}

/// The chats that a person left, or was taken out of, since a moment.
pub async fn ended_since(
    conn: &mut Conn,
    organization: &OrganizationId,
    user: &UserId,
    since: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<(ChatId, DateTime<Utc>)>> {
    let left_at = members::left_at.assume_not_null();
    let rows: Vec<(UuidValue, TimestampValue)> = members::table
        .filter(members::organization_id.eq(organization.as_str()))
        .filter(members::user_id.eq(user.as_str()))
        .filter(left_at.ge(TimestampValue(since)))
        .limit(limit)
        .select((members::chat_id, left_at))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(|(chat, at)| (ChatId(chat.0), at.0)).collect())
}

/// The members whose row took a version within a range of the chat's log, in its order.
pub async fn changed_since(conn: &mut Conn, chat: ChatId, after: i64, limit: i64) -> Result<Vec<Member>> {
    let rows: Vec<Row> = members::table
        .filter(members::chat_id.eq(UuidValue(chat.0)))
        .filter(members::version.gt(after))
        .order(members::version)
        .limit(limit)
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(member).collect()
}

/// Those who are in and of whose read positions others may see that they moved since a moment.
pub async fn visible_changes_since(conn: &mut Conn, chat: ChatId, since: DateTime<Utc>) -> Result<Vec<Member>> {
    let rows: Vec<Row> = members::table
        .filter(members::chat_id.eq(UuidValue(chat.0)))
        .filter(members::left_at.is_null())
        .filter(members::shown_at.assume_not_null().ge(TimestampValue(since)))
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(member).collect()
}

/// People who have read messages, by user id, one more than asked for, for many in one statement.
pub async fn readers(conn: &mut Conn, queries: &[ReadersQuery]) -> Result<Vec<Vec<UserId>>> {
    let parts = queries.iter().zip(0_i64..).map(|(query, number)| {
        let conditions = Conditions::new()
            .and_option(query.window.after.clone().map(|after| members::user_id.gt(after)))
            .and_option(query.sender.as_ref().map(|sender| members::user_id.ne(sender.as_str())));
        members::table
            .filter(members::chat_id.eq(UuidValue(query.message.chat.0)))
            .filter(members::left_at.is_null())
            .filter(diesel::dsl::not(members::read_privately))
            .filter(members::last_read_seq.ge(query.message.seq))
            // A new member begins at the newest message, and has read nothing before it.
            .filter(members::joined_at.le(TimestampValue(query.sent_at)))
            .filter(conditions)
            .order(members::user_id)
            .limit(query.window.fetch_limit())
            .select((number.into_sql::<BigInt>(), members::user_id))
    });
    parse_user_ids(load_union(conn, queries.len(), union_all(parts)).await?)
}

/// The positions of those who are in these chats.
pub async fn receipt_positions(conn: &mut Conn, chats: &[ChatId]) -> Result<HashMap<ChatId, Vec<ReceiptPosition>>> {
    type Found = (UuidValue, String, TimestampValue, i64, bool, i64);
    let rows: Vec<Found> = members::table
        .filter(members::chat_id.eq_any(chats.iter().map(|chat| UuidValue(chat.0))))
        .filter(members::left_at.is_null())
        .select((
            members::chat_id,
            members::user_id,
            members::joined_at,
            members::last_read_seq,
            members::read_privately,
            members::last_delivered_seq,
        ))
        .load(conn)
        .await?;
    let mut positions: HashMap<ChatId, Vec<ReceiptPosition>> = HashMap::new();
    for (chat, user, joined_at, seq, privately, delivered) in rows {
        let read_seq = if privately { 0 } else { seq };
        let position = ReceiptPosition {
            user: parse_column(&user)?,
            joined_at: joined_at.0,
            read_seq,
            delivered_seq: delivered.max(read_seq),
        };
        positions.entry(ChatId(chat.0)).or_default().push(position);
    }
    Ok(positions)
}
