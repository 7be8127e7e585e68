//! The call feeds that are open on this node, and how much of a call each has received.
//!
//! The call scheduler reads them, because a participant with an open feed is present in the call. So does
//! [`call_repair`](crate::realtime::cluster::call_repair), which compares a call that a feed follows with the database.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::domain::ids::{CallFeedId, CallId, ConnectionId};
use crate::realtime::sessions::CallFeedCount;

/// The call feeds that are open on this node.
///
/// Each lock protects the collection in it, for one operation at a time. Where both are held, the order is
/// `open_feeds`, then `departed`. None is held at an await point.
#[derive(Debug, Default)]
pub struct CallPresence {
    open_feeds: Mutex<HashMap<CallFeedId, OpenFeed>>,
    /// The feeds of connections that have been closed since [`Self::take_departed`] was last called.
    departed: Mutex<Vec<ClosedFeed>>,
    /// Notified when a feed is opened or closed, and by whoever changes a call.
    pub changed: Arc<Notify>,
}

#[derive(Debug)]
struct OpenFeed {
    call: CallId,
    /// The connection for which the feed is open; `None` for an observer.
    connection: Option<ConnectionId>,
    /// The version of the call up to which the feed has received events. Accesses are relaxed, because an older value
    /// only costs one more read of the database.
    version: Arc<AtomicI64>,
}

/// A feed of a connection that was closed.
#[derive(Debug, Clone)]
pub struct ClosedFeed {
    pub connection: ConnectionId,
    pub id: CallFeedId,
}

/// The registration of an open call feed, which ends when the guard is dropped.
#[derive(Debug)]
pub struct CallPresenceGuard {
    call_presence: Arc<CallPresence>,
    id: CallFeedId,
    version: Arc<AtomicI64>,
    /// Has the client of the feed watched more closely.
    _count: Option<CallFeedCount>,
}

impl CallPresence {
    /// Registers a feed of a call; `connection` and `count` are `None` for the feed of an observer.
    pub fn register(
        self: &Arc<Self>,
        call: CallId,
        connection: Option<ConnectionId>,
        count: Option<CallFeedCount>,
    ) -> CallPresenceGuard {
        let id = CallFeedId::new();
        // A feed that has not read the call yet is not behind.
        let version = Arc::new(AtomicI64::new(i64::MAX));
        self.open_feeds.lock().insert(id, OpenFeed { call, connection, version: version.clone() });
        self.changed.notify_one();
        CallPresenceGuard { call_presence: self.clone(), id, version, _count: count }
    }

    /// Returns true if no feed is open and no departure waits to be handled.
    pub fn is_empty(&self) -> bool {
        self.open_feeds.lock().is_empty() && self.departed.lock().is_empty()
    }

    /// Returns the connections that have an open feed here, each with one of its feeds.
    pub fn present_connections(&self) -> HashMap<ConnectionId, CallFeedId> {
        let open_feeds = self.open_feeds.lock();
        open_feeds.iter().filter_map(|(id, feed)| Some((feed.connection.clone()?, *id))).collect()
    }

    /// Returns the calls that have an open feed here, each with the lowest version of its feeds.
    pub fn followed_calls(&self) -> HashMap<CallId, i64> {
        let mut followed = HashMap::new();
        for feed in self.open_feeds.lock().values() {
            let version = feed.version.load(Ordering::Relaxed);
            followed.entry(feed.call).and_modify(|lowest: &mut i64| *lowest = version.min(*lowest)).or_insert(version);
        }
        followed
    }

    /// Takes the feeds closed since the last call whose connection has no other feed on this node.
    pub fn take_departed(&self) -> Vec<ClosedFeed> {
        let departed = std::mem::take(&mut *self.departed.lock());
        if departed.is_empty() {
            return departed;
        }
        let present = self.present_connections();
        departed.into_iter().filter(|feed| !present.contains_key(&feed.connection)).collect()
    }

    /// Adds closed feeds again whose end could not be written.
    pub fn requeue_departed(&self, departed: Vec<ClosedFeed>) {
        self.departed.lock().extend(departed);
    }
}

impl CallPresenceGuard {
    /// Returns the id of the feed.
    pub fn id(&self) -> CallFeedId {
        self.id
    }

    /// Records the version up to which the feed has received events.
    pub fn set_position(&self, version: i64) {
        self.version.store(version, Ordering::Relaxed);
    }
}

impl Drop for CallPresenceGuard {
    fn drop(&mut self) {
        let closed = self.call_presence.open_feeds.lock().remove(&self.id);
        if let Some(connection) = closed.and_then(|feed| feed.connection) {
            self.call_presence.departed.lock().push(ClosedFeed { connection, id: self.id });
            self.call_presence.changed.notify_one();
        }
    }
}
