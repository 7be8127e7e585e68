//! Following some people: for each who is slow to be told, only the newest.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::domain::users::{Person, User};
use crate::error::Result;
use crate::lock::lock;
use crate::realtime::presence::tracker::{News, Presence};

/// Who follows whom.
#[derive(Debug, Default)]
pub struct Listeners {
    by_person: HashMap<Person, HashMap<u64, Arc<Mailbox>>>,
    next_id: u64,
}

impl Listeners {
    pub fn put(&self, person: &Person, news: &News) {
        for mailbox in self.by_person.get(person).into_iter().flat_map(HashMap::values) {
            mailbox.put(person, news);
        }
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.by_person.is_empty()
    }

    fn add(&mut self, people: &[Person], mailbox: &Arc<Mailbox>) -> u64 {
        self.next_id += 1;
        for person in people {
            self.by_person.entry(person.clone()).or_default().insert(self.next_id, mailbox.clone());
        }
        self.next_id
    }

    fn remove(&mut self, people: &[Person], id: u64) {
        for person in people {
            if let Some(listeners) = self.by_person.get_mut(person) {
                listeners.remove(&id);
                if listeners.is_empty() {
                    self.by_person.remove(person);
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct Mailbox {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Each person once, who changed first.
    order: VecDeque<Person>,
    newest: HashMap<Person, News>,
}

impl Mailbox {
    fn put(&self, person: &Person, news: &News) {
        let mut waiting = lock(&self.waiting);
        if waiting.newest.insert(person.clone(), news.clone()).is_none() {
            waiting.order.push_back(person.clone());
        }
        drop(waiting);
        self.filled.notify_one();
    }

    fn take(&self) -> Option<News> {
        let mut waiting = lock(&self.waiting);
        let person = waiting.order.pop_front()?;
        waiting.newest.remove(&person)
    }
}

/// The presence of some people now, then each change of it. It ends only by being dropped.
pub struct PresenceFeed {
    presence: Presence,
    people: Vec<Person>,
    id: u64,
    mailbox: Arc<Mailbox>,
}

impl PresenceFeed {
    pub(crate) fn open(presence: Presence, users: &[User]) -> Self {
        let people: Vec<Person> = users.iter().map(|user| (user.organization.clone(), user.id.clone())).collect();
        let mailbox = Arc::<Mailbox>::default();
        let mut state = presence.0.lock();
        let id = state.listeners.add(&people, &mailbox);
        for (person, user) in people.iter().zip(users) {
            mailbox.put(person, &state.news(user));
        }
        drop(state);
        Self { presence, people, id, mailbox }
    }

    /// The next news. Safe to drop and call again: nothing is taken before it is returned.
    pub async fn next(&mut self) -> Option<Result<News>> {
        loop {
            if let Some(news) = self.mailbox.take() {
                return Some(Ok(news));
            }
            self.mailbox.filled.notified().await;
        }
    }
}

impl Drop for PresenceFeed {
    fn drop(&mut self) {
        self.presence.0.lock().listeners.remove(&self.people, self.id);
    }
}
