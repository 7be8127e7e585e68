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

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::hub::{Delivery, Listener};
use super::log;
use crate::domain::changes::{Change, Happening, MessageChange};
use crate::domain::clock::Clock;
use crate::domain::cursors::FeedCursor;
use crate::domain::ids::ChatId;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::storage::{Store, messages};

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetReason {
    CursorInvalid,
    TooFarBehind,
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
const SLACK: TimeDelta = TimeDelta::seconds(10);

pub struct ChatFeed {
    store: Store,
    catch_ups: CatchUps,
    viewer: Arc<Viewer>,
    listener: Listener,
    chat: ChatId,
    /// Every change up to this version was told, or is in `ready`.
    position: i64,
    /// When the feed last heard or read: positions that moved up to then, but for [`SLACK`], are told.
    heard_at: DateTime<Utc>,
    ready: VecDeque<FeedEvent>,
    mode: Mode,
}

#[derive(Debug)]
enum Mode {
    Starting(Start),
    Behind(Gap),
    Live,
    Ended(Option<Error>),
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
        Self {
            store,
            catch_ups,
            viewer,
            listener,
            chat,
            position: 0,
            heard_at: DateTime::<Utc>::UNIX_EPOCH,
            ready: VecDeque::new(),
            mode: Mode::Starting(start),
        }
    }

    /// The next event; an error ends the feed, and then there is none.
    pub async fn next(&mut self) -> Option<Result<FeedEvent>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            let step = match &mut self.mode {
                Mode::Ended(error) => return error.take().map(Err),
                Mode::Starting(start) => {
                    let start = std::mem::replace(start, Start::Now);
                    self.begin(start).await
                }
                Mode::Behind(gap) => {
                    let gap = *gap;
                    self.catch_up(gap).await
                }
                Mode::Live => self.hear().await,
            };
            if let Err(error) = step {
                // What happened before the end is told before it.
                self.mode = Mode::Ended(Some(error));
            }
        }
    }

    async fn begin(&mut self, start: Start) -> Result<()> {
        let _permit = self.catch_ups.permit().await?;
        let (chat, viewer) = (self.chat, self.viewer.clone());
        let limit = self.catch_ups.limit;
        self.heard_at = self.catch_ups.clock.now();
        let at = self.heard_at;
        let mut conn = self.store.read().await?;
        self.mode = Mode::Live;
        match start {
            Start::Now => {
                let state = log::authorised(&mut conn, &viewer, chat).await?.chat;
                self.position = state.version;
                self.ready.push_back(FeedEvent::CaughtUp { cursor: self.cursor() });
            }
            Start::Newest(number) => {
                let (version, newest) = conn
                    .snapshot(async move |conn| {
                        let state = log::authorised(conn, &viewer, chat).await?.chat;
                        Ok((state.version, messages::newest(conn, chat, number).await?))
                    })
                    .await?;
                self.position = version;
                self.ready.extend(newest.into_iter().map(|message| FeedEvent::Change {
                    cursor: FeedCursor { chat, version: message.id.seq, snapshot: Some(version), at },
                    change: Change::Message(Arc::new(message), MessageChange::Synced),
                    first_told: true,
                }));
                self.ready.push_back(FeedEvent::CaughtUp { cursor: self.cursor() });
            }
            Start::After(cursor) => {
                let state = log::authorised(&mut conn, &viewer, chat).await?.chat;
                let cursor = FeedCursor::decode(&cursor, chat).filter(|cursor| cursor.version <= state.version);
                let reason = match cursor {
                    None => Some(ResetReason::CursorInvalid),
                    Some(cursor) if log::is_beyond(&mut conn, &state, cursor.version, limit).await? => {
                        Some(ResetReason::TooFarBehind)
                    }
                    Some(_) => None,
                };
                match (cursor, reason) {
                    (Some(cursor), None) => {
                        self.position = cursor.version;
                        // What moved since is told last: until then, what is told is of the cursor's time.
                        self.heard_at = cursor.at.min(self.heard_at);
                        self.mode = Mode::Behind(Gap { from: cursor.version, cursor: Some(cursor), announce: true });
                    }
                    (_, reason) => {
                        self.position = state.version;
                        let reason = reason.unwrap_or(ResetReason::CursorInvalid);
                        self.ready.push_back(FeedEvent::Reset { cursor: self.cursor(), reason });
                    }
                }
            }
        }
        Ok(())
    }

    async fn catch_up(&mut self, Gap { from, cursor, announce }: Gap) -> Result<()> {
        let _permit = self.catch_ups.permit().await?;
        let (chat, viewer, position) = (self.chat, self.viewer.clone(), self.position);
        let receipts = self.catch_ups.receipt_members;
        let (moved_since, read_at) = (self.heard_at - SLACK, self.catch_ups.clock.now());
        let mut conn = self.store.read().await?;
        let (stretch, moved) = conn
            .snapshot(async move |conn| {
                let stretch = log::after(conn, &viewer, chat, position).await?;
                let moved = match stretch.level {
                    true => log::moved(conn, &stretch, moved_since, receipts).await?,
                    false => Vec::new(),
                };
                Ok((stretch, moved))
            })
            .await?;
        for change in stretch.changes {
            let (change, first_told) = match change {
                Change::Message(message, _) => {
                    if cursor.is_some_and(|cursor| cursor.covers(message.id.seq, message.version)) {
                        continue;
                    }
                    // A message made since the position is new to the client, whatever became of it.
                    let new = message.id.seq > from;
                    let added = new && message.version == message.id.seq;
                    let kind = if added { MessageChange::Added } else { MessageChange::Synced };
                    (Change::Message(message, kind), new)
                }
                change => (change, false),
            };
            self.position = change.version();
            self.tell(change, first_told);
        }
        self.position = stretch.end;
        for member in moved {
            self.tell(Change::Member(Arc::new(member)), false);
        }
        if stretch.level {
            self.mode = Mode::Live;
            self.heard_at = read_at;
            if announce {
                self.ready.push_back(FeedEvent::CaughtUp { cursor: self.cursor() });
            }
        }
        Ok(())
    }

    async fn hear(&mut self) -> Result<()> {
        let event = match self.listener.next().await {
            Delivery::Event(event) => event,
            Delivery::Overflow => {
                self.fall_behind();
                return Ok(());
            }
        };
        match &event.what {
            Happening::Changed(changes) => self.follow(changes)?,
            // Rows of before what was told could put old in the place of new.
            Happening::Moved(moved) if moved.as_of < self.position => self.fall_behind(),
            Happening::Moved(moved) => {
                self.heard_at = self.catch_ups.clock.now();
                let viewer = self.viewer.clone();
                for member in moved.seen_by(viewer.id()) {
                    self.tell(Change::Member(member.clone()), false);
                }
            }
            Happening::Deleted => return Err(Error::Forbidden("the chat was deleted".into())),
        }
        Ok(())
    }

    fn follow(&mut self, changes: &[Change]) -> Result<()> {
        for change in changes {
            let version = change.version();
            if version <= self.position {
                continue;
            }
            if version > self.position + 1 {
                self.fall_behind();
                return Ok(());
            }
            if let Change::Member(member) = change
                && member.user == *self.viewer.id()
                && !member.is_active()
            {
                return Err(Error::Forbidden("you are no longer a member of this chat".into()));
            }
            self.position = version;
            self.heard_at = self.catch_ups.clock.now();
            let added = matches!(change, Change::Message(_, MessageChange::Added));
            self.tell(change.clone(), added);
        }
        Ok(())
    }

    fn fall_behind(&mut self) {
        self.mode = Mode::Behind(Gap { from: self.position, cursor: None, announce: false });
    }

    fn tell(&mut self, change: Change, first_told: bool) {
        let cursor = self.cursor();
        self.ready.push_back(FeedEvent::Change { cursor, change, first_told });
    }

    fn cursor(&self) -> FeedCursor {
        FeedCursor { chat: self.chat, version: self.position, snapshot: None, at: self.heard_at }
    }
}
