//! The scheduler of calls: ends calls that are due and participants that are disconnected.
//!
//! The database holds the time at which each call is due next, so that any node can process it, after a restart too. A
//! node renews a lease for each participant who has a call feed open on it; a participant whose lease expires has left.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::domain::ids::ConnectionId;
use crate::error::Result;
use crate::service::calls::connection::{close_feed, open_feed};
use crate::service::calls::transaction::process_due;
use crate::service::context::AppContext;
use crate::storage::call_schedule;
use crate::tasks::{TickLoop, Wait, warn_of_failure};

/// The interval at which due calls are processed while there are any calls.
const TICK_INTERVAL: Duration = Duration::from_millis(200);
/// The interval at which calls that other nodes started are searched for.
const DUE_POLL_INTERVAL: Duration = Duration::from_secs(10);
/// The number of times that a lease is renewed before it would expire.
const RENEWALS_PER_LEASE: i32 = 3;
/// The maximum number of calls processed in one tick.
const MAX_PER_TICK: i64 = 100;

/// The state of the scheduler between two ticks.
#[derive(Default)]
struct CallScheduler {
    /// The time at which the first call is due, as of `polled_at`.
    next_due_at: Option<DateTime<Utc>>,
    polled_at: Option<DateTime<Utc>>,
    leases_renewed_at: Option<DateTime<Utc>>,
    has_extended_leases: bool,
}

/// Starts the task that processes due calls.
///
/// The task ends when the context is dropped: see [`tasks`](crate::tasks). After a panic in it, the other nodes process
/// the calls, and the participants who are connected to this node time out.
pub fn start(app: &Arc<AppContext>) {
    let ticks = TickLoop::new(app, app.call_presence.changed.clone());
    tokio::spawn(async move {
        let mut scheduler = CallScheduler::default();
        let mut wait = Wait::For(Duration::ZERO);
        while let Some(tick) = ticks.next(wait).await {
            if tick.was_woken {
                scheduler.polled_at = None;
            }
            if let Err(error) = scheduler.tick(&tick.owner).await {
                warn_of_failure!(error, "could not process calls; will try again");
                // While the database was unavailable, the other nodes could not renew their leases either.
                scheduler = CallScheduler::default();
            }
            let is_idle =
                scheduler.next_due_at.is_none() && scheduler.polled_at.is_some() && tick.owner.call_presence.is_empty();
            wait = Wait::AtMost(if is_idle { DUE_POLL_INTERVAL } else { TICK_INTERVAL });
        }
    });
}

impl CallScheduler {
    async fn tick(&mut self, app: &AppContext) -> Result<()> {
        if !self.has_extended_leases {
            extend_leases(app).await?;
            self.has_extended_leases = true;
        }
        let now = app.clock.now();
        let lease = app.settings.calls.timeouts().disconnect_timeout;
        if close_departed_feeds(app).await? {
            // Their calls may be due earlier than was known.
            self.polled_at = None;
        }
        // Leases are renewed before due calls are processed, so that a jump of the clock disconnects nobody.
        if !app.call_presence.is_empty()
            && self.leases_renewed_at.is_none_or(|at| now >= at + lease / RENEWALS_PER_LEASE || now < at)
        {
            renew_leases(app, now + lease).await?;
            self.leases_renewed_at = Some(now);
        }
        if self.polled_at.is_none_or(|at| now >= at + DUE_POLL_INTERVAL || now < at) {
            self.load_next_due(app, now).await?;
        }
        if self.next_due_at.is_some_and(|at| at <= now) {
            let due = call_schedule::due_calls(&mut app.database.read().await?, now, MAX_PER_TICK).await?;
            for id in due {
                // A call that fails must not delay the others.
                if let Err(error) = process_due(app, id, now).await {
                    warn_of_failure!(error, call = %id, "could not process a call; will try again");
                }
            }
            self.load_next_due(app, now).await?;
        }
        Ok(())
    }

    async fn load_next_due(&mut self, app: &AppContext, now: DateTime<Utc>) -> Result<()> {
        self.next_due_at = call_schedule::next_due_at(&mut app.database.read().await?).await?;
        self.polled_at = Some(now);
        Ok(())
    }
}

/// Extends the leases of all participants.
///
/// No node could renew them while no server ran or while the database was unavailable.
async fn extend_leases(app: &AppContext) -> Result<()> {
    let until = app.clock.now() + app.settings.calls.timeouts().disconnect_timeout;
    call_schedule::extend_leases(&mut app.database.write().await?, until).await
}

/// Records which feeds were closed, and returns whether there were any.
async fn close_departed_feeds(app: &AppContext) -> Result<bool> {
    let mut departed = app.call_presence.take_departed();
    let has_departed = !departed.is_empty();
    while let Some(closed) = departed.pop() {
        if let Err(error) = close_feed(app, &closed).await {
            departed.push(closed);
            app.call_presence.requeue_departed(departed);
            return Err(error);
        }
    }
    Ok(has_departed)
}

/// Renews the leases of the connections that have a feed open on this node.
async fn renew_leases(app: &AppContext, until: DateTime<Utc>) -> Result<()> {
    let present = app.call_presence.present_connections();
    let connections: Vec<ConnectionId> = present.keys().cloned().collect();
    if connections.is_empty() {
        return Ok(());
    }
    let mut conn = app.database.write().await?;
    let without_feed = call_schedule::renew_leases(&mut conn, &connections, until).await?;
    drop(conn);
    // Another feed of the same connection was closed after this one had been opened.
    for connection in without_feed {
        open_feed(app, &connection, present[&connection]).await?;
    }
    Ok(())
}
