//! The verification of tokens (RFC 7519), and their issue for tests and development.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::Deserialize;
use serde_json::Value;

use crate::auth::jwks::{Jwks, JwksError, JwksLocation};
use crate::auth::keys::{KeySource, load_or_create_development_secret};
use crate::auth::settings::AuthSettings;
use crate::crypto_provider;
use crate::domain::clock::Clock;
use crate::domain::text;
use crate::domain::users::{Permission, Permissions, User, Viewer};
use crate::error::{Error, Result};

/// The maximum length of a token.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// The length to which a display name is cut.
const MAX_NAME_CHARS: usize = 200;
/// The lifetime of the tokens that a development server prints.
const DEMO_TOKEN_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// Verifies tokens by the configured keys and algorithm, which a token cannot choose.
pub struct Authenticator {
    keys: KeyStore,
    validation: Validation,
    leeway: Duration,
    default_permissions: Permissions,
    clock: Clock,
}

enum KeyStore {
    Secret { decoding: DecodingKey, encoding: EncodingKey },
    Jwks(Box<Jwks>),
}

/// A reason why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The secret of a development server cannot be read or created.
    #[error("PARLOR_DATA: {}: {source}", path.display())]
    DevelopmentSecret {
        /// The directory that contains the secret.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The client that fetches a key set cannot be created.
    #[error("PARLOR_JWKS: the HTTP client cannot be created: {0}")]
    HttpClient(#[source] reqwest::Error),
    /// The key set cannot be used.
    #[error("PARLOR_JWKS: {0}")]
    Jwks(#[from] JwksError),
    /// A key set has no private key to issue tokens with.
    #[error("PARLOR_JWKS: contains public keys only; tokens are issued by the host application")]
    NoSigningKey,
    /// A token cannot be signed.
    #[error("the token cannot be signed: {0}")]
    Signing(#[from] jsonwebtoken::errors::Error),
}

/// The claims that Parlor reads (RFC 7519, section 4.1, and `org` and `permissions`).
///
/// jsonwebtoken verifies `iss` and `aud`.
#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    org: String,
    name: Option<String>,
    picture: Option<String>,
    permissions: Option<Vec<String>>,
    /// A NumericDate may have a fraction.
    exp: f64,
    nbf: Option<f64>,
    /// A value of any type: one that is not a NumericDate counts as absent.
    iat: Option<Value>,
}

/// The content of a token to issue.
#[derive(Debug, Clone, Default)]
pub struct TokenSpec {
    /// The claim `org`.
    pub organization: String,
    /// The claim `sub`.
    pub user: String,
    /// The claim `name`.
    pub name: Option<String>,
    /// The claim `permissions`; without it the configured default applies.
    pub permissions: Option<Vec<String>>,
    /// The time from issue to expiry.
    pub lifetime: Duration,
}

impl TokenSpec {
    /// Returns the content of a development server's token: a user of the organisation `demo`, for 30 days.
    pub fn demo(user: &str, name: &str) -> Self {
        Self {
            organization: "demo".into(),
            user: user.into(),
            name: Some(name.into()),
            permissions: None,
            lifetime: DEMO_TOKEN_LIFETIME,
        }
    }
}

impl Authenticator {
    /// Creates an authenticator. A development server loads or creates its secret.
    ///
    /// A key set is not read yet: see [`Self::load_initial_keys`].
    ///
    /// # Errors
    ///
    /// Fails if a development secret cannot be read or created, or if the client of a key set cannot be created.
    pub fn new(settings: &AuthSettings, clock: Clock) -> Result<Self, KeyError> {
        let algorithm = settings.algorithm;
        let source = match &settings.key_source {
            Some(source) => source.clone(),
            None => {
                let path = &settings.data_dir;
                let secret = load_or_create_development_secret(path)
                    .map_err(|source| KeyError::DevelopmentSecret { path: path.clone(), source })?;
                KeySource::Secret(secret)
            }
        };
        let keys = match source {
            KeySource::Secret(secret) => KeyStore::Secret {
                decoding: DecodingKey::from_secret(secret.as_bytes()),
                encoding: EncodingKey::from_secret(secret.as_bytes()),
            },
            KeySource::File(file) => {
                KeyStore::Jwks(Box::new(Jwks::new(JwksLocation::File(file), algorithm, clock.clone())))
            }
            KeySource::Url(url) => {
                crypto_provider::install_crypto_provider();
                let client = reqwest::Client::builder().build().map_err(KeyError::HttpClient)?;
                KeyStore::Jwks(Box::new(Jwks::new(JwksLocation::Url { url, client }, algorithm, clock.clone())))
            }
        };
        let mut validation = Validation::new(algorithm);
        // `verify` checks the times by the server's clock, which tests can move.
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        validation.validate_aud = settings.audience.is_some();
        if let Some(issuer) = &settings.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".into());
        }
        if let Some(audience) = &settings.audience {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".into());
        }
        let default_permissions = settings.default_permissions.clone();
        Ok(Self { keys, validation, leeway: settings.leeway, default_permissions, clock })
    }

    /// Reads a key set for the first time. An address that cannot be reached yet is only logged.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read or contains no key for the configured algorithm.
    pub async fn load_initial_keys(&self) -> Result<(), KeyError> {
        let KeyStore::Jwks(jwks) = &self.keys else { return Ok(()) };
        match jwks.load().await {
            Ok(keys) => tracing::info!(keys, "read the token keys"),
            Err(error) if jwks.is_remote() => tracing::warn!(%error, "the token keys cannot be read yet"),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Verifies a token and returns the user that it identifies.
    ///
    /// # Errors
    ///
    /// Fails with `UNAUTHENTICATED` if the token is not valid, retryable only if a newer token or a key rotation can
    /// help, and with `UNAVAILABLE` if the keys cannot be read.
    pub async fn verify(&self, token: &str) -> Result<Viewer> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Error::unauthenticated(format!("the token must have at most {MAX_TOKEN_BYTES} bytes")));
        }
        let claims = match &self.keys {
            KeyStore::Secret { decoding, .. } => self.decode(token, decoding)?,
            KeyStore::Jwks(jwks) => {
                let header =
                    jsonwebtoken::decode_header(token).map_err(|_| Error::unauthenticated("the token is malformed"))?;
                self.decode(token, &jwks.key(header.kid.as_deref()).await?)?
            }
        };
        let invalid = |claim: &str, rule: &str| Error::unauthenticated(format!("the token's {claim} must {rule}"));
        let be_a_date = "be a NumericDate (RFC 7519, section 2)";
        let be_an_id = "have 1 to 255 bytes without control characters";
        let expires_at = numeric_date(claims.exp).ok_or_else(|| invalid("exp", be_a_date))? + self.leeway;
        let now = self.clock.now();
        if now >= expires_at {
            return Err(Error::Unauthenticated { message: "the token has expired".into(), retryable: true });
        }
        if let Some(nbf) = claims.nbf {
            let not_before = numeric_date(nbf).ok_or_else(|| invalid("nbf", be_a_date))?;
            if now + self.leeway < not_before {
                return Err(Error::unauthenticated("the token is not valid yet"));
            }
        }
        let id = claims.sub.parse().map_err(|_| invalid("sub", be_an_id))?;
        let organization = claims.org.parse().map_err(|_| invalid("org", be_an_id))?;
        let name = claims.name.as_deref().and_then(display_name).unwrap_or_else(|| claims.sub.clone());
        let avatar_url = claims.picture.as_deref().and_then(|url| text::validate_url("picture", url).ok());
        let permissions = match claims.permissions {
            // A host application may know permissions of a newer version, which grant nothing here.
            Some(names) => names.iter().filter_map(|name| name.parse::<Permission>().ok()).collect(),
            None => self.default_permissions.clone(),
        };
        Ok(Viewer {
            user: User { organization, id, name, avatar_url, last_seen_at: None },
            permissions,
            issued_at: claims.iat.as_ref().and_then(Value::as_f64).and_then(numeric_date),
            expires_at,
        })
    }

    fn decode(&self, token: &str, key: &DecodingKey) -> Result<Claims> {
        use jsonwebtoken::errors::ErrorKind;
        let decoded = jsonwebtoken::decode::<Claims>(token, key, &self.validation);
        // Critical header parameters must be understood (RFC 7515, section 4.1.11), and Parlor understands none.
        if decoded.as_ref().is_ok_and(|token| token.header.crit.is_some()) {
            return Err(Error::unauthenticated("the token must have no critical header parameters"));
        }
        decoded.map(|token| token.claims).map_err(|error| {
            let message = match error.kind() {
                ErrorKind::InvalidSignature => "the token's signature is invalid".to_owned(),
                ErrorKind::InvalidAlgorithm => {
                    format!("the token must be signed by {:?}", self.validation.algorithms[0])
                }
                ErrorKind::InvalidIssuer => "the token's iss must be the configured issuer".to_owned(),
                ErrorKind::InvalidAudience => "the token's aud must contain the configured audience".to_owned(),
                ErrorKind::MissingRequiredClaim(claim) => format!("the token must have the claim {claim}"),
                _ => "the token is malformed".to_owned(),
            };
            Error::unauthenticated(message)
        })
    }

    /// Issues a token that is signed by the configured secret.
    ///
    /// # Errors
    ///
    /// Fails with [`KeyError::NoSigningKey`] if the keys come from a key set, which contains public keys only.
    pub fn issue(&self, spec: &TokenSpec) -> Result<String, KeyError> {
        let KeyStore::Secret { encoding, .. } = &self.keys else {
            return Err(KeyError::NoSigningKey);
        };
        let now = self.clock.now();
        let exp = (now + spec.lifetime).timestamp();
        let only = |values: &Option<HashSet<String>>| values.iter().flatten().next().cloned();
        let mut claims = serde_json::json!({ "sub": spec.user, "org": spec.organization, "exp": exp });
        claims["iat"] = now.timestamp().into();
        for (claim, value) in [
            ("name", spec.name.clone().map(Value::from)),
            ("permissions", spec.permissions.clone().map(Value::from)),
            ("iss", only(&self.validation.iss).map(Value::from)),
            ("aud", only(&self.validation.aud).map(Value::from)),
        ] {
            if let Some(value) = value {
                claims[claim] = value;
            }
        }
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, encoding)?)
    }
}

/// Converts a NumericDate (RFC 7519, section 2). A later date than the year 9999 becomes the end of that year.
fn numeric_date(seconds: f64) -> Option<DateTime<Utc>> {
    const YEAR_9999: f64 = 253_402_300_799.0;
    if !seconds.is_finite() || seconds < 0.0 {
        return None;
    }
    DateTime::from_timestamp_millis((seconds.min(YEAR_9999) * 1000.0) as i64)
}

/// Returns a name on one line, cut to [`MAX_NAME_CHARS`], or `None` if it is blank.
fn display_name(name: &str) -> Option<String> {
    let name: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_NAME_CHARS).collect();
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}
