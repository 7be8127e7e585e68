//! The queue of the subjects that an inbox feed has yet to deliver.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use crate::domain::ids::{CallId, ChatId, NotificationId};
use crate::domain::notifications::Notification;

/// The subject of a pending item. Each subject waits at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum PendingKey {
    Chat(ChatId),
    Notification(NotificationId),
    Call(CallId),
}

/// The content of a pending subject, as far as events carry it.
#[derive(Debug)]
pub(super) enum PendingItem {
    /// A chat, which is read when its turn comes.
    Chat {
        /// The user may have left the chat, or it may be deleted, while the client still lists it.
        removed: bool,
    },
    Notification(Notification),
    /// A call, which is read when its turn comes.
    Call,
}

/// The pending subjects, in the order of the times at which they changed.
///
/// Invariant: `order` and `items` have the same keys and times.
#[derive(Debug, Default)]
pub(super) struct PendingQueue {
    order: BTreeSet<(DateTime<Utc>, PendingKey)>,
    items: HashMap<PendingKey, (DateTime<Utc>, PendingItem)>,
}

impl PendingQueue {
    /// Adds a subject that changed at a time. A subject that is pending already keeps its time.
    pub(super) fn push(&mut self, key: PendingKey, changed_at: DateTime<Utc>, item: PendingItem) {
        match self.items.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert((changed_at, item));
                self.order.insert((changed_at, key));
            }
            Entry::Occupied(mut occupied) => match (&mut occupied.get_mut().1, item) {
                (PendingItem::Chat { removed }, PendingItem::Chat { removed: also_removed }) => {
                    *removed |= also_removed;
                }
                (pending, item) => *pending = item,
            },
        }
    }

    /// Returns the subject that is next, with the time at which it changed.
    pub(super) fn first(&self) -> Option<(DateTime<Utc>, PendingKey)> {
        self.order.first().copied()
    }

    /// Removes a subject.
    pub(super) fn remove(&mut self, key: PendingKey) -> Option<PendingItem> {
        let (changed_at, item) = self.items.remove(&key)?;
        self.order.remove(&(changed_at, key));
        Some(item)
    }

    /// Returns the pending chats in their order.
    pub(super) fn chats(&self) -> impl Iterator<Item = ChatId> {
        self.order.iter().filter_map(|(_, key)| match key {
            PendingKey::Chat(chat) => Some(*chat),
            PendingKey::Notification(_) | PendingKey::Call(_) => None,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn clear(&mut self) {
        self.order.clear();
        self.items.clear();
    }
}
