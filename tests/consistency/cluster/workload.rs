//! People who send, edit, react and delete at several nodes while something goes wrong.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::{Reply, User};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::follower::{Follower, Held};
use super::harness::{TestCluster, eventually};

const CHATS: usize = 3;
const FOLLOWERS: usize = 12;
const SENDERS: usize = 6;
/// Between a sender's messages.
const PACE: Duration = Duration::from_millis(60);
/// How long a client waits for an answer before it asks another node.
const PATIENCE: Duration = Duration::from_secs(3);

pub struct Load {
    pub followers: Vec<Follower>,
    chats: Vec<String>,
    reader: User,
    senders: Vec<JoinHandle<()>>,
    sent: Arc<Sent>,
}

#[derive(Default)]
struct Sent {
    /// Nonces, each with the message that it made.
    acknowledged: Mutex<BTreeMap<String, String>>,
    number: AtomicUsize,
    over: AtomicBool,
}

impl Load {
    /// Begins when every follower is there.
    pub async fn start(cluster: &TestCluster) -> Self {
        let people =
            join_all((0..SENDERS).map(|n| async move { cluster.user_at(0, &format!("sender{n}")).await })).await;
        let reader = cluster.user_at(0, "reader").await;
        let members: Vec<&User> = people.iter().collect();
        let chats = join_all((0..CHATS).map(|n| {
            let (reader, members) = (&reader, &members);
            async move { reader.group(&format!("Chat {n}"), members).await }
        }))
        .await;
        let nodes = cluster.addrs();
        let followers: Vec<Follower> = (0..FOLLOWERS)
            .map(|n| Follower::start(&people[n % SENDERS], &chats[n % CHATS], nodes.clone(), n % nodes.len()))
            .collect();
        eventually("all followers are there", async || followers.iter().all(Follower::is_there)).await;
        let sent = Arc::<Sent>::default();
        let senders = people
            .iter()
            .enumerate()
            .map(|(n, who)| tokio::spawn(send(who.clone(), n, chats.clone(), nodes.clone(), sent.clone())))
            .collect();
        Self { followers, chats, reader, senders, sent }
    }

    /// Waits until so many messages more were acknowledged.
    pub async fn goes_on(&self, messages: usize) {
        let until = self.sent.number.load(Ordering::Relaxed) + messages;
        eventually("more is sent", async || self.sent.number.load(Ordering::Relaxed) >= until).await;
    }

    /// Ends the sending, and asserts that all clients come to hold what the database holds.
    pub async fn ends_level(self, cluster: &TestCluster) {
        self.sent.over.store(true, Ordering::Relaxed);
        for sender in self.senders {
            sender.await.expect("a sender ends well");
        }
        let reader = cluster.at(0, &self.reader);
        let mut texts = BTreeMap::new();
        for chat in &self.chats {
            let kept = history(&reader, chat).await;
            for message in kept.values() {
                let text = message["text"].as_str().unwrap_or_default().to_owned();
                let id = message["id"].as_str().expect("an id").to_owned();
                assert!(texts.insert(id, text).is_none());
            }
            for follower in self.followers.iter().filter(|follower| follower.chat == *chat) {
                // What was there before it came and never changed was not asked for.
                let is_level = || differences(&kept, &follower.held()).is_empty();
                let begun = tokio::time::Instant::now();
                while !is_level() {
                    let differ = differences(&kept, &follower.held());
                    assert!(begun.elapsed() < Duration::from_secs(20), "{}: {differ:?}", follower.who.id);
                    tokio::time::sleep(Duration::from_millis(30)).await;
                }
                follower.was_told_well();
            }
        }
        let acknowledged = self.sent.acknowledged.lock().expect("no panic under it").clone();
        assert!(acknowledged.len() > 50, "{}", acknowledged.len());
        let mut made: Vec<&String> = acknowledged.values().collect();
        made.sort();
        made.dedup();
        assert_eq!(made.len(), acknowledged.len(), "each nonce made a message of its own");
        for (nonce, id) in &acknowledged {
            assert!(texts.contains_key(id), "{nonce} was acknowledged and is lost");
        }
        let said: Vec<&String> = texts.values().filter(|text| text.starts_with("nonce ")).collect();
        assert!(said.iter().collect::<std::collections::BTreeSet<_>>().len() == said.len(), "nothing is there twice");
    }
}

/// Places at which a client holds something else than the database.
fn differences(kept: &Held, held: &Held) -> Vec<(i64, Value, Value)> {
    let shown = |message: Option<&Value>| {
        let mut message = message.cloned().unwrap_or_default();
        message.as_object_mut().map(|fields| (fields.remove("id"), fields.remove("kind")));
        message
    };
    let places = kept.iter().filter(|(_, message)| message["kind"] != "SYSTEM").map(|(seq, _)| seq).chain(held.keys());
    places
        .map(|seq| (*seq, shown(kept.get(seq)), shown(held.get(seq))))
        .filter(|(_, kept, held)| kept != held)
        .take(5)
        .collect()
}

/// All of a chat.
async fn history(who: &User, chat: &str) -> Held {
    let mut all = Held::new();
    let mut before = String::new();
    loop {
        let query = format!(
            "{{ chat(id: \"{chat}\") {{ messages(last: 100{before}) {{ pageInfo {{ hasPreviousPage startCursor }}
             nodes {{ id kind seq text editedAt deletedAt reactions {{ emoji count }} }} }} }} }}"
        );
        let page = who.ask(&query).await;
        let nodes = page.at("chat.messages.nodes").as_array().expect("a list");
        all.extend(nodes.iter().map(|node| (node["seq"].as_i64().expect("a place"), node.clone())));
        if page.at("chat.messages.pageInfo.hasPreviousPage") == &json!(false) {
            return all;
        }
        before = format!(", before: \"{}\"", page.text("chat.messages.pageInfo.startCursor"));
    }
}

/// Sends until it is over, and does something with what was sent now and then.
async fn send(who: User, number: usize, chats: Vec<String>, nodes: Vec<SocketAddr>, sent: Arc<Sent>) {
    let mut node = number;
    for round in 0.. {
        if sent.over.load(Ordering::Relaxed) {
            return;
        }
        let nonce = format!("nonce {number} {round}");
        let input = json!({ "chatId": chats[round % CHATS], "text": nonce, "nonce": nonce });
        let reply = insist(&who, "sendMessage", input, "message { id }", &nodes, &mut node).await;
        let id = reply.text("sendMessage.message.id");
        sent.acknowledged.lock().expect("no panic under it").insert(nonce, id.clone());
        sent.number.fetch_add(1, Ordering::Relaxed);
        // Said twice it is refused or does nothing.
        let (field, input) = match round % 7 {
            2 => ("editMessage", json!({ "messageId": id, "text": format!("edited {number} {round}") })),
            4 => ("addReaction", json!({ "messageId": id, "emoji": "👍" })),
            6 => ("deleteMessage", json!({ "messageId": id })),
            _ => ("", json!({})),
        };
        if !field.is_empty() {
            insist(&who, field, input, "message { id }", &nodes, &mut node).await;
        }
        tokio::time::sleep(PACE).await;
    }
}

/// Asks one node after the other until there is an answer.
async fn insist(
    who: &User,
    field: &str,
    input: Value,
    selection: &str,
    nodes: &[SocketAddr],
    node: &mut usize,
) -> Reply {
    let kind = if field == "addReaction" { "Reaction".into() } else { field[..1].to_uppercase() + &field[1..] };
    let query = format!("mutation($input: {kind}Input!) {{ {field}(input: $input) {{ {selection} }} }}");
    loop {
        let at = who.at(nodes[*node % nodes.len()]);
        let asking = at.try_ask(&query, json!({ "input": input }));
        match timeout(PATIENCE, asking).await {
            Ok(Some(reply)) if reply.body["errors"][0]["extensions"]["code"] != "UNAVAILABLE" => return reply,
            _ => {}
        }
        *node += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
