//! The feed of new messages in all chats of a user, including chats that they join meanwhile.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::access::MemberAccess;
use crate::domain::chat_events::{Change, ChatEventKind};
use crate::domain::ids::{ChatId, MemberId};
use crate::domain::member_queries::UserChat;
use crate::domain::members::Member;
use crate::domain::messages::Message;
use crate::error::{Error, Result};
use crate::realtime::dispatch::queue::Delivery;
use crate::realtime::dispatch::shared_event::{EventRef, SharedEvent};
use crate::realtime::dispatch::subscriber::Subscriber;
use crate::realtime::feeds::catch_up::FeedDeps;
use crate::realtime::feeds::change_log::ChangePage;
use crate::realtime::feeds::{change_log, member_chats};
use crate::storage::members;
use crate::tasks::spawn_detached;

/// A message that the feed has not delivered before.
#[derive(Debug, Clone)]
pub struct NewMessage {
    pub message: Arc<Message>,
    /// The event that the message is from; `None` if it was read from the database.
    pub event_ref: Option<EventRef>,
}

/// The feed of new messages of one user.
pub struct NewMessageFeed {
    deps: FeedDeps,
    subscriber: Subscriber,
    /// The version up to which each chat of the user is delivered.
    positions: HashMap<ChatId, i64>,
    /// The chats with a history that the user may not read as a whole.
    ///
    /// Their messages are rendered for the user alone: what is rendered for all members may show earlier messages.
    with_hidden_history: HashSet<ChatId>,
    pending: VecDeque<NewMessage>,
    started: bool,
}

impl NewMessageFeed {
    /// Creates the feed of a viewer who may view chats. The subscriber must follow the viewer already.
    pub fn new(deps: FeedDeps, subscriber: Subscriber) -> Self {
        Self {
            deps,
            subscriber,
            positions: HashMap::new(),
            with_hidden_history: HashSet::new(),
            pending: VecDeque::new(),
            started: false,
        }
    }

    /// Returns the next new message.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    ///
    /// # Cancel safety
    ///
    /// Not cancel-safe: a dropped call may lose messages.
    pub async fn recv(&mut self) -> Result<NewMessage> {
        loop {
            if let Some(message) = self.pending.pop_front() {
                return Ok(message);
            }
            if !self.started {
                self.load_member_chats(false).await?;
                self.started = true;
                continue;
            }
            match self.subscriber.recv().await {
                Delivery::Event(shared) => self.on_delivery(&shared).await?,
                Delivery::Lagged => self.load_member_chats(true).await?,
            }
        }
    }

    /// Reads the chats in which the user is a member.
    ///
    /// Messages from before the feed started are not new. After the feed lagged, the messages that it missed are read.
    async fn load_member_chats(&mut self, lagged: bool) -> Result<()> {
        let chats = member_chats::subscribe_all(&self.deps, &mut self.subscriber).await?;
        let left: Vec<ChatId> =
            self.positions.keys().copied().filter(|known| !chats.iter().any(|found| found.chat == *known)).collect();
        for chat in left {
            self.drop_chat(chat);
        }
        for UserChat { chat, version, history_after_seq } in chats {
            self.set_history(chat, history_after_seq);
            match self.positions.get(&chat).copied() {
                Some(position) if position < version => self.backfill_chat(chat, position).await?,
                Some(_) => {}
                None if lagged => self.add_chat(chat).await?,
                None => {
                    self.positions.insert(chat, version);
                    self.subscriber.mark_caught_up(chat, version);
                }
            }
        }
        Ok(())
    }

    async fn on_delivery(&mut self, shared: &Arc<SharedEvent>) -> Result<()> {
        let chat = shared.event.chat;
        let slice = match &shared.event.kind {
            ChatEventKind::LogChanges(slice) => slice,
            ChatEventKind::MembersUpdated(_)
            | ChatEventKind::NotificationsChanged(_)
            | ChatEventKind::CallChanged(_) => return Ok(()),
            ChatEventKind::Deleted { version } => {
                // A chat that was made again has greater versions.
                if self.positions.get(&chat).is_none_or(|position| position <= version) {
                    self.drop_chat(chat);
                }
                return Ok(());
            }
        };
        let viewer = self.deps.viewer.clone();
        let own_membership = |change: &Change| match change {
            Change::Member(member) if member.user == *viewer.id() => Some(member.is_active()),
            _ => None,
        };
        let Some(position) = self.positions.get(&chat).copied() else {
            if slice.changes.iter().any(|change| own_membership(change) == Some(true)) {
                self.subscriber.subscribe_chat(chat);
                self.subscriber.wait_until_active().await;
                self.add_chat(chat).await?;
            }
            return Ok(());
        };
        if slice.after_version > position {
            return self.backfill_chat(chat, position).await;
        }
        for (index, change) in slice.changes.iter().enumerate() {
            if change.version() <= position {
                continue;
            }
            if own_membership(change) == Some(false) {
                self.drop_chat(chat);
                return Ok(());
            }
            if let Change::Member(member) = change
                && member.user == *viewer.id()
            {
                self.set_history(chat, member.history_after_seq);
            }
            if let Some(message) = new_message(change, position) {
                let is_shared = !self.with_hidden_history.contains(&chat);
                let event_ref = is_shared.then(|| EventRef::new(shared, index));
                self.pending.push_back(NewMessage { message, event_ref });
            }
        }
        self.positions.insert(chat, slice.to_version.max(position));
        Ok(())
    }

    /// Adds a chat that the user joined: the messages since then are new.
    async fn add_chat(&mut self, chat: ChatId) -> Result<()> {
        let id = MemberId { chat, user: self.deps.viewer.id().clone() };
        let FeedDeps { database, limits, viewer, .. } = self.deps.clone();
        let read = async move {
            let (_permit, mut conn) = limits.read(&database, &viewer).await?;
            members::by_ids(&mut conn, &[id]).await
        };
        let member = spawn_detached(read).await?.pop();
        if let Some(member) = member.filter(Member::is_active) {
            self.set_history(chat, member.history_after_seq);
            self.backfill_chat(chat, member.version).await?;
            if let Some(position) = self.positions.get(&chat) {
                self.subscriber.mark_caught_up(chat, *position);
            }
        }
        Ok(())
    }

    /// Reads the messages of a chat after a version, or drops the chat if the user is no longer a member.
    async fn backfill_chat(&mut self, chat: ChatId, from_version: i64) -> Result<()> {
        let mut position = from_version;
        loop {
            let (ChangePage { slice, is_last, .. }, membership) =
                match spawn_detached(load_changes(self.deps.clone(), chat, position)).await {
                    Err(Error::Forbidden(_)) => {
                        self.drop_chat(chat);
                        return Ok(());
                    }
                    page => page?,
                };
            self.set_history(chat, membership.history_after_seq);
            let messages = slice.changes.iter().filter_map(|change| new_message(change, from_version));
            let messages = messages.filter(|message| membership.may_read(message.id.seq));
            self.pending.extend(messages.map(|message| NewMessage { message, event_ref: None }));
            position = slice.to_version;
            self.positions.insert(chat, position);
            if is_last {
                return Ok(());
            }
        }
    }

    fn set_history(&mut self, chat: ChatId, history_after_seq: i64) {
        if history_after_seq > 0 {
            self.with_hidden_history.insert(chat);
        } else {
            self.with_hidden_history.remove(&chat);
        }
    }

    fn drop_chat(&mut self, chat: ChatId) {
        self.with_hidden_history.remove(&chat);
        self.positions.remove(&chat);
        self.subscriber.unsubscribe_chat(chat);
    }
}

/// Returns the message of a change if it was sent after `version` and is not deleted.
fn new_message(change: &Change, version: i64) -> Option<Arc<Message>> {
    match change {
        Change::Message(message, _) if message.id.seq > version && message.deleted_at.is_none() => {
            Some(message.clone())
        }
        _ => None,
    }
}

async fn load_changes(deps: FeedDeps, chat: ChatId, after_version: i64) -> Result<(ChangePage, Member)> {
    let FeedDeps { database, limits, viewer, .. } = deps;
    let (_permit, mut conn) = limits.read(&database, &viewer).await?;
    conn.snapshot(async move |conn| {
        let access = MemberAccess::require(conn, &viewer, chat).await?;
        let page = change_log::read_changes(conn, access.chat, after_version).await?;
        Ok((page, access.membership))
    })
    .await
}
