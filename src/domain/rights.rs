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
pub struct ChatRights<'a> {
    pub permissions: &'a Permissions,
    pub chat: &'a Chat,
    /// The viewer's active membership.
    pub member: Option<&'a Member>,
    pub now: DateTime<Utc>,
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenialReason {
    MissingPermission(Permission),
    NotAMember,
    /// Nobody may, in a direct chat.
    DirectChat,
    /// Nobody may, in an archived chat.
    Archived,
    RoleTooLow {
        min_role: Role,
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

impl DenialReason {
    /// When the same would be allowed, where time alone mends it.
    pub fn retry_at(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::SlowMode { until, .. } | Self::Silenced { until } => Some(*until),
            _ => None,
        }
    }
}

impl Display for DenialReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingPermission(permission) => {
                write!(f, "your token lacks the permission {}", <&str>::from(permission))
            }
            Self::NotAMember => f.write_str("you are not a member of this chat"),
            Self::DirectChat => f.write_str("not possible in a direct chat"),
            Self::Archived => f.write_str("the chat is archived"),
            Self::RoleTooLow { min_role: least } => {
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

impl From<DenialReason> for Error {
    fn from(refusal: DenialReason) -> Self {
        match refusal {
            DenialReason::SlowMode { until, now } => Self::RateLimited {
                message: refusal.to_string(),
                retry_after: (until - now).to_std().unwrap_or_default(),
            },
            _ => Self::Forbidden(refusal.to_string()),
        }
    }
}

/// The permission that a token needs for an action, beside [`Permission::ChatView`].
fn required_permission(action: ChatAction) -> Option<Permission> {
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

pub fn require_permission(permissions: &Permissions, permission: Permission) -> Result<(), DenialReason> {
    let held = permissions.contains(&permission);
    held.then_some(()).ok_or(DenialReason::MissingPermission(permission))
}

/// Refuses what nobody says: the server's own messages, and deleted ones.
pub fn require_user_message(message: &Message) -> Result<(), DenialReason> {
    match message.kind {
        _ if message.is_deleted() => Err(DenialReason::Deleted),
        MessageKind::System => Err(DenialReason::SystemMessage),
        _ => Ok(()),
    }
}

impl ChatRights<'_> {
    /// Whether the chat exists for the viewer: their own chats, and their organisation's channels.
    pub fn can_see(&self) -> bool {
        self.member.is_some() || self.chat.kind == ChatKind::Channel
    }

    pub fn can(&self, action: ChatAction) -> Result<(), DenialReason> {
        let member = self.require_membership()?;
        if let Some(permission) = required_permission(action) {
            require_permission(self.permissions, permission)?;
        }
        if self.chat.kind == ChatKind::Direct && !is_allowed_in_direct(action) {
            return Err(DenialReason::DirectChat);
        }
        if !is_allowed_in_archived(action) {
            self.require_not_archived()?;
        }
        self.require_role(self.min_role(action))?;
        if matches!(action, ChatAction::Post | ChatAction::MentionEveryone) {
            // Time mends it when it has mended both.
            let refusals =
                [self.require_not_silenced(member).err(), self.check_slow_mode(member).err()].into_iter().flatten();
            return refusals.max_by_key(DenialReason::retry_at).map_or(Ok(()), Err);
        }
        Ok(())
    }

    /// Who mentions everyone posts.
    fn min_role(&self, action: ChatAction) -> Role {
        let least = |action| self.chat.details.policy.min_role(self.chat.kind, action);
        match action {
            ChatAction::MentionEveryone => least(action).max(least(ChatAction::Post)),
            _ => least(action),
        }
    }

    /// Reading: what every member may.
    pub fn require_membership(&self) -> Result<&Member, DenialReason> {
        require_permission(self.permissions, Permission::ChatView)?;
        self.member.ok_or(DenialReason::NotAMember)
    }

    /// Reacting to a message and voting in its poll: what every member may who is not silenced.
    pub fn can_react(&self, message: &Message) -> Result<(), DenialReason> {
        self.require_participation(message).map(|_| ())
    }

    pub fn can_edit(&self, message: &Message) -> Result<(), DenialReason> {
        let member = self.require_membership()?;
        if !message.is_sent_by(&member.user) {
            return Err(DenialReason::NotTheSender);
        }
        self.require_participation(message)?;
        if message.content.forwarded.is_some() {
            return Err(DenialReason::Forwarded);
        }
        if message.text.is_none() { Err(DenialReason::NoText) } else { Ok(()) }
    }

    /// Closing a poll: its sender, and who may delete it.
    pub fn can_close_poll(&self, message: &Message) -> Result<(), DenialReason> {
        let member = self.require_participation(message)?;
        if message.is_sent_by(&member.user) { Ok(()) } else { self.can(ChatAction::DeleteOthersMessages) }
    }

    pub fn can_delete(&self, message: &Message) -> Result<(), DenialReason> {
        let member = self.require_membership()?;
        if message.kind == MessageKind::System {
            return Err(DenialReason::SystemMessage);
        }
        if message.is_sent_by(&member.user) {
            return Ok(());
        }
        self.can(ChatAction::DeleteOthersMessages)
    }

    pub fn can_pin(&self, message: &Message) -> Result<(), DenialReason> {
        self.can(ChatAction::Pin)?;
        require_user_message(message)
    }

    /// Whether the viewer has a role at least, in this chat.
    pub fn require_role(&self, least: Role) -> Result<(), DenialReason> {
        if self.effective_role(self.require_membership()?) < least {
            Err(DenialReason::RoleTooLow { min_role: least })
        } else {
            Ok(())
        }
    }

    /// Whether the viewer stands above another member. An owner stands above all but themselves.
    pub fn outranks(&self, other: Role) -> Result<(), DenialReason> {
        let member = self.require_membership()?;
        if self.effective_role(member) > other || member.role == Role::Owner {
            return Ok(());
        }
        let least = if other == Role::Member { Role::Moderator } else { Role::Owner };
        Err(DenialReason::RoleTooLow { min_role: least })
    }

    /// Whether the viewer may make another member what they are to be: from one role to another.
    pub fn can_change_role(&self, from: Role, to: Role) -> Result<(), DenialReason> {
        self.can(ChatAction::ChangeRoles)?;
        self.outranks(from)?;
        let own = self.effective_role(self.require_membership()?);
        // Nobody gives more than they have.
        if to > own { Err(DenialReason::RoleTooLow { min_role: to }) } else { Ok(()) }
    }

    fn require_participation(&self, message: &Message) -> Result<&Member, DenialReason> {
        let member = self.require_membership()?;
        self.require_not_archived()?;
        self.require_not_silenced(member)?;
        require_user_message(message)?;
        Ok(member)
    }

    pub fn require_not_archived(&self) -> Result<(), DenialReason> {
        if self.chat.archived_at.is_some() { Err(DenialReason::Archived) } else { Ok(()) }
    }

    /// A moderator of the organisation is at least a moderator of each chat that they are in.
    fn effective_role(&self, member: &Member) -> Role {
        if self.permissions.contains(&Permission::ChatModerate) {
            member.role.max(Role::Moderator)
        } else {
            member.role
        }
    }

    fn require_not_silenced(&self, member: &Member) -> Result<(), DenialReason> {
        match member.silenced_until {
            Some(until) if self.now < until => Err(DenialReason::Silenced { until }),
            _ => Ok(()),
        }
    }

    fn check_slow_mode(&self, member: &Member) -> Result<(), DenialReason> {
        let interval = TimeDelta::seconds(self.chat.details.slow_mode_seconds.into());
        let Some(last) = member.last_posted_at else {
            return Ok(());
        };
        let until = last + interval;
        // Clocks of several servers may differ where it is off.
        if !interval.is_zero() && self.now < until && self.effective_role(member) < Role::Moderator {
            return Err(DenialReason::SlowMode { until, now: self.now });
        }
        Ok(())
    }
}

fn is_allowed_in_direct(action: ChatAction) -> bool {
    matches!(action, ChatAction::Post | ChatAction::MentionEveryone | ChatAction::Pin | ChatAction::StartCall)
}

fn is_allowed_in_archived(action: ChatAction) -> bool {
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
