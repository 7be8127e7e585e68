//! Fills the gaps in what a node hears: from the database, once for all listeners of a chat.

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

/// How long a gap may take to close by itself: events overtake each other by less.
const REORDER_GRACE: Duration = Duration::from_millis(100);
/// How often chats that are listened to are compared with the database. It finds what nobody told: a
/// node that died after a commit, or one that lost the bus.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(10);
/// Chats compared at once.
const RECONCILE_BATCH: usize = 500;

#[derive(Clone)]
pub struct GapRepairer {
    database: Database,
    clock: Clock,
    hub: Weak<Hub>,
}

impl GapRepairer {
    /// Starts to mend, as long as there is a hub.
    pub fn start(store: Database, clock: Clock, hub: &Arc<Hub>) -> Self {
        let mender = Self { database: store, clock, hub: Arc::downgrade(hub) };
        let (gaps, sweeps) = (mender.clone(), mender.clone());
        tokio::spawn(async move {
            while let Some(hub) = gaps.hub.upgrade() {
                if tokio::time::timeout(Duration::from_secs(1), hub.wait_for_gap()).await.is_ok() {
                    tokio::time::sleep(REORDER_GRACE).await;
                    gaps.repair_gaps(&hub).await;
                }
            }
        });
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(RECONCILE_INTERVAL).await;
                let Some(hub) = sweeps.hub.upgrade() else { return };
                if let Err(error) = sweeps.reconcile_all(&hub).await {
                    tracing::warn!(%error, "chats could not be compared with the database; trying again");
                }
            }
        });
        mender
    }

    /// Compares now: for a node that missed it knows not what.
    pub async fn resync(&self) -> Result<()> {
        let Some(hub) = self.hub.upgrade() else { return Ok(()) };
        hub.mark_lagged_users();
        self.reconcile_all(&hub).await
    }

    async fn repair_gaps(&self, hub: &Hub) {
        for (chat, version) in hub.take_gaps() {
            let filled = match version {
                Some(version) => self.backfill_chat(hub, chat, version).await,
                None => Ok(()),
            };
            if let Err(error) = filled {
                tracing::warn!(%error, "a gap could not be read at once; each who listens tries by itself");
            }
            hub.flush_reorder_buffer(chat);
        }
    }

    async fn reconcile_all(&self, hub: &Hub) -> Result<()> {
        let told: HashMap<ChatId, i64> =
            hub.topic_versions().into_iter().filter_map(|(chat, version)| Some((chat, version?))).collect();
        let ids: Vec<ChatId> = told.keys().copied().collect();
        for ids in ids.chunks(RECONCILE_BATCH) {
            let chats = chats::by_ids_any_organization(&mut self.database.read().await?, ids).await?;
            // Nobody told that these are no more: their listeners find out.
            let gone = ids.iter().filter(|id| !chats.iter().any(|chat| chat.id == **id));
            gone.for_each(|chat| hub.mark_lagged_chat(*chat));
            for chat in chats {
                let told = told[&chat.id];
                if chat.version > told {
                    self.backfill_chat(hub, chat.id, told).await?;
                }
            }
        }
        Ok(())
    }

    /// Tells all of a chat what changed in it since a version.
    async fn backfill_chat(&self, hub: &Hub, chat: ChatId, mut version: i64) -> Result<()> {
        METRICS.gap_repairs.inc();
        loop {
            let mut conn = self.database.read().await?;
            let read = conn.snapshot(async move |conn| {
                let chat = chats::by_ids_any_organization(conn, &[chat]).await?.pop();
                match chat {
                    Some(chat) => change_log::read_changes(conn, Arc::new(chat), version).await.map(Some),
                    None => Ok(None),
                }
            });
            let Some(ChangePage { chat, slice: stretch, is_last: level }) = read.await? else { return Ok(()) };
            version = stretch.to_version;
            let (organization, at) = (chat.organization.clone(), self.clock.now());
            hub.deliver(ChatEvent::new(organization, chat.id, at, ChatEventKind::LogChanges(stretch)));
            if level {
                return Ok(());
            }
        }
    }
}
