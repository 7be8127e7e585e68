//! Full-text search in messages, and the task that completes the search index.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::message_queries::{CreatedAtKey, MessageSearch};
use crate::domain::messages::Message;
use crate::domain::pagination::{Page, PageArgs, PageEnd, RootList};
use crate::domain::rights::require_permission;
use crate::domain::users::{Permission, Viewer};
use crate::error::Result;
use crate::metrics::{KindLabel, METRICS};
use crate::service::context::AppContext;
use crate::storage::connection::Conn;
use crate::storage::pool::Database;
use crate::storage::replica_reads::Known;
use crate::storage::search_names::Backlog;
use crate::storage::{search, search_index, search_names};
use crate::tasks::{TickLoop, Wait, warn_of_failure};

/// The shortest pause between two steps of reindexing.
const MIN_REINDEX_PAUSE: Duration = Duration::from_millis(5);
/// The pause after a step of reindexing that failed.
const REINDEX_RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// The shortest time between two reports of what is left, which counts rows.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

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
    let window = args.window::<RootList, CreatedAtKey>(&RootList::FoundMessages, PageEnd::First)?;
    let read = async |conn: &mut Conn| search::page(conn, viewer.organization(), viewer.id(), search, &window).await;
    let fetched = app.database.read_from_replica(Known::AllCommits, read).await?;
    Ok(window.to_page(fetched))
}

/// Returns the rows that searches find by an earlier form until a node has written them again.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn backlog(database: &Database) -> Result<Backlog> {
    search_names::backlog(&mut database.read().await?).await
}

/// Starts the task that gives older names, titles and messages the form by which searches find them.
///
/// The nodes take turns, and the task ends when no row is missing or when the context is dropped: see
/// [`tasks`](crate::tasks). It pauses for as long as each step takes, so that sends get half of the time. Until it is
/// done, a search finds rows by the form that they have. After a panic in it, another node or the next start continues.
pub fn start_reindexing(app: &Arc<AppContext>) {
    let ticks = TickLoop::new(app, Arc::default());
    tokio::spawn(async move {
        let mut progress = Progress::default();
        let mut wait = Wait::For(Duration::ZERO);
        while let Some(tick) = ticks.next(wait).await {
            let started_at = Instant::now();
            match reindex_step(&tick.owner).await {
                Ok(Some(count)) => {
                    progress.add(&tick.owner.database, count).await;
                    wait = Wait::For(started_at.elapsed().max(MIN_REINDEX_PAUSE));
                }
                Ok(None) => break,
                Err(error) => {
                    warn_of_failure!(error, "could not extend the search index; will try again");
                    wait = Wait::For(REINDEX_RETRY_INTERVAL);
                }
            }
        }
        progress.finish();
    });
}

/// The work of the task on this node, which it reports now and then.
#[derive(Default)]
struct Progress {
    rows: usize,
    reported_at: Option<Instant>,
}

impl Progress {
    /// Counts rows, and reports what is left if the last report is some time ago.
    async fn add(&mut self, database: &Database, rows: usize) {
        self.rows += rows;
        if self.reported_at.is_some_and(|at| at.elapsed() < REPORT_INTERVAL) {
            return;
        }
        self.reported_at = Some(Instant::now());
        match backlog(database).await {
            Ok(left) => {
                record_backlog(left);
                let Backlog { names, titles, chats } = left;
                tracing::info!(rows = self.rows, names, titles, chats, "extending the search index; these are left");
            }
            Err(error) => warn_of_failure!(error, "could not read how far the search index is"),
        }
    }

    fn finish(self) {
        record_backlog(Backlog::default());
        if self.rows > 0 {
            tracing::info!(rows = self.rows, "completed the search index");
        }
    }
}

fn record_backlog(Backlog { names, titles, chats }: Backlog) {
    for (kind, count) in [("names", names), ("titles", titles), ("chats", chats)] {
        METRICS.search_backlog.get_or_create(&KindLabel { kind }).set(count);
    }
}

/// Writes the next names, titles or messages and returns their number, or `None` if nothing is left.
async fn reindex_step(app: &AppContext) -> Result<Option<usize>> {
    let mut conn = app.database.write().await?;
    conn.transaction(async |conn| {
        let names = search_names::fold_names(conn).await?;
        if names > 0 {
            return Ok(Some(names));
        }
        let titles = search_names::fold_titles(conn).await?;
        if titles > 0 {
            return Ok(Some(titles));
        }
        search_index::reindex_if_empty(conn).await?;
        search_index::reindex_batch(conn).await
    })
    .await
}
