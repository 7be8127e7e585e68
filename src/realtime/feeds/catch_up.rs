//! The parts that all feeds share: their dependencies, and the limits of catching up from the database.

use std::sync::Arc;

use chrono::TimeDelta;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::clock::Clock;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::storage::pool::Database;

/// The largest difference between the clocks of two nodes, plus the delay of an event between them.
///
/// Changes without a version are found by their time. A feed that catches up reads those that are this much older than
/// its position again, so that none is missed.
pub const CLOCK_SKEW_MARGIN: TimeDelta = TimeDelta::seconds(10);

/// The dependencies of a feed.
#[derive(Clone)]
pub struct FeedDeps {
    pub database: Database,
    pub limits: CatchUpLimits,
    /// The viewer who reads the feed.
    pub viewer: Arc<Viewer>,
}

/// The limits that all feeds of a node share.
#[derive(Debug, Clone)]
pub struct CatchUpLimits {
    /// The permits of concurrent reads.
    ///
    /// They keep many clients that reconnect together from exhausting the database.
    pub permits: Arc<Semaphore>,
    /// The number of changes that a feed delivers one by one; beyond it, the feed resets the client.
    pub max_changes: usize,
    /// The number of members of the largest chat in which read receipts are delivered to everyone.
    pub max_receipt_members: usize,
    pub clock: Clock,
}

impl CatchUpLimits {
    /// Waits for a permit to catch up.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unavailable`] if the server is stopping.
    pub async fn acquire_permit(&self) -> Result<OwnedSemaphorePermit> {
        let permit = self.permits.clone().acquire_owned().await;
        permit.map_err(|_| Error::unavailable("the server is stopping"))
    }
}

/// Why a client has to load everything again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetReason {
    /// The cursor does not belong to this feed.
    CursorInvalid,
    /// More changed since the cursor than is delivered one by one.
    TooFarBehind,
    /// The permissions of the viewer's token changed.
    AccessChanged,
}
