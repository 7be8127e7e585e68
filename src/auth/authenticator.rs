//! What a token says, and whether it holds.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::Deserialize;
use serde_json::Value;

use crate::auth::jwks::{Jwks, JwksLocation};
use crate::auth::keys::{KeySource, Secret};
use crate::config::AuthConfig;
use crate::crypto_provider;
use crate::domain::clock::Clock;
use crate::domain::text;
use crate::domain::users::{Permission, Permissions, User, Viewer};
use crate::error::{Error, Result};

/// Longest token, in bytes.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// Longest name that is kept of a token's, in characters.
const MAX_NAME_CHARACTERS: usize = 200;

/// Checks tokens against the configuration: the algorithm and the keys are never the token's choice.
pub struct Authenticator {
    keys: KeyStore,
    validation: Validation,
    leeway: TimeDelta,
    default_permissions: Permissions,
    clock: Clock,
}

enum KeyStore {
    Secret { decoding: DecodingKey, encoding: EncodingKey },
    Jwks(Box<Jwks>),
}

/// The claims that mean something here (RFC 7519, section 4.1, and ours); `iss` and `aud` are
/// checked by the library.
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
    /// Of whatever kind: where it is no time, the token doesn't say when it was made.
    iat: Option<Value>,
}

/// What a token made here is to say.
#[derive(Debug, Clone, Default)]
pub struct TokenSpec {
    pub organization: String,
    pub user: String,
    pub name: Option<String>,
    /// None leaves it to the default.
    pub permissions: Option<Vec<String>>,
    pub lifetime: Duration,
}

impl TokenSpec {
    /// What a development server gives: a person of the organisation `demo`, for 30 days.
    pub fn demo(user: &str, name: &str) -> Self {
        Self {
            organization: "demo".into(),
            user: user.into(),
            name: Some(name.into()),
            permissions: None,
            lifetime: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

impl Authenticator {
    /// `secret` stands in where the configuration has no keys.
    pub fn new(config: &AuthConfig, development: Option<Secret>, clock: Clock) -> Result<Self, String> {
        let source = config.key_source.clone().or(development.map(KeySource::Secret));
        let algorithm = config.algorithm;
        let keys = match source.ok_or("no keys for tokens")? {
            KeySource::Secret(secret) => KeyStore::Secret {
                decoding: DecodingKey::from_secret(secret.as_bytes()),
                encoding: EncodingKey::from_secret(secret.as_bytes()),
            },
            KeySource::File(file) => {
                KeyStore::Jwks(Box::new(Jwks::new(JwksLocation::File(file), algorithm, clock.clone())))
            }
            KeySource::Url(url) => {
                crypto_provider::install_crypto_provider();
                let client = reqwest::Client::builder().build().map_err(|error| error.to_string())?;
                KeyStore::Jwks(Box::new(Jwks::new(JwksLocation::Url { url, client }, algorithm, clock.clone())))
            }
        };
        let mut validation = Validation::new(algorithm);
        // Times are checked here, by our own clock.
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        validation.validate_aud = config.audience.is_some();
        if let Some(issuer) = &config.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".into());
        }
        if let Some(audience) = &config.audience {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".into());
        }
        let leeway = TimeDelta::from_std(config.leeway).map_err(|error| error.to_string())?;
        Ok(Self { keys, validation, leeway, default_permissions: config.default_permissions.clone(), clock })
    }

    /// Reads the keys for the first time. A file must be readable; an address may come up later.
    pub async fn load_initial_keys(&self) -> Result<(), String> {
        let KeyStore::Jwks(jwks) = &self.keys else { return Ok(()) };
        match jwks.load().await {
            Ok(keys) => tracing::info!(keys, "read the keys of tokens"),
            Err(error) if jwks.is_remote() => tracing::warn!(%error, "the keys of tokens can't be read yet"),
            Err(error) => return Err(format!("PARLOR_JWKS: {error}")),
        }
        Ok(())
    }

    /// Who a token speaks for.
    pub async fn verify(&self, token: &str) -> Result<Viewer> {
        let refused = |why: &str| Error::unauthenticated(why);
        if token.len() > MAX_TOKEN_BYTES {
            return Err(refused("the token is too long"));
        }
        let claims = match &self.keys {
            KeyStore::Secret { decoding, .. } => self.decode(token, decoding)?,
            KeyStore::Jwks(jwks) => {
                let header = jsonwebtoken::decode_header(token).map_err(|_| refused("the token can't be read"))?;
                self.decode(token, &jwks.key(header.kid.as_deref()).await?)?
            }
        };
        let expires_at = numeric_date(claims.exp).ok_or_else(|| refused("the token's exp is no time"))?;
        let now = self.clock.now();
        if now >= expires_at + self.leeway {
            return Err(Error::Unauthenticated { message: "the token has expired".into(), retryable: true });
        }
        if let Some(nbf) = claims.nbf {
            let begins = numeric_date(nbf).ok_or_else(|| refused("the token's nbf is no time"))?;
            if now + self.leeway < begins {
                return Err(refused("the token is not valid yet"));
            }
        }
        let id = claims.sub.parse().map_err(|_| refused("the token's sub is not 1 to 255 bytes of text"))?;
        let organization = claims.org.parse().map_err(|_| refused("the token's org is not 1 to 255 bytes of text"))?;
        let name = claims.name.as_deref().and_then(display_name).unwrap_or_else(|| claims.sub.clone());
        let avatar_url = claims.picture.as_deref().and_then(|url| text::validate_url("picture", url).ok());
        let permissions = match claims.permissions {
            // A permission that this version doesn't know gives nothing.
            Some(words) => words.iter().filter_map(|word| word.parse::<Permission>().ok()).collect(),
            None => self.default_permissions.clone(),
        };
        Ok(Viewer {
            user: User { organization, id, name, avatar_url, last_seen_at: None },
            permissions,
            issued_at: claims.iat.as_ref().and_then(Value::as_f64).and_then(numeric_date),
            expires_at: expires_at + self.leeway,
        })
    }

    fn decode(&self, token: &str, key: &DecodingKey) -> Result<Claims> {
        use jsonwebtoken::errors::ErrorKind;
        let decoded = jsonwebtoken::decode::<Claims>(token, key, &self.validation);
        // What a token marks as critical must be understood (RFC 7515, section 4.1.11): here, nothing is.
        if decoded.as_ref().is_ok_and(|token| token.header.crit.is_some()) {
            return Err(Error::unauthenticated("the token has critical headers"));
        }
        decoded.map(|token| token.claims).map_err(|error| {
            let why = match error.kind() {
                ErrorKind::InvalidSignature => "the token's signature is wrong".to_owned(),
                ErrorKind::InvalidAlgorithm => {
                    format!("the token is not signed by {:?}", self.validation.algorithms[0])
                }
                ErrorKind::InvalidIssuer => "the token is of another issuer".to_owned(),
                ErrorKind::InvalidAudience => "the token is for another audience".to_owned(),
                ErrorKind::MissingRequiredClaim(claim) => format!("the token lacks {claim}"),
                _ => "the token can't be read".to_owned(),
            };
            Error::unauthenticated(why)
        })
    }

    /// Makes a token with the configured secret; there is none where keys come from a JWKS.
    pub fn issue(&self, grant: &TokenSpec) -> Result<String, String> {
        let KeyStore::Secret { encoding, .. } = &self.keys else {
            return Err("tokens are made by the host application: PARLOR_JWKS holds public keys only".into());
        };
        let now = self.clock.now();
        let exp = (now + grant.lifetime).timestamp();
        let only = |values: &Option<HashSet<String>>| values.iter().flatten().next().cloned();
        let mut claims = serde_json::json!({ "sub": grant.user, "org": grant.organization, "exp": exp });
        claims["iat"] = now.timestamp().into();
        for (claim, value) in [
            ("name", grant.name.clone().map(Value::from)),
            ("permissions", grant.permissions.clone().map(Value::from)),
            ("iss", only(&self.validation.iss).map(Value::from)),
            ("aud", only(&self.validation.aud).map(Value::from)),
        ] {
            if let Some(value) = value {
                claims[claim] = value;
            }
        }
        let header = Header::new(Algorithm::HS256);
        jsonwebtoken::encode(&header, &claims, encoding).map_err(|error| error.to_string())
    }
}

/// A NumericDate of RFC 7519; later than chrono can tell is the latest that it can.
fn numeric_date(seconds: f64) -> Option<DateTime<Utc>> {
    const YEAR_9999: f64 = 253_402_300_799.0;
    if !seconds.is_finite() || seconds < 0.0 {
        return None;
    }
    DateTime::from_timestamp_millis((seconds.min(YEAR_9999) * 1000.0) as i64)
}

/// A name on one line, cut to what is kept; none if nothing is left.
fn display_name(name: &str) -> Option<String> {
    let name: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_NAME_CHARACTERS).collect();
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}
