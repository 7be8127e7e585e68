//! Repair of gaps in the events that a node received.
//!
//! A gap is read from the database once for all subscribers of a chat. Two loops do it, both started by
//! [`GapRepairer::start`] and both ended with the [`Hub`]: one repairs gaps that the hub has detected, the other one
//! regularly compares all chats that have subscribers. A panic ends the loop in which it happens. Without the first
//! loop, gaps wait for the second one; without the second one, nobody notices the loss of a chat's newest event until
//! the next event.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::domain::chat_events::{ChatEvent, ChatEventKind};
use crate::domain::clock::Clock;
use crate::domain::ids::ChatId;
use crate::error::Result;
use crate::metrics::METRICS;
use crate::realtime::dispatch::hub::Hub;
use crate::realtime::feeds::change_log;
use crate::realtime::feeds::change_log::ChangePage;
use crate::storage::chats;
use crate::storage::pool::Database;

/// The time that a gap has to close by itself; events overtake each other by less.
const REORDER_GRACE: Duration = Duration::from_millis(100);
/// The interval in which chats that have subscribers are compared with the database. The comparison finds commits
/// that were never published, because a node died after the commit or lost its connection to Redis.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(10);
/// The number of chats that one query compares.
const RECONCILE_BATCH: usize = 500;
/// The interval in which the repair loop checks that the hub still exists while there are no gaps.
const LIVENESS_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The reader of missed changes, which delivers them to the subscribers of this node.
#[derive(Clone)]
pub struct GapRepairer {
    database: Database,
    clock: Clock,
    hub: Weak<Hub>,
}

impl GapRepairer {
    /// Starts both loops, which end when the hub is dropped.
    pub fn start(database: Database, clock: Clock, hub: &Arc<Hub>) -> Self {
        let repairer = Self { database, clock, hub: Arc::downgrade(hub) };
        tokio::spawn(repairer.clone().run_repair_loop());
        tokio::spawn(repairer.clone().run_reconcile_loop());
        repairer
    }

    async fn run_repair_loop(self) {
        while let Some(hub) = self.hub.upgrade() {
            if tokio::time::timeout(LIVENESS_CHECK_INTERVAL, hub.wait_for_gap()).await.is_ok() {
                tokio::time::sleep(REORDER_GRACE).await;
                self.repair_gaps(&hub).await;
            }
        }
    }

    async fn run_reconcile_loop(self) {
        loop {
            tokio::time::sleep(RECONCILE_INTERVAL).await;
            let Some(hub) = self.hub.upgrade() else { return };
            if let Err(error) = self.reconcile_all(&hub).await {
                tracing::warn!(%error, "could not compare chats with the database; retrying");
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

    async fn repair_gaps(&self, hub: &Hub) {
        for (chat, version) in hub.take_gaps() {
            let repaired = match version {
                Some(version) => self.backfill_chat(hub, chat, version).await,
                None => Ok(()),
            };
            if let Err(error) = repaired {
                tracing::warn!(%error, %chat, "could not repair a gap; each subscriber reads it separately");
            }
            hub.flush_reorder_buffer(chat);
        }
    }

    async fn reconcile_all(&self, hub: &Hub) -> Result<()> {
        let delivered: HashMap<ChatId, i64> =
            hub.topic_versions().into_iter().filter_map(|(chat, version)| Some((chat, version?))).collect();
        let ids: Vec<ChatId> = delivered.keys().copied().collect();
        for ids in ids.chunks(RECONCILE_BATCH) {
            let chats = chats::by_ids_any_organization(&mut self.database.read().await?, ids).await?;
            // The deletion of these chats was not published: their subscribers find out by reading.
            let deleted = ids.iter().filter(|id| !chats.iter().any(|chat| chat.id == **id));
            deleted.for_each(|chat| hub.mark_lagged_chat(*chat));
            for chat in chats {
                let delivered_version = delivered[&chat.id];
                if chat.version > delivered_version {
                    self.backfill_chat(hub, chat.id, delivered_version).await?;
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
