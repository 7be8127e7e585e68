//! The queue of what a person is yet to be told.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use crate::domain::ids::{CallId, ChatId, NotificationId};
use crate::domain::notifications::Notification;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Subject {
    Chat(ChatId),
    Notification(NotificationId),
    Call(CallId),
}

/// What is yet to be told, in the order in which it was heard of.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    order: BTreeSet<(DateTime<Utc>, Subject)>,
    held: HashMap<Subject, (DateTime<Utc>, Held)>,
}

#[derive(Debug)]
pub(super) enum Held {
    /// To be looked at.
    Chat {
        /// The client may have it in its list, though the person may be in no more.
        gone: bool,
    },
    Notification(Notification),
    /// To be looked at.
    Call,
}

impl Waiting {
    /// What waits already goes on waiting since when it did.
    pub(super) fn put(&mut self, subject: Subject, at: DateTime<Utc>, held: Held) {
        match self.held.entry(subject) {
            Entry::Vacant(vacant) => {
                vacant.insert((at, held));
                self.order.insert((at, subject));
            }
            Entry::Occupied(mut occupied) => match (&mut occupied.get_mut().1, held) {
                (Held::Chat { gone: known }, Held::Chat { gone }) => *known |= gone,
                (known, held) => *known = held,
            },
        }
    }

    pub(super) fn first(&self) -> Option<(DateTime<Utc>, Subject)> {
        self.order.first().copied()
    }

    pub(super) fn take(&mut self, subject: Subject) -> Option<Held> {
        let (at, held) = self.held.remove(&subject)?;
        self.order.remove(&(at, subject));
        Some(held)
    }

    pub(super) fn chats(&self) -> impl Iterator<Item = ChatId> {
        self.order.iter().filter_map(|(_, subject)| match subject {
            Subject::Chat(chat) => Some(*chat),
            Subject::Notification(_) | Subject::Call(_) => None,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn clear(&mut self) {
        self.order.clear();
        self.held.clear();
    }
}
