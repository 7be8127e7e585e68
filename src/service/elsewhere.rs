//! What other nodes tell that concerns the use cases.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::limits::Limits;
use super::sessions;
use super::users::Seen;
use crate::domain::ids::{OrganizationId, UserId};
use crate::live::Sessions;
use crate::live::bus::Spent;
use crate::live::peers::Above;

pub struct Elsewhere {
    pub limits: Arc<Limits>,
    pub seen: Arc<Seen>,
    pub sessions: Arc<Sessions>,
}

impl Above for Elsewhere {
    fn spent(&self, spent: &[Spent]) {
        self.limits.spent_elsewhere(spent);
    }

    fn revoked(&self, organization: &OrganizationId, user: &UserId, before: DateTime<Utc>) {
        sessions::end(&self.seen, &self.sessions, organization, user, before);
    }
}
