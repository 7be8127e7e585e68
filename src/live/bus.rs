//! How a commit on one node is told to all, and what nodes tell each other beside.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::hub::Hub;
use super::presence::PresenceWord;
use super::typing::TypingWord;
use crate::domain::changes::ChatEvent;
use crate::domain::ids::ChatId;

/// The way from a commit to the listeners: here, straight to those of this process.
///
/// What is published is a hint. It may be lost, doubled or late: a listener that sees a gap in a
/// chat's versions reads it from the database, and drops what it has.
#[derive(Debug, Clone)]
pub enum Bus {
    Local(Arc<Hub>),
}

/// What a node tells the others that no database has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    Typing(TypingWord),
    Presence(PresenceWord),
}

impl Bus {
    /// Tells of a commit, after it.
    pub fn publish(&self, event: ChatEvent) {
        match self {
            Self::Local(hub) => hub.deliver(event),
        }
    }

    /// Tells the other nodes, without waiting: it is called under locks. One that is alone has nobody to
    /// tell.
    pub fn say(&self, word: Word) {
        match self {
            Self::Local(_) => drop(word),
        }
    }

    /// Whether anybody listens to a chat.
    pub fn is_heard(&self, chat: ChatId) -> bool {
        match self {
            Self::Local(hub) => hub.is_heard(chat),
        }
    }
}
