//! The feed of one chat for one subscriber: a position in the chat's log, not a queue.
//!
//! ```text
//!   subscribe to the hub ──► read the log from the position ──► live
//!                                 ▲                              │
//!                                 └── a gap, or the queue ───────┘
//!                                     overflowed
//! ```
//!
//! An event that arrives during a read may be covered by it: an event at or before the position is dropped, the next
//! one is delivered, and a later one reveals a gap.
//!
//! This feed is polled by hand, while the others are async functions. Every message to every subscriber passes here,
//! and [`ChatFeed::enable_fast_path`] must reach the feed between two polls, which a pending future that borrows the
//! feed would prevent.

pub mod start;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use chrono::{DateTime, Utc};
use futures_util::future::{BoxFuture, FutureExt};

use crate::access::MemberAccess;
use crate::domain::chat_events::{Change, ChatEventKind, LogSlice, MessageChange, UnversionedMemberUpdates};
use crate::domain::cursors::{DatabaseEpoch, FeedCursor};
use crate::domain::ids::ChatId;
use crate::domain::members::Member;
use crate::domain::messages::Message;
use crate::error::{Error, Result};
use crate::metrics::METRICS;
use crate::realtime::dispatch::ports::{FeedPosition, FrameSink, RenderGroup};
use crate::realtime::dispatch::queue::Delivery;
use crate::realtime::dispatch::render_cache::RenderCache;
use crate::realtime::dispatch::shared_event::{EventRef, SharedEvent};
use crate::realtime::dispatch::subscriber::Subscriber;
use crate::realtime::feeds::catch_up::{FeedDeps, REREAD_MARGIN, ResetReason};
use crate::realtime::feeds::change_log;
use crate::realtime::feeds::change_log::ChangePage;
use crate::realtime::feeds::chat::start::{ChatFeedStart, InitialSnapshot, InitialState, load_initial_snapshot};
use crate::tasks::spawn_detached;

/// An event of a chat's feed.
#[derive(Debug, Clone)]
pub enum FeedEvent {
    Change {
        cursor: FeedCursor,
        change: Change,
        /// The change is a message that this feed has not delivered before.
        is_new: bool,
        /// The event that the change is from; `None` if it was read from the database.
        event_ref: Option<EventRef>,
    },
    /// Every change before the feed started is delivered.
    CaughtUp { cursor: FeedCursor },
    /// The client's copy of the chat cannot be brought up to date.
    Reset { cursor: FeedCursor, reason: ResetReason },
}

impl FeedEvent {
    /// Returns the feed events that every member who is caught up at `version` receives for an event.
    pub fn from_shared(shared: &Arc<SharedEvent>, epoch: DatabaseEpoch, version: i64) -> Vec<Self> {
        let (chat, as_of) = (shared.event.chat, shared.event.published_at);
        let event = |index, version, change, is_new| Self::Change {
            cursor: FeedCursor { epoch, chat, version, snapshot_version: None, as_of },
            change,
            is_new,
            event_ref: Some(EventRef::new(shared, index)),
        };
        match &shared.event.kind {
            ChatEventKind::LogChanges(slice) => {
                let is_new = |change: &Change| is_message_after(change, slice.after_version);
                let changes = slice.changes.iter().enumerate();
                changes.map(|(index, change)| event(index, change.version(), change.clone(), is_new(change))).collect()
            }
            ChatEventKind::MembersUpdated(updates) => {
                let visible = updates.members.iter().enumerate().filter(|(_, update)| update.visible_to_others);
                visible
                    .map(|(index, update)| event(index, version, Change::Member(update.member.clone()), false))
                    .collect()
            }
            ChatEventKind::Deleted { .. } | ChatEventKind::NotificationsChanged(_) | ChatEventKind::CallChanged(_) => {
                Vec::new()
            }
        }
    }

    /// Returns the cache of the event's renderings and the version that is their key, if any are shared.
    pub fn render_cache(&self) -> Option<(&RenderCache, i64)> {
        match self {
            Self::Change { cursor, event_ref, .. } => Some((event_ref.as_ref()?.render_cache()?, cursor.version)),
            Self::CaughtUp { .. } | Self::Reset { .. } => None,
        }
    }

    /// Returns the chat that the event belongs to.
    pub fn chat(&self) -> ChatId {
        let (Self::Change { cursor, .. } | Self::CaughtUp { cursor } | Self::Reset { cursor, .. }) = self;
        cursor.chat
    }
}

/// Returns whether a change is about a message that was sent after `version`.
fn is_message_after(change: &Change, version: i64) -> bool {
    matches!(change, Change::Message(message, _) if message.id.seq > version)
}

/// The feed of one chat. It ends with an error when the viewer's membership or the chat ends.
pub struct ChatFeed {
    deps: FeedDeps,
    subscriber: Subscriber,
    chat: ChatId,
    /// All changes up to here are delivered or wait in `pending`.
    position: FeedPosition,
    /// The time at which the viewer became a member; `None` until the feed has started.
    joined_at: Option<DateTime<Utc>>,
    /// The viewer may read the messages after this number; 0 allows all of them.
    history_after_seq: i64,
    /// The hub may have advanced the position.
    fast_path_active: bool,
    pending: VecDeque<FeedEvent>,
    state: ChatFeedState,
}

enum ChatFeedState {
    Starting(BoxFuture<'static, Result<InitialSnapshot>>),
    CatchingUp(PendingCatchUp, BoxFuture<'static, Result<CatchUpPage>>),
    Live,
    /// The feed has ended, with this error if it was not returned yet.
    Ended(Option<Error>),
}

/// A read of the log that is in progress.
#[derive(Debug, Clone, Copy)]
struct PendingCatchUp {
    /// The version at which the feed was last caught up: later messages are new to the client.
    from_version: i64,
    /// The client's cursor, which may cover messages beyond its version.
    cursor: Option<FeedCursor>,
    /// The client waits for [`FeedEvent::CaughtUp`].
    announce_caught_up: bool,
}

/// The changes after a feed's position.
struct CatchUpPage {
    slice: LogSlice,
    is_last: bool,
    chat_version: i64,
    membership: Member,
    /// Members whose rows changed without a version; empty unless this is the last page.
    unversioned_members: Vec<Member>,
    /// The roots of the threads that the viewer marked as read; empty unless this is the last page.
    read_threads: Vec<Message>,
    read_at: DateTime<Utc>,
}

impl ChatFeed {
    /// Creates the feed of a viewer who may read the chat. The subscriber must follow the chat already.
    pub fn new(deps: FeedDeps, subscriber: Subscriber, chat: ChatId, start: ChatFeedStart) -> Self {
        let as_of = deps.limits.clock.now();
        let initial_read = spawn_detached(load_initial_snapshot(deps.clone(), chat, start));
        Self {
            deps,
            subscriber,
            chat,
            position: FeedPosition { version: 0, member_version: 0, as_of },
            joined_at: None,
            history_after_seq: 0,
            fast_path_active: false,
            pending: VecDeque::new(),
            state: ChatFeedState::Starting(initial_read.boxed()),
        }
    }

    /// Declares that the feed is rendered in the same way as all feeds of the group.
    pub fn join_render_group(&mut self, group: &Arc<dyn RenderGroup>) {
        self.subscriber.join_render_group(group);
    }

    /// Lets the hub write the following events to `sink`, until the feed is polled again.
    ///
    /// The feed must just have returned `Pending`, and all its earlier events must have been written to the same
    /// socket.
    pub fn enable_fast_path(&mut self, sink: &Arc<dyn FrameSink>) {
        if matches!(self.state, ChatFeedState::Live) && self.shares_renderings() {
            self.subscriber.enable_fast_path(self.position, sink);
            self.fast_path_active = true;
        }
    }

    /// Polls for the next event. An error is the last item; after it, the feed returns `None`.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<FeedEvent>>> {
        if std::mem::take(&mut self.fast_path_active)
            && let Some(position) = self.subscriber.disable_fast_path()
        {
            self.position = position;
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
                ChatFeedState::Starting(read) => {
                    let snapshot = ready!(read.poll_unpin(cx));
                    snapshot.map(|snapshot| self.start(snapshot))
                }
                ChatFeedState::CatchingUp(catch_up, read) => {
                    let page = ready!(read.poll_unpin(cx));
                    let catch_up = *catch_up;
                    page.map(|page| self.apply_catch_up(catch_up, page))
                }
            };
            if let Err(error) = step {
                // Events that are pending already are delivered before the error.
                self.state = ChatFeedState::Ended(Some(error));
            }
        }
    }

    fn start(&mut self, InitialSnapshot { version, membership, state }: InitialSnapshot) {
        self.set_membership(&membership);
        self.position.version = version;
        self.position.member_version = version;
        match state {
            InitialState::CaughtUp(newest) => {
                self.enter_live();
                let (epoch, chat, as_of) = (self.deps.epoch, self.chat, self.position.as_of);
                self.pending.extend(newest.into_iter().map(|message| FeedEvent::Change {
                    cursor: FeedCursor { epoch, chat, version: message.id.seq, snapshot_version: Some(version), as_of },
                    change: Change::Message(Arc::new(message), MessageChange::Synced),
                    is_new: true,
                    event_ref: None,
                }));
                self.pending.push_back(FeedEvent::CaughtUp { cursor: self.cursor() });
            }
            InitialState::Behind(cursor) => {
                self.position.version = cursor.version;
                // Changes without a version are delivered last. Until then the feed's cursors keep the time of the
                // client's cursor.
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

    /// Starts to read the changes after the position.
    fn start_catch_up(&mut self, catch_up: PendingCatchUp) {
        METRICS.feed_catch_ups.inc();
        let read = spawn_detached(load_catch_up_page(self.deps.clone(), self.chat, self.position));
        self.state = ChatFeedState::CatchingUp(catch_up, read.boxed());
    }

    fn apply_catch_up(&mut self, catch_up: PendingCatchUp, page: CatchUpPage) {
        if self.joined_at != Some(page.membership.joined_at) {
            return self.reset_to_new_membership(page);
        }
        let PendingCatchUp { from_version, cursor, announce_caught_up } = catch_up;
        for change in page.slice.changes {
            if let Change::Message(message, _) = &change
                && cursor.is_some_and(|cursor| cursor.covers(message.id.seq, message.version))
            {
                continue;
            }
            // A message sent since then is new to the client, even if it was changed or deleted meanwhile.
            let is_new = is_message_after(&change, from_version);
            self.position.version = change.version();
            self.push_event(change, is_new, None);
        }
        self.position.version = page.slice.to_version;
        for member in page.unversioned_members {
            self.push_event(Change::Member(Arc::new(member)), false, None);
        }
        for root in page.read_threads {
            self.push_event(Change::Message(Arc::new(root), MessageChange::Thread), false, None);
        }
        if page.is_last {
            self.enter_live();
            self.position.as_of = page.read_at;
            if announce_caught_up {
                self.pending.push_back(FeedEvent::CaughtUp { cursor: self.cursor() });
            }
        } else {
            self.start_catch_up(catch_up);
        }
    }

    /// Resets the client after the viewer lost access and became a member again.
    fn reset_to_new_membership(&mut self, page: CatchUpPage) {
        self.set_membership(&page.membership);
        self.position =
            FeedPosition { version: page.chat_version, member_version: page.chat_version, as_of: page.read_at };
        self.enter_live();
        self.pending.push_back(FeedEvent::Reset { cursor: self.cursor(), reason: ResetReason::AccessChanged });
    }

    fn on_delivery(&mut self, delivery: Delivery) -> Result<()> {
        let shared = match delivery {
            Delivery::Event(shared) => shared,
            Delivery::Lagged => {
                self.recover_from_gap();
                return Ok(());
            }
        };
        match &shared.event.kind {
            ChatEventKind::LogChanges(slice) => self.apply_log_slice(slice, &shared)?,
            // A row from before the newest delivered member change would replace it by older state, and a row from
            // after the position would be replaced by older state when a change before it is delivered.
            // The same holds for the first message of a thread from before a change that was delivered.
            ChatEventKind::MembersUpdated(updates)
                if updates.as_of_version < self.position.member_version
                    || updates.as_of_version > self.position.version
                    || updates.as_of_version < self.position.version && self.has_own_threads(updates) =>
            {
                self.recover_from_gap()
            }
            ChatEventKind::MembersUpdated(updates) => {
                self.position.as_of = shared.event.published_at;
                let viewer = self.deps.viewer.clone();
                for (index, member) in updates.visible_to(viewer.id()) {
                    self.push_event(Change::Member(member.clone()), false, Some(EventRef::new(&shared, index)));
                }
                for root in updates.threads_read_by(viewer.id()) {
                    self.push_event(Change::Message(root.clone(), MessageChange::Thread), false, None);
                }
            }
            // These are delivered to users and to subscribers of calls.
            ChatEventKind::NotificationsChanged(_) | ChatEventKind::CallChanged(_) => {}
            // A chat that was made again has greater versions.
            ChatEventKind::Deleted { version } if self.position.version > *version => {}
            ChatEventKind::Deleted { .. } => return Err(Error::Forbidden("the chat was deleted".into())),
        }
        Ok(())
    }

    fn has_own_threads(&self, updates: &UnversionedMemberUpdates) -> bool {
        updates.threads_read_by(self.deps.viewer.id()).next().is_some()
    }

    fn apply_log_slice(&mut self, slice: &LogSlice, shared: &Arc<SharedEvent>) -> Result<()> {
        let known_version = self.position.version;
        if slice.after_version > known_version {
            self.recover_from_gap();
            return Ok(());
        }
        let is_rejoin = |change: &Change| match change {
            Change::Member(member) => {
                member.user == *self.deps.viewer.id() && member.is_active() && Some(member.joined_at) != self.joined_at
            }
            Change::Chat(_) | Change::Message(..) => false,
        };
        // The newest state of the row hides the removal before it.
        if slice.changes.iter().any(|change| change.version() > known_version && is_rejoin(change)) {
            self.recover_from_gap();
            return Ok(());
        }
        for (index, change) in slice.changes.iter().enumerate() {
            let version = change.version();
            if version <= known_version {
                continue;
            }
            if let Change::Member(member) = change
                && member.user == *self.deps.viewer.id()
                && !member.is_active()
            {
                return Err(Error::Forbidden("you are no longer a member of this chat".into()));
            }
            self.position.version = version;
            self.position.as_of = shared.event.published_at;
            let is_new = is_message_after(change, known_version);
            self.push_event(change.clone(), is_new, Some(EventRef::new(shared, index)));
        }
        self.position.version = self.position.version.max(slice.to_version);
        Ok(())
    }

    fn set_membership(&mut self, membership: &Member) {
        self.joined_at = Some(membership.joined_at);
        self.history_after_seq = membership.history_after_seq;
    }

    /// Returns whether the viewer may read whatever every other member may.
    ///
    /// A rendering for all members may show earlier messages, as the one that a message replies to.
    fn shares_renderings(&self) -> bool {
        self.history_after_seq == 0
    }

    fn enter_live(&mut self) {
        self.state = ChatFeedState::Live;
        self.subscriber.mark_caught_up(self.chat, self.position.version);
    }

    /// Continues from the database at the current position.
    fn recover_from_gap(&mut self) {
        self.start_catch_up(PendingCatchUp {
            from_version: self.position.version,
            cursor: None,
            announce_caught_up: false,
        });
    }

    /// Adds an event to deliver, unless it is about a message that the viewer may not read.
    fn push_event(&mut self, change: Change, is_new: bool, event_ref: Option<EventRef>) {
        if let Change::Message(message, _) = &change
            && message.id.seq <= self.history_after_seq
        {
            return;
        }
        let event_ref = event_ref.filter(|_| self.shares_renderings());
        if let Change::Member(member) = &change {
            self.position.member_version = self.position.member_version.max(member.version);
        }
        let cursor = self.cursor();
        self.pending.push_back(FeedEvent::Change { cursor, change, is_new, event_ref });
    }

    fn cursor(&self) -> FeedCursor {
        FeedCursor {
            epoch: self.deps.epoch,
            chat: self.chat,
            version: self.position.version,
            snapshot_version: None,
            as_of: self.position.as_of,
        }
    }
}

/// Reads the changes after a position, on one snapshot.
async fn load_catch_up_page(deps: FeedDeps, chat: ChatId, position: FeedPosition) -> Result<CatchUpPage> {
    let FeedDeps { database, limits, viewer, .. } = deps;
    let read_at = limits.clock.now();
    let (_permit, mut conn) = limits.read(&database, &viewer).await?;
    conn.snapshot(async move |conn| {
        let access = MemberAccess::require(conn, &viewer, chat).await?;
        let ChangePage { slice, is_last, .. } =
            change_log::read_changes(conn, access.chat.clone(), position.version).await?;
        let chat_version = access.chat.version;
        let (mut unversioned_members, mut read_threads) = (Vec::new(), Vec::new());
        if is_last {
            let since = position.as_of - REREAD_MARGIN;
            unversioned_members =
                change_log::unversioned_changes_since(conn, &access, since, limits.max_receipt_members).await?;
            let own = &access.membership;
            // Marking a thread as read changes the reader's row too.
            if own.private_state_updated_at.is_some_and(|at| at >= since) {
                read_threads = change_log::threads_read_since(conn, &[own.id()], since).await?;
            }
        }
        let read_threads = read_threads.into_iter().map(|(_, root)| root).collect();
        let membership = access.membership;
        Ok(CatchUpPage { slice, is_last, chat_version, membership, unversioned_members, read_threads, read_at })
    })
    .await
}
