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
use crate::domain::chat_events::{Change, ChatEvent, Happening, MessageChange};
use crate::domain::chats::{Chat, REMOVALS_KEPT};
use crate::domain::cursors::InboxCursor;
use crate::domain::ids::{CallId, ChatId, MemberId};
use crate::domain::members::Member;
use crate::domain::notifications::Notification;
use crate::domain::rights::require;
use crate::domain::users::{Permission, Viewer};
use crate::error::Result;
use crate::realtime::dispatch::queue::Delivery;
use crate::realtime::dispatch::subscriber::Listener;
use crate::realtime::feeds::chat::{CatchUps, ResetReason, SLACK};
use crate::realtime::feeds::inbox::pending::{Held, Subject, Waiting};
use crate::realtime::feeds::member_chats;
use crate::realtime::sessions::{Session, Standing};
use crate::storage::connection::Conn;
use crate::storage::pool::Store;
use crate::storage::{calls, chat_removals, chats, members, notifications};
use crate::tasks::aside;

/// Chats that are looked at together.
const LOOK: usize = 50;

#[derive(Debug, Clone)]
pub struct InboxEvent {
    pub cursor: InboxCursor,
    pub news: InboxNews,
}

#[derive(Debug, Clone)]
pub enum InboxNews {
    /// A chat that the person is in.
    Chat(Arc<Chat>),
    /// The person is no longer in the chat, or it is no more.
    Removed(ChatId),
    Notification(Notification),
    /// A call that rings for the person, or in which they have or had a part.
    Call(Arc<Call>),
    /// Their token ends at this moment.
    Expiring(DateTime<Utc>),
    /// All that happened before is told.
    CaughtUp,
    /// What the client holds can't be brought up to date.
    Reset(ResetReason),
}

/// What changed for a person since a moment, each with when.
struct Missed {
    chats: Vec<(ChatId, DateTime<Utc>)>,
    gone: Vec<(ChatId, DateTime<Utc>)>,
    notifications: Vec<Notification>,
    calls: Vec<(CallId, DateTime<Utc>)>,
}

impl Missed {
    /// Each list is cut short after one more than the limit.
    async fn read(conn: &mut Conn, viewer: &Viewer, since: DateTime<Utc>, limit: usize) -> Result<Self> {
        let (organization, user, limit) = (viewer.organization(), viewer.id(), limit as i64 + 1);
        let chats = members::chats_since(conn, organization, user, since, limit).await?;
        let mut gone = members::left_since(conn, organization, user, since, limit).await?;
        gone.extend(chat_removals::since(conn, organization, user, since, limit).await?);
        let notifications = notifications::since(conn, organization, user, since, limit).await?;
        let calls = calls::of_person(conn, organization, user, Some(since), limit).await?;
        Ok(Self { chats, gone, notifications, calls })
    }

    fn len(&self) -> usize {
        self.chats.len() + self.gone.len() + self.notifications.len() + self.calls.len()
    }
}

/// The connection that a feed is on.
struct Connected {
    session: Arc<Session>,
    standing: watch::Receiver<Standing>,
    /// The end that the client was warned of.
    warned: Option<DateTime<Utc>>,
}

pub struct InboxFeed {
    store: Store,
    catch_ups: CatchUps,
    viewer: Arc<Viewer>,
    connected: Option<Connected>,
    listener: Listener,
    /// What changed up to this moment, but for [`SLACK`], is told or waits.
    heard_at: DateTime<Utc>,
    waiting: Waiting,
    /// Chats that wait, as they were read and have not changed since; none where the person is not in.
    looked: HashMap<ChatId, Option<Arc<Chat>>>,
    /// The client waits to hear that all of up to this moment is told.
    announce: Option<DateTime<Utc>>,
    reset: Option<ResetReason>,
    mode: Mode,
}

enum Mode {
    /// From now on, or from a cursor as the client gave it.
    Fresh(Option<String>),
    Live,
    Ended,
}

impl InboxFeed {
    /// A feed for one who may view chats. The listener follows the viewer already.
    pub fn new(
        store: Store,
        catch_ups: CatchUps,
        viewer: Arc<Viewer>,
        session: Option<Arc<Session>>,
        listener: Listener,
        after: Option<String>,
    ) -> Self {
        let connected = session.map(|session| Connected { standing: session.standing(), session, warned: None });
        let heard_at = catch_ups.clock.now();
        Self {
            store,
            catch_ups,
            viewer,
            connected,
            listener,
            heard_at,
            waiting: Waiting::default(),
            looked: HashMap::new(),
            announce: None,
            reset: None,
            mode: Mode::Fresh(after),
        }
    }

    /// The next event; an error ends the feed, and then there is none.
    pub async fn next(&mut self) -> Option<Result<InboxEvent>> {
        let started = match std::mem::replace(&mut self.mode, Mode::Live) {
            Mode::Fresh(after) => self.begin(after).await,
            Mode::Live => Ok(()),
            Mode::Ended => {
                self.mode = Mode::Ended;
                return None;
            }
        };
        let news = match started {
            Ok(()) => self.news().await,
            Err(error) => Err(error),
        };
        if news.is_err() {
            self.mode = Mode::Ended;
        }
        Some(news.map(|news| InboxEvent { cursor: self.cursor(), news }))
    }

    async fn begin(&mut self, after: Option<String>) -> Result<()> {
        let now = self.heard_at;
        let Some(after) = after else {
            self.announce = Some(now);
            self.attach().await?;
            return self.ring().await;
        };
        match InboxCursor::decode(&after, self.viewer.organization(), self.viewer.id()) {
            Some(cursor) if cursor.at < now - REMOVALS_KEPT => self.reset = Some(ResetReason::TooFarBehind),
            Some(cursor) if cursor.at <= now + SLACK => {
                self.heard_at = cursor.at;
                self.announce = Some(now);
                return self.catch_up().await;
            }
            _ => self.reset = Some(ResetReason::CursorInvalid),
        }
        self.attach().await?;
        self.ring().await
    }

    async fn news(&mut self) -> Result<InboxNews> {
        loop {
            // What is told has not changed since it was looked at, as far as anybody here knows.
            while let Some(delivery) = self.listener.take() {
                self.hear(delivery).await?;
            }
            if let Some(reason) = self.reset.take() {
                return Ok(InboxNews::Reset(reason));
            }
            let first = self.waiting.first();
            if self.announce.is_some_and(|until| first.is_none_or(|(since, _)| since > until)) {
                self.announce = None;
                return Ok(InboxNews::CaughtUp);
            }
            if let Some(news) = self.of_session() {
                return Ok(news);
            }
            match first {
                None => self.wait().await?,
                Some((_, Subject::Chat(chat))) if !self.looked.contains_key(&chat) => self.look().await?,
                Some((_, Subject::Call(call))) => {
                    self.waiting.take(Subject::Call(call));
                    if let Some(call) = self.read_call(call).await? {
                        return Ok(InboxNews::Call(call));
                    }
                }
                Some((_, subject)) => {
                    if let Some(news) = self.take(subject) {
                        return Ok(news);
                    }
                }
            }
        }
    }

    /// What waits has its turn; nothing where there is nothing to tell of it.
    fn take(&mut self, subject: Subject) -> Option<InboxNews> {
        match (self.waiting.take(subject)?, subject) {
            (Held::Notification(notification), _) => Some(InboxNews::Notification(notification)),
            (Held::Chat { gone }, Subject::Chat(chat)) => match self.looked.remove(&chat).flatten() {
                Some(chat) => Some(InboxNews::Chat(chat)),
                None if gone => {
                    self.listener.detach(chat);
                    Some(InboxNews::Removed(chat))
                }
                // That it is gone is on its way.
                None => None,
            },
            (Held::Chat { .. } | Held::Call, _) => None,
        }
    }

    /// What there is to tell of the person's token.
    fn of_session(&mut self) -> Option<InboxNews> {
        let Connected { session, standing, warned } = self.connected.as_mut()?;
        let standing = *standing.borrow_and_update();
        let known = std::mem::replace(&mut self.viewer, session.viewer());
        if known.permissions != self.viewer.permissions {
            return Some(InboxNews::Reset(ResetReason::AccessChanged));
        }
        match standing {
            Standing::Expiring(at) if *warned != Some(at) => {
                *warned = Some(at);
                Some(InboxNews::Expiring(at))
            }
            _ => None,
        }
    }

    async fn wait(&mut self) -> Result<()> {
        let renewed = async {
            match &mut self.connected {
                // The session is held, so there is always one who may say something.
                Some(connected) => drop(connected.standing.changed().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            delivery = self.listener.next() => self.hear(delivery).await,
            () = renewed => Ok(()),
        }
    }

    async fn hear(&mut self, delivery: Delivery) -> Result<()> {
        let Delivery::Event(heard) = delivery else {
            self.looked.clear();
            return self.catch_up().await;
        };
        let event = &heard.event;
        self.heard_at = self.heard_at.max(event.at);
        match &event.what {
            Happening::Changed(stretch) => self.follow(event, &stretch.changes),
            Happening::Moved(moved) => {
                if moved.members.iter().any(|moved| moved.member.user == *self.viewer.id()) {
                    self.put(event, false);
                }
            }
            Happening::Deleted => self.put(event, true),
            Happening::Called(called) => self.waiting.put(Subject::Call(called.call), event.at, Held::Call),
            Happening::Notified(notified) if notified.notifications.is_empty() => return self.catch_up().await,
            Happening::Notified(notified) => {
                let own = notified.notifications.iter().filter(|notification| notification.user == *self.viewer.id());
                for notification in own {
                    let subject = Subject::Notification(notification.id);
                    self.waiting.put(subject, event.at, Held::Notification(notification.clone()));
                }
            }
        }
        match self.waiting.len() > self.catch_ups.limit {
            true => self.catch_up().await,
            false => Ok(()),
        }
    }

    fn follow(&mut self, event: &ChatEvent, changes: &[Change]) {
        let own = changes.iter().rev().find_map(|change| match change {
            Change::Member(member) if member.user == *self.viewer.id() => Some(member.is_active()),
            _ => None,
        });
        match own {
            Some(true) => {
                self.listener.attach(event.chat);
                self.put(event, false);
            }
            Some(false) => self.put(event, true),
            None if changes.iter().any(concerns_lists) => self.put(event, false),
            None => {}
        }
    }

    /// The chat is to be looked at.
    fn put(&mut self, event: &ChatEvent, gone: bool) {
        self.looked.remove(&event.chat);
        self.waiting.put(Subject::Chat(event.chat), event.at, Held::Chat { gone });
    }

    /// Listens to all chats that the person is in.
    async fn attach(&mut self) -> Result<()> {
        member_chats::take(&self.store, &self.viewer, &mut self.listener).await.map(drop)
    }

    /// Reads what changed since the cursor.
    async fn catch_up(&mut self) -> Result<()> {
        self.attach().await?;
        let at = self.catch_ups.clock.now();
        let since = self.cursor().at - SLACK;
        let (store, catch_ups, viewer) = (self.store.clone(), self.catch_ups.clone(), self.viewer.clone());
        let limit = self.catch_ups.limit;
        let reading = async move {
            let _permit = catch_ups.permit().await?;
            let mut conn = store.read().await?;
            conn.snapshot(async move |conn| Missed::read(conn, &viewer, since, limit).await).await
        };
        let missed = aside(reading).await?;
        let beyond = missed.len() > limit;
        if !beyond {
            // In the order in which it happened, so that a client that is cut again need not begin anew.
            let moment = |changed: DateTime<Utc>| changed.min(at);
            for (chat, changed) in missed.chats {
                self.waiting.put(Subject::Chat(chat), moment(changed), Held::Chat { gone: false });
            }
            for (chat, changed) in missed.gone {
                self.waiting.put(Subject::Chat(chat), moment(changed), Held::Chat { gone: true });
            }
            for notification in missed.notifications {
                let changed = notification.read_at.unwrap_or(notification.created_at);
                let subject = Subject::Notification(notification.id);
                self.waiting.put(subject, moment(changed), Held::Notification(notification));
            }
            for (call, changed) in missed.calls {
                self.waiting.put(Subject::Call(call), moment(changed), Held::Call);
            }
        }
        self.heard_at = at;
        if beyond || self.waiting.len() > limit {
            self.waiting.clear();
            self.looked.clear();
            self.announce = None;
            self.reset = Some(ResetReason::TooFarBehind);
            return self.ring().await;
        }
        Ok(())
    }

    /// What rings for the person as they come is told to them first.
    async fn ring(&mut self) -> Result<()> {
        let (store, catch_ups, viewer) = (self.store.clone(), self.catch_ups.clone(), self.viewer.clone());
        let limit = self.catch_ups.limit as i64;
        let reading = async move {
            let _permit = catch_ups.permit().await?;
            let mut conn = store.read().await?;
            calls::of_person(&mut conn, viewer.organization(), viewer.id(), None, limit).await
        };
        for (call, changed) in aside(reading).await? {
            self.waiting.put(Subject::Call(call), changed.min(self.heard_at), Held::Call);
        }
        Ok(())
    }

    /// A call as it is now; none where the person is not in its chat.
    async fn read_call(&mut self, id: CallId) -> Result<Option<Arc<Call>>> {
        let (store, viewer) = (self.store.clone(), self.viewer.clone());
        let reading = async move {
            require(&viewer.permissions, Permission::ChatView)?;
            let mut conn = store.read().await?;
            conn.snapshot(async move |conn| match visible(conn, &viewer, &[id.chat]).await?.contains_key(&id.chat) {
                true => Ok(calls::by_ids(conn, &[id]).await?.pop()),
                false => Ok(None),
            })
            .await
        };
        Ok(aside(reading).await?.map(Arc::new))
    }

    /// Reads the chats whose turn is next, as the person may see them now.
    async fn look(&mut self) -> Result<()> {
        let ids: Vec<ChatId> = self.waiting.chats().filter(|chat| !self.looked.contains_key(chat)).take(LOOK).collect();
        let (store, catch_ups, viewer, looked) =
            (self.store.clone(), self.catch_ups.clone(), self.viewer.clone(), ids.clone());
        let reading = async move {
            require(&viewer.permissions, Permission::ChatView)?;
            let _permit = catch_ups.permit().await?;
            let mut conn = store.read().await?;
            conn.snapshot(async move |conn| visible(conn, &viewer, &looked).await).await
        };
        let mut found = aside(reading).await?;
        self.looked.extend(ids.into_iter().map(|chat| (chat, found.remove(&chat))));
        Ok(())
    }

    fn cursor(&self) -> InboxCursor {
        let at = self.waiting.first().map_or(self.heard_at, |(since, _)| since.min(self.heard_at));
        InboxCursor { organization: self.viewer.organization().clone(), user: self.viewer.id().clone(), at }
    }
}

/// The chats among these that the viewer is in.
async fn visible(conn: &mut Conn, viewer: &Viewer, ids: &[ChatId]) -> Result<HashMap<ChatId, Arc<Chat>>> {
    let own: Vec<MemberId> = ids.iter().map(|chat| MemberId { chat: *chat, user: viewer.id().clone() }).collect();
    let own = members::by_ids(conn, &own).await?;
    let open: Vec<ChatId> = own.iter().filter(|member| Member::is_active(member)).map(|member| member.chat).collect();
    let chats = chats::by_ids(conn, viewer.organization(), &open).await?;
    Ok(chats.into_iter().map(|chat| (chat.id, Arc::new(chat))).collect())
}

/// Whether a change shows in a list of chats: what only a thread or a message itself shows does not.
fn concerns_lists(change: &Change) -> bool {
    use MessageChange::{Added, Deleted, Edited, Synced};
    match change {
        Change::Chat(_) | Change::Member(_) => true,
        Change::Message(message, change) => message.in_timeline && matches!(change, Added | Edited | Deleted | Synced),
    }
}
