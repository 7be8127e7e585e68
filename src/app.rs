//! What a request needs, built once.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::auth::Authenticator;
use crate::auth::keys::development_secret;
use crate::config::Config;
use crate::domain::changes::{Change, ChatEvent};
use crate::domain::chats::Chat;
use crate::domain::clock::Clock;
use crate::live::feed::CatchUps;
use crate::live::{Bus, Hub};
use crate::service::committer::Committer;
use crate::service::users::Seen;
use crate::storage::{Engine, Store, migrations};

pub struct App {
    pub config: Config,
    pub clock: Clock,
    pub store: Store,
    pub auth: Authenticator,
    pub hub: Arc<Hub>,
    pub bus: Bus,
    pub catch_ups: CatchUps,
    pub committer: Committer,
    pub seen: Seen,
}

impl App {
    /// Opens and migrates the database and reads the keys of tokens. What is wrong is said in words
    /// that name the setting.
    pub async fn start(config: Config, clock: Clock) -> Result<Arc<Self>, String> {
        let store = open(&config)?;
        let migrated = migrations::run(&store).await.map_err(|error| format!("DATABASE_URL: {error}"))?;
        if !migrated.is_empty() {
            tracing::info!(migrations = ?migrated, "migrated the database");
        }
        let auth = authenticator(&config, clock.clone())?;
        auth.prepare().await?;
        let hub = Arc::new(Hub::default());
        let bus = Bus::Local(hub.clone());
        let catch_ups = CatchUps {
            permits: Arc::new(Semaphore::new(config.limits.catch_ups)),
            limit: config.limits.catch_up_changes,
        };
        let committer = Committer::start(store.clone(), bus.clone(), clock.clone(), config.limits.send_queue);
        Ok(Arc::new(Self { config, clock, store, auth, hub, bus, catch_ups, committer, seen: Seen::default() }))
    }

    /// Tells of what a committed transaction changed in a chat.
    pub fn publish(&self, chat: &Chat, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.bus.publish(ChatEvent { organization: chat.organization.clone(), chat: chat.id, changes });
        }
    }
}

/// The database of the configuration, its folder made where it is missing.
pub fn open(config: &Config) -> Result<Store, String> {
    if let Engine::Sqlite(file) = &config.database.engine
        && let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder).map_err(|error| format!("DATABASE_URL: {}: {error}", folder.display()))?;
    }
    let database = &config.database;
    Store::open(&database.engine, database.connections, database.wait).map_err(|error| format!("DATABASE_URL: {error}"))
}

/// Who checks tokens; a development server's own secret is made here.
pub fn authenticator(config: &Config, clock: Clock) -> Result<Authenticator, String> {
    let development = config.is_development().then(|| development_secret(&config.data)).transpose();
    let development = development.map_err(|error| format!("PARLOR_DATA: {}: {error}", config.data.display()))?;
    Authenticator::new(&config.auth, development, clock)
}
