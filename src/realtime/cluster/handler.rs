//! What this node does with what the others tell it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::domain::ids::{OrganizationId, UserId};
use crate::realtime::cluster::gap_repair::Mender;
use crate::realtime::cluster::publisher::{Bus, Spent, Word};
use crate::realtime::dispatch::hub::Hub;
use crate::realtime::presence::tracker::Presence;
use crate::realtime::typing::Typing;
use chrono::{DateTime, Utc};

/// Between two comparisons with the database, however many are asked for.
const PAUSE: Duration = Duration::from_millis(500);

/// What is heard by what lies above the live layer.
pub trait Above: Send + Sync {
    /// People did elsewhere what is limited.
    fn spent(&self, spent: &[Spent]);

    /// A person's tokens up to this moment hold no more.
    fn revoked(&self, organization: &OrganizationId, user: &UserId, before: DateTime<Utc>);
}

#[derive(Clone)]
pub struct Peers {
    pub bus: Bus,
    pub hub: Arc<Hub>,
    pub mender: Mender,
    pub typing: Typing,
    pub presence: Presence,
    pub above: Arc<dyn Above>,
    pub comparing: Arc<AtomicBool>,
}

impl Peers {
    /// Takes in what a node told.
    pub fn hear(&self, node: &str, word: Word) {
        match word {
            Word::Chat(event) => self.hub.deliver(event),
            Word::Typing(word) => self.typing.hear(&word),
            Word::Presence(word) => self.presence.hear(&word),
            Word::Spent(spent) => self.above.spent(&spent),
            Word::Revoked { organization, user, before } => self.above.revoked(&organization, &user, before),
            Word::Hello => self.presence.here().into_iter().for_each(|word| self.bus.say(word)),
            Word::Beat => {}
            Word::Bye => self.gone(node),
            Word::Compare => self.compare(),
        }
    }

    /// This node joined, anew or again: the others are to know who is here.
    pub fn joined(&self) {
        self.presence.here().into_iter().for_each(|word| self.bus.say(word));
        self.compare();
    }

    /// Compares with the database what is listened to here, once for all who ask meanwhile.
    pub fn compare(&self) {
        if self.comparing.swap(true, Ordering::AcqRel) {
            return;
        }
        let peers = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(PAUSE).await;
            // What is missed from here on asks again.
            peers.comparing.store(false, Ordering::Release);
            if let Err(error) = peers.mender.level().await {
                tracing::warn!(%error, "chats could not be compared with the database; trying again");
                peers.compare();
            }
        });
    }

    /// A node has gone, and those connected to it.
    pub fn gone(&self, node: &str) {
        tracing::info!(node, "a node has gone");
        self.presence.forget_node(node);
    }

    /// There are no nodes but these.
    pub fn only(&self, nodes: &HashSet<&str>) {
        self.presence.forget_others(nodes);
    }
}
