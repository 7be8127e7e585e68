//! Who is connected by what token, and when that ends.
//!
//! A session is one connection that outlives a request: a socket, or a stream of events. Its token
//! expires, is renewed, or is revoked with all others of its person.

use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;

use crate::domain::clock::Clock;
use crate::domain::users::{UserKey, Viewer};

/// How long before its end a session is told of it.
pub const EXPIRY_WARNING: TimeDelta = TimeDelta::minutes(1);
/// How often the clock is looked at.
const TICK_INTERVAL: Duration = Duration::from_millis(200);

/// How a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    Open,
    /// Its token ends within [`WARNING`].
    Expiring(DateTime<Utc>),
    /// Its token has ended.
    Expired,
    /// Its token was revoked.
    Revoked,
}

impl SessionState {
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Expired | Self::Revoked)
    }
}

#[derive(Debug)]
pub struct Session {
    sessions: Arc<Sessions>,
    id: u64,
    viewer: RwLock<Arc<Viewer>>,
    state: watch::Sender<SessionState>,
}

#[derive(Debug)]
pub struct Sessions {
    index: Mutex<SessionIndex>,
    next_id: AtomicU64,
    clock: Clock,
}

#[derive(Debug, Default)]
struct SessionIndex {
    by_user: HashMap<UserKey, HashMap<u64, Weak<Session>>>,
    /// When the clock next concerns a session.
    deadlines: BTreeMap<(DateTime<Utc>, u64), Weak<Session>>,
}

impl Sessions {
    /// Starts to look at the clock, as long as anybody holds the sessions.
    pub fn start(clock: Clock) -> Arc<Self> {
        let sessions = Arc::new(Self { index: Mutex::default(), next_id: AtomicU64::default(), clock });
        let held = Arc::downgrade(&sessions);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(TICK_INTERVAL).await;
                let Some(sessions) = held.upgrade() else { return };
                sessions.tick();
            }
        });
        sessions
    }

    pub fn open(self: &Arc<Self>, viewer: Arc<Viewer>) -> Arc<Session> {
        let session = Arc::new(Session {
            sessions: self.clone(),
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            viewer: RwLock::new(viewer.clone()),
            state: watch::Sender::new(SessionState::Open),
        });
        let weak = Arc::downgrade(&session);
        let mut index = self.index.lock();
        index.by_user.entry(viewer.key()).or_default().insert(session.id, weak.clone());
        index.deadlines.insert((viewer.expires_at - EXPIRY_WARNING, session.id), weak);
        drop(index);
        self.tick();
        session
    }

    /// Ends the sessions of a person whose tokens were made up to this moment, or don't say when.
    pub fn revoke(&self, person: &UserKey, before: DateTime<Utc>) {
        for session in self.for_user(person) {
            if session.viewer().is_revoked(before) {
                session.state.send_replace(SessionState::Revoked);
            }
        }
    }

    fn for_user(&self, person: &UserKey) -> Vec<Arc<Session>> {
        let index = self.index.lock();
        index.by_user.get(person).into_iter().flat_map(HashMap::values).filter_map(Weak::upgrade).collect()
    }

    /// Tells the sessions that are due how they stand now.
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
        drop(index);
        for session in due {
            let expires_at = session.viewer().expires_at;
            let standing = if expires_at > now { SessionState::Expiring(expires_at) } else { SessionState::Expired };
            session.state.send_if_modified(|known| {
                let changes = !known.has_ended() && *known != standing;
                if changes {
                    *known = standing;
                }
                changes
            });
        }
    }

    fn remove(&self, session: &Session) {
        let viewer = session.viewer();
        let mut index = self.index.lock();
        for due in [viewer.expires_at - EXPIRY_WARNING, viewer.expires_at] {
            index.deadlines.remove(&(due, session.id));
        }
        let person = viewer.key();
        let gone = index.by_user.get_mut(&person).is_some_and(|sessions| {
            sessions.remove(&session.id);
            sessions.is_empty()
        });
        if gone {
            index.by_user.remove(&person);
        }
    }
}

impl Session {
    /// Who is there, by their newest token.
    pub fn viewer(&self) -> Arc<Viewer> {
        self.viewer.read().clone()
    }

    /// Goes on with a fresh token of the same person.
    pub fn renew(self: &Arc<Self>, viewer: Arc<Viewer>) {
        let due = viewer.expires_at - EXPIRY_WARNING;
        let mut index = self.sessions.index.lock();
        let mut known = self.viewer.write();
        let access_changes = known.permissions != viewer.permissions;
        for former in [known.expires_at - EXPIRY_WARNING, known.expires_at] {
            index.deadlines.remove(&(former, self.id));
        }
        *known = viewer;
        drop(known);
        index.deadlines.insert((due, self.id), Arc::downgrade(self));
        drop(index);
        self.state.send_if_modified(|known| {
            let was_expiring = matches!(known, SessionState::Expiring(_));
            if was_expiring {
                *known = SessionState::Open;
            }
            // Who looks at the standing finds the viewer to be another.
            was_expiring || access_changes
        });
        self.sessions.tick();
    }

    /// How the session stands, and each change of that, or of what the viewer's token allows.
    pub fn state(&self) -> watch::Receiver<SessionState> {
        self.state.subscribe()
    }

    /// Waits for the end.
    pub async fn wait_ended(&self) -> SessionState {
        let mut standing = self.state();
        match standing.wait_for(|standing| standing.has_ended()).await {
            Ok(standing) => *standing,
            // The sender is this session's own.
            Err(_) => SessionState::Expired,
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sessions.remove(self);
    }
}
