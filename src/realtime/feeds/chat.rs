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

use crate::domain::chat_events::{Change, Happening, MessageChange, Stretch};
use crate::domain::clock::Clock;
use crate::domain::cursors::FeedCursor;
use crate::domain::ids::ChatId;
use crate::domain::members::Member;
use crate::domain::messages::Message;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::metrics::METRICS;
use crate::realtime::dispatch::fast_path::{Outlet, Place};
use crate::realtime::dispatch::queue::{Delivery, Heard, Origin};
use crate::realtime::dispatch::render_cache::Memo;
use crate::realtime::dispatch::subscriber::Listener;
use crate::realtime::dispatch::topic::Audience;
use crate::realtime::feeds::change_log;
use crate::storage::messages;
use crate::storage::pool::Store;
use crate::tasks::aside;

/// Where a feed begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With what happens from now on.
    Now,
    /// With the newest messages, the oldest of them first.
    Newest(usize),
    /// With all that changed since a cursor, as the client gave it.
    After(String),
}

#[derive(Debug, Clone)]
pub enum FeedEvent {
    Change {
        cursor: FeedCursor,
        change: Change,
        /// A message that this feed tells of for the first time.
        first_told: bool,
        /// None where it was read back.
        origin: Option<Origin>,
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
    pub fn all(heard: &Arc<Heard>, version: i64) -> Vec<Self> {
        let (chat, at) = (heard.event.chat, heard.event.at);
        let told = |place, version, change, first_told| Self::Change {
            cursor: FeedCursor { chat, version, snapshot: None, at },
            change,
            first_told,
            origin: Some(Origin::new(heard, place)),
        };
        match &heard.event.what {
            Happening::Changed(stretch) => {
                let is_new =
                    |change: &Change| matches!(change, Change::Message(message, _) if message.id.seq > stretch.after);
                let changes = stretch.changes.iter().enumerate();
                changes.map(|(place, change)| told(place, change.version(), change.clone(), is_new(change))).collect()
            }
            Happening::Moved(moved) => {
                let shown = moved.members.iter().enumerate().filter(|(_, moved)| moved.shown);
                shown.map(|(place, moved)| told(place, version, Change::Member(moved.member.clone()), false)).collect()
            }
            Happening::Deleted | Happening::Notified(_) | Happening::Called(_) => Vec::new(),
        }
    }

    /// What was made of it for all who hear it at this position, where more than one does.
    pub fn memo(&self) -> Option<(&Memo, i64)> {
        match self {
            Self::Change { cursor, origin, .. } => Some((origin.as_ref()?.memo()?, cursor.version)),
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
pub struct CatchUps {
    /// Bounds the reads at once, so that a crowd that reconnects doesn't take the database.
    pub permits: Arc<Semaphore>,
    /// Changes that a resuming feed is told one by one.
    pub limit: usize,
    /// Members of the largest chat in which all are told who read what.
    pub receipt_members: usize,
    pub clock: Clock,
}

impl CatchUps {
    pub async fn permit(&self) -> Result<OwnedSemaphorePermit> {
        let permit = self.permits.clone().acquire_owned().await;
        permit.map_err(|_| Error::unavailable("the server is stopping"))
    }
}

/// Positions take no version; those that moved so long before a cursor are sent again after it, which
/// covers what was on its way and clocks that differ.
pub const SLACK: TimeDelta = TimeDelta::seconds(10);

/// How a feed begins, by what the database says.
enum Beginning {
    /// With these messages, and then level.
    Level(Vec<Message>),
    /// Behind, at the client's cursor.
    Behind(FeedCursor),
    Reset(ResetReason),
}

/// The chat's version, and how a feed begins there.
async fn beginning(
    store: Store,
    catch_ups: CatchUps,
    viewer: Arc<Viewer>,
    chat: ChatId,
    start: Start,
) -> Result<(i64, Beginning)> {
    let _permit = catch_ups.permit().await?;
    let mut conn = store.read().await?;
    conn.snapshot(async move |conn| {
        let state = change_log::authorised(conn, &viewer, chat).await?.chat;
        let beginning = match start {
            Start::Now => Beginning::Level(Vec::new()),
            Start::Newest(number) => Beginning::Level(messages::newest(conn, chat, number).await?),
            Start::After(cursor) => {
                let cursor = FeedCursor::decode(&cursor, chat).filter(|cursor| cursor.version <= state.version);
                match cursor {
                    None => Beginning::Reset(ResetReason::CursorInvalid),
                    Some(cursor) if change_log::is_beyond(conn, &state, cursor.version, catch_ups.limit).await? => {
                        Beginning::Reset(ResetReason::TooFarBehind)
                    }
                    Some(cursor) => Beginning::Behind(cursor),
                }
            }
        };
        Ok((state.version, beginning))
    })
    .await
}

pub struct ChatFeed {
    store: Store,
    catch_ups: CatchUps,
    viewer: Arc<Viewer>,
    listener: Listener,
    chat: ChatId,
    /// What lies up to here was told, or is in `ready`.
    place: Place,
    /// The hub may have moved the place on.
    lent: bool,
    ready: VecDeque<FeedEvent>,
    mode: Mode,
}

enum Mode {
    Beginning(BoxFuture<'static, Result<(i64, Beginning)>>),
    Behind(Gap, BoxFuture<'static, Result<CaughtUp>>),
    Live,
    Ended(Option<Error>),
}

/// What lies after a feed's position.
struct CaughtUp {
    stretch: Stretch,
    level: bool,
    /// Members who moved without a version.
    moved: Vec<Member>,
    at: DateTime<Utc>,
}

/// Why a feed reads the log.
#[derive(Debug, Clone, Copy)]
struct Gap {
    /// The position at which the feed was last level: later messages are new to the client.
    from: i64,
    /// What the client's cursor covers beyond its version.
    cursor: Option<FeedCursor>,
    /// Whether the client waits for [`FeedEvent::CaughtUp`].
    announce: bool,
}

impl ChatFeed {
    /// A feed for a viewer who may read the chat. The listener hears of it already.
    pub fn new(
        store: Store,
        catch_ups: CatchUps,
        viewer: Arc<Viewer>,
        listener: Listener,
        chat: ChatId,
        start: Start,
    ) -> Self {
        let heard_at = catch_ups.clock.now();
        let beginning = aside(beginning(store.clone(), catch_ups.clone(), viewer.clone(), chat, start));
        let mode = Mode::Beginning(beginning.boxed());
        Self {
            store,
            catch_ups,
            viewer,
            listener,
            chat,
            place: Place { position: 0, members_at: 0, heard_at },
            lent: false,
            ready: VecDeque::new(),
            mode,
        }
    }

    /// Tells the same as the feeds of all of this audience.
    pub fn share(&mut self, audience: &Arc<dyn Audience>) {
        self.listener.share(audience);
    }

    /// Lets what follows go straight to the subscriber, until the feed is polled again: for one that has just
    /// been polled and was pending, and whose events were all written.
    pub fn lend(&mut self, outlet: &Arc<dyn Outlet>) {
        if matches!(self.mode, Mode::Live) {
            self.listener.lend(self.place, outlet);
            self.lent = true;
        }
    }

    /// The next event; an error ends the feed, and then there is none. Polled by hand, as most events
    /// pass here, for every subscriber.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<FeedEvent>>> {
        if std::mem::take(&mut self.lent)
            && let Some(place) = self.listener.reclaim()
        {
            self.place = place;
        }
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            let step = match &mut self.mode {
                Mode::Ended(error) => return Poll::Ready(error.take().map(Err)),
                Mode::Live => {
                    let delivery = ready!(self.listener.poll_next(cx));
                    self.hear(delivery)
                }
                Mode::Beginning(beginning) => {
                    let found = ready!(beginning.poll_unpin(cx));
                    found.map(|(version, beginning)| self.begin(version, beginning))
                }
                Mode::Behind(gap, reading) => {
                    let read = ready!(reading.poll_unpin(cx));
                    let gap = *gap;
                    read.map(|read| self.catch_up(gap, read))
                }
            };
            if let Err(error) = step {
                // What happened before the end is told before it.
                self.mode = Mode::Ended(Some(error));
            }
        }
    }

    fn begin(&mut self, version: i64, beginning: Beginning) {
        self.place.position = version;
        self.place.members_at = version;
        match beginning {
            Beginning::Level(newest) => {
                self.go_live();
                let (chat, at) = (self.chat, self.place.heard_at);
                self.ready.extend(newest.into_iter().map(|message| FeedEvent::Change {
                    cursor: FeedCursor { chat, version: message.id.seq, snapshot: Some(version), at },
                    change: Change::Message(Arc::new(message), MessageChange::Synced),
                    first_told: true,
                    origin: None,
                }));
                self.ready.push_back(FeedEvent::CaughtUp { cursor: self.cursor() });
            }
            Beginning::Behind(cursor) => {
                self.place.position = cursor.version;
                // What moved since is told last: until then, what is told is of the cursor's time.
                self.place.heard_at = cursor.at.min(self.place.heard_at);
                self.fall_behind(Gap { from: cursor.version, cursor: Some(cursor), announce: true });
            }
            Beginning::Reset(reason) => {
                self.go_live();
                self.ready.push_back(FeedEvent::Reset { cursor: self.cursor(), reason });
            }
        }
    }

    /// Begins to read what lies after the position.
    fn fall_behind(&mut self, gap: Gap) {
        METRICS.catch_ups.inc();
        let (store, catch_ups, viewer) = (self.store.clone(), self.catch_ups.clone(), self.viewer.clone());
        let (chat, position, moved_since) = (self.chat, self.place.position, self.place.heard_at - SLACK);
        let reading = aside(async move {
            let _permit = catch_ups.permit().await?;
            let at = catch_ups.clock.now();
            let mut conn = store.read().await?;
            conn.snapshot(async move |conn| {
                let standing = change_log::authorised(conn, &viewer, chat).await?;
                let read = change_log::read(conn, standing.chat.clone(), position).await?;
                let moved = match read.level {
                    true => change_log::moved(conn, &standing, moved_since, catch_ups.receipt_members).await?,
                    false => Vec::new(),
                };
                Ok(CaughtUp { stretch: read.stretch, level: read.level, moved, at })
            })
            .await
        });
        self.mode = Mode::Behind(gap, reading.boxed());
    }

    fn catch_up(&mut self, gap: Gap, read: CaughtUp) {
        let (Gap { from, cursor, announce }, CaughtUp { stretch, level, moved, at }) = (gap, read);
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
            self.place.position = change.version();
            self.tell(change, first_told, None);
        }
        self.place.position = stretch.end;
        for member in moved {
            self.tell(Change::Member(Arc::new(member)), false, None);
        }
        if level {
            self.go_live();
            self.place.heard_at = at;
            if announce {
                self.ready.push_back(FeedEvent::CaughtUp { cursor: self.cursor() });
            }
        } else {
            self.fall_behind(gap);
        }
    }

    fn hear(&mut self, delivery: Delivery) -> Result<()> {
        let heard = match delivery {
            Delivery::Event(heard) => heard,
            Delivery::Overflow => {
                self.mind_the_gap();
                return Ok(());
            }
        };
        match &heard.event.what {
            Happening::Changed(stretch) => self.follow(stretch, &heard)?,
            // A row of before what was told of members could put old in the place of new.
            Happening::Moved(moved) if moved.as_of < self.place.members_at => self.mind_the_gap(),
            Happening::Moved(moved) => {
                self.place.heard_at = heard.event.at;
                let viewer = self.viewer.clone();
                for (place, member) in moved.seen_by(viewer.id()) {
                    self.tell(Change::Member(member.clone()), false, Some(Origin::new(&heard, place)));
                }
            }
            // Told to people, not to chats.
            Happening::Notified(_) | Happening::Called(_) => {}
            Happening::Deleted => return Err(Error::Forbidden("the chat was deleted".into())),
        }
        Ok(())
    }

    fn follow(&mut self, stretch: &Stretch, heard: &Arc<Heard>) -> Result<()> {
        let level = self.place.position;
        if stretch.after > level {
            self.mind_the_gap();
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
            self.place.position = version;
            self.place.heard_at = heard.event.at;
            let first_told = matches!(change, Change::Message(message, _) if message.id.seq > level);
            self.tell(change.clone(), first_told, Some(Origin::new(heard, place)));
        }
        self.place.position = self.place.position.max(stretch.end);
        Ok(())
    }

    fn go_live(&mut self) {
        self.mode = Mode::Live;
        self.listener.is_level(self.chat, self.place.position);
    }

    /// Goes on from the database, from where it was level last.
    fn mind_the_gap(&mut self) {
        self.fall_behind(Gap { from: self.place.position, cursor: None, announce: false });
    }

    fn tell(&mut self, change: Change, first_told: bool, origin: Option<Origin>) {
        if let Change::Member(member) = &change {
            self.place.members_at = self.place.members_at.max(member.version);
        }
        let cursor = self.cursor();
        self.ready.push_back(FeedEvent::Change { cursor, change, first_told, origin });
    }

    fn cursor(&self) -> FeedCursor {
        FeedCursor { chat: self.chat, version: self.place.position, snapshot: None, at: self.place.heard_at }
    }
}
