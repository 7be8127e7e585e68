//! Notifications.

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use crate::domain::ids::{CallId, ChatId, MemberId, MessageId, NotificationId, OrganizationId, UserId};
use crate::domain::notifications::{Notification, NotificationKind};
use crate::domain::pagination::Window;
use crate::error::Result;
use crate::storage::column_types::{Key, Time, word};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::notifications;
use crate::storage::sql::fragments::{All, MOST_ROWS, insert_rows, pairs_in};

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

type Row = (Key, String, String, String, Key, Option<i64>, Option<String>, Time, Option<Time>, Option<Key>);

fn notification(
    (id, organization, user, kind, chat, seq, actor, created_at, read_at, call): Row,
) -> Result<Notification> {
    Ok(Notification {
        id: NotificationId(id.0),
        organization: word(&organization)?,
        user: word(&user)?,
        kind: word(&kind)?,
        chat: ChatId(chat.0),
        seq,
        call: call.map(|call| CallId { chat: ChatId(chat.0), call: call.0 }),
        actor: actor.as_deref().map(word).transpose()?,
        created_at: created_at.0,
        read_at: read_at.map(|at| at.0),
    })
}

pub async fn insert(conn: &mut Conn, new: &[Notification]) -> Result<()> {
    for some in new.chunks(MOST_ROWS) {
        let rows = some.iter().map(|notification| {
            (
                notifications::id.eq(Key(notification.id.0)),
                notifications::organization_id.eq(notification.organization.as_str()),
                notifications::user_id.eq(notification.user.as_str()),
                notifications::kind.eq(<&str>::from(notification.kind)),
                notifications::chat_id.eq(Key(notification.chat.0)),
                notifications::seq.eq(notification.seq),
                notifications::actor_id.eq(notification.actor.as_ref().map(UserId::as_str)),
                notifications::created_at.eq(Time(notification.created_at)),
                notifications::read_at.eq(notification.read_at.map(Time)),
                notifications::call_id.eq(notification.call.map(|call| Key(call.call))),
            )
        });
        insert_rows(notifications::table, rows).execute(conn).await?;
    }
    Ok(())
}

/// Takes back what a reaction told, where it isn't read yet.
pub async fn take_back(conn: &mut Conn, message: MessageId, kind: NotificationKind, actor: &UserId) -> Result<()> {
    let told = notifications::chat_id
        .eq(Key(message.chat.0))
        .and(notifications::seq.eq(message.seq))
        .and(notifications::kind.eq(<&str>::from(kind)))
        .and(notifications::actor_id.eq(actor.as_str()))
        .and(notifications::read_at.is_null());
    diesel::delete(notifications::table.filter(told)).execute(conn).await?;
    Ok(())
}

/// Whether somebody was told of a person's reaction to a message.
pub async fn is_told(conn: &mut Conn, message: MessageId, kind: NotificationKind, actor: &UserId) -> Result<bool> {
    let told: i64 = notifications::table
        .filter(notifications::chat_id.eq(Key(message.chat.0)))
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
pub async fn read_up_to(conn: &mut Conn, member: &MemberId, seq: i64, now: DateTime<Utc>) -> Result<usize> {
    let about = notifications::chat_id
        .eq(Key(member.chat.0))
        .and(notifications::user_id.eq(member.user.as_str()))
        .and(notifications::read_at.is_null())
        .and(notifications::seq.is_null().or(notifications::seq.le(seq)));
    let read = diesel::update(notifications::table.filter(about.assume_not_null()))
        .set(notifications::read_at.eq(Time(now)))
        .execute(conn)
        .await?;
    Ok(read)
}

/// Marks as read all that is about chats in which these people posted: who sends has read up to there.
pub async fn read_by_posting(conn: &mut Conn, posted: &[MemberId], now: DateTime<Utc>) -> Result<usize> {
    let members = posted.iter().map(|member| (Key(member.chat.0), member.user.as_str()));
    let about = All::new()
        .and(pairs_in((notifications::chat_id, notifications::user_id), members))
        .and(notifications::read_at.is_null());
    let read = diesel::update(notifications::table.filter(about)).set(notifications::read_at.eq(Time(now)));
    Ok(read.execute(conn).await?)
}

/// Marks as read whatever is about a message that is deleted, and gives that.
pub async fn read_message(conn: &mut Conn, message: MessageId, now: DateTime<Utc>) -> Result<Vec<Notification>> {
    let about = notifications::chat_id.eq(Key(message.chat.0)).and(notifications::seq.eq(message.seq));
    let unread = about.and(notifications::read_at.is_null());
    let read = diesel::update(notifications::table.filter(unread.assume_not_null()))
        .set(notifications::read_at.eq(Time(now)))
        .execute(conn)
        .await?;
    if read == 0 {
        return Ok(Vec::new());
    }
    let rows: Vec<Row> = notifications::table
        .filter(about.assume_not_null())
        .filter(notifications::read_at.assume_not_null().eq(Time(now)))
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(notification).collect()
}

/// Marks a person's own as read: these, or all.
pub async fn read(
    conn: &mut Conn,
    organization: &OrganizationId,
    user: &UserId,
    ids: Option<&[NotificationId]>,
    now: DateTime<Utc>,
) -> Result<usize> {
    let own = All::new()
        .and(notifications::organization_id.eq(organization.as_str()))
        .and(notifications::user_id.eq(user.as_str()))
        .and(notifications::read_at.is_null())
        .and_some(ids.map(|ids| notifications::id.eq_any(ids.iter().map(|id| Key(id.0)).collect::<Vec<_>>())));
    let read = diesel::update(notifications::table.filter(own)).set(notifications::read_at.eq(Time(now)));
    Ok(read.execute(conn).await?)
}

/// What these people read at just this moment.
pub async fn read_at(
    conn: &mut Conn,
    people: &[(OrganizationId, UserId)],
    at: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Notification>> {
    let people = people.iter().map(|(organization, user)| (organization.as_str(), user.as_str()));
    let rows: Vec<Row> = notifications::table
        .filter(pairs_in((notifications::organization_id, notifications::user_id), people))
        .filter(notifications::read_at.assume_not_null().eq(Time(at)))
        .limit(limit)
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(notification).collect()
}

/// A person's own that were made or read since a moment.
pub async fn since(
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
        .filter(notifications::created_at.ge(Time(since)))
        .limit(limit)
        .select(COLUMNS)
        .load(conn)
        .await?;
    let read: Vec<Row> = notifications::table
        .filter(of_person)
        .filter(notifications::created_at.lt(Time(since)))
        .filter(notifications::read_at.assume_not_null().ge(Time(since)))
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
        .filter(notifications::id.eq_any(ids.iter().map(|id| Key(id.0))))
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
    window: &Window<uuid::Uuid>,
) -> Result<Vec<Notification>> {
    let conditions = All::new()
        .and_some(unread_only.then(|| notifications::read_at.is_null()))
        .and_some(window.after.map(|after| notifications::id.lt(Key(after))));
    let rows: Vec<Row> = notifications::table
        .filter(notifications::organization_id.eq(organization.as_str()))
        .filter(notifications::user_id.eq(user.as_str()))
        .filter(conditions)
        .order(notifications::id.desc())
        .limit(window.fetch())
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(notification).collect()
}

/// A person's unread notifications, counted up to `limit`.
pub async fn count_unread(conn: &mut Conn, organization: &OrganizationId, user: &UserId, limit: i64) -> Result<i64> {
    let ids: Vec<Key> = notifications::table
        .filter(notifications::organization_id.eq(organization.as_str()))
        .filter(notifications::user_id.eq(user.as_str()))
        .filter(notifications::read_at.is_null())
        .limit(limit)
        .select(notifications::id)
        .load(conn)
        .await?;
    Ok(ids.len() as i64)
}
