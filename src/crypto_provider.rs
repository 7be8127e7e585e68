//! The cryptography of TLS, for clients that ask the process for it.

use rustls::crypto::ring;

/// Sets it for the whole process. Whoever set one before meant it: that one stays.
pub fn install_crypto_provider() {
    drop(ring::default_provider().install_default());
}
