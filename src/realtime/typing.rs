//! Who is typing: known to the nodes alone, and over by itself.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use crate::domain::clock::Clock;
use crate::domain::ids::{ChatId, MemberId, UserId};
use crate::domain::users::Viewer;
use crate::realtime::cluster::publisher::{ClusterMessage, EventPublisher};
use crate::realtime::dispatch::render_cache::CachedUpdate;
use crate::realtime::dispatch::subscriber::Subscriber;
use crate::realtime::feeds::typing::TypingFeed;
use crate::storage::pool::Database;

/// How long one who said so is typing.
const TYPING_TTL: TimeDelta = TimeDelta::seconds(6);
/// How often it is looked at who has ended, while anybody types.
const TICK_INTERVAL: Duration = Duration::from_millis(200);

/// Everyone who is typing in a chat, by when they began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypingSnapshot {
    pub chat: ChatId,
    pub users: Vec<UserId>,
}

pub(crate) type TypingUsers = Arc<CachedUpdate<TypingSnapshot>>;

/// What a node tells the others of a person's typing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypingUpdate {
    pub chat: ChatId,
    pub user: UserId,
    /// When they began, and when it ends by itself; none where it has ended.
    pub span: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

/// Who is typing, in all chats.
#[derive(Debug, Clone)]
pub struct TypingTracker(pub(crate) Arc<TypingRegistry>);

#[derive(Debug)]
pub(crate) struct TypingRegistry {
    publisher: EventPublisher,
    clock: Clock,
    /// Chats in which somebody types or to which somebody listens.
    chats: Mutex<HashMap<ChatId, ChatTyping>>,
    /// People who type, each counted in each chat: who sends a message looks no further where it is 0.
    typing_count: AtomicUsize,
    wake: Arc<Notify>,
}

#[derive(Debug)]
pub(crate) struct ChatTyping {
    users: Vec<TypingUser>,
    pub(crate) snapshot: watch::Sender<TypingUsers>,
}

#[derive(Debug)]
struct TypingUser {
    user: UserId,
    started_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
}

impl TypingTracker {
    pub fn start(bus: EventPublisher, clock: Clock) -> Self {
        let woken = Arc::new(Notify::new());
        let rooms = Arc::new(TypingRegistry {
            publisher: bus,
            clock,
            chats: Mutex::default(),
            typing_count: AtomicUsize::new(0),
            wake: woken.clone(),
        });
        tokio::spawn(run_expiry_loop(Arc::downgrade(&rooms), woken));
        Self(rooms)
    }

    /// A member is typing from now on; gives when it ends, if they say nothing more.
    pub fn start_typing(&self, chat: ChatId, user: &UserId) -> DateTime<Utc> {
        let now = self.0.clock.now();
        let until = now + TYPING_TTL;
        let since = self.0.upsert_user(chat, user, now, until);
        self.0.publisher.send_to_peers(ClusterMessage::Typing(TypingUpdate {
            chat,
            user: user.clone(),
            span: Some((since, until)),
        }));
        until
    }

    /// A member is typing no more.
    pub fn stop_typing(&self, member: &MemberId) {
        if self.0.typing_count.load(Ordering::Relaxed) > 0 && self.0.remove_user(member.chat, &member.user) {
            let MemberId { chat, user } = member.clone();
            self.0.publisher.send_to_peers(ClusterMessage::Typing(TypingUpdate { chat, user, span: None }));
        }
    }

    /// A chat is no more.
    pub fn clear_chat(&self, chat: ChatId) {
        for user in self.typing_users(chat) {
            self.stop_typing(&MemberId { chat, user });
        }
    }

    /// Everyone who is typing in a chat, by when they began.
    pub fn typing_users(&self, chat: ChatId) -> Vec<UserId> {
        if self.0.typing_count.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let now = self.0.clock.now();
        let rooms = self.0.lock();
        let typers = rooms.get(&chat).into_iter().flat_map(|room| &room.users);
        typers.filter(|typer| now < typer.expires_at).map(|typer| typer.user.clone()).collect()
    }

    /// Takes in what another node told.
    pub fn apply_update(&self, word: &TypingUpdate) {
        match word.span {
            Some((since, until)) => {
                // Whatever the other node's clock says, it is over here by then.
                let now = self.0.clock.now();
                if now < until {
                    self.0.upsert_user(word.chat, &word.user, since.min(now), until.min(now + TYPING_TTL));
                }
            }
            None => drop(self.0.remove_user(word.chat, &word.user)),
        }
    }

    /// The feed of a chat for one who is in. The listener hears already when they cease to be, and
    /// when the chat does.
    pub fn subscribe(&self, store: Database, viewer: Arc<Viewer>, listener: Subscriber, chat: ChatId) -> TypingFeed {
        let list = self.0.lock().entry(chat).or_insert_with(|| ChatTyping::new(chat)).snapshot.subscribe();
        TypingFeed::new(store, viewer, listener, chat, list, self.clone())
    }
}

impl TypingRegistry {
    pub(crate) fn lock(&self) -> MutexGuard<'_, HashMap<ChatId, ChatTyping>> {
        self.chats.lock()
    }

    /// Gives since when they type: one who does already only goes on.
    fn upsert_user(&self, chat: ChatId, user: &UserId, since: DateTime<Utc>, until: DateTime<Utc>) -> DateTime<Utc> {
        let mut rooms = self.lock();
        let room = rooms.entry(chat).or_insert_with(|| ChatTyping::new(chat));
        if let Some(typer) = room.users.iter_mut().find(|typer| typer.user == *user) {
            typer.expires_at = until;
            return typer.started_at;
        }
        room.users.push(TypingUser { user: user.clone(), started_at: since, expires_at: until });
        room.users.sort_by(|one, other| (one.started_at, &one.user).cmp(&(other.started_at, &other.user)));
        room.notify(chat);
        if self.typing_count.fetch_add(1, Ordering::Relaxed) == 0 {
            self.wake.notify_one();
        }
        since
    }

    /// Whether they typed.
    fn remove_user(&self, chat: ChatId, user: &UserId) -> bool {
        let mut rooms = self.lock();
        let Some(room) = rooms.get_mut(&chat) else { return false };
        let gone = room.retain_users(chat, |typer| typer.user != *user);
        self.typing_count.fetch_sub(gone, Ordering::Relaxed);
        if room.is_idle(0) {
            rooms.remove(&chat);
        }
        gone > 0
    }

    /// Ends what is over; whether anybody still types.
    fn expire(&self) -> bool {
        let now = self.clock.now();
        let mut rooms = self.lock();
        let mut gone = 0;
        rooms.retain(|chat, room| {
            gone += room.retain_users(*chat, |typer| now < typer.expires_at);
            !room.is_idle(0)
        });
        self.typing_count.fetch_sub(gone, Ordering::Relaxed) > gone
    }
}

/// The task that was started ends with what it watches.
impl Drop for TypingRegistry {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

impl ChatTyping {
    pub(crate) fn new(chat: ChatId) -> Self {
        let (list, _) = watch::channel(Arc::new(CachedUpdate::new(TypingSnapshot { chat, users: Vec::new() })));
        Self { users: Vec::new(), snapshot: list }
    }

    /// Nobody types, and nobody but so many listens.
    pub(crate) fn is_idle(&self, listeners: usize) -> bool {
        self.users.is_empty() && self.snapshot.receiver_count() == listeners
    }

    /// Keeps some, tells of it where any went, and gives how many.
    fn retain_users(&mut self, chat: ChatId, is_kept: impl Fn(&TypingUser) -> bool) -> usize {
        let before = self.users.len();
        self.users.retain(is_kept);
        let gone = before - self.users.len();
        if gone > 0 {
            self.notify(chat);
        }
        gone
    }

    fn notify(&self, chat: ChatId) {
        let users = self.users.iter().map(|typer| typer.user.clone()).collect();
        self.snapshot.send_replace(Arc::new(CachedUpdate::new(TypingSnapshot { chat, users })));
    }
}

/// Ends what is over while anybody types; sleeps until somebody does.
async fn run_expiry_loop(rooms: Weak<TypingRegistry>, woken: Arc<Notify>) {
    loop {
        woken.notified().await;
        loop {
            let Some(rooms) = rooms.upgrade() else { return };
            if !rooms.expire() {
                break;
            }
            drop(rooms);
            tokio::time::sleep(TICK_INTERVAL).await;
        }
    }
}

#[cfg(test)]
mod tests;
