//! What subscriptions listen to, and how a resolver is given what is told.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use futures_util::stream::{self, BoxStream, StreamExt};

use crate::domain::chat_events::Change;
use crate::domain::ids::{ChatId, OrganizationId};
use crate::domain::users::User;
use crate::error::Result;
use crate::graphql::api::Api;
use crate::graphql::schema::context::Everyone;
use crate::graphql::subscriptions::shared_operation::Operation;
use crate::lock::lock;
use crate::realtime::dispatch::fast_path::Outlet;
use crate::realtime::dispatch::render_cache::{Memo, Told};
use crate::realtime::feeds::call::CallEvent;
use crate::realtime::feeds::chat::{ChatFeed, FeedEvent};
use crate::realtime::feeds::inbox::InboxEvent;
use crate::realtime::feeds::new_messages::NewMessage;
use crate::realtime::presence::tracker::PresenceNow;
use crate::realtime::typing::TypingNow;

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
    Inbox(Box<InboxEvent>),
    /// Of one participant alone.
    Call(Box<CallEvent>),
    Typing(Arc<Told<TypingNow>>),
    Presence(Arc<Told<PresenceNow>>),
}

impl Source {
    /// Shares what it tells with all who asked the same.
    pub fn share(&mut self, api: &Arc<Api>, operation: &Arc<Operation>) {
        let (feed, of): (_, fn(FeedEvent) -> Option<Event>) = match self {
            Self::Chat(feed) => (feed, |event| Some(Event::Chat(event))),
            Self::Messages(feed) => (feed, new_message),
            Self::Other(_) => return,
        };
        feed.share(&operation.audience(api, of));
    }

    /// Lets what follows go straight to the subscriber, as [`ChatFeed::lend`] has it.
    pub fn lend(&mut self, outlet: &Arc<dyn Outlet>) {
        match self {
            Self::Chat(feed) | Self::Messages(feed) => feed.lend(outlet),
            Self::Other(_) => {}
        }
    }

    /// The next event; an error is the last.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event>>> {
        match self {
            Self::Chat(feed) => feed.poll_next(cx).map(|event| event.map(|event| event.map(Event::Chat))),
            Self::Messages(feed) => loop {
                match ready!(feed.poll_next(cx)) {
                    Some(Ok(event)) => {
                        if let Some(message) = new_message(event) {
                            return Poll::Ready(Some(Ok(message)));
                        }
                    }
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    None => return Poll::Ready(None),
                }
            },
            Self::Other(events) => events.poll_next_unpin(cx),
        }
    }
}

/// A message of which a chat's feed tells for the first time.
fn new_message(event: FeedEvent) -> Option<Event> {
    match event {
        FeedEvent::Change { change: Change::Message(message, _), first_told: true, origin, .. }
            if message.deleted_at.is_none() =>
        {
            Some(Event::Message(NewMessage { message, origin }))
        }
        _ => None,
    }
}

impl Event {
    /// What was made of it, and from which position it looks so, where more than one listens.
    pub fn memo(&self) -> Option<(&Memo, i64)> {
        match self {
            Self::Chat(event) => event.memo(),
            Self::Message(NewMessage { message, origin }) => Some((origin.as_ref()?.memo()?, message.version)),
            Self::Inbox(_) | Self::Call(_) => None,
            Self::Typing(told) => Some((&told.memo, 0)),
            Self::Presence(told) => Some((&told.memo, 0)),
        }
    }

    /// Those of whom it tells, as they were when it happened, if they were at hand.
    pub fn people(&self) -> &[User] {
        match self {
            Self::Chat(FeedEvent::Change { origin: Some(origin), .. })
            | Self::Message(NewMessage { origin: Some(origin), .. }) => origin.people(),
            _ => &[],
        }
    }

    /// Those who may see it alike.
    pub fn everyone(&self, organization: &OrganizationId) -> Everyone {
        let chat: Option<ChatId> = match self {
            Self::Chat(event) => Some(event.chat()),
            Self::Message(message) => Some(message.message.id.chat),
            Self::Typing(told) => Some(told.event.chat),
            Self::Inbox(_) | Self::Call(_) | Self::Presence(_) => None,
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
