//! The new messages of all chats that a person is in, while they come and go.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::domain::chat_events::{Change, Happening};
use crate::domain::ids::{ChatId, MemberId};
use crate::domain::members::Member;
use crate::domain::messages::Message;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::realtime::dispatch::queue::{Delivery, Heard, Origin};
use crate::realtime::dispatch::subscriber::Listener;
use crate::realtime::feeds::chat::CatchUps;
use crate::realtime::feeds::{change_log, member_chats};
use crate::storage::members;
use crate::storage::pool::Store;
use crate::tasks::aside;

/// A message that the inbox tells of for the first time.
#[derive(Debug, Clone)]
pub struct NewMessage {
    pub message: Arc<Message>,
    /// None where it was read back.
    pub origin: Option<Origin>,
}

pub struct Inbox {
    store: Store,
    catch_ups: CatchUps,
    viewer: Arc<Viewer>,
    listener: Listener,
    /// How far each chat that the viewer is in was told.
    positions: HashMap<ChatId, i64>,
    ready: VecDeque<NewMessage>,
    started: bool,
}

impl Inbox {
    /// The listener follows the viewer already.
    pub fn new(store: Store, catch_ups: CatchUps, viewer: Arc<Viewer>, listener: Listener) -> Self {
        let (positions, ready) = (HashMap::new(), VecDeque::new());
        Self { store, catch_ups, viewer, listener, positions, ready, started: false }
    }

    /// The next new message.
    pub async fn next(&mut self) -> Result<NewMessage> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(message);
            }
            if !self.started {
                self.take_stock(false).await?;
                self.started = true;
                continue;
            }
            match self.listener.next().await {
                Delivery::Event(heard) => self.hear(&heard).await?,
                Delivery::Overflow => self.take_stock(true).await?,
            }
        }
    }

    /// Looks up the chats that the viewer is in. What they had before is known where the inbox
    /// begins, and is read where it missed something.
    async fn take_stock(&mut self, missed: bool) -> Result<()> {
        let chats = member_chats::take(&self.store, &self.viewer, &mut self.listener).await?;
        let left: Vec<ChatId> =
            self.positions.keys().copied().filter(|known| !chats.iter().any(|(chat, _)| chat == known)).collect();
        for chat in left {
            self.forget(chat);
        }
        for (chat, version) in chats {
            let known = self.positions.get(&chat).copied();
            match known {
                Some(position) if position < version => self.read(chat, position).await?,
                Some(_) => {}
                None if missed => self.join(chat).await?,
                None => {
                    self.positions.insert(chat, version);
                    self.listener.is_level(chat, version);
                }
            }
        }
        Ok(())
    }

    async fn hear(&mut self, heard: &Arc<Heard>) -> Result<()> {
        let chat = heard.event.chat;
        let stretch = match &heard.event.what {
            Happening::Changed(stretch) => stretch,
            Happening::Moved(_) | Happening::Notified(_) | Happening::Called(_) => return Ok(()),
            Happening::Deleted => {
                self.forget(chat);
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
                self.listener.attach(chat);
                self.join(chat).await?;
            }
            return Ok(());
        };
        if stretch.after > position {
            return self.read(chat, position).await;
        }
        for (place, change) in stretch.changes.iter().enumerate() {
            if change.version() <= position {
                continue;
            }
            if own(change) == Some(false) {
                self.forget(chat);
                return Ok(());
            }
            if let Change::Message(message, _) = change
                && message.id.seq > position
                && message.deleted_at.is_none()
            {
                self.ready.push_back(NewMessage { message: message.clone(), origin: Some(Origin::new(heard, place)) });
            }
        }
        self.positions.insert(chat, stretch.end.max(position));
        Ok(())
    }

    /// Comes into a chat: what was sent since the viewer did is new.
    async fn join(&mut self, chat: ChatId) -> Result<()> {
        let id = MemberId { chat, user: self.viewer.id().clone() };
        let store = self.store.clone();
        let reading = async move { members::by_ids(&mut store.read().await?, &[id]).await };
        let member = aside(reading).await?.pop();
        if let Some(member) = member.filter(Member::is_active) {
            self.read(chat, member.version).await?;
            if let Some(position) = self.positions.get(&chat) {
                self.listener.is_level(chat, *position);
            }
        }
        Ok(())
    }

    async fn read(&mut self, chat: ChatId, from: i64) -> Result<()> {
        let mut position = from;
        loop {
            let (store, catch_ups, viewer) = (self.store.clone(), self.catch_ups.clone(), self.viewer.clone());
            let reading = async move {
                let _permit = catch_ups.permit().await?;
                let mut conn = store.read().await?;
                conn.snapshot(async move |conn| {
                    let standing = change_log::authorised(conn, &viewer, chat).await?;
                    change_log::read(conn, standing.chat, position).await
                })
                .await
            };
            let change_log::Read { stretch, level, .. } = match aside(reading).await {
                Err(Error::Forbidden(_)) => {
                    self.forget(chat);
                    return Ok(());
                }
                read => read?,
            };
            for change in stretch.changes {
                if let Change::Message(message, _) = change
                    && message.id.seq > from
                    && message.deleted_at.is_none()
                {
                    self.ready.push_back(NewMessage { message, origin: None });
                }
            }
            position = stretch.end;
            self.positions.insert(chat, position);
            if level {
                return Ok(());
            }
        }
    }

    fn forget(&mut self, chat: ChatId) {
        self.positions.remove(&chat);
        self.listener.detach(chat);
    }
}
