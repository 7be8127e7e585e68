//! What subscriptions listen to, and how a resolver is given what is told.

use parking_lot::Mutex;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::stream::{self, BoxStream, StreamExt};

use crate::domain::chat_events::Change;
use crate::domain::ids::{ChatId, OrganizationId};
use crate::domain::users::User;
use crate::error::Result;
use crate::graphql::api::GraphqlService;
use crate::graphql::schema::context::SharedScope;
use crate::graphql::subscriptions::shared_operation::SharedOperation;
use crate::realtime::dispatch::fast_path::FrameSink;
use crate::realtime::dispatch::render_cache::{CachedUpdate, RenderCache};
use crate::realtime::feeds::call::CallEvent;
use crate::realtime::feeds::chat::{ChatFeed, FeedEvent};
use crate::realtime::feeds::inbox::InboxEvent;
use crate::realtime::feeds::new_messages::NewMessage;
use crate::realtime::presence::tracker::PresenceSnapshot;
use crate::realtime::typing::TypingSnapshot;

/// What a subscription listens to.
pub enum EventSource {
    Chat(Box<ChatFeed>),
    /// The new messages of one chat.
    Messages(Box<ChatFeed>),
    Other(BoxStream<'static, Result<SubscriptionEvent>>),
}

/// What a source tells of.
#[derive(Debug, Clone)]
pub enum SubscriptionEvent {
    Chat(FeedEvent),
    Message(NewMessage),
    /// Of one person alone.
    Inbox(Box<InboxEvent>),
    /// Of one participant alone.
    Call(Box<CallEvent>),
    Typing(Arc<CachedUpdate<TypingSnapshot>>),
    Presence(Arc<CachedUpdate<PresenceSnapshot>>),
}

impl EventSource {
    /// Shares what it tells with all who asked the same.
    pub fn join_render_group(&mut self, api: &Arc<GraphqlService>, operation: &Arc<SharedOperation>) {
        let (feed, of): (_, fn(FeedEvent) -> Option<SubscriptionEvent>) = match self {
            Self::Chat(feed) => (feed, |event| Some(SubscriptionEvent::Chat(event))),
            Self::Messages(feed) => (feed, new_message_event),
            Self::Other(_) => return,
        };
        feed.join_render_group(&operation.render_group(api, of));
    }

    /// Lets what follows go straight to the subscriber, as [`ChatFeed::lend`] has it.
    pub fn enable_fast_path(&mut self, outlet: &Arc<dyn FrameSink>) {
        match self {
            Self::Chat(feed) | Self::Messages(feed) => feed.enable_fast_path(outlet),
            Self::Other(_) => {}
        }
    }

    /// The next event; an error is the last.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<SubscriptionEvent>>> {
        match self {
            Self::Chat(feed) => feed.poll_next(cx).map(|event| event.map(|event| event.map(SubscriptionEvent::Chat))),
            Self::Messages(feed) => loop {
                match ready!(feed.poll_next(cx)) {
                    Some(Ok(event)) => {
                        if let Some(message) = new_message_event(event) {
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
fn new_message_event(event: FeedEvent) -> Option<SubscriptionEvent> {
    match event {
        FeedEvent::Change { change: Change::Message(message, _), is_new: true, event_ref: origin, .. }
            if message.deleted_at.is_none() =>
        {
            Some(SubscriptionEvent::Message(NewMessage { message, event_ref: origin }))
        }
        _ => None,
    }
}

impl SubscriptionEvent {
    /// What was made of it, and from which position it looks so, where more than one listens.
    pub fn render_cache(&self) -> Option<(&RenderCache, i64)> {
        match self {
            Self::Chat(event) => event.render_cache(),
            Self::Message(NewMessage { message, event_ref: origin }) => {
                Some((origin.as_ref()?.render_cache()?, message.version))
            }
            Self::Inbox(_) | Self::Call(_) => None,
            Self::Typing(told) => Some((&told.render_cache, 0)),
            Self::Presence(told) => Some((&told.render_cache, 0)),
        }
    }

    /// Those of whom it tells, as they were when it happened, if they were at hand.
    pub fn referenced_users(&self) -> &[User] {
        match self {
            Self::Chat(FeedEvent::Change { event_ref: Some(origin), .. })
            | Self::Message(NewMessage { event_ref: Some(origin), .. }) => origin.senders(),
            _ => &[],
        }
    }

    /// Those who may see it alike.
    pub fn shared_scope(&self, organization: &OrganizationId) -> SharedScope {
        let chat: Option<ChatId> = match self {
            Self::Chat(event) => Some(event.chat()),
            Self::Message(message) => Some(message.message.id.chat),
            Self::Typing(told) => Some(told.event.chat),
            Self::Inbox(_) | Self::Call(_) | Self::Presence(_) => None,
        };
        SharedScope::new(organization.clone(), chat)
    }
}

/// What a run of a subscription's resolver is for.
pub enum ResolverPhase {
    /// To authorise, and to put what it listens to here.
    Subscribe(Mutex<Option<EventSource>>),
    /// To tell of this event.
    Event(Mutex<Option<Result<SubscriptionEvent>>>),
}

impl ResolverPhase {
    pub fn subscribe() -> Arc<Self> {
        Arc::new(Self::Subscribe(Mutex::new(None)))
    }

    pub fn event(event: Result<SubscriptionEvent>) -> Arc<Self> {
        Arc::new(Self::Event(Mutex::new(Some(event))))
    }

    /// What was opened.
    pub fn take_source(&self) -> Option<EventSource> {
        match self {
            Self::Subscribe(slot) => slot.lock().take(),
            Self::Event(_) => None,
        }
    }
}

/// The one event, or none.
pub type ZeroOrOne<T> = stream::Iter<std::option::IntoIter<Result<T>>>;

/// What a subscription's resolver gives: nothing yet where it attaches, or the one event.
pub async fn subscription_field<T>(
    ctx: &async_graphql::Context<'_>,
    open: impl AsyncFnOnce() -> Result<EventSource>,
    of: impl FnOnce(SubscriptionEvent) -> Option<T>,
) -> Result<ZeroOrOne<T>> {
    let told = match &**ctx.data_unchecked::<Arc<ResolverPhase>>() {
        ResolverPhase::Subscribe(slot) => {
            let source = open().await?;
            *slot.lock() = Some(source);
            None
        }
        ResolverPhase::Event(event) => event.lock().take().and_then(|event| event.map(of).transpose()),
    };
    Ok(stream::iter(told))
}
