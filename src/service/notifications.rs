//! The viewer's notifications.

use std::collections::HashMap;

use crate::domain::chat_events::NotificationBatch;
use crate::domain::ids::NotificationId;
use crate::domain::notifications::Notification;
use crate::domain::pagination::{MAX_PAGE_SIZE, Page, PageArgs, PageEnd, RootList};
use crate::domain::rights::require_permission;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::service::context::AppContext;
use crate::service::unread::{UnreadTotals, unread_totals};
use crate::storage::notifications;

/// Returns a page of the viewer's notifications, the newest first.
///
/// # Errors
///
/// Returns [`Error::Forbidden`] if the viewer's token lacks the permission `chat.view`, and [`Error::BadUserInput`] if
/// an argument of the page is not valid.
pub async fn page(app: &AppContext, viewer: &Viewer, unread_only: bool, args: &PageArgs) -> Result<Page<Notification>> {
    require_permission(&viewer.permissions, Permission::ChatView)?;
    let window = args.window::<RootList, uuid::Uuid>(&RootList::Notifications, PageEnd::First)?;
    let mut conn = app.database.read().await?;
    let (organization, user) = (viewer.organization(), viewer.id());
    let fetched = notifications::page(&mut conn, organization, user, unread_only, &window).await?;
    Ok(window.to_page(fetched))
}

/// Returns the viewer's notifications with the given ids, by id.
///
/// Without the permission `chat.view`, it returns none.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn by_ids(
    app: &AppContext,
    viewer: &Viewer,
    ids: &[NotificationId],
) -> Result<HashMap<NotificationId, Notification>> {
    if !viewer.permissions.contains(&Permission::ChatView) {
        return Ok(HashMap::new());
    }
    let mut conn = app.database.read().await?;
    let found = notifications::by_ids(&mut conn, viewer.organization(), viewer.id(), ids).await?;
    Ok(found.into_iter().map(|notification| (notification.id, notification)).collect())
}

/// Marks the viewer's notifications with the given ids, or all of them, as read.
///
/// Returns the unread totals after that. Notifications that were read before keep the time of their first reading.
///
/// # Errors
///
/// Returns [`Error::Forbidden`] if the viewer's token lacks the permission `chat.view`, [`Error::BadUserInput`] if
/// there are too many ids, and [`Error::NotFound`] if an id is not that of a notification of the viewer.
pub async fn mark_read(app: &AppContext, viewer: &Viewer, ids: Option<Vec<NotificationId>>) -> Result<UnreadTotals> {
    require_permission(&viewer.permissions, Permission::ChatView)?;
    if ids.as_ref().is_some_and(|ids| ids.len() > MAX_PAGE_SIZE) {
        return Err(Error::bad_input("ids", format!("must have at most {MAX_PAGE_SIZE} ids")));
    }
    app.rate_limits.check_write(viewer)?;
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
            let count = notifications::mark_read(conn, organization, user, ids.as_deref(), now).await?;
            notifications::newly_read(conn, &[(organization.clone(), user.clone())], now, count).await
        })
        .await?;
    drop(conn);
    if let Some(chat) = read.first().map(|notification| notification.chat) {
        let batch = NotificationBatch::new(vec![viewer.id().clone()], &read);
        app.publish_notifications(viewer.organization(), chat, batch);
    }
    unread_totals(app, viewer).await
}
