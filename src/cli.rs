//! The command line.

use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::auth::authenticator::TokenSpec;
use crate::config;
use crate::config::Config;
use crate::domain::clock::Clock;
use crate::service::context;
use crate::service::context::AppContext;
use crate::storage::migrations;
use crate::telemetry::Telemetry;

/// A chat server beside the application you have.
#[derive(Parser)]
#[command(name = "parlor", version, after_help = config::SETTINGS_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Migrate the database and serve; what a bare run does
    Serve,
    /// Migrate the database and end
    Migrate,
    /// Print a token made with the configured secret
    Token {
        /// The organisation
        #[arg(long, default_value = "demo")]
        org: String,
        /// The person
        #[arg(long)]
        user: String,
        /// The name to show
        #[arg(long)]
        name: Option<String>,
        /// A permission, such as chat.view; give it again for more. None leaves it to the default
        #[arg(long = "permission", value_name = "PERMISSION")]
        permissions: Vec<String>,
        /// How long it lives: a number and s, m, h or d
        #[arg(long, default_value = "1h", value_parser = parse_duration)]
        expires: Duration,
    },
    /// Print the GraphQL schema
    Schema,
}

/// Runs what the command line asks; what is wrong is said in words.
pub async fn run() -> Result<(), String> {
    let command = Cli::parse().command.unwrap_or(Command::Serve);
    if matches!(command, Command::Schema) {
        print!("{}", crate::graphql::schema::sdl());
        return Ok(());
    }
    let config = Config::from_env().map_err(|error| error.to_string())?;
    let telemetry = Telemetry::start(&config)?;
    let done = match command {
        Command::Serve => serve(config).await,
        Command::Migrate => migrate(&config).await,
        Command::Token { org, user, name, permissions, expires } => {
            let permissions = (!permissions.is_empty()).then_some(permissions);
            let grant = TokenSpec { organization: org, user, name, permissions, lifetime: expires };
            println!("{}", issue_token(&config, &grant)?);
            Ok(())
        }
        Command::Schema => Ok(()),
    };
    telemetry.shutdown();
    done
}

async fn serve(config: Config) -> Result<(), String> {
    let app = AppContext::start(config, Clock::system()).await?;
    let addr = app.config.http.addr;
    let listener = TcpListener::bind(addr).await.map_err(|error| format!("PARLOR_ADDR={addr}: {error}"))?;
    let addr = listener.local_addr().map_err(|error| error.to_string())?;
    // Before anybody is told of the server, and may tell it to stop.
    let stop = stop_on_signal()?;
    tracing::info!(%addr, "listening");
    print_listening(&app, addr).await?;
    crate::http::server::run(listener, app, stop).await.map_err(|error| error.to_string())?;
    tracing::info!("stopped");
    Ok(())
}

/// Tells a person at a terminal where the server is; a development server tells tokens too.
async fn print_listening(app: &AppContext, addr: std::net::SocketAddr) -> Result<(), String> {
    println!("Parlor is listening on http://{addr}/graphql");
    if !app.config.is_development() {
        return Ok(());
    }
    println!("GraphiQL:  http://{addr}/");
    println!();
    println!("THIS IS A DEVELOPMENT SERVER: it made its own secret, and listens on this machine only.");
    println!("Set PARLOR_JWT_SECRET or PARLOR_JWKS to your application's keys to leave development.");
    for (user, name) in [("alice", "Alice"), ("bob", "Bob")] {
        println!();
        println!("{name}'s token, of the organisation demo:");
        let token = app.authenticator.issue(&TokenSpec::demo(user, name))?;
        // Each can be found by the other from the start.
        crate::service::users::authenticate(app, &token).await.map_err(|error| error.to_string())?;
        println!("{token}");
    }
    println!();
    Ok(())
}

async fn migrate(config: &Config) -> Result<(), String> {
    let store = context::open_database(config)?;
    let migrated = migrations::run(&store).await.map_err(|error| format!("DATABASE_URL: {error}"))?;
    println!("{} migrations run", migrated.len());
    Ok(())
}

fn issue_token(config: &Config, grant: &TokenSpec) -> Result<String, String> {
    for word in grant.permissions.iter().flatten() {
        if word.parse::<crate::domain::users::Permission>().is_err() {
            return Err(format!("--permission {word}: there is no such permission"));
        }
    }
    context::create_authenticator(config, Clock::system())?.issue(grant)
}

/// Hears SIGTERM and SIGINT from now on.
fn stop_on_signal() -> Result<CancellationToken, String> {
    use tokio::signal::unix::{SignalKind, signal};
    let hear = |kind| signal(kind).map_err(|error| format!("signals can't be heard: {error}"));
    let (mut terminate, mut interrupt) = (hear(SignalKind::terminate())?, hear(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        stopping.cancel();
    });
    Ok(stop)
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.len() - text.chars().last().map_or(0, char::len_utf8));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err("must be a number and s, m, h or d".into()),
    };
    let number: u64 = number.parse().map_err(|_| "must be a number and s, m, h or d")?;
    let longest = 100 * 365 * 86_400;
    number.checked_mul(seconds).filter(|all| *all <= longest).map(Duration::from_secs).ok_or("is too long".into())
}
