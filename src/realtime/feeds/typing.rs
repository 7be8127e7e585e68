//! Listening to who types in one chat.

use std::sync::Arc;

use tokio::sync::watch;

use crate::domain::chat_events::{Change, ChatEvent, ChatEventKind};
use crate::domain::ids::ChatId;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::realtime::dispatch::queue::Delivery;
use crate::realtime::dispatch::subscriber::Subscriber;
use crate::realtime::feeds::change_log;
use crate::realtime::typing::{TypingTracker, TypingUsers};
use crate::storage::pool::Database;
use crate::tasks::spawn_detached;

/// Who is typing in one chat: the list now, then the newest at each change. One who is slow gets no
/// list between.
pub struct TypingFeed {
    database: Database,
    viewer: Arc<Viewer>,
    subscriber: Subscriber,
    chat: ChatId,
    snapshots: watch::Receiver<TypingUsers>,
    tracker: TypingTracker,
    state: TypingFeedState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TypingFeedState {
    Starting,
    Live,
    Ended,
}

impl TypingFeed {
    pub(crate) fn new(
        store: Database,
        viewer: Arc<Viewer>,
        listener: Subscriber,
        chat: ChatId,
        list: watch::Receiver<TypingUsers>,
        typing: TypingTracker,
    ) -> Self {
        Self {
            database: store,
            viewer,
            subscriber: listener,
            chat,
            snapshots: list,
            tracker: typing,
            state: TypingFeedState::Starting,
        }
    }

    /// The next list; an error ends the feed, and then there is none.
    pub async fn recv(&mut self) -> Option<Result<TypingUsers>> {
        match self.state {
            TypingFeedState::Starting => {
                self.state = TypingFeedState::Live;
                return Some(Ok(self.snapshots.borrow_and_update().clone()));
            }
            TypingFeedState::Live => {}
            TypingFeedState::Ended => return None,
        }
        let next = self.recv_live().await;
        if next.is_err() {
            self.state = TypingFeedState::Ended;
        }
        Some(next)
    }

    async fn recv_live(&mut self) -> Result<TypingUsers> {
        loop {
            tokio::select! {
                biased;
                delivery = self.subscriber.recv() => match delivery {
                    Delivery::Event(heard) => self.check_membership(&heard.event)?,
                    Delivery::Lagged => {
                        let (store, viewer, chat) = (self.database.clone(), self.viewer.clone(), self.chat);
                        spawn_detached(async move { change_log::require_member(&mut store.read().await?, &viewer, chat).await }).await?;
                    }
                },
                changed = self.snapshots.changed() => {
                    changed.map_err(|_| Error::unavailable("the server is stopping"))?;
                    return Ok(self.snapshots.borrow_and_update().clone());
                }
            }
        }
    }

    fn check_membership(&self, event: &ChatEvent) -> Result<()> {
        let is_left = |change: &Change| match change {
            Change::Member(member) => member.user == *self.viewer.id() && !member.is_active(),
            _ => false,
        };
        match &event.kind {
            _ if event.chat != self.chat => Ok(()),
            ChatEventKind::Deleted => Err(Error::Forbidden("the chat was deleted".into())),
            ChatEventKind::LogChanges(stretch) if stretch.changes.iter().any(is_left) => {
                Err(Error::Forbidden("you are no longer a member of this chat".into()))
            }
            ChatEventKind::LogChanges(_)
            | ChatEventKind::MembersUpdated(_)
            | ChatEventKind::NotificationsChanged(_)
            | ChatEventKind::CallChanged(_) => Ok(()),
        }
    }
}

impl Drop for TypingFeed {
    fn drop(&mut self) {
        let mut rooms = self.tracker.0.lock();
        // This feed's own place is counted still.
        if rooms.get(&self.chat).is_some_and(|room| room.is_idle(1)) {
            rooms.remove(&self.chat);
        }
    }
}
