//! The feed of the users who are typing in one chat.

use tokio::sync::watch;

use crate::access::MemberAccess;
use crate::domain::chat_events::{Change, ChatEvent, ChatEventKind};
use crate::domain::ids::ChatId;
use crate::error::{Error, Result};
use crate::realtime::dispatch::queue::Delivery;
use crate::realtime::dispatch::subscriber::Subscriber;
use crate::realtime::feeds::catch_up::FeedDeps;
use crate::realtime::typing::{CachedTyping, TypingTracker};
use crate::tasks::spawn_detached;

/// The users who are typing in one chat: the present list, then the new list after each change.
///
/// A slow subscriber receives only the newest list. The feed ends with an error when the viewer's membership or the
/// chat ends.
pub struct TypingFeed {
    deps: FeedDeps,
    subscriber: Subscriber,
    chat: ChatId,
    lists: watch::Receiver<CachedTyping>,
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
    /// Subscribes a member to the users who are typing in a chat.
    ///
    /// The subscriber must follow the viewer and the chat's deletion already.
    pub fn new(deps: FeedDeps, subscriber: Subscriber, chat: ChatId, tracker: TypingTracker) -> Self {
        let lists = tracker.watch_chat(chat);
        Self { deps, subscriber, chat, lists, tracker, state: TypingFeedState::Starting }
    }

    /// Returns the next list. An error is the last item; after it, the feed returns `None`.
    ///
    /// # Errors
    ///
    /// The feed fails with [`Error::Forbidden`] if the viewer is no longer a member or the chat was deleted, with
    /// [`Error::Unavailable`] if the server is stopping, and with the database's errors.
    ///
    /// # Cancel safety
    ///
    /// Not cancel-safe: a dropped call may lose the check of the membership.
    pub async fn recv(&mut self) -> Option<Result<CachedTyping>> {
        match self.state {
            TypingFeedState::Starting => {
                self.state = TypingFeedState::Live;
                return Some(Ok(self.lists.borrow_and_update().clone()));
            }
            TypingFeedState::Live => {}
            TypingFeedState::Ended => return None,
        }
        let list = self.recv_live().await;
        if list.is_err() {
            self.state = TypingFeedState::Ended;
        }
        Some(list)
    }

    async fn recv_live(&mut self) -> Result<CachedTyping> {
        loop {
            // Both futures are cancel-safe. Deliveries come first, so that a former member receives no further list.
            tokio::select! {
                biased;
                delivery = self.subscriber.recv() => match delivery {
                    Delivery::Event(shared) => self.check_event(&shared.event).await?,
                    Delivery::Lagged => self.reload_membership().await?,
                },
                changed = self.lists.changed() => {
                    changed.map_err(|_| Error::unavailable("the server is stopping"))?;
                    return Ok(self.lists.borrow_and_update().clone());
                }
            }
        }
    }

    /// Fails if the viewer's membership or the chat has ended, after an event that says so.
    ///
    /// The event may be older than another membership of the viewer, so the database decides.
    async fn check_event(&self, event: &ChatEvent) -> Result<()> {
        let ends_membership = |change: &Change| match change {
            Change::Member(member) => member.user == *self.deps.viewer.id() && !member.is_active(),
            Change::Chat(_) | Change::Message(..) => false,
        };
        match &event.kind {
            // The subscriber receives the viewer's memberships of all chats.
            _ if event.chat != self.chat => Ok(()),
            // The chat may have been made again meanwhile.
            ChatEventKind::Deleted { .. } => self.reload_membership().await,
            ChatEventKind::LogChanges(slice) if slice.changes.iter().any(ends_membership) => {
                self.reload_membership().await
            }
            ChatEventKind::LogChanges(_)
            | ChatEventKind::MembersUpdated(_)
            | ChatEventKind::NotificationsChanged(_)
            | ChatEventKind::CallChanged(_) => Ok(()),
        }
    }

    /// Fails if the viewer is no longer a member, according to the database.
    async fn reload_membership(&self) -> Result<()> {
        let (FeedDeps { database, limits, viewer, .. }, chat) = (self.deps.clone(), self.chat);
        let read = async move {
            let (_permit, mut conn) = limits.read(&database, &viewer).await?;
            MemberAccess::require(&mut conn, &viewer, chat).await
        };
        spawn_detached(read).await.map(drop)
    }
}

impl Drop for TypingFeed {
    fn drop(&mut self) {
        self.tracker.release_chat(self.chat);
    }
}
