//! The subscription root: feeds and live updates.
//!
//! The executor runs a resolver of this module in two modes, which `subscription_field` tells apart (see
//! [`crate::graphql::subscriptions::source`]): once to authorise the viewer and to open the event source, and then once
//! for each event of that source, to render it.

use std::collections::BTreeSet;

use async_graphql::{Context, ID, Subscription as SubscriptionRoot};
use futures_util::stream::{self, StreamExt};

use crate::domain::calls::OwnConnection;
use crate::domain::ids::{ChatId, ConnectionId, ParticipantId, UserId};
use crate::domain::pagination::MAX_PAGE_SIZE;
use crate::error::{Error, Result};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::types::feed::{CallFeedEvent, ChatFeedEvent, InboxFeedEvent};
use crate::graphql::schema::types::objects::{Message, Presence};
use crate::graphql::schema::types::typing::TypingUpdate;
use crate::graphql::subscriptions::source::{EventSource, SubscriptionEvent, ZeroOrOne, subscription_field};
use crate::realtime::feeds::chat::start::ChatFeedStart;
use crate::service;

/// The type `Subscription`.
pub struct Subscription;

/// The subscription root.
/// Every field requires a token. A feed delivers every change in order, and its cursors let a client resume. The other
/// fields deliver only what happens while the client is connected.
#[SubscriptionRoot]
impl Subscription {
    /// Keeps a client up to date with one chat.
    /// Each event contains the new state of an object that changed. The feed begins with the latest messages (`last`)
    /// or with everything that changed since a cursor (`after`), then sends `FeedCaughtUp`, and continues with live
    /// events. No change is lost, repeated or out of order while the feed is live. Fails with `NOT_FOUND` or
    /// `FORBIDDEN` if the viewer is not a member. Ends with `FORBIDDEN` when the membership ends or the chat is
    /// deleted.
    async fn chat_feed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of a chat of which the viewer is a member.")] chat_id: ID,
        #[graphql(desc = "Begins with the latest n messages, oldest first, 0 to 100. Has no effect if `after` is \
                          set, so that a client can keep it when it resumes.")]
        last: Option<i32>,
        #[graphql(desc = "Begins with everything that changed since the event with this cursor.")] after: Option<
            String,
        >,
    ) -> Result<ZeroOrOne<ChatFeedEvent>> {
        let open = async || {
            let count = last.map(|last| usize::try_from(last).ok().filter(|last| *last <= MAX_PAGE_SIZE));
            let start = match (after, count) {
                (_, Some(None)) => return Err(Error::bad_input("last", format!("must be from 0 to {MAX_PAGE_SIZE}"))),
                (Some(after), _) => ChatFeedStart::After(after),
                (None, Some(Some(count))) => ChatFeedStart::Latest(count),
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

    /// Keeps a client up to date with one call, and delivers the signals that are sent to one participant.
    /// The feed begins with the call, its participants and the signals since the participant joined, or with everything
    /// that changed since a cursor (`after`), then sends `FeedCaughtUp`, and continues with live events. It completes
    /// with `CallFeedEnded` after the call ended or the participant left or joined again. An open feed with
    /// `participantId` keeps that participant in the call: without it, the participant leaves after 15 seconds by
    /// default. Fails with `NOT_FOUND` if the viewer is not a member of the call's chat, and with `CONFLICT` if the
    /// participant has joined again by another connection.
    async fn call_feed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of a call in a chat of which the viewer is a member.")] call_id: ID,
        #[graphql(desc = "The id of the viewer's own participant, to receive its signals. Without it, the feed only \
                          delivers the call and its participants.")]
        participant_id: Option<ID>,
        #[graphql(
            desc = "The id of the connection whose signals the feed delivers. Required once the participant has \
                          joined the call more than once."
        )]
        connection_id: Option<ID>,
        #[graphql(desc = "Begins with everything that changed since the event with this cursor.")] after: Option<
            String,
        >,
    ) -> Result<ZeroOrOne<CallFeedEvent>> {
        let open = async || {
            let call = call_id.parse().map_err(|_| Error::NotFound("call"))?;
            let own = parse_own(participant_id.as_ref(), connection_id.as_ref())?;
            let feed = service::feeds::call(ctx.app(), ctx.viewer()?.clone(), ctx.session().cloned(), call, own, after)
                .await?;
            let events = stream::unfold(feed, async |mut feed| {
                let event = feed.recv().await?;
                Some((event.map(|event| SubscriptionEvent::Call(Box::new(event))), feed))
            });
            Ok(EventSource::Other(events.boxed()))
        };
        subscription_field(ctx, open, |event| match event {
            SubscriptionEvent::Call(event) => Some((*event).into()),
            _ => None,
        })
        .await
    }

    /// Keeps a client up to date with the viewer's chat list, calls and notifications.
    /// The feed begins with the calls that ring now, or with everything that changed since a cursor (`after`), then
    /// sends `FeedCaughtUp`, and continues with live events. Several changes of one chat may arrive as one event with
    /// the chat's current state. Fails with `FORBIDDEN` if the token lacks `chat.view`.
    async fn inbox_feed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Begins with everything that changed since the event with this cursor. A cursor is valid \
                          for 30 days.")]
        after: Option<String>,
    ) -> Result<ZeroOrOne<InboxFeedEvent>> {
        let open = async || {
            let feed = service::feeds::inbox_feed(ctx.app(), ctx.viewer()?.clone(), ctx.session().cloned(), after)?;
            let events = stream::unfold(feed, async |mut feed| {
                let event = feed.recv().await?;
                Some((event.map(|event| SubscriptionEvent::Inbox(Box::new(event))), feed))
            });
            Ok(EventSource::Other(events.boxed()))
        };
        subscription_field(ctx, open, |event| match event {
            SubscriptionEvent::Inbox(event) => Some((*event).into()),
            _ => None,
        })
        .await
    }

    /// Delivers new messages, including the viewer's own, from now on.
    /// Has no cursor: use `chatFeed` for anything that has to be complete. Fails with `NOT_FOUND` or `FORBIDDEN` if the
    /// viewer is not a member of the chat.
    async fn message_added(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of a chat. Defaults to all chats of the viewer, including chats joined later.")]
        chat_id: Option<ID>,
    ) -> Result<ZeroOrOne<Message>> {
        let open = async || {
            let viewer = ctx.viewer()?.clone();
            match chat_id {
                Some(id) => {
                    let feed = service::feeds::chat(ctx.app(), viewer, parse_chat_id(&id)?, ChatFeedStart::Now).await?;
                    Ok(EventSource::Messages(Box::new(feed)))
                }
                None => {
                    let feed = service::feeds::new_messages(ctx.app(), viewer)?;
                    let events = stream::unfold(feed, async |mut feed| {
                        let event = feed.recv().await.map(SubscriptionEvent::Message);
                        Some((event, feed))
                    });
                    Ok(EventSource::Other(events.boxed()))
                }
            }
        };
        subscription_field(ctx, open, |event| match event {
            SubscriptionEvent::Message(message) => Some(Message(message.message)),
            _ => None,
        })
        .await
    }

    /// Delivers the list of users who are typing in a chat.
    /// The current list is the first event, and each change is another one. An event replaces the previous one. A slow
    /// client receives only the latest list. Fails with `NOT_FOUND` or `FORBIDDEN` if the viewer is not a member. Ends
    /// with `FORBIDDEN` when the membership ends or the chat is deleted.
    async fn typing(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of a chat of which the viewer is a member.")] chat_id: ID,
    ) -> Result<ZeroOrOne<TypingUpdate>> {
        let open = async || {
            let feed = service::feeds::typing(ctx.app(), ctx.viewer()?.clone(), parse_chat_id(&chat_id)?).await?;
            let events = stream::unfold(feed, async |mut feed| {
                let update = feed.recv().await?;
                Some((update.map(SubscriptionEvent::Typing), feed))
            });
            Ok(EventSource::Other(events.boxed()))
        };
        subscription_field(ctx, open, |event| match event {
            SubscriptionEvent::Typing(update) => Some(TypingUpdate(update)),
            _ => None,
        })
        .await
    }

    /// Delivers the presence of users.
    /// The first events contain the current presence of each user, and each change is another one. A slow client
    /// receives only the latest presence of each user. Fails with `BAD_USER_INPUT` if there is no user or more than
    /// 200.
    async fn presence(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The ids of 1 to 200 different users. Users unknown to the organisation are ignored.")]
        user_ids: Vec<ID>,
    ) -> Result<ZeroOrOne<Presence>> {
        let open = async || {
            let users: BTreeSet<UserId> = user_ids.iter().filter_map(|id| id.parse().ok()).collect();
            let feed = service::feeds::presence(ctx.app(), ctx.viewer()?, &users).await?;
            let events = stream::unfold(feed, async |mut feed| {
                let update = feed.recv().await?;
                Some((update.map(SubscriptionEvent::Presence), feed))
            });
            Ok(EventSource::Other(events.boxed()))
        };
        subscription_field(ctx, open, |event| match event {
            SubscriptionEvent::Presence(update) => Some(Presence(update.event.clone())),
            _ => None,
        })
        .await
    }
}

/// Parses the id of a chat; a text that is no such id belongs to no chat.
fn parse_chat_id(id: &str) -> Result<ChatId> {
    id.parse().map_err(|_| Error::NotFound("chat"))
}

/// Parses the ids of the viewer's own participant and of its connection, which have to match.
fn parse_own(participant: Option<&ID>, connection: Option<&ID>) -> Result<Option<OwnConnection>> {
    let participant = participant.map(|id| id.parse::<ParticipantId>().map_err(|_| Error::NotFound("participant")));
    let connection = connection.map(|id| id.parse::<ConnectionId>().map_err(|_| Error::NotFound("connection")));
    match (participant.transpose()?, connection.transpose()?) {
        (Some(own), Some(connection)) if own != connection.participant => Err(Error::NotFound("connection")),
        (_, Some(ConnectionId { participant, join })) => Ok(Some(OwnConnection { participant, join: Some(join) })),
        (participant, None) => Ok(participant.map(|participant| OwnConnection { participant, join: None })),
    }
}
