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
    pub resolved: Option<Resolved>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    pub at: DateTime<Utc>,
    pub by: UserId,
    pub resolution: Resolution,
}

/// What a moderator made of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Resolution {
    /// Nothing was wrong.
    Dismissed,
    /// Something was done about it.
    ActionTaken,
}

/// Longest reason, in characters.
pub const MAX_REASON: usize = 1_000;
