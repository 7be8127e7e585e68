//! What happens now.

use std::sync::Arc;

use async_graphql::{Context, ID, Subscription as SubscriptionRoot};
use futures_util::stream::{self, Stream};

use super::context::ContextExt;
use super::types::{ChatFeedEvent, Message, Presence, TypingUpdate};
use crate::domain::changes::Change;
use crate::domain::pages::MAX_PAGE;
use crate::error::{Error, Result};
use crate::live::{ChatFeed, FeedEvent, Start};
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
    ) -> Result<impl Stream<Item = Result<ChatFeedEvent>> + use<>> {
        let number = last.map(|last| usize::try_from(last).ok().filter(|last| *last <= MAX_PAGE));
        let start = match (after, number) {
            (_, Some(None)) => return Err(Error::bad_input("last", format!("must be from 0 to {MAX_PAGE}"))),
            (Some(after), _) => Start::After(after),
            (None, Some(Some(number))) => Start::Newest(number),
            (None, None) => Start::Now,
        };
        let feed = open(ctx, &chat_id, start).await?;
        Ok(stream::unfold(feed, async |mut feed| {
            let event = feed.next().await?;
            Some((event.map(ChatFeedEvent::from), feed))
        }))
    }

    /// New messages of one chat, or of all of the viewer's, live from now on.
    async fn message_added(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The chat; all of the viewer's where left out.")] chat_id: Option<ID>,
    ) -> Result<impl Stream<Item = Result<Message>> + use<>> {
        let source = match chat_id {
            Some(id) => Source::Chat(Box::new(open(ctx, &id, Start::Now).await?)),
            None => Source::All(Box::new(service::feeds::inbox(ctx.app(), Arc::clone(ctx.viewer()?))?)),
        };
        Ok(stream::unfold(Some(source), async |source| {
            let mut source = source?;
            let message = source.next().await?;
            // An error is the end.
            let next = message.is_ok().then_some(source);
            Some((message, next))
        }))
    }

    /// Everyone who is typing in a chat now, then at each change; each event replaces the one before, and
    /// one who is slow gets the newest alone. One who is no longer a member gets an error with the code
    /// FORBIDDEN, and the end.
    async fn typing(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The chat, which the viewer is in.")] chat_id: ID,
    ) -> Result<impl Stream<Item = Result<TypingUpdate>> + use<>> {
        let viewer = Arc::clone(ctx.viewer()?);
        let chat = chat_id.parse().map_err(|_| Error::NotFound("chat"))?;
        let feed = service::feeds::typing(ctx.app(), viewer, chat).await?;
        Ok(stream::unfold(feed, async |mut feed| {
            let list = feed.next().await?;
            Some((list.map(TypingUpdate), feed))
        }))
    }

    /// The presence of these people now, an event for each, then at each change. One who is slow gets the
    /// newest of each person alone. Unknown people are left out.
    async fn presence(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "1 to 200 people; who is named twice counts once.")] user_ids: Vec<ID>,
    ) -> Result<impl Stream<Item = Result<Presence>> + use<>> {
        let people = user_ids.iter().filter_map(|id| id.parse().ok()).collect();
        let feed = service::feeds::presence(ctx.app(), ctx.viewer()?, &people).await?;
        Ok(stream::unfold(feed, async |mut feed| {
            let news = feed.next().await?;
            Some((news.map(|news| Presence(news.event.clone())), feed))
        }))
    }
}

async fn open(ctx: &Context<'_>, id: &str, start: Start) -> Result<ChatFeed> {
    let viewer = Arc::clone(ctx.viewer()?);
    let chat = id.parse().map_err(|_| Error::NotFound("chat"))?;
    service::feeds::chat(ctx.app(), viewer, chat, start).await
}

/// Where new messages come from.
enum Source {
    Chat(Box<ChatFeed>),
    All(Box<crate::live::Inbox>),
}

impl Source {
    async fn next(&mut self) -> Option<Result<Message>> {
        match self {
            Self::Chat(feed) => loop {
                match feed.next().await? {
                    Ok(FeedEvent::Change { change: Change::Message(message, _), first_told: true, .. })
                        if message.deleted_at.is_none() =>
                    {
                        return Some(Ok(Message(message)));
                    }
                    Ok(_) => {}
                    Err(error) => return Some(Err(error)),
                }
            },
            Self::All(inbox) => Some(inbox.next().await.map(Message)),
        }
    }
}
