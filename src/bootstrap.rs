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
//! | the time of the database, with a clock that follows it | [`SharedState::start`] | the shared state |
//! | announcements of presence, with Redis only | [`PresenceAnnouncer::start`] | the announcer |
//! | repair of gaps, and reconciliation | [`GapRepairer::start`] | the hub |
//! | comparison of calls with the database | [`CallRepairer::start`] | the hub |
//! | publishing of receipts | [`ReceiptCoalescer::start`] | the coalescer |
//! | expiry of typing indicators | [`TypingTracker::start`] | the tracker |
//! | expiry of presence | [`PresenceTracker::start`] | the tracker |
//! | search for moves of organisations | [`OrganizationMoves::start`] | the sessions |
//! | commits of sends, one task per lane | [`SendQueue::start`] | the queue |
//! | commits of sends to a chat that another transaction has locked | [`SendQueue::start`] | the last of them |
//! | due calls | [`scheduler::start`] | the [`AppContext`] |
//! | checks of the replica, with `DATABASE_READ_URL` only | [`replica::start_checks`] | the [`AppContext`] |
//! | completion of the search index, until it is complete | [`search::start_reindexing`] | the [`AppContext`] |
//! | publishing of rate limit usage, with Redis only | [`RateLimits::start`] | the limits |
//! | refresh of token keys, with a key set only | [`Authenticator::load_initial_keys`] | the authenticator |
//! | search for revocations, with PostgreSQL only | [`token_revocation::start_polling`] | the sessions |
//! | connection to Redis, with Redis only | [`start`] | the process, because its handler holds a publisher |

use std::error::Error as StdError;
use std::sync::Arc;

use futures_util::FutureExt;

use crate::auth::authenticator::{Authenticator, KeyError};
use crate::config::Config;
use crate::domain::clock::Clock;
use crate::domain::cursors::DatabaseEpoch;
use crate::domain::ids::node_name;
use crate::error::Error;
use crate::graphql::api::GraphqlService;
use crate::http::health::StartProgress;
use crate::http::server::{Listeners, Server};
use crate::http::shutdown::Shutdown;
use crate::http::state::HttpState;
use crate::realtime::call_presence::CallPresence;
use crate::realtime::cluster::call_repair::CallRepairer;
use crate::realtime::cluster::gap_repair::GapRepairer;
use crate::realtime::cluster::handler::ClusterMessageHandler;
use crate::realtime::cluster::presence_announcer::PresenceAnnouncer;
use crate::realtime::cluster::publisher::EventPublisher;
use crate::realtime::cluster::redis::RedisTransport;
use crate::realtime::cluster::shared_state::SharedState;
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
use crate::service::organization_moves::states::OrganizationMoves;
use crate::service::quotas::Quotas;
use crate::service::rate_limits::RateLimits;
use crate::service::replica;
use crate::service::search;
use crate::service::send::queue::SendQueue;
use crate::service::send::worker::SendWorker;
use crate::service::token_revocation;
use crate::storage::distribution::{self, Distribution};
use crate::storage::engine::Engine;
use crate::storage::pool::Database;
use crate::storage::read_permits::ReadPermits;
use crate::storage::read_queue::ReadLimits;
use crate::storage::search_names::Backlog;
use crate::storage::settings::{DatabaseSettings, MigrationMode};
use crate::storage::sqlite_file::{self, ServerLock};
use crate::storage::{database_epoch, migrations};
use crate::storage::{pooler, readiness as database_readiness};

/// The file descriptors that all connections to a SQLite database use together.
///
/// Each uses one for the file, its log and the index of the log.
const SQLITE_DESCRIPTORS: usize = 32;

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
    start_with_progress(config, clock, &StartProgress::default()).await
}

/// Does the same as [`start`], and records which step runs.
///
/// # Errors
///
/// Fails as [`start`] does.
pub async fn start_with_progress(
    config: &Config,
    clock: Clock,
    progress: &StartProgress,
) -> Result<Arc<AppContext>, StartupError> {
    let cluster = &config.realtime.cluster;
    let node = node_name(cluster.node_name.as_deref());
    let database = open_database(&config.database, &format!("parlor/{node}"))?;
    check_database(&database).await?;
    progress.begin("migrating the database");
    let database_lock = match &config.database.engine {
        Engine::Sqlite(file) => ServerLock::take_or_warn(file),
        Engine::Postgres(_) => None,
    };
    let migrated = migrate(&config.database, config.database.migration_mode).await?;
    if !migrated.is_empty() {
        tracing::info!(migrations = ?migrated, "migrated the database");
    }
    let shared_state = SharedState::start(database.clone(), clock.clone())
        .await
        .map_err(|error| StartupError::setting("DATABASE_URL", error))?;
    let epoch = load_epoch(&database).await.map_err(|error| StartupError::setting("DATABASE_URL", error))?;
    let authenticator = Authenticator::new(&config.auth, clock.clone())?;
    progress.begin("reading the token keys");
    authenticator.load_initial_keys().await?;

    let limits = &config.service.limits;
    let (outbox, transport) = cluster.redis.clone().map(RedisTransport::new).unzip();
    let hub = Arc::new(Hub::new(transport.as_ref().map(RedisTransport::interest)));
    let publisher = EventPublisher::new(hub.clone(), outbox.clone());
    let known_users = Arc::<KnownUsers>::default();

    // Components with tasks of their own: see the table above.
    let sessions = Sessions::start(clock.clone());
    let organization_moves = OrganizationMoves::start(database.clone(), &sessions, &known_users)
        .await
        .map_err(|error| StartupError::setting("DATABASE_URL", error))?;
    let gap_repairer = GapRepairer::start(database.clone(), clock.clone(), &hub, outbox.clone());
    let call_presence = Arc::<CallPresence>::default();
    CallRepairer::start(database.clone(), clock.clone(), &hub, call_presence.clone(), outbox.clone());
    let receipts =
        ReceiptCoalescer::start(database.clone(), publisher.clone(), clock.clone(), limits.max_receipt_members);
    let typing = TypingTracker::start(publisher.clone(), clock.clone());
    let presence = PresenceTracker::start(
        node.clone(),
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
    let quotas = Arc::new(Quotas::new(&config.service.quotas));
    let send_queue = SendQueue::start(send_worker, limits.send_queue_capacity, quotas.queued_sends.clone());
    // Other nodes may share the database, with Redis or without it.
    if matches!(config.database.engine, Engine::Postgres(_)) {
        token_revocation::start_polling(database.clone(), clock.clone(), &known_users, &sessions);
    }
    if let Some((transport, outbox)) = transport.zip(outbox) {
        let event_listener = RemoteEvents {
            rate_limits: rate_limits.clone(),
            known_users: known_users.clone(),
            sessions: sessions.clone(),
        };
        let handler = ClusterMessageHandler {
            publisher: publisher.clone(),
            hub: hub.clone(),
            gap_repairer,
            receipts: receipts.clone(),
            typing: typing.clone(),
            presence: presence.clone(),
            presence_announcer: PresenceAnnouncer::start(presence.clone(), outbox),
            node: node.clone(),
            event_listener: Arc::new(event_listener),
            resync_scheduled: Arc::default(),
            running_resyncs: Arc::default(),
        };
        tokio::spawn(transport.run(clock.clone(), shared_state.clone(), handler));
    }
    let catch_ups = config.realtime.max_concurrent_catch_ups;
    let reads = ReadPermits::new(config.database.read_limits());
    let catch_up_limits = CatchUpLimits {
        permits: ReadPermits::new(ReadLimits::new(catch_ups, catch_ups * 3 / 4, catch_ups / 8)),
        reads: reads.clone(),
        max_changes: config.realtime.max_catch_up_changes,
        max_receipt_members: limits.max_receipt_members,
        clock: clock.clone(),
    };
    let app = Arc::new(AppContext {
        settings: config.service.clone(),
        clock,
        database,
        epoch,
        _database_lock: database_lock,
        reads,
        authenticator,
        hub,
        sessions,
        publisher,
        receipts,
        typing,
        presence,
        call_presence,
        rate_limits,
        quotas,
        catch_up_limits,
        send_queue,
        known_users,
        organization_moves,
        shared_state,
        message_html: Arc::default(),
    });
    scheduler::start(&app);
    replica::start_checks(&app);
    search::start_reindexing(&app);
    Ok(app)
}

/// Opens the configured database; a SQLite file is created if it does not exist.
///
/// PostgreSQL lists the connections under the name of the application.
///
/// # Errors
///
/// Fails if the file cannot be created or if the address of the database cannot be used.
pub fn open_database(settings: &DatabaseSettings, application_name: &str) -> Result<Database, StartupError> {
    if let Engine::Sqlite(file) = &settings.engine {
        sqlite_file::create(file).map_err(|error| StartupError::setting("DATABASE_URL", error))?;
    }
    Database::open(settings, application_name).map_err(|error| StartupError::setting("DATABASE_URL", error))
}

/// Checks that the database can be reached, accepts changes and keeps prepared statements.
async fn check_database(database: &Database) -> Result<(), StartupError> {
    let setting_error = |reason: String| StartupError::setting("DATABASE_URL", reason);
    // Boxed, because the compiler cannot tell that these futures are `Send` when they are a part of a larger one.
    database_readiness::require_writable(database).boxed().await.map_err(setting_error)?;
    pooler::require_prepared_statements(database).boxed().await.map_err(setting_error)
}

/// Runs the migrations that a database lacks, as the mode says, and returns their names.
///
/// # Errors
///
/// Fails as [`migrations::run`] does.
pub async fn migrate(settings: &DatabaseSettings, mode: MigrationMode) -> Result<Vec<String>, StartupError> {
    migrations::run(&settings.engine, mode).await.map_err(|error| StartupError::setting("DATABASE_URL", error))
}

/// Checks that the tables of a database can be distributed over the nodes of a Citus cluster.
///
/// # Errors
///
/// Fails as [`distribution::check`] does.
pub async fn check_distribution(settings: &DatabaseSettings) -> Result<(), StartupError> {
    distribution::check(&settings.engine).await.map_err(|error| StartupError::setting("DATABASE_URL", error))
}

/// Distributes the tables of a migrated database over the nodes of a Citus cluster.
///
/// # Errors
///
/// Fails as [`distribution::distribute`] does.
pub async fn distribute(settings: &DatabaseSettings) -> Result<Distribution, StartupError> {
    let distribution = distribution::distribute(&settings.engine, distribution::SHARD_COUNT).await;
    distribution.map_err(|error| StartupError::setting("DATABASE_URL", error))
}

/// Migrates a database to which an older state was restored, and has clients load everything again.
///
/// # Errors
///
/// Fails as [`migrations::run`] does, or if the database cannot be written.
pub async fn record_restore(settings: &DatabaseSettings) -> Result<(), StartupError> {
    let database = open_database(settings, "parlor restored")?;
    migrate(settings, MigrationMode::Auto).await?;
    let renew = async { database_epoch::renew(&mut database.write().await?).await };
    renew.await.map_err(|error: Error| StartupError::setting("DATABASE_URL", error))
}

/// Returns the rows that searches find by an earlier form until a server has written them again.
///
/// # Errors
///
/// Fails if the database cannot be read, such as before its migrations were run.
pub async fn search_backlog(settings: &DatabaseSettings) -> Result<Backlog, StartupError> {
    let database = open_database(settings, "parlor search-backlog")?;
    search::backlog(&database).await.map_err(|error| StartupError::setting("DATABASE_URL", error))
}

async fn load_epoch(database: &Database) -> Result<DatabaseEpoch, Error> {
    database_epoch::load(&mut database.read().await?).await
}

/// Begins to listen, and reports the health of the server while it starts.
pub fn listen(listeners: Listeners, config: &Config, progress: &StartProgress, shutdown: &Shutdown) -> Server {
    Server::start(listeners, &config.http, database_descriptors(&config.database), progress, shutdown)
}

/// Serves all routes from now on, and returns a future that ends when the server has stopped.
pub fn serve(
    server: Server,
    app: Arc<AppContext>,
    config: Config,
    shutdown: Shutdown,
) -> impl Future<Output = ()> + Send + 'static {
    let api = Arc::new(GraphqlService::new(app.clone(), &config.graphql));
    server.serve(HttpState::new(app, api, config.http, shutdown))
}

/// Returns the number of file descriptors that the database may use.
fn database_descriptors(settings: &DatabaseSettings) -> usize {
    match settings.engine {
        Engine::Sqlite(_) => SQLITE_DESCRIPTORS,
        Engine::Postgres(_) => settings.max_connections,
    }
}
