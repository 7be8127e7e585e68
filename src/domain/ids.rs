//! Identities, and their spelling in the API.
//!
//! An `ID` is opaque to clients and carries a readable prefix of its type, as in
//! `msg_AZqD…`. Ids of people and organisations are the host application's own words.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::text;

/// The text is no id of the type that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseIdError;

/// A word of the host application: 1 to 255 bytes without control characters.
macro_rules! host_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            pub const MAX_BYTES: usize = 255;

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let fits = (1..=Self::MAX_BYTES).contains(&text.len());
                (fits && !text.contains(char::is_control)).then(|| Self(text.into())).ok_or(ParseIdError)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(|_| serde::de::Error::custom("no id of the host"))
            }
        }
    };
}

host_id! {
    /// A person of the host application: the subject of their token.
    UserId
}
host_id! {
    /// An organisation of the host application, which shares nothing with another.
    OrganizationId
}

impl Display for UserId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl OrganizationId {
    const PREFIX: &str = "org_";
}

impl Display for OrganizationId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, self.0)
    }
}

/// An id of the server's own making.
macro_rules! own_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub Uuid);

        impl $name {
            const PREFIX: &str = $prefix;

            /// Rises with time (RFC 9562, version 7), so that new rows are near each other on disk.
            #[expect(clippy::disallowed_methods, reason = "this is where ids come from")]
            #[expect(clippy::new_without_default, reason = "each is another one")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl Display for $name {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", Self::PREFIX, BASE64.encode(self.0))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let bytes = decode(text, Self::PREFIX)?;
                Uuid::from_slice(&bytes).map(Self).map_err(|_| ParseIdError)
            }
        }
    };
}

own_id!(ChatId, "chat_");
own_id! {
    /// Something that a person is told of.
    NotificationId, "notice_"
}
own_id! {
    /// A message that somebody reported.
    ReportId, "report_"
}

/// A message is known by its place in its chat, so a reply can only point inside its chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageId {
    pub chat: ChatId,
    pub seq: i64,
}

impl MessageId {
    const PREFIX: &str = "msg_";
}

impl Display for MessageId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let bytes = [self.chat.0.as_bytes().as_slice(), &self.seq.to_be_bytes()].concat();
        write!(f, "{}{}", Self::PREFIX, BASE64.encode(bytes))
    }
}

impl FromStr for MessageId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let bytes = decode(text, Self::PREFIX)?;
        let (chat, seq) = bytes.split_first_chunk::<16>().ok_or(ParseIdError)?;
        let seq = i64::from_be_bytes(seq.try_into().map_err(|_| ParseIdError)?);
        // A chat counts from 1.
        (seq > 0).then_some(Self { chat: ChatId(Uuid::from_bytes(*chat)), seq }).ok_or(ParseIdError)
    }
}

/// An option of a message's poll, by its place among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OptionId {
    pub message: MessageId,
    pub index: u8,
}

impl OptionId {
    const PREFIX: &str = "option_";
}

impl Display for OptionId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let MessageId { chat, seq } = self.message;
        let bytes = [chat.0.as_bytes().as_slice(), &seq.to_be_bytes(), &[self.index]].concat();
        write!(f, "{}{}", Self::PREFIX, BASE64.encode(bytes))
    }
}

impl FromStr for OptionId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let bytes = decode(text, Self::PREFIX)?;
        let (chat, rest) = bytes.split_first_chunk::<16>().ok_or(ParseIdError)?;
        let (seq, place) = rest.split_first_chunk::<8>().ok_or(ParseIdError)?;
        let [place] = *place else { return Err(ParseIdError) };
        let message = MessageId { chat: ChatId(Uuid::from_bytes(*chat)), seq: i64::from_be_bytes(*seq) };
        Ok(Self { message, index: place })
    }
}

/// A call is of its chat, whose members may know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallId {
    pub chat: ChatId,
    pub call: Uuid,
}

impl CallId {
    const PREFIX: &str = "call_";

    /// Rises with time, as [`ChatId::new`] does.
    #[expect(clippy::disallowed_methods, reason = "this is where ids come from")]
    pub fn new(chat: ChatId) -> Self {
        Self { chat, call: Uuid::now_v7() }
    }

    fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(self.chat.0.as_bytes());
        bytes[16..].copy_from_slice(self.call.as_bytes());
        bytes
    }

    /// What it is written by, and what follows it.
    fn parse_prefix(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (chat, rest) = bytes.split_first_chunk::<16>()?;
        let (call, rest) = rest.split_first_chunk::<16>()?;
        Some((Self { chat: ChatId(Uuid::from_bytes(*chat)), call: Uuid::from_bytes(*call) }, rest))
    }
}

impl Display for CallId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, BASE64.encode(self.bytes()))
    }
}

impl FromStr for CallId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let bytes = decode(text, Self::PREFIX)?;
        Self::parse_prefix(&bytes).filter(|(_, rest)| rest.is_empty()).map(|(call, _)| call).ok_or(ParseIdError)
    }
}

/// A person in a call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParticipantId {
    pub call: CallId,
    pub user: UserId,
}

impl ParticipantId {
    const PREFIX: &str = "participant_";
}

impl Display for ParticipantId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let bytes = [self.call.bytes().as_slice(), self.user.as_str().as_bytes()].concat();
        write!(f, "{}{}", Self::PREFIX, BASE64.encode(bytes))
    }
}

impl FromStr for ParticipantId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let bytes = decode(text, Self::PREFIX)?;
        let (call, user) = CallId::parse_prefix(&bytes).ok_or(ParseIdError)?;
        Ok(Self { call, user: str::from_utf8(user).map_err(|_| ParseIdError)?.parse()? })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId {
    pub chat: ChatId,
    pub user: UserId,
}

impl MemberId {
    const PREFIX: &str = "member_";
}

impl Display for MemberId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let bytes = [self.chat.0.as_bytes().as_slice(), self.user.as_str().as_bytes()].concat();
        write!(f, "{}{}", Self::PREFIX, BASE64.encode(bytes))
    }
}

impl FromStr for MemberId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let bytes = decode(text, Self::PREFIX)?;
        let (chat, user) = bytes.split_first_chunk::<16>().ok_or(ParseIdError)?;
        Ok(Self {
            chat: ChatId(Uuid::from_bytes(*chat)),
            user: str::from_utf8(user).map_err(|_| ParseIdError)?.parse()?,
        })
    }
}

fn decode(text: &str, prefix: &str) -> Result<Vec<u8>, ParseIdError> {
    let encoded = text.strip_prefix(prefix).ok_or(ParseIdError)?;
    BASE64.decode(encoded).map_err(|_| ParseIdError)
}

/// What a global `ID` may stand for. A host's user id may look like one of the server's own ids, so
/// a text can have several readings: the caller takes the first that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeId {
    Chat(ChatId),
    Message(MessageId),
    Member(MemberId),
    Call(CallId),
    Participant(ParticipantId),
    Notification(NotificationId),
    Report(ReportId),
    Organization(OrganizationId),
    User(UserId),
}

impl NodeId {
    pub fn candidates(id: &str) -> impl Iterator<Item = Self> {
        let organization = id.strip_prefix(OrganizationId::PREFIX);
        [
            id.parse().map(Self::Chat).ok(),
            id.parse().map(Self::Message).ok(),
            id.parse().map(Self::Member).ok(),
            id.parse().map(Self::Call).ok(),
            id.parse().map(Self::Participant).ok(),
            id.parse().map(Self::Notification).ok(),
            id.parse().map(Self::Report).ok(),
            organization.and_then(|word| word.parse().ok()).map(Self::Organization),
            id.parse().map(Self::User).ok(),
        ]
        .into_iter()
        .flatten()
    }
}

/// A name for a request that came without one, as an operation on a socket does.
#[expect(clippy::disallowed_methods, reason = "this is where ids come from")]
pub fn request_id() -> String {
    Uuid::now_v7().to_string()
}

/// A name for this process among those of one server, anew at each start: who was connected to a node
/// that died is not taken for connected to the one that follows it under its name.
#[expect(clippy::disallowed_methods, reason = "this is where ids come from")]
pub fn node_name(name: Option<&str>) -> String {
    let start = Uuid::now_v7();
    name.map_or_else(|| start.to_string(), |name| format!("{name} {start}"))
}

/// What a client calls a thing that it makes, so that a repeated request makes it once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Nonce(Arc<str>);

/// Equal for equal content, and for no other: what a request repeated with its nonce is known by.
pub fn fingerprint(content: &impl Serialize) -> Vec<u8> {
    let json = serde_json::to_vec(content).expect("content is plain data");
    Sha256::digest(json)[..16].to_vec()
}

impl Nonce {
    /// Longest nonce, in characters.
    pub const MAX_CHARS: usize = 128;

    pub fn parse(nonce: &str) -> crate::error::Result<Self> {
        text::validate_line("nonce", nonce, Self::MAX_CHARS).map(|nonce| Self(nonce.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_itself_and_as_nothing_else() {
        let chat = ChatId::new();
        let message = MessageId { chat, seq: 7 };
        let member = MemberId { chat, user: "zoë".parse().unwrap() };
        assert_eq!(chat.to_string().parse(), Ok(chat));
        assert_eq!(message.to_string().parse(), Ok(message));
        let option = OptionId { message, index: 9 };
        assert_eq!(option.to_string().parse(), Ok(option));
        assert_eq!(member.to_string().parse(), Ok(member.clone()));
        let call = CallId::new(chat);
        let participant = ParticipantId { call, user: "zoë".parse().unwrap() };
        assert_eq!(call.to_string().parse(), Ok(call));
        assert_eq!(participant.to_string().parse(), Ok(participant));
        assert_eq!(call.to_string()[..40].parse::<CallId>(), Err(ParseIdError));
        assert_eq!(message.to_string().parse::<ChatId>(), Err(ParseIdError));
        assert_eq!(MessageId { chat, seq: i64::MIN }.to_string().parse::<MessageId>(), Err(ParseIdError));
        assert_eq!(chat.to_string().to_uppercase().parse::<ChatId>(), Err(ParseIdError));
        let readings: Vec<_> = NodeId::candidates(&member.to_string()).collect();
        assert_eq!(readings[0], NodeId::Member(member));
    }

    #[test]
    fn only_words_are_host_ids() {
        for bad in ["", "a\0b", "a\nb", &"x".repeat(256)] {
            assert_eq!(bad.parse::<UserId>(), Err(ParseIdError), "{bad:?}");
        }
        assert!("auth0|5f7c8ec7c33c6c004bbafe82".parse::<UserId>().is_ok());
    }
}
