//! Connections that outlive a request: opened by a token, and gone on with a fresh one.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::users;
use crate::app::App;
use crate::domain::rights::require;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::live::Session;

/// A session of whom a token speaks for.
pub async fn open(app: &App, token: &str) -> Result<Arc<Session>> {
    let viewer = Arc::new(users::authenticate(app, token).await?);
    start(app, viewer)
}

/// The same for one who is known already.
pub fn start(app: &App, viewer: Arc<Viewer>) -> Result<Arc<Session>> {
    let session = app.sessions.open(viewer.clone());
    Ok(session)
}

/// Goes on with a fresh token, of the same person, until its end.
pub async fn renew(app: &App, session: &Arc<Session>, token: &str) -> Result<DateTime<Utc>> {
    let viewer = users::authenticate(app, token).await.map_err(|error| match error {
        Error::Unauthenticated { message, .. } => Error::bad_input("token", message),
        error => error,
    })?;
    let known = session.viewer();
    if (viewer.organization(), viewer.id()) != (known.organization(), known.id()) {
        return Err(Error::Forbidden("the token is of another person".into()));
    }
    require(&viewer.permissions, Permission::ChatView)?;
    let expires_at = viewer.expires_at;
    session.renew(Arc::new(viewer));
    Ok(expires_at)
}
