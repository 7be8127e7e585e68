//! One execution for all who asked the same.
//!
//! A subscription is attached by a run of its own, in which the resolver authorises and opens the
//! [`Source`] that it listens to. Each event of the source is then a short run, in which the resolver
//! is given the event. Subscribers of the same [`Operation`] share that run and its bytes, through the
//! [`Memo`](crate::live::memo::Memo) that the event carries: the first makes it, the others take it.
//!
//! What makes it safe is absence: a shared run has no viewer. Whatever asks for one taints the run, its
//! result is thrown away, and each subscriber runs the event by itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use async_graphql::parser::types::ExecutableDocument;
use async_graphql::{Request, Variables};
use futures_util::stream::{self, BoxStream, StreamExt};

use super::context::Everyone;
use crate::domain::changes::Change;
use crate::domain::ids::{ChatId, OrganizationId};
use crate::error::Result;
use crate::live::inbox::NewMessage;
use crate::live::memo::{Memo, Told};
use crate::live::{ChatFeed, FeedEvent, InboxEvent, PresenceNow, TypingNow};

/// What a subscription listens to.
pub enum Source {
    Chat(Box<ChatFeed>),
    /// The new messages of one chat.
    Messages(Box<ChatFeed>),
    Other(BoxStream<'static, Result<Event>>),
}

/// What a source tells of.
#[derive(Debug, Clone)]
pub enum Event {
    Chat(FeedEvent),
    Message(NewMessage),
    /// Of one person alone.
    Inbox(InboxEvent),
    Typing(Arc<Told<TypingNow>>),
    Presence(Arc<Told<PresenceNow>>),
}

impl Source {
    /// The next event; an error is the last.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event>>> {
        match self {
            Self::Chat(feed) => feed.poll_next(cx).map(|event| event.map(|event| event.map(Event::Chat))),
            Self::Messages(feed) => loop {
                match ready!(feed.poll_next(cx)) {
                    Some(Ok(FeedEvent::Change {
                        change: Change::Message(message, _),
                        first_told: true,
                        origin,
                        ..
                    })) if message.deleted_at.is_none() => {
                        return Poll::Ready(Some(Ok(Event::Message(NewMessage { message, origin }))));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    None => return Poll::Ready(None),
                }
            },
            Self::Other(events) => events.poll_next_unpin(cx),
        }
    }
}

impl Event {
    /// What was made of it, and from which position it looks so, where more than one listens.
    pub fn memo(&self) -> Option<(&Memo, i64)> {
        match self {
            Self::Chat(event) => event.memo(),
            Self::Message(NewMessage { message, origin }) => Some((origin.as_ref()?.memo()?, message.version)),
            Self::Inbox(_) => None,
            Self::Typing(told) => Some((&told.memo, 0)),
            Self::Presence(told) => Some((&told.memo, 0)),
        }
    }

    /// Those who may see it alike.
    pub fn everyone(&self, organization: &OrganizationId) -> Everyone {
        let chat: Option<ChatId> = match self {
            Self::Chat(event) => Some(event.chat()),
            Self::Message(message) => Some(message.message.id.chat),
            Self::Typing(told) => Some(told.event.chat),
            Self::Inbox(_) | Self::Presence(_) => None,
        };
        Everyone::new(organization.clone(), chat)
    }
}

/// What a run of a subscription's resolver is for.
pub enum Phase {
    /// To authorise, and to put what it listens to here.
    Attach(Mutex<Option<Source>>),
    /// To tell of this event.
    Tell(Mutex<Option<Result<Event>>>),
}

impl Phase {
    pub fn attach() -> Arc<Self> {
        Arc::new(Self::Attach(Mutex::new(None)))
    }

    pub fn tell(event: Result<Event>) -> Arc<Self> {
        Arc::new(Self::Tell(Mutex::new(Some(event))))
    }

    /// What was opened.
    pub fn source(&self) -> Option<Source> {
        match self {
            Self::Attach(slot) => lock(slot).take(),
            Self::Tell(_) => None,
        }
    }
}

/// The one event, or none.
pub type Given<T> = stream::Iter<std::option::IntoIter<Result<T>>>;

/// What a subscription's resolver gives: nothing yet where it attaches, or the one event.
pub async fn events<T>(
    ctx: &async_graphql::Context<'_>,
    open: impl AsyncFnOnce() -> Result<Source>,
    of: impl FnOnce(Event) -> Option<T>,
) -> Result<Given<T>> {
    let told = match &**ctx.data_unchecked::<Arc<Phase>>() {
        Phase::Attach(slot) => {
            let source = open().await?;
            *lock(slot) = Some(source);
            None
        }
        Phase::Tell(event) => lock(event).take().and_then(|event| event.map(of).transpose()),
    };
    Ok(stream::iter(told))
}

/// What subscribers ask who ask the same.
pub struct Operation {
    pub id: u64,
    key: Key,
    operations: Weak<Mutex<HashMap<Key, Weak<Operation>>>>,
    document: ExecutableDocument,
    variables: Variables,
}

/// By what it is the same: the text as it was sent, which of its operations is meant, and all variables
/// that an event can depend on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    pub query: Arc<str>,
    pub name: Option<String>,
    pub variables: String,
}

/// The operations that are subscribed to now.
#[derive(Default)]
pub struct Operations {
    index: Arc<Mutex<HashMap<Key, Weak<Operation>>>>,
    next_id: AtomicU64,
}

impl Operations {
    /// The operation that others subscribed to already, or this one.
    pub fn join(&self, key: Key, document: ExecutableDocument, variables: Variables) -> Arc<Operation> {
        let mut index = lock(&self.index);
        if let Some(operation) = index.get(&key).and_then(Weak::upgrade) {
            return operation;
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let operations = Arc::downgrade(&self.index);
        let operation = Arc::new(Operation { id, key: key.clone(), operations, document, variables });
        index.insert(key, Arc::downgrade(&operation));
        operation
    }
}

impl Operation {
    /// Whether more than one is subscribed.
    pub fn is_shared(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
    }

    pub fn request(&self) -> Request {
        let mut request = Request::new(String::new()).variables(self.variables.clone());
        request.operation_name.clone_from(&self.key.name);
        request.set_parsed_query(self.document.clone());
        request
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        let Some(operations) = self.operations.upgrade() else { return };
        let mut index = lock(&operations);
        // Another may have taken the place since the last subscriber went.
        if index.get(&self.key).is_some_and(|known| known.strong_count() == 0) {
            index.remove(&self.key);
        }
    }
}

/// Nothing under these locks can leave them half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
