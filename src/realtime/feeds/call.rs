//! The feed of one call, as one of its participants or any member of its chat sees it.
//!
//! An event only means that the call changed: each time, everything after the feed's position is read. Rows come before
//! signals, so that the sender of a signal is known to the client by then. The cursor of an event covers what was
//! delivered before it and with it, so a client that is disconnected anywhere resumes without a loss; what it receives
//! twice are states.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::access::MemberAccess;
use crate::domain::call_signaling::Signal;
use crate::domain::calls::{Call, Departure, Negotiation, Participant};
use crate::domain::chat_events::ChatEventKind;
use crate::domain::cursors::CallCursor;
use crate::domain::ids::{CallId, ConnectionId, UserId};
use crate::error::{Error, Result};
use crate::realtime::call_presence::CallPresenceGuard;
use crate::realtime::dispatch::queue::Delivery;
use crate::realtime::dispatch::subscriber::Subscriber;
use crate::realtime::feeds::catch_up::{FeedDeps, ResetReason};
use crate::storage::call_signaling::SignalPage;
use crate::storage::{call_signaling, calls, chats};
use crate::tasks::spawn_detached;

/// An event of a call's feed.
#[derive(Debug, Clone)]
pub struct CallEvent {
    pub cursor: CallCursor,
    pub kind: CallEventKind,
}

/// The kinds of a call feed's events.
#[derive(Debug, Clone)]
pub enum CallEventKind {
    Call(Arc<Call>),
    /// A participant of the call, and how the feed's own participant negotiates with them.
    Participant(Arc<Call>, Participant, Option<Negotiation>),
    /// A signal from this participant to the feed's own.
    Signal(Arc<Call>, Participant, Signal),
    /// Every change before the feed started is delivered.
    CaughtUp,
    /// The client's copy cannot be brought up to date.
    Reset(ResetReason),
    /// The feed is complete.
    Ended(CallFeedEnd),
}

/// The reason why the feed of a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallFeedEnd {
    CallEnded,
    Left,
    Lost,
    /// The user joined again, on this or another device.
    Replaced,
    Removed,
}

/// The connection to which a feed delivers signals.
#[derive(Debug, Clone)]
pub struct OwnParticipant {
    /// After the participant joins again, it is another connection, and this feed ends.
    pub connection: ConnectionId,
    /// The version at which the participant joined.
    pub joined_version: i64,
}

impl OwnParticipant {
    fn user(&self) -> &UserId {
        &self.connection.participant.user
    }

    /// Returns why the connection is no longer in the call, or `None` while it is.
    fn end(&self, call: &Call) -> Option<CallFeedEnd> {
        let participant = call.participant(self.user())?;
        if participant.joins != self.connection.join {
            return Some(CallFeedEnd::Replaced);
        }
        (!participant.is_joined()).then_some(match participant.departure {
            Some(Departure::Lost) => CallFeedEnd::Lost,
            Some(Departure::Removed) => CallFeedEnd::Removed,
            Some(Departure::Left) | None => CallFeedEnd::Left,
        })
    }
}

/// Where a feed starts.
pub enum CallFeedStart {
    /// With the whole call.
    Beginning,
    /// With the changes after a cursor.
    After(CallCursor),
    /// With a reset, as the client's cursor does not belong to this feed.
    InvalidCursor,
}

/// The feed of one call. It ends when the call ends or its participant leaves.
pub struct CallFeed {
    deps: FeedDeps,
    subscriber: Subscriber,
    presence_guard: CallPresenceGuard,
    call: CallId,
    own_participant: Option<OwnParticipant>,
    /// Rows that changed up to this version are delivered.
    rows_version: i64,
    /// Signals up to this version are delivered. It is the version of the client's cursor.
    signals_version: i64,
    /// The state of the call that was read last.
    latest: Option<Arc<Call>>,
    pending: VecDeque<CallEvent>,
    state: CallFeedState,
}

enum CallFeedState {
    /// There is more to read.
    Behind {
        /// The client waits for [`CallEventKind::CaughtUp`].
        announce_caught_up: bool,
    },
    Live,
    /// The call has ended or the participant has left: the pending events are the last.
    Ended,
    /// This error follows the pending events.
    Failed(Error),
}

/// The result of a read.
enum Reading {
    Snapshot(CallSnapshot),
    /// The chat of the call was deleted. The feed ends with this error.
    ChatGone(Error),
}

/// A call, and the first signals after a feed's position.
struct CallSnapshot {
    call: Call,
    page: SignalPage,
}

impl CallFeed {
    /// Creates the feed of a viewer who may follow the call.
    ///
    /// The subscriber must follow the call, its chat's deletion and the viewer already.
    pub fn new(
        deps: FeedDeps,
        subscriber: Subscriber,
        presence_guard: CallPresenceGuard,
        call: CallId,
        own_participant: Option<OwnParticipant>,
        start: CallFeedStart,
    ) -> Self {
        let joined_version = own_participant.as_ref().map_or(0, |own| own.joined_version);
        let mut feed = Self {
            deps,
            subscriber,
            presence_guard,
            call,
            own_participant,
            rows_version: 0,
            signals_version: joined_version,
            latest: None,
            pending: VecDeque::new(),
            state: CallFeedState::Behind { announce_caught_up: true },
        };
        match start {
            CallFeedStart::Beginning => {}
            CallFeedStart::After(cursor) => {
                feed.rows_version = cursor.version;
                // Signals from before the participant joined again belong to their former connections.
                feed.signals_version = cursor.version.max(joined_version);
            }
            CallFeedStart::InvalidCursor => feed.push_event(CallEventKind::Reset(ResetReason::CursorInvalid)),
        }
        feed
    }

    /// Returns the next event. An error is the last item; after it, the feed returns `None`.
    ///
    /// # Errors
    ///
    /// The feed fails with the errors of [`MemberAccess::require`], with [`Error::NotFound`] if the call does not
    /// exist, and with the database's errors.
    ///
    /// # Cancel safety
    ///
    /// Not cancel-safe: a dropped call may lose an event.
    pub async fn recv(&mut self) -> Option<Result<CallEvent>> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(Ok(event));
            }
            let step = match &self.state {
                CallFeedState::Ended => return None,
                CallFeedState::Failed(error) => {
                    let error = error.clone();
                    self.state = CallFeedState::Ended;
                    return Some(Err(error));
                }
                CallFeedState::Behind { announce_caught_up } => self.catch_up(*announce_caught_up).await,
                CallFeedState::Live => match self.subscriber.recv().await {
                    Delivery::Event(shared) if !self.is_relevant(&shared.event.kind) => Ok(()),
                    Delivery::Event(_) | Delivery::Lagged => self.catch_up(false).await,
                },
            };
            if let Err(error) = step {
                if self.own_participant.is_some() && matches!(error, Error::Forbidden(_)) {
                    self.push_event(CallEventKind::Ended(CallFeedEnd::Removed));
                }
                self.state = CallFeedState::Failed(error);
            }
        }
    }

    /// Returns whether the feed has to read after an event.
    ///
    /// The subscriber also receives events about the viewer in other chats and calls.
    fn is_relevant(&self, kind: &ChatEventKind) -> bool {
        match kind {
            ChatEventKind::CallChanged(hint) => hint.call == self.call && hint.version > self.signals_version,
            ChatEventKind::NotificationsChanged(_) => false,
            ChatEventKind::LogChanges(_) | ChatEventKind::MembersUpdated(_) | ChatEventKind::Deleted { .. } => true,
        }
    }

    /// Reads what lies after the position and makes events of it.
    async fn catch_up(&mut self, announce_caught_up: bool) -> Result<()> {
        let signal_recipient = self.own_participant.as_ref().map(|own| own.user().clone());
        let read = load_snapshot(self.deps.clone(), self.call, signal_recipient, self.signals_version);
        match spawn_detached(read).await? {
            Reading::Snapshot(snapshot) => self.emit(snapshot, announce_caught_up),
            Reading::ChatGone(error) => self.end_with_chat(error),
        }
        Ok(())
    }

    /// Ends the feed of a call whose chat was deleted, with the state of the call that was read last.
    fn end_with_chat(&mut self, error: Error) {
        if let Some(latest) = self.latest.take().filter(|latest| !latest.has_ended()) {
            let mut call = Arc::unwrap_or_clone(latest);
            call.end_with_chat(self.deps.limits.clock.now());
            self.emit(CallSnapshot { call, page: SignalPage::default() }, false);
        }
        self.state = CallFeedState::Failed(error);
    }

    fn emit(&mut self, CallSnapshot { call, page }: CallSnapshot, announce_caught_up: bool) {
        let call = Arc::new(call);
        self.latest = Some(call.clone());
        let end = self.end(&call);
        let pruned_to = self
            .own_participant
            .as_ref()
            .and_then(|own| call.participant(own.user()))
            .map_or(0, |own| own.signals_pruned_to);
        if self.signals_version < pruned_to && end.is_none() {
            self.signals_version = pruned_to;
            self.push_event(CallEventKind::Reset(ResetReason::TooFarBehind));
        }
        if call.state_version > self.rows_version {
            self.push_event(CallEventKind::Call(call.clone()));
        }
        let rows_version = self.rows_version;
        for participant in call.participants.iter().filter(|participant| participant.version > rows_version) {
            let negotiation =
                self.own_participant.as_ref().and_then(|own| call.negotiation(own.user(), &participant.user));
            self.push_event(CallEventKind::Participant(call.clone(), participant.clone(), negotiation));
        }
        self.rows_version = call.version;
        // Later signals are those of another connection, if the participant joined again.
        if end.is_none() {
            self.push_signals(&call, page.signals);
        }
        if page.has_more && end.is_none() {
            self.presence_guard.set_position(self.signals_version);
            self.state = CallFeedState::Behind { announce_caught_up };
            return;
        }
        self.signals_version = call.version;
        // The cursor of the last event covers the whole snapshot.
        let cursor = self.cursor();
        if let Some(last) = self.pending.back_mut() {
            last.cursor = cursor;
        }
        self.presence_guard.set_position(call.version);
        if announce_caught_up {
            self.push_event(CallEventKind::CaughtUp);
        }
        self.state = CallFeedState::Live;
        if let Some(end) = end {
            self.push_event(CallEventKind::Ended(end));
            self.state = CallFeedState::Ended;
        }
    }

    /// Returns why the feed ends with the present state of the call, or `None` if it continues.
    fn end(&self, call: &Call) -> Option<CallFeedEnd> {
        if call.has_ended() {
            return Some(CallFeedEnd::CallEnded);
        }
        self.own_participant.as_ref()?.end(call)
    }

    fn push_signals(&mut self, call: &Arc<Call>, signals: Vec<Signal>) {
        for signal in signals {
            self.signals_version = signal.version;
            // A signal from before its sender joined again belongs to a connection that no longer exists.
            let is_present = |sender: &&Participant| sender.is_joined() && sender.joined_version < signal.version;
            if let Some(sender) = call.participant(&signal.from).filter(is_present).cloned() {
                self.push_event(CallEventKind::Signal(call.clone(), sender, signal));
            }
        }
    }

    fn push_event(&mut self, kind: CallEventKind) {
        let cursor = self.cursor();
        self.pending.push_back(CallEvent { cursor, kind });
    }

    fn cursor(&self) -> CallCursor {
        let participant = self.own_participant.as_ref().map(|own| own.user().clone());
        CallCursor { epoch: self.deps.epoch, call: self.call, participant, version: self.signals_version }
    }
}

/// Reads a call, and the signals to a participant after a version, on one snapshot.
async fn load_snapshot(
    deps: FeedDeps,
    id: CallId,
    signal_recipient: Option<UserId>,
    after_version: i64,
) -> Result<Reading> {
    let FeedDeps { database, limits, viewer, .. } = deps;
    let (_permit, mut conn) = limits.read(&database, &viewer).await?;
    conn.snapshot(async move |conn| {
        if let Err(error) = MemberAccess::require(conn, &viewer, id.chat).await {
            let is_gone = chats::versions(conn, &[id.chat]).await?.is_empty();
            return if is_gone { Ok(Reading::ChatGone(error)) } else { Err(error) };
        }
        // A call is deleted only together with its chat, which exists.
        let call = calls::by_ids(conn, &[id]).await?.pop().ok_or(Error::NotFound("call"))?;
        let page = match signal_recipient {
            Some(user) => call_signaling::page_after(conn, id, &user, after_version).await?,
            None => SignalPage::default(),
        };
        Ok(Reading::Snapshot(CallSnapshot { call, page }))
    })
    .await
}
