//! How often a person may do what costs others something: a token bucket for each person and kind.
//!
//! Nodes tell each other what was spent, a moment later, so that a limit is one over all of them but for
//! that moment; where they can't, each has its own. No request waits for another node.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::config::LimitsConfig;
use crate::domain::clock::Clock;
use crate::domain::users::{Person, Viewer};
use crate::error::{Error, Result};
use crate::lock::lock;
use crate::realtime::cluster::publisher::{Bus, Spent, Word};

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
    calls: Limit,
    call_signals: Limit,
    /// What the other nodes are yet to be told of; none where there are no others.
    spent: Option<Mutex<HashMap<(Person, &'static str), u32>>>,
}

struct Limit {
    what: &'static str,
    buckets: Buckets,
    clock: ServerClock,
    checks: AtomicU32,
}

/// How long what was spent is gathered before the other nodes are told.
const GATHER: Duration = Duration::from_millis(100);
/// Checks after which full buckets are forgotten: they are as good as none.
const TIDY_EVERY: u32 = 10_000;

impl Limits {
    pub fn start(config: &LimitsConfig, clock: &Clock, bus: &Bus) -> Arc<Self> {
        let limits = Arc::new(Self {
            sends: Limit::new("messages", config.sends_per_minute, clock),
            reactions: Limit::new("reactions", config.reactions_per_minute, clock),
            chats: Limit::new("new chats", config.chats_per_minute, clock),
            signals: Limit::new("signals", config.signals_per_minute, clock),
            calls: Limit::new("calls", config.calls_per_minute, clock),
            call_signals: Limit::new("signals of calls", config.call_signals_per_minute, clock),
            spent: bus.has_others().then(Mutex::default),
        });
        if bus.has_others() {
            let (held, bus) = (Arc::downgrade(&limits), bus.clone());
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(GATHER).await;
                    let Some(limits) = held.upgrade() else { return };
                    limits.tell(&bus);
                }
            });
        }
        limits
    }

    pub fn send(&self, viewer: &Viewer) -> Result<()> {
        self.check(&self.sends, viewer)
    }

    /// Reactions, and votes in polls.
    pub fn react(&self, viewer: &Viewer) -> Result<()> {
        self.check(&self.reactions, viewer)
    }

    pub fn make_chat(&self, viewer: &Viewer) -> Result<()> {
        self.check(&self.chats, viewer)
    }

    /// Saying that one types, and how one is there.
    pub fn signal(&self, viewer: &Viewer) -> Result<()> {
        self.check(&self.signals, viewer)
    }

    /// Starting a call, and joining one.
    pub fn call(&self, viewer: &Viewer) -> Result<()> {
        self.check(&self.calls, viewer)
    }

    /// What devices in a call tell each other, and the server of it.
    pub fn call_signal(&self, viewer: &Viewer) -> Result<()> {
        self.check(&self.call_signals, viewer)
    }

    /// Takes in what people spent on other nodes.
    pub fn spent_elsewhere(&self, spent: &[Spent]) {
        for Spent { organization, user, limit, times } in spent {
            let Self { sends, reactions, chats, signals, calls, call_signals, .. } = self;
            let limits = [sends, reactions, chats, signals, calls, call_signals];
            if let Some(limit) = limits.into_iter().find(|known| known.what == limit) {
                limit.spend(&(organization.clone(), user.clone()), *times);
            }
        }
    }

    fn check(&self, limit: &Limit, viewer: &Viewer) -> Result<()> {
        let person = viewer.person();
        limit.check(&person)?;
        if let Some(spent) = &self.spent {
            *lock(spent).entry((person, limit.what)).or_default() += 1;
        }
        Ok(())
    }

    fn tell(&self, bus: &Bus) {
        let spent = self.spent.as_ref().map(|spent| std::mem::take(&mut *lock(spent))).unwrap_or_default();
        let told: Vec<Spent> = spent
            .into_iter()
            .map(|(((organization, user), limit), times)| Spent { organization, user, limit: limit.into(), times })
            .collect();
        if !told.is_empty() {
            bus.say(Word::Spent(told));
        }
    }
}

impl Limit {
    /// A bucket holds what a minute allows.
    fn new(what: &'static str, per_minute: NonZeroU32, clock: &Clock) -> Self {
        let clock = ServerClock(clock.clone());
        let buckets = RateLimiter::new(Quota::per_minute(per_minute), HashMapStateStore::default(), clock.clone());
        Self { what, buckets, clock, checks: AtomicU32::new(0) }
    }

    fn check(&self, person: &Person) -> Result<()> {
        if self.checks.fetch_add(1, Ordering::Relaxed) % TIDY_EVERY == TIDY_EVERY - 1 {
            self.buckets.retain_recent();
        }
        self.buckets.check_key(person).map_err(|until| Error::RateLimited {
            message: format!("too many {} in too short a time", self.what),
            retry_after: until.wait_time_from(self.clock.now()),
        })
    }

    /// Takes so much out of a person's bucket, or what is left in it.
    fn spend(&self, person: &Person, times: u32) {
        for _ in 0..times {
            if self.buckets.check_key(person).is_err() {
                return;
            }
        }
    }
}
