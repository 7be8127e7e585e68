//! A server that runs in the test's process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use parlor::auth::authenticator::TokenSpec;
use parlor::bootstrap;
use parlor::config::Config;
use parlor::domain::clock::Clock;
use parlor::http::health::StartProgress;
use parlor::http::server::Listeners;
use parlor::http::shutdown::Shutdown;
use parlor::service::context::AppContext;
use tokio::task::JoinHandle;

use crate::{Database, Engine, SECRET, User};

/// A server that runs in the test's process, on its own port and with its own database.
pub struct TestApp {
    pub app: Arc<AppContext>,
    pub addr: SocketAddr,
    pub database: Database,
    shutdown: Shutdown,
    serving: JoinHandle<()>,
}

/// Runs a test against a new server. `#[engine_test]` calls it.
pub async fn with_app(engine: Engine, settings: &[(&str, &str)], test: impl AsyncFnOnce(&TestApp)) {
    let app = TestApp::start(Database::create(engine).await, settings).await;
    test(&app).await;
    app.stop().await;
}

impl TestApp {
    /// Starts a server on SQLite, for a test that does not depend on the engine.
    pub async fn sqlite(settings: &[(&str, &str)]) -> Self {
        Self::start(Database::create(Engine::Sqlite).await, settings).await
    }

    /// Starts a server on a database.
    pub async fn start(database: Database, settings: &[(&str, &str)]) -> Self {
        Self::start_with_clock(database, settings, Clock::adjustable()).await
    }

    /// Starts a server on a database, with this clock.
    pub async fn start_with_clock(database: Database, settings: &[(&str, &str)], clock: Clock) -> Self {
        // The tests' HTTP client needs a TLS provider.
        crate::provide_tls();
        let config = config(&database.url, settings);
        let app = bootstrap::start(&config, clock).await.expect("the server starts");
        let listeners = Listeners::bind(&config.http).await.expect("a free port");
        let (addr, shutdown) = (listeners.addr, Shutdown::default());
        let server = bootstrap::listen(listeners, &config, &StartProgress::default(), &shutdown);
        let serving = tokio::spawn(bootstrap::serve(server, app.clone(), config, shutdown.clone()));
        Self { app, addr, database, shutdown, serving }
    }

    /// Stops the server as a signal does, and keeps the database.
    pub async fn shut_down(self) -> Database {
        self.shutdown.stop.cancel();
        self.serving.await.expect("the server ends");
        self.database
    }

    /// Stops the server and drops the database.
    pub async fn stop(self) {
        self.shut_down().await.drop().await;
    }

    /// Returns the URL of a path on this server.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Returns a user of the organisation `demo`, registered with the server.
    pub async fn user(&self, id: &str) -> User {
        self.user_in("demo", id, None).await
    }

    /// Returns a user of an organisation, with a token of these permissions or the default ones.
    pub async fn user_in(&self, organization: &str, id: &str, permissions: Option<&[&str]>) -> User {
        let user = User::new(self.addr, id, self.token(organization, id, permissions));
        user.ask("{ viewer { user { id } } }").await.data();
        user
    }

    /// Issues a token with these permissions or the default ones.
    pub fn token(&self, organization: &str, id: &str, permissions: Option<&[&str]>) -> String {
        let spec = TokenSpec {
            organization: organization.into(),
            user: id.into(),
            name: Some(capitalised(id)),
            picture: None,
            permissions: permissions.map(|permissions| permissions.iter().map(|&name| name.to_owned()).collect()),
            lifetime: Duration::from_secs(30 * 24 * 3600),
        };
        self.app.authenticator.issue(&spec).expect("a token")
    }

    /// Returns the time in a number of seconds, by the server's clock and in the API's format.
    pub fn time_in(&self, seconds: i64) -> String {
        (self.app.clock.now() + TimeDelta::seconds(seconds)).to_rfc3339()
    }

    /// Advances the server's clock.
    pub fn advance(&self, seconds: u64) {
        self.app.clock.advance(Duration::from_secs(seconds));
    }
}

/// Returns the configuration of a test's server.
pub fn config(url: &str, settings: &[(&str, &str)]) -> Config {
    let is_set = |name: &str| settings.iter().any(|(setting, _)| *setting == name);
    let defaults = [
        ("DATABASE_URL", url),
        ("PARLOR_ADDR", "127.0.0.1:0"),
        ("PARLOR_JWT_SECRET", SECRET),
        ("PARLOR_DRAIN_SECONDS", "0"),
        ("PARLOR_SHUTDOWN_SECONDS", "2"),
    ];
    let is_replaced = |name: &str| is_set(name) || name == "PARLOR_JWT_SECRET" && is_set("PARLOR_JWKS");
    let defaults = defaults.iter().filter(|(name, _)| !is_replaced(name));
    let vars = defaults.chain(settings).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::from_vars(vars).expect("valid settings")
}

fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).collect()
}
