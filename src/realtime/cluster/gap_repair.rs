//! Fills the gaps in what a node hears: from the database, once for all listeners of a chat.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::domain::chat_events::{ChatEvent, Happening};
use crate::domain::clock::Clock;
use crate::domain::ids::ChatId;
use crate::error::Result;
use crate::metrics::METRICS;
use crate::realtime::dispatch::hub::Hub;
use crate::realtime::feeds::change_log;
use crate::realtime::feeds::change_log::Read;
use crate::storage::chats;
use crate::storage::pool::Store;

/// How long a gap may take to close by itself: events overtake each other by less.
const PATIENCE: Duration = Duration::from_millis(100);
/// How often chats that are listened to are compared with the database. It finds what nobody told: a
/// node that died after a commit, or one that lost the bus.
const SWEEP: Duration = Duration::from_secs(10);
/// Chats compared at once.
const COMPARED: usize = 500;

#[derive(Clone)]
pub struct Mender {
    store: Store,
    clock: Clock,
    hub: Weak<Hub>,
}

impl Mender {
    /// Starts to mend, as long as there is a hub.
    pub fn start(store: Store, clock: Clock, hub: &Arc<Hub>) -> Self {
        let mender = Self { store, clock, hub: Arc::downgrade(hub) };
        let (gaps, sweeps) = (mender.clone(), mender.clone());
        tokio::spawn(async move {
            while let Some(hub) = gaps.hub.upgrade() {
                if tokio::time::timeout(Duration::from_secs(1), hub.gaping()).await.is_ok() {
                    tokio::time::sleep(PATIENCE).await;
                    gaps.mend(&hub).await;
                }
            }
        });
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let Some(hub) = sweeps.hub.upgrade() else { return };
                if let Err(error) = sweeps.sweep(&hub).await {
                    tracing::warn!(%error, "chats could not be compared with the database; trying again");
                }
            }
        });
        mender
    }

    /// Compares now: for a node that missed it knows not what.
    pub async fn level(&self) -> Result<()> {
        let Some(hub) = self.hub.upgrade() else { return Ok(()) };
        hub.overflow_people();
        self.sweep(&hub).await
    }

    async fn mend(&self, hub: &Hub) {
        for (chat, version) in hub.gaps() {
            let filled = match version {
                Some(version) => self.fill(hub, chat, version).await,
                None => Ok(()),
            };
            if let Err(error) = filled {
                tracing::warn!(%error, "a gap could not be read at once; each who listens tries by itself");
            }
            hub.release(chat);
        }
    }

    async fn sweep(&self, hub: &Hub) -> Result<()> {
        let told: HashMap<ChatId, i64> =
            hub.topics().into_iter().filter_map(|(chat, version)| Some((chat, version?))).collect();
        let ids: Vec<ChatId> = told.keys().copied().collect();
        for ids in ids.chunks(COMPARED) {
            let chats = chats::of_all(&mut self.store.read().await?, ids).await?;
            // Nobody told that these are no more: their listeners find out.
            let gone = ids.iter().filter(|id| !chats.iter().any(|chat| chat.id == **id));
            gone.for_each(|chat| hub.overflow_chat(*chat));
            for chat in chats {
                let told = told[&chat.id];
                if chat.version > told {
                    self.fill(hub, chat.id, told).await?;
                }
            }
        }
        Ok(())
    }

    /// Tells all of a chat what changed in it since a version.
    async fn fill(&self, hub: &Hub, chat: ChatId, mut version: i64) -> Result<()> {
        METRICS.gaps.inc();
        loop {
            let mut conn = self.store.read().await?;
            let read = conn.snapshot(async move |conn| {
                let chat = chats::of_all(conn, &[chat]).await?.pop();
                match chat {
                    Some(chat) => change_log::read(conn, Arc::new(chat), version).await.map(Some),
                    None => Ok(None),
                }
            });
            let Some(Read { chat, stretch, level }) = read.await? else { return Ok(()) };
            version = stretch.end;
            let (organization, at) = (chat.organization.clone(), self.clock.now());
            hub.deliver(ChatEvent::new(organization, chat.id, at, Happening::Changed(stretch)));
            if level {
                return Ok(());
            }
        }
    }
}
