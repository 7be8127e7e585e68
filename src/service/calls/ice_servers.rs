//! The STUN and TURN servers by which the devices of a call reach each other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use crate::auth::keys::Secret;
use crate::domain::rights::require_permission;
use crate::domain::users::{Permission, Viewer};
use crate::error::Result;
use crate::service::context::AppContext;
use crate::service::settings::IceUrl;
use crate::storage::calls;

/// The configuration of a server for a browser (`RTCIceServer` of the W3C's WebRTC 1.0).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceServer {
    pub urls: Vec<String>,
    pub credentials: Option<TurnCredentials>,
}

/// Time-limited credentials of a TURN server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnCredentials {
    pub username: String,
    pub password: String,
    pub expires_at: DateTime<Utc>,
}

impl TurnCredentials {
    /// Returns credentials that a TURN server with the same secret accepts until `expires_at`.
    ///
    /// The scheme is that of `draft-uberti-behave-turn-rest-00`, section 2.2, and of coturn's `use-auth-secret`: the
    /// username is the expiry in seconds since 1970 and the user, and the password is the username's HMAC with SHA-1.
    ///
    /// # Panics
    ///
    /// Never panics: an HMAC accepts a key of any length.
    pub fn new(secret: &Secret, user: &str, expires_at: DateTime<Utc>) -> Self {
        let username = format!("{}:{user}", expires_at.timestamp());
        let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("an HMAC accepts a key of any length");
        mac.update(username.as_bytes());
        let password = BASE64.encode(mac.finalize().into_bytes());
        Self { username, password, expires_at }
    }
}

/// Returns the STUN and TURN servers for a viewer who may take part in calls.
///
/// # Errors
///
/// Returns [`Error::Forbidden`](crate::error::Error::Forbidden) if the viewer's token lacks the permission `chat.view`,
/// or lacks `chat.initiate_call` while the viewer is in no call.
pub async fn for_viewer(app: &AppContext, viewer: &Viewer) -> Result<Vec<IceServer>> {
    require_permission(&viewer.permissions, Permission::ChatView)?;
    if let Err(denial) = require_permission(&viewer.permissions, Permission::ChatInitiateCall) {
        let mut conn = app.database.read().await?;
        if !calls::is_in_call(&mut conn, viewer.organization(), viewer.id()).await? {
            return Err(denial.into());
        }
    }
    Ok(servers(app, viewer))
}

/// Returns the configured STUN and TURN servers, with credentials for the viewer.
///
/// The credentials end with the viewer's token at the latest. The caller has checked that the viewer may take part in a
/// call.
pub fn servers(app: &AppContext, viewer: &Viewer) -> Vec<IceServer> {
    let settings = &app.settings.calls;
    let urls = |urls: &[IceUrl]| urls.iter().map(|url| url.as_str().to_owned()).collect::<Vec<_>>();
    let stun = IceServer { urls: urls(&settings.stun_urls), credentials: None };
    let credentials = settings.turn_secret.as_ref().map(|secret| {
        let ttl = TimeDelta::from_std(settings.turn_credential_ttl).unwrap_or(TimeDelta::MAX);
        let token_expires_at = viewer.expires_at - app.authenticator.leeway();
        TurnCredentials::new(secret, viewer.id().as_str(), token_expires_at.min(app.clock.now() + ttl))
    });
    let turn = IceServer { urls: urls(&settings.turn_urls), credentials };
    [stun, turn].into_iter().filter(|server| !server.urls.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turn_credentials_equal_those_that_coturn_derives() {
        let expires_at = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let credentials = TurnCredentials::new(&Secret::from("north".to_owned()), "alice", expires_at);
        assert_eq!(credentials.username, "1700000000:alice");
        // printf 1700000000:alice | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(credentials.password, "Cd/49soE35ICqcJF/bCTn8Z4OyE=");
    }
}
