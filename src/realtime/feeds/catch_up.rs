//! The parts that all feeds share: their dependencies, and the limits of catching up from the database.

use std::sync::Arc;

use chrono::TimeDelta;

use crate::domain::clock::Clock;
use crate::domain::cursors::DatabaseEpoch;
use crate::domain::users::Viewer;
use crate::error::Result;
use crate::storage::connection::Conn;
use crate::storage::pool::Database;
use crate::storage::read_permits::{ReadPermit, ReadPermits, as_reader};
use crate::storage::read_queue::Reader;

/// The longest time from the moment that a transaction reads the clock until others see what it wrote.
///
/// Changes without a version are found by their time. A feed that catches up reads those that are this much older than
/// its position again, so that none is missed. All nodes have the time of the database; a commit takes ten seconds at
/// most, and a node that starts after the database's clock went back may be five seconds behind the others.
pub const REREAD_MARGIN: TimeDelta = TimeDelta::seconds(15);

/// The dependencies of a feed.
#[derive(Clone)]
pub struct FeedDeps {
    pub database: Database,
    pub limits: CatchUpLimits,
    /// The epoch that the cursors of the feed contain.
    pub epoch: DatabaseEpoch,
    /// The viewer who reads the feed.
    pub viewer: Arc<Viewer>,
}

/// The limits that all feeds of a node share.
#[derive(Debug, Clone)]
pub struct CatchUpLimits {
    /// The permits of feeds that read at the same time.
    ///
    /// They keep many clients that reconnect together from exhausting the database.
    pub permits: Arc<ReadPermits>,
    /// The permits of all reads, which a feed takes after its own.
    pub reads: Arc<ReadPermits>,
    /// The number of changes that a feed delivers one by one; beyond it, the feed resets the client.
    pub max_changes: usize,
    /// The number of members of the largest chat in which read receipts are delivered to everyone.
    pub max_receipt_members: usize,
    pub clock: Clock,
}

impl CatchUpLimits {
    /// Takes a connection on which a feed reads for its viewer.
    ///
    /// The permit has to be kept for as long as the connection.
    ///
    /// A read of a client never waits for the permits of feeds, so waiting for both in this order cannot deadlock.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unavailable`](crate::error::Error::Unavailable) if the database is, or if the server is
    /// stopping.
    pub async fn read(&self, database: &Database, viewer: &Viewer) -> Result<(ReadPermit, Conn)> {
        let reader = Reader { organization: viewer.organization().clone(), user: Some(viewer.id().clone()) };
        let permit = self.permits.acquire(reader.clone()).await?;
        let conn = as_reader(self.reads.clone(), reader, database.read()).await?;
        Ok((permit, conn))
    }
}

/// Why a client has to load everything again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetReason {
    /// The cursor does not belong to this feed.
    CursorInvalid,
    /// More changed since the cursor than is delivered one by one.
    TooFarBehind,
    /// The permissions of the viewer's token changed, or they lost access and are a member again.
    AccessChanged,
}
