//! The reads of an inbox feed.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::access::MemberAccess;
use crate::domain::calls::Call;
use crate::domain::chats::Chat;
use crate::domain::ids::{CallId, ChatId, NotificationId};
use crate::domain::notifications::Notification;
use crate::error::Result;
use crate::realtime::feeds::catch_up::FeedDeps;
use crate::storage::{calls, chat_removals, members, notifications};

/// The subjects that changed for a user since a time, each with the time of its last change.
pub(super) struct ChangesSince {
    pub(super) chats: Vec<(ChatId, DateTime<Utc>)>,
    /// Chats that the user left or was removed from, and deleted chats.
    pub(super) removed_chats: Vec<(ChatId, DateTime<Utc>)>,
    pub(super) notifications: Vec<Notification>,
    pub(super) calls: Vec<(CallId, DateTime<Utc>)>,
}

impl ChangesSince {
    pub(super) fn len(&self) -> usize {
        self.chats.len() + self.removed_chats.len() + self.notifications.len() + self.calls.len()
    }
}

/// Reads what changed for the viewer since a time. Each list ends after one more than `max_changes`.
///
/// # Errors
///
/// Fails if the database does.
pub(super) async fn load_changes_since(deps: FeedDeps, since: DateTime<Utc>) -> Result<ChangesSince> {
    let FeedDeps { database, limits, viewer, .. } = deps;
    let limit = limits.max_changes as i64 + 1;
    let (_permit, mut conn) = limits.read(&database, &viewer).await?;
    conn.snapshot(async move |conn| {
        let (organization, user) = (viewer.organization(), viewer.id());
        let chats = members::chats_changed_since(conn, organization, user, since, limit).await?;
        let mut removed_chats = members::ended_since(conn, organization, user, since, limit).await?;
        removed_chats.extend(chat_removals::removed_since(conn, organization, user, since, limit).await?);
        let notifications = notifications::changed_since(conn, organization, user, since, limit).await?;
        let calls = calls::by_participant(conn, organization, user, Some(since), limit).await?;
        Ok(ChangesSince { chats, removed_chats, notifications, calls })
    })
    .await
}

/// Reads the calls that ring for the viewer, each with the time of its last change.
///
/// # Errors
///
/// Fails if the database does.
pub(super) async fn load_ringing_calls(deps: FeedDeps) -> Result<Vec<(CallId, DateTime<Utc>)>> {
    let FeedDeps { database, limits, viewer, .. } = deps;
    let limit = limits.max_changes as i64;
    let (_permit, mut conn) = limits.read(&database, &viewer).await?;
    calls::by_participant(&mut conn, viewer.organization(), viewer.id(), None, limit).await
}

/// Reads a call; returns `None` if the viewer is not a member of its chat.
///
/// # Errors
///
/// Returns the errors of [`MemberAccess::find`] and of the database.
pub(super) async fn load_call(deps: FeedDeps, id: CallId) -> Result<Option<Call>> {
    let FeedDeps { database, limits, viewer, .. } = deps;
    let (_permit, mut conn) = limits.read(&database, &viewer).await?;
    conn.snapshot(async move |conn| {
        let is_member = MemberAccess::find(conn, &viewer, &[id.chat]).await?.contains_key(&id.chat);
        if is_member { Ok(calls::by_ids(conn, &[id]).await?.pop()) } else { Ok(None) }
    })
    .await
}

/// Reads those of the given notifications that still exist.
///
/// # Errors
///
/// Fails if the database does.
pub(super) async fn load_notifications(deps: FeedDeps, ids: Vec<NotificationId>) -> Result<Vec<Notification>> {
    let FeedDeps { database, limits, viewer, .. } = deps;
    let (_permit, mut conn) = limits.read(&database, &viewer).await?;
    notifications::by_ids(&mut conn, viewer.organization(), viewer.id(), &ids).await
}

/// Reads those of the given chats in which the viewer is a member.
///
/// # Errors
///
/// Returns the errors of [`MemberAccess::find`] and of the database.
pub(super) async fn load_chats(deps: FeedDeps, ids: Vec<ChatId>) -> Result<HashMap<ChatId, Arc<Chat>>> {
    let FeedDeps { database, limits, viewer, .. } = deps;
    let (_permit, mut conn) = limits.read(&database, &viewer).await?;
    let access = conn.snapshot(async move |conn| MemberAccess::find(conn, &viewer, &ids).await).await?;
    Ok(access.into_iter().map(|(id, access)| (id, access.chat)).collect())
}
