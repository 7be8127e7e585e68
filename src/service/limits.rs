//! How often a person may do what costs others something: a token bucket for each person and kind,
//! of this node.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::config::LimitsConfig;
use crate::domain::clock::Clock;
use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::users::Viewer;
use crate::error::{Error, Result};

type Person = (OrganizationId, UserId);
type Buckets = RateLimiter<Person, HashMapStateStore<Person>, ServerClock, NoOpMiddleware<Duration>>;

/// The server's clock as the buckets read it: tests own it.
#[derive(Debug, Clone)]
struct ServerClock(Clock);

impl governor::clock::Clock for ServerClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.now().timestamp_micros()).unwrap_or_default())
    }
}

pub struct Limits {
    sends: Limit,
    reactions: Limit,
    chats: Limit,
    signals: Limit,
}

struct Limit {
    what: &'static str,
    buckets: Buckets,
    clock: ServerClock,
    checks: AtomicU32,
}

/// Checks after which full buckets are forgotten: they are as good as none.
const TIDY_EVERY: u32 = 10_000;

impl Limits {
    pub fn new(config: &LimitsConfig, clock: &Clock) -> Self {
        Self {
            sends: Limit::new("messages", config.sends_per_minute, clock),
            reactions: Limit::new("reactions", config.reactions_per_minute, clock),
            chats: Limit::new("new chats", config.chats_per_minute, clock),
            signals: Limit::new("signals", config.signals_per_minute, clock),
        }
    }

    pub fn send(&self, viewer: &Viewer) -> Result<()> {
        self.sends.check(viewer)
    }

    /// Reactions, and votes in polls.
    pub fn react(&self, viewer: &Viewer) -> Result<()> {
        self.reactions.check(viewer)
    }

    pub fn make_chat(&self, viewer: &Viewer) -> Result<()> {
        self.chats.check(viewer)
    }

    /// Saying that one types, and how one is there.
    pub fn signal(&self, viewer: &Viewer) -> Result<()> {
        self.signals.check(viewer)
    }
}

impl Limit {
    /// A bucket holds what a minute allows.
    fn new(what: &'static str, per_minute: NonZeroU32, clock: &Clock) -> Self {
        let clock = ServerClock(clock.clone());
        let buckets = RateLimiter::new(Quota::per_minute(per_minute), HashMapStateStore::default(), clock.clone());
        Self { what, buckets, clock, checks: AtomicU32::new(0) }
    }

    fn check(&self, viewer: &Viewer) -> Result<()> {
        if self.checks.fetch_add(1, Ordering::Relaxed) % TIDY_EVERY == TIDY_EVERY - 1 {
            self.buckets.retain_recent();
        }
        let person = (viewer.organization().clone(), viewer.id().clone());
        self.buckets.check_key(&person).map_err(|until| Error::RateLimited {
            message: format!("too many {} in too short a time", self.what),
            retry_after: until.wait_time_from(self.clock.now()),
        })
    }
}
