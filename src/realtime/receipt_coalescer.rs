//! Telling of read positions, and of what members set for themselves.
//!
//! They take no version of the chat, and move often: a person who scrolls marks as read all the time.
//! So what moved is gathered for a moment, and then each member's newest state is told once.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::domain::chat_events::{ChatEvent, ChatEventKind, UnversionedMemberUpdate, UnversionedMemberUpdates};
use crate::domain::clock::Clock;
use crate::domain::ids::{ChatId, MemberId, UserId};
use crate::domain::members::Member;
use crate::error::Result;
use crate::realtime::cluster::publisher::EventPublisher;
use crate::storage::pool::Database;
use crate::storage::{chats, members};

/// How long what moved is gathered.
const COALESCE_WINDOW: Duration = Duration::from_millis(100);

/// Who moved and is yet to be told of.
#[derive(Debug, Clone, Default)]
pub struct ReceiptCoalescer(Arc<PendingReceipts>);

#[derive(Debug, Default)]
struct PendingReceipts {
    /// Each with whether others may see what moved.
    members_by_chat: Mutex<HashMap<ChatId, HashMap<UserId, bool>>>,
    not_empty: Notify,
}

impl ReceiptCoalescer {
    /// Starts to tell. In chats of more members than `largest` each is told of their own only.
    pub fn start(store: Database, bus: EventPublisher, clock: Clock, largest: usize) -> Self {
        let receipts = Self::default();
        let gathered = Arc::downgrade(&receipts.0);
        tokio::spawn(async move {
            loop {
                // Gone when nobody can note anything any more.
                let Some(gathering) = gathered.upgrade() else { return };
                if tokio::time::timeout(Duration::from_secs(1), gathering.not_empty.notified()).await.is_err() {
                    continue;
                }
                tokio::time::sleep(COALESCE_WINDOW).await;
                let moved = std::mem::take(&mut *gathering.members_by_chat.lock());
                let moved: HashMap<MemberId, bool> = moved
                    .into_iter()
                    .filter(|(chat, _)| bus.has_subscribers(*chat))
                    .flat_map(|(chat, users)| {
                        users.into_iter().map(move |(user, shown)| (MemberId { chat, user }, shown))
                    })
                    .collect();
                if let Err(error) = publish(&store, &bus, &clock, &moved, largest).await {
                    tracing::warn!(%error, "read positions could not be told of; trying again");
                    moved.into_iter().for_each(|(id, shown)| gathering.record(id, shown));
                }
            }
        });
        receipts
    }

    /// Notes that a member's positions or own settings moved, and whether others may see it.
    pub fn record(&self, id: MemberId, shown: bool) {
        self.0.record(id, shown);
    }
}

impl PendingReceipts {
    fn record(&self, id: MemberId, shown: bool) {
        let mut moved = self.members_by_chat.lock();
        *moved.entry(id.chat).or_default().entry(id.user).or_default() |= shown;
        drop(moved);
        self.not_empty.notify_one();
    }
}

/// Tells of the newest state of these members.
async fn publish(
    store: &Database,
    bus: &EventPublisher,
    clock: &Clock,
    moved: &HashMap<MemberId, bool>,
    largest: usize,
) -> Result<()> {
    if moved.is_empty() {
        return Ok(());
    }
    let ids: Vec<MemberId> = moved.keys().cloned().collect();
    let mut chats: Vec<ChatId> = ids.iter().map(|id| id.chat).collect();
    chats.sort();
    chats.dedup();
    let (chats, rows) = store
        .read()
        .await?
        .snapshot(async |conn| {
            Ok((chats::by_ids_any_organization(conn, &chats).await?, members::by_ids(conn, &ids).await?))
        })
        .await?;
    let mut rows_of: HashMap<ChatId, Vec<Member>> = HashMap::new();
    for row in rows.into_iter().filter(Member::is_active) {
        rows_of.entry(row.chat).or_default().push(row);
    }
    for chat in chats {
        let rows = rows_of.remove(&chat.id).unwrap_or_default().into_iter();
        let members = rows.map(|row| {
            let shown = chat.has_receipts(largest) && moved.get(&row.id()).copied().unwrap_or_default();
            UnversionedMemberUpdate { member: Arc::new(row), visible_to_others: shown }
        });
        let what = ChatEventKind::MembersUpdated(UnversionedMemberUpdates {
            members: members.collect(),
            as_of_version: chat.version,
        });
        bus.publish(ChatEvent::new(chat.organization, chat.id, clock.now(), what));
    }
    Ok(())
}
