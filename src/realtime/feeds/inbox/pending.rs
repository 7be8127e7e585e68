//! The queue of what a person is yet to be told.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use crate::domain::ids::{CallId, ChatId, NotificationId};
use crate::domain::notifications::Notification;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum PendingKey {
    Chat(ChatId),
    Notification(NotificationId),
    Call(CallId),
}

/// What is yet to be told, in the order in which it was heard of.
#[derive(Debug, Default)]
pub(super) struct PendingQueue {
    order: BTreeSet<(DateTime<Utc>, PendingKey)>,
    items: HashMap<PendingKey, (DateTime<Utc>, PendingItem)>,
}

#[derive(Debug)]
pub(super) enum PendingItem {
    /// To be looked at.
    Chat {
        /// The client may have it in its list, though the person may be in no more.
        removed: bool,
    },
    Notification(Notification),
    /// To be looked at.
    Call,
}

impl PendingQueue {
    /// What waits already goes on waiting since when it did.
    pub(super) fn push(&mut self, subject: PendingKey, at: DateTime<Utc>, held: PendingItem) {
        match self.items.entry(subject) {
            Entry::Vacant(vacant) => {
                vacant.insert((at, held));
                self.order.insert((at, subject));
            }
            Entry::Occupied(mut occupied) => match (&mut occupied.get_mut().1, held) {
                (PendingItem::Chat { removed: known }, PendingItem::Chat { removed: gone }) => *known |= gone,
                (known, held) => *known = held,
            },
        }
    }

    pub(super) fn first(&self) -> Option<(DateTime<Utc>, PendingKey)> {
        self.order.first().copied()
    }

    pub(super) fn remove(&mut self, subject: PendingKey) -> Option<PendingItem> {
        let (at, held) = self.items.remove(&subject)?;
        self.order.remove(&(at, subject));
        Some(held)
    }

    pub(super) fn chats(&self) -> impl Iterator<Item = ChatId> {
        self.order.iter().filter_map(|(_, subject)| match subject {
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
