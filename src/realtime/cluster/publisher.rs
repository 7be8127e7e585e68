//! How a commit on one node is told to all, and what nodes tell each other beside.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::chat_events::ChatEvent;
use crate::domain::ids::{ChatId, OrganizationId, UserId};
use crate::realtime::cluster::redis::ClusterOutbox;
use crate::realtime::dispatch::hub::Hub;
use crate::realtime::presence::tracker::PresenceUpdate;
use crate::realtime::typing::TypingUpdate;

/// The way from a commit to the listeners: straight to those of this process, and through Redis to
/// those of the others, where there are others.
///
/// What is published is a hint. It may be lost, doubled or late: a listener that sees a gap in a
/// chat's versions reads it from the database, and drops what it has.
#[derive(Debug, Clone)]
pub struct EventPublisher {
    hub: Arc<Hub>,
    outbox: Option<ClusterOutbox>,
}

/// What a node tells the others.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ClusterMessage {
    Chat(ChatEvent),
    Typing(TypingUpdate),
    Presence(PresenceUpdate),
    /// People did what is limited, so many times of each kind.
    #[serde(rename = "Spent")]
    RateLimitUsage(Vec<RateLimitUsage>),
    /// A person's tokens made up to this moment hold no more.
    #[serde(rename = "Revoked")]
    TokensRevoked {
        organization: OrganizationId,
        user: UserId,
        before: DateTime<Utc>,
    },
    /// This node has just joined, and knows not who is there.
    #[serde(rename = "Hello")]
    NodeJoined,
    /// This node is there.
    #[serde(rename = "Beat")]
    Heartbeat,
    /// This node goes.
    #[serde(rename = "Bye")]
    NodeLeaving,
    /// Something was not told: compare with the database.
    #[serde(rename = "Compare")]
    ResyncRequired,
}

/// What a person did that is limited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimitUsage {
    pub organization: OrganizationId,
    pub user: UserId,
    /// The limit's name.
    #[serde(rename = "limit")]
    pub limit_name: String,
    #[serde(rename = "times")]
    pub count: u32,
}

impl EventPublisher {
    pub fn new(hub: Arc<Hub>, others: Option<ClusterOutbox>) -> Self {
        Self { hub, outbox: others }
    }

    /// Tells of a commit, after it.
    pub fn publish(&self, event: ChatEvent) {
        if let Some(others) = &self.outbox {
            others.send(ClusterMessage::Chat(event.clone()));
        }
        self.hub.deliver(event);
    }

    /// Tells the other nodes, without waiting: it is called under locks. One that is alone has nobody to
    /// tell.
    pub fn send_to_peers(&self, word: ClusterMessage) {
        if let Some(others) = &self.outbox {
            others.send(word);
        }
    }

    /// Tells the other nodes that this one goes.
    pub async fn announce_shutdown(&self) {
        if let Some(others) = &self.outbox {
            others.announce_shutdown().await;
        }
    }

    /// Whether anybody may listen to a chat: of the others nobody knows.
    pub fn has_subscribers(&self, chat: ChatId) -> bool {
        self.outbox.is_some() || self.hub.has_subscribers(chat)
    }

    /// Whether there may be other nodes.
    pub fn is_clustered(&self) -> bool {
        self.outbox.is_some()
    }

    /// Whether the other nodes hear what is told; none where there are no others.
    pub fn is_cluster_connected(&self) -> Option<bool> {
        self.outbox.as_ref().map(ClusterOutbox::is_connected)
    }
}
