//! Notifications.

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use crate::domain::ids::{CallId, ChatId, MemberId, MessageId, NotificationId, OrganizationId, UserId};
use crate::domain::notifications::{Notification, NotificationKind};
use crate::domain::pagination::PageWindow;
use crate::error::Result;
use crate::storage::column_types::{TimestampValue, UuidValue, parse_column};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::notifications;
use crate::storage::sql::fragments::{Conditions, MAX_ROWS, insert_rows, pairs_in};

type Columns = (
    notifications::id,
    notifications::organization_id,
    notifications::user_id,
    notifications::kind,
    notifications::chat_id,
    notifications::seq,
    notifications::actor_id,
    notifications::created_at,
    notifications::read_at,
    notifications::call_id,
);
const COLUMNS: Columns = (
    notifications::id,
    notifications::organization_id,
    notifications::user_id,
    notifications::kind,
    notifications::chat_id,
    notifications::seq,
    notifications::actor_id,
    notifications::created_at,
    notifications::read_at,
    notifications::call_id,
);

type Row = (
    UuidValue,
    String,
    String,
    String,
    UuidValue,
    Option<i64>,
    Option<String>,
    TimestampValue,
    Option<TimestampValue>,
    Option<UuidValue>,
);

fn notification(
    (id, organization, user, kind, chat, seq, actor, created_at, read_at, call): Row,
) -> Result<Notification> {
    Ok(Notification {
        id: NotificationId(id.0),
        organization: parse_column(&organization)?,
        user: parse_column(&user)?,
        kind: parse_column(&kind)?,
        chat: ChatId(chat.0),
        seq,
        call: call.map(|call| CallId { chat: ChatId(chat.0), call: call.0 }),
        actor: actor.as_deref().map(parse_column).transpose()?,
        created_at: created_at.0,
        read_at: read_at.map(|at| at.0),
    })
}

pub async fn insert(conn: &mut Conn, new: &[Notification]) -> Result<()> {
    for some in new.chunks(MAX_ROWS) {
        let rows = some.iter().map(|notification| {
            (
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
        insert_rows(notifications::table, rows).execute(conn).await?;
    }
    Ok(())
}

/// Takes back what a reaction told, where it isn't read yet.
pub async fn withdraw(conn: &mut Conn, message: MessageId, kind: NotificationKind, actor: &UserId) -> Result<()> {
    let told = notifications::chat_id
        .eq(UuidValue(message.chat.0))
        .and(notifications::seq.eq(message.seq))
        .and(notifications::kind.eq(<&str>::from(kind)))
        .and(notifications::actor_id.eq(actor.as_str()))
        .and(notifications::read_at.is_null());
    diesel::delete(notifications::table.filter(told)).execute(conn).await?;
    Ok(())
}

/// Whether somebody was told of a person's reaction to a message.
pub async fn exists(conn: &mut Conn, message: MessageId, kind: NotificationKind, actor: &UserId) -> Result<bool> {
    let told: i64 = notifications::table
        .filter(notifications::chat_id.eq(UuidValue(message.chat.0)))
        .filter(notifications::seq.eq(message.seq))
        .filter(notifications::kind.eq(<&str>::from(kind)))
        .filter(notifications::actor_id.eq(actor.as_str()))
        .count()
        .get_result(conn)
        .await?;
    Ok(told > 0)
}

/// Marks as read what is about messages that a member has read, up to a place; and that they came in.
/// How many that were, here and below, is given back: [`read_at`] has them.
pub async fn mark_read_up_to(conn: &mut Conn, member: &MemberId, seq: i64, now: DateTime<Utc>) -> Result<usize> {
    let about = notifications::chat_id
        .eq(UuidValue(member.chat.0))
        .and(notifications::user_id.eq(member.user.as_str()))
        .and(notifications::read_at.is_null())
        .and(notifications::seq.is_null().or(notifications::seq.le(seq)));
    let read = diesel::update(notifications::table.filter(about.assume_not_null()))
        .set(notifications::read_at.eq(TimestampValue(now)))
        .execute(conn)
        .await?;
    Ok(read)
}

/// Marks as read all that is about chats in which these people posted: who sends has read up to there.
pub async fn mark_read_by_post(conn: &mut Conn, posted: &[MemberId], now: DateTime<Utc>) -> Result<usize> {
    let members = posted.iter().map(|member| (UuidValue(member.chat.0), member.user.as_str()));
    let about = Conditions::new()
        .and(pairs_in((notifications::chat_id, notifications::user_id), members))
        .and(notifications::read_at.is_null());
    let read = diesel::update(notifications::table.filter(about)).set(notifications::read_at.eq(TimestampValue(now)));
    Ok(read.execute(conn).await?)
}

/// Marks as read whatever is about a message that is deleted, and gives that.
pub async fn mark_read_by_message(
    conn: &mut Conn,
    message: MessageId,
    now: DateTime<Utc>,
) -> Result<Vec<Notification>> {
    let about = notifications::chat_id.eq(UuidValue(message.chat.0)).and(notifications::seq.eq(message.seq));
    let unread = about.and(notifications::read_at.is_null());
    let read = diesel::update(notifications::table.filter(unread.assume_not_null()))
        .set(notifications::read_at.eq(TimestampValue(now)))
        .execute(conn)
        .await?;
    if read == 0 {
        return Ok(Vec::new());
    }
    let rows: Vec<Row> = notifications::table
        .filter(about.assume_not_null())
        .filter(notifications::read_at.assume_not_null().eq(TimestampValue(now)))
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(notification).collect()
}

/// Marks a person's own as read: these, or all.
pub async fn mark_read(
    conn: &mut Conn,
    organization: &OrganizationId,
    user: &UserId,
    ids: Option<&[NotificationId]>,
    now: DateTime<Utc>,
) -> Result<usize> {
    let own = Conditions::new()
        .and(notifications::organization_id.eq(organization.as_str()))
        .and(notifications::user_id.eq(user.as_str()))
        .and(notifications::read_at.is_null())
        .and_option(ids.map(|ids| notifications::id.eq_any(ids.iter().map(|id| UuidValue(id.0)).collect::<Vec<_>>())));
    let read = diesel::update(notifications::table.filter(own)).set(notifications::read_at.eq(TimestampValue(now)));
    Ok(read.execute(conn).await?)
}

/// What these people read at just this moment.
pub async fn by_read_at(
    conn: &mut Conn,
    people: &[(OrganizationId, UserId)],
    at: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Notification>> {
    let people = people.iter().map(|(organization, user)| (organization.as_str(), user.as_str()));
    let rows: Vec<Row> = notifications::table
        .filter(pairs_in((notifications::organization_id, notifications::user_id), people))
        .filter(notifications::read_at.assume_not_null().eq(TimestampValue(at)))
        .limit(limit)
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(notification).collect()
}

/// A person's own that were made or read since a moment.
pub async fn changed_since(
    conn: &mut Conn,
    organization: &OrganizationId,
    user: &UserId,
    since: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Notification>> {
    let of_person =
        notifications::organization_id.eq(organization.as_str()).and(notifications::user_id.eq(user.as_str()));
    let made: Vec<Row> = notifications::table
        .filter(of_person)
        .filter(notifications::created_at.ge(TimestampValue(since)))
        .limit(limit)
        .select(COLUMNS)
        .load(conn)
        .await?;
    let read: Vec<Row> = notifications::table
        .filter(of_person)
        .filter(notifications::created_at.lt(TimestampValue(since)))
        .filter(notifications::read_at.assume_not_null().ge(TimestampValue(since)))
        .limit(limit)
        .select(COLUMNS)
        .load(conn)
        .await?;
    made.into_iter().chain(read).map(notification).collect()
}

pub async fn by_ids(
    conn: &mut Conn,
    organization: &OrganizationId,
    user: &UserId,
    ids: &[NotificationId],
) -> Result<Vec<Notification>> {
    let rows: Vec<Row> = notifications::table
        .filter(notifications::organization_id.eq(organization.as_str()))
        .filter(notifications::user_id.eq(user.as_str()))
        .filter(notifications::id.eq_any(ids.iter().map(|id| UuidValue(id.0))))
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(notification).collect()
}

/// A person's notifications, newest first, one more than asked for.
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
    let rows: Vec<Row> = notifications::table
        .filter(notifications::organization_id.eq(organization.as_str()))
        .filter(notifications::user_id.eq(user.as_str()))
        .filter(conditions)
        .order(notifications::id.desc())
        .limit(window.fetch_limit())
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(notification).collect()
}

/// A person's unread notifications, counted up to `limit`.
pub async fn count_unread(conn: &mut Conn, organization: &OrganizationId, user: &UserId, limit: i64) -> Result<i64> {
    let ids: Vec<UuidValue> = notifications::table
        .filter(notifications::organization_id.eq(organization.as_str()))
        .filter(notifications::user_id.eq(user.as_str()))
        .filter(notifications::read_at.is_null())
        .limit(limit)
        .select(notifications::id)
        .load(conn)
        .await?;
    Ok(ids.len() as i64)
}
