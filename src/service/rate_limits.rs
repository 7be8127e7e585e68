//! How often a person may do what costs others something: a token bucket for each person and kind.
//!
//! Nodes tell each other what was spent, a moment later, so that a limit is one over all of them but for
//! that moment; where they can't, each has its own. No request waits for another node.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::config::LimitsConfig;
use crate::domain::clock::Clock;
use crate::domain::users::{UserKey, Viewer};
use crate::error::{Error, Result};
use crate::realtime::cluster::publisher::{ClusterMessage, EventPublisher, RateLimitUsage};

type TokenBuckets = RateLimiter<UserKey, HashMapStateStore<UserKey>, ServerClock, NoOpMiddleware<Duration>>;

/// The server's clock as the buckets read it: tests own it.
#[derive(Debug, Clone)]
struct ServerClock(Clock);

impl governor::clock::Clock for ServerClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.now().timestamp_micros()).unwrap_or_default())
    }
}

pub struct RateLimits {
    sends: RateLimit,
    reactions: RateLimit,
    chat_creations: RateLimit,
    signals: RateLimit,
    calls: RateLimit,
    call_signals: RateLimit,
    /// What the other nodes are yet to be told of; none where there are no others.
    unpublished_usage: Option<Mutex<HashMap<(UserKey, &'static str), u32>>>,
}

struct RateLimit {
    kind: &'static str,
    buckets: TokenBuckets,
    clock: ServerClock,
    check_count: AtomicU32,
}

/// How long what was spent is gathered before the other nodes are told.
const GOSSIP_INTERVAL: Duration = Duration::from_millis(100);
/// Checks after which full buckets are forgotten: they are as good as none.
const CHECKS_PER_PRUNE: u32 = 10_000;

impl RateLimits {
    pub fn start(config: &LimitsConfig, clock: &Clock, bus: &EventPublisher) -> Arc<Self> {
        let limits = Arc::new(Self {
            sends: RateLimit::new("messages", config.sends_per_minute, clock),
            reactions: RateLimit::new("reactions", config.reactions_per_minute, clock),
            chat_creations: RateLimit::new("new chats", config.chats_per_minute, clock),
            signals: RateLimit::new("signals", config.signals_per_minute, clock),
            calls: RateLimit::new("calls", config.calls_per_minute, clock),
            call_signals: RateLimit::new("signals of calls", config.call_signals_per_minute, clock),
            unpublished_usage: bus.is_clustered().then(Mutex::default),
        });
        if bus.is_clustered() {
            let (held, bus) = (Arc::downgrade(&limits), bus.clone());
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(GOSSIP_INTERVAL).await;
                    let Some(limits) = held.upgrade() else { return };
                    limits.publish_usage(&bus);
                }
            });
        }
        limits
    }

    pub fn check_send(&self, viewer: &Viewer) -> Result<()> {
        self.check(&self.sends, viewer)
    }

    /// Reactions, and votes in polls.
    pub fn check_reaction(&self, viewer: &Viewer) -> Result<()> {
        self.check(&self.reactions, viewer)
    }

    pub fn check_chat_creation(&self, viewer: &Viewer) -> Result<()> {
        self.check(&self.chat_creations, viewer)
    }

    /// Saying that one types, and how one is there.
    pub fn check_signal(&self, viewer: &Viewer) -> Result<()> {
        self.check(&self.signals, viewer)
    }

    /// Starting a call, and joining one.
    pub fn check_call(&self, viewer: &Viewer) -> Result<()> {
        self.check(&self.calls, viewer)
    }

    /// What devices in a call tell each other, and the server of it.
    pub fn check_call_signal(&self, viewer: &Viewer) -> Result<()> {
        self.check(&self.call_signals, viewer)
    }

    /// Takes in what people spent on other nodes.
    pub fn apply_remote_usage(&self, spent: &[RateLimitUsage]) {
        for RateLimitUsage { organization, user, limit_name: limit, count: times } in spent {
            let Self { sends, reactions, chat_creations: chats, signals, calls, call_signals, .. } = self;
            let limits = [sends, reactions, chats, signals, calls, call_signals];
            if let Some(limit) = limits.into_iter().find(|known| known.kind == limit) {
                limit.consume(&(organization.clone(), user.clone()), *times);
            }
        }
    }

    fn check(&self, limit: &RateLimit, viewer: &Viewer) -> Result<()> {
        let person = viewer.key();
        limit.check(&person)?;
        if let Some(spent) = &self.unpublished_usage {
            *spent.lock().entry((person, limit.kind)).or_default() += 1;
        }
        Ok(())
    }

    fn publish_usage(&self, bus: &EventPublisher) {
        let spent = self.unpublished_usage.as_ref().map(|spent| std::mem::take(&mut *spent.lock())).unwrap_or_default();
        let told: Vec<RateLimitUsage> = spent
            .into_iter()
            .map(|(((organization, user), limit), times)| RateLimitUsage {
                organization,
                user,
                limit_name: limit.into(),
                count: times,
            })
            .collect();
        if !told.is_empty() {
            bus.send_to_peers(ClusterMessage::RateLimitUsage(told));
        }
    }
}

impl RateLimit {
    /// A bucket holds what a minute allows.
    fn new(what: &'static str, per_minute: NonZeroU32, clock: &Clock) -> Self {
        let clock = ServerClock(clock.clone());
        let buckets = RateLimiter::new(Quota::per_minute(per_minute), HashMapStateStore::default(), clock.clone());
        Self { kind: what, buckets, clock, check_count: AtomicU32::new(0) }
    }

    fn check(&self, person: &UserKey) -> Result<()> {
        if self.check_count.fetch_add(1, Ordering::Relaxed) % CHECKS_PER_PRUNE == CHECKS_PER_PRUNE - 1 {
            self.buckets.retain_recent();
        }
        self.buckets.check_key(person).map_err(|until| Error::RateLimited {
            message: format!("too many {} in too short a time", self.kind),
            retry_after: until.wait_time_from(self.clock.now()),
        })
    }

    /// Takes so much out of a person's bucket, or what is left in it.
    fn consume(&self, person: &UserKey, times: u32) {
        for _ in 0..times {
            if self.buckets.check_key(person).is_err() {
                return;
            }
        }
    }
}
