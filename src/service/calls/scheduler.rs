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
use crate::realtime::call_presence::Attendance;
use crate::service::calls::{look, rules};
use crate::service::context::App;
use crate::storage::calls;

/// How often it is looked at whose time has come, while there are calls.
const TICK: Duration = Duration::from_millis(200);
/// How often it is looked for calls that other nodes began.
const LOOK: TimeDelta = TimeDelta::seconds(10);
/// How often it is said who listens here: several times before they would be taken for lost.
const BEATS: i32 = 3;
/// Calls looked at in one round.
const MOST: i64 = 100;

#[derive(Default)]
struct Keeper {
    /// When the first call has to be looked at, as of `looked_at`.
    due_at: Option<DateTime<Utc>>,
    looked_at: Option<DateTime<Utc>>,
    beaten_at: Option<DateTime<Utc>>,
}

/// Keeps the calls as long as there is the app.
pub fn start(app: &Arc<App>) {
    let (attendance, app) = (app.attendance.clone(), Arc::downgrade(app));
    tokio::spawn(keep(app, attendance));
}

async fn keep(app: Weak<App>, attendance: Arc<Attendance>) {
    let mut keeper = Keeper::default();
    let mut forgiven = false;
    loop {
        let Some(held) = app.upgrade() else { return };
        let round = async {
            if !forgiven {
                forgive(&held).await?;
                forgiven = true;
            }
            keeper.round(&held).await
        };
        if let Err(error) = round.await {
            tracing::warn!(%error, "calls could not be looked at; trying again");
            // Nor could others say who is here meanwhile.
            forgiven = false;
            keeper = Keeper::default();
        }
        drop(held);
        let is_idle = keeper.due_at.is_none() && attendance.is_empty() && keeper.looked_at.is_some();
        let pause = if is_idle { LOOK.to_std().unwrap_or(TICK) } else { TICK };
        if tokio::time::timeout(pause, attendance.changed.notified()).await.is_ok() {
            keeper.looked_at = None;
        }
    }
}

/// While no server ran, or none reached the database, nobody could be heard: all begin anew to be lost.
async fn forgive(app: &App) -> Result<()> {
    let until = app.clock.now() + rules(&app.config.calls).lost;
    calls::forgive(&mut app.store.write().await?, until).await
}

impl Keeper {
    async fn round(&mut self, app: &App) -> Result<()> {
        let now = app.clock.now();
        let lost = rules(&app.config.calls).lost;
        let gone = app.attendance.take_gone();
        if let Err(error) = attend(app, &gone, false, now + lost).await {
            app.attendance.give_back(gone);
            return Err(error);
        }
        if !gone.is_empty() {
            // Who went is lost earlier than was known.
            self.looked_at = None;
        }
        // First who is here, then who is lost: a clock that leaps loses nobody.
        if !app.attendance.is_empty() && self.beaten_at.is_none_or(|at| now >= at + lost / BEATS || now < at) {
            let present: Vec<ParticipantId> = app.attendance.present().into_iter().collect();
            attend(app, &present, true, now + lost).await?;
            self.beaten_at = Some(now);
            compare(app).await?;
        }
        if self.looked_at.is_none_or(|at| now >= at + LOOK || now < at) {
            self.look(app, now).await?;
        }
        if self.due_at.is_some_and(|at| at <= now) {
            let due = calls::due(&mut app.store.read().await?, now, MOST).await?;
            for id in due {
                // One that can't be looked at keeps no other waiting.
                if let Err(error) = look(app, id, now).await {
                    tracing::warn!(%error, call = %id, "a call could not be looked at; trying again");
                }
            }
            self.look(app, now).await?;
        }
        Ok(())
    }

    async fn look(&mut self, app: &App, now: DateTime<Utc>) -> Result<()> {
        self.due_at = calls::next_due(&mut app.store.read().await?).await?;
        self.looked_at = Some(now);
        Ok(())
    }
}

async fn attend(app: &App, who: &[ParticipantId], listening: bool, until: DateTime<Utc>) -> Result<()> {
    if who.is_empty() {
        return Ok(());
    }
    calls::attend(&mut app.store.write().await?, who, listening, until).await
}

/// What other nodes told may be lost: feeds that lack something read it.
async fn compare(app: &App) -> Result<()> {
    let followed: HashMap<CallId, i64> = app.attendance.followed();
    let ids: Vec<CallId> = followed.keys().copied().collect();
    for (id, version) in calls::versions(&mut app.store.read().await?, &ids).await? {
        if followed.get(&id).is_some_and(|known| *known < version) {
            app.hub.overflow_call(id);
        }
    }
    Ok(())
}
