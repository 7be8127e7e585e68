//! Cursors of feeds: opaque positions from which a client resumes a subscription.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use chrono::{DateTime, Datelike, Utc};
use uuid::Uuid;

use crate::domain::ids::{CallId, ChatId, OrganizationId, UserId, fingerprint};

/// A number that identifies the history of a database since its creation or its last restore.
///
/// After a restore, versions and times that clients know belong to other changes. A cursor of another epoch is
/// therefore not valid, and its client loads everything again. Cursors of pages have no epoch: they are positions in an
/// order, which mean the same in every history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatabaseEpoch(pub i64);

impl DatabaseEpoch {
    /// Returns the rest of a cursor's bytes if they begin with this epoch.
    fn strip<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        bytes.strip_prefix(self.0.to_be_bytes().as_slice())
    }
}

/// A position in a chat's change log: the client has every change up to `version`.
///
/// A feed may start with a snapshot of the chat's messages in pages. Within it, `snapshot_version` is the version at
/// which the snapshot was taken: the client has the messages up to the number `version` as they were at that version,
/// and no later messages yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedCursor {
    pub epoch: DatabaseEpoch,
    pub chat: ChatId,
    pub version: i64,
    pub snapshot_version: Option<i64>,
    /// The time of the position.
    ///
    /// Unversioned updates since then are sent again.
    pub as_of: DateTime<Utc>,
}

impl FeedCursor {
    /// Returns the text form.
    pub fn encode(&self) -> String {
        let mut bytes = Vec::with_capacity(48);
        bytes.extend_from_slice(&self.epoch.0.to_be_bytes());
        bytes.extend_from_slice(self.chat.0.as_bytes());
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes.extend_from_slice(&self.as_of.timestamp_micros().to_be_bytes());
        if let Some(snapshot_version) = self.snapshot_version {
            bytes.extend_from_slice(&snapshot_version.to_be_bytes());
        }
        BASE64.encode(bytes)
    }

    /// Parses the text form.
    ///
    /// Returns `None` unless it is a cursor of this chat in this epoch.
    pub fn decode(cursor: &str, epoch: DatabaseEpoch, chat: ChatId) -> Option<Self> {
        let bytes = BASE64.decode(cursor).ok()?;
        let (id, rest) = epoch.strip(&bytes)?.split_first_chunk::<16>()?;
        let (version, rest) = rest.split_first_chunk::<8>()?;
        let (as_of, rest) = rest.split_first_chunk::<8>()?;
        let snapshot_version = match rest {
            [] => None,
            rest => Some(i64::from_be_bytes(rest.try_into().ok()?)),
        };
        let version = i64::from_be_bytes(*version);
        let is_valid = ChatId(Uuid::from_bytes(*id)) == chat
            && version >= 0
            && snapshot_version.is_none_or(|snapshot_version| snapshot_version >= version);
        let as_of = decode_timestamp(*as_of)?;
        is_valid.then_some(Self { epoch, chat, version, snapshot_version, as_of })
    }

    /// Returns whether a client at this cursor has the given version of the message with the number `seq`.
    pub fn covers(&self, seq: i64, version: i64) -> bool {
        let is_in_snapshot = |snapshot_version| seq <= self.version && version <= snapshot_version;
        version <= self.version || self.snapshot_version.is_some_and(is_in_snapshot)
    }
}

/// A position in the inbox of one user: the client has every change before `as_of`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxCursor {
    pub epoch: DatabaseEpoch,
    pub organization: OrganizationId,
    pub user: UserId,
    pub as_of: DateTime<Utc>,
}

impl InboxCursor {
    /// Returns the text form.
    pub fn encode(&self) -> String {
        let mut bytes = self.epoch.0.to_be_bytes().to_vec();
        bytes.extend(fingerprint(&(&self.organization, &self.user)));
        bytes.extend_from_slice(&self.as_of.timestamp_micros().to_be_bytes());
        BASE64.encode(bytes)
    }

    /// Parses the text form.
    ///
    /// Returns `None` unless it is a cursor of this user in this epoch.
    pub fn decode(cursor: &str, epoch: DatabaseEpoch, organization: &OrganizationId, user: &UserId) -> Option<Self> {
        let bytes = BASE64.decode(cursor).ok()?;
        let micros = epoch.strip(&bytes)?.strip_prefix(fingerprint(&(organization, user)).as_slice())?;
        let as_of = decode_timestamp(micros.try_into().ok()?)?;
        Some(Self { epoch, organization: organization.clone(), user: user.clone(), as_of })
    }
}

/// A position in the feed of a call: the client has everything up to `version`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallCursor {
    pub epoch: DatabaseEpoch,
    pub call: CallId,
    /// The participant whose signals the feed includes.
    ///
    /// A feed without one has no signals.
    pub participant: Option<UserId>,
    pub version: i64,
}

impl CallCursor {
    /// Returns the text form.
    pub fn encode(&self) -> String {
        let mut bytes = self.epoch.0.to_be_bytes().to_vec();
        bytes.extend(fingerprint(&(self.call, &self.participant)));
        bytes.extend_from_slice(&self.version.to_be_bytes());
        BASE64.encode(bytes)
    }

    /// Parses the text form.
    ///
    /// Returns `None` unless it is a cursor of this participant in this call, in this epoch.
    pub fn decode(cursor: &str, epoch: DatabaseEpoch, call: CallId, participant: Option<&UserId>) -> Option<Self> {
        let bytes = BASE64.decode(cursor).ok()?;
        let version = epoch.strip(&bytes)?.strip_prefix(fingerprint(&(call, participant)).as_slice())?;
        let version = i64::from_be_bytes(version.try_into().ok()?);
        (version >= 0).then(|| Self { epoch, call, participant: participant.cloned(), version })
    }
}

/// Decodes a time that both database engines can store.
fn decode_timestamp(micros: [u8; 8]) -> Option<DateTime<Utc>> {
    let time = DateTime::from_timestamp_micros(i64::from_be_bytes(micros));
    time.filter(|time| (1970..=9999).contains(&time.year()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::buckets::Bucket;

    const EPOCH: DatabaseEpoch = DatabaseEpoch(-7);
    const OTHER_EPOCH: DatabaseEpoch = DatabaseEpoch(7);

    fn new_chat_id() -> ChatId {
        ChatId::new(Bucket::new(7).unwrap())
    }

    #[test]
    fn feed_cursor_decodes_for_its_chat_only() {
        let chat = new_chat_id();
        let as_of = DateTime::from_timestamp(1_000_000, 0).unwrap();
        for snapshot_version in [None, Some(12)] {
            let cursor = FeedCursor { epoch: EPOCH, chat, version: 9, snapshot_version, as_of };
            assert_eq!(FeedCursor::decode(&cursor.encode(), EPOCH, chat), Some(cursor));
            assert_eq!(FeedCursor::decode(&cursor.encode(), EPOCH, new_chat_id()), None);
            assert_eq!(FeedCursor::decode(&cursor.encode(), OTHER_EPOCH, chat), None);
        }
        let invalid = FeedCursor { epoch: EPOCH, chat, version: 9, snapshot_version: Some(3), as_of };
        assert_eq!(FeedCursor::decode(&invalid.encode(), EPOCH, chat), None);
        assert_eq!(FeedCursor::decode("", EPOCH, chat), None);
    }

    #[test]
    fn inbox_cursor_decodes_for_its_user_only() {
        let organization: OrganizationId = "demo".parse().unwrap();
        let (alice, bob): (UserId, UserId) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let as_of = DateTime::from_timestamp(1_000_000, 0).unwrap();
        let cursor = InboxCursor { epoch: EPOCH, organization: organization.clone(), user: alice.clone(), as_of };
        let text = cursor.encode();
        assert_eq!(InboxCursor::decode(&text, EPOCH, &organization, &alice), Some(cursor));
        assert_eq!(InboxCursor::decode(&text, OTHER_EPOCH, &organization, &alice), None);
        assert_eq!(InboxCursor::decode(&text, EPOCH, &organization, &bob), None);
        assert_eq!(InboxCursor::decode(&text, EPOCH, &"other".parse().unwrap(), &alice), None);
        assert_eq!(InboxCursor::decode(&text[..30], EPOCH, &organization, &alice), None);
        assert_eq!(InboxCursor::decode("", EPOCH, &organization, &alice), None);
        let before_epoch = InboxCursor {
            epoch: EPOCH,
            as_of: DateTime::<Utc>::MIN_UTC,
            organization: organization.clone(),
            user: alice.clone(),
        };
        assert_eq!(InboxCursor::decode(&before_epoch.encode(), EPOCH, &organization, &alice), None);
    }

    #[test]
    fn call_cursor_decodes_for_its_participant_only() {
        let call = CallId::new(new_chat_id());
        let (alice, bob): (UserId, UserId) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let cursor = CallCursor { epoch: EPOCH, call, participant: Some(alice.clone()), version: 9 };
        let text = cursor.encode();
        assert_eq!(CallCursor::decode(&text, EPOCH, call, Some(&alice)), Some(cursor));
        assert_eq!(CallCursor::decode(&text, OTHER_EPOCH, call, Some(&alice)), None);
        assert_eq!(CallCursor::decode(&text, EPOCH, call, Some(&bob)), None);
        assert_eq!(CallCursor::decode(&text, EPOCH, call, None), None);
        assert_eq!(CallCursor::decode(&text, EPOCH, CallId::new(call.chat), Some(&alice)), None);
        let invalid = CallCursor { epoch: EPOCH, call, participant: None, version: -1 };
        assert_eq!(CallCursor::decode(&invalid.encode(), EPOCH, call, None), None);
    }

    #[test]
    fn cursor_within_snapshot_covers_messages_already_sent() {
        let cursor = FeedCursor {
            epoch: EPOCH,
            chat: new_chat_id(),
            version: 5,
            snapshot_version: Some(20),
            as_of: DateTime::UNIX_EPOCH,
        };
        assert!(cursor.covers(5, 18), "sent with the snapshot");
        assert!(!cursor.covers(5, 21), "changed since the snapshot");
        assert!(!cursor.covers(6, 6), "not sent yet");
    }
}
