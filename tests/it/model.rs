//! The chat log against a model: random sends, edits, deletes, reactions, reads, comings, goings and
//! reconnects; after each, what people see is what the model says.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::support::{Database, Engine, Feed, TestApp, User};

/// What somebody does. Numbers choose among what there is, by remainder.
#[derive(Debug, Clone)]
enum Step {
    Send { who: usize },
    Edit { who: usize, which: usize },
    Delete { who: usize, which: usize },
    React { who: usize, which: usize },
    Read { who: usize, which: usize },
    Add { whom: usize },
    Remove { whom: usize },
    Reconnect { who: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let (who, which) = (0..4_usize, 0..1000_usize);
    prop_oneof![
        6 => who.clone().prop_map(|who| Step::Send { who }),
        2 => (who.clone(), which.clone()).prop_map(|(who, which)| Step::Edit { who, which }),
        2 => (who.clone(), which.clone()).prop_map(|(who, which)| Step::Delete { who, which }),
        2 => (who.clone(), which.clone()).prop_map(|(who, which)| Step::React { who, which }),
        2 => (who.clone(), which).prop_map(|(who, which)| Step::Read { who, which }),
        1 => who.clone().prop_map(|whom| Step::Add { whom }),
        1 => who.clone().prop_map(|whom| Step::Remove { whom }),
        2 => who.prop_map(|who| Step::Reconnect { who }),
    ]
}

/// A message as the model has it.
#[derive(Debug, Clone, PartialEq)]
struct Said {
    id: String,
    sender: usize,
    text: Option<String>,
    reactions: BTreeMap<usize, ()>,
}

/// One person: whether they are in, what they have read, and what their feed has told them.
struct Person {
    user: User,
    is_in: bool,
    read: usize,
    feed: Option<Feed>,
    cursor: Option<String>,
    cache: BTreeMap<i64, Value>,
    /// The model's messages when the person last came in: the feed tells of what changed since.
    joined_at: usize,
}

struct World {
    chat: String,
    people: Vec<Person>,
    said: Vec<Said>,
    texts: usize,
}

impl World {
    async fn begin(app: &TestApp) -> Self {
        let mut people = Vec::new();
        for id in ["alice", "bob", "carol", "dave"] {
            let user = app.user(id).await;
            people.push(Person {
                user,
                is_in: true,
                read: 0,
                feed: None,
                cursor: None,
                cache: BTreeMap::new(),
                joined_at: 0,
            });
        }
        let others: Vec<&User> = people[1..].iter().map(|person| &person.user).collect();
        let chat = people[0].user.group("Model", &others).await;
        Self { chat, people, said: Vec::new(), texts: 0 }
    }

    fn pick(&self, which: usize) -> Option<usize> {
        (!self.said.is_empty()).then(|| which % self.said.len())
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Send { who } => {
                self.texts += 1;
                let text = format!("text {}", self.texts);
                let input = json!({ "chatId": self.chat, "text": text });
                let reply = self.people[who].user.mutate("sendMessage", input, "message { id }").await;
                if !self.people[who].is_in {
                    return reply.refused("NOT_FOUND");
                }
                let id = reply.text("sendMessage.message.id");
                self.said.push(Said { id, sender: who, text: Some(text), reactions: BTreeMap::new() });
                self.people[who].read = self.said.len();
            }
            Step::Edit { who, which } => {
                let Some(which) = self.pick(which) else { return };
                self.texts += 1;
                let text = format!("text {}", self.texts);
                let input = json!({ "messageId": self.said[which].id, "text": text });
                let reply = self.people[who].user.mutate("editMessage", input, "message { id }").await;
                match (self.people[who].is_in, self.said[which].sender == who, self.said[which].text.is_some()) {
                    (false, _, _) => reply.refused("NOT_FOUND"),
                    (true, true, true) => {
                        reply.data();
                        self.said[which].text = Some(text);
                    }
                    _ => reply.refused("FORBIDDEN"),
                }
            }
            Step::Delete { who, which } => {
                let Some(which) = self.pick(which) else { return };
                let input = json!({ "messageId": self.said[which].id });
                let reply = self.people[who].user.mutate("deleteMessage", input, "message { id }").await;
                match (self.people[who].is_in, self.said[which].sender == who || who == 0) {
                    (false, _) => reply.refused("NOT_FOUND"),
                    (true, false) => reply.refused("FORBIDDEN"),
                    (true, true) => {
                        reply.data();
                        self.said[which].text = None;
                        self.said[which].reactions.clear();
                    }
                }
            }
            Step::React { who, which } => {
                let Some(which) = self.pick(which) else { return };
                let on = !self.said[which].reactions.contains_key(&who);
                let input = json!({ "messageId": self.said[which].id, "emoji": "👍" });
                let field = if on { "addReaction" } else { "removeReaction" };
                let reply = self.people[who].user.mutate(field, input, "message { id }").await;
                match (self.people[who].is_in, self.said[which].text.is_some()) {
                    (false, _) => reply.refused("NOT_FOUND"),
                    (true, false) => reply.refused("FORBIDDEN"),
                    (true, true) => {
                        reply.data();
                        if on {
                            self.said[which].reactions.insert(who, ());
                        } else {
                            self.said[which].reactions.remove(&who);
                        }
                    }
                }
            }
            Step::Read { who, which } => {
                let Some(which) = self.pick(which) else { return };
                let input = json!({ "chatId": self.chat, "upToMessageId": self.said[which].id });
                let reply = self.people[who].user.mutate("markRead", input, "member { id }").await;
                if self.people[who].is_in {
                    reply.data();
                    self.people[who].read = self.people[who].read.max(which + 1);
                } else {
                    reply.refused("NOT_FOUND");
                }
            }
            Step::Add { whom } if whom > 0 => {
                let id = self.people[whom].user.id.clone();
                self.people[0]
                    .user
                    .mutate("addMembers", json!({ "chatId": self.chat, "userIds": [id] }), "chat { id }")
                    .await
                    .data();
                let all = self.said.len();
                let person = &mut self.people[whom];
                if !person.is_in {
                    (person.is_in, person.read, person.joined_at) = (true, all, all);
                    (person.feed, person.cursor) = (None, None);
                    person.cache.clear();
                }
            }
            Step::Remove { whom } if whom > 0 => {
                let id = self.people[whom].user.id.clone();
                let reply = self.people[0]
                    .user
                    .mutate("removeMember", json!({ "chatId": self.chat, "userId": id }), "removedUserId")
                    .await;
                let person = &mut self.people[whom];
                if !person.is_in {
                    return reply.refused("NOT_FOUND");
                }
                reply.data();
                person.is_in = false;
                if let Some(mut feed) = person.feed.take() {
                    assert_eq!(feed.ends().await, "FORBIDDEN");
                }
            }
            Step::Add { .. } | Step::Remove { .. } => {}
            Step::Reconnect { who } => self.people[who].feed = None,
        }
    }

    /// What a person sees, by query and by feed, is what the model has.
    async fn check(&mut self, who: usize) {
        let (chat, said) = (self.chat.clone(), &self.said);
        let person = &mut self.people[who];
        let query = format!(
            "{{ chat(id: \"{chat}\") {{ viewerMembership {{ unreadCount }} messages(last: 100) {{ nodes {{ id seq text sender {{ id }} reactions {{ count }} }} }} }} }}"
        );
        let seen = person.user.ask(&query).await;
        if !person.is_in {
            assert_eq!(seen.at("chat"), &json!(null));
            return;
        }
        let nodes = seen.at("chat.messages.nodes").as_array().unwrap();
        let last: Vec<&Said> = said.iter().rev().take(100).rev().collect();
        assert_eq!(nodes.len(), last.len());
        for (node, said) in nodes.iter().zip(&last) {
            let given = said.reactions.len();
            let reactions = if given == 0 { json!([]) } else { json!([{ "count": given }]) };
            assert_eq!(
                (&node["id"], &node["text"], &node["reactions"]),
                (&json!(said.id), &json!(said.text), &reactions)
            );
        }
        let unread = said.iter().skip(person.read).filter(|said| said.sender != who && said.text.is_some()).count();
        assert_eq!(seen.at("chat.viewerMembership.unreadCount"), unread, "unread equals a recount");

        // The feed is brought to the end of what has happened by a cursor that is level.
        if person.feed.is_none() {
            let feed = person.user.feed(&chat, Some(100), person.cursor.as_deref()).await;
            let mut feed = feed;
            loop {
                let event = feed.next().await;
                let level = event["__typename"] == "FeedCaughtUp";
                person.hear(event);
                if level {
                    break;
                }
            }
            person.feed = Some(feed);
        }
        let version = person
            .user
            .ask(&format!("{{ chat(id: \"{chat}\") {{ version }} }}"))
            .await
            .at("chat.version")
            .as_i64()
            .unwrap();
        while person.level() < version {
            let event = person.feed.as_mut().expect("a feed").next().await;
            person.hear(event);
        }
        let held: Vec<(&str, Option<&str>, usize)> = person.cache.values().map(shown).collect();
        let last: Vec<_> =
            last.iter().map(|said| (said.id.as_str(), said.text.as_deref(), said.reactions.len())).collect();
        assert!(held.ends_with(&last) || last.ends_with(&held), "held {held:?}\nsaid {last:?}");
        assert!(held.len() >= last.len().min(said.len() - person.joined_at));
    }
}

fn shown(message: &Value) -> (&str, Option<&str>, usize) {
    let reactions = message["reactions"][0]["count"].as_u64().unwrap_or_default();
    (message["id"].as_str().unwrap(), message["text"].as_str(), usize::try_from(reactions).unwrap())
}

impl Person {
    fn hear(&mut self, event: Value) {
        assert_ne!(event["__typename"], "FeedReset");
        let known = self.cursor.as_deref().map(place);
        let cursor = event["cursor"].as_str().expect("a cursor").to_owned();
        assert!(known.is_none_or(|known| known <= place(&cursor)), "out of order: {event}");
        if event["__typename"] == "MessageUpserted" {
            assert_ne!(known, Some(place(&cursor)), "doubled: {event}");
            self.cache.insert(event["message"]["seq"].as_i64().unwrap(), event["message"].clone());
        }
        self.cursor = Some(cursor);
    }

    fn level(&self) -> i64 {
        self.cursor.as_deref().map_or(0, place)
    }
}

/// The version of a cursor. Clients must not look into one; this test of the log may.
fn place(cursor: &str) -> i64 {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(cursor).expect("a cursor");
    i64::from_be_bytes(bytes[16..24].try_into().expect("a version"))
}

#[test]
fn what_people_see_is_what_the_model_says() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let cases = std::env::var("PARLOR_TEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(12);
        let config = Config { cases, failure_persistence: None, max_shrink_iters: 100, ..Config::default() };
        let run = TestRunner::new(config).run(&prop::collection::vec(step(), 1..60), |steps| {
            runtime.block_on(async {
                let app = TestApp::start(Database::create(engine).await, &[]).await;
                let mut world = World::begin(&app).await;
                for (number, step) in steps.into_iter().enumerate() {
                    world.take(step).await;
                    world.check(number % 4).await;
                }
                for who in 0..4 {
                    world.check(who).await;
                }
                app.stop().await;
            });
            Ok(())
        });
        if let Err(error) = run {
            panic!("on {engine:?}: {error}");
        }
    }
}
