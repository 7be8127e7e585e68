//! The sources of the keys by which tokens are verified.

use std::fmt::{self, Debug, Formatter};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use jsonwebtoken::Algorithm;
use rand::distr::{Alphanumeric, SampleString};

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

/// The configured source of the keys.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// A secret shared with the host application.
    Secret(Secret),
    /// A file with a JSON Web Key Set (RFC 7517).
    File(PathBuf),
    /// An address that serves a JSON Web Key Set.
    Url(String),
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
            std::fs::create_dir_all(data_dir)?;
            write_private_file(&file, &secret)?;
            Ok(secret.into())
        }
        Err(error) => Err(error),
    }
}

fn write_private_file(file: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file)?.write_all(text.as_bytes())
}
