//! What other nodes tell that concerns the use cases.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::domain::ids::{OrganizationId, UserId};
use crate::realtime::cluster::handler::Above;
use crate::realtime::cluster::publisher::Spent;
use crate::realtime::sessions::Sessions;
use crate::service::rate_limits::Limits;
use crate::service::sessions;
use crate::service::users::Seen;

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
