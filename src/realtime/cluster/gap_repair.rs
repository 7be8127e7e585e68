//! Repair of gaps in the events that a node received.
//!
//! A gap is read from the database once for all subscribers of a chat. Two loops do it, both started by
//! [`GapRepairer::start`] and both ended with the [`Hub`]: one repairs gaps that the hub has detected, the other one
//! regularly compares all chats that have subscribers, more often while Redis delivers nothing. A panic ends the loop
//! in which it happens. Without the first loop, gaps wait for the second one; without the second one, nobody notices
//! the loss of a chat's newest event until the next event.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::chat_events::{ChatEvent, ChatEventKind, UnversionedChange};
use crate::domain::clock::Clock;
use crate::domain::ids::ChatId;
use crate::error::Result;
use crate::metrics::METRICS;
use crate::realtime::cluster::message::{MemberHint, MemberHints};
use crate::realtime::cluster::outbox::ClusterOutbox;
use crate::realtime::dispatch::hub::Hub;
use crate::realtime::feeds::catch_up::REREAD_MARGIN;
use crate::realtime::feeds::change_log;
use crate::realtime::feeds::change_log::ChangePage;
use crate::storage::pool::Database;
use crate::storage::{chats, members};
use crate::tasks::{Tick, TickLoop, Wait, warn_of_failure};

/// The time that a gap has to close by itself; events overtake each other by less.
const REORDER_GRACE: Duration = Duration::from_millis(100);
/// The interval in which chats that have subscribers are compared with the database. The comparison finds commits
/// that were never published, because a node died after the commit or lost its connection to Redis.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(10);
/// The interval in which the chats are compared while Redis delivers nothing. The comparison is then the only way in
/// which this node learns of the commits of others.
const OUTAGE_RECONCILE_INTERVAL: Duration = Duration::from_secs(1);
/// The number of chats that one query compares.
const RECONCILE_BATCH: usize = 500;

/// The reader of missed changes, which delivers them to the subscribers of this node.
#[derive(Clone)]
pub struct GapRepairer {
    database: Database,
    clock: Clock,
    hub: Weak<Hub>,
    /// `None` on a server of one node.
    outbox: Option<ClusterOutbox>,
}

impl GapRepairer {
    /// Starts both loops, which end when the hub is dropped.
    pub fn start(database: Database, clock: Clock, hub: &Arc<Hub>, outbox: Option<ClusterOutbox>) -> Self {
        let repairer = Self { database, clock, hub: Arc::downgrade(hub), outbox };
        tokio::spawn(repairer.clone().run_repair_loop(TickLoop::new(hub, hub.gap_detected())));
        tokio::spawn(repairer.clone().run_reconcile_loop(TickLoop::new(hub, Arc::default())));
        repairer
    }

    async fn run_repair_loop(self, ticks: TickLoop<Hub>) {
        while let Some(Tick { owner: hub, .. }) = ticks.next(Wait::UntilWoken).await {
            tokio::time::sleep(REORDER_GRACE).await;
            self.repair_gaps(&hub).await;
        }
    }

    async fn run_reconcile_loop(self, ticks: TickLoop<Hub>) {
        let mut compared_at = Instant::now();
        while let Some(Tick { owner: hub, .. }) = ticks.next(Wait::For(OUTAGE_RECONCILE_INTERVAL)).await {
            let is_cut_off = self.outbox.as_ref().is_some_and(|outbox| !outbox.is_delivering());
            if !is_cut_off && compared_at.elapsed() < RECONCILE_INTERVAL {
                continue;
            }
            compared_at = Instant::now();
            if let Err(error) = self.reconcile_all(&hub).await {
                warn_of_failure!(error, "could not compare chats with the database; retrying");
            }
        }
    }

    /// Compares all chats that have subscribers with the database at once.
    ///
    /// Subscribers to users read what they may have missed.
    ///
    /// # Errors
    ///
    /// Returns an error when the database can't be read.
    pub async fn resync(&self) -> Result<()> {
        let Some(hub) = self.hub.upgrade() else { return Ok(()) };
        hub.mark_lagged_users();
        self.reconcile_all(&hub).await
    }

    /// Returns the members whose rows changed without a version, in chats that have subscribers here.
    ///
    /// It reads the changes since the time from which events may be missing.
    ///
    /// # Errors
    ///
    /// Returns an error when the database can't be read.
    pub async fn missed_member_changes(&self) -> Result<Vec<MemberHints>> {
        let Some(hub) = self.hub.upgrade() else { return Ok(Vec::new()) };
        let since = hub.complete_until() - REREAD_MARGIN;
        let chats: Vec<ChatId> = hub.topic_versions().into_iter().map(|(chat, _)| chat).collect();
        let mut by_chat: HashMap<ChatId, Vec<MemberHint>> = HashMap::new();
        for chats in chats.chunks(RECONCILE_BATCH) {
            for (member, visible_to_others) in
                members::unversioned_changes_since(&mut self.database.read().await?, chats, since).await?
            {
                let change = UnversionedChange { visible_to_others, read_threads: true };
                by_chat.entry(member.chat).or_default().push(MemberHint { user: member.user, change });
            }
        }
        Ok(by_chat.into_iter().map(|(chat, members)| MemberHints { chat, members }).collect())
    }

    async fn repair_gaps(&self, hub: &Hub) {
        for (chat, version) in hub.take_gaps() {
            let repaired = match version {
                Some(version) => self.backfill_chat(hub, chat, version).await,
                None => Ok(()),
            };
            if let Err(error) = repaired {
                warn_of_failure!(error, %chat, "could not repair a gap; each subscriber reads it separately");
            }
            hub.flush_reorder_buffer(chat);
        }
    }

    async fn reconcile_all(&self, hub: &Hub) -> Result<()> {
        let delivered: HashMap<ChatId, i64> =
            hub.topic_versions().into_iter().filter_map(|(chat, version)| Some((chat, version?))).collect();
        let ids: Vec<ChatId> = delivered.keys().copied().collect();
        for ids in ids.chunks(RECONCILE_BATCH) {
            let versions = chats::versions(&mut self.database.read().await?, ids).await?;
            // The deletion of these chats was not published: their subscribers find out by reading.
            let deleted = ids.iter().filter(|id| !versions.contains_key(id));
            deleted.for_each(|chat| hub.mark_lagged_chat(*chat));
            for (chat, version) in versions {
                let delivered_version = delivered[&chat];
                if version > delivered_version {
                    self.backfill_chat(hub, chat, delivered_version).await?;
                }
            }
        }
        Ok(())
    }

    /// Delivers the changes of a chat after a version to all of its subscribers.
    async fn backfill_chat(&self, hub: &Hub, chat: ChatId, mut version: i64) -> Result<()> {
        METRICS.gap_repairs.inc();
        loop {
            let mut conn = self.database.read().await?;
            let page = conn.snapshot(async move |conn| {
                let chat = chats::by_ids_any_organization(conn, &[chat]).await?.pop();
                match chat {
                    Some(chat) => change_log::read_changes(conn, Arc::new(chat), version).await.map(Some),
                    None => Ok(None),
                }
            });
            let Some(ChangePage { chat, slice, is_last }) = page.await? else { return Ok(()) };
            version = slice.to_version;
            let (organization, published_at) = (chat.organization.clone(), self.clock.now());
            hub.deliver(ChatEvent::new(organization, chat.id, published_at, ChatEventKind::LogChanges(slice)));
            if is_last {
                return Ok(());
            }
        }
    }
}
