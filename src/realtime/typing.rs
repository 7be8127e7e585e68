//! Who is typing: known to the nodes alone, and over by itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use crate::domain::clock::Clock;
use crate::domain::ids::{ChatId, MemberId, UserId};
use crate::domain::users::Viewer;
use crate::lock::lock;
use crate::realtime::cluster::publisher::{Bus, Word};
use crate::realtime::dispatch::render_cache::Told;
use crate::realtime::dispatch::subscriber::Listener;
use crate::realtime::feeds::typing::TypingFeed;
use crate::storage::pool::Store;

/// How long one who said so is typing.
const LASTS: TimeDelta = TimeDelta::seconds(6);
/// How often it is looked at who has ended, while anybody types.
const TICK: Duration = Duration::from_millis(200);

/// Everyone who is typing in a chat, by when they began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypingNow {
    pub chat: ChatId,
    pub users: Vec<UserId>,
}

pub(crate) type List = Arc<Told<TypingNow>>;

/// What a node tells the others of a person's typing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypingWord {
    pub chat: ChatId,
    pub user: UserId,
    /// When they began, and when it ends by itself; none where it has ended.
    pub span: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

/// Who is typing, in all chats.
#[derive(Debug, Clone)]
pub struct Typing(pub(crate) Arc<Rooms>);

#[derive(Debug)]
pub(crate) struct Rooms {
    bus: Bus,
    clock: Clock,
    /// Chats in which somebody types or to which somebody listens.
    rooms: Mutex<HashMap<ChatId, Room>>,
    /// People who type, each counted in each chat: who sends a message looks no further where it is 0.
    number: AtomicUsize,
    woken: Arc<Notify>,
}

#[derive(Debug)]
pub(crate) struct Room {
    typers: Vec<Typer>,
    pub(crate) list: watch::Sender<List>,
}

#[derive(Debug)]
struct Typer {
    user: UserId,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
}

impl Typing {
    pub fn start(bus: Bus, clock: Clock) -> Self {
        let woken = Arc::new(Notify::new());
        let rooms =
            Arc::new(Rooms { bus, clock, rooms: Mutex::default(), number: AtomicUsize::new(0), woken: woken.clone() });
        tokio::spawn(watch_over(Arc::downgrade(&rooms), woken));
        Self(rooms)
    }

    /// A member is typing from now on; gives when it ends, if they say nothing more.
    pub fn begin(&self, chat: ChatId, user: &UserId) -> DateTime<Utc> {
        let now = self.0.clock.now();
        let until = now + LASTS;
        let since = self.0.begin(chat, user, now, until);
        self.0.bus.say(Word::Typing(TypingWord { chat, user: user.clone(), span: Some((since, until)) }));
        until
    }

    /// A member is typing no more.
    pub fn stop(&self, member: &MemberId) {
        if self.0.number.load(Ordering::Relaxed) > 0 && self.0.stop(member.chat, &member.user) {
            let MemberId { chat, user } = member.clone();
            self.0.bus.say(Word::Typing(TypingWord { chat, user, span: None }));
        }
    }

    /// A chat is no more.
    pub fn forget(&self, chat: ChatId) {
        for user in self.now(chat) {
            self.stop(&MemberId { chat, user });
        }
    }

    /// Everyone who is typing in a chat, by when they began.
    pub fn now(&self, chat: ChatId) -> Vec<UserId> {
        if self.0.number.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let now = self.0.clock.now();
        let rooms = self.0.lock();
        let typers = rooms.get(&chat).into_iter().flat_map(|room| &room.typers);
        typers.filter(|typer| now < typer.until).map(|typer| typer.user.clone()).collect()
    }

    /// Takes in what another node told.
    pub fn hear(&self, word: &TypingWord) {
        match word.span {
            Some((since, until)) => {
                // Whatever the other node's clock says, it is over here by then.
                let now = self.0.clock.now();
                if now < until {
                    self.0.begin(word.chat, &word.user, since.min(now), until.min(now + LASTS));
                }
            }
            None => drop(self.0.stop(word.chat, &word.user)),
        }
    }

    /// The feed of a chat for one who is in. The listener hears already when they cease to be, and
    /// when the chat does.
    pub fn listen(&self, store: Store, viewer: Arc<Viewer>, listener: Listener, chat: ChatId) -> TypingFeed {
        let list = self.0.lock().entry(chat).or_insert_with(|| Room::new(chat)).list.subscribe();
        TypingFeed::new(store, viewer, listener, chat, list, self.clone())
    }
}

impl Rooms {
    pub(crate) fn lock(&self) -> MutexGuard<'_, HashMap<ChatId, Room>> {
        lock(&self.rooms)
    }

    /// Gives since when they type: one who does already only goes on.
    fn begin(&self, chat: ChatId, user: &UserId, since: DateTime<Utc>, until: DateTime<Utc>) -> DateTime<Utc> {
        let mut rooms = self.lock();
        let room = rooms.entry(chat).or_insert_with(|| Room::new(chat));
        if let Some(typer) = room.typers.iter_mut().find(|typer| typer.user == *user) {
            typer.until = until;
            return typer.since;
        }
        room.typers.push(Typer { user: user.clone(), since, until });
        room.typers.sort_by(|one, other| (one.since, &one.user).cmp(&(other.since, &other.user)));
        room.tell(chat);
        if self.number.fetch_add(1, Ordering::Relaxed) == 0 {
            self.woken.notify_one();
        }
        since
    }

    /// Whether they typed.
    fn stop(&self, chat: ChatId, user: &UserId) -> bool {
        let mut rooms = self.lock();
        let Some(room) = rooms.get_mut(&chat) else { return false };
        let gone = room.keep(chat, |typer| typer.user != *user);
        self.number.fetch_sub(gone, Ordering::Relaxed);
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
            gone += room.keep(*chat, |typer| now < typer.until);
            !room.is_idle(0)
        });
        self.number.fetch_sub(gone, Ordering::Relaxed) > gone
    }
}

/// The task that was started ends with what it watches.
impl Drop for Rooms {
    fn drop(&mut self) {
        self.woken.notify_one();
    }
}

impl Room {
    pub(crate) fn new(chat: ChatId) -> Self {
        let (list, _) = watch::channel(Arc::new(Told::new(TypingNow { chat, users: Vec::new() })));
        Self { typers: Vec::new(), list }
    }

    /// Nobody types, and nobody but so many listens.
    pub(crate) fn is_idle(&self, listeners: usize) -> bool {
        self.typers.is_empty() && self.list.receiver_count() == listeners
    }

    /// Keeps some, tells of it where any went, and gives how many.
    fn keep(&mut self, chat: ChatId, is_kept: impl Fn(&Typer) -> bool) -> usize {
        let before = self.typers.len();
        self.typers.retain(is_kept);
        let gone = before - self.typers.len();
        if gone > 0 {
            self.tell(chat);
        }
        gone
    }

    fn tell(&self, chat: ChatId) {
        let users = self.typers.iter().map(|typer| typer.user.clone()).collect();
        self.list.send_replace(Arc::new(Told::new(TypingNow { chat, users })));
    }
}

/// Ends what is over while anybody types; sleeps until somebody does.
async fn watch_over(rooms: Weak<Rooms>, woken: Arc<Notify>) {
    loop {
        woken.notified().await;
        loop {
            let Some(rooms) = rooms.upgrade() else { return };
            if !rooms.expire() {
                break;
            }
            drop(rooms);
            tokio::time::sleep(TICK).await;
        }
    }
}

#[cfg(test)]
mod tests;
