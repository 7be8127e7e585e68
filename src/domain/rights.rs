//! Who may do what: one pure function, used by mutations and by `viewerCan` alike.
//!
//! Every rule is a gate, and all must be open: the permission of the token, membership, the role
//! that the chat's policy asks for, and slow mode.

use std::fmt::{self, Display, Formatter};

use chrono::{DateTime, TimeDelta, Utc};

use super::chats::{Chat, ChatAction, ChatKind};
use super::members::{Member, Role};
use super::messages::Message;
use super::users::{Permission, Permissions};
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
    RoleTooLow {
        least: Role,
    },
    /// Legal again at this very instant.
    SlowMode {
        until: DateTime<Utc>,
        now: DateTime<Utc>,
    },
    NotTheSender,
    Deleted,
}

impl Refusal {
    /// When the same would be allowed, where time alone mends it.
    pub fn until(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::SlowMode { until, .. } => Some(*until),
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
            Self::RoleTooLow { least } => {
                write!(f, "this chat allows it from the role {} on", <&str>::from(least).to_uppercase())
            }
            Self::SlowMode { until, .. } => {
                write!(f, "slow mode: your next message may be sent at {}", until.to_rfc3339())
            }
            Self::NotTheSender => f.write_str("only its sender may edit a message"),
            Self::Deleted => f.write_str("the message was deleted"),
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
        ChatAction::Post | ChatAction::Pin | ChatAction::DeleteOthersMessages => None,
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
        let least = self.chat.details.policy.least_role(self.chat.kind, action);
        if self.role(member) < least {
            return Err(Refusal::RoleTooLow { least });
        }
        if action == ChatAction::Post {
            self.slow_mode(member)?;
        }
        Ok(())
    }

    /// Reading and reacting: what every member may.
    pub fn membership(&self) -> Result<&Member, Refusal> {
        require(self.permissions, Permission::ChatView)?;
        self.member.ok_or(Refusal::NotAMember)
    }

    pub fn can_edit(&self, message: &Message) -> Result<(), Refusal> {
        let member = self.membership()?;
        if !message.is_sent_by(&member.user) {
            return Err(Refusal::NotTheSender);
        }
        if message.deleted_at.is_some() {
            return Err(Refusal::Deleted);
        }
        Ok(())
    }

    pub fn can_delete(&self, message: &Message) -> Result<(), Refusal> {
        let member = self.membership()?;
        if message.is_sent_by(&member.user) {
            return Ok(());
        }
        self.can(ChatAction::DeleteOthersMessages)
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

    /// A moderator of the organisation is at least a moderator of each chat that they are in.
    fn role(&self, member: &Member) -> Role {
        if self.permissions.contains(&Permission::ChatModerate) {
            member.role.max(Role::Moderator)
        } else {
            member.role
        }
    }

    fn slow_mode(&self, member: &Member) -> Result<(), Refusal> {
        let interval = TimeDelta::seconds(self.chat.details.slow_mode_seconds.into());
        let Some(last) = member.last_posted_at else {
            return Ok(());
        };
        let until = last + interval;
        if self.now < until && self.role(member) < Role::Moderator {
            return Err(Refusal::SlowMode { until, now: self.now });
        }
        Ok(())
    }
}

fn possible_in_direct(action: ChatAction) -> bool {
    matches!(action, ChatAction::Post | ChatAction::Pin | ChatAction::StartCall)
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator;

    use super::*;
    use crate::domain::chats::{Details, Policy};
    use crate::domain::ids::{ChatId, MessageId};
    use crate::domain::messages::MessageKind;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_000_000 + second, 0).unwrap()
    }

    fn chat(kind: ChatKind) -> Chat {
        Chat {
            id: ChatId::new(),
            organization: "demo".parse().unwrap(),
            kind,
            details: Details::default(),
            created_by: None,
            created_at: at(0),
            last_activity_at: at(0),
            version: 0,
            details_version: 0,
            last_seq: 0,
            member_count: 1,
        }
    }

    fn member(chat: &Chat, role: Role) -> Member {
        Member {
            chat: chat.id,
            user: "alice".parse().unwrap(),
            role,
            joined_at: at(0),
            added_by: None,
            left_at: None,
            version: 1,
            last_read_seq: 0,
            last_read_at: None,
            last_posted_at: None,
        }
    }

    fn all() -> Permissions {
        Permission::iter().filter(|held| *held != Permission::ChatModerate).collect()
    }

    /// The least role for each action by default, in a group and in a channel; `None` is nobody.
    #[test]
    fn the_truth_table_of_roles() {
        use ChatAction::*;
        use Role::*;
        let table = [
            (Post, Some(Member), Some(Moderator), Some(Member)),
            (EditDetails, Some(Admin), Some(Admin), None),
            (AddMembers, Some(Admin), Some(Admin), None),
            (RemoveMembers, Some(Admin), Some(Admin), None),
            (ChangeRoles, Some(Owner), Some(Owner), None),
            (DeleteOthersMessages, Some(Moderator), Some(Moderator), None),
            (Pin, Some(Moderator), Some(Moderator), Some(Member)),
            (StartCall, Some(Member), Some(Moderator), Some(Member)),
            (DeleteChat, Some(Owner), Some(Owner), None),
        ];
        assert_eq!(table.len(), ChatAction::iter().count());
        let permissions = all();
        for (action, group, channel, direct) in table {
            for (kind, least) in [(ChatKind::Group, group), (ChatKind::Channel, channel), (ChatKind::Direct, direct)] {
                for role in Role::iter() {
                    let chat = chat(kind);
                    let member = member(&chat, role);
                    let rights = Rights { permissions: &permissions, chat: &chat, member: Some(&member), now: at(9) };
                    let expected = least.is_some_and(|least| role >= least);
                    assert_eq!(rights.can(action).is_ok(), expected, "{kind:?} {role:?} {action:?}");
                }
            }
        }
    }

    #[test]
    fn each_permission_is_a_gate_of_its_own() {
        let chat = chat(ChatKind::Group);
        let owner = member(&chat, Role::Owner);
        for action in ChatAction::iter() {
            for missing in Permission::iter() {
                let permissions: Permissions = all().into_iter().filter(|held| *held != missing).collect();
                let rights = Rights { permissions: &permissions, chat: &chat, member: Some(&owner), now: at(9) };
                let needed = missing == Permission::ChatView || permission(action) == Some(missing);
                assert_eq!(rights.can(action), if needed { Err(Refusal::MissingPermission(missing)) } else { Ok(()) });
            }
        }
    }

    #[test]
    fn a_stranger_may_nothing_and_sees_channels_only() {
        let permissions = all();
        for kind in ChatKind::iter() {
            let chat = chat(kind);
            let rights = Rights { permissions: &permissions, chat: &chat, member: None, now: at(9) };
            assert_eq!(rights.can_see(), kind == ChatKind::Channel);
            for action in ChatAction::iter() {
                assert_eq!(rights.can(action), Err(Refusal::NotAMember));
            }
        }
    }

    #[test]
    fn a_policy_replaces_the_default_of_its_kind() {
        let permissions = all();
        let mut chat = chat(ChatKind::Channel);
        chat.details.policy = Policy([(ChatAction::Post, Role::Member)].into());
        let member = member(&chat, Role::Member);
        let rights = Rights { permissions: &permissions, chat: &chat, member: Some(&member), now: at(9) };
        assert_eq!(rights.can(ChatAction::Post), Ok(()));
        assert_eq!(rights.can(ChatAction::Pin), Err(Refusal::RoleTooLow { least: Role::Moderator }));
    }

    #[test]
    fn slow_mode_ends_exactly_at_its_boundary_and_spares_moderators() {
        let mut chat = chat(ChatKind::Group);
        chat.details.slow_mode_seconds = 10;
        let can = |role, second: i64, permissions: &Permissions| {
            let mut member = member(&chat, role);
            member.last_posted_at = Some(at(0));
            Rights { permissions, chat: &chat, member: Some(&member), now: at(second) }.can(ChatAction::Post)
        };
        assert_eq!(can(Role::Member, 9, &all()), Err(Refusal::SlowMode { until: at(10), now: at(9) }));
        assert_eq!(can(Role::Member, 10, &all()), Ok(()));
        assert_eq!(can(Role::Moderator, 1, &all()), Ok(()));
        assert_eq!(can(Role::Member, 1, &Permission::iter().collect()), Ok(()));
    }

    #[test]
    fn a_message_is_edited_by_its_sender_and_deleted_by_moderators_too() {
        let permissions = all();
        let chat = chat(ChatKind::Group);
        let mut message = Message {
            id: MessageId { chat: chat.id, seq: 1 },
            version: 1,
            kind: MessageKind::Text,
            sender: Some("alice".parse().unwrap()),
            nonce: None,
            text: Some("hello".into()),
            reply_to_seq: None,
            created_at: at(0),
            edited_at: None,
            deleted_at: None,
            fingerprint: None,
        };
        let rights = |member| Rights { permissions: &permissions, chat: &chat, member, now: at(9) };
        let alice = member(&chat, Role::Member);
        let bob = Member { user: "bob".parse().unwrap(), ..alice.clone() };
        assert_eq!(rights(Some(&alice)).can_edit(&message), Ok(()));
        assert_eq!(rights(Some(&alice)).can_delete(&message), Ok(()));
        assert_eq!(rights(Some(&bob)).can_edit(&message), Err(Refusal::NotTheSender));
        assert_eq!(rights(Some(&bob)).can_delete(&message), Err(Refusal::RoleTooLow { least: Role::Moderator }));
        let moderator = Member { role: Role::Moderator, ..bob.clone() };
        assert_eq!(rights(Some(&moderator)).can_edit(&message), Err(Refusal::NotTheSender));
        assert_eq!(rights(Some(&moderator)).can_delete(&message), Ok(()));
        assert_eq!(rights(None).can_delete(&message), Err(Refusal::NotAMember));
        message.deleted_at = Some(at(1));
        assert_eq!(rights(Some(&alice)).can_edit(&message), Err(Refusal::Deleted));
    }
}
