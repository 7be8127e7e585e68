//! Messages, their content, and drafts of new messages.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};
use unicode_segmentation::UnicodeSegmentation;

use crate::domain::ids::{CallId, ChatId, MessageId, Nonce, UserId, fingerprint};
use crate::domain::polls::Poll;
use crate::domain::text;
use crate::error::{Error, Result};

/// The number of bytes of a fingerprint, which every message with a nonce stores.
const FINGERPRINT_BYTES: usize = 8;

/// The kind of a message, which follows from its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumIter, EnumString, IntoStaticStr, Serialize, Deserialize)]
#[strum(serialize_all = "snake_case")]
pub enum MessageKind {
    Text,
    /// A text that consists of emoji only.
    Emoji,
    Location,
    Poll,
    /// A message of the server about an event in the chat.
    System,
}

/// A message of a chat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub id: MessageId,
    /// The chat's version at the message's last change.
    pub version: i64,
    pub kind: MessageKind,
    pub sender: Option<UserId>,
    pub nonce: Option<Nonce>,
    /// The text.
    ///
    /// `None` once the message is deleted.
    pub text: Option<String>,
    /// The content besides the text.
    ///
    /// Empty once the message is deleted.
    pub content: Content,
    pub reply_to_seq: Option<i64>,
    pub thread_root_seq: Option<i64>,
    /// True if the chat shows the message, and not only its thread.
    pub in_timeline: bool,
    /// The number of messages in the thread of this message that are not deleted.
    pub reply_count: i32,
    pub mentions_everyone: bool,
    pub pinned: Option<Pinned>,
    pub created_at: DateTime<Utc>,
    pub edited_at: Option<DateTime<Utc>>,
    pub deleted_at: Option<DateTime<Utc>>,
    /// The fingerprint of the original draft.
    ///
    /// It identifies a repeated send even after the message was edited.
    pub fingerprint: Option<Vec<u8>>,
}

/// The pin of a message, with its user and time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    #[serde(rename = "at")]
    pub pinned_at: DateTime<Utc>,
    #[serde(rename = "by")]
    pub pinned_by: UserId,
}

/// The content of a message besides its text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Content {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poll: Option<Poll>,
    #[serde(rename = "notice", skip_serializing_if = "Option::is_none")]
    pub system_message: Option<SystemMessage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarded: Option<Forwarded>,
}

/// A location in degrees of WGS 84.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Location {
    pub latitude: f64,
    pub longitude: f64,
    pub name: Option<String>,
    pub address: Option<String>,
}

impl Location {
    /// The maximum length of the name and of the address, in characters.
    pub const MAX_TEXT_CHARS: usize = 500;

    /// Returns the location of a new message, with blank texts removed.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadUserInput`] if a coordinate is out of range or a text is not one line of at most
    /// [`Self::MAX_TEXT_CHARS`] characters.
    pub fn checked(self) -> Result<Self> {
        let within = |field, degrees: f64, limit: f64| match degrees.abs() <= limit {
            true => Ok(degrees),
            false => Err(Error::bad_input(field, format!("must be from -{limit} to {limit}"))),
        };
        let line =
            |field, line: Option<String>| text::validate_optional_line(field, line.as_deref(), Self::MAX_TEXT_CHARS);
        Ok(Self {
            latitude: within("location.latitude", self.latitude, 90.0)?,
            longitude: within("location.longitude", self.longitude, 180.0)?,
            name: line("location.name", self.name)?,
            address: line("location.address", self.address)?,
        })
    }
}

/// The origin of a forwarded message, as it was when the message was forwarded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarded {
    pub sender: Option<UserId>,
    pub chat_title: Option<String>,
    pub sent_at: DateTime<Utc>,
}

/// The event that a system message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SystemMessageKind {
    ChatCreated,
    MemberAdded,
    MemberRemoved,
    MemberLeft,
    RoleChanged,
    DetailsChanged,
    MessagePinned,
    Welcome,
    CallStarted,
    CallEnded,
    CallMissed,
}

impl SystemMessageKind {
    /// Returns whether the event began or ended a membership.
    fn is_about_membership(self) -> bool {
        matches!(self, Self::MemberAdded | Self::MemberRemoved | Self::MemberLeft)
    }
}

/// The time in which a user who joins and leaves again changes the last system message about it.
pub const MEMBERSHIP_NOTICE_PERIOD: TimeDelta = TimeDelta::minutes(10);

/// The content of a system message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemMessage {
    pub kind: SystemMessageKind,
    /// The user who caused the event.
    pub actor: Option<UserId>,
    /// The user to whom the event happened.
    pub subject: Option<UserId>,
    pub detail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<CallId>,
    /// The API's names of the details that changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed_fields: Vec<String>,
}

impl SystemMessage {
    /// The maximum number of `changed_fields`, as many as a chat has details.
    pub const MAX_CHANGED_FIELDS: usize = 8;

    /// Returns the content of a system message that names nobody and nothing.
    pub fn new(kind: SystemMessageKind) -> Self {
        Self { kind, actor: None, subject: None, detail: None, call: None, changed_fields: Vec::new() }
    }
}

impl Message {
    /// Returns a new system message.
    pub fn system(id: MessageId, system_message: SystemMessage, now: DateTime<Utc>) -> Self {
        Self {
            id,
            version: id.seq,
            kind: MessageKind::System,
            sender: None,
            nonce: None,
            text: None,
            content: Content { system_message: Some(system_message), ..Content::default() },
            reply_to_seq: None,
            thread_root_seq: None,
            in_timeline: true,
            reply_count: 0,
            mentions_everyone: false,
            pinned: None,
            created_at: now,
            edited_at: None,
            deleted_at: None,
            fingerprint: None,
        }
    }

    /// Returns whether the message has not changed in any way since it was sent.
    pub fn is_unchanged(&self) -> bool {
        self.version == self.id.seq
    }

    pub fn is_sent_by(&self, user: &UserId) -> bool {
        self.sender.as_ref() == Some(user)
    }

    pub fn is_deleted(&self) -> bool {
        self.deleted_at.is_some()
    }

    pub fn reply_to(&self) -> Option<MessageId> {
        self.reply_to_seq.map(|seq| MessageId { chat: self.id.chat, seq })
    }

    pub fn thread_root(&self) -> Option<MessageId> {
        self.thread_root_seq.map(|seq| MessageId { chat: self.id.chat, seq })
    }

    /// Returns whether two messages are in the same list, so that one sender has read both.
    ///
    /// A list is the timeline or a thread.
    pub fn shares_list_with(&self, earlier: &Self) -> bool {
        let is_same_thread = self.thread_root_seq.is_some() && self.thread_root_seq == earlier.thread_root_seq;
        is_same_thread || (self.in_timeline && earlier.in_timeline)
    }

    /// Returns whether a new change of a user's membership replaces this message.
    ///
    /// A change replaces a recent message about a departure of the user, and one that a change has replaced before:
    /// whoever joins and leaves all the time causes two messages in each period. Otherwise it adds another message.
    pub fn is_replaced_by_change_of(&self, user: &UserId, now: DateTime<Utc>) -> bool {
        let Some(SystemMessage { kind, subject: Some(subject), .. }) = &self.content.system_message else {
            return false;
        };
        kind.is_about_membership()
            && subject == user
            && now < self.created_at + MEMBERSHIP_NOTICE_PERIOD
            && (*kind != SystemMessageKind::MemberAdded || !self.is_unchanged())
    }

    /// Deletes the message, which keeps its number and loses its content.
    pub fn tombstone(&mut self, now: DateTime<Utc>) {
        self.text = None;
        self.content = Content::default();
        self.pinned = None;
        self.mentions_everyone = false;
        self.deleted_at = Some(now);
    }
}

/// Returns the kind of a message with this text and content.
pub fn message_kind(text: Option<&str>, content: &Content) -> MessageKind {
    match text {
        _ if content.poll.is_some() => MessageKind::Poll,
        _ if content.location.is_some() => MessageKind::Location,
        Some(text) if is_emoji_only(text) => MessageKind::Emoji,
        _ => MessageKind::Text,
    }
}

/// Returns whether a text consists of emoji, with only whitespace between them.
pub fn is_emoji_only(text: &str) -> bool {
    let mut graphemes = text.graphemes(true).filter(|grapheme| !grapheme.trim().is_empty()).peekable();
    graphemes.peek().is_some() && graphemes.all(|grapheme| emojis::get(grapheme).is_some())
}

/// The maximum number of users that one message can mention.
pub const MAX_MENTIONS: usize = 100;

/// Returns the users to mention, sorted and each once.
///
/// # Errors
///
/// Returns [`Error::BadUserInput`] if there are more than [`MAX_MENTIONS`].
pub fn checked_mentions(mut users: Vec<UserId>) -> Result<Vec<UserId>> {
    users.sort();
    users.dedup();
    match users.len() <= MAX_MENTIONS {
        true => Ok(users),
        false => Err(Error::bad_input("mentionIds", format!("must have at most {MAX_MENTIONS} users"))),
    }
}

/// A message to be sent, checked but not yet authorised.
#[derive(Debug, Clone)]
pub struct MessageDraft {
    pub chat: ChatId,
    pub nonce: Option<Nonce>,
    pub body: DraftBody,
    pub reply_to_seq: Option<i64>,
    pub thread_root_seq: Option<i64>,
    /// True if the chat shows a message of a thread too.
    pub also_in_chat: bool,
    pub mentions: Vec<UserId>,
    pub mentions_everyone: bool,
}

/// The content of a draft.
#[derive(Debug, Clone)]
pub enum DraftBody {
    New {
        text: Option<String>,
        content: Box<Content>,
    },
    /// The content that another message has at the time of sending.
    Forward(MessageId),
}

impl DraftBody {
    /// Returns the body of a message that is only a text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::New { text: Some(text.into()), content: Box::default() }
    }

    /// Returns the body of a new message with a text, a location or a poll.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadUserInput`] if all three are missing, or if there is both a location and a poll.
    pub fn checked(text: Option<String>, location: Option<Location>, poll: Option<Poll>) -> Result<Self> {
        if text.is_none() && location.is_none() && poll.is_none() {
            return Err(Error::bad_input("text", "is required if there is neither a location nor a poll"));
        }
        if location.is_some() && poll.is_some() {
            return Err(Error::bad_input("poll", "cannot be combined with a location"));
        }
        Ok(Self::New { text, content: Box::new(Content { location, poll, ..Content::default() }) })
    }
}

impl MessageDraft {
    /// Returns a draft with this body and nothing else.
    pub fn new(chat: ChatId, body: DraftBody) -> Self {
        Self {
            chat,
            nonce: None,
            body,
            reply_to_seq: None,
            thread_root_seq: None,
            also_in_chat: false,
            mentions: Vec::new(),
            mentions_everyone: false,
        }
    }

    /// Returns the draft with sorted and unique mentions if it follows the rules that need no other data.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadUserInput`] if `also_in_chat` is set outside a thread, or if the draft mentions more than
    /// [`MAX_MENTIONS`] users.
    pub fn checked(mut self) -> Result<Self> {
        if self.also_in_chat && self.thread_root_seq.is_none() {
            return Err(Error::bad_input("alsoInChat", "is only allowed for replies in a thread"));
        }
        self.mentions = checked_mentions(self.mentions)?;
        Ok(self)
    }

    /// Returns the text that the sender wrote, unlike that of a forwarded message.
    pub fn typed_text(&self) -> Option<&str> {
        match &self.body {
            DraftBody::New { text, .. } => text.as_deref(),
            DraftBody::Forward(_) => None,
        }
    }

    /// Returns the message whose thread the message will belong to.
    pub fn thread_root(&self) -> Option<MessageId> {
        self.thread_root_seq.map(|seq| MessageId { chat: self.chat, seq })
    }

    /// Returns whether the chat shows the message, and not only its thread.
    pub fn is_in_timeline(&self) -> bool {
        self.thread_root_seq.is_none() || self.also_in_chat
    }

    /// Returns a hash of the draft's content, which identifies a repeated send with the same nonce.
    pub fn fingerprint(&self) -> Vec<u8> {
        let targets = (self.reply_to_seq, self.thread_root_seq, self.also_in_chat);
        let mentions = (&self.mentions, self.mentions_everyone);
        let mut hash = match &self.body {
            DraftBody::New { text, content } => fingerprint(&(targets, mentions, text, content)),
            DraftBody::Forward(source) => fingerprint(&(targets, mentions, source.to_string())),
        };
        hash.truncate(FINGERPRINT_BYTES);
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_emoji_only_when_it_has_nothing_else() {
        for emoji in ["👍", "👍👍🏽 🎉", "❤", "👩‍👩‍👧\n🏳️‍🌈", "1️⃣"] {
            assert!(is_emoji_only(emoji), "{emoji}");
        }
        for text in ["", " ", "1", "a👍", "👍.", "#", "©x"] {
            assert!(!is_emoji_only(text), "{text}");
        }
    }

    #[test]
    fn repeated_joining_and_leaving_replaces_the_last_notice() {
        let (alice, bob): (UserId, UserId) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        let notice = |kind, version| {
            let content = SystemMessage { subject: Some(bob.clone()), ..SystemMessage::new(kind) };
            let id = MessageId { chat: ChatId(uuid::Uuid::nil()), seq: 7 };
            Message { version, ..Message::system(id, content, at(0)) }
        };
        for kind in [SystemMessageKind::MemberLeft, SystemMessageKind::MemberRemoved] {
            assert!(notice(kind, 7).is_replaced_by_change_of(&bob, at(599)));
            assert!(!notice(kind, 7).is_replaced_by_change_of(&bob, at(600)), "the period is over");
            assert!(!notice(kind, 7).is_replaced_by_change_of(&alice, at(1)));
        }
        assert!(!notice(SystemMessageKind::MemberAdded, 7).is_replaced_by_change_of(&bob, at(1)));
        assert!(notice(SystemMessageKind::MemberAdded, 9).is_replaced_by_change_of(&bob, at(1)));
        assert!(!notice(SystemMessageKind::RoleChanged, 9).is_replaced_by_change_of(&bob, at(1)));
    }
}
