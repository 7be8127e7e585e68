//! Where the keys come from that tokens are checked with.

use std::fmt::{self, Debug, Formatter};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use jsonwebtoken::Algorithm;
use rand::distr::{Alphanumeric, SampleString};

/// A secret that no log shows.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
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

#[derive(Debug, Clone)]
pub enum KeySource {
    /// One secret, shared with the host application.
    Secret(Secret),
    /// A file of public keys (RFC 7517), read again when a token names a key that it hadn't.
    File(PathBuf),
    /// The same at an address, fetched again likewise.
    Url(String),
}

/// The secret of a development server: made at its first start and kept, so that tokens outlive a
/// restart. Only the owner may read the file.
#[expect(clippy::disallowed_methods, reason = "a secret is made here, once")]
pub fn load_or_create_development_secret(data: &Path) -> std::io::Result<Secret> {
    let file = data.join("development-secret");
    match std::fs::read_to_string(&file) {
        Ok(secret) if secret.len() >= 32 => Ok(secret.into()),
        Ok(_) => Err(std::io::Error::other(format!("{} holds no secret: delete it", file.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let secret = Alphanumeric.sample_string(&mut rand::rng(), 48);
            std::fs::create_dir_all(data)?;
            write_private_file(&file, &secret)?;
            Ok(secret.into())
        }
        Err(error) => Err(error),
    }
}

fn write_private_file(file: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file)?.write_all(text.as_bytes())
}
