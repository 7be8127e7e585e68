//! All that concerns one person across their chats: the list of chats, and notifications.
//!
//! What is heard of a chat is only that it has to be looked at. Chats that are to be told wait, each
//! once, with the moment since when; told is each as it is when its turn comes. A cursor is a moment: that
//! of what waits longest, or the last that was heard. So a resuming client, a slow one and one whose
//! mailbox overflowed all go on by one read: what changed since.

pub mod pending;

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use crate::domain::calls::Call;
use crate::domain::chat_events::{Change, ChatEvent, ChatEventKind, MessageChange};
use crate::domain::chats::{Chat, REMOVALS_RETAINED};
use crate::domain::cursors::InboxCursor;
use crate::domain::ids::{CallId, ChatId, MemberId};
use crate::domain::members::Member;
use crate::domain::notifications::Notification;
use crate::domain::rights::require_permission;
use crate::domain::users::{Permission, Viewer};
use crate::error::Result;
use crate::realtime::dispatch::queue::Delivery;
use crate::realtime::dispatch::subscriber::Subscriber;
use crate::realtime::feeds::chat::{CLOCK_SKEW_MARGIN, CatchUpLimits, ResetReason};
use crate::realtime::feeds::inbox::pending::{PendingItem, PendingKey, PendingQueue};
use crate::realtime::feeds::member_chats;
use crate::realtime::sessions::{Session, SessionState};
use crate::storage::connection::Conn;
use crate::storage::pool::Database;
use crate::storage::{calls, chat_removals, chats, members, notifications};
use crate::tasks::spawn_detached;

/// Chats that are looked at together.
const LOAD_BATCH: usize = 50;

#[derive(Debug, Clone)]
pub struct InboxEvent {
    pub cursor: InboxCursor,
    pub kind: InboxEventKind,
}

#[derive(Debug, Clone)]
pub enum InboxEventKind {
    /// A chat that the person is in.
    Chat(Arc<Chat>),
    /// The person is no longer in the chat, or it is no more.
    ChatRemoved(ChatId),
    Notification(Notification),
    /// A call that rings for the person, or in which they have or had a part.
    Call(Arc<Call>),
    /// Their token ends at this moment.
    SessionExpiring(DateTime<Utc>),
    /// All that happened before is told.
    CaughtUp,
    /// What the client holds can't be brought up to date.
    Reset(ResetReason),
}

/// What changed for a person since a moment, each with when.
struct ChangesSince {
    chats: Vec<(ChatId, DateTime<Utc>)>,
    removed_chats: Vec<(ChatId, DateTime<Utc>)>,
    notifications: Vec<Notification>,
    calls: Vec<(CallId, DateTime<Utc>)>,
}

impl ChangesSince {
    /// Each list is cut short after one more than the limit.
    async fn load(conn: &mut Conn, viewer: &Viewer, since: DateTime<Utc>, limit: usize) -> Result<Self> {
        let (organization, user, limit) = (viewer.organization(), viewer.id(), limit as i64 + 1);
        let chats = members::chats_changed_since(conn, organization, user, since, limit).await?;
        let mut gone = members::ended_since(conn, organization, user, since, limit).await?;
        gone.extend(chat_removals::removed_since(conn, organization, user, since, limit).await?);
        let notifications = notifications::changed_since(conn, organization, user, since, limit).await?;
        let calls = calls::by_participant(conn, organization, user, Some(since), limit).await?;
        Ok(Self { chats, removed_chats: gone, notifications, calls })
    }

    fn len(&self) -> usize {
        self.chats.len() + self.removed_chats.len() + self.notifications.len() + self.calls.len()
    }
}

/// The connection that a feed is on.
struct SessionWatch {
    session: Arc<Session>,
    state: watch::Receiver<SessionState>,
    /// The end that the client was warned of.
    warned_expiry: Option<DateTime<Utc>>,
}

pub struct InboxFeed {
    database: Database,
    catch_up_limits: CatchUpLimits,
    viewer: Arc<Viewer>,
    session_watch: Option<SessionWatch>,
    subscriber: Subscriber,
    /// What changed up to this moment, but for [`SLACK`], is told or waits.
    as_of: DateTime<Utc>,
    pending: PendingQueue,
    /// Chats that wait, as they were read and have not changed since; none where the person is not in.
    loaded: HashMap<ChatId, Option<Arc<Chat>>>,
    /// The client waits to hear that all of up to this moment is told.
    announce_caught_up_at: Option<DateTime<Utc>>,
    pending_reset: Option<ResetReason>,
    state: InboxFeedState,
}

enum InboxFeedState {
    /// From now on, or from a cursor as the client gave it.
    Starting(Option<String>),
    Live,
    Ended,
}

impl InboxFeed {
    /// A feed for one who may view chats. The listener follows the viewer already.
    pub fn new(
        store: Database,
        catch_ups: CatchUpLimits,
        viewer: Arc<Viewer>,
        session: Option<Arc<Session>>,
        listener: Subscriber,
        after: Option<String>,
    ) -> Self {
        let connected = session.map(|session| SessionWatch { state: session.state(), session, warned_expiry: None });
        let heard_at = catch_ups.clock.now();
        Self {
            database: store,
            catch_up_limits: catch_ups,
            viewer,
            session_watch: connected,
            subscriber: listener,
            as_of: heard_at,
            pending: PendingQueue::default(),
            loaded: HashMap::new(),
            announce_caught_up_at: None,
            pending_reset: None,
            state: InboxFeedState::Starting(after),
        }
    }

    /// The next event; an error ends the feed, and then there is none.
    pub async fn recv(&mut self) -> Option<Result<InboxEvent>> {
        let started = match std::mem::replace(&mut self.state, InboxFeedState::Live) {
            InboxFeedState::Starting(after) => self.start(after).await,
            InboxFeedState::Live => Ok(()),
            InboxFeedState::Ended => {
                self.state = InboxFeedState::Ended;
                return None;
            }
        };
        let news = match started {
            Ok(()) => self.next_event().await,
            Err(error) => Err(error),
        };
        if news.is_err() {
            self.state = InboxFeedState::Ended;
        }
        Some(news.map(|news| InboxEvent { cursor: self.cursor(), kind: news }))
    }

    async fn start(&mut self, after: Option<String>) -> Result<()> {
        let now = self.as_of;
        let Some(after) = after else {
            self.announce_caught_up_at = Some(now);
            self.subscribe_chats().await?;
            return self.load_ringing_calls().await;
        };
        match InboxCursor::decode(&after, self.viewer.organization(), self.viewer.id()) {
            Some(cursor) if cursor.as_of < now - REMOVALS_RETAINED => {
                self.pending_reset = Some(ResetReason::TooFarBehind)
            }
            Some(cursor) if cursor.as_of <= now + CLOCK_SKEW_MARGIN => {
                self.as_of = cursor.as_of;
                self.announce_caught_up_at = Some(now);
                return self.catch_up().await;
            }
            _ => self.pending_reset = Some(ResetReason::CursorInvalid),
        }
        self.subscribe_chats().await?;
        self.load_ringing_calls().await
    }

    async fn next_event(&mut self) -> Result<InboxEventKind> {
        loop {
            // What is told has not changed since it was looked at, as far as anybody here knows.
            while let Some(delivery) = self.subscriber.try_recv() {
                self.on_delivery(delivery).await?;
            }
            if let Some(reason) = self.pending_reset.take() {
                return Ok(InboxEventKind::Reset(reason));
            }
            let first = self.pending.first();
            if self.announce_caught_up_at.is_some_and(|until| first.is_none_or(|(since, _)| since > until)) {
                self.announce_caught_up_at = None;
                return Ok(InboxEventKind::CaughtUp);
            }
            if let Some(news) = self.session_event() {
                return Ok(news);
            }
            match first {
                None => self.wait_for_delivery().await?,
                Some((_, PendingKey::Chat(chat))) if !self.loaded.contains_key(&chat) => {
                    self.load_pending_chats().await?
                }
                Some((_, PendingKey::Call(call))) => {
                    self.pending.remove(PendingKey::Call(call));
                    if let Some(call) = self.load_call(call).await? {
                        return Ok(InboxEventKind::Call(call));
                    }
                }
                Some((_, subject)) => {
                    if let Some(news) = self.take_pending(subject) {
                        return Ok(news);
                    }
                }
            }
        }
    }

    /// What waits has its turn; nothing where there is nothing to tell of it.
    fn take_pending(&mut self, subject: PendingKey) -> Option<InboxEventKind> {
        match (self.pending.remove(subject)?, subject) {
            (PendingItem::Notification(notification), _) => Some(InboxEventKind::Notification(notification)),
            (PendingItem::Chat { removed: gone }, PendingKey::Chat(chat)) => {
                match self.loaded.remove(&chat).flatten() {
                    Some(chat) => Some(InboxEventKind::Chat(chat)),
                    None if gone => {
                        self.subscriber.unsubscribe_chat(chat);
                        Some(InboxEventKind::ChatRemoved(chat))
                    }
                    // That it is gone is on its way.
                    None => None,
                }
            }
            (PendingItem::Chat { .. } | PendingItem::Call, _) => None,
        }
    }

    /// What there is to tell of the person's token.
    fn session_event(&mut self) -> Option<InboxEventKind> {
        let SessionWatch { session, state: standing, warned_expiry: warned } = self.session_watch.as_mut()?;
        let standing = *standing.borrow_and_update();
        let known = std::mem::replace(&mut self.viewer, session.viewer());
        if known.permissions != self.viewer.permissions {
            return Some(InboxEventKind::Reset(ResetReason::AccessChanged));
        }
        match standing {
            SessionState::Expiring(at) if *warned != Some(at) => {
                *warned = Some(at);
                Some(InboxEventKind::SessionExpiring(at))
            }
            _ => None,
        }
    }

    async fn wait_for_delivery(&mut self) -> Result<()> {
        let renewed = async {
            match &mut self.session_watch {
                // The session is held, so there is always one who may say something.
                Some(connected) => drop(connected.state.changed().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            delivery = self.subscriber.recv() => self.on_delivery(delivery).await,
            () = renewed => Ok(()),
        }
    }

    async fn on_delivery(&mut self, delivery: Delivery) -> Result<()> {
        let Delivery::Event(heard) = delivery else {
            self.loaded.clear();
            return self.catch_up().await;
        };
        let event = &heard.event;
        self.as_of = self.as_of.max(event.published_at);
        match &event.kind {
            ChatEventKind::LogChanges(stretch) => self.on_changes(event, &stretch.changes),
            ChatEventKind::MembersUpdated(moved) => {
                if moved.members.iter().any(|moved| moved.member.user == *self.viewer.id()) {
                    self.push_chat(event, false);
                }
            }
            ChatEventKind::Deleted => self.push_chat(event, true),
            ChatEventKind::CallChanged(called) => {
                self.pending.push(PendingKey::Call(called.call), event.published_at, PendingItem::Call)
            }
            ChatEventKind::NotificationsChanged(notified) if notified.notifications.is_empty() => {
                return self.catch_up().await;
            }
            ChatEventKind::NotificationsChanged(notified) => {
                let own = notified.notifications.iter().filter(|notification| notification.user == *self.viewer.id());
                for notification in own {
                    let subject = PendingKey::Notification(notification.id);
                    self.pending.push(subject, event.published_at, PendingItem::Notification(notification.clone()));
                }
            }
        }
        match self.pending.len() > self.catch_up_limits.max_changes {
            true => self.catch_up().await,
            false => Ok(()),
        }
    }

    fn on_changes(&mut self, event: &ChatEvent, changes: &[Change]) {
        let own = changes.iter().rev().find_map(|change| match change {
            Change::Member(member) if member.user == *self.viewer.id() => Some(member.is_active()),
            _ => None,
        });
        match own {
            Some(true) => {
                self.subscriber.subscribe_chat(event.chat);
                self.push_chat(event, false);
            }
            Some(false) => self.push_chat(event, true),
            None if changes.iter().any(affects_chat_list) => self.push_chat(event, false),
            None => {}
        }
    }

    /// The chat is to be looked at.
    fn push_chat(&mut self, event: &ChatEvent, gone: bool) {
        self.loaded.remove(&event.chat);
        self.pending.push(PendingKey::Chat(event.chat), event.published_at, PendingItem::Chat { removed: gone });
    }

    /// Listens to all chats that the person is in.
    async fn subscribe_chats(&mut self) -> Result<()> {
        member_chats::subscribe_all(&self.database, &self.viewer, &mut self.subscriber).await.map(drop)
    }

    /// Reads what changed since the cursor.
    async fn catch_up(&mut self) -> Result<()> {
        self.subscribe_chats().await?;
        let at = self.catch_up_limits.clock.now();
        let since = self.cursor().as_of - CLOCK_SKEW_MARGIN;
        let (store, catch_ups, viewer) = (self.database.clone(), self.catch_up_limits.clone(), self.viewer.clone());
        let limit = self.catch_up_limits.max_changes;
        let reading = async move {
            let _permit = catch_ups.acquire_permit().await?;
            let mut conn = store.read().await?;
            conn.snapshot(async move |conn| ChangesSince::load(conn, &viewer, since, limit).await).await
        };
        let missed = spawn_detached(reading).await?;
        let beyond = missed.len() > limit;
        if !beyond {
            // In the order in which it happened, so that a client that is cut again need not begin anew.
            let moment = |changed: DateTime<Utc>| changed.min(at);
            for (chat, changed) in missed.chats {
                self.pending.push(PendingKey::Chat(chat), moment(changed), PendingItem::Chat { removed: false });
            }
            for (chat, changed) in missed.removed_chats {
                self.pending.push(PendingKey::Chat(chat), moment(changed), PendingItem::Chat { removed: true });
            }
            for notification in missed.notifications {
                let changed = notification.read_at.unwrap_or(notification.created_at);
                let subject = PendingKey::Notification(notification.id);
                self.pending.push(subject, moment(changed), PendingItem::Notification(notification));
            }
            for (call, changed) in missed.calls {
                self.pending.push(PendingKey::Call(call), moment(changed), PendingItem::Call);
            }
        }
        self.as_of = at;
        if beyond || self.pending.len() > limit {
            self.pending.clear();
            self.loaded.clear();
            self.announce_caught_up_at = None;
            self.pending_reset = Some(ResetReason::TooFarBehind);
            return self.load_ringing_calls().await;
        }
        Ok(())
    }

    /// What rings for the person as they come is told to them first.
    async fn load_ringing_calls(&mut self) -> Result<()> {
        let (store, catch_ups, viewer) = (self.database.clone(), self.catch_up_limits.clone(), self.viewer.clone());
        let limit = self.catch_up_limits.max_changes as i64;
        let reading = async move {
            let _permit = catch_ups.acquire_permit().await?;
            let mut conn = store.read().await?;
            calls::by_participant(&mut conn, viewer.organization(), viewer.id(), None, limit).await
        };
        for (call, changed) in spawn_detached(reading).await? {
            self.pending.push(PendingKey::Call(call), changed.min(self.as_of), PendingItem::Call);
        }
        Ok(())
    }

    /// A call as it is now; none where the person is not in its chat.
    async fn load_call(&mut self, id: CallId) -> Result<Option<Arc<Call>>> {
        let (store, viewer) = (self.database.clone(), self.viewer.clone());
        let reading = async move {
            require_permission(&viewer.permissions, Permission::ChatView)?;
            let mut conn = store.read().await?;
            conn.snapshot(async move |conn| {
                match find_visible_chats(conn, &viewer, &[id.chat]).await?.contains_key(&id.chat) {
                    true => Ok(calls::by_ids(conn, &[id]).await?.pop()),
                    false => Ok(None),
                }
            })
            .await
        };
        Ok(spawn_detached(reading).await?.map(Arc::new))
    }

    /// Reads the chats whose turn is next, as the person may see them now.
    async fn load_pending_chats(&mut self) -> Result<()> {
        let ids: Vec<ChatId> =
            self.pending.chats().filter(|chat| !self.loaded.contains_key(chat)).take(LOAD_BATCH).collect();
        let (store, catch_ups, viewer, looked) =
            (self.database.clone(), self.catch_up_limits.clone(), self.viewer.clone(), ids.clone());
        let reading = async move {
            require_permission(&viewer.permissions, Permission::ChatView)?;
            let _permit = catch_ups.acquire_permit().await?;
            let mut conn = store.read().await?;
            conn.snapshot(async move |conn| find_visible_chats(conn, &viewer, &looked).await).await
        };
        let mut found = spawn_detached(reading).await?;
        self.loaded.extend(ids.into_iter().map(|chat| (chat, found.remove(&chat))));
        Ok(())
    }

    fn cursor(&self) -> InboxCursor {
        let at = self.pending.first().map_or(self.as_of, |(since, _)| since.min(self.as_of));
        InboxCursor { organization: self.viewer.organization().clone(), user: self.viewer.id().clone(), as_of: at }
    }
}

/// The chats among these that the viewer is in.
async fn find_visible_chats(conn: &mut Conn, viewer: &Viewer, ids: &[ChatId]) -> Result<HashMap<ChatId, Arc<Chat>>> {
    let own: Vec<MemberId> = ids.iter().map(|chat| MemberId { chat: *chat, user: viewer.id().clone() }).collect();
    let own = members::by_ids(conn, &own).await?;
    let open: Vec<ChatId> = own.iter().filter(|member| Member::is_active(member)).map(|member| member.chat).collect();
    let chats = chats::by_ids(conn, viewer.organization(), &open).await?;
    Ok(chats.into_iter().map(|chat| (chat.id, Arc::new(chat))).collect())
}

/// Whether a change shows in a list of chats: what only a thread or a message itself shows does not.
fn affects_chat_list(change: &Change) -> bool {
    use MessageChange::{Added, Deleted, Edited, Synced};
    match change {
        Change::Chat(_) | Change::Member(_) => true,
        Change::Message(message, change) => message.in_timeline && matches!(change, Added | Edited | Deleted | Synced),
    }
}
