//! The verification of tokens (RFC 7519), and their issue for tests and development.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::Value;

use crate::auth::claims::Claims;
use crate::auth::jwks::{Jwks, JwksError, JwksLocation};
use crate::auth::keys::{KeySource, load_or_create_development_secret};
use crate::auth::settings::AuthSettings;
use crate::crypto_provider;
use crate::domain::clock::Clock;
use crate::domain::text;
use crate::domain::users::{Permission, Permissions, User, Viewer};
use crate::error::{Error, Result, message_with_sources};

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
    max_lifetime: Duration,
    default_permissions: Permissions,
    clock: Clock,
}

enum KeyStore {
    Secret {
        /// The current secret, and the previous one if a rotation is in progress.
        decoding: Vec<DecodingKey>,
        encoding: EncodingKey,
    },
    Jwks(Arc<Jwks>),
}

/// The ability of an authenticator to verify tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyReadiness {
    /// True if there are keys: they were read once, or come from a secret.
    pub has_keys: bool,
    /// The cause of the last failure to read the keys, with its sources, unless a read succeeded since.
    pub last_error: Option<Arc<str>>,
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
    #[error("PARLOR_JWKS: {}", message_with_sources(.0))]
    Jwks(#[from] JwksError),
    /// A key set has no private key to issue tokens with.
    #[error("PARLOR_JWKS: contains public keys only; tokens are issued by the host application")]
    NoSigningKey,
    /// A token cannot be signed.
    #[error("the token cannot be signed: {0}")]
    Signing(#[from] jsonwebtoken::errors::Error),
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
    /// The claim `picture`.
    pub picture: Option<String>,
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
            picture: None,
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
                KeySource::Secret { current: secret, previous: None }
            }
        };
        let keys = match source {
            KeySource::Secret { current, previous } => KeyStore::Secret {
                encoding: EncodingKey::from_secret(current.as_bytes()),
                decoding: std::iter::once(current)
                    .chain(previous)
                    .map(|secret| DecodingKey::from_secret(secret.as_bytes()))
                    .collect(),
            },
            KeySource::File(file) => KeyStore::Jwks(Jwks::new(JwksLocation::File(file), algorithm, clock.clone())),
            KeySource::Url(url) => {
                crypto_provider::install_crypto_provider();
                // A redirect could lead to a host that the operator does not trust with keys.
                let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
                let client = client.build().map_err(KeyError::HttpClient)?;
                KeyStore::Jwks(Jwks::new(JwksLocation::Url { url, client }, algorithm, clock.clone()))
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
        let (leeway, max_lifetime) = (settings.leeway, settings.max_lifetime);
        Ok(Self { keys, validation, leeway, max_lifetime, default_permissions, clock })
    }

    /// Reads a key set for the first time, and starts to read it again while it is used.
    ///
    /// An address that cannot be reached yet is only logged.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read or contains no key for the configured algorithm.
    pub async fn load_initial_keys(&self) -> Result<(), KeyError> {
        let KeyStore::Jwks(jwks) = &self.keys else { return Ok(()) };
        match jwks.load().await {
            Ok(keys) => tracing::info!(keys, "read the token keys"),
            Err(error) if jwks.is_remote() => {
                let error = message_with_sources(&error);
                tracing::warn!(error, "the token keys cannot be read yet");
            }
            Err(error) => return Err(error.into()),
        }
        jwks.start_refreshing();
        Ok(())
    }

    /// Returns the difference between clocks that the times of tokens allow for.
    pub fn leeway(&self) -> Duration {
        self.leeway
    }

    /// Returns whether tokens can be verified, and otherwise why not.
    pub fn readiness(&self) -> KeyReadiness {
        let (has_keys, last_error) = match &self.keys {
            KeyStore::Secret { .. } => (true, None),
            KeyStore::Jwks(jwks) => jwks.state(),
        };
        KeyReadiness { has_keys, last_error }
    }

    /// Reads a key set again and returns the number of its keys; `None` for a secret, which cannot change.
    ///
    /// # Errors
    ///
    /// Fails if the set cannot be read or contains no key for the configured algorithm. The known keys stay valid.
    pub async fn reload_keys(&self) -> Result<Option<usize>, KeyError> {
        match &self.keys {
            KeyStore::Secret { .. } => Ok(None),
            KeyStore::Jwks(jwks) => Ok(Some(jwks.load().await?)),
        }
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
                self.decode(token, &[jwks.key(header.kid.as_deref()).await?])?
            }
        };
        self.viewer(&claims)
    }

    /// Returns the viewer of a token whose signature, issuer and audience are verified.
    fn viewer(&self, claims: &Claims) -> Result<Viewer> {
        let invalid = |claim: &str, rule: &str| Error::unauthenticated(format!("the token's {claim} must {rule}"));
        let be_an_id = "have 1 to 255 bytes without control, invisible or surrounding white space characters";
        let now = self.clock.now();
        let expires_at = claims.expires_at()? + self.leeway;
        if now >= expires_at {
            return Err(Error::Unauthenticated { message: "the token has expired".into(), retryable: true });
        }
        if expires_at > now + self.max_lifetime + self.leeway {
            let days = self.max_lifetime.as_secs() / 86_400;
            return Err(invalid("exp", &format!("be at most {days} days from now, in seconds since 1970")));
        }
        if claims.not_before()?.is_some_and(|not_before| now + self.leeway < not_before) {
            return Err(Error::unauthenticated("the token is not valid yet"));
        }
        let issued_at = claims.issued_at()?;
        // A revocation could never reach such a token.
        if issued_at.is_some_and(|issued_at| now + self.leeway < issued_at) {
            return Err(invalid("iat", "not be in the future, in seconds since 1970"));
        }
        let (subject, name) = (claims.subject()?, claims.name()?);
        let id = subject.parse().map_err(|_| invalid("sub", be_an_id))?;
        let organization = claims.organization()?.parse().map_err(|_| invalid("org", be_an_id))?;
        let name = name.and_then(|name| text::clean_line(name, MAX_NAME_CHARS)).unwrap_or_else(|| subject.to_owned());
        let avatar_url = claims.picture()?.and_then(|url| text::validate_url("picture", url).ok());
        let permissions = match claims.permissions()? {
            // A host application may know permissions of a newer version, which grant nothing here.
            Some(names) => names.into_iter().filter_map(|name| name.parse::<Permission>().ok()).collect(),
            None => self.default_permissions.clone(),
        };
        let user = User { organization, id, name, avatar_url, last_seen_at: None };
        Ok(Viewer { user, permissions, issued_at, expires_at })
    }

    /// Returns the claims of a token that one of the keys has signed.
    fn decode(&self, token: &str, keys: &[DecodingKey]) -> Result<Claims> {
        let mut decoded = None;
        for key in keys {
            let result = jsonwebtoken::decode::<Claims>(token, key, &self.validation);
            let has_other_key = result.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::InvalidSignature));
            decoded = Some(result);
            if !has_other_key {
                break;
            }
        }
        let decoded = decoded.ok_or_else(|| Error::unauthenticated("there is no key for the token"))?;
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
            ("picture", spec.picture.clone().map(Value::from)),
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
