//! Reads that a replica may serve, and what it must have applied for that.
//!
//! Only executions of queries run [`allowing_replica`]. Feeds, mutations and responses with a cursor read the primary
//! alone, and so do the checks of what a viewer may read. A replica that is behind, or that fails, costs a read the
//! time to find that out, and then the primary serves it.

use crate::domain::ids::ChatId;
use crate::error::{Error, Result};
use crate::metrics::{KindLabel, METRICS};
use crate::storage::chats;
use crate::storage::connection::Conn;
use crate::storage::pool::Database;
use crate::storage::replica::{LOG_START, Replica, committed_position, database_state};

tokio::task_local! {
    /// Set while the current task may read from the replica.
    static ALLOWED: ();
}

/// The state that a reader may know, and that a replica must have applied to serve them.
#[derive(Debug, Clone, Copy)]
pub enum Known<'a> {
    /// Everything that was committed before the read began.
    AllCommits,
    /// These versions of chats, which the primary has.
    ChatVersions(&'a [(ChatId, i64)]),
}

/// An async closure over a connection that may run twice, and whose future is `Send`.
///
/// `AsyncFn` alone cannot express this bound yet.
pub trait ReadFn<'c, R>: Fn(&'c mut Conn) -> Self::Future + Send + Sync {
    type Future: Future<Output = R> + Send;
}

impl<'c, R, F, Fut> ReadFn<'c, R> for F
where
    F: Fn(&'c mut Conn) -> Fut + Send + Sync,
    Fut: Future<Output = R> + Send,
{
    type Future = Fut;
}

/// Runs work whose reads may go to the replica, where they say what they must find there.
///
/// Tasks that the work spawns read from the primary.
pub async fn allowing_replica<T>(work: impl Future<Output = T>) -> T {
    ALLOWED.scope((), work).await
}

impl Database {
    /// Returns true if the current task may read from the replica and the replica can be used.
    pub fn has_usable_replica(&self) -> bool {
        self.usable_replica().is_some()
    }

    fn usable_replica(&self) -> Option<&Replica> {
        let is_allowed = ALLOWED.try_with(|()| ()).is_ok();
        self.replica.as_deref().filter(|replica| is_allowed && replica.is_usable())
    }

    /// Runs a read on the replica if it has everything that the reader may know.
    ///
    /// Otherwise the read runs on the primary. If the replica fails, the read runs again on the primary.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`read`](Self::read) and of the read itself.
    pub async fn read_from_replica<R, F>(&self, known: Known<'_>, read: F) -> Result<R>
    where
        F: AsyncFn(&mut Conn) -> Result<R> + for<'c> ReadFn<'c, Result<R>>,
    {
        if let Some(replica) = self.usable_replica()
            && let Some(mut conn) = self.up_to_date_connection(replica, known).await?
        {
            match read(&mut conn).await {
                Err(error) if conn.last_failure().is_some() => give_up(replica, &error),
                result => {
                    count("served");
                    return result;
                }
            }
        }
        read(&mut self.read().await?).await
    }

    /// Returns a connection to the replica, if it has applied what the reader may know.
    async fn up_to_date_connection(&self, replica: &Replica, known: Known<'_>) -> Result<Option<Conn>> {
        let position = match known {
            Known::AllCommits => committed_position(&mut self.read().await?).await?,
            Known::ChatVersions(_) => Some(LOG_START.to_owned()),
        };
        let Some(position) = position else { return Ok(None) };
        match connect_up_to_date(replica, &position, known).await {
            Ok(Some(conn)) => return Ok(Some(conn)),
            Ok(None) => count("behind"),
            Err(error) => give_up(replica, &error),
        }
        Ok(None)
    }

    /// Checks whether the replica, if there is one, can be used, and measures how far it is behind.
    ///
    /// # Errors
    ///
    /// Fails only if the primary does.
    pub async fn check_replica(&self) -> Result<()> {
        if let Some(replica) = &self.replica {
            let primary = database_state(&mut self.read().await?).await?;
            replica.check(&primary).await;
        }
        Ok(())
    }

    /// Returns true if there is a replica for reads.
    pub fn has_replica(&self) -> bool {
        self.replica.is_some()
    }
}

/// Connects to the replica, if it has applied a position of the log and what the reader may know.
///
/// The replica keeps what it has applied, so the read that follows finds at least that.
async fn connect_up_to_date(replica: &Replica, position: &str, known: Known<'_>) -> Result<Option<Conn>> {
    let mut conn = replica.checkout().await?;
    let mut is_up_to_date = replica.has_applied(&mut conn, position).await?;
    if let Known::ChatVersions(known) = known
        && is_up_to_date
    {
        let ids: Vec<ChatId> = known.iter().map(|(chat, _)| *chat).collect();
        let applied = chats::versions(&mut conn, &ids).await?;
        is_up_to_date = known.iter().all(|(chat, version)| applied.get(chat).is_some_and(|it| it >= version));
    }
    Ok(is_up_to_date.then_some(conn))
}

fn give_up(replica: &Replica, error: &Error) {
    count("failed");
    replica.record_failure(error);
}

fn count(kind: &'static str) {
    METRICS.replica_reads.get_or_create(&KindLabel { kind }).inc();
}
