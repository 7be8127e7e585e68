//! The encoding of messages into Redis channels and payloads.
//!
//! A payload is the code that authenticates it, as 64 hexadecimal digits, and an envelope of messages as JSON.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::realtime::cluster::authentication::{CODE_CHARS, MessageKey};
use crate::realtime::cluster::message::ClusterMessage;

/// The version of the message format, which is part of each channel name.
///
/// Raise it when the format of a message changes in a way that older nodes can't read. During an upgrade, nodes of two
/// versions then ignore each other instead of failing to decode, and find each other's commits in the database.
pub const FORMAT_VERSION: u32 = 3;

/// The number of channels over which chats and users are distributed.
pub const CHANNEL_COUNT: u64 = 16;

/// Messages that a node sends together on one channel.
#[derive(Debug, Serialize, Deserialize)]
pub struct ClusterEnvelope {
    /// The name of the sending node, which is unique for each start of a process.
    pub node: String,
    /// The number of the envelope among all that the node sent, from 1 on.
    pub number: u64,
    /// The time at which the node sent it.
    #[serde(rename = "at")]
    pub sent_at: DateTime<Utc>,
    /// The messages, in the order in which the node sent them.
    pub messages: Vec<ClusterMessage>,
}

/// The reason why a payload is not an envelope of another node.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The payload was made without the key of this installation.
    #[error("the message has no valid code")]
    Unauthenticated,
    /// A node of this installation sent something that this node does not know.
    #[error(transparent)]
    Malformed(#[from] serde_json::Error),
}

/// Returns the name of a channel: `<prefix>:v<version>:<channel>`.
pub fn channel_name(prefix: &str, channel: u64) -> String {
    format!("{prefix}:v{FORMAT_VERSION}:{channel}")
}

/// Distributes messages over the channels. Messages about one chat or user keep their order.
pub fn by_channel(messages: impl IntoIterator<Item = ClusterMessage>) -> BTreeMap<u64, Vec<ClusterMessage>> {
    let mut by_channel: BTreeMap<u64, Vec<ClusterMessage>> = BTreeMap::new();
    for message in messages {
        by_channel.entry(channel_for(&message)).or_default().push(message);
    }
    by_channel
}

/// Encodes an envelope into the payload of a channel.
///
/// # Errors
///
/// Returns an error when a message can't be represented as JSON.
pub fn encode(key: &MessageKey, channel: &str, envelope: &ClusterEnvelope) -> Result<Vec<u8>, serde_json::Error> {
    let body = serde_json::to_vec(envelope)?;
    Ok([key.sign(channel, &body).as_slice(), &body].concat())
}

/// Decodes the payload of a channel.
///
/// # Errors
///
/// Returns an error when the payload was not made with this key, or is not an envelope of messages that this node
/// knows.
pub fn decode(key: &MessageKey, channel: &[u8], payload: &[u8]) -> Result<ClusterEnvelope, DecodeError> {
    let channel = str::from_utf8(channel).map_err(|_| DecodeError::Unauthenticated)?;
    let (code, body) = payload.split_at_checked(CODE_CHARS).ok_or(DecodeError::Unauthenticated)?;
    if !key.verify(channel, body, code) {
        return Err(DecodeError::Unauthenticated);
    }
    Ok(serde_json::from_slice(body)?)
}

/// Returns the channel of a message; the first channel serves messages about no chat or user.
fn channel_for(message: &ClusterMessage) -> u64 {
    match message {
        ClusterMessage::Chat(event) => hashed_channel(&event.chat),
        ClusterMessage::MembersChanged(hints) => hashed_channel(&hints.chat),
        ClusterMessage::Typing(update) => hashed_channel(&update.chat),
        ClusterMessage::Presence(update) => hashed_channel(&update.user),
        ClusterMessage::PresenceAnnounced(_)
        | ClusterMessage::PresenceDigest(_)
        | ClusterMessage::PresenceRequested(_)
        | ClusterMessage::RateLimitUsage(_)
        | ClusterMessage::TokensRevoked { .. }
        | ClusterMessage::NodeJoined
        | ClusterMessage::Heartbeat { .. }
        | ClusterMessage::NodeLeaving
        | ClusterMessage::ResyncRequired => 0,
    }
}

fn hashed_channel(subject: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    subject.hash(&mut hasher);
    hasher.finish() % CHANNEL_COUNT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::ChatId;
    use crate::realtime::cluster::message::TypingUpdate;

    fn typing(chat: ChatId, user: &str) -> ClusterMessage {
        ClusterMessage::Typing(TypingUpdate { chat, user: user.parse().unwrap(), span: None })
    }

    fn envelope(messages: Vec<ClusterMessage>) -> ClusterEnvelope {
        ClusterEnvelope { node: "a".into(), number: 1, sent_at: DateTime::UNIX_EPOCH, messages }
    }

    #[test]
    fn channel_name_contains_prefix_and_format_version() {
        assert_eq!(channel_name("parlor", 7), "parlor:v3:7");
    }

    #[test]
    fn messages_of_one_chat_keep_their_order() {
        let chat = ChatId::new();
        let mut channels = by_channel([typing(chat, "one"), typing(chat, "two"), typing(chat, "three")]);
        assert_eq!(channels.len(), 1);
        let users = channels.pop_first().unwrap().1.into_iter().map(|message| match message {
            ClusterMessage::Typing(update) => update.user.to_string(),
            other => panic!("unexpected message {other:?}"),
        });
        assert_eq!(users.collect::<Vec<_>>(), ["one", "two", "three"]);
    }

    #[test]
    fn messages_about_the_node_itself_use_the_first_channel() {
        let channels = by_channel([ClusterMessage::NodeJoined, ClusterMessage::NodeLeaving]);
        assert_eq!(channels.into_keys().collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn payload_is_a_code_and_a_json_envelope() {
        let key = MessageKey::new(b"key");
        let payload = encode(&key, "c", &envelope(vec![ClusterMessage::NodeJoined])).unwrap();
        let body = br#"{"node":"a","number":1,"at":"1970-01-01T00:00:00Z","messages":["Hello"]}"#;
        assert_eq!(payload, [key.sign("c", body).as_slice(), body].concat());
        assert_eq!(decode(&key, b"c", &payload).unwrap().node, "a");
    }

    #[test]
    fn payload_without_a_valid_code_is_rejected() {
        let (key, other) = (MessageKey::new(b"key"), MessageKey::new(b"other"));
        let payload = encode(&other, "c", &envelope(vec![ClusterMessage::NodeLeaving])).unwrap();
        let copied = encode(&key, "another channel", &envelope(vec![ClusterMessage::NodeLeaving])).unwrap();
        let mut changed = encode(&key, "c", &envelope(vec![ClusterMessage::NodeLeaving])).unwrap();
        *changed.last_mut().unwrap() ^= 1;
        for payload in [&payload, &copied, &changed, &payload[CODE_CHARS..].to_vec(), &Vec::new()] {
            assert!(matches!(decode(&key, b"c", payload), Err(DecodeError::Unauthenticated)));
        }
    }

    #[test]
    fn payload_of_unknown_message_is_malformed() {
        let key = MessageKey::new(b"key");
        let body = br#"{"node":"a","number":1,"at":"1970-01-01T00:00:00Z","messages":["Unknown"]}"#;
        let payload = [key.sign("c", body).as_slice(), body].concat();
        assert!(matches!(decode(&key, b"c", &payload), Err(DecodeError::Malformed(_))));
    }
}
