//! Sends are committed in groups.
//!
//! All sends go through one queue to one task, which takes whatever waits and writes it in one
//! transaction of a few many-row statements: under no load a group is one message, and nobody waits
//! on purpose. Each send is answered after its commit, and goes on if its client has gone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::domain::changes::{Change, ChatEvent, MessageChange};
use crate::domain::chats::{Chat, ChatAction};
use crate::domain::clock::Clock;
use crate::domain::ids::{ChatId, MemberId, MessageId, Nonce, UserId};
use crate::domain::members::Member;
use crate::domain::messages::{Message, MessageDraft, MessageKind};
use crate::domain::rights::Rights;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::live::Bus;
use crate::storage::conn::CommitBroke;
use crate::storage::{Conn, Store, chats, members, messages};

/// Most sends of one transaction.
const GROUP: usize = 256;

/// A send that was committed.
#[derive(Debug, Clone)]
pub struct Sent {
    pub message: Arc<Message>,
    /// This nonce was sent before, and the message is the one made then.
    pub replayed: bool,
}

struct Pending {
    viewer: Arc<Viewer>,
    draft: MessageDraft,
    answer: oneshot::Sender<Result<Sent>>,
}

pub struct Committer {
    queue: mpsc::Sender<Pending>,
}

impl Committer {
    /// Starts the task. It ends when the last sender has gone and the queue is empty.
    pub fn start(store: Store, bus: Bus, clock: Clock, queue: usize) -> Self {
        let (sender, mut waiting) = mpsc::channel(queue);
        tokio::spawn(async move {
            let writer = Writer { store, bus, clock };
            let mut group = Vec::with_capacity(GROUP);
            while waiting.recv_many(&mut group, GROUP).await > 0 {
                writer.answer(std::mem::take(&mut group)).await;
            }
        });
        Self { queue: sender }
    }

    /// Sends a message. A full queue refuses at once: waiting there would only make it longer.
    pub async fn send(&self, viewer: Arc<Viewer>, draft: MessageDraft) -> Result<Sent> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Pending { viewer, draft, answer }).map_err(|error| match error {
            TrySendError::Full(_) => {
                Error::Unavailable { message: "too many sends are waiting", retry_after: Duration::from_millis(250) }
            }
            TrySendError::Closed(_) => Error::unavailable("the server is stopping"),
        })?;
        answered.await.map_err(|_| Error::unavailable("the server is stopping"))?
    }
}

struct Writer {
    store: Store,
    bus: Bus,
    clock: Clock,
}

impl Writer {
    async fn answer(&self, group: Vec<Pending>) {
        let sends: Vec<_> = group.iter().map(|pending| (pending.viewer.clone(), pending.draft.clone())).collect();
        let results = match self.commit(&sends).await {
            Ok(results) => results,
            Err(error) if sends.len() == 1 => vec![Err(error)],
            Err(error @ Error::Unavailable { .. }) => vec![Err(error); sends.len()],
            Err(Error::Internal(cause)) if cause.is::<CommitBroke>() => vec![Err(Error::Internal(cause)); sends.len()],
            Err(error) => {
                tracing::warn!(%error, sends = sends.len(), "a group of sends failed; sending one by one");
                self.one_by_one(&sends).await
            }
        };
        for (pending, result) in group.into_iter().zip(results) {
            // A client that has gone needs no answer.
            drop(pending.answer.send(result));
        }
    }

    /// Commits each send alone: a bad one must not fail those beside it. Where the database has gone,
    /// the rest need not find out one by one.
    async fn one_by_one(&self, sends: &[(Arc<Viewer>, MessageDraft)]) -> Vec<Result<Sent>> {
        let mut results: Vec<Result<Sent>> = Vec::with_capacity(sends.len());
        for send in sends {
            let result = match results.last() {
                Some(Err(gone @ Error::Unavailable { .. })) => Err(gone.clone()),
                _ => {
                    let alone = self.commit(std::slice::from_ref(send)).await;
                    alone.and_then(|mut results| results.pop().ok_or_else(unanswered)?)
                }
            };
            results.push(result);
        }
        results
    }

    /// Commits a group and tells of it: a result for each send, or an error for all.
    async fn commit(&self, sends: &[(Arc<Viewer>, MessageDraft)]) -> Result<Vec<Result<Sent>>> {
        let mut conn = self.store.write().await?;
        let (results, events) = conn
            .transaction(async |conn| {
                let mut group = Group::load(conn, sends, &self.clock).await?;
                let results = sends.iter().map(|(viewer, draft)| group.send(viewer, draft)).collect();
                Ok((results, group.write(conn).await?))
            })
            .await?;
        for event in events {
            self.bus.publish(event);
        }
        Ok(results)
    }
}

fn unanswered() -> Error {
    Error::internal("a send was left without a result")
}

/// What a group of sends is decided from, read under the locks of its chats, and what it makes.
struct Group {
    now: chrono::DateTime<chrono::Utc>,
    chats: HashMap<ChatId, Chat>,
    members: HashMap<MemberId, Member>,
    /// By chat, sender and nonce: those of the database, then those of this group too.
    sent: HashMap<(ChatId, UserId, Nonce), Arc<Message>>,
    targets: HashSet<MessageId>,
    new: Vec<Arc<Message>>,
}

impl Group {
    async fn load(conn: &mut Conn, sends: &[(Arc<Viewer>, MessageDraft)], clock: &Clock) -> Result<Self> {
        let ids: HashSet<ChatId> = sends.iter().map(|(_, draft)| draft.chat).collect();
        let locked = chats::lock(conn, &ids.into_iter().collect::<Vec<_>>()).await?;
        let senders: HashSet<MemberId> =
            sends.iter().map(|(viewer, draft)| MemberId { chat: draft.chat, user: viewer.id().clone() }).collect();
        let senders = members::by_ids(conn, &senders.into_iter().collect::<Vec<_>>()).await?;
        let nonces: Vec<(ChatId, Nonce)> =
            sends.iter().filter_map(|(_, draft)| Some((draft.chat, draft.nonce.clone()?))).collect();
        let sent = if nonces.is_empty() { Vec::new() } else { messages::by_nonces(conn, &nonces).await? };
        let targets: HashSet<MessageId> = sends
            .iter()
            .filter_map(|(_, draft)| Some(MessageId { chat: draft.chat, seq: draft.reply_to_seq? }))
            .collect();
        let targets = match targets.is_empty() {
            true => Vec::new(),
            false => messages::by_ids(conn, &targets.into_iter().collect::<Vec<_>>()).await?,
        };
        Ok(Self {
            now: clock.now(),
            chats: locked.into_iter().map(|chat| (chat.id, chat)).collect(),
            members: senders.into_iter().map(|member| (member.id(), member)).collect(),
            sent: sent
                .into_iter()
                .filter_map(|message| {
                    let key = (message.id.chat, message.sender.clone()?, message.nonce.clone()?);
                    Some((key, Arc::new(message)))
                })
                .collect(),
            targets: targets.into_iter().filter(|target| target.deleted_at.is_none()).map(|target| target.id).collect(),
            new: Vec::new(),
        })
    }

    /// Decides one send, after those before it in the group.
    fn send(&mut self, viewer: &Viewer, draft: &MessageDraft) -> Result<Sent> {
        let id = MemberId { chat: draft.chat, user: viewer.id().clone() };
        let chat = self.chats.get_mut(&draft.chat).filter(|chat| chat.organization == *viewer.organization());
        let chat = chat.ok_or(Error::NotFound("chat"))?;
        let member = self.members.get_mut(&id);
        let rights = Rights {
            permissions: &viewer.permissions,
            chat,
            member: member.as_deref().filter(|member| member.is_active()),
            now: self.now,
        };
        if !rights.can_see() {
            return Err(Error::NotFound("chat"));
        }
        let key = draft.nonce.clone().map(|nonce| (draft.chat, viewer.id().clone(), nonce));
        if let Some(message) = key.as_ref().and_then(|key| self.sent.get(key)) {
            // What was sent is given back before any check that may fail by now, to who may read it.
            rights.membership()?;
            return match message.fingerprint == Some(draft.fingerprint()) {
                true => Ok(Sent { message: message.clone(), replayed: true }),
                false => Err(Error::Conflict("this nonce was sent before with other content".into())),
            };
        }
        rights.can(ChatAction::Post)?;
        if let Some(seq) = draft.reply_to_seq
            && !self.targets.contains(&MessageId { chat: draft.chat, seq })
        {
            return Err(Error::NotFound("message"));
        }
        chat.version += 1;
        chat.last_seq = chat.version;
        let message = Arc::new(Message {
            id: MessageId { chat: chat.id, seq: chat.version },
            version: chat.version,
            kind: MessageKind::Text,
            sender: Some(viewer.id().clone()),
            nonce: draft.nonce.clone(),
            text: Some(draft.text.clone()),
            reply_to_seq: draft.reply_to_seq,
            created_at: self.now,
            edited_at: None,
            deleted_at: None,
            fingerprint: draft.nonce.is_some().then(|| draft.fingerprint()),
        });
        if let Some(member) = member {
            member.last_posted_at = Some(self.now);
        }
        if let Some(key) = key {
            self.sent.insert(key, message.clone());
        }
        self.new.push(message.clone());
        Ok(Sent { message, replayed: false })
    }

    /// Writes what the group made, and says what to tell of it, a chat at a time.
    async fn write(self, conn: &mut Conn) -> Result<Vec<ChatEvent>> {
        if self.new.is_empty() {
            return Ok(Vec::new());
        }
        let mut events: HashMap<ChatId, Vec<Change>> = HashMap::new();
        let mut posts: HashMap<MemberId, i64> = HashMap::new();
        for message in &self.new {
            let chat = message.id.chat;
            events.entry(chat).or_default().push(Change::Message(message.clone(), MessageChange::Added));
            if let Some(user) = message.sender.clone() {
                posts.insert(MemberId { chat, user }, message.id.seq);
            }
        }
        let grown = events.keys().filter_map(|id| self.chats.get(id)).map(|chat| (chat.id, chat.last_seq, self.now));
        messages::append(conn, &self.new, grown).await?;
        members::posted(conn, posts.into_iter().map(|(member, seq)| (member, seq, self.now))).await?;
        let organization = |chat: &ChatId| self.chats.get(chat).map(|chat| chat.organization.clone());
        let events = events
            .into_iter()
            .filter_map(|(chat, changes)| Some(ChatEvent { organization: organization(&chat)?, chat, changes }));
        Ok(events.collect())
    }
}
