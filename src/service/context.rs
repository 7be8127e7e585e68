//! The context of every use case.

use std::sync::Arc;

use crate::auth::authenticator::Authenticator;
use crate::domain::chat_events::{Change, ChatEvent, ChatEventKind, LogSlice, NotificationBatch};
use crate::domain::chats::Chat;
use crate::domain::clock::Clock;
use crate::domain::cursors::DatabaseEpoch;
use crate::domain::ids::{ChatId, OrganizationId};
use crate::realtime::call_presence::CallPresence;
use crate::realtime::cluster::publisher::EventPublisher;
use crate::realtime::cluster::shared_state::SharedState;
use crate::realtime::dispatch::hub::Hub;
use crate::realtime::feeds::catch_up::CatchUpLimits;
use crate::realtime::presence::tracker::PresenceTracker;
use crate::realtime::receipt_coalescer::ReceiptCoalescer;
use crate::realtime::sessions::Sessions;
use crate::realtime::typing::TypingTracker;
use crate::service::commit_outcome::CommitOutcome;
use crate::service::known_users::KnownUsers;
use crate::service::message_html::MessageHtml;
use crate::service::organization_moves::states::OrganizationMoves;
use crate::service::quotas::Quotas;
use crate::service::rate_limits::RateLimits;
use crate::service::send::queue::SendQueue;
use crate::service::settings::ServiceSettings;
use crate::storage::pool::Database;
use crate::storage::read_permits::ReadPermits;
use crate::storage::sqlite_file::ServerLock;

/// The components that use cases work with.
///
/// `bootstrap::start` builds one per server. Requests, sockets and feeds share it, and most background tasks end when
/// it is dropped.
pub struct AppContext {
    pub settings: ServiceSettings,
    pub clock: Clock,
    pub database: Database,
    /// The epoch of the database when the server started.
    pub epoch: DatabaseEpoch,
    /// Shows other processes that this one serves the SQLite file.
    pub _database_lock: Option<ServerLock>,
    /// The permits of reads on behalf of clients.
    pub reads: Arc<ReadPermits>,
    /// Verifies tokens.
    pub authenticator: Authenticator,
    /// The subscribers of this node.
    pub hub: Arc<Hub>,
    /// The open connections of this node, with their tokens.
    pub sessions: Arc<Sessions>,
    /// Delivers events to the subscribers of all nodes.
    pub publisher: EventPublisher,
    /// Publishes changes of members that take no version, coalesced.
    pub receipts: ReceiptCoalescer,
    pub typing: TypingTracker,
    pub presence: PresenceTracker,
    /// The call feeds that are open on this node.
    pub call_presence: Arc<CallPresence>,
    pub rate_limits: Arc<RateLimits>,
    pub quotas: Arc<Quotas>,
    /// The limits that all feeds of this node share.
    pub catch_up_limits: CatchUpLimits,
    pub send_queue: SendQueue,
    /// The authenticated users, and the revoked tokens.
    pub known_users: Arc<KnownUsers>,
    /// The organisations that are on their way to another database.
    pub organization_moves: Arc<OrganizationMoves>,
    /// Keeps the clock at the time of the database.
    pub shared_state: Arc<SharedState>,
    /// The rendered texts of messages.
    pub message_html: Arc<MessageHtml>,
}

impl AppContext {
    /// Publishes the outcome of a committed transaction and returns the chat as the transaction left it.
    pub fn publish_outcome(&self, outcome: CommitOutcome) -> Chat {
        let CommitOutcome { chat, changes, unversioned, notifications, call_hints } = outcome;
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
        for (member, change) in unversioned {
            self.receipts.record(member, change);
        }
        for batch in notifications {
            self.publish_notifications(&chat.organization, chat.id, batch);
        }
        if !call_hints.is_empty() {
            // The call scheduler reads from the database when the calls are due next.
            self.call_presence.changed.notify_one();
        }
        for hint in call_hints {
            self.publish(&chat.organization, chat.id, ChatEventKind::CallChanged(hint));
        }
        chat
    }

    /// Publishes that a chat was deleted.
    pub fn publish_deleted(&self, chat: Chat) {
        self.typing.clear_chat(chat.id);
        self.publish(&chat.organization, chat.id, ChatEventKind::Deleted { version: chat.version });
    }

    /// Publishes notifications to their users; `chat` is a chat that some of them are about.
    pub fn publish_notifications(&self, organization: &OrganizationId, chat: ChatId, batch: NotificationBatch) {
        self.publish(organization, chat, ChatEventKind::NotificationsChanged(batch));
    }

    fn publish(&self, organization: &OrganizationId, chat: ChatId, kind: ChatEventKind) {
        self.publisher.publish(ChatEvent::new(organization.clone(), chat, self.clock.now(), kind));
    }
}
