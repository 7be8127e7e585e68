//! A subscriber that keeps the cursor of a chat's feed, and resumes from it after its socket was dropped.

use std::collections::HashSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use super::socket::{Socket, subscribe};
use super::subscriber_pool::SubscriberSpec;
use crate::tools::{Error, Result, TIMEOUT, within};

/// The number of sockets that are opened at the same time.
const CONCURRENCY: usize = 50;

const FEED: &str = "subscription Follow($chatId: ID!, $after: String) { chatFeed(chatId: $chatId, after: $after) { \
    __typename ... on FeedEvent { cursor } ... on FeedReset { reason } \
    ... on MessageUpserted { change message { seq } } } }";

/// A subscriber to one chat's feed.
pub struct ResumingSubscriber {
    spec: SubscriberSpec,
    socket: Option<Socket>,
    cursor: Option<String>,
    /// The sequence numbers of the messages received.
    received: HashSet<i64>,
}

/// An event of the feed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum FeedEvent {
    /// The sequence number of a message that the subscriber has not received before.
    ///
    /// After a gap its first event may be a later change of the message.
    New(i64),
    CaughtUp,
    Other,
}

/// Connects a subscriber for each spec, and waits until it has caught up.
pub async fn connect_all(specs: Vec<SubscriberSpec>) -> Result<Vec<ResumingSubscriber>> {
    let connecting = stream::iter(specs).map(async |spec| {
        let mut subscriber = ResumingSubscriber::new(spec);
        subscriber.connect().await?;
        within(TIMEOUT, "the first catch-up of a feed", subscriber.catch_up()).await?;
        Ok::<_, Error>(subscriber)
    });
    connecting.buffered(CONCURRENCY).try_collect().await
}

impl ResumingSubscriber {
    fn new(spec: SubscriberSpec) -> Self {
        Self { spec, socket: None, cursor: None, received: HashSet::new() }
    }

    /// Opens a socket and subscribes, from the last cursor if there is one.
    pub async fn connect(&mut self) -> Result<()> {
        let mut socket = Socket::open(self.spec.address, &self.spec.token).await?;
        let variables = json!({ "chatId": self.spec.chat, "after": self.cursor });
        socket.send(subscribe("feed", FEED, variables)).await?;
        self.socket = Some(socket);
        Ok(())
    }

    /// Drops the socket without a close handshake.
    pub fn disconnect(&mut self) {
        self.socket = None;
    }

    /// Returns the next event.
    ///
    /// An event may never arrive, so callers limit the wait. The future is cancel-safe.
    pub async fn next(&mut self) -> Result<FeedEvent> {
        let socket = self.socket.as_mut().ok_or("the subscriber is not connected")?;
        let frame = socket.next().await?;
        let mut frame: Value = serde_json::from_str(&frame)?;
        let event = frame["payload"]["data"]["chatFeed"].take();
        let cursor = event["cursor"].as_str().ok_or_else(|| format!("unexpected frame: {frame}"))?;
        self.cursor = Some(cursor.into());
        match event["__typename"].as_str() {
            Some("FeedCaughtUp") => Ok(FeedEvent::CaughtUp),
            Some("FeedReset") => Err(format!("the feed was reset: {}", event["reason"]).into()),
            Some("MessageUpserted") => {
                let seq = event["message"]["seq"].as_i64().ok_or("a message without seq")?;
                match self.received.insert(seq) {
                    true => Ok(FeedEvent::New(seq)),
                    false if event["change"] == "ADDED" => Err(format!("message {seq} was delivered twice").into()),
                    false => Ok(FeedEvent::Other),
                }
            }
            _ => Ok(FeedEvent::Other),
        }
    }

    /// Reads events until the feed has caught up, and returns the sequence numbers of new messages.
    pub async fn catch_up(&mut self) -> Result<Vec<i64>> {
        let mut added = Vec::new();
        loop {
            match self.next().await? {
                FeedEvent::New(seq) => added.push(seq),
                FeedEvent::CaughtUp => return Ok(added),
                FeedEvent::Other => {}
            }
        }
    }
}
