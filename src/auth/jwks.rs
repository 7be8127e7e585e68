//! The host application's public keys (RFC 7517), read again while the host rotates them.
//!
//! # Refresh
//!
//! A set is read again
//!
//! - in the background when it is [`MAX_KEY_AGE`] old, so that a key that the host has withdrawn stops working, and
//! - when a token names a key that the set does not contain, at most once per [`REFRESH_COOLDOWN`], so that a flood of
//!   such tokens does not become a flood of fetches.
//!
//! There is one read at a time. Tokens of known keys never wait for it. Tokens of unknown keys wait for the read that
//! is under way, at most for [`UNKNOWN_KEY_WAIT`]. While the set cannot be read, the keys of the last successful read
//! stay valid.
//!
//! # Locks
//!
//! `cache` is held only to copy or to replace the known keys, never over an await point.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use chrono::{DateTime, Utc};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::auth::keys::SecretUrl;
use crate::domain::clock::Clock;
use crate::error::{Error, Result, message_with_sources};
use crate::tasks::{TickLoop, Wait, spawn_detached};

/// The age at which a set is read again.
pub const MAX_KEY_AGE: Duration = Duration::from_secs(300);
/// The minimum time between two reads.
pub const REFRESH_COOLDOWN: Duration = Duration::from_secs(10);
/// The maximum time that a token of an unknown key waits for a read.
pub const UNKNOWN_KEY_WAIT: Duration = Duration::from_secs(3);
/// The minimum size of the modulus of an RSA key, in bits (RFC 7518, section 3.3).
pub const MIN_RSA_BITS: usize = 2_048;
/// The interval at which the age of the set is checked.
const AGE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The maximum duration of a fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum size of a set; the text of [`JwksError::Parse`] states it.
const MAX_JWKS_BYTES: usize = 1024 * 1024;

/// The place from which a set is read.
#[derive(Debug)]
pub enum JwksLocation {
    /// A file.
    File(PathBuf),
    /// An HTTP address, with the client that fetches it and follows no redirects.
    Url {
        /// The address.
        url: SecretUrl,
        /// The client.
        client: reqwest::Client,
    },
}

/// A reason why a set cannot be used. No text of it contains the credentials of an address.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// The file cannot be read.
    #[error("{location} cannot be read")]
    Read {
        /// The path of the file.
        location: String,
        /// The cause.
        source: io::Error,
    },
    /// The address cannot be fetched.
    #[error("{location} cannot be fetched")]
    Fetch {
        /// The address.
        location: String,
        /// The cause, without the address.
        source: reqwest::Error,
    },
    /// The address redirects to another one.
    #[error("{location}: redirects are not followed; set the address that serves the keys")]
    Redirect {
        /// The address.
        location: String,
    },
    /// The text is not a set.
    #[error("{location}: must be a JSON Web Key Set (RFC 7517) of at most 1 MiB")]
    Parse {
        /// The path or the address.
        location: String,
        /// The cause.
        source: serde_json::Error,
    },
    /// The set has an RSA key that is too short.
    #[error("{location}: the RSA key {kid:?} has {bits} bits and must have at least {MIN_RSA_BITS}")]
    ShortRsaKey {
        /// The path or the address.
        location: String,
        /// The id of the key.
        kid: String,
        /// The size of its modulus.
        bits: usize,
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
    /// Changes when a read ends, to whether it succeeded.
    reads: watch::Sender<bool>,
}

#[derive(Default, Clone)]
struct CachedKeys {
    keys: Arc<KeysById>,
    /// The time of the last successful read.
    loaded_at: Option<DateTime<Utc>>,
    /// The time of the end of the last read, successful or not.
    attempted_at: Option<DateTime<Utc>>,
    is_reading: bool,
    /// The cause of the last failure, until a read succeeds.
    last_error: Option<Arc<str>>,
}

/// Keys by `kid`. A key without a `kid` has the empty one.
type KeysById = HashMap<String, DecodingKey>;

impl Jwks {
    /// Creates a set whose keys have not been read yet.
    pub fn new(location: JwksLocation, algorithm: Algorithm, clock: Clock) -> Arc<Self> {
        Arc::new(Self { location, algorithm, clock, cache: Mutex::default(), reads: watch::Sender::default() })
    }

    /// Starts the task that reads the set again when it is old; it ends when the set is dropped.
    ///
    /// A panic ends the refresh by age only: unknown keys still cause reads.
    pub fn start_refreshing(self: &Arc<Self>) {
        let checks = TickLoop::new(self, Arc::default());
        tokio::spawn(async move {
            while let Some(check) = checks.next(Wait::For(AGE_CHECK_INTERVAL)).await {
                let is_old = check.owner.cached().loaded_at.is_none_or(|at| check.owner.is_older(at, MAX_KEY_AGE));
                if is_old {
                    check.owner.begin_read();
                }
            }
        });
    }

    /// Returns the key with a `kid`, or the only key of the set for a token without a `kid`.
    ///
    /// Waits for a read of the set if the set lacks the key. Dropping the future does not end that read.
    ///
    /// # Errors
    ///
    /// Fails with `UNAVAILABLE` if the set has never been read, and with `UNAUTHENTICATED` if it lacks the key. The
    /// latter is retryable if the set was not read for this call, because a rotation may be in progress.
    pub async fn key(self: &Arc<Self>, kid: Option<&str>) -> Result<DecodingKey> {
        // Before the look at the keys, so that no read between the two is missed.
        let mut reads = self.reads.subscribe();
        if let Some(key) = find_key(&self.cached().keys, kid) {
            return Ok(key);
        }
        let has_ended = match self.begin_read() {
            true => timeout(UNKNOWN_KEY_WAIT, reads.changed()).await.is_ok_and(|change| change.is_ok()),
            false => reads.has_changed().unwrap_or_default(),
        };
        let was_read = has_ended && *reads.borrow();
        let cached = self.cached();
        match find_key(&cached.keys, kid) {
            Some(key) => Ok(key),
            None if cached.loaded_at.is_none() => Err(Error::unavailable("the token keys cannot be read now")),
            None => Err(Error::Unauthenticated {
                message: "the token is signed with an unknown key".into(),
                retryable: !was_read,
            }),
        }
    }

    /// Reads the set and returns the number of its keys.
    ///
    /// # Errors
    ///
    /// Fails if the set cannot be read or has no key for the configured algorithm. The known keys stay.
    pub async fn load(&self) -> Result<usize, JwksError> {
        let read = self.read_keys().await;
        let now = Some(self.clock.now());
        let mut cache = self.cache.lock();
        cache.is_reading = false;
        cache.attempted_at = now;
        match read {
            Ok(keys) => {
                let count = keys.len();
                *cache = CachedKeys { keys: Arc::new(keys), loaded_at: now, last_error: None, ..cache.clone() };
                Ok(count)
            }
            Err(error) => {
                cache.last_error = Some(message_with_sources(&error).into());
                Err(error)
            }
        }
    }

    /// Returns true if the set is fetched over HTTP, and so may become available later.
    pub fn is_remote(&self) -> bool {
        matches!(self.location, JwksLocation::Url { .. })
    }

    /// Returns whether the set was ever read, and the cause of the last failure.
    ///
    /// A read that succeeds removes the cause.
    pub fn state(&self) -> (bool, Option<Arc<str>>) {
        let cache = self.cache.lock();
        (cache.loaded_at.is_some(), cache.last_error.clone())
    }

    fn cached(&self) -> CachedKeys {
        self.cache.lock().clone()
    }

    fn is_older(&self, at: DateTime<Utc>, max_age: Duration) -> bool {
        (self.clock.now() - at).to_std().is_ok_and(|age| age >= max_age)
    }

    /// Starts a read of the set unless one is under way.
    ///
    /// Returns false, and starts none, if the last one ended too recently.
    fn begin_read(self: &Arc<Self>) -> bool {
        let mut cache = self.cache.lock();
        if cache.is_reading {
            return true;
        }
        if cache.attempted_at.is_some_and(|at| !self.is_older(at, REFRESH_COOLDOWN)) {
            return false;
        }
        cache.is_reading = true;
        drop(cache);
        let jwks = self.clone();
        // Nobody waits for the task itself: `reads` announces its end. It cannot panic, and `FETCH_TIMEOUT` ends it.
        drop(spawn_detached(async move {
            let loaded = jwks.load().await;
            if let Err(error) = &loaded {
                let error = message_with_sources(error);
                tracing::warn!(error, "token keys cannot be read; the known keys stay valid");
            }
            jwks.reads.send_replace(loaded.is_ok());
            Ok(())
        }));
        true
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
            JwksLocation::Url { url, client } => (url.to_string(), fetch(client, url).await?),
        };
        let set: JwkSet = match serde_json::from_slice(&json) {
            Ok(set) => set,
            Err(source) => return Err(JwksError::Parse { location, source }),
        };
        let mut keys = KeysById::new();
        let mut short_key = None;
        for jwk in set.keys.iter().filter(|jwk| matches(jwk, self.algorithm)) {
            let kid = jwk.common.key_id.clone().unwrap_or_default();
            match rsa_bits(jwk) {
                Some(bits) if bits < MIN_RSA_BITS => {
                    let error = JwksError::ShortRsaKey { location: location.clone(), kid, bits };
                    tracing::warn!(%error, "a token key is ignored");
                    short_key = Some(error);
                }
                _ => keys.extend(DecodingKey::from_jwk(jwk).ok().map(|key| (kid, key))),
            }
        }
        match short_key {
            // A file is in the operator's hands, so a key that would be ignored is reported at the start.
            Some(error) if keys.is_empty() || !self.is_remote() => Err(error),
            _ if keys.is_empty() => Err(JwksError::NoMatchingKey { location, algorithm: self.algorithm }),
            _ => Ok(keys),
        }
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

/// Returns the size of an RSA key in bits; `None` for other keys.
///
/// A modulus that is not base64url has no bits.
fn rsa_bits(jwk: &Jwk) -> Option<usize> {
    let AlgorithmParameters::RSA(parameters) = &jwk.algorithm else { return None };
    let modulus = BASE64.decode(&parameters.n).unwrap_or_default();
    let significant: &[u8] = match modulus.iter().position(|byte| *byte != 0) {
        Some(first) => &modulus[first..],
        None => return Some(0),
    };
    Some(significant.len() * 8 - significant[0].leading_zeros() as usize)
}

/// Fetches at most one chunk more than [`MAX_JWKS_BYTES`].
///
/// A truncated set is not valid JSON, so it is rejected later.
async fn fetch(client: &reqwest::Client, url: &SecretUrl) -> Result<Vec<u8>, JwksError> {
    let location = url.to_string();
    match fetch_body(client, url).await {
        Ok(Some(body)) => Ok(body),
        Ok(None) => Err(JwksError::Redirect { location }),
        // The text of the client's error would contain the address with its credentials.
        Err(source) => Err(JwksError::Fetch { location, source: source.without_url() }),
    }
}

/// Returns the body of a response, or `None` for a redirect.
async fn fetch_body(client: &reqwest::Client, url: &SecretUrl) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut response = client.get(url.as_str()).timeout(FETCH_TIMEOUT).send().await?.error_for_status()?;
    if response.status().is_redirection() {
        return Ok(None);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_JWKS_BYTES {
            break;
        }
    }
    Ok(Some(body))
}
