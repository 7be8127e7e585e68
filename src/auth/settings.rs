//! The settings of authentication. `config` reads them from the environment.

use std::path::PathBuf;
use std::time::Duration;

use crate::auth::keys::{Algorithm, KeySource};
use crate::domain::users::Permissions;

/// The keys and rules by which tokens are verified.
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// The source of the keys. A server without one is a development server, which creates a secret.
    pub key_source: Option<KeySource>,
    /// The only algorithm by which a token may be signed.
    pub algorithm: Algorithm,
    /// The `iss` that a token must have.
    pub issuer: Option<String>,
    /// The `aud` that a token must have.
    pub audience: Option<String>,
    /// The difference between clocks that `exp`, `nbf` and `iat` allow for.
    pub leeway: Duration,
    /// The greatest time from now to the expiry of a token.
    pub max_lifetime: Duration,
    /// The permissions of a token that has no claim `permissions`.
    pub default_permissions: Permissions,
    /// The directory in which a development server keeps its secret.
    pub data_dir: PathBuf,
}

impl AuthSettings {
    /// Returns true for a server without keys, which creates a secret and listens on loopback only.
    pub fn is_development(&self) -> bool {
        self.key_source.is_none()
    }
}
