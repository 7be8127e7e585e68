//! What the viewer is told of across their chats.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::domain::chat_events::NotificationBatch;
use crate::domain::ids::{NotificationId, OrganizationId, UserId};
use crate::domain::notifications::Notification;
use crate::domain::pagination::{MAX_PAGE_SIZE, Page, PageArgs, PageEnd};
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::service::context::AppContext;
use crate::service::receipts::{UnreadTotals, unread_totals};
use crate::storage::connection::Conn;
use crate::storage::notifications;

/// The viewer's own notifications, newest first.
pub async fn page(app: &AppContext, viewer: &Viewer, unread_only: bool, args: &PageArgs) -> Result<Page<Notification>> {
    let window = args.window::<uuid::Uuid>(PageEnd::First)?;
    let mut conn = app.database.read().await?;
    let (organization, user) = (viewer.organization(), viewer.id());
    let fetched = notifications::page(&mut conn, organization, user, unread_only, &window).await?;
    Ok(window.to_page(fetched))
}

/// Those among these that are the viewer's.
pub async fn by_ids(
    app: &AppContext,
    viewer: &Viewer,
    ids: &[NotificationId],
) -> Result<HashMap<NotificationId, Notification>> {
    let mut conn = app.database.read().await?;
    let found = notifications::by_ids(&mut conn, viewer.organization(), viewer.id(), ids).await?;
    Ok(found.into_iter().map(|notification| (notification.id, notification)).collect())
}

/// Marks the viewer's own as read: these, or all. Those read before stay as they were.
pub async fn mark_read(app: &AppContext, viewer: &Viewer, ids: Option<Vec<NotificationId>>) -> Result<UnreadTotals> {
    if ids.as_ref().is_some_and(|ids| ids.len() > MAX_PAGE_SIZE) {
        return Err(Error::bad_input("ids", format!("must be at most {MAX_PAGE_SIZE}")));
    }
    let mut conn = app.database.write().await?;
    let now = app.clock.now();
    let read = conn
        .transaction(async move |conn| {
            let (organization, user) = (viewer.organization(), viewer.id());
            if let Some(ids) = &ids {
                let found = notifications::by_ids(conn, organization, user, ids).await?;
                if ids.iter().any(|id| !found.iter().any(|notification| notification.id == *id)) {
                    return Err(Error::NotFound("notification"));
                }
            }
            let number = notifications::mark_read(conn, organization, user, ids.as_deref(), now).await?;
            newly_read(conn, &[(organization.clone(), user.clone())], now, number).await
        })
        .await?;
    drop(conn);
    if let Some(chat) = read.first().map(|notification| notification.chat) {
        app.notify(viewer.organization(), chat, NotificationBatch::new(vec![viewer.id().clone()], read));
    }
    unread_totals(app, viewer).await
}

/// The notifications of these people, so many, that this transaction marked as read at its moment: where
/// they are too many to be told one by one, as many as show it.
pub async fn newly_read(
    conn: &mut Conn,
    people: &[(OrganizationId, UserId)],
    now: DateTime<Utc>,
    number: usize,
) -> Result<Vec<Notification>> {
    match number {
        0 => Ok(Vec::new()),
        _ => notifications::by_read_at(conn, people, now, NotificationBatch::MAX_PER_EVENT as i64 + 1).await,
    }
}
