//! How a commit on one node is told to all.

use std::sync::Arc;

use super::hub::Hub;
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

impl Bus {
    /// Tells of a commit, after it.
    pub fn publish(&self, event: ChatEvent) {
        match self {
            Self::Local(hub) => hub.deliver(event),
        }
    }

    /// Whether anybody listens to a chat.
    pub fn is_heard(&self, chat: ChatId) -> bool {
        match self {
            Self::Local(hub) => hub.is_heard(chat),
        }
    }
}
