//! The queue of the subjects that an inbox feed has yet to deliver.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use crate::domain::ids::{CallId, ChatId, NotificationId};

/// The subject of a pending item. Each subject waits at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum PendingKey {
    Chat(ChatId),
    Notification(NotificationId),
    Call(CallId),
}

/// A subject that changed; its state is read when its turn comes.
#[derive(Debug, Clone, Copy)]
struct PendingItem {
    changed_at: DateTime<Utc>,
    /// The user may have left the chat, or it may be deleted, while the client still lists it.
    removed: bool,
}

/// The pending subjects, in the order of the times at which they changed.
///
/// Invariant: `order` and `items` have the same keys and times.
#[derive(Debug, Default)]
pub(super) struct PendingQueue {
    order: BTreeSet<(DateTime<Utc>, PendingKey)>,
    items: HashMap<PendingKey, PendingItem>,
}

impl PendingQueue {
    /// Adds a subject that changed at a time. A subject that is pending already keeps its time.
    ///
    /// `removed` says that the client may list a chat that the user no longer has.
    pub(super) fn push(&mut self, key: PendingKey, changed_at: DateTime<Utc>, removed: bool) {
        match self.items.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert(PendingItem { changed_at, removed });
                self.order.insert((changed_at, key));
            }
            Entry::Occupied(mut occupied) => occupied.get_mut().removed |= removed,
        }
    }

    /// Returns the subject that is next, with the time at which it changed.
    pub(super) fn first(&self) -> Option<(DateTime<Utc>, PendingKey)> {
        self.order.first().copied()
    }

    /// Removes a subject, and returns whether the client may list it although the user no longer has it.
    pub(super) fn remove(&mut self, key: PendingKey) -> Option<bool> {
        let PendingItem { changed_at, removed } = self.items.remove(&key)?;
        self.order.remove(&(changed_at, key));
        Some(removed)
    }

    /// Returns the pending subjects in their order.
    pub(super) fn keys(&self) -> impl Iterator<Item = PendingKey> {
        self.order.iter().map(|(_, key)| *key)
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn clear(&mut self) {
        self.order.clear();
        self.items.clear();
    }
}
