//! What a committed transaction changed in a chat.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use serde::{Deserialize, Serialize};

use crate::domain::chats::Chat;
use crate::domain::ids::{CallId, ChatId, OrganizationId, UserId};
use crate::domain::members::Member;
use crate::domain::messages::Message;
use crate::domain::notifications::Notification;
use crate::domain::users::User;

/// One change of a chat's log: the new state of the row that took this version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Change {
    Chat(Arc<Chat>),
    Message(Arc<Message>, MessageChange),
    Member(Arc<Member>),
}

/// What happened to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MessageChange {
    Added,
    Edited,
    Deleted,
    Reactions,
    Pin,
    Poll,
    Thread,
    /// Read back from the log: one or several of the others.
    Synced,
}

impl Change {
    pub fn version(&self) -> i64 {
        match self {
            Self::Chat(chat) => chat.details_version,
            Self::Message(message, _) => message.version,
            Self::Member(member) => member.version,
        }
    }
}

/// What happened to one chat, told after the commit. A hint: the database has the truth, and who
/// misses one reads it there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChatEvent {
    pub organization: OrganizationId,
    pub chat: ChatId,
    /// When it was told: all who hear it stand at the same moment then.
    pub at: DateTime<Utc>,
    pub what: Happening,
    /// Those by whom its messages are, where they were at hand: so many listeners need not look them up.
    #[serde(default)]
    pub people: Vec<User>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Happening {
    /// A part of the chat's log.
    Changed(Stretch),
    /// Read positions and members' own settings, which take no version: the newest state of each.
    Moved(Moved),
    /// The chat is no more.
    Deleted,
    /// Some people's notifications, told to them alone.
    Notified(Notified),
    /// Something happened to a call, told to those who follow it or have a part in it.
    Called(Called),
}

/// A part of a chat's compacted log: the newest state of all that changed within it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stretch {
    /// It begins after this version.
    pub after: i64,
    /// By rising version.
    pub changes: Vec<Change>,
    /// It reaches up to and including this version.
    pub end: i64,
}

impl Stretch {
    /// What one commit changed: versions without a gap.
    pub fn of_commit(changes: Vec<Change>) -> Self {
        let version = |change: Option<&Change>| change.map_or(0, Change::version);
        Self { after: version(changes.first()) - 1, end: version(changes.last()), changes }
    }
}

/// Members whose rows moved without a version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Moved {
    pub members: Vec<MovedMember>,
    /// The chat's version when the rows were read: they know all that was told up to it.
    pub as_of: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MovedMember {
    pub member: Arc<Member>,
    /// Whether others may see what moved: they learn nothing of one who reads privately.
    pub shown: bool,
}

impl Moved {
    /// Those of whom a member may learn, each with its place here: themselves, and what the others show.
    pub fn seen_by<'a>(&'a self, viewer: &'a UserId) -> impl Iterator<Item = (usize, &'a Arc<Member>)> {
        let seen = |moved: &MovedMember| moved.shown || moved.member.user == *viewer;
        self.members
            .iter()
            .enumerate()
            .filter(move |(_, moved)| seen(moved))
            .map(|(place, moved)| (place, &moved.member))
    }
}

/// Notifications that are new, or were read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Notified {
    /// Whose they are.
    pub people: Vec<UserId>,
    /// None where there are more than are carried: the database has them.
    pub notifications: Vec<Notification>,
}

impl Notified {
    /// Most notifications that are carried at once.
    pub const MOST: usize = 100;

    /// Notifications of these people, if there are no more than are carried.
    pub fn of(people: Vec<UserId>, notifications: Vec<Notification>) -> Self {
        let notifications = if notifications.len() > Self::MOST { Vec::new() } else { notifications };
        Self { people, notifications }
    }

    /// Any number of notifications, in as few parts as carry them all.
    pub fn in_parts(notifications: &[Notification]) -> impl Iterator<Item = Self> {
        notifications.chunks(Self::MOST).map(|some| {
            let people: BTreeSet<&UserId> = some.iter().map(|notification| &notification.user).collect();
            Self { people: people.into_iter().cloned().collect(), notifications: some.to_vec() }
        })
    }
}

/// A hint that a call changed: its row has the rest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Called {
    pub call: CallId,
    /// Its number after it.
    pub version: i64,
    /// Those whom it concerns beside who follows the call; none by a signal.
    pub people: Vec<UserId>,
    /// Whose signal it is: for nobody else.
    pub to: Option<UserId>,
}

impl ChatEvent {
    /// What happened to a chat, nobody being at hand.
    pub fn new(organization: OrganizationId, chat: ChatId, at: DateTime<Utc>, what: Happening) -> Self {
        Self { organization, chat, at, what, people: Vec::new() }
    }

    /// Those by whom its messages are.
    pub fn senders(&self) -> impl Iterator<Item = &UserId> {
        let changes = match &self.what {
            Happening::Changed(stretch) => stretch.changes.as_slice(),
            Happening::Moved(_) | Happening::Deleted | Happening::Notified(_) | Happening::Called(_) => &[],
        };
        changes.iter().filter_map(|change| match change {
            Change::Message(message, _) => message.sender.as_ref(),
            Change::Chat(_) | Change::Member(_) => None,
        })
    }

    /// The first and the last version that it tells of; none where it takes no version.
    pub fn versions(&self) -> Option<(i64, i64)> {
        match &self.what {
            Happening::Changed(stretch) => Some((stretch.after + 1, stretch.end)),
            Happening::Moved(_) | Happening::Deleted | Happening::Notified(_) | Happening::Called(_) => None,
        }
    }

    /// Those who became or ceased to be members by it.
    pub fn membership(&self) -> impl Iterator<Item = (&UserId, bool)> {
        let changes = match &self.what {
            Happening::Changed(stretch) => stretch.changes.as_slice(),
            Happening::Moved(_) | Happening::Deleted | Happening::Notified(_) | Happening::Called(_) => &[],
        };
        changes.iter().filter_map(|change| match change {
            Change::Member(member) => Some((&member.user, member.is_active())),
            _ => None,
        })
    }
}
