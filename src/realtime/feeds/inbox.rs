//! The feed of everything that concerns one user across their chats: chats, notifications and calls.
//!
//! An event about a chat, a notification or a call only means that it has to be read. Subjects that changed are
//! pending, each once, with the time of the change; each is read and delivered in its current state when its turn
//! comes, so an event that arrives late or twice delivers no older state. A cursor is a time: that of the first pending
//! subject, or of the last event. A client that resumes, a slow one and one whose queue overflowed therefore all
//! continue by the same read: what changed since the cursor.

mod pending;
mod reads;

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use crate::domain::calls::Call;
use crate::domain::chat_events::{Change, ChatEvent, ChatEventKind, MessageChange};
use crate::domain::chats::{Chat, REMOVALS_RETAINED};
use crate::domain::cursors::InboxCursor;
use crate::domain::ids::{ChatId, NotificationId};
use crate::domain::notifications::Notification;
use crate::error::Result;
use crate::realtime::dispatch::queue::Delivery;
use crate::realtime::dispatch::subscriber::Subscriber;
use crate::realtime::feeds::catch_up::{FeedDeps, REREAD_MARGIN, ResetReason};
use crate::realtime::feeds::inbox::pending::{PendingKey, PendingQueue};
use crate::realtime::feeds::inbox::reads::{
    load_call, load_changes_since, load_chats, load_notifications, load_ringing_calls,
};
use crate::realtime::feeds::member_chats;
use crate::realtime::sessions::{Session, SessionState};
use crate::tasks::spawn_detached;

/// The number of pending subjects of one kind that are read together.
const LOAD_BATCH: usize = 50;

/// An event of an inbox feed.
#[derive(Debug, Clone)]
pub struct InboxEvent {
    pub cursor: InboxCursor,
    pub kind: InboxEventKind,
}

/// The kinds of an inbox feed's events.
#[derive(Debug, Clone)]
pub enum InboxEventKind {
    /// A chat in which the user is a member, in its current state.
    Chat(Arc<Chat>),
    /// The user is no longer a member of the chat, or it was deleted.
    ChatRemoved(ChatId),
    Notification(Notification),
    /// A call that rings for the user or in which they take or took part.
    Call(Arc<Call>),
    /// The token of the connection expires at this time.
    SessionExpiring(DateTime<Utc>),
    /// Every change before the feed started is delivered.
    CaughtUp,
    /// The client's copy cannot be brought up to date.
    Reset(ResetReason),
}

impl InboxEventKind {
    /// Returns the chat as whose member the user receives the event.
    pub fn authorizing_chat(&self) -> Option<ChatId> {
        match self {
            Self::Chat(chat) => Some(chat.id),
            Self::Call(call) => Some(call.id.chat),
            Self::ChatRemoved(_)
            | Self::Notification(_)
            | Self::SessionExpiring(_)
            | Self::CaughtUp
            | Self::Reset(_) => None,
        }
    }
}

/// The session of the connection that the feed belongs to.
struct SessionWatch {
    session: Arc<Session>,
    state: watch::Receiver<SessionState>,
    /// The expiry that the client was warned of.
    warned_expiry: Option<DateTime<Utc>>,
}

/// The inbox feed of one user.
pub struct InboxFeed {
    /// The viewer is that of the session's newest token.
    deps: FeedDeps,
    session_watch: Option<SessionWatch>,
    subscriber: Subscriber,
    /// Changes up to this time, less [`REREAD_MARGIN`], are delivered or pending.
    as_of: DateTime<Utc>,
    pending: PendingQueue,
    /// The events of pending subjects that were read and have not changed since.
    ///
    /// An event is `None` if the user no longer has its subject.
    loaded: HashMap<PendingKey, Option<InboxEventKind>>,
    /// The client waits for [`InboxEventKind::CaughtUp`], which follows the changes up to this time.
    announce_caught_up_at: Option<DateTime<Utc>>,
    pending_reset: Option<ResetReason>,
    state: InboxFeedState,
}

enum InboxFeedState {
    /// The feed starts now, or from a cursor as the client sent it.
    Starting(Option<String>),
    Live,
    Ended,
}

impl InboxFeed {
    /// Creates the feed of a viewer who may view chats. The subscriber must follow the viewer already.
    pub fn new(deps: FeedDeps, session: Option<Arc<Session>>, subscriber: Subscriber, after: Option<String>) -> Self {
        let session_watch =
            session.map(|session| SessionWatch { state: session.state(), session, warned_expiry: None });
        Self {
            as_of: deps.limits.clock.now(),
            deps,
            session_watch,
            subscriber,
            pending: PendingQueue::default(),
            loaded: HashMap::new(),
            announce_caught_up_at: None,
            pending_reset: None,
            state: InboxFeedState::Starting(after),
        }
    }

    /// Returns the next event. An error is the last item; after it, the feed returns `None`.
    ///
    /// # Errors
    ///
    /// The feed fails with [`Error::Forbidden`](crate::error::Error::Forbidden) if a renewed token lacks the permission
    /// to view chats, and with the database's errors.
    ///
    /// # Cancel safety
    ///
    /// Not cancel-safe: a dropped call may lose an event.
    pub async fn recv(&mut self) -> Option<Result<InboxEvent>> {
        let started = match std::mem::replace(&mut self.state, InboxFeedState::Live) {
            InboxFeedState::Starting(after) => self.start(after).await,
            InboxFeedState::Live => Ok(()),
            InboxFeedState::Ended => {
                self.state = InboxFeedState::Ended;
                return None;
            }
        };
        let event = match started {
            Ok(()) => self.next_event().await,
            Err(error) => Err(error),
        };
        if event.is_err() {
            self.state = InboxFeedState::Ended;
        }
        Some(event.map(|kind| InboxEvent { cursor: self.cursor(), kind }))
    }

    async fn start(&mut self, after: Option<String>) -> Result<()> {
        let now = self.as_of;
        let Some(after) = after else {
            self.announce_caught_up_at = Some(now);
            self.subscribe_chats().await?;
            return self.push_ringing_calls().await;
        };
        match InboxCursor::decode(&after, self.deps.epoch, self.deps.viewer.organization(), self.deps.viewer.id()) {
            Some(cursor) if cursor.as_of < now - REMOVALS_RETAINED => {
                self.pending_reset = Some(ResetReason::TooFarBehind)
            }
            Some(cursor) if cursor.as_of <= now + REREAD_MARGIN => {
                self.as_of = cursor.as_of;
                self.catch_up().await?;
                // Everything that was read belongs to the time before, also what has a later time by a former clock.
                self.announce_caught_up_at = Some(self.as_of).filter(|_| self.pending_reset.is_none());
                return Ok(());
            }
            _ => self.pending_reset = Some(ResetReason::CursorInvalid),
        }
        self.subscribe_chats().await?;
        self.push_ringing_calls().await
    }

    async fn next_event(&mut self) -> Result<InboxEventKind> {
        loop {
            // Process all deliveries first, so that a chat is not delivered in a state that is known to be old.
            while let Some(delivery) = self.subscriber.try_recv() {
                self.on_delivery(delivery).await?;
            }
            if let Some(reason) = self.pending_reset.take() {
                return Ok(InboxEventKind::Reset(reason));
            }
            let first = self.pending.first();
            if self
                .announce_caught_up_at
                .is_some_and(|announce_at| first.is_none_or(|(changed_at, _)| changed_at > announce_at))
            {
                self.announce_caught_up_at = None;
                return Ok(InboxEventKind::CaughtUp);
            }
            if let Some(event) = self.session_event() {
                return Ok(event);
            }
            match first {
                None => self.wait_for_delivery().await?,
                Some((_, key)) if !self.loaded.contains_key(&key) => self.load_pending(key).await?,
                Some((_, key)) => {
                    if let Some(event) = self.take_pending(key) {
                        return Ok(event);
                    }
                }
            }
        }
    }

    /// Removes a pending subject and returns its event, if there is one.
    fn take_pending(&mut self, key: PendingKey) -> Option<InboxEventKind> {
        let removed = self.pending.remove(key)?;
        match (self.loaded.remove(&key).flatten(), key) {
            (Some(event), _) => Some(event),
            (None, PendingKey::Chat(chat)) if removed => {
                self.subscriber.unsubscribe_chat(chat);
                Some(InboxEventKind::ChatRemoved(chat))
            }
            // The event of a chat's removal is on its way.
            (None, _) => None,
        }
    }

    /// Returns the event about the session's token, if there is one.
    fn session_event(&mut self) -> Option<InboxEventKind> {
        let SessionWatch { session, state, warned_expiry } = self.session_watch.as_mut()?;
        let state = *state.borrow_and_update();
        let previous = std::mem::replace(&mut self.deps.viewer, session.viewer());
        if previous.permissions != self.deps.viewer.permissions {
            return Some(InboxEventKind::Reset(ResetReason::AccessChanged));
        }
        match state {
            SessionState::Expiring(expires_at) if *warned_expiry != Some(expires_at) => {
                *warned_expiry = Some(expires_at);
                Some(InboxEventKind::SessionExpiring(expires_at))
            }
            _ => None,
        }
    }

    /// Waits for a delivery or a change of the session. Both futures are cancel-safe.
    async fn wait_for_delivery(&mut self) -> Result<()> {
        let session_changed = async {
            match &mut self.session_watch {
                // The feed holds the session, so the channel cannot be closed.
                Some(session_watch) => drop(session_watch.state.changed().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            delivery = self.subscriber.recv() => self.on_delivery(delivery).await,
            () = session_changed => Ok(()),
        }
    }

    async fn on_delivery(&mut self, delivery: Delivery) -> Result<()> {
        let Delivery::Event(shared) = delivery else {
            self.loaded.clear();
            return self.catch_up().await;
        };
        let event = &shared.event;
        self.as_of = self.as_of.max(event.published_at);
        match &event.kind {
            ChatEventKind::LogChanges(slice) => self.on_changes(event, &slice.changes),
            ChatEventKind::MembersUpdated(updates) => {
                if updates.members.iter().any(|update| update.member.user == *self.deps.viewer.id()) {
                    self.push_chat(event, false);
                }
            }
            ChatEventKind::Deleted { .. } => self.push_chat(event, true),
            ChatEventKind::CallChanged(hint) => self.push(PendingKey::Call(hint.call), event.published_at, false),
            ChatEventKind::NotificationsChanged(batch) if batch.notifications.is_empty() => {
                return self.catch_up().await;
            }
            ChatEventKind::NotificationsChanged(batch) => {
                let viewer = self.deps.viewer.clone();
                for notification in batch.notifications.iter().filter(|notification| notification.user == *viewer.id())
                {
                    self.push(PendingKey::Notification(notification.id), event.published_at, false);
                }
            }
        }
        if self.pending.len() > self.deps.limits.max_changes { self.catch_up().await } else { Ok(()) }
    }

    fn on_changes(&mut self, event: &ChatEvent, changes: &[Change]) {
        let own_membership = changes.iter().rev().find_map(|change| match change {
            Change::Member(member) if member.user == *self.deps.viewer.id() => Some(member.is_active()),
            _ => None,
        });
        match own_membership {
            Some(true) => {
                self.subscriber.subscribe_chat(event.chat);
                self.push_chat(event, false);
            }
            Some(false) => self.push_chat(event, true),
            None if changes.iter().any(affects_chat_list) => self.push_chat(event, false),
            None => {}
        }
    }

    /// Marks the chat of an event as pending.
    fn push_chat(&mut self, event: &ChatEvent, removed: bool) {
        self.push(PendingKey::Chat(event.chat), event.published_at, removed);
    }

    /// Marks a subject as pending; what was read of it before is out of date.
    fn push(&mut self, key: PendingKey, changed_at: DateTime<Utc>, removed: bool) {
        self.loaded.remove(&key);
        self.pending.push(key, changed_at, removed);
    }

    /// Subscribes to all chats in which the user is a member.
    async fn subscribe_chats(&mut self) -> Result<()> {
        member_chats::subscribe_all(&self.deps, &mut self.subscriber).await.map(drop)
    }

    /// Reads what changed since the cursor, and resets the client if that is too much.
    async fn catch_up(&mut self) -> Result<()> {
        self.subscribe_chats().await?;
        let now = self.deps.limits.clock.now();
        let since = self.cursor().as_of - REREAD_MARGIN;
        let changes = spawn_detached(load_changes_since(self.deps.clone(), since)).await?;
        let max_changes = self.deps.limits.max_changes;
        let is_too_much = changes.len() > max_changes;
        if !is_too_much {
            // In the order of the changes, so that a client that is disconnected again can resume.
            let not_future = |changed_at: DateTime<Utc>| changed_at.min(now);
            for (chat, changed_at) in changes.chats {
                self.push(PendingKey::Chat(chat), not_future(changed_at), false);
            }
            for (chat, changed_at) in changes.removed_chats {
                self.push(PendingKey::Chat(chat), not_future(changed_at), true);
            }
            for notification in changes.notifications {
                let changed_at = notification.read_at.unwrap_or(notification.created_at);
                let key = PendingKey::Notification(notification.id);
                self.push(key, not_future(changed_at), false);
                self.loaded.insert(key, Some(InboxEventKind::Notification(notification)));
            }
            for (call, changed_at) in changes.calls {
                self.push(PendingKey::Call(call), not_future(changed_at), false);
            }
        }
        self.as_of = now;
        if is_too_much || self.pending.len() > max_changes {
            self.pending.clear();
            self.loaded.clear();
            self.announce_caught_up_at = None;
            self.pending_reset = Some(ResetReason::TooFarBehind);
            return self.push_ringing_calls().await;
        }
        Ok(())
    }

    /// Marks the calls that ring for the user as pending; a client that starts shows these at once.
    async fn push_ringing_calls(&mut self) -> Result<()> {
        for (call, changed_at) in spawn_detached(load_ringing_calls(self.deps.clone())).await? {
            self.push(PendingKey::Call(call), changed_at.min(self.as_of), false);
        }
        Ok(())
    }

    /// Reads the subject that is next, together with further ones of its kind.
    async fn load_pending(&mut self, next: PendingKey) -> Result<()> {
        // The chat may be one that the user has just joined.
        self.subscriber.wait_until_active().await;
        match next {
            PendingKey::Chat(_) => {
                let ids: Vec<ChatId> = self.next_unloaded(|key| match key {
                    PendingKey::Chat(chat) => Some(chat),
                    _ => None,
                });
                let mut chats = spawn_detached(load_chats(self.deps.clone(), ids.clone())).await?;
                let event = |id| (PendingKey::Chat(id), chats.remove(&id).map(InboxEventKind::Chat));
                self.loaded.extend(ids.into_iter().map(event));
            }
            PendingKey::Notification(_) => {
                let ids: Vec<NotificationId> = self.next_unloaded(|key| match key {
                    PendingKey::Notification(notification) => Some(notification),
                    _ => None,
                });
                let found = spawn_detached(load_notifications(self.deps.clone(), ids.clone())).await?;
                // A notification that does not exist any more was withdrawn.
                self.loaded.extend(ids.into_iter().map(|id| (PendingKey::Notification(id), None)));
                self.loaded.extend(found.into_iter().map(|notification| {
                    (PendingKey::Notification(notification.id), Some(InboxEventKind::Notification(notification)))
                }));
            }
            PendingKey::Call(id) => {
                let call = spawn_detached(load_call(self.deps.clone(), id)).await?;
                self.loaded.insert(next, call.map(|call| InboxEventKind::Call(Arc::new(call))));
            }
        }
        Ok(())
    }

    /// Returns the next pending subjects of one kind that were not read yet, at most [`LOAD_BATCH`].
    fn next_unloaded<T>(&self, of_kind: impl Fn(PendingKey) -> Option<T>) -> Vec<T> {
        self.pending.keys().filter(|key| !self.loaded.contains_key(key)).filter_map(of_kind).take(LOAD_BATCH).collect()
    }

    fn cursor(&self) -> InboxCursor {
        let as_of = self.pending.first().map_or(self.as_of, |(changed_at, _)| changed_at.min(self.as_of));
        let (organization, user) = (self.deps.viewer.organization().clone(), self.deps.viewer.id().clone());
        InboxCursor { epoch: self.deps.epoch, organization, user, as_of }
    }
}

/// Returns whether a change shows in a list of chats, unlike one that only a thread or a message shows.
fn affects_chat_list(change: &Change) -> bool {
    use MessageChange::{Added, Deleted, Edited, Synced};
    match change {
        Change::Chat(_) | Change::Member(_) => true,
        Change::Message(message, change) => message.in_timeline && matches!(change, Added | Edited | Deleted | Synced),
    }
}
