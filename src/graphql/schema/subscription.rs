//! What happens now.
//!
//! A resolver here is run in two ways, see [`super::sharing`]: once to attach, where it authorises and
//! opens what it listens to, and then for each event of that, where it is given the event.

use async_graphql::{Context, ID, Subscription as SubscriptionRoot};

use futures_util::stream::{self, StreamExt};

use crate::domain::ids::ChatId;
use crate::domain::pagination::MAX_PAGE_SIZE;
use crate::error::{Error, Result};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::types::feed::{CallFeedEvent, ChatFeedEvent, InboxFeedEvent};
use crate::graphql::schema::types::message::Message;
use crate::graphql::schema::types::presence::Presence;
use crate::graphql::schema::types::typing::TypingUpdate;
use crate::graphql::subscriptions::source::{EventSource, SubscriptionEvent, ZeroOrOne, subscription_field};
use crate::realtime::feeds::chat::ChatFeedStart;
use crate::service;

pub struct Subscription;

/// What happens now.
#[SubscriptionRoot]
impl Subscription {
    /// One chat, kept up to date: each event carries the new state of what changed, so that a
    /// normalised cache needs no reducer. `last` sends the newest messages first, `after` everything
    /// changed since a cursor; then FeedCaughtUp, then what happens live. Nothing is lost, doubled or
    /// out of order. One who is no longer a member gets an error with the code FORBIDDEN, and the end.
    async fn chat_feed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The chat, which the viewer is in.")] chat_id: ID,
        #[graphql(desc = "Begin with the newest so many messages, 0 to 100, the oldest of them first. Without \
                          effect where `after` is given, so that a client may add it to resume.")]
        last: Option<i32>,
        #[graphql(desc = "Begin with all that changed since the event with this cursor.")] after: Option<String>,
    ) -> Result<ZeroOrOne<ChatFeedEvent>> {
        let open = async || {
            let number = last.map(|last| usize::try_from(last).ok().filter(|last| *last <= MAX_PAGE_SIZE));
            let start = match (after, number) {
                (_, Some(None)) => return Err(Error::bad_input("last", format!("must be from 0 to {MAX_PAGE_SIZE}"))),
                (Some(after), _) => ChatFeedStart::After(after),
                (None, Some(Some(number))) => ChatFeedStart::Latest(number),
                (None, None) => ChatFeedStart::Now,
            };
            let feed = service::feeds::chat(ctx.app(), ctx.viewer()?.clone(), parse_chat_id(&chat_id)?, start).await?;
            Ok(EventSource::Chat(Box::new(feed)))
        };
        subscription_field(ctx, open, |event| match event {
            SubscriptionEvent::Chat(event) => Some(event.into()),
            _ => None,
        })
        .await
    }

    /// One call as one participant sees it: who joins and leaves, their media, the signals sent to it. First the
    /// call, all participants and what was signalled since it joined, then FeedCaughtUp, then what happens live;
    /// `after` tells what changed since a cursor. It is complete after it has told that the call has ended, or
    /// that the participant has left. While it is open the participant is in: without it for 15 seconds, as the
    /// server is set if not otherwise, they have left.
    async fn call_feed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The call, of a chat that the viewer is in.")] call_id: ID,
        #[graphql(desc = "The viewer's own, to get its signals; left out, the feed only tells who is in.")]
        participant_id: Option<ID>,
        #[graphql(desc = "Begin with all that happened since the event with this cursor.")] after: Option<String>,
    ) -> Result<ZeroOrOne<CallFeedEvent>> {
        let open = async || {
            let call = call_id.parse().map_err(|_| Error::NotFound("call"))?;
            let own = participant_id.map(|id| id.parse().map_err(|_| Error::NotFound("participant"))).transpose()?;
            let feed = service::feeds::call(ctx.app(), ctx.viewer()?.clone(), call, own, after).await?;
            let news = stream::unfold(feed, async |mut feed| {
                let event = feed.recv().await?;
                Some((event.map(|event| SubscriptionEvent::Call(Box::new(event))), feed))
            });
            Ok(EventSource::Other(news.boxed()))
        };
        subscription_field(ctx, open, |event| match event {
            SubscriptionEvent::Call(event) => Some((*event).into()),
            _ => None,
        })
        .await
    }

    /// All that concerns the viewer across chats: the chat list, calls that ring, and notifications. `after` sends all that
    /// changed since a cursor; then FeedCaughtUp, then what happens live. A chat that changed several times
    /// meanwhile is told once, as it is now.
    async fn inbox_feed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Begin with all that changed since the event with this cursor.")] after: Option<String>,
    ) -> Result<ZeroOrOne<InboxFeedEvent>> {
        let open = async || {
            let feed = service::feeds::inbox_feed(ctx.app(), ctx.viewer()?.clone(), ctx.session().cloned(), after)?;
            let news = stream::unfold(feed, async |mut feed| {
                let event = feed.recv().await?;
                Some((event.map(|event| SubscriptionEvent::Inbox(Box::new(event))), feed))
            });
            Ok(EventSource::Other(news.boxed()))
        };
        subscription_field(ctx, open, |event| match event {
            SubscriptionEvent::Inbox(event) => Some((*event).into()),
            _ => None,
        })
        .await
    }

    /// New messages of one chat, or of all of the viewer's, live from now on.
    async fn message_added(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The chat; all of the viewer's where left out.")] chat_id: Option<ID>,
    ) -> Result<ZeroOrOne<Message>> {
        let open = async || {
            let viewer = ctx.viewer()?.clone();
            match chat_id {
                Some(id) => {
                    let feed = service::feeds::chat(ctx.app(), viewer, parse_chat_id(&id)?, ChatFeedStart::Now).await?;
                    Ok(EventSource::Messages(Box::new(feed)))
                }
                None => {
                    let inbox = service::feeds::new_messages(ctx.app(), viewer)?;
                    let messages = stream::unfold(inbox, async |mut inbox| {
                        let message = inbox.recv().await.map(SubscriptionEvent::Message);
                        Some((message, inbox))
                    });
                    Ok(EventSource::Other(messages.boxed()))
                }
            }
        };
        subscription_field(ctx, open, |event| match event {
            SubscriptionEvent::Message(message) => Some(Message(message.message)),
            _ => None,
        })
        .await
    }

    /// Everyone who is typing in a chat now, then at each change; each event replaces the one before, and
    /// one who is slow gets the newest alone. One who is no longer a member gets an error with the code
    /// FORBIDDEN, and the end.
    async fn typing(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The chat, which the viewer is in.")] chat_id: ID,
    ) -> Result<ZeroOrOne<TypingUpdate>> {
        let open = async || {
            let feed = service::feeds::typing(ctx.app(), ctx.viewer()?.clone(), parse_chat_id(&chat_id)?).await?;
            let lists = stream::unfold(feed, async |mut feed| {
                let list = feed.recv().await?;
                Some((list.map(SubscriptionEvent::Typing), feed))
            });
            Ok(EventSource::Other(lists.boxed()))
        };
        subscription_field(ctx, open, |event| match event {
            SubscriptionEvent::Typing(list) => Some(TypingUpdate(list)),
            _ => None,
        })
        .await
    }

    /// The presence of these people now, an event for each, then at each change. One who is slow gets the
    /// newest of each person alone. Unknown people are left out.
    async fn presence(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "1 to 200 people; who is named twice counts once.")] user_ids: Vec<ID>,
    ) -> Result<ZeroOrOne<Presence>> {
        let open = async || {
            let people = user_ids.iter().filter_map(|id| id.parse().ok()).collect();
            let feed = service::feeds::presence(ctx.app(), ctx.viewer()?, &people).await?;
            let news = stream::unfold(feed, async |mut feed| {
                let news = feed.recv().await?;
                Some((news.map(SubscriptionEvent::Presence), feed))
            });
            Ok(EventSource::Other(news.boxed()))
        };
        subscription_field(ctx, open, |event| match event {
            SubscriptionEvent::Presence(news) => Some(Presence(news.event.clone())),
            _ => None,
        })
        .await
    }
}

fn parse_chat_id(id: &str) -> Result<ChatId> {
    id.parse().map_err(|_| Error::NotFound("chat"))
}
