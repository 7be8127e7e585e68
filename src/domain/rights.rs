//! Rights of a viewer in a chat: pure functions, used by mutations and by `viewerCan` alike.
//!
//! An action is allowed if no rule denies it. The rules are the permissions of the token, membership, the kind of the
//! chat, archiving, the minimum role of the chat's policy, silencing, and slow mode.

use std::fmt::{self, Display, Formatter};

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::chats::{Chat, ChatAction, ChatKind};
use crate::domain::date_time::to_api_text;
use crate::domain::members::{Member, Role};
use crate::domain::messages::{Message, MessageKind};
use crate::domain::users::{Permission, Permissions};
use crate::error::Error;

/// The data from which the rights of a viewer in a chat follow.
#[derive(Debug, Clone, Copy)]
pub struct ChatRights<'a> {
    pub permissions: &'a Permissions,
    pub chat: &'a Chat,
    /// The viewer's membership, if it is active.
    pub member: Option<&'a Member>,
    pub now: DateTime<Utc>,
}

/// The reason why an action is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenialReason {
    MissingPermission(Permission),
    NotAMember,
    /// The viewer is banned from the chat.
    Banned,
    /// A user whom the viewer adds is banned from the chat.
    BannedUser,
    /// The action is not available in direct chats.
    DirectChat,
    /// The action is not available in a user's own notes.
    Notes,
    /// The action is not available in archived chats.
    Archived,
    RoleTooLow {
        min_role: Role,
    },
    /// The member is silenced, and may act again at `until`.
    Silenced {
        until: DateTime<Utc>,
    },
    /// The member has posted or edited too recently, and may do so again at `until`.
    SlowMode {
        until: DateTime<Utc>,
        now: DateTime<Utc>,
    },
    NotTheSender,
    Deleted,
    /// A forwarded message cannot be edited.
    Forwarded,
    /// The message has no text to edit.
    NoText,
    /// The message was created by the server.
    SystemMessage,
    /// The member is the last owner of the chat.
    LastOwner,
}

impl DenialReason {
    /// Returns the time at which the action becomes allowed, if nothing else has to change.
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
                write!(f, "the token lacks the permission {}", <&str>::from(permission))
            }
            Self::NotAMember => f.write_str("you are not a member of this chat"),
            Self::Banned => f.write_str("you are banned from this chat"),
            Self::BannedUser => f.write_str(
                "a user is banned from this chat: only members with the right to REMOVE_MEMBERS can add them",
            ),
            Self::DirectChat => f.write_str("direct chats do not allow this action"),
            Self::Notes => f.write_str("a chat with oneself does not allow this action"),
            Self::Archived => f.write_str("the chat is archived"),
            Self::RoleTooLow { min_role } => {
                write!(f, "this action requires the role {} or higher", <&str>::from(min_role).to_uppercase())
            }
            Self::Silenced { until } => write!(f, "you are silenced in this chat until {}", to_api_text(*until)),
            Self::SlowMode { until, .. } => {
                write!(f, "the chat is in slow mode: you can send or edit a message again at {}", to_api_text(*until))
            }
            Self::NotTheSender => f.write_str("only the sender of a message can edit it"),
            Self::Deleted => f.write_str("the message was deleted"),
            Self::Forwarded => f.write_str("a forwarded message cannot be edited"),
            Self::NoText => f.write_str("the message has no text to edit"),
            Self::SystemMessage => f.write_str("system messages do not allow this action"),
            Self::LastOwner => f.write_str("a chat must have an owner: make another member an owner first"),
        }
    }
}

impl From<DenialReason> for Error {
    fn from(reason: DenialReason) -> Self {
        match reason {
            DenialReason::SlowMode { until, now } => Self::RateLimited {
                message: reason.to_string(),
                retry_after: (until - now).to_std().unwrap_or_default(),
            },
            DenialReason::Deleted => Self::MessageDeleted,
            _ => Self::Forbidden(reason.to_string()),
        }
    }
}

/// Returns the permission that an action requires in addition to [`Permission::ChatView`].
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

/// Returns whether a chat exists for a viewer: as a member, or because it is a channel.
///
/// `member` is the viewer's active membership. The decision depends on no time, unlike those of [`ChatRights`].
pub fn can_see(chat: &Chat, member: Option<&Member>) -> bool {
    member.is_some() || chat.kind == ChatKind::Channel
}

/// Checks that a token has a permission.
///
/// # Errors
///
/// Returns [`DenialReason::MissingPermission`].
pub fn require_permission(permissions: &Permissions, permission: Permission) -> Result<(), DenialReason> {
    if permissions.contains(&permission) { Ok(()) } else { Err(DenialReason::MissingPermission(permission)) }
}

/// Checks that a message was sent by a user and still exists.
///
/// # Errors
///
/// Returns [`DenialReason::Deleted`] or [`DenialReason::SystemMessage`].
pub fn require_user_message(message: &Message) -> Result<(), DenialReason> {
    match message.kind {
        _ if message.is_deleted() => Err(DenialReason::Deleted),
        MessageKind::System => Err(DenialReason::SystemMessage),
        _ => Ok(()),
    }
}

impl ChatRights<'_> {
    /// Checks that the viewer may take an action.
    ///
    /// # Errors
    ///
    /// Returns the first reason that denies the action, or the later one of silencing and slow mode.
    pub fn can(&self, action: ChatAction) -> Result<(), DenialReason> {
        let member = self.require_membership()?;
        if let Some(permission) = required_permission(action) {
            require_permission(self.permissions, permission)?;
        }
        if self.chat.kind == ChatKind::Direct && !is_allowed_in_direct(action) {
            return Err(DenialReason::DirectChat);
        }
        if self.chat.is_notes() && action == ChatAction::StartCall {
            return Err(DenialReason::Notes);
        }
        if !is_allowed_in_archived(action) {
            self.require_not_archived()?;
        }
        self.require_role(self.min_role(action))?;
        if action == ChatAction::StartCall {
            return self.require_not_silenced(member);
        }
        if matches!(action, ChatAction::Post | ChatAction::MentionEveryone) {
            // The action is allowed again once both are over, so the later one is reported.
            let reasons = [self.require_not_silenced(member).err(), self.check_slow_mode(member).err()];
            return reasons.into_iter().flatten().max_by_key(DenialReason::retry_at).map_or(Ok(()), Err);
        }
        Ok(())
    }

    /// Returns the minimum role for an action.
    ///
    /// Mentioning everyone requires the right to post too.
    fn min_role(&self, action: ChatAction) -> Role {
        let of_policy = |action| self.chat.details.policy.min_role(self.chat.kind, action);
        match action {
            ChatAction::MentionEveryone => of_policy(action).max(of_policy(ChatAction::Post)),
            _ => of_policy(action),
        }
    }

    /// Returns the viewer's membership, which allows reading the chat.
    ///
    /// # Errors
    ///
    /// Returns [`DenialReason::MissingPermission`] or [`DenialReason::NotAMember`].
    pub fn require_membership(&self) -> Result<&Member, DenialReason> {
        require_permission(self.permissions, Permission::ChatView)?;
        self.member.ok_or(DenialReason::NotAMember)
    }

    /// Checks that the viewer may join a call of the chat.
    ///
    /// # Errors
    ///
    /// Returns [`DenialReason::Archived`], and the reasons of [`require_membership`](Self::require_membership).
    pub fn can_join_call(&self) -> Result<(), DenialReason> {
        self.require_membership()?;
        self.require_not_archived()
    }

    /// Checks that the viewer may send media in a call of the chat. A silenced member may only listen.
    ///
    /// # Errors
    ///
    /// Returns [`DenialReason::Silenced`], and the reasons of [`require_membership`](Self::require_membership).
    pub fn can_send_media(&self) -> Result<(), DenialReason> {
        self.require_not_silenced(self.require_membership()?)
    }

    /// Checks that the viewer may react to a message and vote in its poll.
    ///
    /// # Errors
    ///
    /// Returns the first reason that denies it: membership, archiving, silencing, or the message.
    pub fn can_react(&self, message: &Message) -> Result<(), DenialReason> {
        self.require_participation(message).map(|_| ())
    }

    /// Checks that the viewer may edit a message.
    ///
    /// Slow mode applies to an edit as to a message, because otherwise members would go on talking by edits. Only
    /// [a first correction](Self::is_first_correction) is always allowed.
    ///
    /// # Errors
    ///
    /// Returns the first reason that denies it: another sender, the reasons of [`can_react`](Self::can_react), a
    /// forwarded message or one without a text, and slow mode.
    pub fn can_edit(&self, message: &Message) -> Result<(), DenialReason> {
        let member = self.require_membership()?;
        if !message.is_sent_by(&member.user) {
            return Err(DenialReason::NotTheSender);
        }
        self.require_participation(message)?;
        if message.content.forwarded.is_some() {
            return Err(DenialReason::Forwarded);
        }
        if message.text.is_none() {
            return Err(DenialReason::NoText);
        }
        if self.is_first_correction(message) { Ok(()) } else { self.check_slow_mode(member) }
    }

    /// Checks that the viewer may make a message that exists already mention everyone.
    ///
    /// Slow mode is not checked: it applies to the edit as such.
    ///
    /// # Errors
    ///
    /// Returns [`DenialReason::RoleTooLow`], and the reasons of [`require_membership`](Self::require_membership).
    pub fn can_mention_everyone(&self) -> Result<(), DenialReason> {
        self.require_role(self.min_role(ChatAction::MentionEveryone))
    }

    /// Returns whether an edit is the first one of the viewer's last message.
    ///
    /// Slow mode makes an exception for it. There is one such edit for each message that slow mode allows, and none for
    /// older messages.
    pub fn is_first_correction(&self, message: &Message) -> bool {
        let last_posted_at = self.member.and_then(|member| member.last_posted_at);
        message.edited_at.is_none() && last_posted_at == Some(message.created_at)
    }

    /// Checks that the viewer may close the poll of a message, as its sender and moderators may.
    ///
    /// # Errors
    ///
    /// Returns the reasons of [`can_react`](Self::can_react), and those of [`ChatAction::DeleteOthersMessages`].
    pub fn can_close_poll(&self, message: &Message) -> Result<(), DenialReason> {
        let member = self.require_participation(message)?;
        if message.is_sent_by(&member.user) { Ok(()) } else { self.can(ChatAction::DeleteOthersMessages) }
    }

    /// Checks that the viewer may delete a message.
    ///
    /// # Errors
    ///
    /// Returns the first reason that denies it: membership, a system message, or the reasons of
    /// [`ChatAction::DeleteOthersMessages`].
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

    /// Checks that the viewer may pin or unpin a message.
    ///
    /// # Errors
    ///
    /// Returns the reasons of [`ChatAction::Pin`] and of [`require_user_message`].
    pub fn can_pin(&self, message: &Message) -> Result<(), DenialReason> {
        self.can(ChatAction::Pin)?;
        require_user_message(message)
    }

    /// Checks that the viewer has at least the given role in this chat.
    ///
    /// # Errors
    ///
    /// Returns [`DenialReason::RoleTooLow`], and the reasons of [`require_membership`](Self::require_membership).
    pub fn require_role(&self, min_role: Role) -> Result<(), DenialReason> {
        if self.effective_role(self.require_membership()?) < min_role {
            Err(DenialReason::RoleTooLow { min_role })
        } else {
            Ok(())
        }
    }

    /// Checks that the viewer's role is above that of another member.
    ///
    /// An owner outranks other owners too.
    ///
    /// # Errors
    ///
    /// Returns [`DenialReason::RoleTooLow`], and the reasons of [`require_membership`](Self::require_membership).
    pub fn outranks(&self, other: Role) -> Result<(), DenialReason> {
        let member = self.require_membership()?;
        if self.effective_role(member) > other || member.role == Role::Owner {
            return Ok(());
        }
        let min_role = if other == Role::Member { Role::Moderator } else { Role::Owner };
        Err(DenialReason::RoleTooLow { min_role })
    }

    /// Checks that the viewer may remove and ban users, list bans and end them.
    ///
    /// # Errors
    ///
    /// Returns the reasons of [`ChatAction::RemoveMembers`]; none for the host of the chat's resource.
    pub fn can_ban(&self) -> Result<(), DenialReason> {
        if self.is_host() { Ok(()) } else { self.can(ChatAction::RemoveMembers) }
    }

    /// Checks that the viewer may remove a member with the given role.
    ///
    /// # Errors
    ///
    /// Returns the reasons of [`can_ban`](Self::can_ban) and of [`outranks`](Self::outranks); none for the host of the
    /// chat's resource.
    pub fn can_remove(&self, role: Role) -> Result<(), DenialReason> {
        self.can_ban()?;
        if self.is_host() { Ok(()) } else { self.outranks(role) }
    }

    /// Returns whether the viewer is the host's service and the chat belongs to a resource.
    pub fn is_host(&self) -> bool {
        let is_administrator = [Permission::ChatView, Permission::OrganizationAdmin]
            .iter()
            .all(|permission| self.permissions.contains(permission));
        is_administrator && self.chat.resource.is_some()
    }

    /// Checks that the viewer may change another member's role.
    ///
    /// # Errors
    ///
    /// Returns [`DenialReason::RoleTooLow`] if the viewer does not outrank the member or gives a role above their own,
    /// and the reasons of [`ChatAction::ChangeRoles`].
    pub fn can_change_role(&self, from: Role, to: Role) -> Result<(), DenialReason> {
        self.can(ChatAction::ChangeRoles)?;
        self.outranks(from)?;
        let own = self.effective_role(self.require_membership()?);
        if to > own { Err(DenialReason::RoleTooLow { min_role: to }) } else { Ok(()) }
    }

    fn require_participation(&self, message: &Message) -> Result<&Member, DenialReason> {
        let member = self.require_membership()?;
        self.require_not_archived()?;
        self.require_not_silenced(member)?;
        require_user_message(message)?;
        Ok(member)
    }

    /// Checks that the chat is not archived.
    ///
    /// # Errors
    ///
    /// Returns [`DenialReason::Archived`].
    pub fn require_not_archived(&self) -> Result<(), DenialReason> {
        if self.chat.archived_at.is_some() { Err(DenialReason::Archived) } else { Ok(()) }
    }

    /// Returns the member's role.
    ///
    /// A moderator of the organisation is at least a moderator in each chat.
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
        let Some(last_posted_at) = member.last_posted_at else {
            return Ok(());
        };
        let until = last_posted_at + interval;
        // Another node's clock may be ahead, so the last post may be in the future even if slow mode is off.
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
