//! The effect of a token revocation on this node, and the search for revocations made by other nodes.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::clock::Clock;
use crate::domain::ids::{OrganizationId, UserId};
use crate::realtime::sessions::Sessions;
use crate::service::known_users::KnownUsers;
use crate::storage;
use crate::storage::pool::Database;
use crate::tasks::{TickLoop, Wait};

/// The interval at which the database is searched for revocations of other nodes.
///
/// The message of a revocation may be lost, and output has to end within a second of it.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// The largest expected difference between the clocks of two nodes.
const CLOCK_SKEW_MARGIN: TimeDelta = TimeDelta::seconds(30);

/// Rejects a user's tokens that were issued up to a time, and ends their sessions on this node.
pub fn end_sessions(
    known_users: &KnownUsers,
    sessions: &Sessions,
    organization: &OrganizationId,
    user: &UserId,
    before: DateTime<Utc>,
) {
    // In this order: a session that is opened meanwhile either sees the revocation or is found here.
    known_users.record_revocation(organization, user, before);
    sessions.revoke(&(organization.clone(), user.clone()), before);
}

/// Starts the task that applies the revocations of other nodes; it ends when the sessions are dropped.
pub fn start_polling(database: Database, clock: Clock, known_users: &Arc<KnownUsers>, sessions: &Arc<Sessions>) {
    let (polls, known_users) = (TickLoop::new(sessions, Arc::default()), known_users.clone());
    tokio::spawn(async move {
        let mut since = clock.now() - CLOCK_SKEW_MARGIN;
        while let Some(poll) = polls.next(Wait::For(POLL_INTERVAL)).await {
            let now = clock.now();
            let revoked = async { storage::users::revoked_since(&mut database.read().await?, since).await };
            match revoked.await {
                Ok(revoked) => {
                    since = now - CLOCK_SKEW_MARGIN;
                    for (organization, user, before) in revoked {
                        end_sessions(&known_users, &poll.owner, &organization, &user, before);
                    }
                }
                Err(error) => tracing::debug!(%error, "could not read token revocations; will try again"),
            }
        }
    });
}
