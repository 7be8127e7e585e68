//! Messages that people report, for moderators to look at.

use chrono::{DateTime, Utc};
use strum::{EnumString, IntoStaticStr};

use crate::domain::ids::{MessageId, OrganizationId, ReportId, UserId};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub id: ReportId,
    pub organization: OrganizationId,
    pub message: MessageId,
    pub reporter: UserId,
    pub reason: String,
    /// What the message said when it was reported.
    pub text: Option<String>,
    pub created_at: DateTime<Utc>,
    pub resolved: Option<ReportResolutionRecord>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportResolutionRecord {
    pub resolved_at: DateTime<Utc>,
    pub resolved_by: UserId,
    pub resolution: ReportResolution,
}

/// What a moderator made of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ReportResolution {
    /// Nothing was wrong.
    Dismissed,
    /// Something was done about it.
    ActionTaken,
}

/// Longest reason, in characters.
pub const MAX_REASON_CHARS: usize = 1_000;
