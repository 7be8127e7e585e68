//! Notifications of a user about events in their chats.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

use crate::domain::ids::{CallId, ChatId, MessageId, NotificationId, OrganizationId, UserId};
use crate::domain::members::{Member, NotificationLevel};

/// The event that caused a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumIter, EnumString, IntoStaticStr, Serialize, Deserialize)]
#[strum(serialize_all = "snake_case")]
pub enum NotificationKind {
    Mention,
    Reply,
    Reaction,
    AddedToChat,
    MissedCall,
}

/// A notification of one user.
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
    /// Returns a notification for a member, unless they are the actor or their preferences forbid it.
    pub fn for_user(
        member: &Member,
        organization: &OrganizationId,
        kind: NotificationKind,
        seq: Option<i64>,
        actor: &UserId,
        now: DateTime<Utc>,
    ) -> Option<Self> {
        (member.user != *actor && is_wanted_by(member, kind, now)).then(|| Self {
            id: NotificationId::new(organization.bucket()),
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

    /// Returns the message that the notification is about.
    pub fn message(&self) -> Option<MessageId> {
        self.seq.map(|seq| MessageId { chat: self.chat, seq })
    }
}

/// Returns whether a member's preferences allow a notification now.
///
/// Mentions, and missed calls, because a muted chat rings too, need only a level above NONE: they are kept for the time
/// after the mute. The level MENTIONS and a mute allow no others.
fn is_wanted_by(member: &Member, kind: NotificationKind, now: DateTime<Utc>) -> bool {
    let is_kept = matches!(kind, NotificationKind::Mention | NotificationKind::MissedCall);
    let is_allowed = match member.preferences.notification_level {
        NotificationLevel::All => is_kept || !member.is_muted(now),
        NotificationLevel::Mentions => is_kept,
        NotificationLevel::None => false,
    };
    member.is_active() && is_allowed
}
