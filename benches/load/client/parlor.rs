//! The server under test: the real binary, in a folder of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use jsonwebtoken::{EncodingKey, Header, get_current_timestamp};
use serde_json::json;

use crate::engines::Database;
use crate::tools::process::Process;
use crate::tools::{Result, free_address};

const SECRET: &str = "known to the load generator and its server alone";
pub const ORGANIZATION: &str = "load";

pub struct Parlor {
    pub process: Process,
    pub address: SocketAddr,
}

impl Parlor {
    /// Serves the database, migrating it first where it is new.
    pub async fn start(database: &Database, folder: &Path) -> Result<Self> {
        Self::start_with(database, folder, &[]).await
    }

    /// The same with more settings.
    pub async fn start_with(database: &Database, folder: &Path, settings: &[(&str, &str)]) -> Result<Self> {
        let address = free_address()?;
        let mut command = command("serve", database, folder);
        command.envs(settings.iter().copied());
        command.env("PARLOR_ADDR", address.to_string());
        command.env("PARLOR_JWT_SECRET", SECRET);
        let mut process = Process::start("parlor", &mut command, folder)?;
        process.ready(address).await?;
        Ok(Self { process, address })
    }

    /// Only makes the tables.
    pub async fn migrate(database: &Database, folder: &Path) -> Result<()> {
        Process::start("parlor-migrate", &mut command("migrate", database, folder), folder)?.finish().await
    }

    pub async fn stop(self) -> Result<()> {
        self.process.stop("TERM").await
    }
}

/// The binary with its defaults but for limits per person, and for a stop without delay: nothing of our
/// own environment reaches it.
fn command(subcommand: &str, database: &Database, folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parlor"));
    command.arg(subcommand).env_clear().env("DATABASE_URL", database.url());
    // One person here stands for many.
    for limit in ["SENDS", "REACTIONS", "CHATS", "SIGNALS"] {
        command.env(format!("PARLOR_{limit}_PER_MINUTE"), "1000000");
    }
    command.env("PARLOR_DRAIN_SECONDS", "0");
    command.current_dir(folder);
    command
}

/// Who someone is, for an hour.
pub fn token(user: &str) -> Result<String> {
    let claims = json!({
        "sub": user,
        "org": ORGANIZATION,
        "name": format!("The user {user}"),
        "exp": get_current_timestamp() + 3_600,
    });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    Ok(jsonwebtoken::encode(&Header::default(), &claims, &key)?)
}
