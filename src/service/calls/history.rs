//! Reading calls: by id, the active ones, the viewer's history, and statistics of an organisation.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::TimeDelta;

use crate::access::{ChatAccess, ReadScope};
use crate::domain::calls::{Call, CallFilter, CallStatistics, TimeRange};
use crate::domain::ids::{CallId, ChatId};
use crate::domain::pagination::{Page, PageArgs, PageEnd, RootList};
use crate::domain::rights::require_permission;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::service::context::AppContext;
use crate::storage::connection::Conn;
use crate::storage::replica_reads::Known;
use crate::storage::{call_statistics, calls};

/// The maximum number of periods of one query for statistics.
pub const MAX_STATISTICS_RANGES: usize = 400;

/// Returns the calls with the given ids whose chat the scope may read, by id.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn by_ids(app: &AppContext, scope: ReadScope<'_>, ids: &[CallId]) -> Result<HashMap<CallId, Arc<Call>>> {
    let mut conn = app.database.read().await?;
    let readable = ChatAccess::retain_readable(&mut conn, scope, ids, |id| id.chat).await?;
    let found = calls::by_ids(&mut conn, &readable).await?;
    Ok(found.into_iter().map(|call| (call.id, Arc::new(call))).collect())
}

/// Returns the active calls of those chats that the scope may read, by chat.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn active(app: &AppContext, scope: ReadScope<'_>, chats: &[ChatId]) -> Result<HashMap<ChatId, Arc<Call>>> {
    let mut conn = app.database.read().await?;
    let readable = ChatAccess::retain_readable(&mut conn, scope, chats, |chat| *chat).await?;
    let found = calls::active(&mut conn, &readable).await?;
    Ok(found.into_iter().map(|call| (call.id.chat, Arc::new(call))).collect())
}

/// Returns a page of the calls that rang for the viewer or that they joined, the newest first.
///
/// # Errors
///
/// Returns [`Error::Forbidden`] if the viewer's token lacks the permission `chat.view`, and [`Error::BadUserInput`] if
/// an argument of the page is not valid.
pub async fn page(app: &AppContext, viewer: &Viewer, filter: &CallFilter, args: &PageArgs) -> Result<Page<Call>> {
    require_permission(&viewer.permissions, Permission::ChatView)?;
    let window = args.window::<RootList, uuid::Uuid>(&RootList::Calls, PageEnd::First)?;
    let read = async |conn: &mut Conn| calls::page(conn, viewer.organization(), viewer.id(), filter, &window).await;
    let fetched = app.database.read_from_replica(Known::AllCommits, read).await?;
    Ok(window.to_page(fetched))
}

/// Returns statistics of the organisation's calls for each period from `since` until before `until`.
///
/// # Errors
///
/// Returns [`Error::Forbidden`] if the viewer is not an administrator of the organisation, and [`Error::BadUserInput`]
/// if the times are in the wrong order or have too many periods between them.
pub async fn statistics(
    app: &AppContext,
    viewer: &Viewer,
    (since, until): TimeRange,
    period: TimeDelta,
) -> Result<Vec<(TimeRange, CallStatistics)>> {
    require_permission(&viewer.permissions, Permission::OrganizationAdmin)?;
    if until <= since {
        return Err(Error::bad_input("until", "must be after since"));
    }
    let mut ranges: Vec<TimeRange> = Vec::new();
    let mut start = since;
    while start < until {
        if ranges.len() == MAX_STATISTICS_RANGES {
            return Err(Error::bad_input(
                "until",
                format!("must be at most {MAX_STATISTICS_RANGES} periods after since"),
            ));
        }
        let end = start.checked_add_signed(period).map_or(until, |end| end.min(until));
        ranges.push((start, end));
        start = end;
    }
    let read = async |conn: &mut Conn| call_statistics::by_range(conn, viewer.organization(), &ranges).await;
    let statistics = app.database.read_from_replica(Known::AllCommits, read).await?;
    Ok(ranges.into_iter().zip(statistics).collect())
}
