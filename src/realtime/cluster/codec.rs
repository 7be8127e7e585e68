//! The encoding of messages into Redis channels and payloads.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};

use crate::realtime::cluster::message::ClusterMessage;

/// The version of the message format, which is part of each channel name.
///
/// Raise it when the format of a message changes in a way that older nodes can't read. During an upgrade, nodes of two
/// versions then ignore each other instead of failing to decode, and find each other's commits in the database.
pub const FORMAT_VERSION: u32 = 1;

/// The number of channels over which chats and users are distributed.
pub const CHANNEL_COUNT: u64 = 16;

/// The payload of one Redis message.
#[derive(Debug, Serialize, Deserialize)]
pub struct ClusterEnvelope {
    /// The name of the sending node.
    pub node: String,
    /// The messages, in the order in which the node sent them.
    #[serde(rename = "words")]
    pub messages: Vec<ClusterMessage>,
}

/// Returns the name of a channel: `<prefix>:v<version>:<channel>`.
pub fn channel_name(prefix: &str, channel: u64) -> String {
    format!("{prefix}:v{FORMAT_VERSION}:{channel}")
}

/// Encodes messages into one payload for each channel.
///
/// Messages about one chat or user keep their order.
///
/// # Errors
///
/// Returns an error when a message can't be represented as JSON.
pub fn encode(
    node: &str,
    messages: impl IntoIterator<Item = ClusterMessage>,
) -> Result<Vec<(u64, Vec<u8>)>, serde_json::Error> {
    let mut by_channel: HashMap<u64, Vec<ClusterMessage>> = HashMap::new();
    for message in messages {
        by_channel.entry(channel_for(&message)).or_default().push(message);
    }
    let encode_channel = |(channel, messages)| {
        let envelope = ClusterEnvelope { node: node.to_owned(), messages };
        Ok((channel, serde_json::to_vec(&envelope)?))
    };
    by_channel.into_iter().map(encode_channel).collect()
}

/// Decodes the payload of one Redis message.
///
/// # Errors
///
/// Returns an error when the payload is not an envelope of messages that this node knows.
pub fn decode(payload: &[u8]) -> Result<ClusterEnvelope, serde_json::Error> {
    serde_json::from_slice(payload)
}

/// Returns the channel of a message; the first channel serves messages about no chat or user.
fn channel_for(message: &ClusterMessage) -> u64 {
    match message {
        ClusterMessage::Chat(event) => hashed_channel(&event.chat),
        ClusterMessage::Typing(update) => hashed_channel(&update.chat),
        ClusterMessage::Presence(update) => hashed_channel(&update.user),
        ClusterMessage::RateLimitUsage(_)
        | ClusterMessage::TokensRevoked { .. }
        | ClusterMessage::NodeJoined
        | ClusterMessage::Heartbeat
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

    #[test]
    fn channel_name_contains_prefix_and_format_version() {
        assert_eq!(channel_name("parlor", 7), "parlor:v1:7");
    }

    #[test]
    fn messages_of_one_chat_keep_their_order() {
        let chat = ChatId::new();
        let payloads = encode("a", [typing(chat, "one"), typing(chat, "two"), typing(chat, "three")]).unwrap();
        assert_eq!(payloads.len(), 1);
        let envelope = decode(&payloads[0].1).unwrap();
        let users = envelope.messages.iter().map(|message| match message {
            ClusterMessage::Typing(update) => update.user.to_string(),
            other => panic!("unexpected message {other:?}"),
        });
        assert_eq!(users.collect::<Vec<_>>(), ["one", "two", "three"]);
    }

    #[test]
    fn messages_about_the_node_itself_use_the_first_channel() {
        let payloads = encode("a", [ClusterMessage::Heartbeat, ClusterMessage::NodeLeaving]).unwrap();
        let (channel, payload) = &payloads[0];
        assert_eq!((*channel, payload.as_slice()), (0, br#"{"node":"a","words":["Beat","Bye"]}"#.as_slice()));
    }

    #[test]
    fn payload_of_unknown_message_is_rejected() {
        assert!(decode(br#"{"node":"a","words":["Unknown"]}"#).is_err());
    }
}
