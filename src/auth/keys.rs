//! The sources of the keys by which tokens are verified.

use std::fmt::{self, Debug, Display, Formatter};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use jsonwebtoken::Algorithm;
use rand::distr::{Alphanumeric, SampleString};
use url::Url;

use crate::domain::text::redact_url;

/// The minimum length of a secret, in bytes: an HS256 key must have 256 bits (RFC 7518, section 3.2).
pub const MIN_SECRET_BYTES: usize = 32;
/// The length of a generated secret, in characters of about six random bits each.
const GENERATED_SECRET_CHARS: usize = 48;

/// A secret that its debug output, and so the log, does not contain.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Returns the bytes of the secret.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl From<String> for Secret {
    fn from(secret: String) -> Self {
        Self(secret.into())
    }
}

impl Debug for Secret {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// The `http` or `https` address of a key set.
///
/// Its debug output and text hide everything that may be a credential.
#[derive(Clone)]
pub struct SecretUrl(Url);

impl SecretUrl {
    /// Parses an address.
    ///
    /// # Errors
    ///
    /// Returns the rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(Self(url)),
            _ => Err("must be a file or an http(s) address"),
        }
    }

    /// Returns the address with its credentials.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Writes the address with asterisks in place of its user information, query and fragment.
impl Display for SecretUrl {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&redact_url(self.as_str()))
    }
}

impl Debug for SecretUrl {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The configured source of the keys.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// A secret shared with the host application.
    Secret {
        /// The secret that signs and verifies.
        current: Secret,
        /// The secret before the last rotation, which only verifies.
        previous: Option<Secret>,
    },
    /// A file with a JSON Web Key Set (RFC 7517).
    File(PathBuf),
    /// An address that serves a JSON Web Key Set.
    Url(SecretUrl),
}

/// Returns the secret of a development server, and creates it if the directory contains none.
///
/// The secret is stored so that tokens stay valid over restarts. Only the owner of the file may read it.
///
/// # Errors
///
/// Fails if the file cannot be read or written, or if it contains fewer than [`MIN_SECRET_BYTES`].
#[expect(clippy::disallowed_methods, reason = "the secret is generated here, once")]
pub fn load_or_create_development_secret(data_dir: &Path) -> io::Result<Secret> {
    let file = data_dir.join("development-secret");
    match std::fs::read_to_string(&file) {
        Ok(secret) if secret.len() >= MIN_SECRET_BYTES => Ok(secret.into()),
        Ok(_) => {
            let file = file.display();
            Err(io::Error::other(format!(
                "{file} must contain at least {MIN_SECRET_BYTES} bytes; delete it to renew it"
            )))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secret = Alphanumeric.sample_string(&mut rand::rng(), GENERATED_SECRET_CHARS);
            create_private_folder(data_dir)?;
            write_private_file(&file, &secret)?;
            Ok(secret.into())
        }
        Err(error) => Err(error),
    }
}

fn create_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn write_private_file(file: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_of_key_set_hides_its_credentials() {
        for (address, shown) in [
            ("https://host/keys", "https://host/keys"),
            ("https://user:p%40ss@host:8443/keys?token=s3cret#s3cret", "https://***@host:8443/keys?***"),
            ("http://s3cret@127.0.0.1/keys", "http://***@127.0.0.1/keys"),
        ] {
            let url = SecretUrl::parse(address).unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{:?}", KeySource::Url(url.clone())), format!("Url({shown})"));
            assert_eq!(url.as_str(), address);
        }
        assert!(SecretUrl::parse("ftp://host/keys").is_err());
        assert!(SecretUrl::parse("https://").is_err());
    }
}
