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
use crate::domain::chat_events::ChatEventKind;
use crate::domain::cursors::CallCursor;
use crate::domain::ids::{CallId, UserId};
use crate::domain::rights::require_permission;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::realtime::call_presence::CallPresenceGuard;
use crate::realtime::dispatch::queue::Delivery;
use crate::realtime::dispatch::subscriber::Subscriber;
use crate::realtime::feeds::change_log;
use crate::realtime::feeds::chat::{CatchUpLimits, ResetReason};
use crate::storage::pool::Database;
use crate::storage::{call_signaling, calls};
use crate::tasks::spawn_detached;

/// Signals read at once.
const SIGNAL_PAGE_SIZE: i64 = 16;

#[derive(Debug, Clone)]
pub struct CallEvent {
    pub cursor: CallCursor,
    pub kind: CallEventKind,
}

#[derive(Debug, Clone)]
pub enum CallEventKind {
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
pub struct OwnParticipant {
    pub user: UserId,
    /// The version at which they joined: one who joined anew has another feed.
    pub joined_version: i64,
}

pub struct CallFeed {
    database: Database,
    catch_up_limits: CatchUpLimits,
    viewer: Arc<Viewer>,
    subscriber: Subscriber,
    presence_guard: CallPresenceGuard,
    call: CallId,
    own_participant: Option<OwnParticipant>,
    /// Rows that changed up to this version are told.
    rows_version: i64,
    /// Signals up to this version are told; and a client's cursor stands here.
    signals_version: i64,
    pending: VecDeque<CallEvent>,
    state: CallFeedState,
}

enum CallFeedState {
    /// There is more to read; whether the client waits to hear that it is level.
    Behind {
        announce_caught_up: bool,
    },
    Live,
    /// The call has ended, or the participant has left: what is ready is the last.
    Ended,
}

/// What lies after a feed's position.
struct CallSnapshot {
    call: Call,
    signals: Vec<Signal>,
}

/// Where a feed begins.
pub enum CallFeedStart {
    Beginning,
    After(CallCursor),
    /// What the client gave is no cursor of this feed.
    InvalidCursor,
}

impl CallFeed {
    /// A feed for one who may follow the call. The listener hears of it already, and of the viewer.
    #[expect(clippy::too_many_arguments, reason = "each is another thing that a feed stands on")]
    pub fn new(
        store: Database,
        catch_ups: CatchUpLimits,
        viewer: Arc<Viewer>,
        listener: Subscriber,
        attending: CallPresenceGuard,
        call: CallId,
        own: Option<OwnParticipant>,
        start: CallFeedStart,
    ) -> Self {
        let joined = own.as_ref().map_or(0, |own| own.joined_version);
        let mut feed = Self {
            database: store,
            catch_up_limits: catch_ups,
            viewer,
            subscriber: listener,
            presence_guard: attending,
            call,
            own_participant: own,
            rows_version: 0,
            signals_version: joined,
            pending: VecDeque::new(),
            state: CallFeedState::Behind { announce_caught_up: true },
        };
        match start {
            CallFeedStart::Beginning => {}
            CallFeedStart::After(cursor) => {
                feed.rows_version = cursor.version;
                // What was sent to who they were before they joined anew is for nobody.
                feed.signals_version = cursor.version.max(joined);
            }
            CallFeedStart::InvalidCursor => feed.push_event(CallEventKind::Reset(ResetReason::CursorInvalid)),
        }
        feed
    }

    /// The next event; an error ends the feed, and then there is none.
    pub async fn recv(&mut self) -> Option<Result<CallEvent>> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(Ok(event));
            }
            let gone_on = match self.state {
                CallFeedState::Ended => return None,
                CallFeedState::Behind { announce_caught_up: announce } => self.load_snapshot(announce).await,
                CallFeedState::Live => match self.subscriber.recv().await {
                    Delivery::Event(heard) if !self.is_relevant(&heard.event.kind) => Ok(()),
                    _ => self.load_snapshot(false).await,
                },
            };
            if let Err(error) = gone_on {
                self.state = CallFeedState::Ended;
                return Some(Err(error));
            }
        }
    }

    /// Whether there may be something to read: of the viewer all that happens is heard, in all chats.
    fn is_relevant(&self, what: &ChatEventKind) -> bool {
        match what {
            ChatEventKind::CallChanged(called) => called.call == self.call && called.version > self.signals_version,
            ChatEventKind::NotificationsChanged(_) => false,
            ChatEventKind::LogChanges(_) | ChatEventKind::MembersUpdated(_) | ChatEventKind::Deleted => true,
        }
    }

    async fn load_snapshot(&mut self, announce: bool) -> Result<()> {
        let (store, catch_ups, viewer) = (self.database.clone(), self.catch_up_limits.clone(), self.viewer.clone());
        let (id, own, after) = (self.call, self.own_participant.clone(), self.signals_version);
        let reading = async move {
            let _permit = catch_ups.acquire_permit().await?;
            require_permission(&viewer.permissions, Permission::ChatView)?;
            let mut conn = store.read().await?;
            conn.snapshot(async move |conn| {
                change_log::require_member(conn, &viewer, id.chat).await?;
                // A call goes with its chat alone, which is there.
                let call = calls::by_ids(conn, &[id]).await?.pop().ok_or(Error::NotFound("call"))?;
                let signals = match own {
                    Some(own) => call_signaling::after_version(conn, id, &own.user, after, SIGNAL_PAGE_SIZE).await?,
                    None => Vec::new(),
                };
                Ok(CallSnapshot { call, signals })
            })
            .await
        };
        let read = spawn_detached(reading).await?;
        self.emit(read, announce);
        Ok(())
    }

    fn emit(&mut self, CallSnapshot { call, signals }: CallSnapshot, announce: bool) {
        let call = Arc::new(call);
        let forgotten = self
            .own_participant
            .as_ref()
            .and_then(|own| call.participant(&own.user))
            .map_or(0, |own| own.signals_pruned_to);
        if self.signals_version < forgotten && !call.has_ended() {
            self.signals_version = forgotten;
            self.push_event(CallEventKind::Reset(ResetReason::TooFarBehind));
        }
        if call.state_version > self.rows_version {
            self.push_event(CallEventKind::Call(call.clone()));
        }
        let rows_at = self.rows_version;
        for participant in call.participants.iter().filter(|participant| participant.version > rows_at) {
            let negotiation =
                self.own_participant.as_ref().and_then(|own| call.negotiation(&own.user, &participant.user));
            self.push_event(CallEventKind::Participant(call.clone(), participant.clone(), negotiation));
        }
        self.rows_version = call.version;
        let more = signals.len() as i64 == SIGNAL_PAGE_SIZE;
        for signal in signals {
            self.signals_version = signal.version;
            // Of one who joined anew since, it is of a connection that is no more.
            let from = call.participant(&signal.from).filter(|from| from.joined_version < signal.version);
            if let Some(from) = from.cloned() {
                self.push_event(CallEventKind::Signal(call.clone(), from, signal));
            }
        }
        if more {
            self.presence_guard.set_position(self.signals_version);
            self.state = CallFeedState::Behind { announce_caught_up: announce };
            return;
        }
        self.signals_version = call.version;
        // The last of what was told stands for all of it.
        let cursor = self.cursor();
        if let Some(last) = self.pending.back_mut() {
            last.cursor = cursor;
        }
        self.presence_guard.set_position(call.version);
        if announce {
            self.push_event(CallEventKind::CaughtUp);
        }
        let is_in = |own: &OwnParticipant| {
            call.require_joined(&own.user).is_ok_and(|joined| joined.joined_version == own.joined_version)
        };
        let over = call.has_ended() || self.own_participant.as_ref().is_some_and(|own| !is_in(own));
        self.state = if over { CallFeedState::Ended } else { CallFeedState::Live };
    }

    fn push_event(&mut self, news: CallEventKind) {
        let cursor = self.cursor();
        self.pending.push_back(CallEvent { cursor, kind: news });
    }

    fn cursor(&self) -> CallCursor {
        let participant = self.own_participant.as_ref().map(|own| own.user.clone());
        CallCursor { call: self.call, participant, version: self.signals_version }
    }
}
