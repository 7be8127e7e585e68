//! Automatic persisted queries, in the protocol of Apollo Client and urql.
//!
//! A client sends only the SHA-256 hash of a document. If the server does not know it, the client sends the
//! document with its hash once.

use std::sync::Arc;

use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};

/// The number of documents that are kept; the least used are evicted first.
const CACHE_ENTRIES: usize = 1_000;

/// The documents that clients can name by their hashes.
pub struct PersistedQueries(Cache<[u8; 32], Arc<str>>);

/// The reason for which a request names no document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PersistedQueryError {
    /// The server does not know the hash; the client has to send the document with it.
    NotFound,
    /// The extension is malformed, as the message says.
    Malformed(&'static str),
}

impl Default for PersistedQueries {
    fn default() -> Self {
        Self(Cache::new(CACHE_ENTRIES))
    }
}

impl PersistedQueries {
    /// Returns the document of a request with the extension `persistedQuery`, and its hash.
    ///
    /// A document that the client sent is not stored yet, because it may be rejected; [`store`](Self::store) does it.
    ///
    /// # Errors
    ///
    /// Returns an error if the extension is malformed, if its hash is not that of the document, or if the server does
    /// not know the hash.
    pub fn resolve(
        &self,
        extension: &serde_json::Value,
        query: Option<&str>,
    ) -> Result<(Arc<str>, [u8; 32]), PersistedQueryError> {
        if extension.get("version").and_then(serde_json::Value::as_u64) != Some(1) {
            return Err(PersistedQueryError::Malformed("extensions.persistedQuery.version must be 1"));
        }
        let hash = extension.get("sha256Hash").and_then(serde_json::Value::as_str).and_then(decode_hash);
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

    /// Stores an admitted document.
    pub fn store(&self, hash: [u8; 32], query: Arc<str>) {
        self.0.insert(hash, query);
    }
}

fn decode_hash(digits: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    hex::decode_to_slice(digits, &mut hash).ok()?;
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn document_is_found_by_its_hash_after_it_was_stored() {
        let queries = PersistedQueries::default();
        // The SHA-256 hash of "{__typename}" in Apollo's documentation.
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
