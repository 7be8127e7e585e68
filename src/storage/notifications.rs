//! Notifications.

use chrono::{DateTime, Utc};
use diesel::dsl::not;
use diesel::prelude::*;
use diesel::sql_types::Bool;

use crate::domain::buckets::group_by_bucket;
use crate::domain::chat_events::NotificationBatch;
use crate::domain::ids::{CallId, ChatId, MemberId, MessageId, NotificationId, OrganizationId, UserId};
use crate::domain::notifications::{Notification, NotificationKind};
use crate::domain::pagination::PageWindow;
use crate::error::Result;
use crate::storage::column_types::{TextValue, TimestampValue, UuidValue};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::notifications;
use crate::storage::sql::columns::columns;
use crate::storage::sql::conditions::Conditions;
use crate::storage::sql::in_bucket::InBucket;
use crate::storage::sql::in_list::in_list;
use crate::storage::sql::insert_many::insert_many;
use crate::storage::sql::keys::{OfKey, keys_in, of_chat};
use crate::storage::sql::statement_cache::MAX_ROWS;

/// The columns of a notification.
#[derive(Queryable, Selectable)]
#[diesel(table_name = notifications, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct NotificationRow {
    id: UuidValue,
    organization_id: TextValue<OrganizationId>,
    user_id: TextValue<UserId>,
    kind: TextValue<NotificationKind>,
    chat_id: UuidValue,
    seq: Option<i64>,
    actor_id: Option<TextValue<UserId>>,
    created_at: TimestampValue,
    read_at: Option<TimestampValue>,
    call_id: Option<UuidValue>,
}

impl From<NotificationRow> for Notification {
    fn from(row: NotificationRow) -> Self {
        let chat = ChatId(row.chat_id.0);
        Self {
            id: NotificationId(row.id.0),
            organization: row.organization_id.0,
            user: row.user_id.0,
            kind: row.kind.0,
            chat,
            seq: row.seq,
            call: row.call_id.map(|call| CallId { chat, call: call.0 }),
            actor: row.actor_id.map(|user| user.0),
            created_at: row.created_at.0,
            read_at: row.read_at.map(|at| at.0),
        }
    }
}

fn into_notifications(rows: Vec<NotificationRow>) -> Vec<Notification> {
    rows.into_iter().map(Notification::from).collect()
}

/// Returns the condition that a notification is about a chat, whose bucket it has too.
fn about_chat(chat: ChatId) -> OfKey<notifications::bucket, notifications::chat_id> {
    of_chat((notifications::bucket, notifications::chat_id), chat)
}

/// Inserts notifications, those of each bucket with statements of their own.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn insert(conn: &mut Conn, new: &[Notification]) -> Result<()> {
    let groups = group_by_bucket(new, |notification| notification.id.bucket());
    for chunk in groups.values().flat_map(|group| group.chunks(MAX_ROWS)) {
        let rows = chunk.iter().map(|notification| {
            (
                notifications::bucket.eq(notification.id.bucket().number()),
                notifications::id.eq(UuidValue(notification.id.0)),
                notifications::organization_id.eq(notification.organization.as_str()),
                notifications::user_id.eq(notification.user.as_str()),
                notifications::kind.eq(<&str>::from(notification.kind)),
                notifications::chat_id.eq(UuidValue(notification.chat.0)),
                notifications::seq.eq(notification.seq),
                notifications::actor_id.eq(notification.actor.as_ref().map(UserId::as_str)),
                notifications::created_at.eq(TimestampValue(notification.created_at)),
                notifications::read_at.eq(notification.read_at.map(TimestampValue)),
                notifications::call_id.eq(notification.call.map(|call| UuidValue(call.call))),
            )
        });
        insert_many(notifications::table, rows).execute(conn).await?;
    }
    Ok(())
}

/// Deletes the unread notifications of one kind that an actor caused with a message.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn withdraw(conn: &mut Conn, message: MessageId, kind: NotificationKind, actor: &UserId) -> Result<()> {
    let unread = about_chat(message.chat)
        .and(notifications::seq.eq(message.seq))
        .and(notifications::kind.eq(<&str>::from(kind)))
        .and(notifications::actor_id.eq(actor.as_str()))
        .and(notifications::read_at.is_null());
    diesel::delete(notifications::table.filter(unread)).execute(conn).await?;
    Ok(())
}

/// Deletes the unread notifications of a member about their chat.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn withdraw_from_member(conn: &mut Conn, member: &MemberId) -> Result<()> {
    let unread = about_chat(member.chat)
        .and(notifications::user_id.eq(member.user.as_str()))
        .and(notifications::read_at.is_null());
    diesel::delete(notifications::table.filter(unread)).execute(conn).await?;
    Ok(())
}

/// Returns whether a member has a notification of one kind about their chat, be it unread or read.
///
/// Notifications about messages of the chat do not count.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn exists_about_chat(conn: &mut Conn, member: &MemberId, kind: NotificationKind) -> Result<bool> {
    let number: i64 = notifications::table
        .filter(about_chat(member.chat))
        .filter(notifications::seq.is_null())
        .filter(notifications::user_id.eq(member.user.as_str()))
        .filter(notifications::kind.eq(<&str>::from(kind)))
        .count()
        .get_result(conn)
        .await?;
    Ok(number > 0)
}

/// Returns whether an actor caused a notification of one kind with a message.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn exists(conn: &mut Conn, message: MessageId, kind: NotificationKind, actor: &UserId) -> Result<bool> {
    let number: i64 = notifications::table
        .filter(about_chat(message.chat))
        .filter(notifications::seq.eq(message.seq))
        .filter(notifications::kind.eq(<&str>::from(kind)))
        .filter(notifications::actor_id.eq(actor.as_str()))
        .count()
        .get_result(conn)
        .await?;
    Ok(number > 0)
}

/// Marks a member's notifications about the timeline up to a message as read and returns their number.
///
/// Notifications about the chat but no message are marked too, and those about replies that only a thread has are not.
/// [`newly_read`] returns the marked notifications.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn mark_read_up_to(conn: &mut Conn, member: &MemberId, seq: i64, now: DateTime<Utc>) -> Result<usize> {
    let up_to_message = Conditions::new()
        .and(about_chat(member.chat))
        .and(notifications::user_id.eq(member.user.as_str()))
        .and(notifications::seq.is_null().or(notifications::seq.assume_not_null().le(seq)))
        .and(is_about_timeline(member.bucket().number()));
    mark_unread(conn, up_to_message, now).await
}

/// Marks members' notifications about the chat in which they posted as read and returns their number.
///
/// Sending a message reads the chat up to it. [`newly_read`] returns the marked notifications.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn mark_read_by_post(conn: &mut Conn, posters: &[MemberId], now: DateTime<Utc>) -> Result<usize> {
    mark_unread_of(conn, posters, is_about_timeline, now).await
}

/// Marks members' notifications about replies that they have read as read and returns their number.
///
/// [`newly_read`] returns the marked notifications.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn mark_read_in_threads(conn: &mut Conn, readers: &[MemberId], now: DateTime<Utc>) -> Result<usize> {
    mark_unread_of(conn, readers, is_read_reply, now).await
}

/// Marks the unread notifications of members about their chats as read, if they meet a condition.
///
/// It returns their number. The notifications of each bucket have a statement of their own.
async fn mark_unread_of(
    conn: &mut Conn,
    members: &[MemberId],
    condition: fn(i32) -> InBucket<Bool>,
    now: DateTime<Utc>,
) -> Result<usize> {
    let columns = (notifications::bucket, notifications::chat_id, notifications::user_id);
    let mut count = 0;
    for (bucket, members) in group_by_bucket(members, |member| member.bucket()) {
        let keys = members.iter().map(|member| (bucket.number(), UuidValue(member.chat.0), member.user.as_str()));
        let conditions = Conditions::new()
            .and(notifications::bucket.eq(bucket.number()))
            .and(keys_in(columns, keys))
            .and(condition(bucket.number()));
        count += mark_unread(conn, conditions, now).await?;
    }
    Ok(count)
}

/// Marks the unread notifications that meet conditions as read and returns their number.
async fn mark_unread(conn: &mut Conn, conditions: Conditions<'_>, now: DateTime<Utc>) -> Result<usize> {
    let unread = notifications::table.filter(conditions.and(notifications::read_at.is_null()));
    diesel::update(unread).set(notifications::read_at.eq(TimestampValue(now))).execute(conn).await
}

/// Returns the condition that a notification is about a reply that its user has read in the thread.
fn is_read_reply(bucket: i32) -> InBucket<Bool> {
    let text = "EXISTS (SELECT 1 FROM messages AS reply JOIN thread_members ON thread_members.bucket = reply.bucket \
         AND thread_members.chat_id = reply.chat_id AND thread_members.root_seq = reply.thread_root_seq \
         AND thread_members.user_id = notifications.user_id WHERE reply.bucket = :bucket \
         AND reply.chat_id = notifications.chat_id AND reply.seq = notifications.seq \
         AND reply.seq <= thread_members.last_read_seq)";
    InBucket::new(bucket, text)
}

/// Returns the condition that a notification is not about a reply that only its thread has.
fn is_about_timeline(bucket: i32) -> InBucket<Bool> {
    let text = "NOT EXISTS (SELECT 1 FROM messages AS reply WHERE reply.bucket = :bucket \
         AND reply.chat_id = notifications.chat_id AND reply.seq = notifications.seq AND NOT reply.in_timeline)";
    InBucket::new(bucket, text)
}

/// Deletes unread notifications of users whom a message mentions no more.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn withdraw_mentions(conn: &mut Conn, message: MessageId, still_mentioned: &[UserId]) -> Result<()> {
    let still_mentioned = in_list(notifications::user_id, still_mentioned.iter().map(|user| user.as_str().to_owned()));
    let unread = Conditions::new()
        .and(about_chat(message.chat))
        .and(notifications::seq.assume_not_null().eq(message.seq))
        .and(notifications::kind.eq(<&str>::from(NotificationKind::Mention)))
        .and(notifications::read_at.is_null())
        .and(not(still_mentioned));
    diesel::delete(notifications::table.filter(unread)).execute(conn).await?;
    Ok(())
}

/// Marks the unread notifications about a message as read and returns them.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn mark_read_by_message(
    conn: &mut Conn,
    message: MessageId,
    now: DateTime<Utc>,
) -> Result<Vec<Notification>> {
    let about_message = || about_chat(message.chat).and(notifications::seq.assume_not_null().eq(message.seq));
    if mark_unread(conn, Conditions::new().and(about_message()), now).await? == 0 {
        return Ok(Vec::new());
    }
    let rows: Vec<NotificationRow> = notifications::table
        .filter(about_message())
        .filter(notifications::read_at.assume_not_null().eq(TimestampValue(now)))
        .select(columns::<NotificationRow>())
        .load(conn)
        .await?;
    Ok(into_notifications(rows))
}

/// Marks some or all of a user's notifications as read and returns their number.
///
/// [`newly_read`] returns the marked notifications.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn mark_read(
    conn: &mut Conn,
    organization: &OrganizationId,
    user: &UserId,
    ids: Option<&[NotificationId]>,
    now: DateTime<Utc>,
) -> Result<usize> {
    let conditions = Conditions::new()
        .and(notifications::bucket.eq(organization.bucket().number()))
        .and(notifications::organization_id.eq(organization.as_str()))
        .and(notifications::user_id.eq(user.as_str()))
        .and_option(ids.map(|ids| notifications::id.eq_any(ids.iter().map(|id| UuidValue(id.0)).collect::<Vec<_>>())));
    mark_unread(conn, conditions, now).await
}

/// Returns the notifications of users that the current transaction marked as read at the time `now`.
///
/// `count` is the number of notifications that it marked. If they are too many for one event, the result is cut to one
/// more than fit, which shows the caller that they are too many.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn newly_read(
    conn: &mut Conn,
    users: &[(OrganizationId, UserId)],
    now: DateTime<Utc>,
    count: usize,
) -> Result<Vec<Notification>> {
    match count {
        0 => Ok(Vec::new()),
        _ => by_read_at(conn, users, now, NotificationBatch::MAX_PER_EVENT as i64 + 1).await,
    }
}

/// Returns up to `limit` notifications of users that were marked as read at exactly this time.
async fn by_read_at(
    conn: &mut Conn,
    users: &[(OrganizationId, UserId)],
    at: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Notification>> {
    let users =
        users.iter().map(|(organization, user)| (organization.bucket().number(), organization.as_str(), user.as_str()));
    let rows: Vec<NotificationRow> = notifications::table
        .filter(keys_in((notifications::bucket, notifications::organization_id, notifications::user_id), users))
        .filter(notifications::read_at.assume_not_null().eq(TimestampValue(at)))
        .limit(limit)
        .select(columns::<NotificationRow>())
        .load(conn)
        .await?;
    Ok(into_notifications(rows))
}

/// Returns a user's notifications that were created or read since a time, up to `limit` of each.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn changed_since(
    conn: &mut Conn,
    organization: &OrganizationId,
    user: &UserId,
    since: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Notification>> {
    let of_user = notifications::bucket
        .eq(organization.bucket().number())
        .and(notifications::organization_id.eq(organization.as_str()))
        .and(notifications::user_id.eq(user.as_str()));
    let created: Vec<NotificationRow> = notifications::table
        .filter(of_user)
        .filter(notifications::created_at.ge(TimestampValue(since)))
        .limit(limit)
        .select(columns::<NotificationRow>())
        .load(conn)
        .await?;
    let read: Vec<NotificationRow> = notifications::table
        .filter(of_user)
        .filter(notifications::created_at.lt(TimestampValue(since)))
        .filter(notifications::read_at.assume_not_null().ge(TimestampValue(since)))
        .limit(limit)
        .select(columns::<NotificationRow>())
        .load(conn)
        .await?;
    Ok(created.into_iter().chain(read).map(Notification::from).collect())
}

/// Returns a user's notifications with these ids.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn by_ids(
    conn: &mut Conn,
    organization: &OrganizationId,
    user: &UserId,
    ids: &[NotificationId],
) -> Result<Vec<Notification>> {
    let rows: Vec<NotificationRow> = notifications::table
        .filter(notifications::bucket.eq(organization.bucket().number()))
        .filter(notifications::organization_id.eq(organization.as_str()))
        .filter(notifications::user_id.eq(user.as_str()))
        .filter(notifications::id.eq_any(ids.iter().map(|id| UuidValue(id.0))))
        .select(columns::<NotificationRow>())
        .load(conn)
        .await?;
    Ok(into_notifications(rows))
}

/// Returns a user's notifications, newest first.
///
/// It returns one notification more than the window shows, if there are more.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn page(
    conn: &mut Conn,
    organization: &OrganizationId,
    user: &UserId,
    unread_only: bool,
    window: &PageWindow<uuid::Uuid>,
) -> Result<Vec<Notification>> {
    let conditions = Conditions::new()
        .and_option(unread_only.then(|| notifications::read_at.is_null()))
        .and_option(window.after.map(|after| notifications::id.lt(UuidValue(after))));
    let rows: Vec<NotificationRow> = notifications::table
        .filter(notifications::bucket.eq(organization.bucket().number()))
        .filter(notifications::organization_id.eq(organization.as_str()))
        .filter(notifications::user_id.eq(user.as_str()))
        .filter(conditions)
        .order(notifications::id.desc())
        .limit(window.fetch_limit())
        .select(columns::<NotificationRow>())
        .load(conn)
        .await?;
    Ok(into_notifications(rows))
}

/// Returns the number of a user's unread notifications, but at most `limit`.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn count_unread(conn: &mut Conn, organization: &OrganizationId, user: &UserId, limit: i64) -> Result<i64> {
    let ids: Vec<UuidValue> = notifications::table
        .filter(notifications::bucket.eq(organization.bucket().number()))
        .filter(notifications::organization_id.eq(organization.as_str()))
        .filter(notifications::user_id.eq(user.as_str()))
        .filter(notifications::read_at.is_null())
        .limit(limit)
        .select(notifications::id)
        .load(conn)
        .await?;
    Ok(ids.len() as i64)
}
