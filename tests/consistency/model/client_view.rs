//! What a person's client holds of one chat: built from its feed, as upserts by id.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Feed, User, position};
use tokio::time::timeout;

use super::harness::{MEMBER, MESSAGE};

/// A chat as one person sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sight {
    pub version: i64,
    /// By their places.
    pub messages: BTreeMap<i64, Value>,
    /// By their users' ids.
    pub members: BTreeMap<String, Value>,
}

impl Sight {
    /// Who is in, and in which role.
    fn roles(&self) -> BTreeMap<&str, &Value> {
        self.members.iter().map(|(user, member)| (user.as_str(), &member["role"])).collect()
    }
}

/// A place to go on from, and what the client held there.
struct Point {
    cursor: String,
    sight: Sight,
}

#[derive(Default)]
pub struct Held {
    feed: Option<Feed>,
    sight: Sight,
    points: Vec<Point>,
    /// From which of the points to go on.
    resume: usize,
}

/// Longer than the server gathers read positions, on any machine.
const PATIENCE: Duration = Duration::from_secs(10);

impl Held {
    /// Cuts the feed; the next goes on from any of the places that it came by.
    pub fn cut(&mut self, resume: usize) {
        (self.feed, self.resume) = (None, resume);
    }

    /// The person is no longer in: the feed says so, and ends.
    pub async fn lose(&mut self) {
        if let Some(mut feed) = self.feed.take() {
            assert_eq!(feed.error_code().await, "FORBIDDEN");
        }
    }

    /// Brings the client to where the chat stands; its messages and members are those of a fresh
    /// query.
    pub async fn follow(&mut self, user: &User, chat: &str, fresh: &Sight) {
        if self.feed.is_none() {
            self.connect(user, chat, fresh).await;
        }
        while self.sight.version < fresh.version {
            self.recv().await;
        }
        assert_eq!(self.sight.version, fresh.version);
        assert_eq!(self.sight.messages, fresh.messages, "what {} holds, and what is so", user.id);
        assert_eq!(self.sight.roles(), fresh.roles(), "who is in, to {}", user.id);
    }

    /// The same for all of members, whose read positions are told a moment later.
    pub async fn settle(&mut self, user: &User, fresh: &Sight) {
        while self.sight != *fresh {
            if timeout(PATIENCE, self.recv()).await.is_err() {
                assert_eq!(self.sight, *fresh, "what {} holds, and what is so", user.id);
            }
        }
    }

    async fn connect(&mut self, user: &User, chat: &str, fresh: &Sight) {
        let point = (!self.points.is_empty()).then(|| self.resume % self.points.len());
        let point = point.map(|number| &self.points[number]);
        let query = format!(
            "subscription($chat: ID!, $last: Int, $after: String) {{ chatFeed(chatId: $chat, last: $last, after: $after) {{
                __typename ... on FeedEvent {{ cursor }} ... on MemberRemoved {{ userId }}
                ... on MessageUpserted {{ change message {{ {MESSAGE} }} }} ... on MemberUpserted {{ member {{ {MEMBER} }} }}
            }} }}"
        );
        let after = point.map(|point| point.cursor.as_str());
        let feed = user.subscribe(&query, json!({ "chat": chat, "last": 100, "after": after })).await;
        self.feed = Some(feed);
        match point {
            Some(point) => {
                self.sight = point.sight.clone();
                while self.recv().await != "FeedCaughtUp" {}
            }
            None => self.begin(fresh).await,
        }
    }

    /// A client that holds nothing gets the newest messages, and asks for the rest.
    async fn begin(&mut self, fresh: &Sight) {
        let mut newest = BTreeMap::new();
        loop {
            let event = self.feed.as_mut().expect("a feed").next().await;
            match event["__typename"].as_str() {
                Some("FeedCaughtUp") => break self.reach(&event),
                Some("MessageUpserted") => {
                    let seq = event["message"]["seq"].as_i64().expect("a place");
                    assert!(newest.last_key_value().is_none_or(|(last, _)| *last < seq), "out of order: {event}");
                    newest.insert(seq, event["message"].clone());
                }
                _ => panic!("no newest message: {event}"),
            }
        }
        let is_timeline = |message: &Value| message["threadRoot"].is_null() || newest.contains_key(&seq(message));
        let timeline = fresh.messages.iter().filter(|(_, message)| is_timeline(message));
        let timeline: BTreeMap<i64, Value> = timeline.map(|(seq, message)| (*seq, message.clone())).collect();
        assert_eq!(newest, timeline);
        self.sight = fresh.clone();
        self.points.last_mut().expect("a point").sight = fresh.clone();
    }

    /// Takes the next event, and says which it was.
    async fn recv(&mut self) -> String {
        let hearing = self.feed.as_mut().expect("a feed").next();
        let event = hearing.await;
        let (kind, known) = (event["__typename"].as_str().expect("a type"), self.sight.version);
        let at = position(&event["cursor"]);
        assert!(known <= at, "out of order: {event}");
        match kind {
            "MessageUpserted" => {
                assert!(known < at, "doubled: {event}");
                let seq = seq(&event["message"]);
                let former = self.sight.messages.insert(seq, event["message"].clone());
                assert!(former.is_none() || event["change"] != "ADDED", "added again: {event}");
            }
            "MemberUpserted" => {
                let user = event["member"]["user"]["id"].as_str().expect("an id");
                self.sight.members.insert(user.to_owned(), event["member"].clone());
            }
            "MemberRemoved" => {
                assert!(known < at, "doubled: {event}");
                self.sight.members.remove(event["userId"].as_str().expect("an id"));
            }
            "FeedCaughtUp" => {}
            _ => panic!("not expected: {event}"),
        }
        self.reach(&event);
        kind.to_owned()
    }

    /// Notes where the client is, to go on from there some time.
    fn reach(&mut self, event: &Value) {
        self.sight.version = position(&event["cursor"]);
        let cursor = event["cursor"].as_str().expect("a cursor").to_owned();
        self.points.push(Point { cursor, sight: self.sight.clone() });
    }
}

fn seq(message: &Value) -> i64 {
    message["seq"].as_i64().expect("a place")
}
