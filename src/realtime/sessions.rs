//! Sessions: connections that outlive a request, and the state of their tokens.
//!
//! A session belongs to a WebSocket or to an event stream. Its token expires, is renewed by the client, or is revoked
//! together with all other tokens of its user.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::domain::clock::Clock;
use crate::domain::ids::OrganizationId;
use crate::domain::users::{UserKey, Viewer};
use crate::error::Error;
use crate::tasks::tick_while_alive;

/// The time between the warning of a session and the expiry of its token.
pub const EXPIRY_WARNING: TimeDelta = TimeDelta::minutes(1);
/// The interval in which deadlines are compared with the clock.
const TICK_INTERVAL: Duration = Duration::from_millis(200);

/// The state of a session's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// The token is valid.
    Open,
    /// The token expires at this time, within [`EXPIRY_WARNING`].
    Expiring(DateTime<Utc>),
    /// The token has expired.
    Expired,
    /// The token was revoked.
    Revoked,
    /// This server no longer serves the organisation of the user.
    OrganizationGone,
}

impl SessionState {
    /// Returns true if the session has ended.
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Expired | Self::Revoked | Self::OrganizationGone)
    }
}

/// One session, which ends when its last reference is dropped.
///
/// The lock protects the viewer of the newest token. Lock order: the index of [`Sessions`], then the viewer of a
/// session. The watch channel of the state has a lock of its own, which is taken while neither of them is held.
#[derive(Debug)]
pub struct Session {
    sessions: Arc<Sessions>,
    id: u64,
    viewer: RwLock<Arc<Viewer>>,
    state: watch::Sender<SessionState>,
    /// Set before `state` changes to a final state: every write to a socket reads it, without a lock.
    has_ended: AtomicBool,
    /// The error of requests to the user's organisation, once this server no longer serves it.
    organization_error: OnceLock<Error>,
    /// The number of open feeds by which the client takes part in calls.
    call_feeds: watch::Sender<usize>,
}

/// An open feed by which a client takes part in a call, until it is dropped.
#[derive(Debug)]
pub struct CallFeedCount {
    session: Arc<Session>,
}

/// The sessions of this node.
///
/// The lock protects the index. See [`Session`] for the lock order. It is not held at an await point.
#[derive(Debug)]
pub struct Sessions {
    index: Mutex<SessionIndex>,
    next_id: AtomicU64,
    clock: Clock,
}

#[derive(Debug, Default)]
struct SessionIndex {
    by_user: HashMap<UserKey, HashMap<u64, Weak<Session>>>,
    /// The time of the next change of state of each session: its warning or its expiry.
    deadlines: BTreeMap<(DateTime<Utc>, u64), Weak<Session>>,
}

impl Sessions {
    /// Creates the collection of sessions and starts its expiry loop.
    ///
    /// The loop ends when the last reference to the collection is dropped. After a panic in the loop, sessions end
    /// late: when another session is opened or renewed.
    pub fn start(clock: Clock) -> Arc<Self> {
        let sessions = Arc::new(Self { index: Mutex::default(), next_id: AtomicU64::default(), clock });
        tick_while_alive(&sessions, TICK_INTERVAL, Self::tick);
        sessions
    }

    /// Opens a session of a viewer.
    pub fn open(self: &Arc<Self>, viewer: Arc<Viewer>) -> Arc<Session> {
        let session = Arc::new(Session {
            sessions: self.clone(),
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            viewer: RwLock::new(viewer.clone()),
            state: watch::Sender::new(SessionState::Open),
            has_ended: AtomicBool::new(false),
            organization_error: OnceLock::new(),
            call_feeds: watch::Sender::new(0),
        });
        let weak = Arc::downgrade(&session);
        let mut index = self.index.lock();
        index.by_user.entry(viewer.key()).or_default().insert(session.id, weak.clone());
        index.deadlines.insert((viewer.expires_at - EXPIRY_WARNING, session.id), weak);
        drop(index);
        self.tick();
        session
    }

    /// Ends the sessions of a user whose tokens were issued until `before`, or have no time of issue.
    pub fn revoke(&self, user_key: &UserKey, before: DateTime<Utc>) {
        for session in self.for_user(user_key) {
            if session.viewer().is_revoked(before) {
                session.has_ended.store(true, Ordering::Release);
                session.state.send_replace(SessionState::Revoked);
            }
        }
    }

    /// Ends the sessions of an organisation's users with the error that new requests get.
    pub fn end_organization(&self, organization: &OrganizationId, error: &Error) {
        let index = self.index.lock();
        let of_organization = index.by_user.iter().filter(|((known, _), _)| known == organization);
        let sessions: Vec<_> =
            of_organization.flat_map(|(_, sessions)| sessions.values()).filter_map(Weak::upgrade).collect();
        // The states change without the lock, and so does the drop of a last reference, which takes it.
        drop(index);
        for session in sessions {
            // Another error may have ended the session before.
            session.organization_error.set(error.clone()).ok();
            session.has_ended.store(true, Ordering::Release);
            session.state.send_replace(SessionState::OrganizationGone);
        }
    }

    fn for_user(&self, user_key: &UserKey) -> Vec<Arc<Session>> {
        let index = self.index.lock();
        index.by_user.get(user_key).into_iter().flat_map(HashMap::values).filter_map(Weak::upgrade).collect()
    }

    /// Changes the state of the sessions whose deadline has passed.
    fn tick(&self) {
        let now = self.clock.now();
        let mut due = Vec::new();
        let mut index = self.index.lock();
        while let Some(first) = index.deadlines.first_entry()
            && first.key().0 <= now
        {
            due.extend(first.remove().upgrade());
        }
        for session in &due {
            let expires_at = session.viewer().expires_at;
            if expires_at > now {
                index.deadlines.insert((expires_at, session.id), Arc::downgrade(session));
            }
        }
        // The states change without the lock, and so does the drop of a last reference, which takes it.
        drop(index);
        for session in due {
            let expires_at = session.viewer().expires_at;
            let due_state = if expires_at > now { SessionState::Expiring(expires_at) } else { SessionState::Expired };
            if due_state.has_ended() {
                session.has_ended.store(true, Ordering::Release);
            }
            session.state.send_if_modified(|state| {
                let is_change = !state.has_ended() && *state != due_state;
                if is_change {
                    *state = due_state;
                }
                is_change
            });
        }
    }

    fn remove(&self, session: &Session) {
        let viewer = session.viewer();
        let mut index = self.index.lock();
        for deadline in [viewer.expires_at - EXPIRY_WARNING, viewer.expires_at] {
            index.deadlines.remove(&(deadline, session.id));
        }
        let user_key = viewer.key();
        let was_last = index.by_user.get_mut(&user_key).is_some_and(|sessions| {
            sessions.remove(&session.id);
            sessions.is_empty()
        });
        if was_last {
            index.by_user.remove(&user_key);
        }
    }
}

impl Session {
    /// Returns the viewer of the newest token.
    pub fn viewer(&self) -> Arc<Viewer> {
        self.viewer.read().clone()
    }

    /// Replaces the token of the session by a newer one of the same user.
    pub fn renew(self: &Arc<Self>, viewer: Arc<Viewer>) {
        let warning_at = viewer.expires_at - EXPIRY_WARNING;
        let mut index = self.sessions.index.lock();
        let mut known_viewer = self.viewer.write();
        let access_changes = known_viewer.permissions != viewer.permissions;
        for deadline in [known_viewer.expires_at - EXPIRY_WARNING, known_viewer.expires_at] {
            index.deadlines.remove(&(deadline, self.id));
        }
        *known_viewer = viewer;
        drop(known_viewer);
        index.deadlines.insert((warning_at, self.id), Arc::downgrade(self));
        drop(index);
        self.state.send_if_modified(|state| {
            let was_expiring = matches!(state, SessionState::Expiring(_));
            if was_expiring {
                *state = SessionState::Open;
            }
            // Receivers of the state also react to a change of the viewer's permissions.
            was_expiring || access_changes
        });
        self.sessions.tick();
    }

    /// Returns a receiver of the state, which also reports changes of the viewer's permissions.
    pub fn state(&self) -> watch::Receiver<SessionState> {
        self.state.subscribe()
    }

    /// Returns whether the session has ended, most often because its token is no longer valid.
    ///
    /// Nothing more may be written to its connection then.
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Returns the error that a client gets when its session has ended in this state.
    pub fn end_error(&self, state: SessionState) -> Error {
        match (state, self.organization_error.get()) {
            (SessionState::OrganizationGone, Some(error)) => error.clone(),
            (SessionState::Revoked, _) => Error::unauthenticated("the token was revoked"),
            _ => Error::Unauthenticated { message: "the token has expired".into(), retryable: true },
        }
    }

    /// Counts a feed by which the client takes part in a call.
    pub fn count_call_feed(self: &Arc<Self>) -> CallFeedCount {
        self.call_feeds.send_modify(|count| *count += 1);
        CallFeedCount { session: self.clone() }
    }

    /// Returns a receiver of the number of feeds by which the client takes part in calls.
    pub fn call_feeds(&self) -> watch::Receiver<usize> {
        self.call_feeds.subscribe()
    }

    /// Returns whether the client takes part in a call.
    pub fn is_in_call(&self) -> bool {
        *self.call_feeds.borrow() > 0
    }

    /// Waits until the session has ended, and returns the final state.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel-safe: it consumes nothing.
    pub async fn wait_ended(&self) -> SessionState {
        let mut state = self.state();
        match state.wait_for(|state| state.has_ended()).await {
            Ok(state) => *state,
            // Unreachable, because `self` holds the sender.
            Err(_) => SessionState::Expired,
        }
    }
}

impl Drop for CallFeedCount {
    fn drop(&mut self) {
        self.session.call_feeds.send_modify(|count| *count -= 1);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sessions.remove(self);
    }
}
