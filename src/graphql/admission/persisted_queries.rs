//! Automatic persisted queries, as Apollo Client and urql speak them: a client sends a document's
//! SHA-256 alone, and the document with it once where the server doesn't know it.

use std::sync::Arc;

use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};

/// Documents that are remembered; the least used are forgotten first.
const CACHE_ENTRIES: usize = 1_000;

pub struct PersistedQueries(Cache<[u8; 32], Arc<str>>);

/// Why a request names no document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PersistedQueryError {
    /// The client is to send the document with its hash.
    NotFound,
    /// What is wrong with the extension.
    Malformed(&'static str),
}

impl Default for PersistedQueries {
    fn default() -> Self {
        Self(Cache::new(CACHE_ENTRIES))
    }
}

impl PersistedQueries {
    /// The document of a request with the extension `persistedQuery`; one that comes with the right
    /// hash is kept by `remember`, once it was admitted.
    pub fn resolve(
        &self,
        extension: &serde_json::Value,
        query: Option<&str>,
    ) -> Result<(Arc<str>, [u8; 32]), PersistedQueryError> {
        if extension.get("version").and_then(serde_json::Value::as_u64) != Some(1) {
            return Err(PersistedQueryError::Malformed("extensions.persistedQuery.version must be 1"));
        }
        let hash = extension.get("sha256Hash").and_then(serde_json::Value::as_str).and_then(decode_hex);
        let hash = hash.ok_or(PersistedQueryError::Malformed(
            "extensions.persistedQuery.sha256Hash must be 64 hexadecimal digits",
        ))?;
        match query {
            Some(query) if Sha256::digest(query.as_bytes())[..] != hash => {
                Err(PersistedQueryError::Malformed("extensions.persistedQuery.sha256Hash is not the hash of the query"))
            }
            Some(query) => Ok((query.into(), hash)),
            None => self.0.get(&hash).map(|query| (query, hash)).ok_or(PersistedQueryError::NotFound),
        }
    }

    pub fn store(&self, hash: [u8; 32], query: Arc<str>) {
        self.0.insert(hash, query);
    }
}

fn decode_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::try_from(nibble(pair[0])? * 16 + nibble(pair[1])?).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_document_is_known_by_its_hash_once_it_was_sent() {
        let queries = PersistedQueries::default();
        // SHA-256 of "{__typename}", as Apollo's documentation gives it.
        let hash = "ecf4edb46db40b5132295c0291d62fb65d6759a9eedfa4d5d612dd5ec54a6b38";
        let extension = json!({ "version": 1, "sha256Hash": hash });
        assert_eq!(queries.resolve(&extension, None), Err(PersistedQueryError::NotFound));
        let (query, key) = queries.resolve(&extension, Some("{__typename}")).unwrap();
        queries.store(key, query);
        assert_eq!(&*queries.resolve(&extension, None).unwrap().0, "{__typename}");
        assert!(matches!(queries.resolve(&extension, Some("{id}")), Err(PersistedQueryError::Malformed(_))));
        assert!(matches!(queries.resolve(&json!({ "version": 2 }), None), Err(PersistedQueryError::Malformed(_))));
        assert!(matches!(queries.resolve(&json!(7), None), Err(PersistedQueryError::Malformed(_))));
    }
}
