//! Rate limits: a token bucket for each user and kind of request.
//!
//! Nodes publish the usage of their buckets to each other a moment later, so that a limit holds over all nodes, except
//! for that moment. Without a connection to the other nodes, each node applies the limit by itself. No request waits
//! for another node.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;

use crate::domain::clock::Clock;
use crate::domain::users::{UserKey, Viewer};
use crate::error::{Error, Result};
use crate::realtime::cluster::message::{ClusterMessage, RateLimitUsage};
use crate::realtime::cluster::publisher::EventPublisher;
use crate::service::settings::RateLimitSettings;
use crate::tasks::tick_while_alive;

type TokenBuckets = RateLimiter<UserKey, HashMapStateStore<UserKey>, ServerClock, NoOpMiddleware<Duration>>;

/// The interval at which usage is published to the other nodes.
const GOSSIP_INTERVAL: Duration = Duration::from_millis(100);
/// The number of checks after which full buckets are removed.
///
/// A full bucket equals one that does not exist.
const CHECKS_PER_PRUNE: u32 = 10_000;

/// The server's clock as the buckets read it, so that tests control their time too.
#[derive(Debug, Clone)]
struct ServerClock(Clock);

impl governor::clock::Clock for ServerClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.now().timestamp_micros()).unwrap_or_default())
    }
}

/// The rate limits of this node.
pub struct RateLimits {
    sends: RateLimit,
    reactions: RateLimit,
    chat_creations: RateLimit,
    signals: RateLimit,
    calls: RateLimit,
    call_signals: RateLimit,
    /// The usage that the other nodes have not been sent yet; `None` without other nodes. The mutex is held for one
    /// access only, and no other lock is taken under it.
    unpublished_usage: Option<Mutex<HashMap<(UserKey, &'static str), u32>>>,
}

struct RateLimit {
    /// The name of the limit in error messages and between nodes.
    kind: &'static str,
    per_minute: NonZeroU32,
    buckets: TokenBuckets,
    clock: ServerClock,
    check_count: AtomicU32,
}

impl RateLimits {
    /// Creates the limits and, with other nodes, starts the task that publishes their usage.
    ///
    /// The task ends when the limits are dropped.
    pub fn start(settings: &RateLimitSettings, clock: &Clock, publisher: &EventPublisher) -> Arc<Self> {
        let limits = Arc::new(Self {
            sends: RateLimit::new("messages", settings.sends_per_minute, clock),
            reactions: RateLimit::new("reactions", settings.reactions_per_minute, clock),
            chat_creations: RateLimit::new("new chats", settings.chats_per_minute, clock),
            signals: RateLimit::new("signals", settings.signals_per_minute, clock),
            calls: RateLimit::new("calls", settings.calls_per_minute, clock),
            call_signals: RateLimit::new("signals of calls", settings.call_signals_per_minute, clock),
            unpublished_usage: publisher.is_clustered().then(Mutex::default),
        });
        if publisher.is_clustered() {
            let publisher = publisher.clone();
            tick_while_alive(&limits, GOSSIP_INTERVAL, move |limits| limits.publish_usage(&publisher));
        }
        limits
    }

    /// Counts a message that the viewer sends.
    ///
    /// # Errors
    ///
    /// Returns [`Error::RateLimited`] if the viewer's bucket is empty.
    pub fn check_send(&self, viewer: &Viewer) -> Result<()> {
        self.check(&self.sends, viewer)
    }

    /// Counts a reaction, a vote in a poll or a report.
    ///
    /// # Errors
    ///
    /// Returns [`Error::RateLimited`] if the viewer's bucket is empty.
    pub fn check_reaction(&self, viewer: &Viewer) -> Result<()> {
        self.check(&self.reactions, viewer)
    }

    /// Counts the creation of a chat.
    ///
    /// # Errors
    ///
    /// Returns [`Error::RateLimited`] if the viewer's bucket is empty.
    pub fn check_chat_creation(&self, viewer: &Viewer) -> Result<()> {
        self.check(&self.chat_creations, viewer)
    }

    /// Counts a typing indicator or a presence status.
    ///
    /// # Errors
    ///
    /// Returns [`Error::RateLimited`] if the viewer's bucket is empty.
    pub fn check_signal(&self, viewer: &Viewer) -> Result<()> {
        self.check(&self.signals, viewer)
    }

    /// Counts the start of a call or a participant's joining.
    ///
    /// # Errors
    ///
    /// Returns [`Error::RateLimited`] if the viewer's bucket is empty.
    pub fn check_call(&self, viewer: &Viewer) -> Result<()> {
        self.check(&self.calls, viewer)
    }

    /// Counts a request of a device in a call: a signal, a media state, a quality report or a call feed.
    ///
    /// # Errors
    ///
    /// Returns [`Error::RateLimited`] if the viewer's bucket is empty.
    pub fn check_call_signal(&self, viewer: &Viewer) -> Result<()> {
        self.check(&self.call_signals, viewer)
    }

    /// Takes the usage of other nodes out of the buckets of this node.
    pub fn apply_remote_usage(&self, usage: &[RateLimitUsage]) {
        let Self { sends, reactions, chat_creations, signals, calls, call_signals, unpublished_usage: _ } = self;
        let limits = [sends, reactions, chat_creations, signals, calls, call_signals];
        for RateLimitUsage { organization, user, limit_name, count } in usage {
            if let Some(limit) = limits.into_iter().find(|limit| limit.kind == limit_name) {
                limit.consume(&(organization.clone(), user.clone()), *count);
            }
        }
    }

    fn check(&self, limit: &RateLimit, viewer: &Viewer) -> Result<()> {
        let user = viewer.key();
        limit.check(&user)?;
        if let Some(usage) = &self.unpublished_usage {
            *usage.lock().entry((user, limit.kind)).or_default() += 1;
        }
        Ok(())
    }

    fn publish_usage(&self, publisher: &EventPublisher) {
        let Some(unpublished_usage) = &self.unpublished_usage else { return };
        let usage = std::mem::take(&mut *unpublished_usage.lock()).into_iter();
        let usage: Vec<RateLimitUsage> = usage
            .map(|(((organization, user), kind), count)| RateLimitUsage {
                organization,
                user,
                limit_name: kind.into(),
                count,
            })
            .collect();
        if !usage.is_empty() {
            publisher.send_to_peers(ClusterMessage::RateLimitUsage(usage));
        }
    }
}

impl RateLimit {
    /// Creates a limit whose buckets hold the requests of one minute.
    fn new(kind: &'static str, per_minute: NonZeroU32, clock: &Clock) -> Self {
        let clock = ServerClock(clock.clone());
        let buckets = RateLimiter::new(Quota::per_minute(per_minute), HashMapStateStore::default(), clock.clone());
        Self { kind, per_minute, buckets, clock, check_count: AtomicU32::new(0) }
    }

    fn check(&self, user: &UserKey) -> Result<()> {
        if self.check_count.fetch_add(1, Ordering::Relaxed) % CHECKS_PER_PRUNE == CHECKS_PER_PRUNE - 1 {
            self.buckets.retain_recent();
        }
        self.buckets.check_key(user).map_err(|not_until| Error::RateLimited {
            message: format!("at most {} {} per minute are allowed", self.per_minute, self.kind),
            retry_after: not_until.wait_time_from(self.clock.now()),
        })
    }

    /// Takes up to `count` tokens out of a user's bucket.
    fn consume(&self, user: &UserKey, count: u32) {
        for _ in 0..count {
            if self.buckets.check_key(user).is_err() {
                return;
            }
        }
    }
}
