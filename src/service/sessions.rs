//! Connections that outlive a request: opened by a token, gone on with a fresh one, and ended by the
//! revocation of all that a person has.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::clock::Clock;
use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::rights::require_permission;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::realtime::cluster::publisher::ClusterMessage;
use crate::realtime::sessions::{Session, Sessions};
use crate::service::context::AppContext;
use crate::service::users;
use crate::service::users::KnownUsers;
use crate::storage;
use crate::storage::pool::Database;

/// A session of whom a token speaks for.
pub async fn open(app: &AppContext, token: &str) -> Result<Arc<Session>> {
    open_for_viewer(app, Arc::new(users::authenticate(app, token).await?))
}

/// The same for one who is known already.
pub fn open_for_viewer(app: &AppContext, viewer: Arc<Viewer>) -> Result<Arc<Session>> {
    let session = app.sessions.open(viewer.clone());
    // What is revoked from here on finds the session; what was revoked meanwhile is found now.
    app.known_users.check_revocation(&viewer)?;
    Ok(session)
}

/// Goes on with a fresh token, of the same person, until its end.
pub async fn renew(app: &AppContext, session: &Arc<Session>, token: &str) -> Result<DateTime<Utc>> {
    let viewer = users::authenticate(app, token).await.map_err(|error| match error {
        Error::Unauthenticated { message, .. } => Error::bad_input("token", message),
        error => error,
    })?;
    let known = session.viewer();
    if (viewer.organization(), viewer.id()) != (known.organization(), known.id()) {
        return Err(Error::Forbidden("the token is of another person".into()));
    }
    require_permission(&viewer.permissions, Permission::ChatView)?;
    let expires_at = viewer.expires_at;
    session.renew(Arc::new(viewer));
    Ok(expires_at)
}

/// Revokes all tokens of a person that were made until now, and ends their connections: here at once,
/// on other nodes as soon as they hear of it, within a second.
pub async fn revoke(app: &AppContext, viewer: &Viewer, user: UserId) -> Result<DateTime<Utc>> {
    require_permission(&viewer.permissions, Permission::OrganizationAdmin)?;
    let (organization, before) = (viewer.organization().clone(), app.clock.now());
    let mut conn = app.database.write().await?;
    conn.transaction(async |conn| storage::users::revoke(conn, &organization, &user, before).await).await?;
    drop(conn);
    end_sessions(&app.known_users, &app.sessions, &organization, &user, before);
    app.publisher.send_to_peers(ClusterMessage::TokensRevoked { organization, user, before });
    Ok(before)
}

/// Ends what a person has open by tokens up to this moment.
pub fn end_sessions(
    seen: &KnownUsers,
    sessions: &Sessions,
    organization: &OrganizationId,
    user: &UserId,
    before: DateTime<Utc>,
) {
    seen.record_revocation(organization, user, before);
    sessions.revoke(&(organization.clone(), user.clone()), before);
}

/// How often the database is asked who was revoked, where other nodes may have done it: what they say
/// may be lost.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How far the clocks of nodes may differ.
const CLOCK_SKEW_MARGIN: TimeDelta = TimeDelta::seconds(30);

/// Looks for what other nodes revoked, as long as anybody holds the sessions.
pub fn poll_revocations(store: Database, clock: Clock, seen: &Arc<KnownUsers>, sessions: &Arc<Sessions>) {
    let (seen, sessions) = (Arc::downgrade(seen), Arc::downgrade(sessions));
    tokio::spawn(async move {
        let mut since = clock.now() - CLOCK_SKEW_MARGIN;
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let (Some(seen), Some(sessions)) = (seen.upgrade(), sessions.upgrade()) else { return };
            let now = clock.now();
            let found = async { storage::users::revoked_since(&mut store.read().await?, since).await };
            match found.await {
                Ok(revoked) => {
                    since = now - CLOCK_SKEW_MARGIN;
                    for (organization, user, before) in revoked {
                        end_sessions(&seen, &sessions, &organization, &user, before);
                    }
                }
                Err(error) => tracing::debug!(%error, "revocations could not be read; trying again"),
            }
        }
    });
}
