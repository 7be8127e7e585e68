//! One execution for all who asked the same.
//!
//! A subscription is attached by a run of its own, in which the resolver authorises and opens the
//! [`Source`](super::sources::Source) that it listens to. Each event of the source is then a short run,
//! in which the resolver is given the event. Subscribers of the same [`Operation`] share that run and its bytes, through the
//! [`Memo`] that the event carries: the first makes it, the others take it.
//!
//! What makes it safe is absence: a shared run has no viewer. Whatever asks for one taints the run, its
//! result is thrown away, and each subscriber runs the event by itself.

use std::collections::HashMap;
use std::fmt::{self, Debug, Formatter};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use async_graphql::parser::types::ExecutableDocument;
use async_graphql::{Request, Variables};
use futures_util::future::{BoxFuture, FutureExt, join_all};

use crate::domain::ids::OrganizationId;
use crate::graphql::api::{Api, request};
use crate::graphql::subscriptions::source::Event;
use crate::lock::lock;
use crate::realtime::dispatch::fast_path::Sheet;
use crate::realtime::dispatch::queue::Heard;
use crate::realtime::dispatch::render_cache::{Made, Making, Memo};
use crate::realtime::dispatch::topic::Audience;
use crate::realtime::feeds::chat::FeedEvent;
use crate::tasks::aside;

/// What subscribers ask who ask the same.
pub struct Operation {
    pub id: u64,
    key: Key,
    operations: Weak<Mutex<HashMap<Key, Weak<Operation>>>>,
    document: ExecutableDocument,
    variables: Variables,
    subscribers: AtomicUsize,
}

/// By what it is the same: whose organisation, the text as it was sent,
/// which of its operations is meant, and all variables that an event can depend on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    pub organization: OrganizationId,
    pub query: Arc<str>,
    pub name: Option<String>,
    pub variables: String,
}

/// The operations that are subscribed to now.
#[derive(Default)]
pub struct Operations {
    index: Arc<Mutex<HashMap<Key, Weak<Operation>>>>,
    next_id: AtomicU64,
}

impl Operations {
    /// The operation that others subscribed to already, or this one.
    pub fn join(&self, key: Key, document: ExecutableDocument, variables: Variables) -> Arc<Operation> {
        let mut index = lock(&self.index);
        if let Some(operation) = index.get(&key).and_then(Weak::upgrade) {
            return operation;
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let operations = Arc::downgrade(&self.index);
        let subscribers = AtomicUsize::new(0);
        let operation = Arc::new(Operation { id, key: key.clone(), operations, document, variables, subscribers });
        index.insert(key, Arc::downgrade(&operation));
        operation
    }
}

impl Operation {
    /// Whether more than one is subscribed.
    pub fn is_shared(&self) -> bool {
        self.subscribers.load(Ordering::Relaxed) > 1
    }

    /// One is subscribed.
    pub fn enter(&self) {
        self.subscribers.fetch_add(1, Ordering::Relaxed);
    }

    /// One is subscribed no more.
    pub fn leave(&self) {
        self.subscribers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Its subscribers in a chat, who are told of what the chat's feed tells.
    pub fn audience(self: &Arc<Self>, api: &Arc<Api>, of: fn(FeedEvent) -> Option<Event>) -> Arc<dyn Audience> {
        Arc::new(Group { api: Arc::downgrade(api), operation: Arc::downgrade(self), id: self.id, of })
    }

    /// Makes what all are told of an event, whose memo it is; or finds it being made.
    pub fn make(self: &Arc<Self>, api: &Arc<Api>, event: &Event, memo: &Memo, position: i64) -> Making {
        memo.of((self.id, position), || {
            let (api, operation, event) = (api.clone(), self.clone(), event.clone());
            let making = aside(async move {
                let everyone = Arc::new(event.everyone(&operation.key.organization));
                let answer = api.tell_everyone(&operation, event, everyone).await;
                Ok(answer.map(|answer| Made { body: answer.body, failed: answer.failed }))
            });
            // Each finds out by themselves what is wrong.
            making.map(|made| made.ok().flatten()).boxed()
        })
    }

    pub fn request(&self) -> Request {
        request(&self.document, self.key.name.as_deref(), &self.variables)
    }
}

/// The subscribers of one operation in a chat.
struct Group {
    api: Weak<Api>,
    operation: Weak<Operation>,
    id: u64,
    of: fn(FeedEvent) -> Option<Event>,
}

impl Debug for Group {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Audience for Group {
    fn id(&self) -> u64 {
        self.id
    }

    fn make(&self, heard: Arc<Heard>, version: i64) -> BoxFuture<'static, Option<Sheet>> {
        let (Some(api), Some(operation)) = (self.api.upgrade(), self.operation.upgrade()) else {
            return std::future::ready(None).boxed();
        };
        let events = FeedEvent::all(&heard, version).into_iter().filter_map(self.of);
        // Where one listened when it was heard, nothing is kept of it for others.
        let making = events.map(|event| {
            let (memo, position) = event.memo()?;
            Some(operation.make(&api, &event, memo, position))
        });
        let Some(making) = making.collect::<Option<Vec<Making>>>() else {
            return std::future::ready(None).boxed();
        };
        join_all(making).map(move |made| Sheet::new(&heard, made)).boxed()
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        let Some(operations) = self.operations.upgrade() else { return };
        let mut index = lock(&operations);
        // Another may have taken the place since the last subscriber went.
        if index.get(&self.key).is_some_and(|known| known.strong_count() == 0) {
            index.remove(&self.key);
        }
    }
}
