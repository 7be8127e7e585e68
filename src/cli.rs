//! The command line.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::auth::authenticator::{Authenticator, KeyError, TokenSpec};
use crate::bootstrap::{self, StartupError};
use crate::cli::orgs::{OrgsCommand, OrgsError};
use crate::config::{Config, ConfigError, reference};
use crate::domain::clock::Clock;
use crate::domain::text;
use crate::domain::users::Permission;
use crate::error::Error;
use crate::http::descriptors;
use crate::http::health::StartProgress;
use crate::http::server::{ListenError, Listeners};
use crate::http::shutdown::Shutdown;
use crate::service::context::AppContext;
use crate::service::users;
use crate::signals::Signals;
use crate::storage::distribution::Distribution;
use crate::storage::search_names::Backlog;
use crate::storage::settings::MigrationMode;
use crate::telemetry::{Telemetry, TelemetryError};

mod orgs;

/// The maximum lifetime of a token.
const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A chat server that runs beside an existing application
#[derive(Parser)]
#[command(name = "parlor", version, after_help = reference::help())]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Migrate the database and serve (the default)
    Serve,
    /// Migrate the database and exit
    Migrate {
        /// Also distribute the tables over the nodes of a Citus cluster, while no node of Parlor runs
        #[arg(long)]
        distribute: bool,
    },
    /// Record that an older state of the database was restored, so that clients load everything again
    Restored,
    /// Print how many names, titles and chats searches still find by the form of an earlier version
    SearchBacklog,
    /// Move an organization to another database, or delete it
    #[command(subcommand)]
    Orgs(OrgsCommand),
    /// Print a token that is signed by the configured secret
    Token {
        /// Organisation of the user
        #[arg(long, default_value = "demo")]
        org: String,
        /// Id of the user
        #[arg(long)]
        user: String,
        /// Display name of the user
        #[arg(long)]
        name: Option<String>,
        /// Address of the user's picture: an absolute http or https URL
        #[arg(long, value_name = "URL", value_parser = parse_picture)]
        picture: Option<String>,
        /// Permission of the user, such as chat.view; may be repeated. Without it the default permissions apply
        #[arg(long = "permission", value_name = "PERMISSION")]
        permissions: Vec<String>,
        /// Time until the token expires, such as 90s, 15m, 1h or 30d
        #[arg(long, default_value = "1h", value_parser = parse_lifetime)]
        expires: Duration,
    },
    /// Print the GraphQL schema
    Schema,
    /// Print the reference of all settings in Markdown
    Settings,
}

/// A reason why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The environment has settings that are wrong or unknown.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The log or the traces cannot be set up.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The server cannot start.
    #[error(transparent)]
    Startup(#[from] StartupError),
    /// An organisation cannot be moved or deleted.
    #[error(transparent)]
    Orgs(#[from] OrgsError),
    /// A token cannot be issued.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A permission of a token does not exist.
    #[error("--permission {0}: there is no such permission; see docs/OPERATIONS.md")]
    UnknownPermission(String),
    /// A configured address is not available.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The handlers of signals cannot be installed.
    #[error("signal handlers cannot be installed: {0}")]
    Signals(#[source] io::Error),
    /// A user of a development server cannot be created.
    #[error("the users of the development server cannot be created: {0}")]
    DemoUser(#[source] Error),
}

/// Runs the command that the arguments of this process name.
///
/// # Errors
///
/// Fails if the settings are wrong, if the server cannot start or stops by an error, or if a token cannot be issued.
pub async fn run() -> Result<(), CliError> {
    let command = Cli::parse().command.unwrap_or(Command::Serve);
    // These two need no settings, so wrong ones do not matter.
    match command {
        Command::Schema => {
            print!("{}", crate::graphql::schema::sdl());
            return Ok(());
        }
        Command::Settings => {
            print!("{}", reference::markdown());
            return Ok(());
        }
        Command::Serve
        | Command::Migrate { .. }
        | Command::Restored
        | Command::SearchBacklog
        | Command::Orgs(_)
        | Command::Token { .. } => {}
    }
    let config = Config::from_env()?;
    if matches!(command, Command::Serve) {
        config.check_development()?;
    }
    let telemetry = Telemetry::start(&config.log, config.realtime.cluster.node_name.as_deref())?;
    let result = match command {
        Command::Serve => serve(config).await,
        Command::Migrate { distribute } => migrate(&config, distribute).await,
        Command::Restored => record_restore(&config).await,
        Command::SearchBacklog => print_search_backlog(&config).await,
        Command::Orgs(command) => orgs::run(&config.database, command).await.map_err(CliError::from),
        Command::Token { org, user, name, picture, permissions, expires } => {
            let permissions = (!permissions.is_empty()).then_some(permissions);
            let spec = TokenSpec { organization: org, user, name, picture, permissions, lifetime: expires };
            print_token(&config, &spec)
        }
        Command::Schema | Command::Settings => Ok(()),
    };
    telemetry.shutdown();
    result
}

async fn serve(config: Config) -> Result<(), CliError> {
    // First, because a supervisor may stop or check the server from now on.
    let (shutdown, reload) = (Shutdown::default(), Arc::<Notify>::default());
    Signals::install().map_err(CliError::Signals)?.handle(shutdown.clone(), config.http.stop_delay, reload.clone());
    descriptors::raise_limit();
    let listeners = Listeners::bind(&config.http).await?;
    let (addr, metrics_addr) = (listeners.addr, listeners.metrics_addr);
    let progress = StartProgress::default();
    let server = bootstrap::listen(listeners, &config, &progress, &shutdown);
    tracing::info!(%addr, "listening");
    let Some(app) = start(config.clone(), progress, &shutdown).await? else {
        tracing::info!("stopped before the start was complete");
        return Ok(());
    };
    let serving = bootstrap::serve(server, app.clone(), config.clone(), shutdown);
    print_listening(&app, &config, addr).await?;
    if let Some(addr) = metrics_addr {
        println!("Metrics are at http://{addr}/metrics");
    }
    tracing::info!("ready");
    tokio::spawn(reload_keys(app, reload));
    serving.await;
    tracing::info!("stopped");
    Ok(())
}

/// Starts all components, on a thread of its own; returns `None` if a signal stops the server before.
///
/// A step of the start may block its thread, which is left behind then and ends with the process.
async fn start(
    config: Config,
    progress: StartProgress,
    shutdown: &Shutdown,
) -> Result<Option<Arc<AppContext>>, CliError> {
    let runtime = Handle::current();
    let starting = tokio::task::spawn_blocking(move || {
        runtime.block_on(bootstrap::start_with_progress(&config, Clock::system(), &progress))
    });
    tokio::select! {
        started = starting => match started {
            Ok(app) => Ok(Some(app?)),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        },
        () = shutdown.leaving.cancelled() => Ok(None),
    }
}

/// Reads the token keys again whenever it is notified, until the runtime ends.
async fn reload_keys(app: Arc<AppContext>, reload: Arc<Notify>) {
    loop {
        reload.notified().await;
        match app.authenticator.reload_keys().await {
            Ok(Some(keys)) => tracing::info!(keys, "SIGHUP: read the token keys again"),
            Ok(None) => tracing::info!("SIGHUP: nothing to read again, because the keys are no key set"),
            Err(error) => tracing::warn!(%error, "SIGHUP: the token keys cannot be read; the known keys stay valid"),
        }
    }
}

/// Prints the address of the server, and tokens if it is a development server.
async fn print_listening(app: &AppContext, config: &Config, addr: SocketAddr) -> Result<(), CliError> {
    println!("Parlor is listening on http://{addr}/graphql");
    if !config.is_development() {
        return Ok(());
    }
    println!("GraphiQL:  http://{addr}/");
    println!();
    println!("THIS IS A DEVELOPMENT SERVER: it uses a generated secret and listens on this machine only.");
    println!("To run it in production, set PARLOR_JWT_SECRET or PARLOR_JWKS to the keys of your application.");
    for (user, name) in [("alice", "Alice"), ("bob", "Bob")] {
        println!();
        println!("Token of {name}, organisation demo:");
        let token = app.authenticator.issue(&TokenSpec::demo(user, name))?;
        // A user is known after the first request, so each can open a chat with the other at once.
        users::authenticate(app, &token).await.map_err(CliError::DemoUser)?;
        println!("{token}");
    }
    println!();
    Ok(())
}

async fn migrate(config: &Config, is_to_distribute: bool) -> Result<(), CliError> {
    // Before the migrations, so that a refusal changes nothing.
    if is_to_distribute {
        bootstrap::check_distribution(&config.database).await?;
    }
    bootstrap::open_database(&config.database, "parlor migrate")?;
    let migrations = bootstrap::migrate(&config.database, MigrationMode::Auto).await?;
    println!("{} migrations run", migrations.len());
    if is_to_distribute {
        let Distribution { distributed, copied } = bootstrap::distribute(&config.database).await?;
        println!("{} tables distributed by bucket, {} tables copied to all nodes", distributed.len(), copied.len());
    }
    Ok(())
}

async fn record_restore(config: &Config) -> Result<(), CliError> {
    bootstrap::record_restore(&config.database).await?;
    println!("The restore is recorded. Nodes that are running have to be restarted.");
    Ok(())
}

async fn print_search_backlog(config: &Config) -> Result<(), CliError> {
    let Backlog { names, titles, chats } = bootstrap::search_backlog(&config.database).await?;
    println!("{names} names of users, {titles} titles of chats and the messages of {chats} chats are left");
    Ok(())
}

fn print_token(config: &Config, spec: &TokenSpec) -> Result<(), CliError> {
    for name in spec.permissions.iter().flatten() {
        if name.parse::<Permission>().is_err() {
            return Err(CliError::UnknownPermission(name.clone()));
        }
    }
    println!("{}", Authenticator::new(&config.auth, Clock::system())?.issue(spec)?);
    Ok(())
}

/// Parses the address of a picture: a token with another one would show no picture.
fn parse_picture(address: &str) -> Result<String, String> {
    text::validate_url("the picture", address).map_err(|error| error.to_string())
}

/// Parses a lifetime such as `90s`, `15m`, `1h` or `30d`.
fn parse_lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match lifetime <= MAX_TOKEN_LIFETIME {
        true => Ok(lifetime),
        false => Err("must be at most 36500d".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetime_needs_a_number_and_a_unit_up_to_a_hundred_years() {
        for (text, seconds) in [("0s", 0), ("90s", 90), ("15m", 900), ("1h", 3_600), ("30d", 2_592_000)] {
            assert_eq!(parse_lifetime(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse_lifetime("36500d"), Ok(MAX_TOKEN_LIFETIME));
        for text in ["", "h", "1", "-1h", "1ü", "36501d", "99999999999999999999d"] {
            assert!(parse_lifetime(text).is_err(), "{text}");
        }
    }
}
