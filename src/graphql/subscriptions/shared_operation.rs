//! One execution for all who asked the same.
//!
//! A subscription is attached by a run of its own, in which the resolver authorises and opens the
//! [`Source`](super::sources::Source) that it listens to. Each event of the source is then a short run,
//! in which the resolver is given the event. Subscribers of the same [`Operation`] share that run and its bytes, through the
//! [`Memo`] that the event carries: the first makes it, the others take it.
//!
//! What makes it safe is absence: a shared run has no viewer. Whatever asks for one taints the run, its
//! result is thrown away, and each subscriber runs the event by itself.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt::{self, Debug, Formatter};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use async_graphql::parser::types::ExecutableDocument;
use async_graphql::{Request, Variables};
use futures_util::future::{BoxFuture, FutureExt, join_all};

use crate::domain::ids::OrganizationId;
use crate::graphql::api::{GraphqlService, build_request};
use crate::graphql::subscriptions::source::SubscriptionEvent;
use crate::realtime::dispatch::fast_path::RenderedBatch;
use crate::realtime::dispatch::queue::SharedEvent;
use crate::realtime::dispatch::render_cache::{RenderCache, RenderFuture, RenderedPayload};
use crate::realtime::dispatch::topic::RenderGroup;
use crate::realtime::feeds::chat::FeedEvent;
use crate::tasks::spawn_detached;

/// What subscribers ask who ask the same.
pub struct SharedOperation {
    pub id: u64,
    key: OperationKey,
    registry: Weak<Mutex<HashMap<OperationKey, Weak<SharedOperation>>>>,
    document: ExecutableDocument,
    variables: Variables,
    subscriber_count: AtomicUsize,
}

/// By what it is the same: whose organisation, the text as it was sent,
/// which of its operations is meant, and all variables that an event can depend on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OperationKey {
    pub organization: OrganizationId,
    pub query: Arc<str>,
    pub operation_name: Option<String>,
    pub variables: String,
}

/// The operations that are subscribed to now.
#[derive(Default)]
pub struct OperationRegistry {
    index: Arc<Mutex<HashMap<OperationKey, Weak<SharedOperation>>>>,
    next_id: AtomicU64,
}

impl OperationRegistry {
    /// The operation that others subscribed to already, or this one.
    pub fn get_or_insert(
        &self,
        key: OperationKey,
        document: ExecutableDocument,
        variables: Variables,
    ) -> Arc<SharedOperation> {
        let mut index = self.index.lock();
        if let Some(operation) = index.get(&key).and_then(Weak::upgrade) {
            return operation;
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let operations = Arc::downgrade(&self.index);
        let subscribers = AtomicUsize::new(0);
        let operation = Arc::new(SharedOperation {
            id,
            key: key.clone(),
            registry: operations,
            document,
            variables,
            subscriber_count: subscribers,
        });
        index.insert(key, Arc::downgrade(&operation));
        operation
    }
}

impl SharedOperation {
    /// Whether more than one is subscribed.
    pub fn is_shared(&self) -> bool {
        self.subscriber_count.load(Ordering::Relaxed) > 1
    }

    /// One is subscribed.
    pub fn add_subscriber(&self) {
        self.subscriber_count.fetch_add(1, Ordering::Relaxed);
    }

    /// One is subscribed no more.
    pub fn remove_subscriber(&self) {
        self.subscriber_count.fetch_sub(1, Ordering::Relaxed);
    }

    /// Its subscribers in a chat, who are told of what the chat's feed tells.
    pub fn render_group(
        self: &Arc<Self>,
        api: &Arc<GraphqlService>,
        of: fn(FeedEvent) -> Option<SubscriptionEvent>,
    ) -> Arc<dyn RenderGroup> {
        Arc::new(OperationRenderGroup {
            api: Arc::downgrade(api),
            operation: Arc::downgrade(self),
            id: self.id,
            select_event: of,
        })
    }

    /// Makes what all are told of an event, whose memo it is; or finds it being made.
    pub fn render(
        self: &Arc<Self>,
        api: &Arc<GraphqlService>,
        event: &SubscriptionEvent,
        memo: &RenderCache,
        position: i64,
    ) -> RenderFuture {
        memo.get_or_render((self.id, position), || {
            let (api, operation, event) = (api.clone(), self.clone(), event.clone());
            let making = spawn_detached(async move {
                let everyone = Arc::new(event.shared_scope(&operation.key.organization));
                let answer = api.execute_event_shared(&operation, event, everyone).await;
                Ok(answer
                    .map(|answer| RenderedPayload { body: answer.body, should_resubscribe: answer.should_resubscribe }))
            });
            // Each finds out by themselves what is wrong.
            making.map(|made| made.ok().flatten()).boxed()
        })
    }

    pub fn to_request(&self) -> Request {
        build_request(&self.document, self.key.operation_name.as_deref(), &self.variables)
    }
}

/// The subscribers of one operation in a chat.
struct OperationRenderGroup {
    api: Weak<GraphqlService>,
    operation: Weak<SharedOperation>,
    id: u64,
    select_event: fn(FeedEvent) -> Option<SubscriptionEvent>,
}

impl Debug for OperationRenderGroup {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("id", &self.id).finish_non_exhaustive()
    }
}

impl RenderGroup for OperationRenderGroup {
    fn id(&self) -> u64 {
        self.id
    }

    fn render(&self, heard: Arc<SharedEvent>, version: i64) -> BoxFuture<'static, Option<RenderedBatch>> {
        let (Some(api), Some(operation)) = (self.api.upgrade(), self.operation.upgrade()) else {
            return std::future::ready(None).boxed();
        };
        let events = FeedEvent::from_shared(&heard, version).into_iter().filter_map(self.select_event);
        // Where one listened when it was heard, nothing is kept of it for others.
        let making = events.map(|event| {
            let (memo, position) = event.render_cache()?;
            Some(operation.render(&api, &event, memo, position))
        });
        let Some(making) = making.collect::<Option<Vec<RenderFuture>>>() else {
            return std::future::ready(None).boxed();
        };
        join_all(making).map(move |made| RenderedBatch::new(&heard, made)).boxed()
    }
}

impl Drop for SharedOperation {
    fn drop(&mut self) {
        let Some(operations) = self.registry.upgrade() else { return };
        let mut index = operations.lock();
        // Another may have taken the place since the last subscriber went.
        if index.get(&self.key).is_some_and(|known| known.strong_count() == 0) {
            index.remove(&self.key);
        }
    }
}
