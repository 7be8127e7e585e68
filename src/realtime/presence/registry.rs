//! What is known of all people, and who is to be looked at when.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::presence::PresenceStatus;
use crate::domain::users::{Person, User};
use crate::realtime::dispatch::render_cache::Told;
use crate::realtime::feeds::presence::Listeners;
use crate::realtime::presence::tracker::{News, PresenceNow};
use crate::realtime::presence::user_state::Being;

/// People remembered who are not there; beyond it, who would be forgotten first is.
pub const MOST_KEPT: usize = 100_000;

#[derive(Debug, Default)]
pub struct State {
    pub people: HashMap<Person, Being>,
    /// Those who are not connected, by when they are to be looked at; each once.
    pub agenda: BTreeSet<(DateTime<Utc>, Person)>,
    /// When people were last there, to be written.
    pub unsaved: HashMap<Person, DateTime<Utc>>,
    pub listeners: Listeners,
}

impl State {
    pub fn is_busy(&self) -> bool {
        !self.agenda.is_empty() || !self.unsaved.is_empty()
    }

    /// A person is to be looked at then, and at no other time.
    pub fn schedule(&mut self, person: &Person, next: Option<DateTime<Utc>>) {
        let Some(being) = self.people.get_mut(person) else { return };
        if let Some(before) = std::mem::replace(&mut being.scheduled, next) {
            self.agenda.remove(&(before, person.clone()));
        }
        self.agenda.extend(next.map(|at| (at, person.clone())));
    }

    pub fn look(&mut self, now: DateTime<Utc>, grace: TimeDelta) {
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
    pub fn tell(&mut self, person: &Person) {
        let Some(being) = self.people.get_mut(person) else { return };
        let now = being.shown(person);
        if being.told.event != now {
            being.told = Arc::new(Told::new(now));
            self.listeners.put(person, &being.told);
        }
    }

    /// What there is to tell of a person whose row was read.
    pub fn news(&self, user: &User) -> News {
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
