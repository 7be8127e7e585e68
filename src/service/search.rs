//! Full-text search in messages, and the task that completes its index.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::message_queries::{CreatedAtKey, MessageSearch};
use crate::domain::messages::Message;
use crate::domain::pagination::{Page, PageArgs, PageEnd};
use crate::domain::rights::require_permission;
use crate::domain::users::{Permission, Viewer};
use crate::error::Result;
use crate::service::context::AppContext;
use crate::storage::{search, search_index};
use crate::tasks::{TickLoop, Wait, warn_of_failure};

/// The shortest pause between two steps of reindexing.
const MIN_REINDEX_PAUSE: Duration = Duration::from_millis(5);
/// The pause after a step of reindexing that failed.
const REINDEX_RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Returns a page of the matching messages in chats of the viewer, the newest first.
///
/// # Errors
///
/// Returns [`Error::Forbidden`](crate::error::Error::Forbidden) if the viewer's token lacks the permission `chat.view`,
/// and [`Error::BadUserInput`](crate::error::Error::BadUserInput) if an argument of the page is not valid.
pub async fn messages(
    app: &AppContext,
    viewer: &Viewer,
    search: &MessageSearch,
    args: &PageArgs,
) -> Result<Page<Message>> {
    require_permission(&viewer.permissions, Permission::ChatView)?;
    let window = args.window::<CreatedAtKey>(PageEnd::First)?;
    let mut conn = app.database.read().await?;
    let fetched = search::page(&mut conn, viewer.organization(), viewer.id(), search, &window).await?;
    Ok(window.to_page(fetched))
}

/// Starts the task that adds the messages that the full-text index lacks, such as after a migration.
///
/// The nodes take turns, and the task ends when no message is missing or when the context is dropped: see
/// [`tasks`](crate::tasks). It pauses for as long as each step takes, so that sends get half of the time. Until it is
/// done, a search does not find the messages that are missing. After a panic in it, another node or the next start
/// continues.
pub fn start_reindexing(app: &Arc<AppContext>) {
    let ticks = TickLoop::new(app, Arc::default());
    tokio::spawn(async move {
        let mut indexed = 0;
        let mut wait = Wait::For(Duration::ZERO);
        while let Some(tick) = ticks.next(wait).await {
            let started_at = Instant::now();
            match reindex_batch(&tick.owner).await {
                Ok(Some(count)) => {
                    indexed += count;
                    wait = Wait::For(started_at.elapsed().max(MIN_REINDEX_PAUSE));
                }
                Ok(None) => break,
                Err(error) => {
                    warn_of_failure!(error, "could not extend the full-text index; will try again");
                    wait = Wait::For(REINDEX_RETRY_INTERVAL);
                }
            }
        }
        if indexed > 0 {
            tracing::info!(messages = indexed, "completed the full-text index");
        }
    });
}

async fn reindex_batch(app: &AppContext) -> Result<Option<usize>> {
    let mut conn = app.database.write().await?;
    conn.transaction(async |conn| {
        search_index::reindex_if_empty(conn).await?;
        search_index::reindex_batch(conn).await
    })
    .await
}
