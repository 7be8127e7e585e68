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

mod being;
mod feed;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::bus::{Bus, Word};
use super::memo::Told;
use crate::domain::clock::Clock;
use crate::domain::ids::{ChatId, OrganizationId, UserId};
use crate::domain::presence::PresenceStatus;
use crate::domain::users::User;
use crate::error::Result;
use crate::storage::{Store, users};
use being::{Being, Set};

pub use feed::PresenceFeed;

/// How often it is looked at whose time has come, while there is anybody whose will.
const TICK: Duration = Duration::from_millis(200);
/// How long it is remembered of one who went what they had set by hand.
const KEPT: TimeDelta = TimeDelta::hours(24);
/// How long one who went is remembered at all: a row that was read meanwhile may not know of it.
const FRESH: TimeDelta = TimeDelta::minutes(1);
/// People remembered who are not there; beyond it, who would be forgotten first is.
const MOST_KEPT: usize = 100_000;

type Person = (OrganizationId, UserId);
type News = Arc<Told<PresenceNow>>;

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
    fn offline((organization, user): &Person, last_seen_at: Option<DateTime<Utc>>) -> Self {
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
pub struct Presence(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// This node's name among the others.
    node: String,
    bus: Bus,
    clock: Clock,
    grace: TimeDelta,
    state: Mutex<State>,
    woken: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    people: HashMap<Person, Being>,
    /// Those who are not connected, by when they are to be looked at; each once.
    agenda: BTreeSet<(DateTime<Utc>, Person)>,
    /// When people were last there, to be written.
    unsaved: HashMap<Person, DateTime<Utc>>,
    listeners: feed::Listeners,
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
        let word = self.0.change(&person, |being, _| {
            being.here += 1;
            being.here == 1
        });
        self.0.say(word);
        Here { presence: self.clone(), person }
    }

    fn leave(&self, person: &Person) {
        let word = self.0.change(person, |being, _| {
            being.here = being.here.saturating_sub(1);
            being.is_ours = true;
            being.here == 0
        });
        self.0.say(word);
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
        let word = self.0.change(&person, |being, now| {
            let current_chat = current_chat.filter(|_| being.is_present());
            // Later than whatever was set before, by any clock.
            let at = now.max(being.set.at + TimeDelta::microseconds(1));
            being.set(Set { status, current_chat, at }, now, true);
            true
        });
        self.0.say(word);
    }

    /// A person is no longer in a chat: it isn't where they are.
    pub fn left_chat(&self, organization: &OrganizationId, user: &UserId, chat: ChatId) {
        let person = (organization.clone(), user.clone());
        let is_there = |being: &Being| being.set.current_chat == Some(chat);
        if self.0.lock().people.get(&person).is_some_and(is_there) {
            let word = self.0.change(&person, |being, _| {
                let is_there = is_there(being);
                if is_there {
                    being.set.current_chat = None;
                    being.set.at += TimeDelta::microseconds(1);
                }
                is_there
            });
            self.0.say(word);
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
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known of a person and tells those who listen. Gives what to tell other nodes,
    /// where `change` says that they are to know.
    fn change(&self, person: &Person, change: impl FnOnce(&mut Being, DateTime<Utc>) -> bool) -> Option<Word> {
        let now = self.clock.now();
        let mut state = self.lock();
        let being = state.people.entry(person.clone()).or_insert_with(|| Being::absent(person));
        let is_told = change(being, now);
        being.connect(now);
        let word = is_told.then(|| self.word(person, being));
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
        word
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

    fn say(&self, word: Option<Word>) {
        word.into_iter().for_each(|word| self.bus.say(word));
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

impl State {
    fn is_busy(&self) -> bool {
        !self.agenda.is_empty() || !self.unsaved.is_empty()
    }

    /// A person is to be looked at then, and at no other time.
    fn schedule(&mut self, person: &Person, next: Option<DateTime<Utc>>) {
        let Some(being) = self.people.get_mut(person) else { return };
        if let Some(before) = std::mem::replace(&mut being.scheduled, next) {
            self.agenda.remove(&(before, person.clone()));
        }
        self.agenda.extend(next.map(|at| (at, person.clone())));
    }

    fn look(&mut self, now: DateTime<Utc>, grace: TimeDelta) {
        while let Some((at, person)) = self.agenda.pop_first() {
            if at > now {
                self.agenda.insert((at, person));
                break;
            }
            let Some(being) = self.people.get_mut(&person) else { continue };
            being.scheduled = None;
            if being.is_present() {
                being.depart();
                self.unsaved.extend(being.unsaved.take().map(|at| (person.clone(), at)));
                let next = being.next(grace);
                self.schedule(&person, next);
                self.tell(&person);
            } else {
                self.people.remove(&person);
            }
        }
        let over = self.agenda.len().saturating_sub(MOST_KEPT);
        let is_absent =
            |(_, person): &&(DateTime<Utc>, Person)| !self.people.get(person).is_some_and(Being::is_present);
        let forgotten: Vec<_> = self.agenda.iter().filter(is_absent).take(over).cloned().collect();
        for entry in forgotten {
            self.people.remove(&entry.1);
            self.agenda.remove(&entry);
        }
    }

    /// Tells those who listen to a person, where what others see of them has changed.
    fn tell(&mut self, person: &Person) {
        let Some(being) = self.people.get_mut(person) else { return };
        let now = being.shown(person);
        if being.told.event != now {
            being.told = Arc::new(Told::new(now));
            self.listeners.put(person, &being.told);
        }
    }

    /// What there is to tell of a person whose row was read.
    fn news(&self, user: &User) -> News {
        let person = (user.organization.clone(), user.id.clone());
        let told = self.people.get(&person).map(|being| &being.told);
        // What is remembered of one who isn't seen to be there may not go as far back as the row.
        let is_known = |told: &&News| told.event.status != PresenceStatus::Offline || told.event.last_seen_at.is_some();
        match told.filter(is_known) {
            Some(told) => told.clone(),
            None => Arc::new(Told::new(PresenceNow::offline(&person, user.last_seen_at))),
        }
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
