//! The new messages of all chats that a person is in, while they come and go.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::domain::chat_events::{Change, ChatEventKind};
use crate::domain::ids::{ChatId, MemberId};
use crate::domain::members::Member;
use crate::domain::messages::Message;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::realtime::dispatch::queue::{Delivery, EventRef, SharedEvent};
use crate::realtime::dispatch::subscriber::Subscriber;
use crate::realtime::feeds::chat::CatchUpLimits;
use crate::realtime::feeds::{change_log, member_chats};
use crate::storage::members;
use crate::storage::pool::Database;
use crate::tasks::spawn_detached;

/// A message that the inbox tells of for the first time.
#[derive(Debug, Clone)]
pub struct NewMessage {
    pub message: Arc<Message>,
    /// None where it was read back.
    pub event_ref: Option<EventRef>,
}

pub struct NewMessageFeed {
    database: Database,
    catch_up_limits: CatchUpLimits,
    viewer: Arc<Viewer>,
    subscriber: Subscriber,
    /// How far each chat that the viewer is in was told.
    positions: HashMap<ChatId, i64>,
    pending: VecDeque<NewMessage>,
    started: bool,
}

impl NewMessageFeed {
    /// The listener follows the viewer already.
    pub fn new(store: Database, catch_ups: CatchUpLimits, viewer: Arc<Viewer>, listener: Subscriber) -> Self {
        let (positions, ready) = (HashMap::new(), VecDeque::new());
        Self {
            database: store,
            catch_up_limits: catch_ups,
            viewer,
            subscriber: listener,
            positions,
            pending: ready,
            started: false,
        }
    }

    /// The next new message.
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
                Delivery::Event(heard) => self.on_delivery(&heard).await?,
                Delivery::Lagged => self.load_member_chats(true).await?,
            }
        }
    }

    /// Looks up the chats that the viewer is in. What they had before is known where the inbox
    /// begins, and is read where it missed something.
    async fn load_member_chats(&mut self, missed: bool) -> Result<()> {
        let chats = member_chats::subscribe_all(&self.database, &self.viewer, &mut self.subscriber).await?;
        let left: Vec<ChatId> =
            self.positions.keys().copied().filter(|known| !chats.iter().any(|(chat, _)| chat == known)).collect();
        for chat in left {
            self.drop_chat(chat);
        }
        for (chat, version) in chats {
            let known = self.positions.get(&chat).copied();
            match known {
                Some(position) if position < version => self.backfill_chat(chat, position).await?,
                Some(_) => {}
                None if missed => self.subscribe_chat(chat).await?,
                None => {
                    self.positions.insert(chat, version);
                    self.subscriber.mark_caught_up(chat, version);
                }
            }
        }
        Ok(())
    }

    async fn on_delivery(&mut self, heard: &Arc<SharedEvent>) -> Result<()> {
        let chat = heard.event.chat;
        let stretch = match &heard.event.kind {
            ChatEventKind::LogChanges(stretch) => stretch,
            ChatEventKind::MembersUpdated(_)
            | ChatEventKind::NotificationsChanged(_)
            | ChatEventKind::CallChanged(_) => return Ok(()),
            ChatEventKind::Deleted => {
                self.drop_chat(chat);
                return Ok(());
            }
        };
        let viewer = self.viewer.clone();
        let own = |change: &Change| match change {
            Change::Member(member) if member.user == *viewer.id() => Some(member.is_active()),
            _ => None,
        };
        let Some(position) = self.positions.get(&chat).copied() else {
            if stretch.changes.iter().any(|change| own(change) == Some(true)) {
                self.subscriber.subscribe_chat(chat);
                self.subscribe_chat(chat).await?;
            }
            return Ok(());
        };
        if stretch.after_version > position {
            return self.backfill_chat(chat, position).await;
        }
        for (place, change) in stretch.changes.iter().enumerate() {
            if change.version() <= position {
                continue;
            }
            if own(change) == Some(false) {
                self.drop_chat(chat);
                return Ok(());
            }
            if let Change::Message(message, _) = change
                && message.id.seq > position
                && message.deleted_at.is_none()
            {
                self.pending
                    .push_back(NewMessage { message: message.clone(), event_ref: Some(EventRef::new(heard, place)) });
            }
        }
        self.positions.insert(chat, stretch.to_version.max(position));
        Ok(())
    }

    /// Comes into a chat: what was sent since the viewer did is new.
    async fn subscribe_chat(&mut self, chat: ChatId) -> Result<()> {
        let id = MemberId { chat, user: self.viewer.id().clone() };
        let store = self.database.clone();
        let reading = async move { members::by_ids(&mut store.read().await?, &[id]).await };
        let member = spawn_detached(reading).await?.pop();
        if let Some(member) = member.filter(Member::is_active) {
            self.backfill_chat(chat, member.version).await?;
            if let Some(position) = self.positions.get(&chat) {
                self.subscriber.mark_caught_up(chat, *position);
            }
        }
        Ok(())
    }

    async fn backfill_chat(&mut self, chat: ChatId, from: i64) -> Result<()> {
        let mut position = from;
        loop {
            let (store, catch_ups, viewer) = (self.database.clone(), self.catch_up_limits.clone(), self.viewer.clone());
            let reading = async move {
                let _permit = catch_ups.acquire_permit().await?;
                let mut conn = store.read().await?;
                conn.snapshot(async move |conn| {
                    let standing = change_log::require_member(conn, &viewer, chat).await?;
                    change_log::read_changes(conn, standing.chat, position).await
                })
                .await
            };
            let change_log::ChangePage { slice: stretch, is_last: level, .. } = match spawn_detached(reading).await {
                Err(Error::Forbidden(_)) => {
                    self.drop_chat(chat);
                    return Ok(());
                }
                read => read?,
            };
            for change in stretch.changes {
                if let Change::Message(message, _) = change
                    && message.id.seq > from
                    && message.deleted_at.is_none()
                {
                    self.pending.push_back(NewMessage { message, event_ref: None });
                }
            }
            position = stretch.to_version;
            self.positions.insert(chat, position);
            if level {
                return Ok(());
            }
        }
    }

    fn drop_chat(&mut self, chat: ChatId) {
        self.positions.remove(&chat);
        self.subscriber.unsubscribe_chat(chat);
    }
}
