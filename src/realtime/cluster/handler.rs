//! Handling of the messages that other nodes send.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::domain::ids::{OrganizationId, UserId};
use crate::error::Result;
use crate::realtime::cluster::gap_repair::GapRepairer;
use crate::realtime::cluster::message::{ClusterMessage, PresenceRequest, RateLimitUsage};
use crate::realtime::cluster::presence_announcer::PresenceAnnouncer;
use crate::realtime::cluster::publisher::EventPublisher;
use crate::realtime::dispatch::hub::Hub;
use crate::realtime::presence::tracker::PresenceTracker;
use crate::realtime::receipt_coalescer::ReceiptCoalescer;
use crate::realtime::typing::TypingTracker;
use crate::tasks::warn_of_failure;

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
    /// The publisher of members' changes that take no version.
    pub receipts: ReceiptCoalescer,
    /// The typing state.
    pub typing: TypingTracker,
    /// The presence state.
    pub presence: PresenceTracker,
    /// The announcements of the presence on this node.
    pub presence_announcer: PresenceAnnouncer,
    /// The name of this node.
    pub node: String,
    /// The layers above.
    pub event_listener: Arc<dyn ClusterEventListener>,
    /// True while a comparison with the database is scheduled.
    pub resync_scheduled: Arc<AtomicBool>,
    /// The number of comparisons with the database that are running.
    pub running_resyncs: Arc<AtomicUsize>,
}

impl ClusterMessageHandler {
    /// Handles one message of another node, and returns false if it concerns no listener of this node.
    pub fn handle(&self, node: &str, message: ClusterMessage) -> bool {
        match message {
            ClusterMessage::Chat(event) => {
                self.typing.end_by_event(&event);
                return self.hub.deliver_to_chat(event);
            }
            ClusterMessage::UserEvent(event) => return self.hub.deliver_to_users(event),
            ClusterMessage::MembersChanged(hints) => {
                let is_wanted = self.hub.has_subscribers(hints.chat);
                if is_wanted {
                    self.receipts.record_remote(hints);
                }
                return is_wanted;
            }
            ClusterMessage::Typing(update) => self.typing.apply_update(&update),
            ClusterMessage::Presence(update) => self.presence.apply_update(&update),
            ClusterMessage::RateLimitUsage(usage) => self.event_listener.on_rate_limit_usage(&usage),
            ClusterMessage::TokensRevoked { organization, user, before } => {
                self.event_listener.on_tokens_revoked(&organization, &user, before);
            }
            ClusterMessage::PresenceAnnounced(announcement) => self.presence.apply_announcement(&announcement),
            ClusterMessage::PresenceDigest(summary) => {
                self.request_presence(node, self.presence.differing_buckets(&summary));
            }
            ClusterMessage::PresenceRequested(request) if request.node == self.node => {
                self.presence_announcer.request(request.buckets);
            }
            ClusterMessage::PresenceRequested(_) | ClusterMessage::Heartbeat { .. } => {}
            ClusterMessage::NodeJoined => self.announce_presence(),
            ClusterMessage::NodeLeaving => self.on_node_lost(node),
            ClusterMessage::ResyncRequired => self.schedule_resync(),
        }
        true
    }

    /// Handles the beginning of a connection to the other nodes, the first one or another one.
    pub fn on_connected(&self) {
        self.announce_presence();
        self.schedule_resync();
    }

    /// Handles the loss of messages of another node. Presence is sent on the common channel only.
    pub fn on_messages_lost(&self, node: &str, is_common: bool) {
        self.schedule_resync();
        if is_common {
            self.request_presence(node, (u8::MIN..=u8::MAX).collect());
        }
    }

    /// Handles the end of another node, and with it the end of the connections to that node.
    pub fn on_node_lost(&self, node: &str) {
        tracing::info!(node, "lost a node");
        self.presence.remove_node(node);
        // The node may have committed what it did not publish.
        self.schedule_resync();
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
            handler.running_resyncs.fetch_add(1, Ordering::AcqRel);
            // Reset before the comparison: messages lost during it need another one.
            handler.resync_scheduled.store(false, Ordering::Release);
            if let Err(error) = handler.resync().await {
                warn_of_failure!(error, "could not compare chats with the database; retrying");
                handler.schedule_resync();
            }
            handler.running_resyncs.fetch_sub(1, Ordering::AcqRel);
        });
    }

    /// Returns true while a comparison with the database is scheduled or running.
    pub fn is_resync_pending(&self) -> bool {
        self.resync_scheduled.load(Ordering::Acquire) || self.running_resyncs.load(Ordering::Acquire) > 0
    }

    async fn resync(&self) -> Result<()> {
        self.gap_repairer.resync().await?;
        for hints in self.gap_repairer.missed_member_changes().await? {
            self.receipts.record_remote(hints);
        }
        Ok(())
    }

    /// Announces all presence on this node to the others.
    pub fn announce_presence(&self) {
        self.presence_announcer.request_all();
    }

    fn request_presence(&self, node: &str, buckets: Vec<u8>) {
        if !buckets.is_empty() {
            let request = PresenceRequest { node: node.to_owned(), buckets };
            self.publisher.send_to_peers(ClusterMessage::PresenceRequested(request));
        }
    }
}
