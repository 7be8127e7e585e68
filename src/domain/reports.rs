//! Reports of messages, for moderators to review.

use chrono::{DateTime, Utc};
use strum::{EnumString, IntoStaticStr};

use crate::domain::ids::{MessageId, OrganizationId, ReportId, UserId};

/// A user's report of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub id: ReportId,
    pub organization: OrganizationId,
    pub message: MessageId,
    pub reporter: UserId,
    pub reason: String,
    /// The message's text when it was reported.
    pub text: Option<String>,
    pub created_at: DateTime<Utc>,
    pub resolved: Option<ReportResolutionRecord>,
}

/// The resolution of a report, with its moderator and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportResolutionRecord {
    pub resolved_at: DateTime<Utc>,
    pub resolved_by: UserId,
    pub resolution: ReportResolution,
}

/// A moderator's decision on a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ReportResolution {
    /// The message breaks no rule.
    Dismissed,
    /// A moderator has acted on the message.
    ActionTaken,
}

/// The maximum length of a reason, in characters.
pub const MAX_REASON_CHARS: usize = 1_000;
