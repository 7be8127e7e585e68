//! The host application's public keys (RFC 7517), read again while the host rotates them.
//!
//! # Refresh
//!
//! No task runs in the background: the request that needs newer keys reads them, and requests that need them at the
//! same time wait for it. A set is read again
//!
//! - when it is [`MAX_KEY_AGE`] old, so that a key that the host has withdrawn stops working, and
//! - when a token names a key that the set does not contain, at most once per [`REFRESH_COOLDOWN`], so that a flood of
//!   such tokens does not become a flood of fetches.
//!
//! While the set cannot be read, the keys of the last successful read stay valid.
//!
//! # Locks
//!
//! `refresh_lock` is held for one read of the set, over await points. `cache` is held only to copy or to replace the
//! known keys, never over an await point. `refresh_lock` is locked before `cache`, never after it.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use parking_lot::Mutex;

use crate::domain::clock::Clock;
use crate::error::{Error, Result};

/// The age at which a set is read again.
pub const MAX_KEY_AGE: Duration = Duration::from_secs(300);
/// The minimum time between two reads that unknown keys cause.
pub const REFRESH_COOLDOWN: Duration = Duration::from_secs(10);
/// The maximum duration of a fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum size of a set; the text of [`JwksError::Parse`] states it.
const MAX_JWKS_BYTES: usize = 1024 * 1024;

/// The place from which a set is read.
#[derive(Debug)]
pub enum JwksLocation {
    /// A file.
    File(PathBuf),
    /// An HTTP address, with the client that fetches it.
    Url {
        /// The address.
        url: String,
        /// The client.
        client: reqwest::Client,
    },
}

/// A reason why a set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// The file cannot be read.
    #[error("{location}: {source}")]
    Read {
        /// The path of the file.
        location: String,
        /// The cause.
        source: io::Error,
    },
    /// The address cannot be fetched.
    #[error("{location}: {source}")]
    Fetch {
        /// The address.
        location: String,
        /// The cause.
        source: reqwest::Error,
    },
    /// The text is not a set.
    #[error("{location}: must be a JSON Web Key Set (RFC 7517) of at most 1 MiB: {source}")]
    Parse {
        /// The path or the address.
        location: String,
        /// The cause.
        source: serde_json::Error,
    },
    /// The set has no key for the configured algorithm.
    #[error("{location}: must contain a key for {algorithm:?} signatures")]
    NoMatchingKey {
        /// The path or the address.
        location: String,
        /// The configured algorithm.
        algorithm: Algorithm,
    },
}

/// A JSON Web Key Set with its cached keys.
pub struct Jwks {
    location: JwksLocation,
    algorithm: Algorithm,
    clock: Clock,
    /// Protects the known keys and the times at which they were read; see the module documentation.
    cache: Mutex<CachedKeys>,
    /// Lets one request at a time read the set.
    refresh_lock: tokio::sync::Mutex<()>,
}

#[derive(Default, Clone)]
struct CachedKeys {
    keys: Arc<KeysById>,
    /// The time of the last successful read.
    loaded_at: Option<DateTime<Utc>>,
    /// The time of the last read, successful or not.
    attempted_at: Option<DateTime<Utc>>,
}

/// Keys by `kid`. A key without a `kid` has the empty one.
type KeysById = HashMap<String, DecodingKey>;

impl Jwks {
    /// Creates a set whose keys have not been read yet.
    pub fn new(location: JwksLocation, algorithm: Algorithm, clock: Clock) -> Self {
        Self { location, algorithm, clock, cache: Mutex::default(), refresh_lock: tokio::sync::Mutex::default() }
    }

    /// Returns the key with a `kid`, or the only key of the set for a token without a `kid`.
    ///
    /// Reads the set first if it is old or lacks the key. Dropping the future ends such a read and changes nothing.
    ///
    /// # Errors
    ///
    /// Fails with `UNAVAILABLE` if the set has never been read, and with `UNAUTHENTICATED` if it lacks the key. The
    /// latter is retryable if the set was not read for this call, because a rotation may be in progress.
    pub async fn key(&self, kid: Option<&str>) -> Result<DecodingKey> {
        let cached = self.cached();
        let is_stale = cached.loaded_at.is_none_or(|at| self.is_stale(at, MAX_KEY_AGE));
        if let (Some(key), false) = (find_key(&cached.keys, kid), is_stale) {
            return Ok(key);
        }
        let was_refreshed = self.refresh(cached.attempted_at).await;
        let cached = self.cached();
        match find_key(&cached.keys, kid) {
            Some(key) => Ok(key),
            None if cached.loaded_at.is_none() => Err(Error::unavailable("the token keys cannot be read now")),
            None => Err(Error::Unauthenticated {
                message: "the token is signed with an unknown key".into(),
                retryable: !was_refreshed,
            }),
        }
    }

    /// Reads the set and returns the number of its keys.
    ///
    /// # Errors
    ///
    /// Fails if the set cannot be read or has no key for the configured algorithm. The known keys stay.
    pub async fn load(&self) -> Result<usize, JwksError> {
        let keys = self.read_keys().await?;
        let count = keys.len();
        let now = Some(self.clock.now());
        *self.cache.lock() = CachedKeys { keys: Arc::new(keys), loaded_at: now, attempted_at: now };
        Ok(count)
    }

    /// Returns true if the set is fetched over HTTP, and so may become available later.
    pub fn is_remote(&self) -> bool {
        matches!(self.location, JwksLocation::Url { .. })
    }

    fn cached(&self) -> CachedKeys {
        self.cache.lock().clone()
    }

    fn is_stale(&self, at: DateTime<Utc>, max_age: Duration) -> bool {
        (self.clock.now() - at).to_std().is_ok_and(|age| age >= max_age)
    }

    /// Reads the set, unless a read was attempted after `seen_attempt` or within the cooldown.
    ///
    /// Returns true if the cached keys were read after the caller's look at them.
    async fn refresh(&self, seen_attempt: Option<DateTime<Utc>>) -> bool {
        let _guard = self.refresh_lock.lock().await;
        let attempted_at = self.cached().attempted_at;
        if attempted_at != seen_attempt {
            return true;
        }
        if attempted_at.is_some_and(|at| !self.is_stale(at, REFRESH_COOLDOWN)) {
            return false;
        }
        let loaded = self.load().await;
        if let Err(error) = &loaded {
            tracing::warn!(%error, "token keys cannot be read; the known keys stay valid");
            self.cache.lock().attempted_at = Some(self.clock.now());
        }
        loaded.is_ok()
    }

    async fn read_keys(&self) -> Result<KeysById, JwksError> {
        let (location, json) = match &self.location {
            JwksLocation::File(file) => {
                let location = file.display().to_string();
                match tokio::fs::read(file).await {
                    Ok(json) => (location, json),
                    Err(source) => return Err(JwksError::Read { location, source }),
                }
            }
            JwksLocation::Url { url, client } => {
                let location = url.clone();
                match fetch(client, url).await {
                    Ok(json) => (location, json),
                    Err(source) => return Err(JwksError::Fetch { location, source }),
                }
            }
        };
        let set: JwkSet = match serde_json::from_slice(&json) {
            Ok(set) => set,
            Err(source) => return Err(JwksError::Parse { location, source }),
        };
        let keys: KeysById = set
            .keys
            .iter()
            .filter(|jwk| matches(jwk, self.algorithm))
            .filter_map(|jwk| {
                let key = DecodingKey::from_jwk(jwk).ok()?;
                Some((jwk.common.key_id.clone().unwrap_or_default(), key))
            })
            .collect();
        if keys.is_empty() {
            return Err(JwksError::NoMatchingKey { location, algorithm: self.algorithm });
        }
        Ok(keys)
    }
}

fn find_key(keys: &KeysById, kid: Option<&str>) -> Option<DecodingKey> {
    match kid {
        Some(kid) => keys.get(kid).cloned(),
        None if keys.len() == 1 => keys.values().next().cloned(),
        None => None,
    }
}

/// Returns true if a key is for signatures by an algorithm. A set may contain other keys too.
fn matches(jwk: &Jwk, algorithm: Algorithm) -> bool {
    let has_type = match (&jwk.algorithm, algorithm) {
        (AlgorithmParameters::RSA(_), Algorithm::RS256) => true,
        (AlgorithmParameters::EllipticCurve(curve), Algorithm::ES256) => curve.curve == EllipticCurve::P256,
        (AlgorithmParameters::OctetKeyPair(pair), Algorithm::EdDSA) => pair.curve == EllipticCurve::Ed25519,
        _ => false,
    };
    let allows_algorithm = jwk.common.key_algorithm.is_none_or(|named| named.to_string() == format!("{algorithm:?}"));
    let allows_signatures = jwk.common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
    has_type && allows_algorithm && allows_signatures
}

/// Fetches at most one chunk more than [`MAX_JWKS_BYTES`]. A truncated set is not valid JSON, so it is rejected later.
async fn fetch(client: &reqwest::Client, url: &str) -> Result<Vec<u8>, reqwest::Error> {
    let mut response = client.get(url).timeout(FETCH_TIMEOUT).send().await?.error_for_status()?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_JWKS_BYTES {
            break;
        }
    }
    Ok(body)
}
