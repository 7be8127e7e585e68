//! How a commit on one node is told to all, and what nodes tell each other beside.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::chat_events::ChatEvent;
use crate::domain::ids::{ChatId, OrganizationId, UserId};
use crate::realtime::cluster::redis::Outgoing;
use crate::realtime::dispatch::hub::Hub;
use crate::realtime::presence::tracker::PresenceWord;
use crate::realtime::typing::TypingWord;

/// The way from a commit to the listeners: straight to those of this process, and through Redis to
/// those of the others, where there are others.
///
/// What is published is a hint. It may be lost, doubled or late: a listener that sees a gap in a
/// chat's versions reads it from the database, and drops what it has.
#[derive(Debug, Clone)]
pub struct Bus {
    hub: Arc<Hub>,
    others: Option<Outgoing>,
}

/// What a node tells the others.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Word {
    Chat(ChatEvent),
    Typing(TypingWord),
    Presence(PresenceWord),
    /// People did what is limited, so many times of each kind.
    Spent(Vec<Spent>),
    /// A person's tokens made up to this moment hold no more.
    Revoked {
        organization: OrganizationId,
        user: UserId,
        before: DateTime<Utc>,
    },
    /// This node has just joined, and knows not who is there.
    Hello,
    /// This node is there.
    Beat,
    /// This node goes.
    Bye,
    /// Something was not told: compare with the database.
    Compare,
}

/// What a person did that is limited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    pub organization: OrganizationId,
    pub user: UserId,
    /// The limit's name.
    pub limit: String,
    pub times: u32,
}

impl Bus {
    pub fn new(hub: Arc<Hub>, others: Option<Outgoing>) -> Self {
        Self { hub, others }
    }

    /// Tells of a commit, after it.
    pub fn publish(&self, event: ChatEvent) {
        if let Some(others) = &self.others {
            others.say(Word::Chat(event.clone()));
        }
        self.hub.deliver(event);
    }

    /// Tells the other nodes, without waiting: it is called under locks. One that is alone has nobody to
    /// tell.
    pub fn say(&self, word: Word) {
        if let Some(others) = &self.others {
            others.say(word);
        }
    }

    /// Tells the other nodes that this one goes.
    pub async fn leave(&self) {
        if let Some(others) = &self.others {
            others.leave().await;
        }
    }

    /// Whether anybody may listen to a chat: of the others nobody knows.
    pub fn is_heard(&self, chat: ChatId) -> bool {
        self.others.is_some() || self.hub.is_heard(chat)
    }

    /// Whether there may be other nodes.
    pub fn has_others(&self) -> bool {
        self.others.is_some()
    }

    /// Whether the other nodes hear what is told; none where there are no others.
    pub fn is_connected(&self) -> Option<bool> {
        self.others.as_ref().map(Outgoing::is_connected)
    }
}
