//! The traits by which the upper layers take part in delivery, and the position that they share with feeds.
//!
//! This folder knows neither GraphQL nor sockets. `graphql` implements [`RenderGroup`], `http` implements
//! [`FrameSink`], and an event passes through both on its way from the hub to a socket:
//!
//! ```text
//!   EventPublisher::publish           after a commit on this node, or received from another node
//!        │
//!   Hub::deliver                      finds the topic of the chat
//!        │
//!   TopicState::accept                orders events by version, holds back early ones
//!        │
//!   RenderJob::render  ────────────►  RenderGroup::render (graphql): one execution for each group of
//!        │                            subscribers with the same operation; the result is kept in SharedEvent
//!   SubscriberShard::run              one task for a part of the subscribers
//!        │
//!   DeliveryQueue::deliver
//!        ├── fast path open ───────►  FrameSink::encode_frame, FrameSink::try_write (http): to the socket
//!        │
//!        └── otherwise: the event waits in the queue and the subscriber's task is woken
//!                 │
//!            Subscriber::poll_recv ─► feed ─► subscription stream (graphql) ─► connection task (http) ─► socket
//! ```
//!
//! An event that has a single subscriber, or that differs between subscribers, is not rendered here. It waits in the
//! queues, and each subscriber's task renders it.

use std::fmt::Debug;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;

use crate::realtime::dispatch::shared_event::{RenderedBatch, SharedEvent};

/// The number of bytes that are gathered for one write to a socket.
pub const MAX_WRITE_BYTES: usize = 16 * 1024;

/// The part of a chat's log that a feed has delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedPosition {
    /// Every change up to this version is delivered.
    pub version: i64,
    /// The version of the newest member change that is delivered. Up to `version` there is no later one.
    pub member_version: i64,
    /// The time of the last event or read.
    ///
    /// Changes without a version, such as read positions, are delivered up to this time, less
    /// [`REREAD_MARGIN`](crate::realtime::feeds::catch_up::REREAD_MARGIN).
    pub as_of: DateTime<Utc>,
}

/// A group of subscribers of a chat that receive the same rendering of each event.
pub trait RenderGroup: Debug + Send + Sync {
    /// Returns the id of the group, under which renderings are kept.
    fn id(&self) -> u64;

    /// Renders an event for all subscribers of the group and keeps the renderings in the event's caches.
    ///
    /// `version` is the chat's version when the event was accepted. Resolves to `None` if the event differs between
    /// subscribers; each of them then renders it separately.
    ///
    /// The future is dropped when it takes too long, so it must be cancel-safe. Neither this function nor the future
    /// may panic: the topic would never deliver again.
    fn render(&self, event: Arc<SharedEvent>, version: i64) -> BoxFuture<'static, Option<RenderedBatch>>;
}

/// The connection to one subscriber, as the fast path writes to it.
pub trait FrameSink: Debug + Send + Sync {
    /// Appends the frame that delivers a rendered `body` to the subscriber.
    fn encode_frame(&self, body: &str, frames: &mut Vec<u8>);

    /// Writes frames without waiting and returns whether they were accepted as a whole.
    ///
    /// If this returns `false`, nothing of `frames` was written. It is called under the lock of the subscriber's queue.
    fn try_write(&self, frames: &[u8]) -> bool;
}
