//! Sessions: connections that outlive a request. A token opens one, a fresh token extends it, and a revocation ends it.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::rights::require_permission;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::realtime::cluster::message::ClusterMessage;
use crate::realtime::sessions::Session;
use crate::service::calls::transaction::leave_after_revocation;
use crate::service::context::AppContext;
use crate::service::token_revocation::end_sessions;
use crate::service::users::authenticate;
use crate::storage::{calls, users};

/// Opens a session for the user of a token.
///
/// # Errors
///
/// Returns [`Error::Unauthenticated`] if the token is not valid.
pub async fn open(app: &AppContext, token: &str) -> Result<Arc<Session>> {
    open_for_viewer(app, Arc::new(authenticate(app, token).await?))
}

/// Opens a session for a viewer who is authenticated already.
///
/// # Errors
///
/// Returns [`Error::Unauthenticated`] if the viewer's token was revoked meanwhile, and [`Error::Moved`] if another server
/// has their organisation meanwhile.
pub fn open_for_viewer(app: &AppContext, viewer: Arc<Viewer>) -> Result<Arc<Session>> {
    let session = app.sessions.open(viewer.clone());
    // A later revocation finds the session; an earlier one is found here.
    app.known_users.check_revocation(&viewer)?;
    app.organization_moves.require_served(viewer.organization())?;
    Ok(session)
}

/// Extends a session by a fresh token of the same user, and returns when that token expires.
///
/// # Errors
///
/// Returns [`Error::BadUserInput`] if the token is not valid, and [`Error::Forbidden`] if it belongs to another user or
/// lacks the permission `chat.view`.
pub async fn renew(app: &AppContext, session: &Arc<Session>, token: &str) -> Result<DateTime<Utc>> {
    let current = session.viewer();
    app.rate_limits.check_write(&current)?;
    let viewer = authenticate(app, token).await.map_err(|error| match error {
        Error::Unauthenticated { message, .. } => Error::bad_input("token", format!("is not valid: {message}")),
        error => error,
    })?;
    if (viewer.organization(), viewer.id()) != (current.organization(), current.id()) {
        return Err(Error::Forbidden("the token belongs to another user".into()));
    }
    require_permission(&viewer.permissions, Permission::ChatView)?;
    let expires_at = viewer.expires_at;
    session.renew(Arc::new(viewer));
    Ok(expires_at)
}

/// Lets a user leave all calls, whose other participants would otherwise wait for the end of a lease.
async fn leave_calls(app: &AppContext, organization: &OrganizationId, user: &UserId) -> Result<()> {
    let joined = calls::joined_by(&mut app.database.read().await?, organization, user).await?;
    for call in joined {
        leave_after_revocation(app, call, user).await?;
    }
    Ok(())
}

/// Revokes all tokens of a user that were issued until now, and returns the time of the revocation.
///
/// The user's sessions end at once on this node, and within a second on the others. The user leaves all calls.
///
/// # Errors
///
/// Returns [`Error::Forbidden`] if the viewer is not an administrator of the organisation.
pub async fn revoke(app: &AppContext, viewer: &Viewer, user: UserId) -> Result<DateTime<Utc>> {
    require_permission(&viewer.permissions, Permission::OrganizationAdmin)?;
    app.rate_limits.check_write(viewer)?;
    let (organization, before) = (viewer.organization().clone(), app.clock.now());
    let mut conn = app.database.write().await?;
    conn.transaction(async |conn| users::revoke(conn, &organization, &user, before).await).await?;
    drop(conn);
    end_sessions(&app.known_users, &app.sessions, &organization, &user, before);
    let revoked = ClusterMessage::TokensRevoked { organization: organization.clone(), user: user.clone(), before };
    app.publisher.send_to_peers(revoked);
    leave_calls(app, &organization, &user).await?;
    Ok(before)
}
