//! Messages and their life.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};
use unicode_segmentation::UnicodeSegmentation;

use crate::domain::ids::{CallId, ChatId, MessageId, Nonce, UserId, fingerprint};
use crate::domain::polls::Poll;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumIter, EnumString, IntoStaticStr, Serialize, Deserialize)]
#[strum(serialize_all = "snake_case")]
pub enum MessageKind {
    Text,
    /// A text of emoji alone.
    Emoji,
    Location,
    Poll,
    /// What happened to the chat, told by the server.
    System,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub id: MessageId,
    /// The chat's version at the message's last change.
    pub version: i64,
    pub kind: MessageKind,
    pub sender: Option<UserId>,
    pub nonce: Option<Nonce>,
    /// None once deleted.
    pub text: Option<String>,
    /// What is no text; none once deleted.
    pub content: Content,
    pub reply_to_seq: Option<i64>,
    pub thread_root_seq: Option<i64>,
    /// Whether it stands among the chat's messages, and not in its thread alone.
    pub in_timeline: bool,
    /// Messages of its thread that are not deleted.
    pub reply_count: i32,
    pub mentions_everyone: bool,
    pub pinned: Option<Pinned>,
    pub created_at: DateTime<Utc>,
    pub edited_at: Option<DateTime<Utc>>,
    pub deleted_at: Option<DateTime<Utc>>,
    /// What was first sent, so that a repeated send is known though the message was edited since.
    pub fingerprint: Option<Vec<u8>>,
}

/// When and by whom a message was pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    #[serde(rename = "at")]
    pub pinned_at: DateTime<Utc>,
    #[serde(rename = "by")]
    pub pinned_by: UserId,
}

/// What a message holds beside its text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Content {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poll: Option<Poll>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_message: Option<SystemMessage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarded: Option<Forwarded>,
}

/// A place on the earth, in degrees of WGS 84.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Location {
    pub latitude: f64,
    pub longitude: f64,
    pub name: Option<String>,
    pub address: Option<String>,
}

impl Location {
    /// Longest name and address, in characters.
    pub const MAX_TEXT_CHARS: usize = 500;
}

/// Where a forwarded message comes from, as it was then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarded {
    pub sender: Option<UserId>,
    pub chat_title: Option<String>,
    pub sent_at: DateTime<Utc>,
}

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

/// What happened to a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemMessage {
    pub kind: SystemMessageKind,
    /// Who did it.
    pub actor: Option<UserId>,
    /// To whom.
    pub subject: Option<UserId>,
    pub detail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<CallId>,
}

impl Message {
    /// What the server tells of a chat.
    pub fn system(id: MessageId, notice: SystemMessage, now: DateTime<Utc>) -> Self {
        Self {
            id,
            version: id.seq,
            kind: MessageKind::System,
            sender: None,
            nonce: None,
            text: None,
            content: Content { system_message: Some(notice), ..Content::default() },
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

    /// Whether it is as it was made: neither edited nor reacted to, nor anything else.
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

    /// Leaves its place, and nothing of what it said.
    pub fn tombstone(&mut self, now: DateTime<Utc>) {
        self.text = None;
        self.content = Content::default();
        self.pinned = None;
        self.mentions_everyone = false;
        self.deleted_at = Some(now);
    }
}

/// The kind of a message of this text and content.
pub fn message_kind(text: Option<&str>, content: &Content) -> MessageKind {
    match text {
        _ if content.poll.is_some() => MessageKind::Poll,
        _ if content.location.is_some() => MessageKind::Location,
        Some(text) if is_emoji_only(text) => MessageKind::Emoji,
        _ => MessageKind::Text,
    }
}

/// Whether a text has emoji, and nothing else but space between them.
pub fn is_emoji_only(text: &str) -> bool {
    let mut graphemes = text.graphemes(true).filter(|grapheme| !grapheme.trim().is_empty()).peekable();
    graphemes.peek().is_some() && graphemes.all(|grapheme| emojis::get(grapheme).is_some())
}

/// A text that an edit replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    pub text: String,
    /// When the text was replaced.
    pub edited_at: DateTime<Utc>,
}

/// People that one message may mention.
pub const MAX_MENTIONS: usize = 100;

/// What a message is made of, checked but not yet authorised.
#[derive(Debug, Clone)]
pub struct MessageDraft {
    pub chat: ChatId,
    pub nonce: Option<Nonce>,
    pub body: DraftBody,
    pub reply_to_seq: Option<i64>,
    pub thread_root_seq: Option<i64>,
    /// A message of a thread that stands among the chat's messages too.
    pub also_in_chat: bool,
    pub mentions: Vec<UserId>,
    pub mentions_everyone: bool,
}

/// What a draft says.
#[derive(Debug, Clone)]
pub enum DraftBody {
    New {
        text: Option<String>,
        content: Box<Content>,
    },
    /// What another message says at the moment of sending.
    Forward(MessageId),
}

impl DraftBody {
    pub fn text(text: impl Into<String>) -> Self {
        Self::New { text: Some(text.into()), content: Box::default() }
    }
}

impl MessageDraft {
    /// A draft that says this and nothing else.
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

    /// Whether it stands among the chat's messages.
    pub fn is_in_timeline(&self) -> bool {
        self.thread_root_seq.is_none() || self.also_in_chat
    }

    pub fn fingerprint(&self) -> Vec<u8> {
        let places = (self.reply_to_seq, self.thread_root_seq, self.also_in_chat);
        let mentions = (&self.mentions, self.mentions_everyone);
        match &self.body {
            DraftBody::New { text, content } => fingerprint(&(places, mentions, text, content)),
            DraftBody::Forward(source) => fingerprint(&(places, mentions, source.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emoji_alone_are_an_emoji_message() {
        for emoji in ["👍", "👍👍🏽 🎉", "❤", "👩‍👩‍👧\n🏳️‍🌈", "1️⃣"] {
            assert!(is_emoji_only(emoji), "{emoji}");
        }
        for text in ["", " ", "1", "a👍", "👍.", "#", "©x"] {
            assert!(!is_emoji_only(text), "{text}");
        }
    }
}
