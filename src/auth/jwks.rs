//! The host's public keys (RFC 7517), kept fresh through rotation.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};

use crate::domain::clock::Clock;
use crate::error::{Error, Result};

/// Keys older than this are read again, so that a key withdrawn by the host is forgotten.
const MAX_AGE: Duration = Duration::from_secs(300);
/// A token that names an unknown key makes the keys be read again, but not more often than this:
/// a flood of such tokens must not become a flood of fetches.
const COOL_DOWN: Duration = Duration::from_secs(10);
/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest set of keys, in bytes.
const MAX_BYTES: usize = 1024 * 1024;

#[derive(Debug)]
pub enum Place {
    File(PathBuf),
    Address { url: String, client: reqwest::Client },
}

pub struct Jwks {
    place: Place,
    algorithm: Algorithm,
    clock: Clock,
    known: Mutex<Known>,
    /// Held by the one who reads the keys again; the others wait for what it finds.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Default, Clone)]
struct Known {
    keys: Arc<Keys>,
    read_at: Option<DateTime<Utc>>,
    tried_at: Option<DateTime<Utc>>,
}

/// By `kid`; a key without one has the empty name.
type Keys = HashMap<String, DecodingKey>;

impl Jwks {
    pub fn new(place: Place, algorithm: Algorithm, clock: Clock) -> Self {
        Self { place, algorithm, clock, known: Mutex::default(), reading: tokio::sync::Mutex::default() }
    }

    /// The key that a token names. One that names none is checked with the only key, if there is
    /// just one.
    pub async fn key(&self, kid: Option<&str>) -> Result<DecodingKey> {
        let known = self.known();
        let found = find(&known.keys, kid);
        let stale = known.read_at.is_none_or(|at| self.older(at, MAX_AGE));
        if let (Some(key), false) = (found, stale) {
            return Ok(key);
        }
        let fresh = self.refresh(known.tried_at).await;
        let known = self.known();
        match find(&known.keys, kid) {
            Some(key) => Ok(key),
            None if known.read_at.is_none() => Err(Error::unavailable("the keys of tokens can't be read now")),
            // A key of just now may be one that the next reading finds.
            None => Err(Error::Unauthenticated {
                message: "the token is signed by an unknown key".into(),
                retryable: !fresh,
            }),
        }
    }

    /// Reads the keys now; for a start that should fail where they can't be.
    pub async fn load(&self) -> Result<usize, String> {
        let keys = self.read().await?;
        let number = keys.len();
        let now = Some(self.clock.now());
        *self.known.lock().expect("no panic under this lock") =
            Known { keys: Arc::new(keys), read_at: now, tried_at: now };
        Ok(number)
    }

    pub fn is_remote(&self) -> bool {
        matches!(self.place, Place::Address { .. })
    }

    fn known(&self) -> Known {
        self.known.lock().expect("no panic under this lock").clone()
    }

    fn older(&self, at: DateTime<Utc>, age: Duration) -> bool {
        (self.clock.now() - at).to_std().is_ok_and(|passed| passed >= age)
    }

    /// Reads again, unless another did since `seen`, or anyone did just now. Tells whether what is
    /// known now was read since it was asked.
    async fn refresh(&self, seen: Option<DateTime<Utc>>) -> bool {
        let _one = self.reading.lock().await;
        let tried = self.known().tried_at;
        if tried != seen {
            return true;
        }
        if tried.is_some_and(|at| !self.older(at, COOL_DOWN)) {
            return false;
        }
        let loaded = self.load().await;
        if let Err(error) = &loaded {
            tracing::warn!(%error, "the keys of tokens can't be read; the ones known stay");
            self.known.lock().expect("no panic under this lock").tried_at = Some(self.clock.now());
        }
        loaded.is_ok()
    }

    async fn read(&self) -> Result<Keys, String> {
        let json = match &self.place {
            Place::File(file) => tokio::fs::read(file).await.map_err(|error| format!("{}: {error}", file.display()))?,
            Place::Address { url, client } => fetch(client, url).await.map_err(|error| format!("{url}: {error}"))?,
        };
        let set: JwkSet = serde_json::from_slice(&json).map_err(|error| format!("not a JSON Web Key Set: {error}"))?;
        let fitting = set.keys.iter().filter(|jwk| fits(jwk, self.algorithm));
        let keys: Keys = fitting
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

fn find(keys: &Keys, kid: Option<&str>) -> Option<DecodingKey> {
    match kid {
        Some(kid) => keys.get(kid).cloned(),
        None if keys.len() == 1 => keys.values().next().cloned(),
        None => None,
    }
}

/// Whether a key is one for signatures by this algorithm. The set may hold others.
fn fits(jwk: &Jwk, algorithm: Algorithm) -> bool {
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
    let mut answer = client.get(url).timeout(TIMEOUT).send().await?.error_for_status()?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_BYTES {
            // What is cut off is no JSON, and is refused as such.
            break;
        }
    }
    Ok(body)
}
