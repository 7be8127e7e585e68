//! The numbers of unread messages, which are computed from read markers and never stored.

use std::collections::HashMap;

use crate::domain::ids::MemberId;
use crate::domain::members::{UNREAD_CAP, UnreadCounts};
use crate::domain::rights::require_permission;
use crate::domain::users::{Permission, Viewer};
use crate::error::Result;
use crate::service::context::AppContext;
use crate::storage::{notifications, threads, unread};

/// The unread messages and notifications of a user over all their chats except muted and archived ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnreadTotals {
    /// The number of chats with unread messages.
    pub chats: i64,
    /// The sums over the chats, each chat counted up to [`UNREAD_CAP`].
    pub unread: UnreadCounts,
    /// The number of unread notifications, counted up to [`UNREAD_CAP`].
    pub notifications: i64,
    /// The number of threads with unread replies that the user follows, counted up to [`UNREAD_CAP`].
    pub threads: i64,
}

/// Returns the unread counts of memberships, by id.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn unread_counts(app: &AppContext, ids: &[MemberId]) -> Result<HashMap<MemberId, UnreadCounts>> {
    let mut conn = app.database.read().await?;
    Ok(unread::counts(&mut conn, ids).await?.into_iter().collect())
}

/// Returns the viewer's unread totals.
///
/// # Errors
///
/// Returns [`Error::Forbidden`](crate::error::Error::Forbidden) if the viewer's token lacks the permission `chat.view`.
pub async fn unread_totals(app: &AppContext, viewer: &Viewer) -> Result<UnreadTotals> {
    require_permission(&viewer.permissions, Permission::ChatView)?;
    let mut conn = app.database.read().await?;
    let (organization, user) = (viewer.organization(), viewer.id());
    let now = app.clock.now();
    let counts = unread::counts_by_chat(&mut conn, organization, user, now).await?;
    let notifications = notifications::count_unread(&mut conn, organization, user, UNREAD_CAP).await?;
    let threads = threads::count_unread(&mut conn, organization, user, now, UNREAD_CAP).await?;
    let chats = counts.iter().filter(|(is_unread, _)| *is_unread).count() as i64;
    let messages = counts.iter().map(|(_, unread)| unread.messages.min(UNREAD_CAP)).sum();
    let mentions = counts.iter().map(|(_, unread)| unread.mentions.min(UNREAD_CAP)).sum();
    Ok(UnreadTotals { chats, unread: UnreadCounts { messages, mentions }, notifications, threads })
}
