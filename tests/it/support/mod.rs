//! One server, with people who talk to it: what every story begins with.

pub mod calls;
mod client;
pub mod dump;
mod engine;
mod feed;
pub mod keys;
pub mod process;
pub mod redis;
pub mod schema;
mod steps;
pub mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parlor::app::App;
use parlor::auth::Grant;
use parlor::config::Config;
use parlor::domain::clock::Clock;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use client::{Reply, Socket, User, http};
pub use engine::{Database, Engine};
pub use feed::{Feed, place};
pub use steps::each;

pub const SECRET: &str = "a secret for tests, of more than 32 bytes";

/// A server in this process, on a port and a database of its own.
pub struct TestApp {
    pub app: Arc<App>,
    pub addr: SocketAddr,
    pub database: Database,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

/// A server for a story of which the engine is no part.
pub async fn one_app(settings: &[(&str, &str)]) -> TestApp {
    TestApp::start(Database::create(Engine::Sqlite).await, settings).await
}

/// Tells a story on both engines.
pub async fn each_engine(story: impl AsyncFn(&TestApp)) {
    each_engine_with(&[], story).await;
}

/// The same with settings.
pub async fn each_engine_with(settings: &[(&str, &str)], story: impl AsyncFn(&TestApp)) {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        eprintln!("on {engine:?}");
        let app = TestApp::start(Database::create(engine).await, settings).await;
        story(&app).await;
        app.stop().await;
    }
}

impl TestApp {
    pub async fn start(database: Database, settings: &[(&str, &str)]) -> Self {
        // The tests' own HTTP client asks for one.
        parlor::tls::provide();
        let config = config(&database.url, settings);
        let app = App::start(config, Clock::default()).await.expect("the server starts");
        let listener = TcpListener::bind(app.config.http.addr).await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let serving = tokio::spawn({
            let (app, stop) = (app.clone(), stop.clone());
            async move { parlor::http::server::run(listener, app, stop).await.expect("the server serves") }
        });
        Self { app, addr, database, stop, serving }
    }

    /// Stops as a signal would, and keeps the database.
    pub async fn halt(self) -> Database {
        self.stop.cancel();
        self.serving.await.expect("the server ends");
        self.database
    }

    pub async fn stop(self) {
        self.halt().await.drop().await;
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// A person of the organisation `demo`, whom the server has seen.
    pub async fn user(&self, id: &str) -> User {
        self.person("demo", id, None).await
    }

    pub async fn person(&self, organization: &str, id: &str, permissions: Option<&[&str]>) -> User {
        let user = User::new(self.addr, id, self.token(organization, id, permissions));
        user.ask("{ viewer { user { id } } }").await.data();
        user
    }

    pub fn token(&self, organization: &str, id: &str, permissions: Option<&[&str]>) -> String {
        let grant = Grant {
            organization: organization.into(),
            user: id.into(),
            name: Some(capitalised(id)),
            permissions: permissions.map(|words| words.iter().map(|word| (*word).to_owned()).collect()),
            lifetime: Duration::from_secs(30 * 24 * 3600),
        };
        self.app.auth.issue(&grant).expect("a token")
    }
}

pub fn config(url: &str, settings: &[(&str, &str)]) -> Config {
    let given = |name: &str| settings.iter().any(|(setting, _)| *setting == name);
    let defaults = [
        ("DATABASE_URL", url),
        ("PARLOR_ADDR", "127.0.0.1:0"),
        ("PARLOR_JWT_SECRET", SECRET),
        ("PARLOR_DRAIN_SECONDS", "0"),
        ("PARLOR_SHUTDOWN_SECONDS", "2"),
    ];
    let replaced = |name: &str| given(name) || name == "PARLOR_JWT_SECRET" && given("PARLOR_JWKS");
    let defaults = defaults.iter().filter(|(name, _)| !replaced(name));
    let vars = defaults.chain(settings).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::from_vars(vars).expect("settings for a test")
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).collect()
}
