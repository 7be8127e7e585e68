//! Rate limits: a token bucket for each user and kind of request.
//!
//! Nodes publish the usage of their buckets to each other a moment later, so that a limit holds over all nodes, except
//! for that moment. Without a connection to the other nodes, each node applies the limit by itself. No request waits
//! for another node.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
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
/// The interval at which full buckets are removed.
///
/// A full bucket equals one that does not exist. Every bucket is full after a minute without requests, so a limit keeps
/// buckets of the users of the last minute only.
const PRUNE_INTERVAL: Duration = Duration::from_secs(5);

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
    writes: RateLimit,
    chat_creations: RateLimit,
    signals: RateLimit,
    calls: RateLimit,
    call_signals: RateLimit,
    call_signal_kib: RateLimit,
    /// The usage that the other nodes have not been sent yet; `None` without other nodes. The mutex is held for one
    /// access only, and no other lock is taken under it.
    unpublished_usage: Option<Mutex<HashMap<(UserKey, &'static str), u32>>>,
}

struct RateLimit {
    /// The name of the limit in error messages and between nodes.
    kind: &'static str,
    per_minute: NonZeroU32,
    buckets: TokenBuckets,
    /// The times until which buckets are empty, as far as requests found them so.
    ///
    /// The mutex is held for one access only, and no other lock is taken under it.
    empty_until: Mutex<HashMap<UserKey, Duration>>,
}

impl RateLimits {
    /// Creates the limits and starts their tasks.
    ///
    /// One task removes full buckets and, with other nodes, another one publishes the usage of the limits. The tasks
    /// end when the limits are dropped.
    pub fn start(settings: &RateLimitSettings, clock: &Clock, publisher: &EventPublisher) -> Arc<Self> {
        let limits = Arc::new(Self {
            sends: RateLimit::new("messages", settings.sends_per_minute, clock),
            reactions: RateLimit::new("reactions", settings.reactions_per_minute, clock),
            writes: RateLimit::new("other changes", settings.writes_per_minute, clock),
            chat_creations: RateLimit::new("new chats", settings.chats_per_minute, clock),
            signals: RateLimit::new("signals", settings.signals_per_minute, clock),
            calls: RateLimit::new("calls", settings.calls_per_minute, clock),
            call_signals: RateLimit::new("signals of calls", settings.call_signals_per_minute, clock),
            call_signal_kib: RateLimit::new("KiB of signals of calls", settings.call_signal_kib_per_minute, clock),
            unpublished_usage: publisher.is_clustered().then(Mutex::default),
        });
        tick_while_alive(&limits, PRUNE_INTERVAL, Self::prune);
        if publisher.is_clustered() {
            let publisher = publisher.clone();
            tick_while_alive(&limits, GOSSIP_INTERVAL, move |limits| limits.publish_usage(&publisher));
        }
        limits
    }

    /// Counts a message that the viewer sends or edits.
    ///
    /// # Errors
    ///
    /// Returns [`Error::RateLimited`] if the viewer's bucket is empty.
    pub fn check_send(&self, viewer: &Viewer) -> Result<()> {
        self.check(&self.sends, viewer)
    }

    /// Checks that the viewer's bucket of messages is not known to be empty, and counts nothing.
    ///
    /// # Errors
    ///
    /// Returns [`Error::RateLimited`] if a message was rejected and the viewer may not send yet.
    pub fn require_send_allowed(&self, viewer: &Viewer) -> Result<()> {
        self.sends.require_not_empty(&viewer.key())
    }

    /// Counts a reaction, a vote in a poll or a report.
    ///
    /// # Errors
    ///
    /// Returns [`Error::RateLimited`] if the viewer's bucket is empty.
    pub fn check_reaction(&self, viewer: &Viewer) -> Result<()> {
        self.check(&self.reactions, viewer)
    }

    /// Counts a change that is stored or delivered and that no other limit counts.
    ///
    /// # Errors
    ///
    /// Returns [`Error::RateLimited`] if the viewer's bucket is empty.
    pub fn check_write(&self, viewer: &Viewer) -> Result<()> {
        self.check(&self.writes, viewer)
    }

    /// Counts a request that makes up to `count` such changes.
    ///
    /// # Errors
    ///
    /// Returns [`Error::RateLimited`] if the viewer's bucket has less.
    pub fn check_writes(&self, viewer: &Viewer, count: usize) -> Result<()> {
        self.check_many(&self.writes, viewer, count)
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

    /// Counts the size of a signal in a call, in whole KiB.
    ///
    /// # Errors
    ///
    /// Returns [`Error::RateLimited`] if the viewer's bucket has less.
    pub fn check_call_signal_bytes(&self, viewer: &Viewer, bytes: usize) -> Result<()> {
        self.check_many(&self.call_signal_kib, viewer, bytes.div_ceil(1024))
    }

    /// Takes the usage of other nodes out of the buckets of this node.
    pub fn apply_remote_usage(&self, usage: &[RateLimitUsage]) {
        for RateLimitUsage { organization, user, limit_name, count } in usage {
            if let Some(limit) = self.all().into_iter().find(|limit| limit.kind == limit_name) {
                limit.consume(&(organization.clone(), user.clone()), *count);
            }
        }
    }

    fn all(&self) -> [&RateLimit; 8] {
        let Self {
            sends,
            reactions,
            writes,
            chat_creations,
            signals,
            calls,
            call_signals,
            call_signal_kib,
            unpublished_usage: _,
        } = self;
        [sends, reactions, writes, chat_creations, signals, calls, call_signals, call_signal_kib]
    }

    fn check(&self, limit: &RateLimit, viewer: &Viewer) -> Result<()> {
        self.check_many(limit, viewer, 1)
    }

    fn check_many(&self, limit: &RateLimit, viewer: &Viewer, count: usize) -> Result<()> {
        let user = viewer.key();
        let taken = limit.take(&user, count)?;
        if let Some(usage) = &self.unpublished_usage {
            *usage.lock().entry((user, limit.kind)).or_default() += taken;
        }
        Ok(())
    }

    fn prune(&self) {
        for limit in self.all() {
            limit.prune();
        }
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
        let buckets = RateLimiter::new(Quota::per_minute(per_minute), HashMapStateStore::default(), clock);
        Self { kind, per_minute, buckets, empty_until: Mutex::default() }
    }

    /// Takes `count` tokens out of a user's bucket, but at most a full bucket, and returns their number.
    fn take(&self, user: &UserKey, count: usize) -> Result<u32> {
        let count = u32::try_from(count).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN).min(self.per_minute);
        // A bucket holds the requests of a minute, so the capacity is never insufficient.
        match self.buckets.check_key_n(user, count).map_err(Error::internal)? {
            Ok(()) => Ok(count.get()),
            Err(not_until) => {
                let now = self.buckets.clock().now();
                let retry_after = not_until.wait_time_from(now);
                if count == NonZeroU32::MIN {
                    self.empty_until.lock().insert(user.clone(), now + retry_after);
                }
                Err(self.rejection(retry_after))
            }
        }
    }

    /// Fails if a request for one token failed and there is no token yet.
    fn require_not_empty(&self, user: &UserKey) -> Result<()> {
        let now = self.buckets.clock().now();
        let empty_until = self.empty_until.lock().get(user).copied();
        match empty_until.filter(|empty_until| *empty_until > now) {
            Some(empty_until) => Err(self.rejection(empty_until - now)),
            None => Ok(()),
        }
    }

    fn rejection(&self, retry_after: Duration) -> Error {
        let message = format!("at most {} {} per minute are allowed", self.per_minute, self.kind);
        Error::RateLimited { message, retry_after }
    }

    /// Removes what equals the state of a user without requests.
    fn prune(&self) {
        self.buckets.retain_recent();
        self.buckets.shrink_to_fit();
        let now = self.buckets.clock().now();
        let mut empty_until = self.empty_until.lock();
        empty_until.retain(|_, time| *time > now);
        empty_until.shrink_to_fit();
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

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::domain::users::User;
    use crate::realtime::dispatch::hub::Hub;

    const PER_MINUTE: NonZeroU32 = NonZeroU32::new(60).unwrap();

    fn start(clock: &Clock) -> Arc<RateLimits> {
        let settings = RateLimitSettings {
            sends_per_minute: PER_MINUTE,
            reactions_per_minute: PER_MINUTE,
            writes_per_minute: PER_MINUTE,
            chats_per_minute: PER_MINUTE,
            signals_per_minute: PER_MINUTE,
            calls_per_minute: PER_MINUTE,
            call_signals_per_minute: PER_MINUTE,
            call_signal_kib_per_minute: PER_MINUTE,
        };
        RateLimits::start(&settings, clock, &EventPublisher::new(Arc::<Hub>::default(), None))
    }

    fn viewer() -> Viewer {
        let user = User {
            organization: "demo".parse().unwrap(),
            id: "alice".parse().unwrap(),
            name: "Alice".into(),
            avatar_url: None,
            last_seen_at: None,
        };
        Viewer { user, permissions: Default::default(), issued_at: None, expires_at: DateTime::UNIX_EPOCH }
    }

    #[tokio::test]
    async fn request_of_many_changes_takes_as_many_tokens() {
        let clock = Clock::adjustable();
        clock.pause();
        let (limits, alice) = (start(&clock), viewer());
        limits.check_writes(&alice, 50).unwrap();
        assert!(matches!(limits.check_writes(&alice, 11), Err(Error::RateLimited { .. })));
        limits.check_writes(&alice, 10).unwrap();
        assert!(matches!(limits.check_write(&alice), Err(Error::RateLimited { .. })));
        limits.check_send(&alice).unwrap();
        clock.advance(Duration::from_secs(60));
        limits.check_writes(&alice, 1_000).unwrap();
        assert!(matches!(limits.check_write(&alice), Err(Error::RateLimited { .. })), "more than all takes all");
    }

    #[tokio::test]
    async fn send_is_known_to_be_limited_until_the_bucket_has_a_token() {
        let clock = Clock::adjustable();
        clock.pause();
        let (limits, alice) = (start(&clock), viewer());
        for _ in 0..60 {
            limits.require_send_allowed(&alice).unwrap();
            limits.check_send(&alice).unwrap();
        }
        limits.require_send_allowed(&alice).expect("no send was rejected yet");
        let Err(Error::RateLimited { retry_after, .. }) = limits.check_send(&alice) else { panic!() };
        assert!(matches!(limits.require_send_allowed(&alice), Err(Error::RateLimited { .. })));
        clock.advance(retry_after);
        limits.require_send_allowed(&alice).unwrap();
        limits.prune();
        assert!(limits.sends.empty_until.lock().is_empty());
    }

    #[tokio::test]
    async fn only_buckets_of_the_last_minute_are_kept() {
        let clock = Clock::adjustable();
        clock.pause();
        let limits = start(&clock);
        let usage = |user: usize| RateLimitUsage {
            organization: "demo".parse().unwrap(),
            user: format!("user {user}").parse().unwrap(),
            limit_name: "other changes".into(),
            count: 60,
        };
        limits.apply_remote_usage(&(0..1_000).map(usage).collect::<Vec<_>>());
        clock.advance(Duration::from_secs(59));
        limits.apply_remote_usage(&[usage(1_000)]);
        limits.prune();
        assert_eq!(limits.writes.buckets.len(), 1_001);
        clock.advance(Duration::from_secs(3));
        limits.prune();
        assert_eq!(limits.writes.buckets.len(), 1);
    }
}
