//! Who may do what: one pure function, used by mutations and by `viewerCan` alike.
//!
//! Every rule is a gate, and all must be open: the permission of the token, membership, the chat not
//! being archived, the role that the chat's policy asks for, silence, and slow mode.

use std::fmt::{self, Display, Formatter};

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::chats::{Chat, ChatAction, ChatKind};
use crate::domain::members::{Member, Role};
use crate::domain::messages::{Message, MessageKind};
use crate::domain::users::{Permission, Permissions};
use crate::error::Error;

/// What the decision is made from.
#[derive(Debug, Clone, Copy)]
pub struct Rights<'a> {
    pub permissions: &'a Permissions,
    pub chat: &'a Chat,
    /// The viewer's active membership.
    pub member: Option<&'a Member>,
    pub now: DateTime<Utc>,
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    MissingPermission(Permission),
    NotAMember,
    /// Nobody may, in a direct chat.
    DirectChat,
    /// Nobody may, in an archived chat.
    Archived,
    RoleTooLow {
        least: Role,
    },
    /// Legal again at this very instant.
    Silenced {
        until: DateTime<Utc>,
    },
    /// Legal again at this very instant.
    SlowMode {
        until: DateTime<Utc>,
        now: DateTime<Utc>,
    },
    NotTheSender,
    Deleted,
    /// What was forwarded stays as it was.
    Forwarded,
    /// A message that shows no text to edit.
    NoText,
    /// A message of the server's own.
    SystemMessage,
    /// A chat keeps an owner.
    LastOwner,
}

impl Refusal {
    /// When the same would be allowed, where time alone mends it.
    pub fn until(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::SlowMode { until, .. } | Self::Silenced { until } => Some(*until),
            _ => None,
        }
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingPermission(permission) => {
                write!(f, "your token lacks the permission {}", <&str>::from(permission))
            }
            Self::NotAMember => f.write_str("you are not a member of this chat"),
            Self::DirectChat => f.write_str("not possible in a direct chat"),
            Self::Archived => f.write_str("the chat is archived"),
            Self::RoleTooLow { least } => {
                write!(f, "this chat allows it from the role {} on", <&str>::from(least).to_uppercase())
            }
            Self::Silenced { until } => write!(f, "you are silenced in this chat until {}", until.to_rfc3339()),
            Self::SlowMode { until, .. } => {
                write!(f, "slow mode: your next message may be sent at {}", until.to_rfc3339())
            }
            Self::NotTheSender => f.write_str("only its sender may do this to a message"),
            Self::Deleted => f.write_str("the message was deleted"),
            Self::Forwarded => f.write_str("what was forwarded stays as it was"),
            Self::NoText => f.write_str("the message has no text to edit"),
            Self::SystemMessage => f.write_str("not possible with a message of the server's own"),
            Self::LastOwner => f.write_str("a chat keeps an owner: make somebody else one first"),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::SlowMode { until, now } => Self::RateLimited {
                message: refusal.to_string(),
                retry_after: (until - now).to_std().unwrap_or_default(),
            },
            _ => Self::Forbidden(refusal.to_string()),
        }
    }
}

/// The permission that a token needs for an action, beside [`Permission::ChatView`].
fn permission(action: ChatAction) -> Option<Permission> {
    match action {
        ChatAction::Post
        | ChatAction::MentionEveryone
        | ChatAction::Pin
        | ChatAction::SilenceMembers
        | ChatAction::DeleteOthersMessages => None,
        ChatAction::EditDetails | ChatAction::AddMembers | ChatAction::RemoveMembers | ChatAction::ChangeRoles => {
            Some(Permission::ChatManageGroup)
        }
        ChatAction::StartCall => Some(Permission::ChatInitiateCall),
        ChatAction::DeleteChat => Some(Permission::ChatDelete),
    }
}

pub fn require(permissions: &Permissions, permission: Permission) -> Result<(), Refusal> {
    let held = permissions.contains(&permission);
    held.then_some(()).ok_or(Refusal::MissingPermission(permission))
}

/// Refuses what nobody says: the server's own messages, and deleted ones.
pub fn somebody_says(message: &Message) -> Result<(), Refusal> {
    match message.kind {
        _ if message.is_deleted() => Err(Refusal::Deleted),
        MessageKind::System => Err(Refusal::SystemMessage),
        _ => Ok(()),
    }
}

impl Rights<'_> {
    /// Whether the chat exists for the viewer: their own chats, and their organisation's channels.
    pub fn can_see(&self) -> bool {
        self.member.is_some() || self.chat.kind == ChatKind::Channel
    }

    pub fn can(&self, action: ChatAction) -> Result<(), Refusal> {
        let member = self.membership()?;
        if let Some(permission) = permission(action) {
            require(self.permissions, permission)?;
        }
        if self.chat.kind == ChatKind::Direct && !possible_in_direct(action) {
            return Err(Refusal::DirectChat);
        }
        if !possible_in_archived(action) {
            self.not_archived()?;
        }
        self.at_least(self.least_role(action))?;
        if matches!(action, ChatAction::Post | ChatAction::MentionEveryone) {
            // Time mends it when it has mended both.
            let refusals = [self.not_silenced(member).err(), self.slow_mode(member).err()].into_iter().flatten();
            return refusals.max_by_key(Refusal::until).map_or(Ok(()), Err);
        }
        Ok(())
    }

    /// Who mentions everyone posts.
    fn least_role(&self, action: ChatAction) -> Role {
        let least = |action| self.chat.details.policy.least_role(self.chat.kind, action);
        match action {
            ChatAction::MentionEveryone => least(action).max(least(ChatAction::Post)),
            _ => least(action),
        }
    }

    /// Reading: what every member may.
    pub fn membership(&self) -> Result<&Member, Refusal> {
        require(self.permissions, Permission::ChatView)?;
        self.member.ok_or(Refusal::NotAMember)
    }

    /// Reacting to a message and voting in its poll: what every member may who is not silenced.
    pub fn can_react(&self, message: &Message) -> Result<(), Refusal> {
        self.take_part(message).map(|_| ())
    }

    pub fn can_edit(&self, message: &Message) -> Result<(), Refusal> {
        let member = self.membership()?;
        if !message.is_sent_by(&member.user) {
            return Err(Refusal::NotTheSender);
        }
        self.take_part(message)?;
        if message.content.forwarded.is_some() {
            return Err(Refusal::Forwarded);
        }
        if message.text.is_none() { Err(Refusal::NoText) } else { Ok(()) }
    }

    /// Closing a poll: its sender, and who may delete it.
    pub fn can_close(&self, message: &Message) -> Result<(), Refusal> {
        let member = self.take_part(message)?;
        if message.is_sent_by(&member.user) { Ok(()) } else { self.can(ChatAction::DeleteOthersMessages) }
    }

    pub fn can_delete(&self, message: &Message) -> Result<(), Refusal> {
        let member = self.membership()?;
        if message.kind == MessageKind::System {
            return Err(Refusal::SystemMessage);
        }
        if message.is_sent_by(&member.user) {
            return Ok(());
        }
        self.can(ChatAction::DeleteOthersMessages)
    }

    pub fn can_pin(&self, message: &Message) -> Result<(), Refusal> {
        self.can(ChatAction::Pin)?;
        somebody_says(message)
    }

    /// Whether the viewer has a role at least, in this chat.
    pub fn at_least(&self, least: Role) -> Result<(), Refusal> {
        if self.role(self.membership()?) < least { Err(Refusal::RoleTooLow { least }) } else { Ok(()) }
    }

    /// Whether the viewer stands above another member. An owner stands above all but themselves.
    pub fn outranks(&self, other: Role) -> Result<(), Refusal> {
        let member = self.membership()?;
        if self.role(member) > other || member.role == Role::Owner {
            return Ok(());
        }
        let least = if other == Role::Member { Role::Moderator } else { Role::Owner };
        Err(Refusal::RoleTooLow { least })
    }

    /// Whether the viewer may make another member what they are to be: from one role to another.
    pub fn can_change_role(&self, from: Role, to: Role) -> Result<(), Refusal> {
        self.can(ChatAction::ChangeRoles)?;
        self.outranks(from)?;
        let own = self.role(self.membership()?);
        // Nobody gives more than they have.
        if to > own { Err(Refusal::RoleTooLow { least: to }) } else { Ok(()) }
    }

    fn take_part(&self, message: &Message) -> Result<&Member, Refusal> {
        let member = self.membership()?;
        self.not_archived()?;
        self.not_silenced(member)?;
        somebody_says(message)?;
        Ok(member)
    }

    pub fn not_archived(&self) -> Result<(), Refusal> {
        if self.chat.archived_at.is_some() { Err(Refusal::Archived) } else { Ok(()) }
    }

    /// A moderator of the organisation is at least a moderator of each chat that they are in.
    fn role(&self, member: &Member) -> Role {
        if self.permissions.contains(&Permission::ChatModerate) {
            member.role.max(Role::Moderator)
        } else {
            member.role
        }
    }

    fn not_silenced(&self, member: &Member) -> Result<(), Refusal> {
        match member.silenced_until {
            Some(until) if self.now < until => Err(Refusal::Silenced { until }),
            _ => Ok(()),
        }
    }

    fn slow_mode(&self, member: &Member) -> Result<(), Refusal> {
        let interval = TimeDelta::seconds(self.chat.details.slow_mode_seconds.into());
        let Some(last) = member.last_posted_at else {
            return Ok(());
        };
        let until = last + interval;
        // Clocks of several servers may differ where it is off.
        if !interval.is_zero() && self.now < until && self.role(member) < Role::Moderator {
            return Err(Refusal::SlowMode { until, now: self.now });
        }
        Ok(())
    }
}

fn possible_in_direct(action: ChatAction) -> bool {
    matches!(action, ChatAction::Post | ChatAction::MentionEveryone | ChatAction::Pin | ChatAction::StartCall)
}

fn possible_in_archived(action: ChatAction) -> bool {
    match action {
        ChatAction::Post
        | ChatAction::MentionEveryone
        | ChatAction::Pin
        | ChatAction::StartCall
        | ChatAction::AddMembers => false,
        ChatAction::EditDetails
        | ChatAction::RemoveMembers
        | ChatAction::SilenceMembers
        | ChatAction::ChangeRoles
        | ChatAction::DeleteOthersMessages
        | ChatAction::DeleteChat => true,
    }
}

#[cfg(test)]
mod tests;
