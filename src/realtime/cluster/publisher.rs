//! Publishing of committed changes to the subscribers of all nodes.

use std::sync::Arc;

use crate::domain::chat_events::ChatEvent;
use crate::domain::ids::ChatId;
use crate::realtime::cluster::message::ClusterMessage;
use crate::realtime::cluster::outbox::ClusterOutbox;
use crate::realtime::dispatch::hub::Hub;

/// The path from a commit to the subscribers of all nodes.
///
/// It is direct to the subscribers of this node, and leads through Redis to the other nodes.
///
/// Published events are hints, and may be lost, duplicated or late. A subscriber that sees a gap in the versions of a
/// chat reads the gap from the database, and drops an event that it already has.
#[derive(Debug, Clone)]
pub struct EventPublisher {
    hub: Arc<Hub>,
    /// `None` on a server of one node.
    outbox: Option<ClusterOutbox>,
}

impl EventPublisher {
    /// Creates a publisher to the subscribers of `hub` and, if there is an outbox, to the other nodes.
    pub fn new(hub: Arc<Hub>, outbox: Option<ClusterOutbox>) -> Self {
        Self { hub, outbox }
    }

    /// Publishes a change after its commit.
    pub fn publish(&self, event: ChatEvent) {
        if let Some(outbox) = &self.outbox {
            outbox.send(ClusterMessage::Chat(event.clone()));
        }
        self.hub.deliver(event);
    }

    /// Publishes a change to the subscribers of this node only.
    pub fn publish_locally(&self, event: ChatEvent) {
        self.hub.deliver(event);
    }

    /// Sends a message to the other nodes, if there are any.
    ///
    /// The call never waits, so it is allowed while a lock is held: messages then have the order of the changes.
    pub fn send_to_peers(&self, message: ClusterMessage) {
        if let Some(outbox) = &self.outbox {
            outbox.send(message);
        }
    }

    /// Informs the other nodes that this one is shutting down.
    pub async fn announce_shutdown(&self) {
        if let Some(outbox) = &self.outbox {
            outbox.announce_shutdown().await;
        }
    }

    /// Returns true if a chat may have subscribers; the subscribers of other nodes are unknown.
    pub fn has_subscribers(&self, chat: ChatId) -> bool {
        self.outbox.is_some() || self.hub.has_subscribers(chat)
    }

    /// Returns true if a chat has subscribers on this node.
    pub fn has_local_subscribers(&self, chat: ChatId) -> bool {
        self.hub.has_subscribers(chat)
    }

    /// Returns true if the server may have other nodes.
    pub fn is_clustered(&self) -> bool {
        self.outbox.is_some()
    }

    /// Returns whether messages reach the other nodes, or `None` on a server of one node.
    pub fn is_cluster_connected(&self) -> Option<bool> {
        self.outbox.as_ref().map(ClusterOutbox::is_connected)
    }
}
