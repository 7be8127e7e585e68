//! Messages and their life.

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use strum::{EnumString, IntoStaticStr};

use super::ids::{ChatId, MessageId, Nonce, UserId};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum MessageKind {
    Text,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub id: MessageId,
    /// The chat's version at the message's last change.
    pub version: i64,
    pub kind: MessageKind,
    pub sender: Option<UserId>,
    pub nonce: Option<Nonce>,
    /// None once deleted.
    pub text: Option<String>,
    pub reply_to_seq: Option<i64>,
    pub created_at: DateTime<Utc>,
    pub edited_at: Option<DateTime<Utc>>,
    pub deleted_at: Option<DateTime<Utc>>,
    /// What was first sent, so that a repeated send is known though the message was edited since.
    pub fingerprint: Option<Vec<u8>>,
}

impl Message {
    pub fn is_sent_by(&self, user: &UserId) -> bool {
        self.sender.as_ref() == Some(user)
    }

    pub fn reply_to(&self) -> Option<MessageId> {
        self.reply_to_seq.map(|seq| MessageId { chat: self.id.chat, seq })
    }
}

/// A text that an edit replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    pub text: String,
    /// When the text was replaced.
    pub edited_at: DateTime<Utc>,
}

/// What a message is made of, checked but not yet authorised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageDraft {
    pub chat: ChatId,
    pub nonce: Option<Nonce>,
    pub text: String,
    pub reply_to_seq: Option<i64>,
}

impl MessageDraft {
    /// Equal for equal content, and for no other.
    pub fn fingerprint(&self) -> Vec<u8> {
        let mut hash = Sha256::new();
        hash.update(self.reply_to_seq.unwrap_or_default().to_be_bytes());
        hash.update(self.text.as_bytes());
        hash.finalize()[..16].to_vec()
    }
}
