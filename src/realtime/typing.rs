//! Tracking of the users who are typing, on all nodes.
//!
//! Nodes exchange typing states by messages and keep them in memory only. Each state expires by itself, so a lost
//! message has no lasting effect.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};

use crate::domain::chat_events::{Change, ChatEvent, ChatEventKind, MessageChange};
use crate::domain::clock::Clock;
use crate::domain::ids::{ChatId, MemberId, UserId};
use crate::realtime::cluster::message::{ClusterMessage, TypingUpdate};
use crate::realtime::cluster::publisher::EventPublisher;
use crate::realtime::dispatch::render_cache::CachedUpdate;
use crate::tasks::{TickLoop, Wait};

/// The time after which a user counts as no longer typing, unless the state is renewed.
const TYPING_TTL: TimeDelta = TimeDelta::seconds(6);
/// The interval of the expiry loop while users are typing.
const TICK_INTERVAL: Duration = Duration::from_millis(200);

/// A snapshot as all of its subscribers share it, with the renderings made of it.
pub type CachedTyping = Arc<CachedUpdate<TypingSnapshot>>;

/// The users who are typing in a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypingSnapshot {
    /// The chat.
    pub chat: ChatId,
    /// The users, by the time when they started.
    pub users: Vec<UserId>,
}

/// The users who are typing in all chats.
#[derive(Debug, Clone)]
pub struct TypingTracker(Arc<TypingRegistry>);

/// The state that the clones of a tracker share.
///
/// `chats` protects all typing states. No other lock is taken while it is held, except the internal one of a watch
/// channel, and it is not held at an await point.
#[derive(Debug)]
struct TypingRegistry {
    publisher: EventPublisher,
    clock: Clock,
    /// The chats in which users are typing or that have subscribers.
    chats: Mutex<HashMap<ChatId, ChatTyping>>,
    /// The number of typing states in all chats, changed under the lock of `chats`. Each sent message reads it without
    /// the lock, and most of the time it is 0. A relaxed read suffices, because a state that a
    /// reader misses expires by itself.
    typing_count: AtomicUsize,
    /// Wakes the expiry loop when the first user starts typing, and when the tracker is dropped.
    wake: Arc<Notify>,
}

/// The typing state of one chat.
#[derive(Debug)]
struct ChatTyping {
    /// The users who are typing, by the time when they started.
    users: Vec<TypingUser>,
    snapshot: watch::Sender<CachedTyping>,
}

#[derive(Debug)]
struct TypingUser {
    user: UserId,
    started_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
}

impl TypingTracker {
    /// Creates a tracker and starts its expiry loop.
    ///
    /// The loop ends when the last clone of the tracker is dropped. After a panic in the loop, subscribers aren't
    /// informed of expired states any more.
    pub fn start(publisher: EventPublisher, clock: Clock) -> Self {
        let registry = Arc::new(TypingRegistry {
            publisher,
            clock,
            chats: Mutex::default(),
            typing_count: AtomicUsize::new(0),
            wake: Arc::default(),
        });
        tokio::spawn(run_expiry_loop(TickLoop::new(&registry, registry.wake.clone())));
        Self(registry)
    }

    /// Marks a member as typing and returns the time when the state expires.
    pub fn start_typing(&self, chat: ChatId, user: &UserId) -> DateTime<Utc> {
        let now = self.0.clock.now();
        let expires_at = now + TYPING_TTL;
        let started_at = self.0.upsert_user(chat, user, now, expires_at);
        self.0.publisher.send_to_peers(ClusterMessage::Typing(TypingUpdate {
            chat,
            user: user.clone(),
            span: Some((started_at, expires_at)),
        }));
        expires_at
    }

    /// Marks a member as no longer typing.
    pub fn stop_typing(&self, member: &MemberId) {
        if self.0.typing_count.load(Ordering::Relaxed) > 0 && self.0.remove_user(member.chat, &member.user) {
            let MemberId { chat, user } = member.clone();
            self.0.publisher.send_to_peers(ClusterMessage::Typing(TypingUpdate { chat, user, span: None }));
        }
    }

    /// Marks a member as no longer typing, also if only another node knows that they are.
    ///
    /// This node may have no listeners in the chat, and then does not know who is typing at other nodes.
    pub fn stop_typing_everywhere(&self, member: MemberId) {
        self.0.remove_user(member.chat, &member.user);
        let MemberId { chat, user } = member;
        self.0.publisher.send_to_peers(ClusterMessage::Typing(TypingUpdate { chat, user, span: None }));
    }

    /// Marks those as no longer typing whose message or departure another node announces.
    ///
    /// That node may not know that they were typing. A user who began to type again since then stays.
    pub fn end_by_event(&self, event: &ChatEvent) {
        if self.0.typing_count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let ChatEventKind::LogChanges(slice) = &event.kind else { return };
        for change in &slice.changes {
            let ended = match change {
                Change::Message(message, MessageChange::Added) => message.sender.as_ref(),
                Change::Member(member) if !member.is_active() => Some(&member.user),
                _ => None,
            };
            if let Some(user) = ended {
                self.0.remove_user_who_started_before(event.chat, user, event.published_at);
            }
        }
    }

    /// Marks all members of a deleted chat as no longer typing.
    pub fn clear_chat(&self, chat: ChatId) {
        for user in self.typing_users(chat) {
            self.stop_typing(&MemberId { chat, user });
        }
    }

    /// Returns the users who are typing in a chat, by the time when they started.
    pub fn typing_users(&self, chat: ChatId) -> Vec<UserId> {
        if self.0.typing_count.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let now = self.0.clock.now();
        let chats = self.0.lock();
        let users = chats.get(&chat).into_iter().flat_map(|typing| &typing.users);
        users.filter(|typing| now < typing.expires_at).map(|typing| typing.user.clone()).collect()
    }

    /// Applies a message of another node.
    pub fn apply_update(&self, update: &TypingUpdate) {
        match update.span {
            Some((started_at, expires_at)) => {
                // The clock of the other node may be ahead, so the times are bounded by the local clock.
                let now = self.0.clock.now();
                if now < expires_at {
                    let expires_at = expires_at.min(now + TYPING_TTL);
                    self.0.upsert_user(update.chat, &update.user, started_at.min(now), expires_at);
                }
            }
            None => drop(self.0.remove_user(update.chat, &update.user)),
        }
    }

    /// Subscribes to the users who are typing in a chat.
    ///
    /// The caller calls [`release_chat`](Self::release_chat) before it drops the receiver.
    pub fn watch_chat(&self, chat: ChatId) -> watch::Receiver<CachedTyping> {
        self.0.lock().entry(chat).or_insert_with(|| ChatTyping::new(chat)).snapshot.subscribe()
    }

    /// Removes the state of a chat if nobody is typing in it and the caller's receiver is the last one.
    pub fn release_chat(&self, chat: ChatId) {
        let mut chats = self.0.lock();
        if chats.get(&chat).is_some_and(|typing| typing.is_unused_except_by(1)) {
            chats.remove(&chat);
        }
    }
}

impl TypingRegistry {
    fn lock(&self) -> MutexGuard<'_, HashMap<ChatId, ChatTyping>> {
        self.chats.lock()
    }

    /// Adds a typing user or extends the state of one, and returns when the user started.
    fn upsert_user(
        &self,
        chat: ChatId,
        user: &UserId,
        started_at: DateTime<Utc>,
        expires_at: DateTime<Utc>,
    ) -> DateTime<Utc> {
        let mut chats = self.lock();
        let typing = chats.entry(chat).or_insert_with(|| ChatTyping::new(chat));
        if let Some(known) = typing.users.iter_mut().find(|known| known.user == *user) {
            known.expires_at = expires_at;
            return known.started_at;
        }
        typing.users.push(TypingUser { user: user.clone(), started_at, expires_at });
        typing.users.sort_by(|one, other| (one.started_at, &one.user).cmp(&(other.started_at, &other.user)));
        typing.notify(chat);
        if self.typing_count.fetch_add(1, Ordering::Relaxed) == 0 {
            self.wake.notify_one();
        }
        started_at
    }

    /// Removes a typing user and returns true if the user was typing.
    fn remove_user(&self, chat: ChatId, user: &UserId) -> bool {
        self.remove_user_who_started_before(chat, user, DateTime::<Utc>::MAX_UTC)
    }

    /// Removes a user who has been typing since before a time, and returns true if there was one.
    fn remove_user_who_started_before(&self, chat: ChatId, user: &UserId, time: DateTime<Utc>) -> bool {
        let mut chats = self.lock();
        let Some(typing) = chats.get_mut(&chat) else { return false };
        let removed = typing.retain_users(chat, |known| known.user != *user || known.started_at >= time);
        self.typing_count.fetch_sub(removed, Ordering::Relaxed);
        if typing.is_unused() {
            chats.remove(&chat);
        }
        removed > 0
    }

    /// Removes expired states and returns true if a user is still typing.
    fn expire(&self) -> bool {
        let now = self.clock.now();
        let mut chats = self.lock();
        let mut removed = 0;
        chats.retain(|chat, typing| {
            removed += typing.retain_users(*chat, |known| now < known.expires_at);
            !typing.is_unused()
        });
        self.typing_count.fetch_sub(removed, Ordering::Relaxed) > removed
    }
}

/// Wakes the expiry loop, so that it ends.
impl Drop for TypingRegistry {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

impl ChatTyping {
    fn new(chat: ChatId) -> Self {
        let (snapshot, _) = watch::channel(Arc::new(CachedUpdate::new(TypingSnapshot { chat, users: Vec::new() })));
        Self { users: Vec::new(), snapshot }
    }

    /// Returns true if no user is typing and nobody has subscribed.
    fn is_unused(&self) -> bool {
        self.is_unused_except_by(0)
    }

    /// Returns true if no user is typing and there are only `subscribers` subscribers.
    fn is_unused_except_by(&self, subscribers: usize) -> bool {
        self.users.is_empty() && self.snapshot.receiver_count() == subscribers
    }

    /// Removes the users for whom `is_kept` returns false, and returns their number.
    ///
    /// Subscribers are informed if a user was removed.
    fn retain_users(&mut self, chat: ChatId, is_kept: impl Fn(&TypingUser) -> bool) -> usize {
        let before = self.users.len();
        self.users.retain(is_kept);
        let removed = before - self.users.len();
        if removed > 0 {
            self.notify(chat);
        }
        removed
    }

    fn notify(&self, chat: ChatId) {
        let users = self.users.iter().map(|typing| typing.user.clone()).collect();
        self.snapshot.send_replace(Arc::new(CachedUpdate::new(TypingSnapshot { chat, users })));
    }
}

/// Expires states while users are typing.
async fn run_expiry_loop(ticks: TickLoop<TypingRegistry>) {
    let mut wait = Wait::UntilWoken;
    while let Some(tick) = ticks.next(wait).await {
        wait = if tick.owner.expire() { Wait::For(TICK_INTERVAL) } else { Wait::UntilWoken };
    }
}

#[cfg(test)]
mod tests;
