//! The composition root: opens the database, builds every component of a server once and starts its background tasks.
//!
//! # Background tasks
//!
//! Each task ends with the component that it works for, as [`tasks`](crate::tasks) explains. A panic ends its task
//! only; the function that starts the task says what is missing then.
//!
//! | task | started by | ends with |
//! |---|---|---|
//! | expiry of sessions | [`Sessions::start`] | the sessions |
//! | repair of gaps, and reconciliation | [`GapRepairer::start`] | the hub |
//! | publishing of receipts | [`ReceiptCoalescer::start`] | the coalescer |
//! | expiry of typing indicators | [`TypingTracker::start`] | the tracker |
//! | expiry of presence | [`PresenceTracker::start`] | the tracker |
//! | commits of sends | [`SendQueue::start`] | the queue |
//! | due calls | [`scheduler::start`] | the [`AppContext`] |
//! | publishing of rate limit usage, with Redis only | [`RateLimits::start`] | the limits |
//! | search for revocations, with Redis only | [`token_revocation::start_polling`] | the sessions |
//! | connection to Redis, with Redis only | [`start`] | the process, because its handler holds a publisher |

use std::error::Error as StdError;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::auth::authenticator::{Authenticator, KeyError};
use crate::config::Config;
use crate::domain::clock::Clock;
use crate::domain::ids::node_name;
use crate::graphql::api::GraphqlService;
use crate::http::server;
use crate::http::state::HttpState;
use crate::realtime::cluster::gap_repair::GapRepairer;
use crate::realtime::cluster::handler::ClusterMessageHandler;
use crate::realtime::cluster::publisher::EventPublisher;
use crate::realtime::cluster::redis::RedisTransport;
use crate::realtime::dispatch::hub::Hub;
use crate::realtime::feeds::catch_up::CatchUpLimits;
use crate::realtime::presence::tracker::PresenceTracker;
use crate::realtime::receipt_coalescer::ReceiptCoalescer;
use crate::realtime::sessions::Sessions;
use crate::realtime::typing::TypingTracker;
use crate::service::calls::scheduler;
use crate::service::cluster_events::RemoteEvents;
use crate::service::context::AppContext;
use crate::service::known_users::KnownUsers;
use crate::service::rate_limits::RateLimits;
use crate::service::send::queue::{SendQueue, SendWorker};
use crate::service::token_revocation;
use crate::storage::migrations;
use crate::storage::pool::{Database, Engine};
use crate::storage::settings::DatabaseSettings;

/// A reason why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// The keys of tokens cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A setting has a valid value that does not work on this machine.
    #[error("{setting}: {source}")]
    Setting {
        /// The name of the setting.
        setting: &'static str,
        /// The cause.
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl StartupError {
    fn setting(setting: &'static str, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Setting { setting, source: source.into() }
    }
}

/// Builds all components of a server and starts their tasks.
///
/// Opens and migrates the database and loads the keys of tokens first.
///
/// # Errors
///
/// Fails if the database cannot be opened or migrated, or if the keys of tokens cannot be loaded.
pub async fn start(config: &Config, clock: Clock) -> Result<Arc<AppContext>, StartupError> {
    let database = open_database(&config.database)?;
    let migrated = migrate(&database).await?;
    if !migrated.is_empty() {
        tracing::info!(migrations = ?migrated, "migrated the database");
    }
    let authenticator = Authenticator::new(&config.auth, clock.clone())?;
    authenticator.load_initial_keys().await?;

    let limits = &config.service.limits;
    let cluster = &config.realtime.cluster;
    let node = node_name(cluster.node_name.as_deref());
    let hub = Arc::new(Hub::default());
    let (outbox, transport) = cluster.redis.clone().map(|redis| RedisTransport::new(redis, node.clone())).unzip();
    let publisher = EventPublisher::new(hub.clone(), outbox);
    let known_users = Arc::<KnownUsers>::default();

    // Components with tasks of their own: see the table above.
    let sessions = Sessions::start(clock.clone());
    let gap_repairer = GapRepairer::start(database.clone(), clock.clone(), &hub);
    let receipts =
        ReceiptCoalescer::start(database.clone(), publisher.clone(), clock.clone(), limits.max_receipt_members);
    let typing = TypingTracker::start(publisher.clone(), clock.clone());
    let presence = PresenceTracker::start(
        node,
        database.clone(),
        publisher.clone(),
        clock.clone(),
        config.realtime.presence_grace_period,
    );
    let rate_limits = RateLimits::start(&config.service.rate_limits, &clock, &publisher);
    let send_worker = SendWorker {
        database: database.clone(),
        publisher: publisher.clone(),
        receipts: receipts.clone(),
        typing: typing.clone(),
        rate_limits: rate_limits.clone(),
        clock: clock.clone(),
    };
    let send_queue = SendQueue::start(send_worker, limits.send_queue_capacity);
    if let Some(transport) = transport {
        token_revocation::start_polling(database.clone(), clock.clone(), &known_users, &sessions);
        let event_listener = RemoteEvents {
            rate_limits: rate_limits.clone(),
            known_users: known_users.clone(),
            sessions: sessions.clone(),
        };
        tokio::spawn(transport.run(ClusterMessageHandler {
            publisher: publisher.clone(),
            hub: hub.clone(),
            gap_repairer,
            typing: typing.clone(),
            presence: presence.clone(),
            event_listener: Arc::new(event_listener),
            resync_scheduled: Arc::default(),
        }));
    }
    let catch_up_limits = CatchUpLimits {
        permits: Arc::new(Semaphore::new(config.realtime.max_concurrent_catch_ups)),
        max_changes: config.realtime.max_catch_up_changes,
        max_receipt_members: limits.max_receipt_members,
        clock: clock.clone(),
    };
    let app = Arc::new(AppContext {
        settings: config.service.clone(),
        clock,
        database,
        authenticator,
        hub,
        sessions,
        publisher,
        receipts,
        typing,
        presence,
        call_presence: Arc::default(),
        rate_limits,
        catch_up_limits,
        send_queue,
        known_users,
    });
    scheduler::start(&app);
    Ok(app)
}

/// Opens the configured database, whose directory is created if it does not exist.
///
/// # Errors
///
/// Fails if the directory cannot be created or if the address of the database cannot be used.
pub fn open_database(settings: &DatabaseSettings) -> Result<Database, StartupError> {
    if let Engine::Sqlite(file) = &settings.engine
        && let Some(directory) = file.parent().filter(|directory| !directory.as_os_str().is_empty())
    {
        std::fs::create_dir_all(directory)
            .map_err(|error| StartupError::setting("DATABASE_URL", format!("{}: {error}", directory.display())))?;
    }
    Database::open(&settings.engine, settings.max_connections, settings.acquire_timeout)
        .map_err(|error| StartupError::setting("DATABASE_URL", error))
}

/// Runs the migrations that a database lacks and returns their names.
///
/// # Errors
///
/// Fails if the database cannot be reached or if a migration fails.
pub async fn migrate(database: &Database) -> Result<Vec<String>, StartupError> {
    migrations::run(database).await.map_err(|error| StartupError::setting("DATABASE_URL", error))
}

/// Serves the connections of a listener until `stop` is cancelled.
///
/// # Errors
///
/// Fails if the listener fails or if the address of the metrics is not available.
pub async fn serve(
    listener: TcpListener,
    app: Arc<AppContext>,
    config: Config,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let api = Arc::new(GraphqlService::new(app.clone(), &config.graphql));
    server::run(listener, HttpState::new(app, api, config.http, stop)).await
}
