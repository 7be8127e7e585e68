//! The state that all nodes share through the database: the key of their messages, and one time.
//!
//! The clock of each node follows that of the database, so the times that nodes write have one order. On SQLite, where
//! there is no other machine, it follows the system's. It never goes back, not even by a restart: the row in the
//! database has a time that some node has reached, and no node starts before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::RwLock;
use tokio::sync::Notify;

use crate::domain::clock::Clock;
use crate::error::{Error, Result};
use crate::metrics::{KindLabel, METRICS};
use crate::realtime::cluster::authentication::MessageKey;
use crate::storage::cluster_state;
use crate::storage::cluster_state::ClusterState;
use crate::storage::pool::Database;
use crate::tasks::{TickLoop, Wait};

/// The interval in which the row is read. The row's time may lag behind the clock of a node by at most this interval.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5);
/// The pause after a refresh that was requested.
const REQUEST_PAUSE: Duration = Duration::from_secs(1);
/// The time by which a clock that is ahead is moved back at each refresh.
const MAX_SLEW: Duration = Duration::from_millis(50);
/// The difference between two clocks that is logged.
const NOTABLE_CLOCK_DIFFERENCE: TimeDelta = TimeDelta::seconds(2);

/// The shared state as this node last read it.
pub struct SharedState {
    database: Database,
    clock: Clock,
    /// The lock is held for single accesses only.
    key: RwLock<MessageKey>,
    /// True while the log says that the system's clock differs from the database's. It guards no other memory.
    is_difference_logged: AtomicBool,
    /// Requests a refresh, and wakes the task when the state is dropped.
    wake: Arc<Notify>,
}

impl SharedState {
    /// Reads the shared state, which the first node creates, and starts the task that refreshes it.
    ///
    /// The task ends when the state is dropped. After a panic in it, the clock of this node drifts from the others, and
    /// a new key is not noticed.
    ///
    /// # Errors
    ///
    /// Returns an error when the database can't be reached.
    pub async fn start(database: Database, clock: Clock) -> Result<Arc<Self>> {
        let (key, wake) = (RwLock::new(MessageKey::new(&[])), Arc::<Notify>::default());
        let is_difference_logged = AtomicBool::new(false);
        let state = Arc::new(Self { database, clock, key, is_difference_logged, wake: wake.clone() });
        let row = state.read().await?;
        state.clock.start_at(state.reference(&row).max(row.clock));
        state.apply(&row).await?;
        if state.clock.is_synchronized() {
            tokio::spawn(run_refresh_loop(TickLoop::new(&state, wake)));
        }
        Ok(state)
    }

    /// Returns the key of messages between nodes.
    pub fn key(&self) -> MessageKey {
        self.key.read().clone()
    }

    /// Requests that the key is read again, because a message had another one.
    pub fn request_refresh(&self) {
        self.wake.notify_one();
    }

    /// Returns the row, which is created if there is none.
    async fn read(&self) -> Result<ClusterState> {
        let found = cluster_state::find(&mut self.database.read().await?).await?;
        match found {
            Some(row) => Ok(row),
            None => self.create().await,
        }
    }

    /// Returns the time that the clock of this node follows.
    fn reference(&self, row: &ClusterState) -> DateTime<Utc> {
        row.database_time.unwrap_or_else(|| self.clock.system_time())
    }

    async fn refresh(&self) -> Result<()> {
        let row = self.read().await?;
        self.apply(&row).await
    }

    /// Takes over the key and the time of the row, and advances the row's time to that of this node.
    async fn apply(&self, row: &ClusterState) -> Result<()> {
        *self.key.write() = MessageKey::new(&row.message_key);
        self.synchronize_clock(row);
        let now = self.clock.now();
        if row.clock < now {
            cluster_state::advance_clock(&mut self.database.write().await?, now).await?;
        }
        Ok(())
    }

    async fn create(&self) -> Result<ClusterState> {
        let mut conn = self.database.write().await?;
        // The clock of this node may still be wrong, so no time has been reached yet.
        cluster_state::insert(&mut conn, MessageKey::generate().as_bytes(), DateTime::UNIX_EPOCH).await?;
        let row = cluster_state::find(&mut conn).await?;
        row.ok_or_else(|| Error::internal("the row of the shared state was deleted while it was created"))
    }

    fn synchronize_clock(&self, row: &ClusterState) {
        let reference = self.reference(row);
        let is_behind_others = row.clock > self.clock.now();
        self.clock.synchronize(if is_behind_others { reference.max(row.clock) } else { reference }, MAX_SLEW);
        let difference = self.clock.system_time() - reference;
        record_clock_difference("database", difference, &self.is_difference_logged);
    }
}

/// Wakes the refresh loop, so that it ends.
impl Drop for SharedState {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

/// Records how far the system's clock is ahead of another one, and logs a large difference.
///
/// The difference is logged once for as long as it is large. `kind` is the label of the metric: `database` or `nodes`.
pub fn record_clock_difference(kind: &'static str, difference: TimeDelta, is_logged: &AtomicBool) {
    let seconds = difference.as_seconds_f64();
    METRICS.clock_difference.get_or_create(&KindLabel { kind }).set(seconds);
    let is_notable = difference.abs() > NOTABLE_CLOCK_DIFFERENCE;
    if is_logged.swap(is_notable, Ordering::Relaxed) == is_notable {
        return;
    }
    if is_notable {
        tracing::warn!(compared_with = kind, seconds, "the clock of this machine differs from another one");
    } else {
        tracing::info!(compared_with = kind, seconds, "the clock of this machine agrees with the others again");
    }
}

async fn run_refresh_loop(ticks: TickLoop<SharedState>) {
    let mut wait = Wait::AtMost(REFRESH_INTERVAL);
    while let Some(tick) = ticks.next(wait).await {
        wait = if tick.was_woken { Wait::For(REQUEST_PAUSE) } else { Wait::AtMost(REFRESH_INTERVAL) };
        if let Err(error) = tick.owner.refresh().await {
            tracing::debug!(%error, "could not read the state that the nodes share; will try again");
        }
    }
}
