//! One chat as its listeners on this node hear it: in order, and what is the same for many made once.

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::domain::chat_events::ChatEvent;
use crate::realtime::dispatch::fast_path::RenderedBatch;
use crate::realtime::dispatch::hub::Subscribers;
use crate::realtime::dispatch::queue::{DeliveryQueue, SharedEvent};
use crate::realtime::dispatch::shard::SubscriberShard;

/// Events that a topic holds for the sake of a gap. Beyond, its listeners read the gap each.
const REORDER_BUFFER_CAPACITY: usize = 256;

/// The listeners of one chat.
#[derive(Debug, Default)]
pub(super) struct Topic(pub(super) Mutex<TopicState>);

/// Those listeners of a chat who ask the same.
pub trait RenderGroup: Debug + Send + Sync {
    /// By what they are told from others.
    fn id(&self) -> u64;

    /// Makes what they are told of what was heard, and leaves it there; gives it where it is the same for
    /// all of them. `version` is that of the chat when it was heard.
    fn render(&self, heard: Arc<SharedEvent>, version: i64) -> BoxFuture<'static, Option<RenderedBatch>>;
}

/// Longest that listeners wait for what is made for all of them; then each has it made for itself.
const RENDER_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(super) struct TopicState {
    pub(super) subscribers: Subscribers,
    /// The same, as they are told; none where that has changed.
    shards: Option<Arc<Vec<Arc<SubscriberShard>>>>,
    /// The last version that was told without a gap; none where nobody knows.
    pub(super) version: Option<i64>,
    /// What came too early, by its first version.
    pub(super) reorder_buffer: BTreeMap<i64, ChatEvent>,
    /// Those among the listeners who ask the same, and how many they are.
    pub(super) render_groups: HashMap<u64, (Arc<dyn RenderGroup>, usize)>,
    /// What was heard and is to be made ready for them.
    pending_render: Vec<Arc<SharedEvent>>,
    /// Something is being made: what comes now is passed on after it.
    is_rendering: bool,
    /// The tasks that tell parts what was made.
    delivery_tasks: TaskTracker,
}

/// What was heard and is to be made ready, and for whom.
struct RenderJob {
    events: Vec<Arc<SharedEvent>>,
    render_groups: Vec<Arc<dyn RenderGroup>>,
    version: i64,
}

impl Topic {
    /// Makes what waits ready for those who ask the same, all of it at once, and passes it on in its order.
    pub(super) fn start_rendering(self: &Arc<Self>, state: &mut TopicState) {
        if state.is_rendering || state.pending_render.is_empty() {
            return;
        }
        state.is_rendering = true;
        let topic = self.clone();
        tokio::spawn(async move {
            while let Some(to_make) = topic.next_render_job() {
                let heard = to_make.render().await;
                topic.deliver(&heard).await;
            }
        });
    }

    /// Passes on what was heard: by a task for each part, where there are several.
    async fn deliver(&self, heard: &[Arc<SharedEvent>]) {
        let (known, telling) = {
            let state = self.0.lock();
            (state.shards.clone(), state.delivery_tasks.clone())
        };
        let parts = match known {
            Some(parts) => parts,
            None => {
                // Others listen than before, in other parts: what they are told already comes first.
                telling.close();
                telling.wait().await;
                telling.reopen();
                self.0.lock().shards()
            }
        };
        match &parts[..] {
            [part] => {
                part.enqueue(heard);
                part.clone().run().await;
            }
            parts => {
                for part in parts.iter().filter(|part| part.enqueue(heard)) {
                    telling.spawn(part.clone().run());
                }
            }
        }
    }

    /// What is to be made, and for whom; none where all is passed on.
    fn next_render_job(&self) -> Option<RenderJob> {
        let mut state = self.0.lock();
        let heard = std::mem::take(&mut state.pending_render);
        state.is_rendering = !heard.is_empty();
        if heard.is_empty() {
            return None;
        }
        let shared = state.render_groups.values().filter(|(_, number)| *number > 1);
        let audiences = shared.map(|(audience, _)| audience.clone()).collect();
        Some(RenderJob { events: heard, render_groups: audiences, version: state.version.unwrap_or_default() })
    }
}

impl RenderJob {
    /// Makes all of it at once. What is late is made by those whom it concerns.
    async fn render(self) -> Vec<Arc<SharedEvent>> {
        let Self { events: heard, render_groups: audiences, version } = self;
        let making = heard.iter().map(async |heard| {
            let sheets = audiences.iter().map(async |audience| {
                let sheet = audience.render(heard.clone(), version).await;
                sheet.map(|sheet| (audience.id(), sheet))
            });
            heard.set_renderings(join_all(sheets).await.into_iter().flatten().collect());
        });
        drop(timeout(RENDER_TIMEOUT, join_all(making)).await);
        heard
    }
}

impl TopicState {
    pub(super) fn join(&mut self, id: u64, mailbox: Arc<DeliveryQueue>) {
        self.subscribers.insert(id, mailbox);
        self.shards = None;
    }

    /// True where nobody is left.
    pub(super) fn leave(&mut self, id: u64) -> bool {
        self.subscribers.remove(&id);
        self.shards = None;
        self.subscribers.is_empty()
    }

    fn shards(&mut self) -> Arc<Vec<Arc<SubscriberShard>>> {
        self.shards.get_or_insert_with(|| Arc::new(SubscriberShard::split(&self.subscribers))).clone()
    }

    /// Passes an event on, or holds it; true where a gap has opened.
    pub(super) fn accept(&mut self, event: ChatEvent) -> bool {
        let Some((first, last)) = event.version_range() else {
            self.enqueue(event);
            return false;
        };
        if self.version.is_some_and(|version| first > version + 1) {
            let opened = self.reorder_buffer.is_empty();
            self.reorder_buffer.insert(first, event);
            if self.reorder_buffer.len() > REORDER_BUFFER_CAPACITY {
                self.flush();
                return false;
            }
            return opened;
        }
        self.version = self.version.max(Some(last));
        self.enqueue(event);
        while let Some(next) = self.reorder_buffer.first_entry()
            && self.version.is_none_or(|version| *next.key() <= version + 1)
        {
            let event = next.remove();
            self.version = self.version.max(event.version_range().map(|(_, last)| last));
            self.enqueue(event);
        }
        false
    }

    pub(super) fn flush(&mut self) {
        for event in std::mem::take(&mut self.reorder_buffer).into_values() {
            self.version = self.version.max(event.version_range().map(|(_, last)| last));
            self.enqueue(event);
        }
    }

    /// Whether something heard is on its way: what comes now has its place after it.
    pub(super) fn is_busy(&self) -> bool {
        self.is_rendering || !self.delivery_tasks.is_empty()
    }

    /// Passes an event to those who listen, or on to be made ready for them.
    fn enqueue(&mut self, event: ChatEvent) {
        let heard = SharedEvent::new(event, self.subscribers.len());
        let is_shared = || self.render_groups.values().any(|(_, number)| *number > 1);
        // What is some members' own is made for nobody else: it waits for its turn alone.
        if self.is_busy() || !heard.is_private() && is_shared() {
            self.pending_render.push(heard);
        } else {
            let concerned = self.subscribers.values().filter(|mailbox| heard.is_visible_to(&mailbox.owner));
            concerned.for_each(|mailbox| mailbox.push(std::slice::from_ref(&heard)));
        }
    }
}
