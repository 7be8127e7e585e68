//! One chat's subscribers on this node: events are put in order, rendered once for each group and delivered.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::domain::chat_events::ChatEvent;
use crate::realtime::dispatch::ports::RenderGroup;
use crate::realtime::dispatch::queue::{DeliveryQueue, Subscribers};
use crate::realtime::dispatch::shard::SubscriberShard;
use crate::realtime::dispatch::shared_event::SharedEvent;

/// The number of events that a topic holds back because of a gap.
///
/// Beyond it, the events are delivered and each subscriber reads the gap.
const REORDER_BUFFER_CAPACITY: usize = 256;

/// The longest that subscribers wait for a shared rendering; after it, each renders separately.
const RENDER_TIMEOUT: Duration = Duration::from_secs(2);

/// The subscribers of one chat.
///
/// The lock protects the state and is never held across an `await`. It is taken after the hub's lock of topics and
/// before the lock of a queue.
#[derive(Debug, Default)]
pub(super) struct Topic(Mutex<TopicState>);

/// The state of a topic.
///
/// Invariants: events leave in the order of their versions; while `is_rendering` or a delivery task runs, new events
/// wait in `pending_render`, so that none overtakes another.
#[derive(Debug, Default)]
pub(super) struct TopicState {
    subscribers: Subscribers,
    /// The subscribers in shards; `None` after they changed.
    shards: Option<Arc<Vec<Arc<SubscriberShard>>>>,
    /// The last version that was delivered without a gap; `None` if it is not known.
    version: Option<i64>,
    /// Events that arrived too early, by their first version.
    reorder_buffer: BTreeMap<i64, ChatEvent>,
    /// Events without a version whose rows were read at a version that is not delivered yet. An earlier change that is
    /// delivered after them would replace their rows by older state.
    early_updates: VecDeque<ChatEvent>,
    /// The render groups among the subscribers, by id, each with the number of its subscribers.
    render_groups: HashMap<u64, (Arc<dyn RenderGroup>, usize)>,
    /// Events in order that are to be rendered.
    pending_render: Vec<Arc<SharedEvent>>,
    /// A task renders events; later ones wait for it.
    is_rendering: bool,
    /// The tasks that deliver rendered events to shards.
    delivery_tasks: TaskTracker,
}

/// Events to be rendered, and the groups to render them for.
struct RenderJob {
    events: Vec<Arc<SharedEvent>>,
    render_groups: Vec<Arc<dyn RenderGroup>>,
    version: i64,
}

impl Topic {
    pub(super) fn lock(&self) -> MutexGuard<'_, TopicState> {
        self.0.lock()
    }

    /// Accepts an event and returns whether it opened a gap.
    pub(super) fn accept(self: &Arc<Self>, event: ChatEvent) -> bool {
        let mut state = self.lock();
        let opened_gap = state.accept(event);
        self.start_rendering(&mut state);
        opened_gap
    }

    /// Delivers the events that are held back, though events before them are missing.
    pub(super) fn flush(self: &Arc<Self>) {
        let mut state = self.lock();
        state.flush();
        self.start_rendering(&mut state);
    }

    /// Starts a task that renders and delivers the pending events, unless one runs or none is pending.
    ///
    /// The task ends when no event is pending. It must not panic, as the topic would wait for it forever; renderings
    /// run on tasks of their own, so that a panic in a resolver does not reach it.
    fn start_rendering(self: &Arc<Self>, state: &mut TopicState) {
        if state.is_rendering || state.pending_render.is_empty() {
            return;
        }
        state.is_rendering = true;
        let topic = self.clone();
        tokio::spawn(async move {
            while let Some(job) = topic.next_render_job() {
                let events = job.render().await;
                topic.deliver(&events).await;
            }
        });
    }

    /// Delivers events: on this task if there is one shard, otherwise on a task for each shard.
    async fn deliver(&self, events: &[Arc<SharedEvent>]) {
        let (known_shards, delivery_tasks) = {
            let state = self.lock();
            (state.shards.clone(), state.delivery_tasks.clone())
        };
        let shards = match known_shards {
            Some(shards) => shards,
            None => {
                // The subscribers changed and are in other shards now: earlier events must arrive first.
                delivery_tasks.close();
                delivery_tasks.wait().await;
                delivery_tasks.reopen();
                self.lock().shards()
            }
        };
        match &shards[..] {
            [shard] => {
                shard.enqueue(events);
                shard.clone().run().await;
            }
            shards => {
                for shard in shards.iter().filter(|shard| shard.enqueue(events)) {
                    delivery_tasks.spawn(shard.clone().run());
                }
            }
        }
    }

    /// Takes the pending events; returns `None` and ends the rendering if there are none.
    fn next_render_job(&self) -> Option<RenderJob> {
        let mut state = self.lock();
        let events = std::mem::take(&mut state.pending_render);
        state.is_rendering = !events.is_empty();
        if events.is_empty() {
            return None;
        }
        let render_groups = state.shared_groups().cloned().collect();
        Some(RenderJob { events, render_groups, version: state.version.unwrap_or_default() })
    }
}

impl RenderJob {
    /// Renders all events concurrently and returns them in their order.
    ///
    /// An event that is not rendered within [`RENDER_TIMEOUT`] is rendered by each subscriber separately.
    async fn render(self) -> Vec<Arc<SharedEvent>> {
        let Self { events, render_groups, version } = self;
        let renderings = events.iter().map(async |event| {
            let batches = render_groups.iter().map(async |group| {
                let batch = group.render(event.clone(), version).await;
                batch.map(|batch| (group.id(), batch))
            });
            event.set_renderings(join_all(batches).await.into_iter().flatten().collect());
        });
        drop(timeout(RENDER_TIMEOUT, join_all(renderings)).await);
        events
    }
}

impl TopicState {
    pub(super) fn join(&mut self, subscriber_id: u64, queue: Arc<DeliveryQueue>) {
        self.subscribers.insert(subscriber_id, queue);
        self.shards = None;
    }

    /// Removes a subscriber and returns whether it was the last.
    pub(super) fn leave(&mut self, subscriber_id: u64, render_group_id: Option<u64>) -> bool {
        if let Some(group_id) = render_group_id
            && let Some((_, subscriber_count)) = self.render_groups.get_mut(&group_id)
        {
            *subscriber_count -= 1;
            if *subscriber_count == 0 {
                self.render_groups.remove(&group_id);
            }
        }
        self.subscribers.remove(&subscriber_id);
        self.shards = None;
        self.subscribers.is_empty()
    }

    /// Counts one more subscriber of a render group.
    pub(super) fn join_render_group(&mut self, group: &Arc<dyn RenderGroup>) {
        self.render_groups.entry(group.id()).or_insert_with(|| (group.clone(), 0)).1 += 1;
    }

    /// Records that a new subscriber knows the chat up to `version` and expects the next one.
    pub(super) fn mark_caught_up(&mut self, version: i64) {
        // A subscriber that read a change whose event is still on its way must not hide a gap from the others.
        self.version = Some(self.version.map_or(version, |known| known.min(version)));
    }

    /// Makes every subscriber read from the database.
    pub(super) fn mark_lagged(&self) {
        self.subscribers.values().for_each(|queue| queue.mark_lagged());
    }

    /// Returns the last version that was delivered without a gap, if it is known.
    pub(super) fn version(&self) -> Option<i64> {
        self.version
    }

    /// Returns whether events are held back because earlier ones are missing.
    pub(super) fn has_gap(&self) -> bool {
        !self.reorder_buffer.is_empty() || !self.early_updates.is_empty()
    }

    /// Returns whether events are being rendered or delivered; a new event has to wait for them.
    pub(super) fn is_busy(&self) -> bool {
        self.is_rendering || !self.delivery_tasks.is_empty()
    }

    fn shards(&mut self) -> Arc<Vec<Arc<SubscriberShard>>> {
        self.shards.get_or_insert_with(|| Arc::new(SubscriberShard::split(&self.subscribers))).clone()
    }

    /// Returns the render groups that have more than one subscriber.
    fn shared_groups(&self) -> impl Iterator<Item = &Arc<dyn RenderGroup>> {
        self.render_groups.values().filter(|(_, subscriber_count)| *subscriber_count > 1).map(|(group, _)| group)
    }

    /// Passes an event on or holds it back, and returns whether it opened a gap.
    fn accept(&mut self, event: ChatEvent) -> bool {
        let Some((first, last)) = event.version_range() else {
            return self.accept_unversioned(event);
        };
        if self.version.is_some_and(|version| first > version + 1) {
            let opened_gap = self.reorder_buffer.is_empty();
            self.reorder_buffer.insert(first, event);
            if self.reorder_buffer.len() > REORDER_BUFFER_CAPACITY {
                self.flush();
                return false;
            }
            return opened_gap;
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
        self.release_early_updates();
        false
    }

    /// Passes on an event that takes no version, or holds it back until the version at which it was read.
    fn accept_unversioned(&mut self, event: ChatEvent) -> bool {
        let is_early = event
            .read_at_version()
            .is_some_and(|read_at| !self.early_updates.is_empty() || self.version.is_some_and(|known| read_at > known));
        if !is_early {
            self.enqueue(event);
            return false;
        }
        let opened_gap = !self.has_gap();
        self.early_updates.push_back(event);
        if self.early_updates.len() > REORDER_BUFFER_CAPACITY {
            self.flush();
            return false;
        }
        opened_gap
    }

    /// Passes on the updates whose version is delivered by now, in their order.
    fn release_early_updates(&mut self) {
        while let Some(next) = self.early_updates.front()
            && next.read_at_version() <= self.version
        {
            self.early_updates.pop_front().into_iter().for_each(|event| self.enqueue(event));
        }
    }

    fn flush(&mut self) {
        for event in std::mem::take(&mut self.reorder_buffer).into_values() {
            self.version = self.version.max(event.version_range().map(|(_, last)| last));
            self.enqueue(event);
        }
        for event in std::mem::take(&mut self.early_updates) {
            self.enqueue(event);
        }
    }

    /// Queues an event for the subscribers, or marks it for rendering if some of them share it.
    fn enqueue(&mut self, event: ChatEvent) {
        let event = SharedEvent::new(event, self.subscribers.len());
        // A private event is rendered for its own subscriber only; it still waits for the events before it.
        if self.is_busy() || !event.is_private() && self.shared_groups().next().is_some() {
            self.pending_render.push(event);
        } else {
            let recipients = self.subscribers.values().filter(|queue| event.is_visible_to(&queue.owner));
            recipients.for_each(|queue| queue.push(std::slice::from_ref(&event)));
        }
    }
}
