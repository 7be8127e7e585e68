//! Where a subscriber stands: in a chat's log, or in what concerns a person.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use chrono::{DateTime, Datelike, Utc};
use uuid::Uuid;

use crate::domain::ids::{CallId, ChatId, OrganizationId, UserId, fingerprint};

/// A place in one chat's log: every change up to `version` is known.
///
/// Within the snapshot that a feed may begin with, `snapshot` is the version that it was taken at:
/// what lies up to `version` in the chat's order is known as it was then, later messages aren't yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedCursor {
    pub chat: ChatId,
    pub version: i64,
    pub snapshot_version: Option<i64>,
    /// When this was so: read positions that moved since take no version, and are sent again.
    pub as_of: DateTime<Utc>,
}

impl FeedCursor {
    pub fn encode(&self) -> String {
        let mut bytes = Vec::with_capacity(40);
        bytes.extend_from_slice(self.chat.0.as_bytes());
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes.extend_from_slice(&self.as_of.timestamp_micros().to_be_bytes());
        if let Some(snapshot) = self.snapshot_version {
            bytes.extend_from_slice(&snapshot.to_be_bytes());
        }
        BASE64.encode(bytes)
    }

    /// None for what is no cursor of this chat.
    pub fn decode(cursor: &str, chat: ChatId) -> Option<Self> {
        let bytes = BASE64.decode(cursor).ok()?;
        let (id, rest) = bytes.split_first_chunk::<16>()?;
        let (version, rest) = rest.split_first_chunk::<8>()?;
        let (at, rest) = rest.split_first_chunk::<8>()?;
        let snapshot = match rest {
            [] => None,
            rest => Some(i64::from_be_bytes(rest.try_into().ok()?)),
        };
        let at = decode_timestamp(*at)?;
        let version = i64::from_be_bytes(*version);
        let cursor = Self { chat: ChatId(Uuid::from_bytes(*id)), version, snapshot_version: snapshot, as_of: at };
        let sound = cursor.chat == chat && cursor.version >= 0 && snapshot.is_none_or(|at| at >= cursor.version);
        sound.then_some(cursor)
    }

    /// Whether a client at this cursor already holds a message as it is at this seq and version.
    pub fn covers(&self, seq: i64, version: i64) -> bool {
        version <= self.version || (seq <= self.version && self.snapshot_version.is_some_and(|at| version <= at))
    }
}

/// A place in all that concerns one person: what changed before a moment is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxCursor {
    pub organization: OrganizationId,
    pub user: UserId,
    pub as_of: DateTime<Utc>,
}

impl InboxCursor {
    pub fn encode(&self) -> String {
        let mut bytes = fingerprint(&(&self.organization, &self.user));
        bytes.extend_from_slice(&self.as_of.timestamp_micros().to_be_bytes());
        BASE64.encode(bytes)
    }

    /// None for what is no cursor of this person.
    pub fn decode(cursor: &str, organization: &OrganizationId, user: &UserId) -> Option<Self> {
        let bytes = BASE64.decode(cursor).ok()?;
        let at = bytes.strip_prefix(fingerprint(&(organization, user)).as_slice())?;
        let at = decode_timestamp(at.try_into().ok()?)?;
        Some(Self { organization: organization.clone(), user: user.clone(), as_of: at })
    }
}

/// A place in one call, as one participant sees it or as all of the chat do: what happened up to `version`
/// is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallCursor {
    pub call: CallId,
    /// Whose signals it counts.
    pub participant: Option<UserId>,
    pub version: i64,
}

impl CallCursor {
    pub fn encode(&self) -> String {
        let mut bytes = fingerprint(&(self.call, &self.participant));
        bytes.extend_from_slice(&self.version.to_be_bytes());
        BASE64.encode(bytes)
    }

    /// None for what is no cursor of this participant in this call.
    pub fn decode(cursor: &str, call: CallId, participant: Option<&UserId>) -> Option<Self> {
        let bytes = BASE64.decode(cursor).ok()?;
        let version = bytes.strip_prefix(fingerprint(&(call, participant)).as_slice())?;
        let version = i64::from_be_bytes(version.try_into().ok()?);
        (version >= 0).then(|| Self { call, participant: participant.cloned(), version })
    }
}

fn decode_timestamp(micros: [u8; 8]) -> Option<DateTime<Utc>> {
    let at = DateTime::from_timestamp_micros(i64::from_be_bytes(micros));
    at.filter(|at| (1970..=9999).contains(&at.year()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_belongs_to_its_chat() {
        let chat = ChatId::new();
        let at = DateTime::from_timestamp(1_000_000, 0).unwrap();
        for snapshot in [None, Some(12)] {
            let cursor = FeedCursor { chat, version: 9, snapshot_version: snapshot, as_of: at };
            assert_eq!(FeedCursor::decode(&cursor.encode(), chat), Some(cursor));
            assert_eq!(FeedCursor::decode(&cursor.encode(), ChatId::new()), None);
        }
        let backwards = FeedCursor { chat, version: 9, snapshot_version: Some(3), as_of: at };
        assert_eq!(FeedCursor::decode(&backwards.encode(), chat), None);
        assert_eq!(FeedCursor::decode("", chat), None);
    }

    #[test]
    fn an_inbox_cursor_belongs_to_its_person() {
        let organization: OrganizationId = "demo".parse().unwrap();
        let (alice, bob): (UserId, UserId) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let at = DateTime::from_timestamp(1_000_000, 0).unwrap();
        let cursor = InboxCursor { organization: organization.clone(), user: alice.clone(), as_of: at };
        let text = cursor.encode();
        assert_eq!(InboxCursor::decode(&text, &organization, &alice), Some(cursor));
        assert_eq!(InboxCursor::decode(&text, &organization, &bob), None);
        assert_eq!(InboxCursor::decode(&text, &"other".parse().unwrap(), &alice), None);
        assert_eq!(InboxCursor::decode(&text[..30], &organization, &alice), None);
        assert_eq!(InboxCursor::decode("", &organization, &alice), None);
        let never =
            InboxCursor { as_of: DateTime::<Utc>::MIN_UTC, organization: organization.clone(), user: alice.clone() };
        assert_eq!(InboxCursor::decode(&never.encode(), &organization, &alice), None);
    }

    #[test]
    fn a_cursor_of_a_call_belongs_to_its_participant() {
        let call = CallId::new(ChatId::new());
        let (alice, bob): (UserId, UserId) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let cursor = CallCursor { call, participant: Some(alice.clone()), version: 9 };
        let text = cursor.encode();
        assert_eq!(CallCursor::decode(&text, call, Some(&alice)), Some(cursor));
        assert_eq!(CallCursor::decode(&text, call, Some(&bob)), None);
        assert_eq!(CallCursor::decode(&text, call, None), None);
        assert_eq!(CallCursor::decode(&text, CallId::new(call.chat), Some(&alice)), None);
        let backwards = CallCursor { call, participant: None, version: -1 };
        assert_eq!(CallCursor::decode(&backwards.encode(), call, None), None);
    }

    #[test]
    fn within_a_snapshot_what_was_sent_is_covered_and_the_rest_is_not() {
        let cursor =
            FeedCursor { chat: ChatId::new(), version: 5, snapshot_version: Some(20), as_of: DateTime::UNIX_EPOCH };
        assert!(cursor.covers(5, 18), "sent in the snapshot, as it was then");
        assert!(!cursor.covers(5, 21), "changed since the snapshot");
        assert!(!cursor.covers(6, 6), "the snapshot's next message");
    }
}
