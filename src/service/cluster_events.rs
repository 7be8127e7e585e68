//! What other nodes tell that concerns the use cases.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::domain::ids::{OrganizationId, UserId};
use crate::realtime::cluster::handler::ClusterEventListener;
use crate::realtime::cluster::publisher::RateLimitUsage;
use crate::realtime::sessions::Sessions;
use crate::service::rate_limits::RateLimits;
use crate::service::sessions;
use crate::service::users::KnownUsers;

pub struct RemoteEvents {
    pub rate_limits: Arc<RateLimits>,
    pub known_users: Arc<KnownUsers>,
    pub sessions: Arc<Sessions>,
}

impl ClusterEventListener for RemoteEvents {
    fn on_rate_limit_usage(&self, spent: &[RateLimitUsage]) {
        self.rate_limits.apply_remote_usage(spent);
    }

    fn on_tokens_revoked(&self, organization: &OrganizationId, user: &UserId, before: DateTime<Utc>) {
        sessions::end_sessions(&self.known_users, &self.sessions, organization, user, before);
    }
}
