//! A subscriber who keeps their place in a chat's feed, and goes on from there after their socket is gone.

use std::collections::HashSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use super::socket::{Socket, subscribe};
use super::subscriber_pool::SubscriberSpec;
use crate::tools::{Error, Result, TIMEOUT, within};

/// Sockets opened at the same time while a crowd gathers.
const CONCURRENCY: usize = 50;

const FEED: &str = "subscription Follow($chatId: ID!, $after: String) { chatFeed(chatId: $chatId, after: $after) { \
    __typename ... on FeedEvent { cursor } ... on FeedReset { reason } \
    ... on MessageUpserted { change message { seq } } } }";

pub struct ResumingSubscriber {
    spec: SubscriberSpec,
    socket: Option<Socket>,
    cursor: Option<String>,
    known: HashSet<i64>,
}

/// What a follower is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum FeedEvent {
    /// A message that the follower knew nothing of, by its number in the chat: as it was added, or as it is
    /// by the time that a gap is read.
    New(i64),
    CaughtUp,
    Other,
}

/// A follower for each seat, who knows all of before.
pub async fn gather(subscriber_specs: Vec<SubscriberSpec>) -> Result<Vec<ResumingSubscriber>> {
    let opening = stream::iter(subscriber_specs).map(async |spec| {
        let mut follower = ResumingSubscriber::new(spec);
        follower.come().await?;
        within(TIMEOUT, "a feed's beginning", follower.catch_up()).await?;
        Ok::<_, Error>(follower)
    });
    opening.buffered(CONCURRENCY).try_collect().await
}

impl ResumingSubscriber {
    fn new(spec: SubscriberSpec) -> Self {
        Self { spec, socket: None, cursor: None, known: HashSet::new() }
    }

    /// Opens a socket and subscribes, after what was told before.
    pub async fn come(&mut self) -> Result<()> {
        let mut socket = Socket::open(self.spec.address, &self.spec.token).await?;
        let variables = json!({ "chatId": self.spec.chat, "after": self.cursor });
        socket.send(subscribe("feed", FEED, variables)).await?;
        self.socket = Some(socket);
        Ok(())
    }

    /// Drops the socket, without a word to the server.
    pub fn cut(&mut self) {
        self.socket = None;
    }

    /// The next event. It may never come: callers bound their wait. Waiting for it may be given up.
    pub async fn next(&mut self) -> Result<FeedEvent> {
        let socket = self.socket.as_mut().ok_or("a follower without a socket")?;
        let frame = socket.next().await?;
        let mut frame: Value = serde_json::from_str(&frame)?;
        let event = frame["payload"]["data"]["chatFeed"].take();
        let cursor = event["cursor"].as_str().ok_or_else(|| format!("a follower got {frame}"))?;
        self.cursor = Some(cursor.into());
        match event["__typename"].as_str() {
            Some("FeedCaughtUp") => Ok(FeedEvent::CaughtUp),
            Some("FeedReset") => Err(format!("a feed was reset: {}", event["reason"]).into()),
            Some("MessageUpserted") => {
                let seq = event["message"]["seq"].as_i64().ok_or("a message without its number")?;
                match self.known.insert(seq) {
                    true => Ok(FeedEvent::New(seq)),
                    false if event["change"] == "ADDED" => Err(format!("a message was told twice: {seq}").into()),
                    false => Ok(FeedEvent::Other),
                }
            }
            _ => Ok(FeedEvent::Other),
        }
    }

    /// Reads until all of before is told. Gives the messages that are new since.
    pub async fn catch_up(&mut self) -> Result<Vec<i64>> {
        let mut added = Vec::new();
        loop {
            match self.next().await? {
                FeedEvent::New(number) => added.push(number),
                FeedEvent::CaughtUp => return Ok(added),
                FeedEvent::Other => {}
            }
        }
    }
}
