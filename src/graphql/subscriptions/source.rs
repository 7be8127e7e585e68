//! The sources of events that subscriptions read, and the hand-over of an event to its resolver.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::stream::{self, BoxStream, StreamExt};
use parking_lot::Mutex;

use crate::domain::chat_events::Change;
use crate::domain::ids::{ChatId, OrganizationId};
use crate::domain::users::User;
use crate::error::Result;
use crate::graphql::execution::requester::SharedScope;
use crate::realtime::dispatch::ports::{FrameSink, RenderGroup};
use crate::realtime::dispatch::render_cache::{CachedUpdate, RenderCache};
use crate::realtime::feeds::call::CallEvent;
use crate::realtime::feeds::chat::{ChatFeed, FeedEvent};
use crate::realtime::feeds::inbox::InboxEvent;
use crate::realtime::feeds::new_messages::NewMessage;
use crate::realtime::presence::snapshot::PresenceSnapshot;
use crate::realtime::typing::TypingSnapshot;

/// The feed that a subscription reads.
pub enum EventSource {
    Chat(Box<ChatFeed>),
    /// The new messages of one chat.
    Messages(Box<ChatFeed>),
    Other(BoxStream<'static, Result<SubscriptionEvent>>),
}

/// An event of any source.
#[derive(Debug, Clone)]
pub enum SubscriptionEvent {
    Chat(FeedEvent),
    Message(NewMessage),
    /// An event for one user only.
    Inbox(Box<InboxEvent>),
    /// An event for one participant only.
    Call(Box<CallEvent>),
    Typing(Arc<CachedUpdate<TypingSnapshot>>),
    Presence(Arc<CachedUpdate<PresenceSnapshot>>),
}

/// Converts an event of a chat's feed to a source's event, or drops it.
pub type EventSelector = fn(FeedEvent) -> Option<SubscriptionEvent>;

impl EventSource {
    /// Returns the selection of the chat feed's events, or `None` if the source is no chat feed.
    pub fn event_selector(&self) -> Option<EventSelector> {
        match self {
            Self::Chat(_) => Some(|event| Some(SubscriptionEvent::Chat(event))),
            Self::Messages(_) => Some(new_message_event),
            Self::Other(_) => None,
        }
    }

    /// Adds the subscriber to a group for which each event of a chat feed is rendered once.
    pub fn join_render_group(&mut self, group: &Arc<dyn RenderGroup>) {
        match self {
            Self::Chat(feed) | Self::Messages(feed) => feed.join_render_group(group),
            Self::Other(_) => {}
        }
    }

    /// Lets shared payloads be written directly to the subscriber; see [`ChatFeed::enable_fast_path`].
    pub fn enable_fast_path(&mut self, sink: &Arc<dyn FrameSink>) {
        match self {
            Self::Chat(feed) | Self::Messages(feed) => feed.enable_fast_path(sink),
            Self::Other(_) => {}
        }
    }

    /// Returns whether the source delivers the events of one chat, each after the one before.
    pub fn is_chat_feed(&self) -> bool {
        matches!(self, Self::Chat(_) | Self::Messages(_))
    }

    /// Polls for the next event; an error is the last item.
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

/// Selects the messages that a chat's feed reports for the first time.
fn new_message_event(event: FeedEvent) -> Option<SubscriptionEvent> {
    match event {
        FeedEvent::Change { change: Change::Message(message, _), is_new: true, event_ref, .. }
            if message.deleted_at.is_none() =>
        {
            Some(SubscriptionEvent::Message(NewMessage { message, event_ref }))
        }
        _ => None,
    }
}

impl SubscriptionEvent {
    /// Returns the cache of the event's renderings and the version that the event shows.
    ///
    /// `None` if the event has one subscriber only.
    pub fn render_cache(&self) -> Option<(&RenderCache, i64)> {
        match self {
            Self::Chat(event) => event.render_cache(),
            Self::Message(NewMessage { message, event_ref }) => {
                Some((event_ref.as_ref()?.render_cache()?, message.version))
            }
            Self::Inbox(_) | Self::Call(_) => None,
            Self::Typing(update) => Some((&update.render_cache, 0)),
            Self::Presence(update) => Some((&update.render_cache, 0)),
        }
    }

    /// Returns the users in the event as they were when it was published, if they were known then.
    pub fn referenced_users(&self) -> &[User] {
        match self {
            Self::Chat(FeedEvent::Change { event_ref: Some(event_ref), .. })
            | Self::Message(NewMessage { event_ref: Some(event_ref), .. }) => event_ref.senders(),
            _ => &[],
        }
    }

    /// Returns the chat as whose member the viewer receives the event.
    pub fn authorizing_chat(&self) -> Option<ChatId> {
        match self {
            Self::Chat(event) => Some(event.chat()),
            Self::Message(message) => Some(message.message.id.chat),
            Self::Typing(update) => Some(update.event.chat),
            Self::Inbox(event) => event.kind.authorizing_chat(),
            Self::Call(event) => Some(event.cursor.call.chat),
            Self::Presence(_) => None,
        }
    }

    /// Returns the scope of an execution that all subscribers of the event share.
    pub fn shared_scope(&self, organization: &OrganizationId) -> SharedScope {
        let chat: Option<ChatId> = match self {
            Self::Chat(event) => Some(event.chat()),
            Self::Message(message) => Some(message.message.id.chat),
            Self::Typing(update) => Some(update.event.chat),
            Self::Inbox(_) | Self::Call(_) | Self::Presence(_) => None,
        };
        SharedScope::new(organization.clone(), chat)
    }
}

/// The purpose of one run of a subscription's resolver, with the value that the run hands over.
///
/// Each lock protects one value that is stored once and taken once; neither is held across an await.
pub enum ResolverPhase {
    /// The resolver authorises the requester and leaves the opened source here.
    Subscribe(Mutex<Option<EventSource>>),
    /// The resolver takes this event and yields it.
    Event(Mutex<Option<Result<SubscriptionEvent>>>),
}

impl ResolverPhase {
    /// Creates the phase in which the resolver opens its source.
    pub fn subscribe() -> Arc<Self> {
        Arc::new(Self::Subscribe(Mutex::new(None)))
    }

    /// Creates the phase in which the resolver yields an event.
    pub fn event(event: Result<SubscriptionEvent>) -> Arc<Self> {
        Arc::new(Self::Event(Mutex::new(Some(event))))
    }

    /// Takes the source that the resolver opened.
    pub fn take_source(&self) -> Option<EventSource> {
        match self {
            Self::Subscribe(source) => source.lock().take(),
            Self::Event(_) => None,
        }
    }
}

/// A stream of at most one item.
pub type ZeroOrOne<T> = stream::Iter<std::option::IntoIter<Result<T>>>;

/// Implements a subscription's resolver for both phases.
///
/// To subscribe, it calls `open` and yields nothing. For an event, it yields the value to which `convert` turns
/// the event, if any.
///
/// # Errors
///
/// Returns the error of `open`.
pub async fn subscription_field<T>(
    ctx: &async_graphql::Context<'_>,
    open: impl AsyncFnOnce() -> Result<EventSource>,
    convert: impl FnOnce(SubscriptionEvent) -> Option<T>,
) -> Result<ZeroOrOne<T>> {
    let item = match &**ctx.data_unchecked::<Arc<ResolverPhase>>() {
        ResolverPhase::Subscribe(slot) => {
            let source = open().await?;
            *slot.lock() = Some(source);
            None
        }
        ResolverPhase::Event(event) => event.lock().take().and_then(|event| event.map(convert).transpose()),
    };
    Ok(stream::iter(item))
}
