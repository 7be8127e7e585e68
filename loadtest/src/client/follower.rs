//! A subscriber who keeps their place in a chat's feed, and goes on from there after their socket is gone.

use std::collections::HashSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use super::audience::Seat;
use super::socket::{Socket, subscribe};
use crate::tools::{Error, PATIENCE, Result, within};

/// Sockets opened at the same time while a crowd gathers.
const HASTE: usize = 50;

const FEED: &str = "subscription Follow($chatId: ID!, $after: String) { chatFeed(chatId: $chatId, after: $after) { \
    __typename ... on FeedEvent { cursor } ... on FeedReset { reason } \
    ... on MessageUpserted { change message { seq } } } }";

pub struct Follower {
    seat: Seat,
    socket: Option<Socket>,
    cursor: Option<String>,
    known: HashSet<i64>,
}

/// What a follower is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// A message that the follower knew nothing of, by its number in the chat: as it was added, or as it is
    /// by the time that a gap is read.
    New(i64),
    CaughtUp,
    Other,
}

/// A follower for each seat, who knows all of before.
pub async fn gather(seats: Vec<Seat>) -> Result<Vec<Follower>> {
    let opening = stream::iter(seats).map(async |seat| {
        let mut follower = Follower::new(seat);
        follower.come().await?;
        within(PATIENCE, "a feed's beginning", follower.catch_up()).await?;
        Ok::<_, Error>(follower)
    });
    opening.buffered(HASTE).try_collect().await
}

impl Follower {
    fn new(seat: Seat) -> Self {
        Self { seat, socket: None, cursor: None, known: HashSet::new() }
    }

    /// Opens a socket and subscribes, after what was told before.
    pub async fn come(&mut self) -> Result<()> {
        let mut socket = Socket::open(self.seat.address, &self.seat.token).await?;
        let variables = json!({ "chatId": self.seat.chat, "after": self.cursor });
        socket.send(subscribe("feed", FEED, variables)).await?;
        self.socket = Some(socket);
        Ok(())
    }

    /// Drops the socket, without a word to the server.
    pub fn cut(&mut self) {
        self.socket = None;
    }

    /// The next event. It may never come: callers bound their wait. Waiting for it may be given up.
    pub async fn next(&mut self) -> Result<News> {
        let socket = self.socket.as_mut().ok_or("a follower without a socket")?;
        let frame = socket.next().await?;
        let mut frame: Value = serde_json::from_str(&frame)?;
        let event = frame["payload"]["data"]["chatFeed"].take();
        let cursor = event["cursor"].as_str().ok_or_else(|| format!("a follower got {frame}"))?;
        self.cursor = Some(cursor.into());
        match event["__typename"].as_str() {
            Some("FeedCaughtUp") => Ok(News::CaughtUp),
            Some("FeedReset") => Err(format!("a feed was reset: {}", event["reason"]).into()),
            Some("MessageUpserted") => {
                let seq = event["message"]["seq"].as_i64().ok_or("a message without its number")?;
                match self.known.insert(seq) {
                    true => Ok(News::New(seq)),
                    false if event["change"] == "ADDED" => Err(format!("a message was told twice: {seq}").into()),
                    false => Ok(News::Other),
                }
            }
            _ => Ok(News::Other),
        }
    }

    /// Reads until all of before is told. Gives the messages that are new since.
    pub async fn catch_up(&mut self) -> Result<Vec<i64>> {
        let mut added = Vec::new();
        loop {
            match self.next().await? {
                News::New(number) => added.push(number),
                News::CaughtUp => return Ok(added),
                News::Other => {}
            }
        }
    }
}
