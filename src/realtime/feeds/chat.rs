//! One chat, kept up to date for one subscriber: a position in its log, not a queue.
//!
//! ```text
//!   attach to the hub ──► read the log from the position ──► live
//!                              ▲                              │
//!                              └── a gap, or the mailbox ─────┘
//!                                  overflowed
//! ```
//!
//! What the read covered is dropped from what was heard meanwhile: an event at or before the
//! position is known, the next one is delivered, and one further on shows a gap.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::chat_events::{Change, ChatEventKind, LogSlice, MessageChange};
use crate::domain::clock::Clock;
use crate::domain::cursors::FeedCursor;
use crate::domain::ids::ChatId;
use crate::domain::members::Member;
use crate::domain::messages::Message;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::metrics::METRICS;
use crate::realtime::dispatch::fast_path::{FeedPosition, FrameSink};
use crate::realtime::dispatch::queue::{Delivery, EventRef, SharedEvent};
use crate::realtime::dispatch::render_cache::RenderCache;
use crate::realtime::dispatch::subscriber::Subscriber;
use crate::realtime::dispatch::topic::RenderGroup;
use crate::realtime::feeds::change_log;
use crate::storage::messages;
use crate::storage::pool::Database;
use crate::tasks::spawn_detached;

/// Where a feed begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChatFeedStart {
    /// With what happens from now on.
    Now,
    /// With the newest messages, the oldest of them first.
    Latest(usize),
    /// With all that changed since a cursor, as the client gave it.
    After(String),
}

#[derive(Debug, Clone)]
pub enum FeedEvent {
    Change {
        cursor: FeedCursor,
        change: Change,
        /// A message that this feed tells of for the first time.
        is_new: bool,
        /// None where it was read back.
        event_ref: Option<EventRef>,
    },
    CaughtUp {
        cursor: FeedCursor,
    },
    /// What the client holds can't be brought up to date.
    Reset {
        cursor: FeedCursor,
        reason: ResetReason,
    },
}

impl FeedEvent {
    /// All that a feed at this version tells of what was heard, to one who hears of it first.
    pub fn from_shared(heard: &Arc<SharedEvent>, version: i64) -> Vec<Self> {
        let (chat, at) = (heard.event.chat, heard.event.published_at);
        let told = |place, version, change, first_told| Self::Change {
            cursor: FeedCursor { chat, version, snapshot_version: None, as_of: at },
            change,
            is_new: first_told,
            event_ref: Some(EventRef::new(heard, place)),
        };
        match &heard.event.kind {
            ChatEventKind::LogChanges(stretch) => {
                let is_new = |change: &Change| matches!(change, Change::Message(message, _) if message.id.seq > stretch.after_version);
                let changes = stretch.changes.iter().enumerate();
                changes.map(|(place, change)| told(place, change.version(), change.clone(), is_new(change))).collect()
            }
            ChatEventKind::MembersUpdated(moved) => {
                let shown = moved.members.iter().enumerate().filter(|(_, moved)| moved.visible_to_others);
                shown.map(|(place, moved)| told(place, version, Change::Member(moved.member.clone()), false)).collect()
            }
            ChatEventKind::Deleted | ChatEventKind::NotificationsChanged(_) | ChatEventKind::CallChanged(_) => {
                Vec::new()
            }
        }
    }

    /// What was made of it for all who hear it at this position, where more than one does.
    pub fn render_cache(&self) -> Option<(&RenderCache, i64)> {
        match self {
            Self::Change { cursor, event_ref: origin, .. } => Some((origin.as_ref()?.render_cache()?, cursor.version)),
            Self::CaughtUp { .. } | Self::Reset { .. } => None,
        }
    }

    pub fn chat(&self) -> ChatId {
        let (Self::Change { cursor, .. } | Self::CaughtUp { cursor } | Self::Reset { cursor, .. }) = self;
        cursor.chat
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetReason {
    CursorInvalid,
    TooFarBehind,
    AccessChanged,
}

/// What feeds share on a node.
#[derive(Debug, Clone)]
pub struct CatchUpLimits {
    /// Bounds the reads at once, so that a crowd that reconnects doesn't take the database.
    pub permits: Arc<Semaphore>,
    /// Changes that a resuming feed is told one by one.
    pub max_changes: usize,
    /// Members of the largest chat in which all are told who read what.
    pub max_receipt_members: usize,
    pub clock: Clock,
}

impl CatchUpLimits {
    pub async fn acquire_permit(&self) -> Result<OwnedSemaphorePermit> {
        let permit = self.permits.clone().acquire_owned().await;
        permit.map_err(|_| Error::unavailable("the server is stopping"))
    }
}

/// Positions take no version; those that moved so long before a cursor are sent again after it, which
/// covers what was on its way and clocks that differ.
pub const CLOCK_SKEW_MARGIN: TimeDelta = TimeDelta::seconds(10);

/// How a feed begins, by what the database says.
enum InitialState {
    /// With these messages, and then level.
    CaughtUp(Vec<Message>),
    /// Behind, at the client's cursor.
    Behind(FeedCursor),
    Reset(ResetReason),
}

/// The chat's version, and how a feed begins there.
async fn load_initial_state(
    store: Database,
    catch_ups: CatchUpLimits,
    viewer: Arc<Viewer>,
    chat: ChatId,
    start: ChatFeedStart,
) -> Result<(i64, InitialState)> {
    let _permit = catch_ups.acquire_permit().await?;
    let mut conn = store.read().await?;
    conn.snapshot(async move |conn| {
        let state = change_log::require_member(conn, &viewer, chat).await?.chat;
        let beginning = match start {
            ChatFeedStart::Now => InitialState::CaughtUp(Vec::new()),
            ChatFeedStart::Latest(number) => InitialState::CaughtUp(messages::newest(conn, chat, number).await?),
            ChatFeedStart::After(cursor) => {
                let cursor = FeedCursor::decode(&cursor, chat).filter(|cursor| cursor.version <= state.version);
                match cursor {
                    None => InitialState::Reset(ResetReason::CursorInvalid),
                    Some(cursor)
                        if change_log::exceeds_limit(conn, &state, cursor.version, catch_ups.max_changes).await? =>
                    {
                        InitialState::Reset(ResetReason::TooFarBehind)
                    }
                    Some(cursor) => InitialState::Behind(cursor),
                }
            }
        };
        Ok((state.version, beginning))
    })
    .await
}

pub struct ChatFeed {
    database: Database,
    catch_up_limits: CatchUpLimits,
    viewer: Arc<Viewer>,
    subscriber: Subscriber,
    chat: ChatId,
    /// What lies up to here was told, or is in `ready`.
    position: FeedPosition,
    /// The hub may have moved the place on.
    fast_path_active: bool,
    pending: VecDeque<FeedEvent>,
    state: ChatFeedState,
}

enum ChatFeedState {
    Starting(BoxFuture<'static, Result<(i64, InitialState)>>),
    CatchingUp(PendingCatchUp, BoxFuture<'static, Result<CatchUpPage>>),
    Live,
    Ended(Option<Error>),
}

/// What lies after a feed's position.
struct CatchUpPage {
    slice: LogSlice,
    is_last: bool,
    /// Members who moved without a version.
    unversioned_members: Vec<Member>,
    read_at: DateTime<Utc>,
}

/// Why a feed reads the log.
#[derive(Debug, Clone, Copy)]
struct PendingCatchUp {
    /// The position at which the feed was last level: later messages are new to the client.
    from_version: i64,
    /// What the client's cursor covers beyond its version.
    cursor: Option<FeedCursor>,
    /// Whether the client waits for [`FeedEvent::CaughtUp`].
    announce_caught_up: bool,
}

impl ChatFeed {
    /// A feed for a viewer who may read the chat. The listener hears of it already.
    pub fn new(
        store: Database,
        catch_ups: CatchUpLimits,
        viewer: Arc<Viewer>,
        listener: Subscriber,
        chat: ChatId,
        start: ChatFeedStart,
    ) -> Self {
        let heard_at = catch_ups.clock.now();
        let beginning =
            spawn_detached(load_initial_state(store.clone(), catch_ups.clone(), viewer.clone(), chat, start));
        let mode = ChatFeedState::Starting(beginning.boxed());
        Self {
            database: store,
            catch_up_limits: catch_ups,
            viewer,
            subscriber: listener,
            chat,
            position: FeedPosition { version: 0, member_version: 0, as_of: heard_at },
            fast_path_active: false,
            pending: VecDeque::new(),
            state: mode,
        }
    }

    /// Tells the same as the feeds of all of this audience.
    pub fn join_render_group(&mut self, audience: &Arc<dyn RenderGroup>) {
        self.subscriber.join_render_group(audience);
    }

    /// Lets what follows go straight to the subscriber, until the feed is polled again: for one that has just
    /// been polled and was pending, and whose events were all written.
    pub fn enable_fast_path(&mut self, outlet: &Arc<dyn FrameSink>) {
        if matches!(self.state, ChatFeedState::Live) {
            self.subscriber.enable_fast_path(self.position, outlet);
            self.fast_path_active = true;
        }
    }

    /// The next event; an error ends the feed, and then there is none. Polled by hand, as most events
    /// pass here, for every subscriber.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<FeedEvent>>> {
        if std::mem::take(&mut self.fast_path_active)
            && let Some(place) = self.subscriber.disable_fast_path()
        {
            self.position = place;
        }
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            let step = match &mut self.state {
                ChatFeedState::Ended(error) => return Poll::Ready(error.take().map(Err)),
                ChatFeedState::Live => {
                    let delivery = ready!(self.subscriber.poll_recv(cx));
                    self.on_delivery(delivery)
                }
                ChatFeedState::Starting(beginning) => {
                    let found = ready!(beginning.poll_unpin(cx));
                    found.map(|(version, beginning)| self.start(version, beginning))
                }
                ChatFeedState::CatchingUp(gap, reading) => {
                    let read = ready!(reading.poll_unpin(cx));
                    let gap = *gap;
                    read.map(|read| self.apply_catch_up(gap, read))
                }
            };
            if let Err(error) = step {
                // What happened before the end is told before it.
                self.state = ChatFeedState::Ended(Some(error));
            }
        }
    }

    fn start(&mut self, version: i64, beginning: InitialState) {
        self.position.version = version;
        self.position.member_version = version;
        match beginning {
            InitialState::CaughtUp(newest) => {
                self.enter_live();
                let (chat, at) = (self.chat, self.position.as_of);
                self.pending.extend(newest.into_iter().map(|message| FeedEvent::Change {
                    cursor: FeedCursor { chat, version: message.id.seq, snapshot_version: Some(version), as_of: at },
                    change: Change::Message(Arc::new(message), MessageChange::Synced),
                    is_new: true,
                    event_ref: None,
                }));
                self.pending.push_back(FeedEvent::CaughtUp { cursor: self.cursor() });
            }
            InitialState::Behind(cursor) => {
                self.position.version = cursor.version;
                // What moved since is told last: until then, what is told is of the cursor's time.
                self.position.as_of = cursor.as_of.min(self.position.as_of);
                self.start_catch_up(PendingCatchUp {
                    from_version: cursor.version,
                    cursor: Some(cursor),
                    announce_caught_up: true,
                });
            }
            InitialState::Reset(reason) => {
                self.enter_live();
                self.pending.push_back(FeedEvent::Reset { cursor: self.cursor(), reason });
            }
        }
    }

    /// Begins to read what lies after the position.
    fn start_catch_up(&mut self, gap: PendingCatchUp) {
        METRICS.feed_catch_ups.inc();
        let (store, catch_ups, viewer) = (self.database.clone(), self.catch_up_limits.clone(), self.viewer.clone());
        let (chat, position, moved_since) = (self.chat, self.position.version, self.position.as_of - CLOCK_SKEW_MARGIN);
        let reading = spawn_detached(async move {
            let _permit = catch_ups.acquire_permit().await?;
            let at = catch_ups.clock.now();
            let mut conn = store.read().await?;
            conn.snapshot(async move |conn| {
                let standing = change_log::require_member(conn, &viewer, chat).await?;
                let read = change_log::read_changes(conn, standing.chat.clone(), position).await?;
                let moved = match read.is_last {
                    true => {
                        change_log::unversioned_changes_since(
                            conn,
                            &standing,
                            moved_since,
                            catch_ups.max_receipt_members,
                        )
                        .await?
                    }
                    false => Vec::new(),
                };
                Ok(CatchUpPage { slice: read.slice, is_last: read.is_last, unversioned_members: moved, read_at: at })
            })
            .await
        });
        self.state = ChatFeedState::CatchingUp(gap, reading.boxed());
    }

    fn apply_catch_up(&mut self, gap: PendingCatchUp, read: CatchUpPage) {
        let (
            PendingCatchUp { from_version: from, cursor, announce_caught_up: announce },
            CatchUpPage { slice: stretch, is_last: level, unversioned_members: moved, read_at: at },
        ) = (gap, read);
        for change in stretch.changes {
            let (change, first_told) = match change {
                Change::Message(message, kind) => {
                    if cursor.is_some_and(|cursor| cursor.covers(message.id.seq, message.version)) {
                        continue;
                    }
                    // A message made since the position is new to the client, whatever became of it.
                    let new = message.id.seq > from;
                    (Change::Message(message, kind), new)
                }
                change => (change, false),
            };
            self.position.version = change.version();
            self.push_event(change, first_told, None);
        }
        self.position.version = stretch.to_version;
        for member in moved {
            self.push_event(Change::Member(Arc::new(member)), false, None);
        }
        if level {
            self.enter_live();
            self.position.as_of = at;
            if announce {
                self.pending.push_back(FeedEvent::CaughtUp { cursor: self.cursor() });
            }
        } else {
            self.start_catch_up(gap);
        }
    }

    fn on_delivery(&mut self, delivery: Delivery) -> Result<()> {
        let heard = match delivery {
            Delivery::Event(heard) => heard,
            Delivery::Lagged => {
                self.recover_from_gap();
                return Ok(());
            }
        };
        match &heard.event.kind {
            ChatEventKind::LogChanges(stretch) => self.apply_log_slice(stretch, &heard)?,
            // A row of before what was told of members could put old in the place of new.
            ChatEventKind::MembersUpdated(moved) if moved.as_of_version < self.position.member_version => {
                self.recover_from_gap()
            }
            ChatEventKind::MembersUpdated(moved) => {
                self.position.as_of = heard.event.published_at;
                let viewer = self.viewer.clone();
                for (place, member) in moved.visible_to(viewer.id()) {
                    self.push_event(Change::Member(member.clone()), false, Some(EventRef::new(&heard, place)));
                }
            }
            // Told to people, not to chats.
            ChatEventKind::NotificationsChanged(_) | ChatEventKind::CallChanged(_) => {}
            ChatEventKind::Deleted => return Err(Error::Forbidden("the chat was deleted".into())),
        }
        Ok(())
    }

    fn apply_log_slice(&mut self, stretch: &LogSlice, heard: &Arc<SharedEvent>) -> Result<()> {
        let level = self.position.version;
        if stretch.after_version > level {
            self.recover_from_gap();
            return Ok(());
        }
        for (place, change) in stretch.changes.iter().enumerate() {
            let version = change.version();
            if version <= level {
                continue;
            }
            if let Change::Member(member) = change
                && member.user == *self.viewer.id()
                && !member.is_active()
            {
                return Err(Error::Forbidden("you are no longer a member of this chat".into()));
            }
            self.position.version = version;
            self.position.as_of = heard.event.published_at;
            let first_told = matches!(change, Change::Message(message, _) if message.id.seq > level);
            self.push_event(change.clone(), first_told, Some(EventRef::new(heard, place)));
        }
        self.position.version = self.position.version.max(stretch.to_version);
        Ok(())
    }

    fn enter_live(&mut self) {
        self.state = ChatFeedState::Live;
        self.subscriber.mark_caught_up(self.chat, self.position.version);
    }

    /// Goes on from the database, from where it was level last.
    fn recover_from_gap(&mut self) {
        self.start_catch_up(PendingCatchUp {
            from_version: self.position.version,
            cursor: None,
            announce_caught_up: false,
        });
    }

    fn push_event(&mut self, change: Change, first_told: bool, origin: Option<EventRef>) {
        if let Change::Member(member) = &change {
            self.position.member_version = self.position.member_version.max(member.version);
        }
        let cursor = self.cursor();
        self.pending.push_back(FeedEvent::Change { cursor, change, is_new: first_told, event_ref: origin });
    }

    fn cursor(&self) -> FeedCursor {
        FeedCursor {
            chat: self.chat,
            version: self.position.version,
            snapshot_version: None,
            as_of: self.position.as_of,
        }
    }
}
