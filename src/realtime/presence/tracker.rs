//! Who is there: known to the nodes alone, but for when somebody was last there.
//!
//! ```text
//!             arrive                    the last connection goes
//!   absent ───────────► present ─────────────────────────────────► leaving
//!      ▲                   ▲                 arrive                   │
//!      │                   └──────────────────────────────────────────┤
//!      └──────────────────────────────────────── the grace is over ───┘
//! ```
//!
//! One who is leaving counts as present, so that a reload of a page is seen by nobody.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::domain::clock::Clock;
use crate::domain::ids::{ChatId, OrganizationId, UserId};
use crate::domain::presence::PresenceStatus;
use crate::domain::users::{Person, User};
use crate::error::Result;
use crate::lock::lock;
use crate::realtime::cluster::publisher::{Bus, Word};
use crate::realtime::dispatch::render_cache::Told;
use crate::realtime::feeds::presence::PresenceFeed;
use crate::realtime::presence::registry::State;
use crate::realtime::presence::user_state::{Being, Set};
use crate::storage::pool::Store;
use crate::storage::users;

/// How often it is looked at whose time has come, while there is anybody whose will.
const TICK: Duration = Duration::from_millis(200);

pub(crate) type News = Arc<Told<PresenceNow>>;

/// A person's presence as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceNow {
    pub organization: OrganizationId,
    pub user: UserId,
    pub status: PresenceStatus,
    /// None while they are there, or where they never were.
    pub last_seen_at: Option<DateTime<Utc>>,
    /// For the members of that chat alone.
    pub current_chat: Option<ChatId>,
}

impl PresenceNow {
    pub(crate) fn offline((organization, user): &Person, last_seen_at: Option<DateTime<Utc>>) -> Self {
        let (organization, user) = (organization.clone(), user.clone());
        Self { organization, user, status: PresenceStatus::Offline, last_seen_at, current_chat: None }
    }
}

/// What a node tells the others of a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceWord {
    pub node: String,
    pub organization: OrganizationId,
    pub user: UserId,
    /// Whether they are connected to that node.
    pub here: bool,
    set: Set,
}

/// Who is there, on all nodes.
#[derive(Debug, Clone)]
pub struct Presence(pub(crate) Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    /// This node's name among the others.
    node: String,
    bus: Bus,
    clock: Clock,
    grace: TimeDelta,
    state: Mutex<State>,
    woken: Arc<Notify>,
}

/// One connection of a person; they leave when it is dropped.
#[derive(Debug)]
pub struct Here {
    presence: Presence,
    person: Person,
}

impl Drop for Here {
    fn drop(&mut self) {
        self.presence.leave(&self.person);
    }
}

impl Presence {
    pub fn start(node: String, store: Store, bus: Bus, clock: Clock, grace: Duration) -> Self {
        let grace = TimeDelta::from_std(grace).unwrap_or_default();
        let woken = Arc::new(Notify::new());
        let state = Mutex::default();
        let shared = Arc::new(Shared { node, bus, clock, grace, state, woken: woken.clone() });
        tokio::spawn(watch_over(Arc::downgrade(&shared), woken, store));
        Self(shared)
    }

    /// A person's connection begins.
    pub fn arrive(&self, organization: &OrganizationId, user: &UserId) -> Here {
        let person = (organization.clone(), user.clone());
        self.0.change(&person, |being, _| {
            being.here += 1;
            being.here == 1
        });
        Here { presence: self.clone(), person }
    }

    fn leave(&self, person: &Person) {
        self.0.change(person, |being, _| {
            being.here = being.here.saturating_sub(1);
            being.is_ours = true;
            being.here == 0
        });
    }

    /// A person says how they are there. It outlives their connections, the chat doesn't.
    pub fn set(
        &self,
        organization: &OrganizationId,
        user: &UserId,
        status: PresenceStatus,
        current_chat: Option<ChatId>,
    ) {
        let person = (organization.clone(), user.clone());
        self.0.change(&person, |being, now| {
            let current_chat = current_chat.filter(|_| being.is_present());
            // Later than whatever was set before, by any clock.
            let at = now.max(being.set.at + TimeDelta::microseconds(1));
            being.set(Set { status, current_chat, at }, now, true);
            true
        });
    }

    /// A person is no longer in a chat: it isn't where they are.
    pub fn left_chat(&self, organization: &OrganizationId, user: &UserId, chat: ChatId) {
        let person = (organization.clone(), user.clone());
        let is_there = |being: &Being| being.set.current_chat == Some(chat);
        if self.0.lock().people.get(&person).is_some_and(is_there) {
            self.0.change(&person, |being, _| {
                let is_there = is_there(being);
                if is_there {
                    being.set.current_chat = None;
                    being.set.at += TimeDelta::microseconds(1);
                }
                is_there
            });
        }
    }

    /// The presence of a person whose row was read.
    pub fn of(&self, user: &User) -> PresenceNow {
        self.0.lock().news(user).event.clone()
    }

    /// The presence of these people now, then at each change; their rows were read.
    pub fn listen(&self, people: &[User]) -> PresenceFeed {
        PresenceFeed::open(self.clone(), people)
    }

    /// Takes in what another node told.
    pub fn hear(&self, word: &PresenceWord) {
        if word.node == self.0.node {
            return;
        }
        let person = (word.organization.clone(), word.user.clone());
        self.0.change(&person, |being, now| {
            if word.here {
                being.elsewhere.insert(word.node.clone());
            } else if being.elsewhere.remove(&word.node) {
                // That node writes when they were last there.
                being.is_ours = false;
            }
            if word.set.at > being.set.at {
                being.set(word.set.clone(), now, false);
            }
            false
        });
    }

    /// A node is gone, and with it the connections to it.
    pub fn forget_node(&self, name: &str) {
        let state = self.0.lock();
        let were_there = state.people.iter().filter(|(_, being)| being.elsewhere.contains(name));
        let people: Vec<Person> = were_there.map(|(person, _)| person.clone()).collect();
        drop(state);
        for person in people {
            self.0.change(&person, |being, _| {
                being.elsewhere.remove(name);
                being.is_ours = true;
                false
            });
        }
    }

    /// There are no nodes but these, and this one.
    pub fn forget_others(&self, nodes: &HashSet<&str>) {
        let state = self.0.lock();
        let known: HashSet<String> = state.people.values().flat_map(|being| being.elsewhere.iter().cloned()).collect();
        drop(state);
        known.iter().filter(|node| !nodes.contains(node.as_str())).for_each(|node| self.forget_node(node));
    }

    /// All that this node would tell one that has just joined.
    pub fn here(&self) -> Vec<Word> {
        let state = self.0.lock();
        let told = state.people.iter().filter(|(_, being)| being.here > 0 || being.set != Set::default());
        told.map(|(person, being)| self.0.word(person, being)).collect()
    }

    /// Writes when all were last there who are here or have just gone; for the end of this node.
    pub async fn close(&self, store: &Store) {
        let seen = self.0.close();
        if let Err(error) = save(store, &seen).await {
            tracing::warn!(%error, people = seen.len(), "when people were last there could not be written");
        }
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Changes what is known of a person and tells those who listen, and the other nodes where `change`
    /// says that they are to know: under the lock, so that they hear of changes in their order.
    fn change(&self, person: &Person, change: impl FnOnce(&mut Being, DateTime<Utc>) -> bool) {
        let now = self.clock.now();
        let mut state = self.lock();
        let being = state.people.entry(person.clone()).or_insert_with(|| Being::absent(person));
        let is_told = change(being, now);
        being.connect(now);
        if is_told {
            self.bus.say(self.word(person, being));
        }
        let next = being.next(self.grace);
        if let Some(at) = being.unsaved.take() {
            state.unsaved.insert(person.clone(), at);
        }
        state.schedule(person, next);
        state.tell(person);
        let is_busy = state.is_busy();
        drop(state);
        if is_busy {
            self.woken.notify_one();
        }
    }

    fn word(&self, (organization, user): &Person, being: &Being) -> Word {
        let (organization, user) = (organization.clone(), user.clone());
        Word::Presence(PresenceWord {
            node: self.node.clone(),
            organization,
            user,
            here: being.here > 0,
            set: being.set.clone(),
        })
    }

    /// Looks at all whose time has come. Gives what is to be written; none where nothing is left to
    /// look at.
    fn look(&self) -> Option<HashMap<Person, DateTime<Utc>>> {
        let now = self.clock.now();
        let mut state = self.lock();
        state.look(now, self.grace);
        state.is_busy().then(|| state.unsaved.clone())
    }

    /// What is to be written if this node ends now.
    fn close(&self) -> HashMap<Person, DateTime<Utc>> {
        let now = self.clock.now();
        let state = self.lock();
        let closing = state.people.iter().filter_map(|(person, being)| Some((person.clone(), being.closing(now)?)));
        closing.chain(state.unsaved.clone()).collect()
    }

    /// What was written need not be again.
    fn saved(&self, written: &HashMap<Person, DateTime<Utc>>) {
        self.lock().unsaved.retain(|person, at| written.get(person) != Some(at));
    }
}

/// The task that was started ends with what it watches.
impl Drop for Shared {
    fn drop(&mut self) {
        self.woken.notify_one();
    }
}

/// Looks at people while there is anybody to look at, and writes when they were last there, all of a
/// moment together.
async fn watch_over(shared: Weak<Shared>, woken: Arc<Notify>, store: Store) {
    loop {
        woken.notified().await;
        loop {
            let Some(unsaved) = shared.upgrade().map(|shared| shared.look()) else { return };
            let Some(unsaved) = unsaved else { break };
            let mut pause = TICK;
            match save(&store, &unsaved).await {
                Ok(()) => drop(shared.upgrade().map(|shared| shared.saved(&unsaved))),
                Err(error) => {
                    tracing::warn!(%error, people = unsaved.len(), "when people were last there waits to be written");
                    pause = Duration::from_secs(1);
                }
            }
            tokio::time::sleep(pause).await;
        }
    }
}

async fn save(store: &Store, seen: &HashMap<Person, DateTime<Utc>>) -> Result<()> {
    if seen.is_empty() {
        return Ok(());
    }
    let row = |((organization, user), at): (&Person, &DateTime<Utc>)| (organization.clone(), user.clone(), *at);
    let rows: Vec<_> = seen.iter().map(row).collect();
    store.write().await?.transaction(async move |conn| users::last_seen(conn, &rows).await).await
}

#[cfg(test)]
mod tests;
