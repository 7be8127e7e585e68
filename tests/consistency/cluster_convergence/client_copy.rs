//! The state that one client at one node knows by its feeds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use testkit::{Feed, User};
use tokio::task::JoinHandle;

const MEMBER: &str = "id role lastReadMessage { id } lastDeliveredMessage { id } lastReadAt pinned markedUnread draft";
const MESSAGE: &str = "id kind text editedAt deletedAt reactions { emoji count }";
const NOTIFICATION: &str = "id kind readAt";

/// The objects that a feed has delivered, by a name.
type Objects = BTreeMap<String, Value>;

/// The copies that one user's feeds at one node keep.
pub struct ClientCopy {
    user: User,
    node: usize,
    chats: Vec<String>,
    user_ids: Vec<String>,
    feeds: Vec<FeedCopy>,
}

/// An object that a feed has delivered in another state than a query returns.
#[derive(Debug)]
#[expect(dead_code, reason = "a failure prints the fields")]
pub struct Difference {
    user: String,
    node: usize,
    feed: String,
    name: String,
    delivered: Option<Value>,
    queried: Option<Value>,
}

/// The objects of one feed. The lock is held for single operations only.
struct FeedCopy {
    name: String,
    objects: Arc<Mutex<Objects>>,
    reading: JoinHandle<()>,
}

impl Drop for FeedCopy {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl ClientCopy {
    /// Subscribes to everything, and then loads the present state, while nobody changes it.
    pub async fn start(user: User, node: usize, chats: &[String], user_ids: &[&str]) -> Self {
        let user_ids = user_ids.iter().map(|id| (*id).to_owned()).collect();
        let mut copy = Self { user, node, chats: chats.to_vec(), user_ids, feeds: Vec::new() };
        let mut feeds = Vec::new();
        for chat in chats {
            feeds.push((chat.clone(), copy.chat_feed(chat).await));
        }
        feeds.push(("inbox".to_owned(), copy.inbox_feed().await));
        feeds.push(("presence".to_owned(), copy.presence_feed().await));
        for (name, feed) in feeds {
            let objects = Arc::new(Mutex::new(copy.query(&name).await));
            let reading = tokio::spawn(read(feed, objects.clone()));
            copy.feeds.push(FeedCopy { name, objects, reading });
        }
        copy
    }

    async fn chat_feed(&self, chat: &str) -> Feed {
        let query = format!(
            "subscription($chat: ID!) {{ chatFeed(chatId: $chat) {{ __typename
                ... on ChatUpserted {{ chat {{ id title }} }}
                ... on MessageUpserted {{ message {{ {MESSAGE} }} }}
                ... on MemberUpserted {{ member {{ {MEMBER} }} }} }} }}"
        );
        let mut feed = self.user.subscribe(&query, json!({ "chat": chat })).await;
        feed.catch_up().await;
        feed
    }

    async fn inbox_feed(&self) -> Feed {
        let query = format!(
            "subscription {{ inboxFeed {{ __typename
                ... on ChatUpserted {{ chat {{ id title viewerMembership {{ {MEMBER} unreadCount }} }} }}
                ... on NotificationUpserted {{ notification {{ {NOTIFICATION} }} }} }} }}"
        );
        let mut feed = self.user.subscribe(&query, json!({})).await;
        feed.catch_up().await;
        feed
    }

    async fn presence_feed(&self) -> Feed {
        let query = "subscription($ids: [ID!]!) { presence(userIds: $ids) { user { id } status } }";
        let mut feed = self.user.subscribe(query, json!({ "ids": self.user_ids })).await;
        for _ in &self.user_ids {
            feed.next().await;
        }
        feed
    }

    /// Returns the objects that differ from what queries return.
    pub async fn differences(&self) -> Vec<Difference> {
        let mut differences = Vec::new();
        for feed in &self.feeds {
            assert!(!feed.reading.is_finished(), "{} at node {}: {} has ended", self.user.id, self.node, feed.name);
            let queried = self.query(&feed.name).await;
            let delivered = feed.objects.lock().expect("no panic under this lock").clone();
            // No event follows when a notification of a reaction is withdrawn.
            let unqueried =
                delivered.iter().filter(|(name, object)| !queried.contains_key(*name) && object["kind"] != "REACTION");
            let names = queried.keys().chain(unqueried.map(|(name, _)| name));
            for name in names.filter(|name| queried.get(*name) != delivered.get(*name)) {
                differences.push(Difference {
                    user: self.user.id.clone(),
                    node: self.node,
                    feed: feed.name.clone(),
                    name: name.clone(),
                    delivered: delivered.get(name).cloned(),
                    queried: queried.get(name).cloned(),
                });
            }
        }
        differences
    }

    /// Queries the objects of a feed.
    async fn query(&self, feed: &str) -> Objects {
        match feed {
            "inbox" => self.query_inbox().await,
            "presence" => self.query_presence().await,
            chat => self.query_chat(chat).await,
        }
    }

    async fn query_chat(&self, chat: &str) -> Objects {
        let query = format!(
            "query($id: ID!, $before: String) {{ chat(id: $id) {{ id title members(first: 10) {{ nodes {{ {MEMBER} }} }}
                messages(last: 100, before: $before) {{
                    pageInfo {{ hasPreviousPage startCursor }} nodes {{ {MESSAGE} }}
                }} }} }}"
        );
        let (mut objects, mut before) = (Objects::new(), Value::Null);
        loop {
            let reply = self.user.ask_with(&query, json!({ "id": chat, "before": before })).await;
            let title = json!({ "id": chat, "title": reply.at("chat.title") });
            insert(&mut objects, &title);
            for list in ["chat.members.nodes", "chat.messages.nodes"] {
                reply.at(list).as_array().expect("a list").iter().for_each(|node| insert(&mut objects, node));
            }
            if reply.at("chat.messages.pageInfo.hasPreviousPage") == &json!(false) {
                return objects;
            }
            before = reply.at("chat.messages.pageInfo.startCursor").clone();
        }
    }

    async fn query_inbox(&self) -> Objects {
        let mut objects = Objects::new();
        for chat in &self.chats {
            let query = format!(
                "query($id: ID!) {{ chat(id: $id) {{ id title viewerMembership {{ {MEMBER} unreadCount }} }} }}"
            );
            insert(&mut objects, self.user.ask_with(&query, json!({ "id": chat })).await.at("chat"));
        }
        let query = format!(
            "query($after: String) {{ viewer {{ notifications(first: 100, after: $after) {{
                pageInfo {{ hasNextPage endCursor }} nodes {{ {NOTIFICATION} }} }} }} }}"
        );
        let mut after = Value::Null;
        loop {
            let reply = self.user.ask_with(&query, json!({ "after": after })).await;
            let nodes = reply.at("viewer.notifications.nodes").as_array().expect("a list");
            nodes.iter().for_each(|node| insert(&mut objects, node));
            if reply.at("viewer.notifications.pageInfo.hasNextPage") == &json!(false) {
                return objects;
            }
            after = reply.at("viewer.notifications.pageInfo.endCursor").clone();
        }
    }

    async fn query_presence(&self) -> Objects {
        let mut objects = Objects::new();
        for id in &self.user_ids {
            let status = self.user.fetch_presence(id).await["status"].clone();
            objects.insert(id.clone(), status);
        }
        objects
    }
}

fn insert(objects: &mut Objects, object: &Value) {
    let id = object["id"].as_str().expect("an id").to_owned();
    objects.insert(id, object.clone());
}

/// Applies the events of a feed, as a client with a normalised cache does.
async fn read(mut feed: Feed, objects: Arc<Mutex<Objects>>) {
    loop {
        let event = feed.next().await;
        let mut objects = objects.lock().expect("no panic under this lock");
        match event["__typename"].as_str() {
            Some("ChatUpserted") => insert(&mut objects, &event["chat"]),
            Some("MessageUpserted") if event["message"]["id"].is_string() => insert(&mut objects, &event["message"]),
            Some("MemberUpserted") => insert(&mut objects, &event["member"]),
            Some("NotificationUpserted") => insert(&mut objects, &event["notification"]),
            None => {
                drop(objects.insert(event["user"]["id"].as_str().expect("a user").to_owned(), event["status"].clone()))
            }
            kind => panic!("unexpected event {kind:?}: {event}"),
        }
    }
}
