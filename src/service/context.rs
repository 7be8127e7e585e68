//! What a request needs, built once.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::auth::authenticator::Authenticator;
use crate::auth::keys::load_or_create_development_secret;
use crate::config::{Config, RedisConfig};
use crate::domain::chat_events::{Change, ChatEvent, ChatEventKind, LogSlice, NotificationBatch};
use crate::domain::chats::Chat;
use crate::domain::clock::Clock;
use crate::domain::ids::{ChatId, OrganizationId, node_name};
use crate::realtime::call_presence::CallPresence;
use crate::realtime::cluster::gap_repair::GapRepairer;
use crate::realtime::cluster::handler::ClusterMessageHandler;
use crate::realtime::cluster::publisher::EventPublisher;
use crate::realtime::cluster::redis::{ClusterOutbox, RedisSettings, RedisTransport};
use crate::realtime::dispatch::hub::Hub;
use crate::realtime::feeds::chat::CatchUpLimits;
use crate::realtime::presence::tracker::PresenceTracker;
use crate::realtime::receipt_coalescer::ReceiptCoalescer;
use crate::realtime::sessions::Sessions;
use crate::realtime::typing::TypingTracker;
use crate::service::calls::scheduler;
use crate::service::chat_transaction::CommitOutcome;
use crate::service::cluster_events::RemoteEvents;
use crate::service::rate_limits::RateLimits;
use crate::service::send::queue::{SendQueue, SendWorker};
use crate::service::sessions;
use crate::service::users::KnownUsers;
use crate::storage::migrations;
use crate::storage::pool::{Database, Engine};

pub struct AppContext {
    pub config: Config,
    pub clock: Clock,
    pub database: Database,
    pub authenticator: Authenticator,
    pub hub: Arc<Hub>,
    pub sessions: Arc<Sessions>,
    pub publisher: EventPublisher,
    pub receipts: ReceiptCoalescer,
    pub typing: TypingTracker,
    pub presence: PresenceTracker,
    pub call_presence: Arc<CallPresence>,
    pub rate_limits: Arc<RateLimits>,
    pub catch_up_limits: CatchUpLimits,
    pub send_queue: SendQueue,
    pub known_users: Arc<KnownUsers>,
}

impl AppContext {
    /// Opens and migrates the database and reads the keys of tokens. What is wrong is said in words
    /// that name the setting.
    pub async fn start(config: Config, clock: Clock) -> Result<Arc<Self>, String> {
        let store = open_database(&config)?;
        let migrated = migrations::run(&store).await.map_err(|error| format!("DATABASE_URL: {error}"))?;
        if !migrated.is_empty() {
            tracing::info!(migrations = ?migrated, "migrated the database");
        }
        let auth = create_authenticator(&config, clock.clone())?;
        auth.load_initial_keys().await?;
        let hub = Arc::new(Hub::default());
        let sessions = Sessions::start(clock.clone());
        let mender = GapRepairer::start(store.clone(), clock.clone(), &hub);
        let node = node_name(config.redis.node_name.as_deref());
        let (others, redis) = create_redis_transport(&config.redis, &node).unzip();
        let bus = EventPublisher::new(hub.clone(), others);
        let catch_ups = CatchUpLimits {
            permits: Arc::new(Semaphore::new(config.limits.max_concurrent_catch_ups)),
            max_changes: config.limits.max_catch_up_changes,
            max_receipt_members: config.limits.max_receipt_members,
            clock: clock.clone(),
        };
        let receipts =
            ReceiptCoalescer::start(store.clone(), bus.clone(), clock.clone(), config.limits.max_receipt_members);
        let typing = TypingTracker::start(bus.clone(), clock.clone());
        let grace = config.limits.presence_grace_period;
        let presence = PresenceTracker::start(node, store.clone(), bus.clone(), clock.clone(), grace);
        let limits = RateLimits::start(&config.limits, &clock, &bus);
        let writer = SendWorker {
            database: store.clone(),
            publisher: bus.clone(),
            receipts: receipts.clone(),
            typing: typing.clone(),
            rate_limits: limits.clone(),
            clock: clock.clone(),
        };
        let committer = SendQueue::start(writer, config.limits.send_queue_capacity);
        let seen = Arc::new(KnownUsers::default());
        if let Some(redis) = redis {
            sessions::poll_revocations(store.clone(), clock.clone(), &seen, &sessions);
            let above =
                RemoteEvents { rate_limits: limits.clone(), known_users: seen.clone(), sessions: sessions.clone() };
            tokio::spawn(redis.run(ClusterMessageHandler {
                publisher: bus.clone(),
                hub: hub.clone(),
                gap_repairer: mender,
                typing: typing.clone(),
                presence: presence.clone(),
                event_listener: Arc::new(above),
                resync_scheduled: Arc::default(),
            }));
        }
        let app = Arc::new(Self {
            config,
            clock,
            database: store,
            authenticator: auth,
            hub,
            sessions,
            publisher: bus,
            receipts,
            typing,
            presence,
            call_presence: Arc::default(),
            rate_limits: limits,
            catch_up_limits: catch_ups,
            send_queue: committer,
            known_users: seen,
        });
        scheduler::start(&app);
        Ok(app)
    }

    /// Tells of what a committed transaction did in a chat, and gives the chat as it left it.
    pub fn publish_outcome(&self, told: CommitOutcome) -> Chat {
        let CommitOutcome { chat, changes, unversioned: moved, notifications: notified, call_hints: called } = told;
        for change in &changes {
            if let Change::Member(member) = change
                && !member.is_active()
            {
                self.typing.stop_typing(&member.id());
                self.presence.clear_current_chat(&chat.organization, &member.user, chat.id);
            }
        }
        if !changes.is_empty() {
            self.publish(&chat.organization, chat.id, ChatEventKind::LogChanges(LogSlice::from_commit(changes)));
        }
        moved.into_iter().for_each(|(member, shown)| self.receipts.record(member, shown));
        notified.into_iter().for_each(|notified| self.notify(&chat.organization, chat.id, notified));
        if !called.is_empty() {
            self.call_presence.changed.notify_one();
        }
        called
            .into_iter()
            .for_each(|called| self.publish(&chat.organization, chat.id, ChatEventKind::CallChanged(called)));
        chat
    }

    /// Tells that a chat is no more.
    pub fn publish_deleted(&self, chat: Chat) {
        self.typing.clear_chat(chat.id);
        self.publish(&chat.organization, chat.id, ChatEventKind::Deleted);
    }

    /// Tells people of their notifications, of which some are about a chat.
    pub fn notify(&self, organization: &OrganizationId, chat: ChatId, notified: NotificationBatch) {
        self.publish(organization, chat, ChatEventKind::NotificationsChanged(notified));
    }

    fn publish(&self, organization: &OrganizationId, chat: ChatId, what: ChatEventKind) {
        let (organization, at) = (organization.clone(), self.clock.now());
        self.publisher.publish(ChatEvent::new(organization, chat, at, what));
    }
}

/// The way to other nodes, where there is one.
fn create_redis_transport(config: &RedisConfig, node: &str) -> Option<(ClusterOutbox, RedisTransport)> {
    let RedisConfig { addresses, is_cluster: cluster, channel_prefix: prefix, .. } = config.clone();
    let settings = RedisSettings { addresses, is_cluster: cluster, channel_prefix: prefix };
    (!settings.addresses.is_empty()).then(|| RedisTransport::new(settings, node.to_owned()))
}

/// The database of the configuration, its folder made where it is missing.
pub fn open_database(config: &Config) -> Result<Database, String> {
    if let Engine::Sqlite(file) = &config.database.engine
        && let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder).map_err(|error| format!("DATABASE_URL: {}: {error}", folder.display()))?;
    }
    let database = &config.database;
    Database::open(&database.engine, database.max_connections, database.acquire_timeout)
        .map_err(|error| format!("DATABASE_URL: {error}"))
}

/// Who checks tokens; a development server's own secret is made here.
pub fn create_authenticator(config: &Config, clock: Clock) -> Result<Authenticator, String> {
    let development = config.is_development().then(|| load_or_create_development_secret(&config.data_dir)).transpose();
    let development = development.map_err(|error| format!("PARLOR_DATA: {}: {error}", config.data_dir.display()))?;
    Authenticator::new(&config.auth, development, clock)
}
