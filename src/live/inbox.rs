//! The new messages of all chats that a person is in, while they come and go.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::feed::CatchUps;
use super::hub::{Delivery, Listener};
use super::log;
use crate::domain::changes::{Change, ChatEvent, Happening};
use crate::domain::ids::{ChatId, MemberId};
use crate::domain::messages::Message;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::storage::{Store, members};

pub struct Inbox {
    store: Store,
    catch_ups: CatchUps,
    viewer: Arc<Viewer>,
    listener: Listener,
    /// How far each chat that the viewer is in was told.
    positions: HashMap<ChatId, i64>,
    ready: VecDeque<Arc<Message>>,
    started: bool,
}

impl Inbox {
    /// The listener follows the viewer already.
    pub fn new(store: Store, catch_ups: CatchUps, viewer: Arc<Viewer>, listener: Listener) -> Self {
        let (positions, ready) = (HashMap::new(), VecDeque::new());
        Self { store, catch_ups, viewer, listener, positions, ready, started: false }
    }

    /// The next new message.
    pub async fn next(&mut self) -> Result<Arc<Message>> {
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
                Delivery::Event(event) => self.hear(&event).await?,
                Delivery::Overflow => self.take_stock(true).await?,
            }
        }
    }

    /// Looks up the chats that the viewer is in. What they had before is known where the inbox
    /// begins, and is read where it missed something.
    async fn take_stock(&mut self, missed: bool) -> Result<()> {
        let viewer = self.viewer.clone();
        let mut conn = self.store.read().await?;
        // Listen first, then read: until a reading finds no chat that wasn't listened to.
        let chats = loop {
            let chats = members::chats_of(&mut conn, viewer.organization(), viewer.id()).await?;
            let fresh = chats.iter().filter(|(chat, _)| self.listener.attach(*chat)).count();
            if fresh == 0 {
                break chats;
            }
        };
        drop(conn);
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
                }
            }
        }
        Ok(())
    }

    async fn hear(&mut self, event: &ChatEvent) -> Result<()> {
        let changes = match &event.what {
            Happening::Changed(changes) => changes,
            Happening::Moved(_) => return Ok(()),
            Happening::Deleted => {
                self.forget(event.chat);
                return Ok(());
            }
        };
        for change in changes {
            let version = change.version();
            let own = match change {
                Change::Member(member) if member.user == *self.viewer.id() => Some(member.is_active()),
                _ => None,
            };
            let Some(position) = self.positions.get(&event.chat).copied() else {
                if own == Some(true) {
                    self.listener.attach(event.chat);
                    self.join(event.chat).await?;
                }
                continue;
            };
            if version <= position {
                continue;
            }
            if own == Some(false) {
                self.forget(event.chat);
                continue;
            }
            if version > position + 1 {
                return self.read(event.chat, position).await;
            }
            self.positions.insert(event.chat, version);
            if let Change::Message(message, _) = change
                && message.id.seq == version
            {
                self.ready.push_back(message.clone());
            }
        }
        Ok(())
    }

    /// Comes into a chat: what was sent since the viewer did is new.
    async fn join(&mut self, chat: ChatId) -> Result<()> {
        let id = MemberId { chat, user: self.viewer.id().clone() };
        let mut conn = self.store.read().await?;
        let member = members::by_ids(&mut conn, &[id]).await?.pop();
        drop(conn);
        match member.filter(|member| member.is_active()) {
            Some(member) => self.read(chat, member.version).await,
            None => Ok(()),
        }
    }

    async fn read(&mut self, chat: ChatId, from: i64) -> Result<()> {
        let mut position = from;
        loop {
            let _permit = self.catch_ups.permit().await?;
            let viewer = self.viewer.clone();
            let mut conn = self.store.read().await?;
            let read = conn.snapshot(async move |conn| log::after(conn, &viewer, chat, position).await).await;
            let stretch = match read {
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
                    self.ready.push_back(message);
                }
            }
            position = stretch.end;
            self.positions.insert(chat, position);
            if stretch.level {
                return Ok(());
            }
        }
    }

    fn forget(&mut self, chat: ChatId) {
        self.positions.remove(&chat);
        self.listener.detach(chat);
    }
}
