//! The state of one chat in a user's client, which is built from the chat's feed by upserts.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Feed, User, position};
use tokio::time::timeout;

use super::harness::{MEMBER_FIELDS, MESSAGE_FIELDS};

/// The time within which read positions arrive: longer than the server collects them, on any machine.
const RECEIPT_TIMEOUT: Duration = Duration::from_secs(10);

/// One user's observation of a chat.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observation {
    pub version: i64,
    /// The messages by their sequence numbers.
    pub messages: BTreeMap<i64, Value>,
    /// The members by the ids of their users.
    pub members: BTreeMap<String, Value>,
}

impl Observation {
    /// Returns the members, each with the role.
    fn roles(&self) -> BTreeMap<&str, &Value> {
        self.members.iter().map(|(user, member)| (user.as_str(), &member["role"])).collect()
    }
}

/// A position from which a client can resume, with the client's state at that position.
struct Checkpoint {
    cursor: String,
    state: Observation,
}

/// A client that follows the feed of a chat.
#[derive(Default)]
pub struct ClientView {
    feed: Option<Feed>,
    state: Observation,
    checkpoints: Vec<Checkpoint>,
    /// The index of the checkpoint from which the next feed resumes.
    resume_index: usize,
}

impl ClientView {
    /// Ends the feed. The next feed resumes from any of the checkpoints.
    pub fn disconnect(&mut self, resume_index: usize) {
        (self.feed, self.resume_index) = (None, resume_index);
    }

    /// Asserts that the feed of a user who is no longer a member ends with an error.
    pub async fn expect_removal(&mut self) {
        if let Some(mut feed) = self.feed.take() {
            assert_eq!(feed.error_code().await, "FORBIDDEN");
        }
    }

    /// Receives events up to the queried version, and asserts that messages and roles equal the query.
    pub async fn catch_up(&mut self, user: &User, chat: &str, queried: &Observation) {
        if self.feed.is_none() {
            self.connect(user, chat, queried).await;
        }
        while self.state.version < queried.version {
            self.recv().await;
        }
        assert_eq!(self.state.version, queried.version);
        assert_eq!(self.state.messages, queried.messages, "messages in the client of {}, and as queried", user.id);
        assert_eq!(self.state.roles(), queried.roles(), "roles in the client of {}, and as queried", user.id);
    }

    /// Receives events until the whole state equals the queried one: read positions are published later.
    pub async fn quiesce(&mut self, user: &User, queried: &Observation) {
        while self.state != *queried {
            if timeout(RECEIPT_TIMEOUT, self.recv()).await.is_err() {
                assert_eq!(self.state, *queried, "the state in the client of {}, and as queried", user.id);
            }
        }
    }

    async fn connect(&mut self, user: &User, chat: &str, queried: &Observation) {
        let resume_index = (!self.checkpoints.is_empty()).then(|| self.resume_index % self.checkpoints.len());
        let checkpoint = resume_index.map(|index| &self.checkpoints[index]);
        let query = format!(
            "subscription($chat: ID!, $last: Int, $after: String) {{ chatFeed(chatId: $chat, last: $last, after: $after) {{
                __typename ... on FeedEvent {{ cursor }} ... on MemberRemoved {{ userId }}
                ... on MessageUpserted {{ change message {{ {MESSAGE_FIELDS} }} }}
                ... on MemberUpserted {{ member {{ {MEMBER_FIELDS} }} }}
            }} }}"
        );
        let after = checkpoint.map(|checkpoint| checkpoint.cursor.as_str());
        let feed = user.subscribe(&query, json!({ "chat": chat, "last": 100, "after": after })).await;
        self.feed = Some(feed);
        match checkpoint {
            Some(checkpoint) => {
                self.state = checkpoint.state.clone();
                loop {
                    match self.recv().await.as_str() {
                        "FeedCaughtUp" => break,
                        "FeedReset" => break self.load_again(queried),
                        _ => {}
                    }
                }
            }
            None => self.load_newest(queried).await,
        }
    }

    /// Queries everything after the user was not a member for a while.
    fn load_again(&mut self, queried: &Observation) {
        assert_eq!(self.state.version, queried.version, "the version in the cursor of the reset");
        self.state = queried.clone();
        self.checkpoints.last_mut().expect("a checkpoint").state = queried.clone();
    }

    /// Receives the newest messages in a client without a state, which queries everything else.
    async fn load_newest(&mut self, queried: &Observation) {
        let mut newest = BTreeMap::new();
        loop {
            let event = self.feed.as_mut().expect("a feed").next().await;
            match event["__typename"].as_str() {
                Some("FeedCaughtUp") => break self.save_checkpoint(&event),
                Some("MessageUpserted") => {
                    let seq = event["message"]["seq"].as_i64().expect("a sequence number");
                    assert!(newest.last_key_value().is_none_or(|(last, _)| *last < seq), "out of order: {event}");
                    newest.insert(seq, event["message"].clone());
                }
                _ => panic!("not one of the newest messages: {event}"),
            }
        }
        let is_in_timeline = |message: &Value| message["threadRoot"].is_null() || newest.contains_key(&seq_of(message));
        let timeline = queried.messages.iter().filter(|(_, message)| is_in_timeline(message));
        let timeline: BTreeMap<i64, Value> = timeline.map(|(seq, message)| (*seq, message.clone())).collect();
        assert_eq!(newest, timeline);
        self.state = queried.clone();
        self.checkpoints.last_mut().expect("a checkpoint").state = queried.clone();
    }

    /// Receives and applies the next event, and returns its type.
    async fn recv(&mut self) -> String {
        let next_event = self.feed.as_mut().expect("a feed").next();
        let event = next_event.await;
        let (kind, known_version) = (event["__typename"].as_str().expect("a type"), self.state.version);
        let version = position(&event["cursor"]);
        assert!(known_version <= version, "out of order: {event}");
        match kind {
            // The first message of a thread that was read is sent again, without a version.
            "MessageUpserted" if event["change"] == "THREAD" && known_version == version => {
                let known = self.state.messages.get(&seq_of(&event["message"]));
                assert_eq!(known, Some(&event["message"]), "another state without a version: {event}");
            }
            "MessageUpserted" => {
                assert!(known_version < version, "delivered twice: {event}");
                let seq = seq_of(&event["message"]);
                let previous = self.state.messages.insert(seq, event["message"].clone());
                assert!(previous.is_none() || event["change"] != "ADDED", "added again: {event}");
            }
            "MemberUpserted" => {
                let user = event["member"]["user"]["id"].as_str().expect("an id");
                self.state.members.insert(user.to_owned(), event["member"].clone());
            }
            "MemberRemoved" => {
                assert!(known_version < version, "delivered twice: {event}");
                self.state.members.remove(event["userId"].as_str().expect("an id"));
            }
            "FeedCaughtUp" | "FeedReset" => {}
            _ => panic!("unexpected event: {event}"),
        }
        self.save_checkpoint(&event);
        kind.to_owned()
    }

    /// Records the position and the state of the client, from which a later feed may resume.
    fn save_checkpoint(&mut self, event: &Value) {
        self.state.version = position(&event["cursor"]);
        let cursor = event["cursor"].as_str().expect("a cursor").to_owned();
        self.checkpoints.push(Checkpoint { cursor, state: self.state.clone() });
    }
}

fn seq_of(message: &Value) -> i64 {
    message["seq"].as_i64().expect("a sequence number")
}
