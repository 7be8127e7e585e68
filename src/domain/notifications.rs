//! What a person is told of across their chats.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

use crate::domain::ids::{CallId, ChatId, MessageId, NotificationId, OrganizationId, UserId};
use crate::domain::members::{Member, NotificationLevel};

#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumIter, EnumString, IntoStaticStr, Serialize, Deserialize)]
#[strum(serialize_all = "snake_case")]
pub enum NotificationKind {
    Mention,
    Reply,
    Reaction,
    AddedToChat,
    MissedCall,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    pub id: NotificationId,
    pub organization: OrganizationId,
    pub user: UserId,
    pub kind: NotificationKind,
    pub chat: ChatId,
    pub seq: Option<i64>,
    pub call: Option<CallId>,
    pub actor: Option<UserId>,
    pub created_at: DateTime<Utc>,
    pub read_at: Option<DateTime<Utc>>,
}

impl Notification {
    /// What a member is to be told of now, if they want to be told of it and did not do it themselves.
    pub fn for_user(
        member: &Member,
        organization: &OrganizationId,
        kind: NotificationKind,
        seq: Option<i64>,
        actor: &UserId,
        now: DateTime<Utc>,
    ) -> Option<Self> {
        (member.user != *actor && is_wanted_by(member, kind, now)).then(|| Self {
            id: NotificationId::new(),
            organization: organization.clone(),
            user: member.user.clone(),
            kind,
            chat: member.chat,
            seq,
            call: None,
            actor: Some(actor.clone()),
            created_at: now,
            read_at: None,
        })
    }

    pub fn message(&self) -> Option<MessageId> {
        self.seq.map(|seq| MessageId { chat: self.chat, seq })
    }
}

/// Whether a member wants to be told of this now: a muted chat is silent, the level MENTIONS lets
/// mentions through, and NONE nothing.
fn is_wanted_by(member: &Member, kind: NotificationKind, now: DateTime<Utc>) -> bool {
    let level = match member.preferences.notification_level {
        NotificationLevel::All => true,
        NotificationLevel::Mentions => kind == NotificationKind::Mention,
        NotificationLevel::None => false,
    };
    member.is_active() && level && !member.is_muted(now)
}
