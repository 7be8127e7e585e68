//! The server under test: the binary as a child process.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};
use testkit::keys::{sign_with_secret, unix_seconds};
use testkit::process::run_command;
use testkit::{Database, SECRET, ServerProcess};

use crate::tools::Result;

/// Settings that differ from the defaults.
///
/// Rate limits are high, because one user of a scenario sends as much as many real ones. The stop has no delay.
const SETTINGS: [(&str, &str); 7] = [
    ("PARLOR_JWT_SECRET", SECRET),
    ("PARLOR_SENDS_PER_MINUTE", "1000000"),
    ("PARLOR_REACTIONS_PER_MINUTE", "1000000"),
    ("PARLOR_WRITES_PER_MINUTE", "1000000"),
    ("PARLOR_CHATS_PER_MINUTE", "1000000"),
    ("PARLOR_SIGNALS_PER_MINUTE", "1000000"),
    ("PARLOR_DRAIN_SECONDS", "0"),
];

/// The organisation that is measured.
pub const ORGANIZATION: &str = "load";

/// The lifetime of tokens, longer than any scenario.
const LIFETIME_SECONDS: i64 = 24 * 3_600;

/// A running server.
pub struct Parlor {
    pub server: ServerProcess,
    pub address: SocketAddr,
}

impl Parlor {
    /// Starts the server on a database, which it migrates if necessary, and waits until it is ready.
    pub async fn start(database: &Database, folder: &Path) -> Result<Self> {
        Self::start_with(database, folder, &[]).await
    }

    /// Starts the server like [`Self::start`], with more settings.
    pub async fn start_with(database: &Database, folder: &Path, settings: &[(&str, &str)]) -> Result<Self> {
        Self::start_with_defaults(database, folder, &[&SETTINGS[..], settings].concat()).await
    }

    /// Starts the server with these settings only, and waits until it is ready.
    pub async fn start_with_defaults(database: &Database, folder: &Path, settings: &[(&str, &str)]) -> Result<Self> {
        let settings = [&[("DATABASE_URL", database.url.as_str())], settings].concat();
        let mut server = ServerProcess::start(folder, &settings);
        let address = server.addr;
        server.process.wait_until_ready(address).await;
        Ok(Self { server, address })
    }

    /// Creates the tables in a database.
    pub fn migrate(database: &Database, folder: &Path) -> Result<()> {
        let output = run_command(folder, &[("DATABASE_URL", &database.url)], &["migrate"]);
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into()),
        }
    }

    /// Stops the server by SIGTERM, and waits for its end.
    pub async fn stop(self) {
        self.server.process.stop("TERM").await;
    }
}

/// Returns a token of a user of an organisation.
pub fn token_in(organization: &str, user: &str) -> String {
    sign_with_secret(claims(organization, user))
}

/// Returns a token of a user who administers an organisation.
pub fn administrator_token(organization: &str) -> String {
    let mut claims = claims(organization, "administrator");
    claims["permissions"] = json!(["chat.view", "organization.admin"]);
    sign_with_secret(claims)
}

fn claims(organization: &str, user: &str) -> Value {
    let (now, name) = (unix_seconds(), format!("The user {user}"));
    json!({ "sub": user, "org": organization, "name": name, "iat": now, "exp": now + LIFETIME_SECONDS })
}
