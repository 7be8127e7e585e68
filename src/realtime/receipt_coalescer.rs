//! Publishing of members' read positions and settings.
//!
//! They take no version of the chat, and they change often: a user who scrolls marks messages as read all the time. So
//! changes are collected for a moment, and then only the newest state of each member is published.
//!
//! Other nodes receive hints, which say whose rows changed. Each node with subscribers reads the rows itself, so a hint
//! that arrives late or twice costs a read and delivers no older state.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::domain::chat_events::{
    ChatEvent, ChatEventKind, UnversionedChange, UnversionedMemberUpdate, UnversionedMemberUpdates,
};
use crate::domain::clock::Clock;
use crate::domain::ids::{ChatId, MemberId, UserId};
use crate::domain::members::Member;
use crate::domain::messages::Message;
use crate::error::Result;
use crate::realtime::cluster::message::{ClusterMessage, MemberHint, MemberHints};
use crate::realtime::cluster::publisher::EventPublisher;
use crate::realtime::feeds::catch_up::REREAD_MARGIN;
use crate::realtime::feeds::change_log;
use crate::storage::pool::Database;
use crate::storage::{chats, members};
use crate::tasks::{Tick, TickLoop, Wait, warn_of_failure};

/// The time for which changes are collected.
const COALESCE_WINDOW: Duration = Duration::from_millis(100);
/// The number of members that one hint to other nodes names.
const MAX_HINT_MEMBERS: usize = 500;

/// The members whose changes wait to be published.
#[derive(Debug, Clone, Default)]
pub struct ReceiptCoalescer(Arc<PendingReceipts>);

#[derive(Debug, Default)]
struct PendingReceipts {
    /// The changed members. The lock is held for single operations on the map only, and no other lock is taken
    /// meanwhile.
    members_by_chat: Mutex<HashMap<ChatId, HashMap<UserId, PendingReceipt>>>,
    /// Wakes the publishing loop when there is a change, and when the coalescer is dropped.
    wake: Arc<Notify>,
}

/// A change of one member.
#[derive(Debug, Clone, Copy, Default)]
struct PendingReceipt {
    change: UnversionedChange,
    /// The other nodes do not know of the change yet.
    is_local: bool,
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
    /// In chats of more than `max_receipt_members` members, members see only their own changes. The loop ends when the
    /// last clone of the coalescer is dropped. After a panic in the loop, clients see read positions only when they
    /// query them.
    pub fn start(database: Database, publisher: EventPublisher, clock: Clock, max_receipt_members: usize) -> Self {
        let coalescer = Self::default();
        let publisher = ReceiptPublisher { database, publisher, clock, max_receipt_members };
        tokio::spawn(publisher.run(TickLoop::new(&coalescer.0, coalescer.0.wake.clone())));
        coalescer
    }

    /// Records that the read positions or the settings of a member were changed on this node.
    pub fn record(&self, member: MemberId, change: UnversionedChange) {
        self.0.record(member, PendingReceipt { change, is_local: true });
    }

    /// Records that members may have changed in a way that the other nodes know of.
    pub fn record_remote(&self, hints: MemberHints) {
        let MemberHints { chat, members } = hints;
        for MemberHint { user, change } in members {
            self.0.record(MemberId { chat, user }, PendingReceipt { change, is_local: false });
        }
    }
}

impl PendingReceipts {
    fn record(&self, member: MemberId, PendingReceipt { change, is_local }: PendingReceipt) {
        let mut members_by_chat = self.members_by_chat.lock();
        let pending = members_by_chat.entry(member.chat).or_default().entry(member.user).or_default();
        pending.change.visible_to_others |= change.visible_to_others;
        pending.change.read_threads |= change.read_threads;
        pending.is_local |= is_local;
        drop(members_by_chat);
        self.wake.notify_one();
    }

    /// Removes and returns all changes.
    fn drain(&self) -> HashMap<ChatId, HashMap<UserId, PendingReceipt>> {
        std::mem::take(&mut *self.members_by_chat.lock())
    }
}

/// Wakes the publishing loop, so that it ends.
impl Drop for PendingReceipts {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

impl ReceiptPublisher {
    async fn run(self, ticks: TickLoop<PendingReceipts>) {
        while let Some(Tick { owner: pending, .. }) = ticks.next(Wait::UntilWoken).await {
            tokio::time::sleep(COALESCE_WINDOW).await;
            let mut changed = pending.drain();
            self.send_hints(&changed);
            changed.retain(|chat, _| self.publisher.has_local_subscribers(*chat));
            if let Err(error) = self.publish(&changed).await {
                warn_of_failure!(error, chats = changed.len(), "could not publish read positions; retrying");
                for (chat, users) in changed {
                    for (user, receipt) in users {
                        pending.record(MemberId { chat, user }, PendingReceipt { is_local: false, ..receipt });
                    }
                }
            }
        }
    }

    /// Informs the other nodes of the changes made on this node.
    fn send_hints(&self, changed: &HashMap<ChatId, HashMap<UserId, PendingReceipt>>) {
        if !self.publisher.is_clustered() {
            return;
        }
        for (chat, users) in changed {
            let local = users.iter().filter(|(_, receipt)| receipt.is_local);
            let hints: Vec<MemberHint> =
                local.map(|(user, receipt)| MemberHint { user: user.clone(), change: receipt.change }).collect();
            for members in hints.chunks(MAX_HINT_MEMBERS) {
                let hints = MemberHints { chat: *chat, members: members.to_vec() };
                self.publisher.send_to_peers(ClusterMessage::MembersChanged(hints));
            }
        }
    }

    /// Reads the newest state of these members and publishes it to the subscribers of this node.
    async fn publish(&self, changed: &HashMap<ChatId, HashMap<UserId, PendingReceipt>>) -> Result<()> {
        if changed.is_empty() {
            return Ok(());
        }
        let change_of = |id: &MemberId| changed.get(&id.chat)?.get(&id.user).map(|receipt| receipt.change);
        let has_read_threads = |id: &MemberId| change_of(id).is_some_and(|change| change.read_threads);
        let member_id = |(chat, user): (&ChatId, &UserId)| MemberId { chat: *chat, user: user.clone() };
        let member_ids: Vec<MemberId> = changed
            .iter()
            .flat_map(|(chat, users)| users.keys().map(move |user| (chat, user)))
            .map(member_id)
            .collect();
        let mut chat_ids: Vec<ChatId> = changed.keys().copied().collect();
        chat_ids.sort();
        let mut conn = self.database.read().await?;
        let (chats, members, mut read_threads) = conn
            .snapshot(async |conn| {
                let chats = chats::by_ids_any_organization(conn, &chat_ids).await?;
                let members = members::by_ids(conn, &member_ids).await?;
                let readers: Vec<&Member> = members.iter().filter(|member| has_read_threads(&member.id())).collect();
                let changed_at = readers.iter().filter_map(|member| member.private_state_updated_at).min();
                let read_threads = match changed_at {
                    Some(at) => {
                        let readers: Vec<MemberId> = readers.iter().map(|member| member.id()).collect();
                        change_log::threads_read_since(conn, &readers, at - REREAD_MARGIN).await?
                    }
                    None => Vec::new(),
                };
                Ok((chats, members, read_threads))
            })
            .await?;
        drop(conn);
        let mut members_by_chat: HashMap<ChatId, Vec<Member>> = HashMap::new();
        for member in members.into_iter().filter(Member::is_active) {
            members_by_chat.entry(member.chat).or_default().push(member);
        }
        for chat in chats {
            let shows_receipts = chat.has_receipts(self.max_receipt_members);
            let is_visible = |id: &MemberId| change_of(id).is_some_and(|change| change.visible_to_others);
            let update = |member: &Arc<Member>, visible_to_others, read_threads| UnversionedMemberUpdate {
                member: member.clone(),
                visible_to_others,
                read_threads,
            };
            let (mut private, mut visible) = (Vec::new(), Vec::new());
            for member in members_by_chat.remove(&chat.id).unwrap_or_default() {
                let is_own = |(user, root): &mut (UserId, Message)| *user == member.user && root.id.chat == chat.id;
                let own_threads: Vec<Arc<Message>> =
                    read_threads.extract_if(.., is_own).map(|(_, root)| Arc::new(root)).collect();
                let (is_visible, member) = (shows_receipts && is_visible(&member.id()), Arc::new(member));
                if is_visible {
                    visible.push(update(&member, true, Vec::new()));
                }
                if !is_visible || !own_threads.is_empty() {
                    private.push(update(&member, false, own_threads));
                }
            }
            // A rendering that subscribers share has no private updates, so these are an event of their own.
            for members in [private, visible].into_iter().filter(|members| !members.is_empty()) {
                let updates = UnversionedMemberUpdates { members, as_of_version: chat.version };
                let kind = ChatEventKind::MembersUpdated(updates);
                self.publisher.publish_locally(ChatEvent::new(
                    chat.organization.clone(),
                    chat.id,
                    self.clock.now(),
                    kind,
                ));
            }
        }
        Ok(())
    }
}
