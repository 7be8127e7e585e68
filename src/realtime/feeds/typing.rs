//! Listening to who types in one chat.

use std::sync::Arc;

use tokio::sync::watch;

use crate::domain::chat_events::{Change, ChatEvent, Happening};
use crate::domain::ids::ChatId;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::realtime::dispatch::queue::Delivery;
use crate::realtime::dispatch::subscriber::Listener;
use crate::realtime::feeds::change_log;
use crate::realtime::typing::{List, Typing};
use crate::storage::pool::Store;
use crate::tasks::aside;

/// Who is typing in one chat: the list now, then the newest at each change. One who is slow gets no
/// list between.
pub struct TypingFeed {
    store: Store,
    viewer: Arc<Viewer>,
    listener: Listener,
    chat: ChatId,
    list: watch::Receiver<List>,
    typing: Typing,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Fresh,
    Live,
    Ended,
}

impl TypingFeed {
    pub(crate) fn new(
        store: Store,
        viewer: Arc<Viewer>,
        listener: Listener,
        chat: ChatId,
        list: watch::Receiver<List>,
        typing: Typing,
    ) -> Self {
        Self { store, viewer, listener, chat, list, typing, phase: Phase::Fresh }
    }

    /// The next list; an error ends the feed, and then there is none.
    pub async fn next(&mut self) -> Option<Result<List>> {
        match self.phase {
            Phase::Fresh => {
                self.phase = Phase::Live;
                return Some(Ok(self.list.borrow_and_update().clone()));
            }
            Phase::Live => {}
            Phase::Ended => return None,
        }
        let next = self.live().await;
        if next.is_err() {
            self.phase = Phase::Ended;
        }
        Some(next)
    }

    async fn live(&mut self) -> Result<List> {
        loop {
            tokio::select! {
                biased;
                delivery = self.listener.next() => match delivery {
                    Delivery::Event(heard) => self.still_in(&heard.event)?,
                    Delivery::Overflow => {
                        let (store, viewer, chat) = (self.store.clone(), self.viewer.clone(), self.chat);
                        aside(async move { change_log::authorised(&mut store.read().await?, &viewer, chat).await }).await?;
                    }
                },
                changed = self.list.changed() => {
                    changed.map_err(|_| Error::unavailable("the server is stopping"))?;
                    return Ok(self.list.borrow_and_update().clone());
                }
            }
        }
    }

    fn still_in(&self, event: &ChatEvent) -> Result<()> {
        let is_left = |change: &Change| match change {
            Change::Member(member) => member.user == *self.viewer.id() && !member.is_active(),
            _ => false,
        };
        match &event.what {
            _ if event.chat != self.chat => Ok(()),
            Happening::Deleted => Err(Error::Forbidden("the chat was deleted".into())),
            Happening::Changed(stretch) if stretch.changes.iter().any(is_left) => {
                Err(Error::Forbidden("you are no longer a member of this chat".into()))
            }
            Happening::Changed(_) | Happening::Moved(_) | Happening::Notified(_) | Happening::Called(_) => Ok(()),
        }
    }
}

impl Drop for TypingFeed {
    fn drop(&mut self) {
        let mut rooms = self.typing.0.lock();
        // This feed's own place is counted still.
        if rooms.get(&self.chat).is_some_and(|room| room.is_idle(1)) {
            rooms.remove(&self.chat);
        }
    }
}
