//! Comparison of calls with the database, because messages about them may be lost.
//!
//! One loop does it, started by [`CallRepairer::start`] and ended with the [`Hub`]. It compares the version of each
//! call that a feed of this node follows. A call that just began to ring has no such feed, so while Redis delivers
//! nothing, the loop also reads the calls that changed and publishes them on this node. A panic ends the loop: without
//! it, feeds of calls miss what was lost until the next event.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::domain::chat_events::{ChatEvent, ChatEventKind};
use crate::domain::clock::Clock;
use crate::domain::ids::CallId;
use crate::error::Result;
use crate::realtime::call_presence::CallPresence;
use crate::realtime::cluster::outbox::ClusterOutbox;
use crate::realtime::dispatch::hub::Hub;
use crate::realtime::feeds::catch_up::REREAD_MARGIN;
use crate::storage::calls;
use crate::storage::pool::Database;
use crate::tasks::{Tick, TickLoop, Wait, warn_of_failure};

/// The interval in which the followed calls are compared with the database.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(5);
/// The interval of the comparison while Redis delivers nothing. Signals then arrive by it alone.
const OUTAGE_RECONCILE_INTERVAL: Duration = Duration::from_millis(400);
/// The maximum number of changed calls that one comparison reads. The latest changes come first, so earlier ones have
/// been published by a comparison before.
const MAX_CHANGED_CALLS: i64 = 5_000;
/// The number of calls that one query loads.
const LOAD_BATCH: usize = 500;

/// The reader of changes of calls that this node did not receive.
pub struct CallRepairer {
    database: Database,
    clock: Clock,
    call_presence: Arc<CallPresence>,
    /// `None` on a server of one node.
    outbox: Option<ClusterOutbox>,
    outage: Option<Outage>,
}

/// The state of the comparison while Redis delivers nothing.
struct Outage {
    /// The time from which changes are read next.
    changed_since: DateTime<Utc>,
    /// The calls that the last read found, each with the time of its last change.
    published: HashMap<CallId, DateTime<Utc>>,
}

impl CallRepairer {
    /// Starts the loop, which ends when the hub is dropped.
    pub fn start(
        database: Database,
        clock: Clock,
        hub: &Arc<Hub>,
        call_presence: Arc<CallPresence>,
        outbox: Option<ClusterOutbox>,
    ) {
        let repairer = Self { database, clock, call_presence, outbox, outage: None };
        tokio::spawn(repairer.run(TickLoop::new(hub, Arc::default())));
    }

    async fn run(mut self, ticks: TickLoop<Hub>) {
        let mut compared_at = Instant::now();
        while let Some(Tick { owner: hub, .. }) = ticks.next(Wait::For(OUTAGE_RECONCILE_INTERVAL)).await {
            let is_cut_off = self.outbox.as_ref().is_some_and(|outbox| !outbox.is_delivering());
            if !is_cut_off {
                self.outage = None;
                if compared_at.elapsed() < RECONCILE_INTERVAL {
                    continue;
                }
            }
            compared_at = Instant::now();
            if let Err(error) = self.repair(&hub, is_cut_off).await {
                warn_of_failure!(error, "could not compare calls with the database; retrying");
            }
        }
    }

    async fn repair(&mut self, hub: &Hub, is_cut_off: bool) -> Result<()> {
        self.compare_followed(hub).await?;
        if is_cut_off { self.publish_changed(hub).await } else { Ok(()) }
    }

    /// Lets the feeds of the calls that changed read them.
    async fn compare_followed(&self, hub: &Hub) -> Result<()> {
        let followed = self.call_presence.followed_calls();
        if followed.is_empty() {
            return Ok(());
        }
        let ids: Vec<CallId> = followed.keys().copied().collect();
        for (id, version) in calls::versions(&mut self.database.read().await?, &ids).await? {
            if followed.get(&id).is_some_and(|known| *known < version) {
                hub.mark_lagged_call(id);
            }
        }
        Ok(())
    }

    /// Publishes on this node the calls that changed since the last read.
    ///
    /// A call that the last read found is published again only if it changed again.
    async fn publish_changed(&mut self, hub: &Hub) -> Result<()> {
        let now = self.clock.now();
        let outage = self.outage.get_or_insert_with(|| Outage {
            changed_since: hub.complete_until().min(now) - REREAD_MARGIN,
            published: HashMap::new(),
        });
        let mut conn = self.database.read().await?;
        let changed = calls::changed_since(&mut conn, outage.changed_since, MAX_CHANGED_CALLS).await?;
        let is_new = |(id, changed_at): &&(CallId, DateTime<Utc>)| outage.published.get(id) != Some(changed_at);
        let ids: Vec<CallId> = changed.iter().filter(is_new).map(|(id, _)| *id).collect();
        for ids in ids.chunks(LOAD_BATCH) {
            for call in calls::by_ids(&mut conn, ids).await? {
                let kind = ChatEventKind::CallChanged((&call).into());
                hub.deliver(ChatEvent::new(call.organization, call.id.chat, now, kind));
            }
        }
        outage.published = changed.into_iter().collect();
        outage.changed_since = now - REREAD_MARGIN;
        Ok(())
    }
}
