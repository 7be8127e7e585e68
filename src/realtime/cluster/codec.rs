//! The encoding of messages into the payloads of Redis channels.
//!
//! ```text
//! byte       1            32                            4                          4
//!       ┌─────────┬────────────────────────┬────────┬────────┬────────┬─────────┬────────┬─────────┬┄┄
//!       │ version │ code (HMAC of channel, │ length │ header │ length │ message │ length │ message │
//!       │         │ version and the rest)  │        │        │        │         │        │         │
//!       └─────────┴────────────────────────┴────────┴────────┴────────┴─────────┴────────┴─────────┴┄┄
//! ```
//!
//! Header and messages are MessagePack with the names of fields, so nodes of two releases understand each other: a node
//! ignores fields that it does not know, takes the defaults of those that it lacks, and drops single messages of unknown
//! variants. Lengths are big-endian. The version and the code keep their place in every version.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::realtime::cluster::authentication::{CODE_BYTES, MessageKey};
use crate::realtime::cluster::message::ClusterMessage;

/// The version of the format, with which each payload begins.
///
/// Raise it when the format of a message changes in a way that older nodes can't read. They then drop the payloads,
/// count them, and find the commits in the database. The release that raises it has to be able to read the version
/// before.
pub const FORMAT_VERSION: u8 = 4;

/// The length of the length of a part.
const LENGTH_BYTES: usize = 4;

/// Messages that a node sends together on one channel.
#[derive(Debug)]
pub struct ClusterEnvelope {
    /// The sender and the number.
    pub header: EnvelopeHeader,
    /// The messages, in the order in which the node sent them.
    pub messages: Vec<ClusterMessage>,
}

/// The sender and the number of an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeHeader {
    /// The name of the sending node, which is unique for each start of a process.
    pub node: String,
    /// The number of the envelope among all that the node sent on the channel, from 1 on.
    pub number: u64,
    /// The time at which the node sent it.
    #[serde(rename = "at", with = "chrono::serde::ts_microseconds")]
    pub sent_at: DateTime<Utc>,
    /// The time at which the node sent the envelope before it on the channel.
    #[serde(default, rename = "previous", with = "chrono::serde::ts_microseconds_option")]
    pub previous_sent_at: Option<DateTime<Utc>>,
}

/// An envelope as a node of this version reads it.
#[derive(Debug)]
pub struct DecodedEnvelope {
    /// The envelope with the messages that this node knows.
    pub envelope: ClusterEnvelope,
    /// The number of messages that it does not know.
    pub unknown_messages: usize,
}

/// The reason why a payload is not an envelope that this node can read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The payload was made without the key of this installation.
    #[error("the message has no valid code")]
    Unauthenticated,
    /// A node of this installation uses another version of the format.
    #[error("the message has version {0} of the format")]
    UnknownVersion(u8),
    /// A node of this installation sent something that is no envelope.
    #[error("the message is malformed")]
    Malformed,
}

/// Encodes an envelope into the payload of a channel.
///
/// # Errors
///
/// Returns an error when a message can't be represented as MessagePack.
pub fn encode(
    key: &MessageKey,
    channel: &str,
    envelope: &ClusterEnvelope,
) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    let mut body = Vec::with_capacity(512);
    push_part(&mut body, &envelope.header)?;
    for message in &envelope.messages {
        push_part(&mut body, message)?;
    }
    let code = key.sign(channel, FORMAT_VERSION, &body);
    Ok([&[FORMAT_VERSION], code.as_slice(), &body].concat())
}

fn push_part(body: &mut Vec<u8>, part: &impl Serialize) -> Result<(), rmp_serde::encode::Error> {
    let start = body.len();
    body.extend([0; LENGTH_BYTES]);
    rmp_serde::encode::write_named(body, part)?;
    // A message is far smaller than 4 GiB: its rows have limits, and so has the number of changes in an event.
    let length = u32::try_from(body.len() - start - LENGTH_BYTES).unwrap_or(u32::MAX);
    body[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// Decodes the payload of a channel.
///
/// # Errors
///
/// Returns an error when the payload was not made with this key, has another version, or is malformed.
pub fn decode(key: &MessageKey, channel: &str, payload: &[u8]) -> Result<DecodedEnvelope, DecodeError> {
    let (&version, rest) = payload.split_first().ok_or(DecodeError::Unauthenticated)?;
    let (code, mut body) = rest.split_first_chunk::<CODE_BYTES>().ok_or(DecodeError::Unauthenticated)?;
    if !key.verify(channel, version, body, code) {
        return Err(DecodeError::Unauthenticated);
    }
    if version != FORMAT_VERSION {
        return Err(DecodeError::UnknownVersion(version));
    }
    let header = rmp_serde::from_slice(take_part(&mut body)?).map_err(|_| DecodeError::Malformed)?;
    let (mut messages, mut unknown_messages) = (Vec::new(), 0);
    while !body.is_empty() {
        match rmp_serde::from_slice(take_part(&mut body)?) {
            Ok(message) => messages.push(message),
            Err(_) => unknown_messages += 1,
        }
    }
    Ok(DecodedEnvelope { envelope: ClusterEnvelope { header, messages }, unknown_messages })
}

/// Removes the first part of a body, and returns it without its length.
fn take_part<'a>(body: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let (length, rest) = body.split_first_chunk::<LENGTH_BYTES>().ok_or(DecodeError::Malformed)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| DecodeError::Malformed)?;
    let (part, rest) = rest.split_at_checked(length).ok_or(DecodeError::Malformed)?;
    *body = rest;
    Ok(part)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::realtime::cluster::message::{ClusterMessage, TypingUpdate};

    const CHANNEL: &str = "parlor:chats:16:7";

    fn key() -> MessageKey {
        MessageKey::new(b"key")
    }

    fn envelope(messages: Vec<ClusterMessage>) -> ClusterEnvelope {
        let (sent_at, previous_sent_at) = (DateTime::UNIX_EPOCH, Some(DateTime::UNIX_EPOCH));
        ClusterEnvelope { header: EnvelopeHeader { node: "a".into(), number: 2, sent_at, previous_sent_at }, messages }
    }

    /// Returns the payload of a node that sends these parts.
    fn payload(version: u8, parts: &[serde_json::Value]) -> Vec<u8> {
        let mut body = Vec::new();
        parts.iter().for_each(|part| push_part(&mut body, part).unwrap());
        [&[version], key().sign(CHANNEL, version, &body).as_slice(), &body].concat()
    }

    fn names(decoded: &DecodedEnvelope) -> Vec<String> {
        decoded.envelope.messages.iter().map(|message| format!("{message:?}")).collect()
    }

    #[test]
    fn payload_is_a_version_a_code_and_parts_with_lengths() {
        let payload = encode(&key(), CHANNEL, &envelope(vec![ClusterMessage::NodeJoined])).unwrap();
        let header = b"\x84\xa4node\xa1a\xa6number\x02\xa2at\x00\xa8previous\x00";
        let body = [&[0, 0, 0, 30], header.as_slice(), &[0, 0, 0, 6], b"\xa5Hello"].concat();
        assert_eq!(payload[0], FORMAT_VERSION);
        assert_eq!(payload[1..33], key().sign(CHANNEL, FORMAT_VERSION, &body));
        assert_eq!(payload[33..], body);
        let decoded = decode(&key(), CHANNEL, &payload).unwrap();
        assert_eq!(decoded.envelope.header, envelope(Vec::new()).header);
        assert_eq!((names(&decoded), decoded.unknown_messages), (vec!["NodeJoined".to_owned()], 0));
    }

    #[test]
    fn payload_without_a_valid_code_is_rejected() {
        let leaving = || envelope(vec![ClusterMessage::NodeLeaving]);
        let valid = encode(&key(), CHANNEL, &leaving()).unwrap();
        let (mut changed, mut other_version) = (valid.clone(), valid.clone());
        *changed.last_mut().unwrap() ^= 1;
        other_version[0] += 1;
        let forged = [
            encode(&MessageKey::new(b"other"), CHANNEL, &leaving()).unwrap(),
            encode(&key(), "another channel", &leaving()).unwrap(),
            changed,
            other_version,
            valid[1 + CODE_BYTES..].to_vec(),
            valid[..20].to_vec(),
            Vec::new(),
        ];
        for payload in forged {
            assert!(matches!(decode(&key(), CHANNEL, &payload), Err(DecodeError::Unauthenticated)));
        }
    }

    #[test]
    fn payload_of_another_version_is_told_apart_from_a_forged_one() {
        let payload = payload(FORMAT_VERSION + 1, &[json!("anything")]);
        let error = decode(&key(), CHANNEL, &payload).unwrap_err();
        assert!(matches!(error, DecodeError::UnknownVersion(version) if version == FORMAT_VERSION + 1));
    }

    #[test]
    fn node_of_the_release_before_reads_what_it_knows() {
        let header = json!({ "node": "a", "number": 1, "at": 5, "previous": null, "added": [1, { "later": true }] });
        let beat =
            json!({ "Beat": { "clock": "2026-01-01T00:00:00Z", "channels": 4, "tails": [[6, 2, 0]], "added": 1 } });
        let payload = payload(FORMAT_VERSION, &[header, json!({ "AddedLater": { "chat": "x" } }), beat, json!("Bye")]);
        let decoded = decode(&key(), CHANNEL, &payload).unwrap();
        assert_eq!(decoded.unknown_messages, 1);
        let names = names(&decoded);
        assert!(names[0].contains("Heartbeat") && names[0].contains("number: 2"), "{names:?}");
        assert_eq!(names[1], "NodeLeaving");
    }

    #[test]
    fn node_of_the_next_release_reads_messages_without_its_new_fields() {
        let header = json!({ "node": "a", "number": 1, "at": 5 });
        let payload = payload(FORMAT_VERSION, &[header, json!({ "Beat": { "clock": "2026-01-01T00:00:00Z" } })]);
        let decoded = decode(&key(), CHANNEL, &payload).unwrap();
        assert_eq!(decoded.unknown_messages, 0);
        assert_eq!(decoded.envelope.header.previous_sent_at, None);
        let heartbeat = &decoded.envelope.messages[0];
        assert!(matches!(heartbeat, ClusterMessage::Heartbeat { channels: 0, tails, .. } if tails.is_empty()));
    }

    #[test]
    fn truncated_envelope_is_malformed() {
        let header = json!({ "node": "a", "number": 1, "at": 5 });
        let body = {
            let mut body = Vec::new();
            push_part(&mut body, &header).unwrap();
            body
        };
        for body in [&body[..body.len() - 1], &[&body[..], &[0, 0, 0, 9, 1]].concat(), &[0, 0], b"\xff\xff\xff\xff"] {
            let code = key().sign(CHANNEL, FORMAT_VERSION, body);
            let payload = [&[FORMAT_VERSION], code.as_slice(), body].concat();
            assert!(matches!(decode(&key(), CHANNEL, &payload), Err(DecodeError::Malformed)), "{body:?}");
        }
    }

    #[test]
    fn message_with_a_flattened_part_keeps_its_content() {
        use crate::domain::chat_events::UnversionedChange;
        use crate::realtime::cluster::message::{MemberHint, MemberHints};
        let typing: TypingUpdate = serde_json::from_value(json!({
            "chat": "0198c0de-0000-8007-8000-000000000001", "user": "bob", "span": null
        }))
        .unwrap();
        let hint = |read_threads| MemberHint {
            user: "bob".parse().unwrap(),
            change: UnversionedChange { visible_to_others: true, read_threads },
        };
        let hints = MemberHints { chat: typing.chat, members: vec![hint(false), hint(true)] };
        let sent =
            envelope(vec![ClusterMessage::MembersChanged(hints.clone()), ClusterMessage::Typing(typing.clone())]);
        let decoded = decode(&key(), CHANNEL, &encode(&key(), CHANNEL, &sent).unwrap()).unwrap();
        let mut messages = decoded.envelope.messages.into_iter();
        assert!(matches!(messages.next(), Some(ClusterMessage::MembersChanged(found)) if found == hints));
        assert!(matches!(messages.next(), Some(ClusterMessage::Typing(found)) if found == typing));
    }
}
