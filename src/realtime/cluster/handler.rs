//! What this node does with what the others tell it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::domain::ids::{OrganizationId, UserId};
use crate::realtime::cluster::gap_repair::GapRepairer;
use crate::realtime::cluster::publisher::{ClusterMessage, EventPublisher, RateLimitUsage};
use crate::realtime::dispatch::hub::Hub;
use crate::realtime::presence::tracker::PresenceTracker;
use crate::realtime::typing::TypingTracker;
use chrono::{DateTime, Utc};

/// Between two comparisons with the database, however many are asked for.
const RESYNC_DELAY: Duration = Duration::from_millis(500);

/// What is heard by what lies above the live layer.
pub trait ClusterEventListener: Send + Sync {
    /// People did elsewhere what is limited.
    fn on_rate_limit_usage(&self, spent: &[RateLimitUsage]);

    /// A person's tokens up to this moment hold no more.
    fn on_tokens_revoked(&self, organization: &OrganizationId, user: &UserId, before: DateTime<Utc>);
}

#[derive(Clone)]
pub struct ClusterMessageHandler {
    pub publisher: EventPublisher,
    pub hub: Arc<Hub>,
    pub gap_repairer: GapRepairer,
    pub typing: TypingTracker,
    pub presence: PresenceTracker,
    pub event_listener: Arc<dyn ClusterEventListener>,
    pub resync_scheduled: Arc<AtomicBool>,
}

impl ClusterMessageHandler {
    /// Takes in what a node told.
    pub fn handle(&self, node: &str, word: ClusterMessage) {
        match word {
            ClusterMessage::Chat(event) => self.hub.deliver(event),
            ClusterMessage::Typing(word) => self.typing.apply_update(&word),
            ClusterMessage::Presence(word) => self.presence.apply_update(&word),
            ClusterMessage::RateLimitUsage(spent) => self.event_listener.on_rate_limit_usage(&spent),
            ClusterMessage::TokensRevoked { organization, user, before } => {
                self.event_listener.on_tokens_revoked(&organization, &user, before)
            }
            ClusterMessage::NodeJoined => {
                self.presence.local_updates().into_iter().for_each(|word| self.publisher.send_to_peers(word))
            }
            ClusterMessage::Heartbeat => {}
            ClusterMessage::NodeLeaving => self.on_node_lost(node),
            ClusterMessage::ResyncRequired => self.schedule_resync(),
        }
    }

    /// This node joined, anew or again: the others are to know who is here.
    pub fn on_connected(&self) {
        self.presence.local_updates().into_iter().for_each(|word| self.publisher.send_to_peers(word));
        self.schedule_resync();
    }

    /// Compares with the database what is listened to here, once for all who ask meanwhile.
    pub fn schedule_resync(&self) {
        if self.resync_scheduled.swap(true, Ordering::AcqRel) {
            return;
        }
        let peers = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(RESYNC_DELAY).await;
            // What is missed from here on asks again.
            peers.resync_scheduled.store(false, Ordering::Release);
            if let Err(error) = peers.gap_repairer.resync().await {
                tracing::warn!(%error, "chats could not be compared with the database; trying again");
                peers.schedule_resync();
            }
        });
    }

    /// A node has gone, and those connected to it.
    pub fn on_node_lost(&self, node: &str) {
        tracing::info!(node, "a node has gone");
        self.presence.remove_node(node);
    }

    /// There are no nodes but these.
    pub fn retain_nodes(&self, nodes: &HashSet<&str>) {
        self.presence.retain_nodes(nodes);
    }
}
