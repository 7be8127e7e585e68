//! The messages that nodes send to each other.
//!
//! The `serde(rename)` attributes fix the transmitted spelling, so that identifiers can be renamed freely. A new field
//! has a default, and a new variant is dropped by nodes that do not know it. Whoever changes the transmitted form in
//! another way raises [`FORMAT_VERSION`](crate::realtime::cluster::codec::FORMAT_VERSION).

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::chat_events::{ChatEvent, UnversionedChange};
use crate::domain::ids::{ChatId, OrganizationId, UserId};
use crate::domain::presence::ManualStatus;

/// A message from one node to others: to all, or to those with listeners for a chat or a user.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ClusterMessage {
    /// A change that was committed in a chat.
    Chat(ChatEvent),
    /// The part of such a change that concerns users whether or not they follow the chat.
    #[serde(rename = "User")]
    UserEvent(ChatEvent),
    /// Members of a chat changed without taking a version.
    #[serde(rename = "Members")]
    MembersChanged(MemberHints),
    /// A user started or stopped typing.
    Typing(TypingUpdate),
    /// The presence of a user on the sending node changed.
    Presence(PresenceUpdate),
    /// All users of some buckets who are connected to the sending node.
    #[serde(rename = "PresenceAll")]
    PresenceAnnounced(PresenceAnnouncement),
    /// A summary of the users who are connected to the sending node.
    PresenceDigest(PresenceDigest),
    /// The sending node lacks a part of the presence on another node.
    #[serde(rename = "PresenceAsked")]
    PresenceRequested(PresenceRequest),
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
    Heartbeat {
        /// The time of the machine's clock, with which the others measure how far theirs is from it.
        #[serde(rename = "clock")]
        system_time: DateTime<Utc>,
        /// The number of channels of one kind, which has to be the same on all nodes.
        #[serde(default)]
        channels: u32,
        /// The last envelope on each channel that the node has used since its last heartbeat.
        #[serde(default)]
        tails: Vec<ChannelTail>,
    },
    /// The sending node is shutting down.
    #[serde(rename = "Bye")]
    NodeLeaving,
    /// The sending node dropped messages: the others have to compare their state with the database.
    #[serde(rename = "Compare")]
    ResyncRequired,
}

/// The last envelope that a node has sent on one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u32, u64, i64)", into = "(u32, u64, i64)")]
pub struct ChannelTail {
    /// The code of the channel.
    pub channel: u32,
    /// The number of the envelope.
    pub number: u64,
    /// The time at which it was sent, in microseconds since 1970.
    pub sent_at_micros: i64,
}

impl From<(u32, u64, i64)> for ChannelTail {
    fn from((channel, number, sent_at_micros): (u32, u64, i64)) -> Self {
        Self { channel, number, sent_at_micros }
    }
}

impl From<ChannelTail> for (u32, u64, i64) {
    fn from(tail: ChannelTail) -> Self {
        (tail.channel, tail.number, tail.sent_at_micros)
    }
}

/// Members of one chat whose rows changed without taking a version; the receiver reads the rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberHints {
    /// The chat.
    pub chat: ChatId,
    /// The members.
    pub members: Vec<MemberHint>,
}

/// One member whose row changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberHint {
    /// The user.
    pub user: UserId,
    /// The change.
    #[serde(flatten)]
    pub change: UnversionedChange,
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
    /// The number of the change among all changes of presence on that node. The later one of two updates applies.
    pub revision: u64,
}

/// All users of some buckets who are connected to one node; nobody else in these buckets is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceAnnouncement {
    /// The name of the node.
    pub node: String,
    /// The number of the last change on that node that the announcement includes.
    pub revision: u64,
    /// The buckets.
    pub buckets: Vec<u8>,
    /// The users who are connected, or have a manual status that the node knows.
    pub users: Vec<PresenceUpdate>,
}

/// A summary of the users who are connected to one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceDigest {
    /// The name of the node.
    pub node: String,
    /// A hash of the users in each bucket.
    ///
    /// See [`connected_users`](crate::realtime::presence::connected_users).
    pub buckets: Vec<u64>,
}

/// A request to announce the presence on one node again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceRequest {
    /// The name of the node that is asked.
    pub node: String,
    /// The buckets to announce.
    pub buckets: Vec<u8>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_about_all_presence_keep_their_spelling() {
        let update = PresenceUpdate {
            node: "a".into(),
            organization: "demo".parse().unwrap(),
            user: "bob".parse().unwrap(),
            is_connected: true,
            manual_status: ManualStatus::default(),
            revision: 4,
        };
        let announcement =
            PresenceAnnouncement { node: "a".into(), revision: 4, buckets: vec![1, 9], users: vec![update] };
        let messages = [
            ClusterMessage::PresenceAnnounced(announcement),
            ClusterMessage::PresenceDigest(PresenceDigest { node: "a".into(), buckets: vec![0, 12] }),
            ClusterMessage::PresenceRequested(PresenceRequest { node: "a".into(), buckets: vec![9] }),
        ];
        let spellings = messages.map(|message| serde_json::to_string(&message).unwrap());
        let user = r#"{"node":"a","organization":"demo","user":"bob","here":true,"set":{"status":"Online","current_chat":null,"at":"1970-01-01T00:00:00Z"},"revision":4}"#;
        assert_eq!(
            spellings,
            [
                format!(r#"{{"PresenceAll":{{"node":"a","revision":4,"buckets":[1,9],"users":[{user}]}}}}"#),
                r#"{"PresenceDigest":{"node":"a","buckets":[0,12]}}"#.to_owned(),
                r#"{"PresenceAsked":{"node":"a","buckets":[9]}}"#.to_owned(),
            ]
        );
    }
}
