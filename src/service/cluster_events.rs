//! The effects of other nodes' messages on the state that use cases share.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::domain::ids::{OrganizationId, UserId};
use crate::realtime::cluster::handler::ClusterEventListener;
use crate::realtime::cluster::message::RateLimitUsage;
use crate::realtime::sessions::Sessions;
use crate::service::known_users::KnownUsers;
use crate::service::rate_limits::RateLimits;
use crate::service::token_revocation::end_sessions;

/// The receiver of other nodes' rate limit usage and token revocations.
pub struct RemoteEvents {
    pub rate_limits: Arc<RateLimits>,
    pub known_users: Arc<KnownUsers>,
    pub sessions: Arc<Sessions>,
}

impl ClusterEventListener for RemoteEvents {
    fn on_rate_limit_usage(&self, usage: &[RateLimitUsage]) {
        self.rate_limits.apply_remote_usage(usage);
    }

    fn on_tokens_revoked(&self, organization: &OrganizationId, user: &UserId, before: DateTime<Utc>) {
        end_sessions(&self.known_users, &self.sessions, organization, user, before);
    }
}
