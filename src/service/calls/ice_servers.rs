//! The servers by which devices in a call find a way to each other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use crate::auth::keys::Secret;
use crate::config::IceUrl;
use crate::domain::users::Viewer;
use crate::service::context::AppContext;

/// What a browser is to be given (`RTCIceServer` of the W3C's WebRTC 1.0).
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
    /// As a TURN server with the same secret checks them (`draft-uberti-behave-turn-rest-00`, section 2.2, and
    /// coturn's `use-auth-secret`): the name is the end in seconds since 1970 and the person, the password a
    /// HMAC of it by SHA-1.
    pub fn new(secret: &Secret, user: &str, expires_at: DateTime<Utc>) -> Self {
        let username = format!("{}:{user}", expires_at.timestamp());
        let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
        mac.update(username.as_bytes());
        let password = BASE64.encode(mac.finalize().into_bytes());
        Self { username, password, expires_at }
    }
}

/// The STUN and TURN servers of the settings, with credentials for the viewer.
pub fn servers(app: &AppContext, viewer: &Viewer) -> Vec<IceServer> {
    let config = &app.config.calls;
    let words = |urls: &[IceUrl]| urls.iter().map(|url| url.as_str().to_owned()).collect::<Vec<_>>();
    let stun = IceServer { urls: words(&config.stun_urls), credentials: None };
    let credentials = config.turn_secret.as_ref().map(|secret| {
        let holds = TimeDelta::from_std(config.turn_credential_ttl).unwrap_or(TimeDelta::MAX);
        TurnCredentials::new(secret, viewer.id().as_str(), app.clock.now() + holds)
    });
    let turn = IceServer { urls: words(&config.turn_urls), credentials };
    [stun, turn].into_iter().filter(|server| !server.urls.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_what_coturn_makes_of_its_secret() {
        let at = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let made = TurnCredentials::new(&Secret::from("north".to_owned()), "alice", at);
        assert_eq!(made.username, "1700000000:alice");
        // printf 1700000000:alice | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(made.password, "Cd/49soE35ICqcJF/bCTn8Z4OyE=");
    }
}
