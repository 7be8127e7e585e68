//! Publishing of members' read positions and settings.
//!
//! They take no version of the chat, and they change often: a user who scrolls marks messages as read all the time. So
//! changes are collected for a moment, and then only the newest state of each member is published.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::domain::chat_events::{ChatEvent, ChatEventKind, UnversionedMemberUpdate, UnversionedMemberUpdates};
use crate::domain::clock::Clock;
use crate::domain::ids::{ChatId, MemberId, UserId};
use crate::domain::members::Member;
use crate::error::Result;
use crate::realtime::cluster::publisher::EventPublisher;
use crate::storage::pool::Database;
use crate::storage::{chats, members};

/// The time for which changes are collected.
const COALESCE_WINDOW: Duration = Duration::from_millis(100);
/// The interval in which an idle publishing loop checks that the coalescer still exists.
const LIVENESS_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The members whose changes wait to be published.
#[derive(Debug, Clone, Default)]
pub struct ReceiptCoalescer(Arc<PendingReceipts>);

#[derive(Debug, Default)]
struct PendingReceipts {
    /// The members, each with whether others may see the change. The lock is held for single operations on the map
    /// only, and no other lock is taken meanwhile.
    members_by_chat: Mutex<HashMap<ChatId, HashMap<UserId, bool>>>,
    not_empty: Notify,
}

/// The loop that publishes changes.
struct ReceiptPublisher {
    database: Database,
    publisher: EventPublisher,
    clock: Clock,
    /// The number of members above which the members of a chat see only their own changes.
    max_receipt_members: usize,
}

impl ReceiptCoalescer {
    /// Creates a coalescer and starts its publishing loop.
    ///
    /// In chats of more than `max_receipt_members` members, members see only their own changes. The loop ends at most
    /// a second after the last clone of the coalescer was dropped. After a panic in the loop, clients see read
    /// positions only when they query them.
    pub fn start(database: Database, publisher: EventPublisher, clock: Clock, max_receipt_members: usize) -> Self {
        let coalescer = Self::default();
        let publisher = ReceiptPublisher { database, publisher, clock, max_receipt_members };
        tokio::spawn(publisher.run(Arc::downgrade(&coalescer.0)));
        coalescer
    }

    /// Records that the read positions or the settings of a member changed.
    pub fn record(&self, member: MemberId, visible_to_others: bool) {
        self.0.record(member, visible_to_others);
    }
}

impl PendingReceipts {
    fn record(&self, member: MemberId, visible_to_others: bool) {
        let mut members_by_chat = self.members_by_chat.lock();
        *members_by_chat.entry(member.chat).or_default().entry(member.user).or_default() |= visible_to_others;
        drop(members_by_chat);
        self.not_empty.notify_one();
    }

    /// Removes all members, and returns those in chats that `is_wanted` accepts.
    fn drain(&self, is_wanted: impl Fn(ChatId) -> bool) -> HashMap<MemberId, bool> {
        let members_by_chat = std::mem::take(&mut *self.members_by_chat.lock());
        members_by_chat
            .into_iter()
            .filter(|(chat, _)| is_wanted(*chat))
            .flat_map(|(chat, users)| {
                users.into_iter().map(move |(user, visible_to_others)| (MemberId { chat, user }, visible_to_others))
            })
            .collect()
    }
}

impl ReceiptPublisher {
    async fn run(self, pending: Weak<PendingReceipts>) {
        while let Some(pending) = pending.upgrade() {
            if tokio::time::timeout(LIVENESS_CHECK_INTERVAL, pending.not_empty.notified()).await.is_err() {
                continue;
            }
            tokio::time::sleep(COALESCE_WINDOW).await;
            let changed = pending.drain(|chat| self.publisher.has_subscribers(chat));
            if let Err(error) = self.publish(&changed).await {
                tracing::warn!(%error, members = changed.len(), "could not publish read positions; retrying");
                changed.into_iter().for_each(|(member, visible)| pending.record(member, visible));
            }
        }
    }

    /// Reads and publishes the newest state of these members.
    async fn publish(&self, changed: &HashMap<MemberId, bool>) -> Result<()> {
        if changed.is_empty() {
            return Ok(());
        }
        let member_ids: Vec<MemberId> = changed.keys().cloned().collect();
        let mut chat_ids: Vec<ChatId> = member_ids.iter().map(|id| id.chat).collect();
        chat_ids.sort();
        chat_ids.dedup();
        let mut conn = self.database.read().await?;
        let (chats, members) = conn
            .snapshot(async |conn| {
                let chats = chats::by_ids_any_organization(conn, &chat_ids).await?;
                Ok((chats, members::by_ids(conn, &member_ids).await?))
            })
            .await?;
        drop(conn);
        let mut members_by_chat: HashMap<ChatId, Vec<Member>> = HashMap::new();
        for member in members.into_iter().filter(Member::is_active) {
            members_by_chat.entry(member.chat).or_default().push(member);
        }
        for chat in chats {
            let shows_receipts = chat.has_receipts(self.max_receipt_members);
            let members = members_by_chat.remove(&chat.id).unwrap_or_default();
            let to_update = |member: Member| UnversionedMemberUpdate {
                visible_to_others: shows_receipts && changed.get(&member.id()).copied().unwrap_or_default(),
                member: Arc::new(member),
            };
            let updates = UnversionedMemberUpdates {
                members: members.into_iter().map(to_update).collect(),
                as_of_version: chat.version,
            };
            let kind = ChatEventKind::MembersUpdated(updates);
            self.publisher.publish(ChatEvent::new(chat.organization, chat.id, self.clock.now(), kind));
        }
        Ok(())
    }
}
