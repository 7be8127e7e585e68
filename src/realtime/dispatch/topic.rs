//! One chat as its listeners on this node hear it: in order, and what is the same for many made once.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::domain::chat_events::ChatEvent;
use crate::lock::lock;
use crate::realtime::dispatch::fast_path::Sheet;
use crate::realtime::dispatch::hub::Listeners;
use crate::realtime::dispatch::queue::{Heard, Mailbox};
use crate::realtime::dispatch::shard::Part;

/// Events that a topic holds for the sake of a gap. Beyond, its listeners read the gap each.
const HELD: usize = 256;

/// The listeners of one chat.
#[derive(Debug, Default)]
pub(super) struct Topic(pub(super) Mutex<TopicState>);

/// Those listeners of a chat who ask the same.
pub trait Audience: Debug + Send + Sync {
    /// By what they are told from others.
    fn id(&self) -> u64;

    /// Makes what they are told of what was heard, and leaves it there; gives it where it is the same for
    /// all of them. `version` is that of the chat when it was heard.
    fn make(&self, heard: Arc<Heard>, version: i64) -> BoxFuture<'static, Option<Sheet>>;
}

/// Longest that listeners wait for what is made for all of them; then each has it made for itself.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(super) struct TopicState {
    pub(super) listeners: Listeners,
    /// The same, as they are told; none where that has changed.
    parts: Option<Arc<Vec<Arc<Part>>>>,
    /// The last version that was told without a gap; none where nobody knows.
    pub(super) version: Option<i64>,
    /// What came too early, by its first version.
    pub(super) held: BTreeMap<i64, ChatEvent>,
    /// Those among the listeners who ask the same, and how many they are.
    pub(super) audiences: HashMap<u64, (Arc<dyn Audience>, usize)>,
    /// What was heard and is to be made ready for them.
    unmade: Vec<Arc<Heard>>,
    /// Something is being made: what comes now is passed on after it.
    is_making: bool,
    /// The tasks that tell parts what was made.
    telling: TaskTracker,
}

/// What was heard and is to be made ready, and for whom.
struct ToMake {
    heard: Vec<Arc<Heard>>,
    audiences: Vec<Arc<dyn Audience>>,
    version: i64,
}

impl Topic {
    /// Makes what waits ready for those who ask the same, all of it at once, and passes it on in its order.
    pub(super) fn make(self: &Arc<Self>, state: &mut TopicState) {
        if state.is_making || state.unmade.is_empty() {
            return;
        }
        state.is_making = true;
        let topic = self.clone();
        tokio::spawn(async move {
            while let Some(to_make) = topic.next_to_make() {
                let heard = to_make.make().await;
                topic.deliver(&heard).await;
            }
        });
    }

    /// Passes on what was heard: by a task for each part, where there are several.
    async fn deliver(&self, heard: &[Arc<Heard>]) {
        let (known, telling) = {
            let state = lock(&self.0);
            (state.parts.clone(), state.telling.clone())
        };
        let parts = match known {
            Some(parts) => parts,
            None => {
                // Others listen than before, in other parts: what they are told already comes first.
                telling.close();
                telling.wait().await;
                telling.reopen();
                lock(&self.0).parts()
            }
        };
        match &parts[..] {
            [part] => {
                part.add(heard);
                part.clone().tell().await;
            }
            parts => {
                for part in parts.iter().filter(|part| part.add(heard)) {
                    telling.spawn(part.clone().tell());
                }
            }
        }
    }

    /// What is to be made, and for whom; none where all is passed on.
    fn next_to_make(&self) -> Option<ToMake> {
        let mut state = lock(&self.0);
        let heard = std::mem::take(&mut state.unmade);
        state.is_making = !heard.is_empty();
        if heard.is_empty() {
            return None;
        }
        let shared = state.audiences.values().filter(|(_, number)| *number > 1);
        let audiences = shared.map(|(audience, _)| audience.clone()).collect();
        Some(ToMake { heard, audiences, version: state.version.unwrap_or_default() })
    }
}

impl ToMake {
    /// Makes all of it at once. What is late is made by those whom it concerns.
    async fn make(self) -> Vec<Arc<Heard>> {
        let Self { heard, audiences, version } = self;
        let making = heard.iter().map(async |heard| {
            let sheets = audiences.iter().map(async |audience| {
                let sheet = audience.make(heard.clone(), version).await;
                sheet.map(|sheet| (audience.id(), sheet))
            });
            heard.is_told_as(join_all(sheets).await.into_iter().flatten().collect());
        });
        drop(timeout(PATIENCE, join_all(making)).await);
        heard
    }
}

impl TopicState {
    pub(super) fn enter(&mut self, id: u64, mailbox: Arc<Mailbox>) {
        self.listeners.insert(id, mailbox);
        self.parts = None;
    }

    /// True where nobody is left.
    pub(super) fn leave(&mut self, id: u64) -> bool {
        self.listeners.remove(&id);
        self.parts = None;
        self.listeners.is_empty()
    }

    fn parts(&mut self) -> Arc<Vec<Arc<Part>>> {
        self.parts.get_or_insert_with(|| Arc::new(Part::all(&self.listeners))).clone()
    }

    /// Passes an event on, or holds it; true where a gap has opened.
    pub(super) fn hear(&mut self, event: ChatEvent) -> bool {
        let Some((first, last)) = event.versions() else {
            self.put(event);
            return false;
        };
        if self.version.is_some_and(|version| first > version + 1) {
            let opened = self.held.is_empty();
            self.held.insert(first, event);
            if self.held.len() > HELD {
                self.release();
                return false;
            }
            return opened;
        }
        self.version = self.version.max(Some(last));
        self.put(event);
        while let Some(next) = self.held.first_entry()
            && self.version.is_none_or(|version| *next.key() <= version + 1)
        {
            let event = next.remove();
            self.version = self.version.max(event.versions().map(|(_, last)| last));
            self.put(event);
        }
        false
    }

    pub(super) fn release(&mut self) {
        for event in std::mem::take(&mut self.held).into_values() {
            self.version = self.version.max(event.versions().map(|(_, last)| last));
            self.put(event);
        }
    }

    /// Whether something heard is on its way: what comes now has its place after it.
    pub(super) fn is_busy(&self) -> bool {
        self.is_making || !self.telling.is_empty()
    }

    /// Passes an event to those who listen, or on to be made ready for them.
    fn put(&mut self, event: ChatEvent) {
        let heard = Heard::new(event, self.listeners.len());
        let is_shared = || self.audiences.values().any(|(_, number)| *number > 1);
        // What is some members' own is made for nobody else: it waits for its turn alone.
        if self.is_busy() || !heard.is_private() && is_shared() {
            self.unmade.push(heard);
        } else {
            let concerned = self.listeners.values().filter(|mailbox| heard.concerns(&mailbox.owner));
            concerned.for_each(|mailbox| mailbox.put(std::slice::from_ref(&heard)));
        }
    }
}
