//! What a request needs, built once.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::auth::authenticator::Authenticator;
use crate::auth::keys::development_secret;
use crate::config::{Config, RedisConfig};
use crate::domain::chat_events::{Change, ChatEvent, Happening, Notified, Stretch};
use crate::domain::chats::Chat;
use crate::domain::clock::Clock;
use crate::domain::ids::{ChatId, OrganizationId, node_name};
use crate::realtime::call_presence::Attendance;
use crate::realtime::cluster::gap_repair::Mender;
use crate::realtime::cluster::handler::Peers;
use crate::realtime::cluster::publisher::Bus;
use crate::realtime::cluster::redis::{Outgoing, Redis, RedisSettings};
use crate::realtime::dispatch::hub::Hub;
use crate::realtime::feeds::chat::CatchUps;
use crate::realtime::presence::tracker::Presence;
use crate::realtime::receipt_coalescer::Receipts;
use crate::realtime::sessions::Sessions;
use crate::realtime::typing::Typing;
use crate::service::calls::scheduler;
use crate::service::chat_transaction::Told;
use crate::service::cluster_events::Elsewhere;
use crate::service::rate_limits::Limits;
use crate::service::send::queue::{Committer, Writer};
use crate::service::sessions;
use crate::service::users::Seen;
use crate::storage::migrations;
use crate::storage::pool::{Engine, Store};

pub struct App {
    pub config: Config,
    pub clock: Clock,
    pub store: Store,
    pub auth: Authenticator,
    pub hub: Arc<Hub>,
    pub sessions: Arc<Sessions>,
    pub bus: Bus,
    pub receipts: Receipts,
    pub typing: Typing,
    pub presence: Presence,
    pub attendance: Arc<Attendance>,
    pub limits: Arc<Limits>,
    pub catch_ups: CatchUps,
    pub committer: Committer,
    pub seen: Arc<Seen>,
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
        let sessions = Sessions::start(clock.clone());
        let mender = Mender::start(store.clone(), clock.clone(), &hub);
        let node = node_name(config.redis.node.as_deref());
        let (others, redis) = redis(&config.redis, &node).unzip();
        let bus = Bus::new(hub.clone(), others);
        let catch_ups = CatchUps {
            permits: Arc::new(Semaphore::new(config.limits.catch_ups)),
            limit: config.limits.catch_up_changes,
            receipt_members: config.limits.receipt_members,
            clock: clock.clone(),
        };
        let receipts = Receipts::start(store.clone(), bus.clone(), clock.clone(), config.limits.receipt_members);
        let typing = Typing::start(bus.clone(), clock.clone());
        let grace = config.limits.presence_grace;
        let presence = Presence::start(node, store.clone(), bus.clone(), clock.clone(), grace);
        let limits = Limits::start(&config.limits, &clock, &bus);
        let writer = Writer {
            store: store.clone(),
            bus: bus.clone(),
            receipts: receipts.clone(),
            typing: typing.clone(),
            limits: limits.clone(),
            clock: clock.clone(),
        };
        let committer = Committer::start(writer, config.limits.send_queue);
        let seen = Arc::new(Seen::default());
        if let Some(redis) = redis {
            sessions::watch(store.clone(), clock.clone(), &seen, &sessions);
            let above = Elsewhere { limits: limits.clone(), seen: seen.clone(), sessions: sessions.clone() };
            tokio::spawn(redis.run(Peers {
                bus: bus.clone(),
                hub: hub.clone(),
                mender,
                typing: typing.clone(),
                presence: presence.clone(),
                above: Arc::new(above),
                comparing: Arc::default(),
            }));
        }
        let app = Arc::new(Self {
            config,
            clock,
            store,
            auth,
            hub,
            sessions,
            bus,
            receipts,
            typing,
            presence,
            attendance: Arc::default(),
            limits,
            catch_ups,
            committer,
            seen,
        });
        scheduler::start(&app);
        Ok(app)
    }

    /// Tells of what a committed transaction did in a chat, and gives the chat as it left it.
    pub fn tell(&self, told: Told) -> Chat {
        let Told { chat, changes, moved, notified, called } = told;
        for change in &changes {
            if let Change::Member(member) = change
                && !member.is_active()
            {
                self.typing.stop(&member.id());
                self.presence.left_chat(&chat.organization, &member.user, chat.id);
            }
        }
        if !changes.is_empty() {
            self.publish(&chat.organization, chat.id, Happening::Changed(Stretch::of_commit(changes)));
        }
        moved.into_iter().for_each(|(member, shown)| self.receipts.note(member, shown));
        notified.into_iter().for_each(|notified| self.notify(&chat.organization, chat.id, notified));
        if !called.is_empty() {
            self.attendance.changed.notify_one();
        }
        called.into_iter().for_each(|called| self.publish(&chat.organization, chat.id, Happening::Called(called)));
        chat
    }

    /// Tells that a chat is no more.
    pub fn tell_deleted(&self, chat: Chat) {
        self.typing.forget(chat.id);
        self.publish(&chat.organization, chat.id, Happening::Deleted);
    }

    /// Tells people of their notifications, of which some are about a chat.
    pub fn notify(&self, organization: &OrganizationId, chat: ChatId, notified: Notified) {
        self.publish(organization, chat, Happening::Notified(notified));
    }

    fn publish(&self, organization: &OrganizationId, chat: ChatId, what: Happening) {
        let (organization, at) = (organization.clone(), self.clock.now());
        self.bus.publish(ChatEvent::new(organization, chat, at, what));
    }
}

/// The way to other nodes, where there is one.
fn redis(config: &RedisConfig, node: &str) -> Option<(Outgoing, Redis)> {
    let RedisConfig { addresses, cluster, prefix, .. } = config.clone();
    let settings = RedisSettings { addresses, cluster, prefix };
    (!settings.addresses.is_empty()).then(|| Redis::new(settings, node.to_owned()))
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
