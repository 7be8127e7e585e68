//! Subscriptions to the same operation, which share one execution of each event.
//!
//! The first subscriber that needs an event's response renders it into the [`RenderCache`] that the event
//! carries, and the other subscribers take it from there.
//!
//! Sharing is sound because a shared execution has no viewer: an execution that asks for one is tainted, its
//! result is discarded, and each subscriber executes the event individually. See [`SharedScope`].
//!
//! [`SharedScope`]: crate::graphql::execution::requester::SharedScope

use std::collections::HashMap;
use std::fmt::{self, Debug, Formatter};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use async_graphql::Variables;
use async_graphql::parser::types::ExecutableDocument;
use futures_util::future::{BoxFuture, FutureExt, join_all};
use parking_lot::Mutex;

use crate::domain::ids::OrganizationId;
use crate::graphql::admission::cost::Cost;
use crate::graphql::admission::request::build_request;
use crate::graphql::execution::executor::{EventRequest, Executor};
use crate::graphql::subscriptions::source::{EventSelector, SubscriptionEvent};
use crate::realtime::dispatch::ports::RenderGroup;
use crate::realtime::dispatch::render_cache::{RenderCache, RenderFuture, RenderedPayload};
use crate::realtime::dispatch::shared_event::{RenderedBatch, SharedEvent};
use crate::realtime::feeds::chat::FeedEvent;
use crate::tasks::spawn_detached;

/// The operation that one or more subscribers have in common.
pub struct SharedOperation {
    pub id: u64,
    key: OperationKey,
    registry: Weak<OperationIndex>,
    document: ExecutableDocument,
    variables: Variables,
    /// The cost of each event, on which the variables that subscribers do not share have no influence.
    cost: Cost,
    subscriber_count: AtomicUsize,
}

/// The properties by which two subscriptions are to the same operation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OperationKey {
    pub organization: OrganizationId,
    /// The document's text, exactly as the client sent it.
    pub query: Arc<str>,
    pub operation_name: Option<String>,
    /// The variables that an event can depend on, as JSON.
    pub variables: String,
    /// True if each response reports the cost of the operation.
    pub reports_cost: bool,
}

/// The operations with at least one subscriber.
///
/// The lock protects the index only. No other lock is taken while it is held, and it is taken when the last
/// subscriber of an operation drops it.
#[derive(Default)]
pub struct OperationRegistry {
    index: Arc<OperationIndex>,
    next_id: AtomicU64,
}

type OperationIndex = Mutex<HashMap<OperationKey, Weak<SharedOperation>>>;

impl OperationRegistry {
    /// Returns the operation with this key, which it creates for the first subscriber.
    pub fn get_or_insert(
        &self,
        key: OperationKey,
        document: ExecutableDocument,
        variables: Variables,
        cost: Cost,
    ) -> Arc<SharedOperation> {
        let mut index = self.index.lock();
        if let Some(operation) = index.get(&key).and_then(Weak::upgrade) {
            return operation;
        }
        let operation = Arc::new(SharedOperation {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            key: key.clone(),
            registry: Arc::downgrade(&self.index),
            document,
            variables,
            cost,
            subscriber_count: AtomicUsize::new(0),
        });
        index.insert(key, Arc::downgrade(&operation));
        operation
    }
}

impl SharedOperation {
    /// Returns whether the operation has more than one subscriber.
    pub fn is_shared(&self) -> bool {
        self.subscriber_count.load(Ordering::Relaxed) > 1
    }

    /// Counts a new subscriber.
    pub fn add_subscriber(&self) {
        self.subscriber_count.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the end of a subscriber.
    pub fn remove_subscriber(&self) {
        self.subscriber_count.fetch_sub(1, Ordering::Relaxed);
    }

    /// Creates the group of the operation's subscribers in one chat, for the events of the chat's feed.
    pub fn render_group(
        self: &Arc<Self>,
        executor: &Arc<Executor>,
        select_event: EventSelector,
    ) -> Arc<dyn RenderGroup> {
        Arc::new(OperationRenderGroup {
            executor: Arc::downgrade(executor),
            operation: Arc::downgrade(self),
            id: self.id,
            select_event,
        })
    }

    /// Renders an event for all subscribers into its cache, or joins the rendering in progress.
    pub fn render(
        self: &Arc<Self>,
        executor: &Arc<Executor>,
        event: &SubscriptionEvent,
        cache: &RenderCache,
        version: i64,
    ) -> RenderFuture {
        cache.get_or_render((self.id, version), || {
            let (executor, operation, event) = (executor.clone(), self.clone(), event.clone());
            let rendering = spawn_detached(async move {
                let scope = Arc::new(event.shared_scope(&operation.key.organization));
                let response = executor.execute_event_shared(operation.to_request(), event, scope).await;
                Ok(response.map(|response| RenderedPayload {
                    body: response.body,
                    should_resubscribe: response.should_resubscribe,
                }))
            });
            // After a panic each subscriber executes the event individually.
            rendering.map(|rendered| rendered.ok().flatten()).boxed()
        })
    }

    /// Builds the request that is executed for an event.
    pub fn to_request(&self) -> EventRequest {
        let operation_name = self.key.operation_name.clone();
        let request = build_request(self.document.clone(), operation_name, self.variables.clone());
        EventRequest { request, cost: self.cost, reports_cost: self.key.reports_cost }
    }
}

impl Drop for SharedOperation {
    fn drop(&mut self) {
        let Some(registry) = self.registry.upgrade() else { return };
        let mut index = registry.lock();
        // A new operation with the same key may have been inserted since the last subscriber left.
        if index.get(&self.key).is_some_and(|operation| operation.strong_count() == 0) {
            index.remove(&self.key);
        }
    }
}

/// The subscribers of one operation in one chat.
struct OperationRenderGroup {
    executor: Weak<Executor>,
    operation: Weak<SharedOperation>,
    id: u64,
    select_event: EventSelector,
}

impl Debug for OperationRenderGroup {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperationRenderGroup").field("id", &self.id).finish_non_exhaustive()
    }
}

impl RenderGroup for OperationRenderGroup {
    fn id(&self) -> u64 {
        self.id
    }

    fn render(&self, shared_event: Arc<SharedEvent>, version: i64) -> BoxFuture<'static, Option<RenderedBatch>> {
        let (Some(executor), Some(operation)) = (self.executor.upgrade(), self.operation.upgrade()) else {
            return std::future::ready(None).boxed();
        };
        let events =
            FeedEvent::from_shared(&shared_event, executor.epoch(), version).into_iter().filter_map(self.select_event);
        // An event that had a single subscriber when it was published has no cache to share.
        let renderings = events.map(|event| {
            let (cache, version) = event.render_cache()?;
            Some(operation.render(&executor, &event, cache, version))
        });
        let Some(renderings) = renderings.collect::<Option<Vec<RenderFuture>>>() else {
            return std::future::ready(None).boxed();
        };
        join_all(renderings).map(move |rendered| RenderedBatch::new(&shared_event, rendered)).boxed()
    }
}
