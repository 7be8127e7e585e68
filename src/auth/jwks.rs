//! The host's public keys (RFC 7517), kept fresh through rotation.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};

use crate::domain::clock::Clock;
use crate::error::{Error, Result};

/// Keys older than this are read again, so that a key withdrawn by the host is forgotten.
const MAX_KEY_AGE: Duration = Duration::from_secs(300);
/// A token that names an unknown key makes the keys be read again, but not more often than this:
/// a flood of such tokens must not become a flood of fetches.
const REFRESH_COOLDOWN: Duration = Duration::from_secs(10);
/// Longest wait for an answer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest set of keys, in bytes.
const MAX_JWKS_BYTES: usize = 1024 * 1024;

#[derive(Debug)]
pub enum JwksLocation {
    File(PathBuf),
    Url { url: String, client: reqwest::Client },
}

pub struct Jwks {
    location: JwksLocation,
    algorithm: Algorithm,
    clock: Clock,
    cache: Mutex<CachedKeys>,
    /// Held by the one who reads the keys again; the others wait for what it finds.
    refresh_lock: tokio::sync::Mutex<()>,
}

#[derive(Default, Clone)]
struct CachedKeys {
    keys: Arc<KeysById>,
    loaded_at: Option<DateTime<Utc>>,
    attempted_at: Option<DateTime<Utc>>,
}

/// By `kid`; a key without one has the empty name.
type KeysById = HashMap<String, DecodingKey>;

impl Jwks {
    pub fn new(place: JwksLocation, algorithm: Algorithm, clock: Clock) -> Self {
        Self { location: place, algorithm, clock, cache: Mutex::default(), refresh_lock: tokio::sync::Mutex::default() }
    }

    /// The key that a token names. One that names none is checked with the only key, if there is
    /// just one.
    pub async fn key(&self, kid: Option<&str>) -> Result<DecodingKey> {
        let known = self.cached();
        let found = find_key(&known.keys, kid);
        let stale = known.loaded_at.is_none_or(|at| self.is_stale(at, MAX_KEY_AGE));
        if let (Some(key), false) = (found, stale) {
            return Ok(key);
        }
        let fresh = self.refresh(known.attempted_at).await;
        let known = self.cached();
        match find_key(&known.keys, kid) {
            Some(key) => Ok(key),
            None if known.loaded_at.is_none() => Err(Error::unavailable("the keys of tokens can't be read now")),
            // A key of just now may be one that the next reading finds.
            None => Err(Error::Unauthenticated {
                message: "the token is signed by an unknown key".into(),
                retryable: !fresh,
            }),
        }
    }

    /// Reads the keys now; for a start that should fail where they can't be.
    pub async fn load(&self) -> Result<usize, String> {
        let keys = self.read_keys().await?;
        let number = keys.len();
        let now = Some(self.clock.now());
        *self.cache.lock() = CachedKeys { keys: Arc::new(keys), loaded_at: now, attempted_at: now };
        Ok(number)
    }

    pub fn is_remote(&self) -> bool {
        matches!(self.location, JwksLocation::Url { .. })
    }

    fn cached(&self) -> CachedKeys {
        self.cache.lock().clone()
    }

    fn is_stale(&self, at: DateTime<Utc>, age: Duration) -> bool {
        (self.clock.now() - at).to_std().is_ok_and(|passed| passed >= age)
    }

    /// Reads again, unless another did since `seen`, or anyone did just now. Tells whether what is
    /// known now was read since it was asked.
    async fn refresh(&self, seen: Option<DateTime<Utc>>) -> bool {
        let _one = self.refresh_lock.lock().await;
        let tried = self.cached().attempted_at;
        if tried != seen {
            return true;
        }
        if tried.is_some_and(|at| !self.is_stale(at, REFRESH_COOLDOWN)) {
            return false;
        }
        let loaded = self.load().await;
        if let Err(error) = &loaded {
            tracing::warn!(%error, "the keys of tokens can't be read; the ones known stay");
            self.cache.lock().attempted_at = Some(self.clock.now());
        }
        loaded.is_ok()
    }

    async fn read_keys(&self) -> Result<KeysById, String> {
        let json = match &self.location {
            JwksLocation::File(file) => {
                tokio::fs::read(file).await.map_err(|error| format!("{}: {error}", file.display()))?
            }
            JwksLocation::Url { url, client } => fetch(client, url).await.map_err(|error| format!("{url}: {error}"))?,
        };
        let set: JwkSet = serde_json::from_slice(&json).map_err(|error| format!("not a JSON Web Key Set: {error}"))?;
        let fitting = set.keys.iter().filter(|jwk| matches(jwk, self.algorithm));
        let keys: KeysById = fitting
            .filter_map(|jwk| {
                let key = DecodingKey::from_jwk(jwk).ok()?;
                Some((jwk.common.key_id.clone().unwrap_or_default(), key))
            })
            .collect();
        if keys.is_empty() {
            return Err(format!("no key there is one for {:?}", self.algorithm));
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

/// Whether a key is one for signatures by this algorithm. The set may hold others.
fn matches(jwk: &Jwk, algorithm: Algorithm) -> bool {
    let family = match (&jwk.algorithm, algorithm) {
        (AlgorithmParameters::RSA(_), Algorithm::RS256) => true,
        (AlgorithmParameters::EllipticCurve(curve), Algorithm::ES256) => curve.curve == EllipticCurve::P256,
        (AlgorithmParameters::OctetKeyPair(pair), Algorithm::EdDSA) => pair.curve == EllipticCurve::Ed25519,
        _ => false,
    };
    let named = jwk.common.key_algorithm.is_none_or(|named| named.to_string() == format!("{algorithm:?}"));
    let signs = jwk.common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
    family && named && signs
}

async fn fetch(client: &reqwest::Client, url: &str) -> Result<Vec<u8>, reqwest::Error> {
    let mut answer = client.get(url).timeout(FETCH_TIMEOUT).send().await?.error_for_status()?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_JWKS_BYTES {
            // What is cut off is no JSON, and is refused as such.
            break;
        }
    }
    Ok(body)
}
