//! One call as one participant sees it, or as any member of its chat does.
//!
//! What is heard is only that the call has gone on: each time all that lies after the feed's position is
//! read. Rows come first, then the signals in their order, so that whoever sent one is known by then. An
//! event's cursor is what is told before it and with it, so a client that is cut anywhere goes on without
//! a loss; what it gets twice are states.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::domain::call_signaling::Signal;
use crate::domain::calls::{Call, Negotiation, Participant};
use crate::domain::chat_events::Happening;
use crate::domain::cursors::CallCursor;
use crate::domain::ids::{CallId, UserId};
use crate::domain::rights::require;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::realtime::call_presence::Attending;
use crate::realtime::dispatch::queue::Delivery;
use crate::realtime::dispatch::subscriber::Listener;
use crate::realtime::feeds::change_log;
use crate::realtime::feeds::chat::{CatchUps, ResetReason};
use crate::storage::pool::Store;
use crate::storage::{call_signaling, calls};
use crate::tasks::aside;

/// Signals read at once.
const SIGNALS: i64 = 16;

#[derive(Debug, Clone)]
pub struct CallEvent {
    pub cursor: CallCursor,
    pub news: CallNews,
}

#[derive(Debug, Clone)]
pub enum CallNews {
    Call(Arc<Call>),
    /// Somebody in it, and how the feed's own participant negotiates with them.
    Participant(Arc<Call>, Participant, Option<Negotiation>),
    /// A signal to the feed's participant, from this one.
    Signal(Arc<Call>, Participant, Signal),
    /// All that happened before is told.
    CaughtUp,
    /// What the client holds can't be brought up to date.
    Reset(ResetReason),
}

/// Whose feed it is.
#[derive(Debug, Clone)]
pub struct Own {
    pub user: UserId,
    /// The version at which they joined: one who joined anew has another feed.
    pub joined: i64,
}

pub struct CallFeed {
    store: Store,
    catch_ups: CatchUps,
    viewer: Arc<Viewer>,
    listener: Listener,
    attending: Attending,
    call: CallId,
    own: Option<Own>,
    /// Rows that changed up to this version are told.
    rows_at: i64,
    /// Signals up to this version are told; and a client's cursor stands here.
    signals_at: i64,
    ready: VecDeque<CallEvent>,
    mode: Mode,
}

enum Mode {
    /// There is more to read; whether the client waits to hear that it is level.
    Behind {
        announce: bool,
    },
    Live,
    /// The call has ended, or the participant has left: what is ready is the last.
    Over,
}

/// What lies after a feed's position.
struct Read {
    call: Call,
    signals: Vec<Signal>,
}

/// Where a feed begins.
pub enum Start {
    Beginning,
    After(CallCursor),
    /// What the client gave is no cursor of this feed.
    Unreadable,
}

impl CallFeed {
    /// A feed for one who may follow the call. The listener hears of it already, and of the viewer.
    #[expect(clippy::too_many_arguments, reason = "each is another thing that a feed stands on")]
    pub fn new(
        store: Store,
        catch_ups: CatchUps,
        viewer: Arc<Viewer>,
        listener: Listener,
        attending: Attending,
        call: CallId,
        own: Option<Own>,
        start: Start,
    ) -> Self {
        let joined = own.as_ref().map_or(0, |own| own.joined);
        let mut feed = Self {
            store,
            catch_ups,
            viewer,
            listener,
            attending,
            call,
            own,
            rows_at: 0,
            signals_at: joined,
            ready: VecDeque::new(),
            mode: Mode::Behind { announce: true },
        };
        match start {
            Start::Beginning => {}
            Start::After(cursor) => {
                feed.rows_at = cursor.version;
                // What was sent to who they were before they joined anew is for nobody.
                feed.signals_at = cursor.version.max(joined);
            }
            Start::Unreadable => feed.put(CallNews::Reset(ResetReason::CursorInvalid)),
        }
        feed
    }

    /// The next event; an error ends the feed, and then there is none.
    pub async fn next(&mut self) -> Option<Result<CallEvent>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            let gone_on = match self.mode {
                Mode::Over => return None,
                Mode::Behind { announce } => self.read(announce).await,
                Mode::Live => match self.listener.next().await {
                    Delivery::Event(heard) if !self.concerns(&heard.event.what) => Ok(()),
                    _ => self.read(false).await,
                },
            };
            if let Err(error) = gone_on {
                self.mode = Mode::Over;
                return Some(Err(error));
            }
        }
    }

    /// Whether there may be something to read: of the viewer all that happens is heard, in all chats.
    fn concerns(&self, what: &Happening) -> bool {
        match what {
            Happening::Called(called) => called.call == self.call && called.version > self.signals_at,
            Happening::Notified(_) => false,
            Happening::Changed(_) | Happening::Moved(_) | Happening::Deleted => true,
        }
    }

    async fn read(&mut self, announce: bool) -> Result<()> {
        let (store, catch_ups, viewer) = (self.store.clone(), self.catch_ups.clone(), self.viewer.clone());
        let (id, own, after) = (self.call, self.own.clone(), self.signals_at);
        let reading = async move {
            let _permit = catch_ups.permit().await?;
            require(&viewer.permissions, Permission::ChatView)?;
            let mut conn = store.read().await?;
            conn.snapshot(async move |conn| {
                change_log::authorised(conn, &viewer, id.chat).await?;
                // A call goes with its chat alone, which is there.
                let call = calls::by_ids(conn, &[id]).await?.pop().ok_or(Error::NotFound("call"))?;
                let signals = match own {
                    Some(own) => call_signaling::after(conn, id, &own.user, after, SIGNALS).await?,
                    None => Vec::new(),
                };
                Ok(Read { call, signals })
            })
            .await
        };
        let read = aside(reading).await?;
        self.tell(read, announce);
        Ok(())
    }

    fn tell(&mut self, Read { call, signals }: Read, announce: bool) {
        let call = Arc::new(call);
        let forgotten = self.own.as_ref().and_then(|own| call.participant(&own.user)).map_or(0, |own| own.forgotten);
        if self.signals_at < forgotten && !call.has_ended() {
            self.signals_at = forgotten;
            self.put(CallNews::Reset(ResetReason::TooFarBehind));
        }
        if call.own_version > self.rows_at {
            self.put(CallNews::Call(call.clone()));
        }
        let rows_at = self.rows_at;
        for participant in call.participants.iter().filter(|participant| participant.version > rows_at) {
            let negotiation = self.own.as_ref().and_then(|own| call.negotiation(&own.user, &participant.user));
            self.put(CallNews::Participant(call.clone(), participant.clone(), negotiation));
        }
        self.rows_at = call.version;
        let more = signals.len() as i64 == SIGNALS;
        for signal in signals {
            self.signals_at = signal.version;
            // Of one who joined anew since, it is of a connection that is no more.
            let from = call.participant(&signal.from).filter(|from| from.joined_version < signal.version);
            if let Some(from) = from.cloned() {
                self.put(CallNews::Signal(call.clone(), from, signal));
            }
        }
        if more {
            self.attending.is_at(self.signals_at);
            self.mode = Mode::Behind { announce };
            return;
        }
        self.signals_at = call.version;
        // The last of what was told stands for all of it.
        let cursor = self.cursor();
        if let Some(last) = self.ready.back_mut() {
            last.cursor = cursor;
        }
        self.attending.is_at(call.version);
        if announce {
            self.put(CallNews::CaughtUp);
        }
        let is_in = |own: &Own| call.joined(&own.user).is_ok_and(|joined| joined.joined_version == own.joined);
        let over = call.has_ended() || self.own.as_ref().is_some_and(|own| !is_in(own));
        self.mode = if over { Mode::Over } else { Mode::Live };
    }

    fn put(&mut self, news: CallNews) {
        let cursor = self.cursor();
        self.ready.push_back(CallEvent { cursor, news });
    }

    fn cursor(&self) -> CallCursor {
        let participant = self.own.as_ref().map(|own| own.user.clone());
        CallCursor { call: self.call, participant, version: self.signals_at }
    }
}
