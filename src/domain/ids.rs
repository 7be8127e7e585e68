//! Identifiers and their form in the API.
//!
//! An `ID` of the server's own is opaque to clients. It is a prefix for its type, followed by its bytes in base64url,
//! as in `msg_AZqD…`. The host application chooses the ids of its users and organisations. Each of the server's ids
//! contains the bucket of the rows that it refers to.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::buckets::{Bucket, has_bucket};
use crate::domain::text;

/// The error for a text that is not an id of the requested type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id of the requested type")]
pub struct ParseIdError;

/// An id of the host application: one line of 1 to 255 bytes whose characters are all visible.
macro_rules! host_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            pub const MAX_BYTES: usize = 255;
            /// The prefix of the id in the API. The host application's own form has none.
            const PREFIX: &str = $prefix;

            /// Returns the id as the host application writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        /// Writes the id as the API does.
        impl Display for $name {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", Self::PREFIX, self.0)
            }
        }

        /// Parses the id as the host application writes it.
        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let fits = (1..=Self::MAX_BYTES).contains(&text.len());
                let is_line = fits && text.trim() == text && text::is_visible_line(text);
                is_line.then(|| Self(text.into())).ok_or(ParseIdError)
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseIdError;

            fn try_from(text: String) -> Result<Self, ParseIdError> {
                text.parse()
            }
        }
    };
}

host_id! {
    /// A user of the host application: the subject of the user's token.
    UserId, ""
}
host_id! {
    /// An organisation of the host application.
    ///
    /// Organisations share no data.
    OrganizationId, "org_"
}

impl OrganizationId {
    /// Returns the bucket of the organisation's chats and persons.
    pub fn bucket(&self) -> Bucket {
        Bucket::of_organization(self.as_str())
    }
}

/// An id that the API writes as a prefix followed by bytes in base64url.
trait PrefixedId: Sized {
    /// The readable prefix, which differs between types.
    const PREFIX: &str;

    fn to_bytes(&self) -> impl AsRef<[u8]>;

    /// Returns the id that consists of exactly these bytes.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

fn write_id<T: PrefixedId>(id: &T, f: &mut Formatter<'_>) -> fmt::Result {
    write!(f, "{}{}", T::PREFIX, BASE64.encode(id.to_bytes()))
}

fn parse_id<T: PrefixedId>(text: &str) -> Result<T, ParseIdError> {
    let encoded = text.strip_prefix(T::PREFIX).ok_or(ParseIdError)?;
    let bytes = BASE64.decode(encoded).map_err(|_| ParseIdError)?;
    T::from_bytes(&bytes).ok_or(ParseIdError)
}

/// Implements the text forms of a [`PrefixedId`].
///
/// A blanket implementation is not possible: both traits are foreign.
macro_rules! text_form {
    ($($name:ident),+) => {$(
        impl Display for $name {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                write_id(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_id(text)
            }
        }
    )+};
}

text_form!(ChatId, NotificationId, ReportId, MessageId, OptionId, CallId, ParticipantId, ConnectionId, MemberId);

/// An id that is a UUID with a bucket.
macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Creates an id that is greater than earlier ones of its bucket.
            ///
            /// Rows that are created one after the other are therefore close together on disk.
            pub fn new(bucket: Bucket) -> Self {
                Self(bucket.uuid_from_v7(new_uuid()))
            }

            /// Returns the bucket of the rows that the id refers to.
            pub fn bucket(self) -> Bucket {
                Bucket::of_uuid(self.0)
            }
        }

        impl PrefixedId for $name {
            const PREFIX: &str = $prefix;

            fn to_bytes(&self) -> impl AsRef<[u8]> {
                self.0.into_bytes()
            }

            fn from_bytes(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().filter(|id| has_bucket(*id)).map(Self)
            }
        }
    };
}

uuid_id! {
    /// The id of a chat.
    ChatId, "chat_"
}
uuid_id! {
    /// The id of one user's notification.
    NotificationId, "notice_"
}
uuid_id! {
    /// The id of a report of a message.
    ReportId, "report_"
}

impl ChatId {
    /// Returns the id of the only chat of an organisation that has this key.
    ///
    /// The bits of its time are a part of a hash too, so such ids are in no order. The key has its kind first, so that
    /// keys of different kinds are different. Ids are stored: a kind keeps its name and the order of its parts.
    pub fn derive(organization: &OrganizationId, key: &[&[u8]]) -> Self {
        let parts = std::iter::once(organization.as_str().as_bytes()).chain(key.iter().copied());
        Self(organization.bucket().uuid_from_parts(parts))
    }
}

/// The id of an open feed of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallFeedId(pub Uuid);

impl CallFeedId {
    /// Creates an id that no other feed has.
    #[expect(clippy::new_without_default, reason = "each call returns a different id")]
    pub fn new() -> Self {
        Self(new_uuid())
    }
}

#[expect(clippy::disallowed_methods, reason = "all UUIDs are created here")]
fn new_uuid() -> Uuid {
    Uuid::now_v7()
}

/// Splits an id with a bucket from the bytes that follow it.
fn split_uuid(bytes: &[u8]) -> Option<(Uuid, &[u8])> {
    let (uuid, rest) = bytes.split_first_chunk()?;
    let uuid = Uuid::from_bytes(*uuid);
    has_bucket(uuid).then_some((uuid, rest))
}

fn user_from_bytes(bytes: &[u8]) -> Option<UserId> {
    str::from_utf8(bytes).ok()?.parse().ok()
}

/// A message's chat and its number there.
///
/// A reply stores only the number, so it can't refer to another chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageId {
    pub chat: ChatId,
    pub seq: i64,
}

impl MessageId {
    /// Returns the bucket of the chat.
    pub fn bucket(self) -> Bucket {
        self.chat.bucket()
    }
}

impl PrefixedId for MessageId {
    const PREFIX: &str = "msg_";

    fn to_bytes(&self) -> impl AsRef<[u8]> {
        [self.chat.0.as_bytes().as_slice(), &self.seq.to_be_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (chat, rest) = split_uuid(bytes)?;
        let seq = i64::from_be_bytes(rest.try_into().ok()?);
        // The first message of a chat has the number 1.
        (seq > 0).then_some(Self { chat: ChatId(chat), seq })
    }
}

/// An option of a message's poll, by its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OptionId {
    pub message: MessageId,
    pub index: u8,
}

impl PrefixedId for OptionId {
    const PREFIX: &str = "option_";

    fn to_bytes(&self) -> impl AsRef<[u8]> {
        let MessageId { chat, seq } = self.message;
        [chat.0.as_bytes().as_slice(), &seq.to_be_bytes(), &[self.index]].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (chat, rest) = split_uuid(bytes)?;
        let (seq, rest) = rest.split_first_chunk()?;
        let [index] = *rest else { return None };
        Some(Self { message: MessageId { chat: ChatId(chat), seq: i64::from_be_bytes(*seq) }, index })
    }
}

/// A call and its chat, whose members can see the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallId {
    pub chat: ChatId,
    pub call: Uuid,
}

impl CallId {
    /// Creates an id that is greater than earlier ones, as [`ChatId::new`] does.
    pub fn new(chat: ChatId) -> Self {
        Self { chat, call: chat.bucket().uuid_from_v7(new_uuid()) }
    }

    /// Returns the bucket of the chat.
    pub fn bucket(self) -> Bucket {
        self.chat.bucket()
    }

    fn split_from(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (chat, rest) = split_uuid(bytes)?;
        let (call, rest) = split_uuid(rest)?;
        Some((Self { chat: ChatId(chat), call }, rest))
    }
}

impl PrefixedId for CallId {
    const PREFIX: &str = "call_";

    fn to_bytes(&self) -> impl AsRef<[u8]> {
        [self.chat.0.into_bytes(), self.call.into_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (call, rest) = Self::split_from(bytes)?;
        rest.is_empty().then_some(call)
    }
}

/// A user in a call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParticipantId {
    pub call: CallId,
    pub user: UserId,
}

impl PrefixedId for ParticipantId {
    const PREFIX: &str = "participant_";

    fn to_bytes(&self) -> impl AsRef<[u8]> {
        [self.call.to_bytes().as_ref(), self.user.as_str().as_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (call, rest) = CallId::split_from(bytes)?;
        Some(Self { call, user: user_from_bytes(rest)? })
    }
}

/// One join of a participant in a call.
///
/// It is the connection of a device, until the user joins again or leaves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    pub participant: ParticipantId,
    /// The number of times that the participant had joined the call by then, 1 for the first.
    pub join: i32,
}

impl PrefixedId for ConnectionId {
    const PREFIX: &str = "connection_";

    fn to_bytes(&self) -> impl AsRef<[u8]> {
        let ParticipantId { call, user } = &self.participant;
        [call.to_bytes().as_ref(), &self.join.to_be_bytes(), user.as_str().as_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (call, rest) = CallId::split_from(bytes)?;
        let (join, rest) = rest.split_first_chunk()?;
        Some(Self {
            participant: ParticipantId { call, user: user_from_bytes(rest)? },
            join: i32::from_be_bytes(*join),
        })
    }
}

/// A user as a member of a chat.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId {
    pub chat: ChatId,
    pub user: UserId,
}

impl MemberId {
    /// Returns the bucket of the chat.
    pub fn bucket(&self) -> Bucket {
        self.chat.bucket()
    }
}

impl PrefixedId for MemberId {
    const PREFIX: &str = "member_";

    fn to_bytes(&self) -> impl AsRef<[u8]> {
        [self.chat.0.as_bytes().as_slice(), self.user.as_str().as_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (chat, rest) = split_uuid(bytes)?;
        Some(Self { chat: ChatId(chat), user: user_from_bytes(rest)? })
    }
}

/// An object that a global `ID` can refer to.
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
    /// Returns every object that an `ID` can refer to.
    ///
    /// The caller takes the first that exists.
    ///
    /// There can be several, because a user id of the host application may look like one of the server's ids.
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
            organization.and_then(|id| id.parse().ok()).map(Self::Organization),
            id.parse().map(Self::User).ok(),
        ]
        .into_iter()
        .flatten()
    }
}

/// Returns a new id for a request that has none, such as an operation on a WebSocket.
pub fn request_id() -> String {
    new_uuid().to_string()
}

/// Returns the name of this process among the nodes of the server, which differs at each start.
///
/// If a node kept its name, the connections of a process that died would count as those of its successor.
pub fn node_name(name: Option<&str>) -> String {
    let start = new_uuid();
    name.map_or_else(|| start.to_string(), |name| format!("{name} {start}"))
}

/// A client's name for an object that it creates, so that a repeated request creates it once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Nonce(Arc<str>);

impl Nonce {
    /// The maximum length of a nonce, in characters.
    pub const MAX_CHARS: usize = 128;

    /// Parses the argument `nonce`.
    ///
    /// # Errors
    ///
    /// Returns [`BadUserInput`](crate::error::Error::BadUserInput) if the text is not one line of 1 to
    /// [`MAX_CHARS`](Self::MAX_CHARS) characters.
    pub fn parse(nonce: &str) -> crate::error::Result<Self> {
        text::validate_line("nonce", nonce, Self::MAX_CHARS).map(|nonce| Self(nonce.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns a hash that is equal for equal content only.
///
/// It identifies the content of a request that is repeated with the same nonce.
///
/// # Panics
///
/// Panics if the content can't be written as JSON, which plain data always can.
pub fn fingerprint(content: &impl Serialize) -> Vec<u8> {
    let json = serde_json::to_vec(content).expect("content is plain data");
    Sha256::digest(json)[..16].to_vec()
}

#[cfg(test)]
mod tests;
