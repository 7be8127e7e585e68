//! Authentication of the messages between nodes.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The length of a message's code.
pub const CODE_BYTES: usize = 32;

/// The key that all nodes of one installation share through their database.
#[derive(Clone, PartialEq, Eq)]
pub struct MessageKey(Arc<[u8]>);

/// The key is a secret.
impl fmt::Debug for MessageKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MessageKey(…)")
    }
}

impl MessageKey {
    /// The length of a generated key, in bytes: that of the hash.
    const GENERATED_BYTES: usize = 32;

    /// Returns a key with these bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// Returns a new random key.
    pub fn generate() -> Self {
        // An unpredictable key, from the operating system's generator.
        Self::new(&rand::random::<[u8; Self::GENERATED_BYTES]>())
    }

    /// Returns the bytes of the key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the code of a message: the HMAC-SHA256 of its channel, its version and its body.
    pub fn sign(&self, channel: &str, version: u8, body: &[u8]) -> [u8; CODE_BYTES] {
        self.mac(channel, version, body).finalize().into_bytes().into()
    }

    /// Returns whether `code` is the code of a message. The comparison takes the same time for every wrong code.
    pub fn verify(&self, channel: &str, version: u8, body: &[u8], code: &[u8]) -> bool {
        self.mac(channel, version, body).verify_slice(code).is_ok()
    }

    /// The channel is a part of the message, so that a message is valid on its own channel only. Its length is fixed by
    /// the separator, which no channel name contains.
    fn mac(&self, channel: &str, version: u8, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("an HMAC accepts a key of any length");
        mac.update(channel.as_bytes());
        mac.update(&[0, version]);
        mac.update(body);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "3bc620c510064c6eafa5d13e814377723e9bc32bd363e3127674c225951a44a5";

    #[test]
    fn code_is_the_standard_hmac_of_channel_and_body() {
        // printf 'parlor:nodes\0\4{}' | openssl dgst -sha256 -hmac key
        let code = MessageKey::new(b"key").sign("parlor:nodes", 4, b"{}");
        let mut expected = [0; CODE_BYTES];
        hex::decode_to_slice(HEX, &mut expected).unwrap();
        assert_eq!(code, expected);
    }

    #[test]
    fn code_is_valid_for_its_key_channel_version_and_body_only() {
        let key = MessageKey::generate();
        let code = key.sign("parlor:nodes", 4, b"body");
        assert!(key.verify("parlor:nodes", 4, b"body", &code));
        assert!(!key.verify("parlor:others", 4, b"body", &code));
        assert!(!key.verify("parlor:nodes", 5, b"body", &code));
        assert!(!key.verify("parlor:nodes", 4, b"another body", &code));
        assert!(!key.verify("parlor:nodes", 4, b"body", &code[1..]));
        assert!(!key.verify("parlor:nodes", 4, b"body", b""));
        assert!(!MessageKey::generate().verify("parlor:nodes", 4, b"body", &code));
        assert_eq!(format!("{key:?}"), "MessageKey(…)");
    }
}
