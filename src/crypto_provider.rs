//! The cryptography of TLS, for clients that use the provider of the process.

use rustls::crypto::ring;

/// Installs ring as the provider of the process, unless one has been installed already.
pub fn install_crypto_provider() {
    drop(ring::default_provider().install_default());
}
