//! The clock of calls: what happens in them of its own accord, and who is lost.
//!
//! The database holds when each call has to be looked at, so any node may do it, and after a restart too.
//! A node says every few seconds who listens here; who has not been heard of for too long has left.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::ids::{CallId, ParticipantId};
use crate::error::Result;
use crate::realtime::call_presence::CallPresence;
use crate::service::calls::{call_timeouts, process_due};
use crate::service::context::AppContext;
use crate::storage::calls;

/// How often it is looked at whose time has come, while there are calls.
const TICK_INTERVAL: Duration = Duration::from_millis(200);
/// How often it is looked for calls that other nodes began.
const DUE_POLL_INTERVAL: TimeDelta = TimeDelta::seconds(10);
/// How often it is said who listens here: several times before they would be taken for lost.
const RENEWALS_PER_LEASE: i32 = 3;
/// Calls looked at in one round.
const MAX_PER_TICK: i64 = 100;

#[derive(Default)]
struct CallScheduler {
    /// When the first call has to be looked at, as of `looked_at`.
    next_due_at: Option<DateTime<Utc>>,
    polled_at: Option<DateTime<Utc>>,
    leases_renewed_at: Option<DateTime<Utc>>,
}

/// Keeps the calls as long as there is the app.
pub fn start(app: &Arc<AppContext>) {
    let (attendance, app) = (app.call_presence.clone(), Arc::downgrade(app));
    tokio::spawn(run(app, attendance));
}

async fn run(app: Weak<AppContext>, attendance: Arc<CallPresence>) {
    let mut keeper = CallScheduler::default();
    let mut forgiven = false;
    loop {
        let Some(held) = app.upgrade() else { return };
        let round = async {
            if !forgiven {
                extend_leases(&held).await?;
                forgiven = true;
            }
            keeper.tick(&held).await
        };
        if let Err(error) = round.await {
            tracing::warn!(%error, "calls could not be looked at; trying again");
            // Nor could others say who is here meanwhile.
            forgiven = false;
            keeper = CallScheduler::default();
        }
        drop(held);
        let is_idle = keeper.next_due_at.is_none() && attendance.is_empty() && keeper.polled_at.is_some();
        let pause = if is_idle { DUE_POLL_INTERVAL.to_std().unwrap_or(TICK_INTERVAL) } else { TICK_INTERVAL };
        if tokio::time::timeout(pause, attendance.changed.notified()).await.is_ok() {
            keeper.polled_at = None;
        }
    }
}

/// While no server ran, or none reached the database, nobody could be heard: all begin anew to be lost.
async fn extend_leases(app: &AppContext) -> Result<()> {
    let until = app.clock.now() + call_timeouts(&app.config.calls).disconnect_timeout;
    calls::extend_leases(&mut app.database.write().await?, until).await
}

impl CallScheduler {
    async fn tick(&mut self, app: &AppContext) -> Result<()> {
        let now = app.clock.now();
        let lost = call_timeouts(&app.config.calls).disconnect_timeout;
        let gone = app.call_presence.take_departed();
        if let Err(error) = renew_leases(app, &gone, false, now + lost).await {
            app.call_presence.requeue_departed(gone);
            return Err(error);
        }
        if !gone.is_empty() {
            // Who went is lost earlier than was known.
            self.polled_at = None;
        }
        // First who is here, then who is lost: a clock that leaps loses nobody.
        if !app.call_presence.is_empty()
            && self.leases_renewed_at.is_none_or(|at| now >= at + lost / RENEWALS_PER_LEASE || now < at)
        {
            let present: Vec<ParticipantId> = app.call_presence.present_participants().into_iter().collect();
            renew_leases(app, &present, true, now + lost).await?;
            self.leases_renewed_at = Some(now);
            reconcile(app).await?;
        }
        if self.polled_at.is_none_or(|at| now >= at + DUE_POLL_INTERVAL || now < at) {
            self.load_next_due(app, now).await?;
        }
        if self.next_due_at.is_some_and(|at| at <= now) {
            let due = calls::due_calls(&mut app.database.read().await?, now, MAX_PER_TICK).await?;
            for id in due {
                // One that can't be looked at keeps no other waiting.
                if let Err(error) = process_due(app, id, now).await {
                    tracing::warn!(%error, call = %id, "a call could not be looked at; trying again");
                }
            }
            self.load_next_due(app, now).await?;
        }
        Ok(())
    }

    async fn load_next_due(&mut self, app: &AppContext, now: DateTime<Utc>) -> Result<()> {
        self.next_due_at = calls::next_due_at(&mut app.database.read().await?).await?;
        self.polled_at = Some(now);
        Ok(())
    }
}

async fn renew_leases(app: &AppContext, who: &[ParticipantId], listening: bool, until: DateTime<Utc>) -> Result<()> {
    if who.is_empty() {
        return Ok(());
    }
    calls::renew_leases(&mut app.database.write().await?, who, listening, until).await
}

/// What other nodes told may be lost: feeds that lack something read it.
async fn reconcile(app: &AppContext) -> Result<()> {
    let followed: HashMap<CallId, i64> = app.call_presence.followed_calls();
    let ids: Vec<CallId> = followed.keys().copied().collect();
    for (id, version) in calls::versions(&mut app.database.read().await?, &ids).await? {
        if followed.get(&id).is_some_and(|known| *known < version) {
            app.hub.mark_lagged_call(id);
        }
    }
    Ok(())
}
