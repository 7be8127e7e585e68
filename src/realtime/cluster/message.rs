//! The messages that nodes send to each other.
//!
//! The `serde(rename)` attributes fix the transmitted spelling, so that identifiers can be renamed freely. Whoever
//! changes the transmitted form raises [`FORMAT_VERSION`](crate::realtime::cluster::codec::FORMAT_VERSION).

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::chat_events::ChatEvent;
use crate::domain::ids::{ChatId, OrganizationId, UserId};
use crate::domain::presence::ManualStatus;

/// A message from one node to all others.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ClusterMessage {
    /// A change that was committed in a chat.
    Chat(ChatEvent),
    /// A user started or stopped typing.
    Typing(TypingUpdate),
    /// The presence of a user on the sending node changed.
    Presence(PresenceUpdate),
    /// Users consumed rate limits on the sending node.
    #[serde(rename = "Spent")]
    RateLimitUsage(Vec<RateLimitUsage>),
    /// An administrator revoked the tokens of a user that were issued until `before`.
    #[serde(rename = "Revoked")]
    TokensRevoked {
        /// The organization of the user.
        organization: OrganizationId,
        /// The user whose tokens were revoked.
        user: UserId,
        /// The time of the revocation; tokens issued later stay valid.
        before: DateTime<Utc>,
    },
    /// The sending node has joined and asks for the presence that the other nodes know.
    #[serde(rename = "Hello")]
    NodeJoined,
    /// The sending node is alive.
    #[serde(rename = "Beat")]
    Heartbeat,
    /// The sending node is shutting down.
    #[serde(rename = "Bye")]
    NodeLeaving,
    /// The sending node dropped messages: the others have to compare their state with the database.
    #[serde(rename = "Compare")]
    ResyncRequired,
}

/// The presence of one user on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceUpdate {
    /// The name of the node.
    pub node: String,
    /// The organization of the user.
    pub organization: OrganizationId,
    /// The user.
    pub user: UserId,
    /// True if the user has a connection to that node.
    #[serde(rename = "here")]
    pub is_connected: bool,
    /// The newest manual status that the node knows.
    #[serde(rename = "set")]
    pub manual_status: ManualStatus,
}

/// The typing state of one user in one chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypingUpdate {
    /// The chat.
    pub chat: ChatId,
    /// The user.
    pub user: UserId,
    /// The start and the expiry of the state, or `None` when the user has stopped typing.
    pub span: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

/// The number of times that one user consumed one rate limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimitUsage {
    /// The organization of the user.
    pub organization: OrganizationId,
    /// The user.
    pub user: UserId,
    /// The name of the rate limit.
    #[serde(rename = "limit")]
    pub limit_name: String,
    /// The number of times.
    #[serde(rename = "times")]
    pub count: u32,
}
