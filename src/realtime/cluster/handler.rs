//! Handling of the messages that other nodes send.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::domain::ids::{OrganizationId, UserId};
use crate::realtime::cluster::gap_repair::GapRepairer;
use crate::realtime::cluster::message::{ClusterMessage, RateLimitUsage};
use crate::realtime::cluster::publisher::EventPublisher;
use crate::realtime::dispatch::hub::Hub;
use crate::realtime::presence::tracker::PresenceTracker;
use crate::realtime::typing::TypingTracker;

/// The delay of a comparison with the database, which serves all requests made during it.
const RESYNC_DELAY: Duration = Duration::from_millis(500);

/// The port to layers above `realtime`, for messages that concern their state.
///
/// The calls come from the transport's task, so an implementation must not block.
pub trait ClusterEventListener: Send + Sync {
    /// Counts rate limits that users consumed on another node.
    fn on_rate_limit_usage(&self, usage: &[RateLimitUsage]);

    /// Ends the use of a user's tokens that were issued until `before`.
    fn on_tokens_revoked(&self, organization: &OrganizationId, user: &UserId, before: DateTime<Utc>);
}

/// The components of this node that the messages of other nodes concern.
#[derive(Clone)]
pub struct ClusterMessageHandler {
    /// The way back to the other nodes.
    pub publisher: EventPublisher,
    /// The subscribers of this node.
    pub hub: Arc<Hub>,
    /// The comparison with the database.
    pub gap_repairer: GapRepairer,
    /// The typing state.
    pub typing: TypingTracker,
    /// The presence state.
    pub presence: PresenceTracker,
    /// The layers above.
    pub event_listener: Arc<dyn ClusterEventListener>,
    /// True while a comparison with the database is scheduled.
    pub resync_scheduled: Arc<AtomicBool>,
}

impl ClusterMessageHandler {
    /// Handles one message of another node.
    pub fn handle(&self, node: &str, message: ClusterMessage) {
        match message {
            ClusterMessage::Chat(event) => self.hub.deliver(event),
            ClusterMessage::Typing(update) => self.typing.apply_update(&update),
            ClusterMessage::Presence(update) => self.presence.apply_update(&update),
            ClusterMessage::RateLimitUsage(usage) => self.event_listener.on_rate_limit_usage(&usage),
            ClusterMessage::TokensRevoked { organization, user, before } => {
                self.event_listener.on_tokens_revoked(&organization, &user, before);
            }
            ClusterMessage::NodeJoined => self.send_local_presence(),
            ClusterMessage::Heartbeat => {}
            ClusterMessage::NodeLeaving => self.on_node_lost(node),
            ClusterMessage::ResyncRequired => self.schedule_resync(),
        }
    }

    /// Handles the beginning of a connection to the other nodes, the first one or another one.
    pub fn on_connected(&self) {
        self.send_local_presence();
        self.schedule_resync();
    }

    /// Handles the end of another node, and with it the end of the connections to that node.
    pub fn on_node_lost(&self, node: &str) {
        tracing::info!(node, "lost a node");
        self.presence.remove_node(node);
    }

    /// Removes the presence of all other nodes except these.
    pub fn retain_nodes(&self, nodes: &HashSet<&str>) {
        self.presence.retain_nodes(nodes);
    }

    /// Compares the chats that have subscribers here with the database, after a short delay.
    ///
    /// One comparison serves all calls made during its delay. It runs on a task of its own, which ends with the
    /// comparison; after a failure the comparison is scheduled again. After a panic, the comparison is left to the
    /// regular one of [`gap_repair`](crate::realtime::cluster::gap_repair).
    pub fn schedule_resync(&self) {
        if self.resync_scheduled.swap(true, Ordering::AcqRel) {
            return;
        }
        let handler = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(RESYNC_DELAY).await;
            // Reset before the comparison: messages lost during it need another one.
            handler.resync_scheduled.store(false, Ordering::Release);
            if let Err(error) = handler.gap_repairer.resync().await {
                tracing::warn!(%error, "could not compare chats with the database; retrying");
                handler.schedule_resync();
            }
        });
    }

    fn send_local_presence(&self) {
        for update in self.presence.local_updates() {
            self.publisher.send_to_peers(update);
        }
    }
}
