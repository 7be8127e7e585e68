//! The commands that move an organisation between databases.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use crate::bootstrap::{self, StartupError};
use crate::domain::ids::OrganizationId;
use crate::domain::text;
use crate::error::Error;
use crate::service::organization_moves::export::{self, ExportSummary};
use crate::service::organization_moves::import::{self, ImportSummary};
use crate::service::organization_moves::removal;
use crate::storage::pool::Database;
use crate::storage::settings::{DatabaseSettings, MigrationMode};

/// The time that a statement may take, because nobody waits for it.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(600);

/// A command about one organisation.
#[derive(Debug, Subcommand)]
pub enum OrgsCommand {
    /// Export an organization into a folder; repeated, it exports what has changed since
    Export {
        /// Organization to export
        #[arg(long, value_parser = parse_organization)]
        org: OrganizationId,
        /// Folder of the export
        #[arg(long)]
        dir: PathBuf,
        /// Refuse changes of the organization from now on, so that this export is the last one
        #[arg(long)]
        freeze: bool,
    },
    /// Import an exported organization; repeated, it imports what is missing, and serves what has moved
    Import {
        /// Folder of the export
        #[arg(long)]
        dir: PathBuf,
    },
    /// Answer requests of an imported organization with the address of the server that has it now
    Moved {
        /// Organization that was imported by another database
        #[arg(long, value_parser = parse_organization)]
        org: OrganizationId,
        /// Folder of the last export
        #[arg(long)]
        dir: PathBuf,
        /// Address of the other server: an absolute http or https URL
        #[arg(long = "to", value_name = "URL", value_parser = parse_address)]
        address: String,
    },
    /// Give a move up: serve a frozen organization again
    Resume {
        /// Organization that was frozen
        #[arg(long, value_parser = parse_organization)]
        org: OrganizationId,
    },
    /// Delete all data of an organization, in batches; repeated after an interruption, it continues
    Delete {
        /// Organization to delete
        #[arg(long, value_parser = parse_organization)]
        org: OrganizationId,
        /// Print the number of rows of each table, and delete nothing
        #[arg(long)]
        dry_run: bool,
        /// Confirm the deletion
        #[arg(long, conflicts_with = "dry_run")]
        yes: bool,
    },
}

/// A reason why such a command failed.
#[derive(Debug, thiserror::Error)]
pub enum OrgsError {
    /// The database cannot be opened, or has another schema.
    #[error(transparent)]
    Startup(#[from] StartupError),
    /// The organisation cannot be moved.
    #[error(transparent)]
    Move(#[from] Error),
    /// A deletion is not confirmed.
    #[error("the deletion cannot be undone: add --yes, or --dry-run to see what would be deleted")]
    NotConfirmed,
}

/// Runs a command on the configured database.
///
/// # Errors
///
/// Fails if the database cannot be used, or for the reasons of the command's use case.
pub async fn run(settings: &DatabaseSettings, command: OrgsCommand) -> Result<(), OrgsError> {
    let database = open(settings).await?;
    match command {
        OrgsCommand::Export { org, dir, freeze } => {
            let summary = export::export(&database, &org, &dir, freeze).await?;
            let ExportSummary { pass, is_final, rows, read, written } = summary;
            println!("Pass {pass}: {rows} rows, of which {read} were read and {written} were written to the folder.");
            println!(
                "{}",
                match is_final {
                    true => "The organization is frozen. Import the folder, then run parlor orgs moved here.",
                    false => "Import the folder, or repeat the export with --freeze for the last changes.",
                }
            );
        }
        OrgsCommand::Import { dir } => {
            let ImportSummary { rows, written, is_served } = import::import(&database, &dir).await?;
            println!("{rows} rows, of which {written} were written and compared with their checksums.");
            println!(
                "{}",
                match is_served {
                    true => "The organization is served here from now on.",
                    false =>
                        "The organization is not served here yet: import again after parlor orgs moved on the old database.",
                }
            );
        }
        OrgsCommand::Moved { org, dir, address } => {
            export::finish(&database, &org, &dir, &address).await?;
            println!("Requests of the organization are answered with MOVED and {address} from now on.");
            println!("Import the folder once more, so that the new server serves the organization.");
        }
        OrgsCommand::Resume { org } => {
            export::resume(&database, &org).await?;
            println!("The organization is served again.");
        }
        OrgsCommand::Delete { org, dry_run: true, .. } => {
            for (table, rows) in removal::row_counts(&database, &org).await? {
                println!("{table}: {rows} rows");
            }
        }
        OrgsCommand::Delete { yes: false, .. } => return Err(OrgsError::NotConfirmed),
        OrgsCommand::Delete { org, .. } => println!("{} rows deleted.", removal::delete(&database, &org).await?),
    }
    Ok(())
}

/// Opens a database whose schema is the one of this version.
async fn open(settings: &DatabaseSettings) -> Result<Database, StartupError> {
    let settings = DatabaseSettings { statement_timeout: STATEMENT_TIMEOUT, ..settings.clone() };
    bootstrap::migrate(&settings, MigrationMode::Check).await?;
    bootstrap::open_database(&settings, "parlor orgs")
}

fn parse_organization(name: &str) -> Result<OrganizationId, String> {
    name.parse().map_err(|_| "must be one visible line of 1 to 255 bytes".to_owned())
}

fn parse_address(address: &str) -> Result<String, String> {
    text::validate_url("the address", address).map_err(|error| error.to_string())
}
